"""Where things are made that are then put in place as a whole, by a rename."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def staging(area: Path) -> Iterator[Path]:
    """A new directory within `area` that is removed at the end.

    Those of processes that died are removed by the next one that finds nobody else at work. Any number of threads and
    processes may do so at once.
    """
    area.mkdir(exist_ok=True)
    with (area / "users.lock").open("ab") as users:
        with suppress(BlockingIOError), locked(users, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for entry in area.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
        with (
            locked(users, fcntl.LOCK_SH),
            tempfile.TemporaryDirectory(dir=area, ignore_cleanup_errors=True) as directory,
        ):
            yield Path(directory)


@contextmanager
def locked(file: IO[Any], mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Holds the lock of an open file; raises BlockingIOError if `mode` has LOCK_NB and it is held elsewhere."""
    fcntl.flock(file, mode)
    try:
        yield
    finally:
        # Not by closing it: a process that was forked meanwhile holds the file open, too.
        fcntl.flock(file, fcntl.LOCK_UN)
