"""Small plots made of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlops.commands.output import is_unicode

_EIGHTHS = "▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = "_.-~=+*#"


def bar(value: float | None, highest: float, width: int, lowest: float = 0.0) -> str:
    """Return a bar that is `width` characters long for `highest`, "" for `lowest`."""
    share = _share(value, lowest, highest)
    if share is None:
        return ""
    if not is_unicode():
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    whole, rest = divmod(eighths, 8)
    return _EIGHTHS[-1] * whole + (_EIGHTHS[rest - 1] if rest else "")


def line(values: Sequence[float], lowest: float = 0.0, highest: float = 1.0) -> str:
    """Return one character per value, which is higher for larger values."""
    levels = _LEVELS if is_unicode() else _ASCII_LEVELS
    shares = (_share(value, lowest, highest) for value in values)
    return "".join(
        " " if share is None else levels[round(share * (len(levels) - 1))]
        for share in shares
    )


def _share(value: float | None, lowest: float, highest: float) -> float | None:
    """Return where a value lies between two others, from 0 to 1."""
    if value is None or not math.isfinite(value):
        return None
    # The difference of two large numbers may be infinite.
    span = highest - lowest
    if not (math.isfinite(span) and span > 0):
        return 1.0 if value >= highest else 0.0
    return min(max((value - lowest) / span, 0.0), 1.0)
