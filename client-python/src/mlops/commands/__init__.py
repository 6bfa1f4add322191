"""The `mlops` command. Needs the extra `cli`.

Modules import gRPC, protobuf and fsspec only within functions, because start-up must be
fast. `main` imports Typer and only the module of the command that is called.
"""
