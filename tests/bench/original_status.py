"""Measures how the original counts files: rglob in one process, sequentially.

Usage: original_status.py tree DIR        counts the files of one tree
       original_status.py statuses BASE N reads the statuses of N workspaces below BASE:
                                          the record and the files of each of the five
                                          directories

Prints a JSON object with the count and the seconds that it took.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path

from original_way import DIRECTORIES, load


def count(path: Path) -> int:
    return sum(1 for entry in path.rglob("*") if entry.is_file())


def status(root: Path) -> dict[str, object]:
    stats: dict[str, object] = {}
    for name in DIRECTORIES:
        path = root / name
        stats |= {
            f"{name}_exists": path.exists(),
            f"{name}_files": count(path) if path.exists() else 0,
        }
    return {**load(root), "directory_stats": stats}


def main() -> None:
    what, path = sys.argv[1], Path(sys.argv[2])
    start = time.perf_counter()
    if what == "tree":
        found = count(path)
    else:
        roots = (root for root in path.iterdir() if (root / "workspace.yaml").exists())
        found = len([status(root) for root in islice(roots, int(sys.argv[3]))])
    print(json.dumps({"found": found, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
