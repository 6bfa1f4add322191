"""The command token."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mlops.commands.errors import CommandError


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The caller's name")],
    tokens: Annotated[
        str,
        typer.Option(metavar="FILE", help="The server's file of tokens (--tokens)"),
    ],
    expires: Annotated[
        str, typer.Option(metavar="SPAN", help="How long it is valid, such as 90d")
    ] = "",
) -> None:
    """Create a token for a caller, and print it.

    The file gets only its SHA-256; the token itself is stored nowhere. This runs
    `workspaced token`.

    Examples:
      mlops token ann --tokens tokens.txt
      mlops token job-7 --tokens tokens.txt --expires 90d
    """
    from mlops.cli import BINARY, why_not_run

    command = [str(BINARY), "--tokens", tokens, "token", name]
    if expires:
        command += ["--expires", expires]
    sys.stdout.flush()
    try:
        os.execv(BINARY, command)
    except OSError as error:
        raise CommandError(why_not_run(error)) from None


COMMANDS = {"token": token}
