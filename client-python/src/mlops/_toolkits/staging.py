"""Staging directories, in which a result is built before a rename puts it in place."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops._toolkits.locks import acquire

_WAIT_SECONDS = 60.0  # For a process that removes leftovers.


@contextmanager
def staging(area: Path) -> Iterator[Path]:
    """Create a directory within `area`, and remove it at the end of the block.

    The next user removes leftovers of dead processes, if no other user is active then.
    Any number of threads and processes may use an area at the same time.
    """
    area.mkdir(exist_ok=True)
    with (area / "users.lock").open("ab") as users:
        # Remove leftovers only if no other process uses the area.
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _remove_what_was_left(area)
            finally:
                fcntl.flock(users, fcntl.LOCK_UN)
        acquire(users.fileno(), fcntl.LOCK_SH, area / "users.lock", _WAIT_SECONDS)
        try:
            with tempfile.TemporaryDirectory(
                dir=area, ignore_cleanup_errors=True
            ) as directory:
                yield Path(directory)
        finally:
            # Closing is not enough: a forked child may still have the descriptor open.
            fcntl.flock(users, fcntl.LOCK_UN)


def _remove_what_was_left(area: Path) -> None:
    for entry in area.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
