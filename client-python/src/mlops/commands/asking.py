"""Questions at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from mlops.commands.errors import CommandError, usage
from mlops.commands.output import clean


def confirm(names: Iterable[str], yes: bool) -> None:
    """Let the user type each name, unless `yes` is set.

    Raises:
        CommandError: The user typed something else, or there is no terminal.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise usage("there is no terminal to confirm this: give --yes")
    for name in names:
        # Not input(), which prints the question on standard output.
        print(f"Type {clean(name)} to confirm: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != name:
            raise CommandError("not confirmed, so nothing was deleted")
