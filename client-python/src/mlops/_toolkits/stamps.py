"""Detects files that change while they are read."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from mlops._toolkits.errors import MLOpsClientError

# Number of attempts to read files that another process writes to.
ATTEMPTS = 3
# Two writes within this time may leave the same mtime.
_TICK_NS = 20_000_000

Stamps = dict[str, tuple[int, int, int]]


def stamps(list_files: Callable[[], Iterable[Path]]) -> Stamps:
    """Return a stamp for each listed file, which changes when the file is written.

    Replacing a file also changes its stamp. Omits files that vanish meanwhile. If a
    file was just written, waits until a later write would leave another stamp.
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
            with suppress(OSError):  # A dangling link has no content.
                status = os.stat(file)
                found[str(file)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def changing(path: Path) -> MLOpsClientError:
    """Return the error for a file that others kept writing to."""
    return MLOpsClientError(
        f"{path} changed while it was read, {ATTEMPTS} times; "
        "try again when nobody writes to it, or name a copy of it",
        details={"reason": "FILE_CHANGING", "path": str(path)},
    )
