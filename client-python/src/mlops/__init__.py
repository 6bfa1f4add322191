"""MLOps toolkits for project workspaces.

This file makes `mlops` a regular package: one without it would lose against a directory
./mlops, which is where the default base directory ./mlops/workspace lies.
"""
