"""Help texts: those of the whole command, and those in the docstrings of commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer


def options_of(command: Callable[..., Any]) -> dict[str, Any]:
    """Return the help of a command for Typer, from its docstring.

    The part from "Examples:" on is shown below the options.
    """
    documentation = inspect.getdoc(command) or ""
    text, _, rest = documentation.partition("\nExamples:\n")
    return {
        "help": text.strip(),
        "epilog": f"\b\nExamples:\n{rest.rstrip()}" if rest else None,
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }


def examples_of(command: Callable[..., Any]) -> list[str]:
    """Return the command lines in a command's examples."""
    rest = (inspect.getdoc(command) or "").partition("\nExamples:\n")[2]
    return [line.strip() for line in rest.splitlines() if line.strip()]


def callback(
    address: Annotated[
        str,
        typer.Option(
            help="Server: HOST:PORT, unix:PATH, or HOST:PORT,HOST:PORT with standby "
            "servers [MLOPS_WORKSPACE_ADDRESS]"
        ),
    ] = "",
    base: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Base directory on this machine, whose server is started if none "
            "runs; default ./mlops/workspace [MLOPS_WORKSPACE_BASE]",
        ),
    ] = "",
    context: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Context of the configuration file [MLOPS_WORKSPACE_CONTEXT]",
        ),
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            help="Token that the server accepts; other users may see it in the list "
            "of processes [MLOPS_WORKSPACE_TOKEN]"
        ),
    ] = "",
    timeout: Annotated[
        str,
        typer.Option(
            metavar="SECONDS",
            help="Give up after this time [MLOPS_WORKSPACE_TIMEOUT]",
        ),
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FORMAT", help="table, wide, json, yaml or name"
        ),
    ] = "",
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Leave the titles of tables out")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print data and errors only")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the details of errors")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and exit")
    ] = False,
) -> None:
    """Work with the workspaces of MLOps projects.

    The options below may stand before or after the command. Brackets contain the
    equivalent environment variable.
    """


EPILOG = (
    "Help on a command: mlops COMMAND --help. "
    "Help on filters, paths, contexts and exit codes: mlops help TOPIC."
)
