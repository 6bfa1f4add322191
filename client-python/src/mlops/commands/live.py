"""Live tables, redrawn on the whole terminal or printed as lines."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.context import options
from mlops.commands.errors import (
    UNAVAILABLE,
    ClosedPipe,
    TimedOut,
    describe,
    usage,
)
from mlops.commands.output import Column, Row

# Switch to the alternate screen, hide the cursor and turn off line wrapping; undo that.
_OPEN, _CLOSE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
# Overwrites the last frame instead of erasing it first, which would flicker.
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K\n", "\x1b[J"
# Reading takes at most this share of the time.
_BUSY = 0.5

Interval = Annotated[
    float, typer.Option("--interval", metavar="SECONDS", help="Between two readings")
]
Count = Annotated[
    int, typer.Option(metavar="N", min=0, help="End after N readings; 0: never")
]


def show(
    read: Callable[[], Sequence[Row]],
    columns: Sequence[Column],
    name: str,
    heading: Callable[[Sequence[Row]], str],
    interval: float,
    count: int,
) -> None:
    """Show the rows of `read` until Ctrl-C, or `count` times.

    At a terminal, shows `heading` and as many rows as fit. Otherwise, prints all rows,
    and then those that changed.

    Args:
        name: The key that identifies a row.
    """
    if not 0.1 <= interval <= 86400:
        raise usage(f"--interval must be 0.1 to 86400 seconds, not {interval:g}")
    if options.output in (None, "table", "wide") and _is_screen():
        # Read first, so that a failure is shown on the normal screen.
        readings = _readings(read, interval, count)
        first = next(readings)
        with _screen():
            for found, problem in chain([first], readings):
                _draw(problem or heading(found), found, columns)
        return
    seen: dict[str, Row] = {}
    widths: list[int] = []
    for found, problem in _readings(read, interval, count):
        if problem:
            output.message(f"mlops: {problem}")
        now = {row[name]: _without_time(row) for row in found}
        changed = [row for row in found if seen.get(row[name]) != now[row[name]]]
        _print(changed, columns, name, widths)
        _print_gone(seen.keys() - now.keys(), name)
        seen = now


def _without_time(row: Row) -> Row:
    """Return a row without the values that differ in each reading."""
    return {key: value for key, value in row.items() if key != "scan_time"}


def _is_screen() -> bool:
    return output.is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"


def _readings(
    read: Callable[[], Sequence[Row]], interval: float, count: int
) -> Iterator[tuple[Sequence[Row], str]]:
    """Yield the rows, and why they are stale if the server is unavailable.

    Only the first reading raises this error.
    """
    done, found = 0, None
    while True:
        begun, problem = time.monotonic(), ""
        try:
            found = read()
        except Exception as error:
            code, sentence, _ = describe(error)
            # Keep showing the last rows while the server is unavailable.
            passing = code == UNAVAILABLE and not isinstance(error, TimedOut)
            if found is None or not passing:
                raise
            problem = sentence
        yield found, problem
        done += 1
        if count and done >= count:
            return
        took = time.monotonic() - begun
        if _quit_within(max(interval - took, took * (1 / _BUSY - 1))):
            return


def _quit_within(seconds: float) -> bool:
    """Wait, and return whether the user pressed q.

    Raises:
        ClosedPipe: The reader of standard output has closed the pipe.
    """
    if not (_is_screen() and output.is_terminal(sys.stdin)):
        poll = select.poll()
        poll.register(sys.stdout, 0)  # Reports errors only.
        if poll.poll(seconds * 1000):
            raise ClosedPipe
        return False
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not select.select([sys.stdin], [], [], left)[0]:
            return False
        typed = os.read(sys.stdin.fileno(), 64)
        if not typed:  # The terminal is gone.
            return True
        if b"q" in typed or b"Q" in typed:
            return True
    return False


@contextmanager
def _screen() -> Iterator[None]:
    """Use the whole terminal, and restore it whatever happens."""
    import termios

    before: list[Any] | None = None
    try:
        if output.is_terminal(sys.stdin):
            before = termios.tcgetattr(sys.stdin)
            changed = termios.tcgetattr(sys.stdin)
            # Read keys immediately and without echo; Ctrl-C still sends a signal.
            changed[3] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, changed)
        output.write(_OPEN)
        yield
    finally:
        try:
            output.write(_CLOSE)
        finally:
            if before is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _draw(heading: str, found: Sequence[Row], columns: Sequence[Column]) -> None:
    """Draw a frame that fits the terminal as it is now."""
    width, height = shutil.get_terminal_size()
    # Leave room for the heading and the titles, and keep the last line empty.
    room = max(height - 3, 1)
    shown = found if len(found) <= room else found[: room - 1]
    # Only the visible rows determine the widths of the columns.
    lines = [output.shortened(heading, width), *output.table(shown, columns)]
    if len(shown) < len(found):
        lines.append(output.shortened(f"and {len(found) - len(shown)} more", width))
    frame = _END_OF_LINE.join(lines[: height - 1])
    output.write(f"{_HOME}{frame}{_END_OF_LINE}{_BELOW}")


def _print(
    found: Sequence[Row], columns: Sequence[Column], name: str, widths: list[int]
) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    if options.output in ("json", "yaml"):
        for row in found:
            output.line({"time": now, **row})
    elif options.output == "name":
        output.write("".join(f"{output.clean(str(row[name]))}\n" for row in found))
    elif found:
        first = not widths
        # Even a terminal that cannot be redrawn limits the width.
        lines = output.table(found, columns, first, widths)
        output.write("".join(f"{line}\n" for line in lines))


def _print_gone(names: set[str], name: str) -> None:
    for gone in sorted(names):
        if options.output in ("json", "yaml"):
            output.line({name: gone, "deleted": True})
        elif options.output != "name":
            output.write(f"{output.clean(gone)}  deleted\n")
