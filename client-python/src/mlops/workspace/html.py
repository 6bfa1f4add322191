"""HTML tables for notebooks."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

# Metadata may have 64 KiB.
_MAX_CHARACTERS = 1000


def html_table(title: str, rows: Mapping[str, Any]) -> str:
    """Return an HTML table of names and values.

    The values are untrusted, so everything is escaped.
    """
    body = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{_cell(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(_printable(title))}</caption>{body}</table>"


def html_list(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
) -> str:
    """Return an HTML table with a row for each item, and a note below it.

    The values are untrusted, so everything is escaped.
    """
    head = "".join(f"<th>{escape(_printable(name))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>"
        for row in rows
    )
    below = f"<p>{escape(_printable(note))}</p>" if note else ""
    return (
        f"<table><caption>{escape(_printable(title))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )


def _cell(value: Any) -> str:
    return "" if value is None else escape(_printable(str(value)))


def _printable(text: str) -> str:
    """Shorten long text, and escape characters that have no UTF-8 encoding."""
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}…"
    return text.encode(errors="backslashreplace").decode()
