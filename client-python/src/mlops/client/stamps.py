"""Whether files change while they are read."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mlops.client.errors import MLOpsClientError

ATTEMPTS = 3  # At reading files that somebody else writes to.
# Two writes that are closer may leave the same time of modification.
_TICK_NS = 20_000_000

Stamps = dict[str, tuple[int, int, int]]


def stamps(list_files: Callable[[], Iterable[Path]]) -> Stamps:
    """For each file that `list_files` names a stamp that changes when the file is
    written or replaced.

    Files that vanish meanwhile are left out. Waits for a moment if a file was just
    written, since a write right after it might leave the same stamp.
    """
    found = _stamps(list_files)
    newest = max((modified for _, _, modified in found.values()), default=0)
    if abs(time.time_ns() - newest) < _TICK_NS:
        time.sleep(_TICK_NS / 1e9)
        found = _stamps(list_files)
    return found


def _stamps(list_files: Callable[[], Iterable[Path]]) -> Stamps:
    found = {}
    with suppress(FileNotFoundError):
        for file in list_files():
            with suppress(OSError):  # A link that leads nowhere has no content.
                status = os.stat(file)
                found[str(file)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def changing(path: Path) -> MLOpsClientError:
    """The error for what cannot be read consistently, since somebody writes to it."""
    return MLOpsClientError(
        f"{path} changed while it was read, {ATTEMPTS} times; try again when nobody writes to it, or name a copy of it",
        details={"reason": "FILE_CHANGING", "path": str(path)},
    )
