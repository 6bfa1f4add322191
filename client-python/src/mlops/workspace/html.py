"""What notebooks show."""

from collections.abc import Mapping
from html import escape
from typing import Any


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """A table of names and values, which may be anything anybody wrote: all of it is
    escaped.
    """
    body = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{_cell(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(_printable(title))}</caption>{body}</table>"


def _cell(value: Any) -> str:
    return "" if value is None else escape(_printable(str(value)))


def _printable(text: str) -> str:
    """Without what has no UTF-8, as a path may have."""
    return text.encode(errors="backslashreplace").decode()
