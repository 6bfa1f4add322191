"""HTML tables for notebooks."""

from collections.abc import Mapping
from html import escape
from typing import Any


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """Return an HTML table of names and values.

    The values are untrusted, so everything is escaped.
    """
    body = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{_cell(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(_printable(title))}</caption>{body}</table>"


def _cell(value: Any) -> str:
    return "" if value is None else escape(_printable(str(value)))


def _printable(text: str) -> str:
    """Escape characters that have no UTF-8 encoding; paths may contain them."""
    return text.encode(errors="backslashreplace").decode()
