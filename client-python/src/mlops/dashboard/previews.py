"""Previews of files: text, tables, images. Nothing in a preview is executed."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mlops.dashboard import parquet_head

HEAD_BYTES = 64 << 10
# A Parquet file is read from its end, so a preview needs the whole file.
PARQUET_BYTES = 32 << 20
_PARQUET_S = 60
_ROWS, _COLUMNS, _CELL = 50, 30, 120
_MAX_LINES = 1000

# Content types that browsers show without executing anything. Not SVG: it has scripts.
IMAGES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
_MAGIC = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
    "image/bmp": b"BM",
}


@dataclass(frozen=True)
class Preview:
    """The preview of a file on a page: a text, a table, an image, or a note."""

    text: str | None = None
    header: list[str] | None = None
    rows: list[list[str]] = field(default_factory=list)
    image: bool = False
    note: str = ""


def suffix(path: str) -> str:
    """Return the last suffix of a path, in lower case."""
    return PurePosixPath(path).suffix.lower()


def needed_bytes(path: str) -> int:
    """Return how many of a file's first bytes its preview needs."""
    return PARQUET_BYTES if suffix(path) == ".parquet" else HEAD_BYTES


def image_type(path: str, data: bytes) -> str:
    """Return the content type of an image that may be shown; "" for other files."""
    kind = IMAGES.get(suffix(path), "")
    return kind if kind and data.startswith(_MAGIC[kind]) else ""


def preview(path: str, data: bytes, total: int) -> Preview:
    """Return the preview of a file that begins with `data` and has `total` bytes."""
    if not total:
        return Preview(note="The file is empty.")
    if image_type(path, data):
        return Preview(image=True)
    if suffix(path) == ".parquet":
        return _parquet(data, total)
    text = _text(data, len(data) < total)
    if text is None:
        return Preview(note="This is a binary file.")
    if suffix(path) in (".csv", ".tsv"):
        return _csv(text, "\t" if suffix(path) == ".tsv" else ",", len(data) < total)
    lines = text.split("\n")
    cut = len(data) < total or len(lines) > _MAX_LINES
    return Preview(
        text="\n".join(lines[:_MAX_LINES]),
        note="Only the beginning is shown." if cut else "",
    )


def _text(data: bytes, cut: bool) -> str | None:
    """Return the text of a file; None if it is binary."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A head may end within a character.
        if cut and error.start > len(data) - 4:
            return data[: error.start].decode("utf-8-sig")
        return None


def _csv(text: str, delimiter: str, cut: bool) -> Preview:
    if cut:
        text = text.rpartition("\n")[0] or text
    rows: list[list[str]] = []
    more = cut
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            if len(rows) > _ROWS:
                more = True
                break
            rows.append([_cell(value) for value in row[:_COLUMNS]])
    except csv.Error:
        return Preview(text=text, note="This is not CSV.")
    note = f"The first {len(rows) - 1} rows are shown." if more and rows else ""
    return Preview(header=rows[0] if rows else [], rows=rows[1:], note=note)


def _parquet(data: bytes, total: int) -> Preview:
    if len(data) < total:
        return Preview(note="This Parquet file is too large for a preview.")
    limits = [str(limit) for limit in (_ROWS, _COLUMNS, _CELL)]
    try:
        # Another process contains a hostile file; -I isolates it from the environment.
        result = subprocess.run(
            [sys.executable, "-I", parquet_head.__file__, *limits],
            input=data,
            capture_output=True,
            # The default allocator reserves more than the limit.
            env={"ARROW_DEFAULT_MEMORY_POOL": "system"},
            timeout=_PARQUET_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Preview(note="This Parquet file takes too long to read.")
    if result.returncode == 3:
        return Preview(note="Install pyarrow to see Parquet files here.")
    if result.returncode:
        why = result.stdout.decode(errors="replace").strip() or "it needs too much"
        return Preview(note=f"This Parquet file cannot be read: {why}")
    head = json.loads(result.stdout)
    described = f"{head['row_count']} rows, {head['column_count']} columns"
    return Preview(
        header=head["header"],
        rows=head["rows"],
        note=f"{described}; the first rows.",
    )


def _cell(text: str) -> str:
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"
