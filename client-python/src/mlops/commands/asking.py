"""Asks the user for confirmation at the terminal."""

from __future__ import annotations

import os
import select
import signal
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
        _wait_for_input()
        if sys.stdin.readline().strip() != name:
            raise CommandError("not confirmed, so nothing was deleted")


def _wait_for_input() -> None:
    """Wait until there is input, or until a signal's handler raises.

    A signal interrupts neither a read() that begins just after it, nor a read() in a
    thread other than the one that the kernel chose. The wakeup descriptor detects both.
    """
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        while not select.select([sys.stdin, wake], [], [])[0].count(sys.stdin):
            os.read(wake, 64)
    finally:
        signal.set_wakeup_fd(previous)
        os.close(wake)
        os.close(woken)
