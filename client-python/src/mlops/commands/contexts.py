"""The commands `context ls`, `context set`, `context use` and `context rm`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from mlops.commands import output
from mlops.commands.context import (
    Target,
    config_path,
    load,
    named,
    options,
    save,
)
from mlops.commands.errors import usage
from mlops.commands.output import Column

HELP = (
    "Name servers in the configuration file, and choose one; see mlops help contexts."
)
_COLUMNS = (
    Column("CURRENT", lambda row: "*" if row["current"] else ""),
    Column("NAME", lambda row: row["name"]),
    Column("SERVER", lambda row: row["address"] or row["base"]),
    Column("TOKEN FILE", lambda row: row["token_file"], wide=True),
    Column("CA", lambda row: row["ca"], wide=True),
)
Name = Annotated[str, typer.Argument(metavar="NAME")]
File = Annotated[str, typer.Option(metavar="FILE")]


def list_() -> None:
    """List the contexts.

    Examples:
      mlops context ls
    """
    config = load()
    rows = [
        {"name": name, "current": name == config.current, **asdict(target)}
        for name, target in sorted(config.contexts.items())
    ]
    output.rows(rows, _COLUMNS, "name", f"There are no contexts in {config_path()}.")


def set_(
    name: Name,
    token_file: File = "",
    ca: File = "",
    cert: File = "",
    key: File = "",
) -> None:
    """Create or change a context.

    --address or --base names its server. This rewrites the configuration file without
    its comments.

    Examples:
      mlops context set team --address workspaces.example:443 --token-file token
      mlops context set here --base mlops/workspace
    """
    if options.token:
        raise usage("a context stores no token: write it to a file for --token-file")
    if options.address and options.base:
        raise usage("--address and --base exclude each other: leave one of them out")
    # Change only the given options of an existing context.
    config = load()
    target = config.contexts.get(name, Target())
    if options.address or options.base:
        base = _absolute(options.base) if options.base else None
        target = replace(target, address=options.address, base=base)
    given = {"token_file": token_file, "ca": ca, "cert": cert, "key": key}
    changes = {field: _absolute(path) for field, path in given.items() if path}
    target = replace(target, **changes)
    if not target.address and not target.base:
        raise usage("give the context's server: --address or --base")
    if target.address:
        _check(target.address)
    config.contexts[name] = target
    save(config)
    output.message(f"Wrote context {name} to {config_path()}.")


def _absolute(path: str) -> str:
    import os

    return os.path.abspath(os.path.expanduser(path))


def _check(address: str) -> None:
    from mlops.local_server import check_address

    for one in [address] if address.startswith("unix:") else address.split(","):
        check_address("address", one.strip())


def use(name: Name) -> None:
    """Make a context the current one.

    Examples:
      mlops context use team
    """
    named(name)
    config = load()
    config.current = name
    save(config)
    output.message(f"The current context is {name}.")


def rm(name: Name) -> None:
    """Remove a context.

    Examples:
      mlops context rm team
    """
    named(name)
    config = load()
    del config.contexts[name]
    if config.current == name:
        config.current = None
    save(config)
    output.message(f"Removed context {name}.")


COMMANDS = {"ls": list_, "set": set_, "use": use, "rm": rm}
