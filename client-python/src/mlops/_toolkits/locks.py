"""File locks between threads and processes.

The kernel releases the locks of a process that dies. The package filelock does not
replace this module, because it has no shared flock(2) lock, which staging() needs.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops._toolkits.errors import MLOpsClientError

_PAUSE_SECONDS = 0.05


@contextmanager
def locked(file: Path, wait_seconds: float) -> Iterator[None]:
    """Hold the lock `file` for the block. Not reentrant.

    Creates the file if missing and never removes it.

    Raises:
        MLOpsClientError: REPOSITORY_BUSY if others hold the lock for `wait_seconds`.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        acquire(descriptor, fcntl.LOCK_EX, file, wait_seconds)
        try:
            yield
        finally:
            # Closing is not enough: a forked child may still have the descriptor open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def acquire(descriptor: int, mode: int, file: Path, wait_seconds: float) -> None:
    """Wait for LOCK_EX or LOCK_SH on `file`, which `descriptor` has open.

    Raises:
        MLOpsClientError: REPOSITORY_BUSY after `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise busy(file, wait_seconds) from None
        time.sleep(_PAUSE_SECONDS)


def busy(file: Path, wait_seconds: float) -> MLOpsClientError:
    """Return the error for a lock that others held for too long."""
    return MLOpsClientError(
        f"Another process has held the lock {file} for {wait_seconds:.0f} s; "
        "retry when it has finished",
        details={
            "reason": "REPOSITORY_BUSY",
            "file": str(file),
            "seconds": wait_seconds,
        },
    )
