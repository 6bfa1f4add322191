"""The command doctor."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mlops.commands.context import base_here, options
from mlops.commands.errors import NOT_FOUND, CommandError


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="While no server runs, repair what is safe")
    ] = False,
) -> None:
    """Examine the base directory on this machine, and report how to repair it.

    This runs `workspaced doctor`. The exit code is 1 if anything needs attention.

    Examples:
      mlops doctor
      mlops doctor -o json
    """
    from mlops.cli import BINARY, why_not_run

    base = base_here()
    if not base.is_dir():
        raise CommandError(f"{base}: No such directory", NOT_FOUND)
    command = [str(BINARY), "doctor", "--base", str(base)]
    command += ["--repair"] * repair + ["--json"] * (options.output == "json")
    sys.stdout.flush()
    try:
        os.execv(BINARY, command)
    except OSError as error:
        raise CommandError(why_not_run(error)) from None


COMMANDS = {"doctor": doctor}
