"""Where things are made that are then put in place as a whole, by a rename."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops.client.file_lock import acquire

_WAIT_SECONDS = 60.0  # For another one who removes what was left.


@contextmanager
def staging(area: Path) -> Iterator[Path]:
    """A new directory within `area` that is removed at the end.

    Those of processes that died are removed by the next one that finds nobody else at
    work. Any number of threads and processes may do so at once.
    """
    area.mkdir(exist_ok=True)
    with (area / "users.lock").open("ab") as users:
        with suppress(BlockingIOError):  # Others are at work.
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
            # Closing is not enough: a child forked meanwhile has it open, too.
            fcntl.flock(users, fcntl.LOCK_UN)


def _remove_what_was_left(area: Path) -> None:
    for entry in area.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
