"""Formats values for the templates: sizes, times, ages."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size(number: float) -> str:
    """Return bytes in the largest suitable unit."""
    value = float(number)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    digits = 0 if unit == "B" or value >= 100 else 1
    return f"{value:.{digits}f} {unit}"


def count(number: float) -> str:
    """Return a number with narrow spaces between thousands."""
    return f"{number:,.0f}".replace(",", "\u202f")


def number(value: float) -> str:
    """Return a measured value."""
    return f"{value:.6g}"


def span(seconds: float) -> str:
    """Return a duration, in one unit."""
    for length, unit in _SPANS:
        if abs(seconds) >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 s"


def age(when_s: float) -> str:
    """Return how long ago a time was; "" for no time."""
    if not when_s:
        return ""
    passed = time.time() - when_s
    if passed < 0:
        return f"in {span(-passed)}" if passed < -1 else "now"
    return f"{span(passed)} ago" if passed >= 1 else "now"


def moment(when_s: float) -> str:
    """Return a time as ISO 8601 in UTC; "" for no time."""
    if not when_s:
        return ""
    try:
        return f"{datetime.fromtimestamp(when_s, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return ""


def clean(text: str) -> str:
    """Return text without characters that change the direction or cannot be shown."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\ufffd"
        for character in text
    )
