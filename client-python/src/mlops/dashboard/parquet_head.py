"""Prints the first rows of a Parquet file from standard input as JSON.

It runs in a separate process, because a small hostile file can take much memory, and
because pyarrow is native code. The process has no credentials, and its memory and time
are bounded.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

_MEMORY_BYTES = 2 << 30
_CPU_S = 20


def main() -> int:
    """Read standard input. Return 3 without pyarrow, 1 if the file cannot be read."""
    rows, columns, cell = map(int, sys.argv[1:])
    # Set the limits before anything reads the file.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        return 3
    try:
        file = parquet.ParquetFile(arrow.BufferReader(sys.stdin.buffer.read()))
        names = file.schema_arrow.names[:columns]
        batch = next(file.iter_batches(rows, columns=names, use_threads=False), None)
    except (arrow.ArrowException, MemoryError, OSError, ValueError) as error:
        print(str(error)[:cell])
        return 1
    found = [column.to_pylist() for column in batch.columns] if batch else []
    head = {
        "header": [_cell(name, cell) for name in names],
        "rows": [
            [_cell(value, cell) for value in row] for row in zip(*found, strict=True)
        ],
        "row_count": file.metadata.num_rows,
        "column_count": file.metadata.num_columns,
    }
    json.dump(head, sys.stdout)
    return 0


def _cell(value: Any, limit: int) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


if __name__ == "__main__":
    sys.exit(main())
