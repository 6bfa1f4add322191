"""Prints the commands' data on standard output, and messages on standard error."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from mlops.commands.context import options

Row = Mapping[str, Any]
_MIN_WIDTH = 6
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    `value` returns a cell. A `wide` column is shown with `-o wide` only.
    """

    title: str
    value: Callable[[Row], object]
    wide: bool = False
    right: bool = False


def rows(
    items: Sequence[Row], columns: Sequence[Column], name: str, nothing: str = ""
) -> None:
    """Print a list in the format of --output.

    Args:
        name: The key of an item that `-o name` prints.
        nothing: The message if the list is empty.
    """
    kind = options.output or "table"
    if kind in ("json", "yaml"):
        document(list(items))
    elif kind == "name":
        write("".join(f"{clean(str(item[name]))}\n" for item in items))
    elif items:
        write("".join(f"{line}\n" for line in table(items, columns)))
    if not items and nothing:
        message(nothing)


def record(item: Row, name: str, extra: Row | None = None) -> None:
    """Print one item in the format of --output.

    `extra` is shown in tables only.
    """
    kind = options.output or "table"
    if kind in ("json", "yaml"):
        document(item)
    elif kind == "name":
        write(f"{clean(str(item[name]))}\n")
    else:
        lines = [
            (str(key), text(value)) for key, value in {**item, **(extra or {})}.items()
        ]
        width = max((len(key) for key, _ in lines), default=0) + 2
        write(
            "".join(
                f"{key + ':':{width}}{value}".rstrip() + "\n" for key, value in lines
            )
        )


def document(value: Any) -> None:
    """Print a JSON value as JSON or, with `-o yaml`, as YAML."""
    if options.output == "yaml":
        import yaml

        write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    else:
        write(json.dumps(_jsonable(value), indent=2, ensure_ascii=False) + "\n")


def line(value: Any) -> None:
    """Print a JSON value on a line or, with `-o yaml`, as a document of a stream."""
    if options.output == "yaml":
        write("---\n")
        document(value)
    else:
        write(json.dumps(_jsonable(value), ensure_ascii=False) + "\n")


def _jsonable(value: Any) -> Any:
    """Return a value with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


def write(data: str) -> None:
    """Write data to standard output."""
    write_bytes(data.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))


def write_bytes(data: bytes | memoryview) -> None:
    """Write all of `data` to standard output.

    Bypasses sys.stdout, which reports nothing if the reader exits during a large write.

    Raises:
        BrokenPipeError: The reader has closed the pipe.
    """
    sys.stdout.flush()
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def message(sentence: str) -> None:
    """Write a message to standard error, unless -q is given."""
    if not options.quiet:
        print(clean(sentence), file=sys.stderr)


# --- Cells ---


def text(value: object) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return ""
    if isinstance(value, dict | list | bool):
        return clean(json.dumps(value, ensure_ascii=False))
    return clean(str(value))


def clean(value: str) -> str:
    """Escape control characters, which could deceive the terminal's user."""
    if value.isprintable():
        return value
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in value
    )


def pairs(metadata: Mapping[str, Any]) -> str:
    """Return metadata as `key=value` words."""
    return " ".join(f"{key}={text(value)}" for key, value in metadata.items())


def size(count: int | None) -> str:
    """Return a number of bytes for people, for example "1.5 GiB"."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def signed_size(count: float) -> str:
    """Return a change of a number of bytes, for example "+1.5 GiB"; "" for none."""
    if not count:
        return ""
    return ("+" if count > 0 else "-") + size(abs(int(count)))


def age(time: str | None) -> str:
    """Return how long ago an ISO time was, such as "3h"; "in 2d" for a future time."""
    if not time:
        return ""
    passed = datetime.now(UTC) - datetime.fromisoformat(time)
    if passed < timedelta(0):
        return f"in {_span(-passed)}"
    return _span(passed)


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


# --- Terminals ---


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal; False if it is closed."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def has_colour() -> bool:
    """Return whether standard output may have colours."""
    return (
        is_terminal(sys.stdout)
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def is_unicode() -> bool:
    """Return whether standard output can show more than ASCII."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def ellipsis() -> str:
    """Return an ellipsis that the terminal can show."""
    return "…" if is_unicode() else "~"


def table(
    items: Iterable[Row],
    columns: Sequence[Column],
    headers: bool = True,
    widths: list[int] | None = None,
) -> list[str]:
    """Return the lines of a table.

    Args:
        headers: Whether to show the titles, unless --no-headers is given.
        widths: The minimum widths of the columns; set to the widths used.
    """
    shown = [
        column for column in columns if options.output == "wide" or not column.wide
    ]
    headers = headers and options.headers
    cells = [[text(column.value(item)) for column in shown] for item in items]
    lines = [[column.title for column in shown], *cells] if headers else cells
    used = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    # Keep the widths of the previous lines, so that columns stay aligned.
    if widths:
        used = list(map(max, used or widths, widths))
    if widths is not None:
        widths[:] = used
    # Programs get whole values, and so do users who ask for wide tables.
    if is_terminal(sys.stdout) and options.output != "wide":
        used = _fit(used, shutil.get_terminal_size().columns)
    bold = headers and has_colour()
    result = []
    for number, line in enumerate(lines):
        row = "  ".join(
            _pad(cell, width, column.right)
            for cell, width, column in zip(line, used, shown, strict=True)
            if width
        ).rstrip()
        result.append(f"{_BOLD}{row}{_PLAIN}" if bold and not number else row)
    return result


def _fit(widths: list[int], available: int) -> list[int]:
    """Return widths that fit into `available`.

    Narrows the widest column first, and leaves the last columns out (width 0) if that
    is not enough. The first column, the name, stays whole.
    """
    widths = list(widths)
    shown = len(widths)
    while (excess := sum(widths) + 2 * (shown - 1) - available) > 0 and shown > 1:
        widest = max(range(1, shown), key=widths.__getitem__)
        if widths[widest] > _MIN_WIDTH:
            widths[widest] = max(_MIN_WIDTH, widths[widest] - excess)
        else:
            shown -= 1
            widths[shown] = 0
    return widths


def shortened(line: str, width: int) -> str:
    """Return text that is at most `width` columns wide."""
    if _width(line) <= width:
        return line
    kept = ""
    for one in line:
        if _width(kept) + _width(one) + 1 > width:
            break
        kept += one
    return kept + ellipsis()


def _pad(cell: str, width: int, right: bool) -> str:
    cell = shortened(cell, width)
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(value: str) -> int:
    if value.isascii():
        return len(value)
    return sum(
        0
        if unicodedata.combining(one)
        else 2
        if unicodedata.east_asian_width(one) in "WF"
        else 1
        for one in value
    )
