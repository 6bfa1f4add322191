"""Files of this machine: those on the other side of a copy, and those of a server whose
disk is here, too.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mlops._rpc import convert

_COPY_BYTES = 64 << 20
_READ_BYTES = 1 << 20


class Target:
    """A local file to be filled: made when its content begins to come, and removed if
    the block is left by an error.

    Directories on the way are made. What there was stays as long as nothing comes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, data: memoryview) -> None:
        """Appends to it."""
        while data:
            data = data[self.file().write(data) :]

    def file(self) -> IO[bytes]:
        """The file itself."""
        if self._file is None:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            # A named pipe that nobody reads is an error, instead of a wait without end.
            access = (
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
            )
            descriptor = os.open(self._path, access, 0o666)
            os.set_blocking(descriptor, True)
            self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115
        return self._file

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            if kind is not None and os.path.isfile(self._path):
                os.unlink(self._path)


def check_copyable(path: str | os.PathLike[str]) -> None:
    """Raises OSError EINVAL if `path` leads to what is neither file nor directory,
    FileNotFoundError if to nothing.
    """
    _check_kind(path, os.stat(path).st_mode, stat.S_ISREG, stat.S_ISDIR)


def open_source(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a local file for reading, unbuffered.

    Raises OSError EINVAL for what is no file, without waiting for it.
    """
    check_copyable(path)
    # It may be replaced by now, and nobody may ever write to a named pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_kind(path, os.fstat(descriptor).st_mode, stat.S_ISREG)
        return open(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _check_kind(
    path: str | os.PathLike[str], mode: int, *kinds: Callable[[int], bool]
) -> None:
    if any(is_kind(mode) for is_kind in kinds):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "special file")
    sentence = (
        f"{os.fspath(path)} is a {kind}: only files and directories can be copied"
    )
    raise OSError(errno.EINVAL, sentence, os.fspath(path))


_KINDS = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISDIR, "directory"),
)


def open_same(path: Path, access: int, etag: str) -> int | None:
    """A descriptor of the file at `path`, for os.O_RDONLY or O_WRONLY, if it is the one
    that has this etag; None if it is another one, or cannot be opened here. Should a
    server make etags otherwise than convert.etag_of(), no file is ever taken for the
    same.
    """
    try:
        # Not through a link, and not waiting for who writes a FIFO.
        descriptor = os.open(
            path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return None
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode) and etag == convert.etag_of(state):
        return descriptor
    os.close(descriptor)
    return None


def copy_bytes(source: int, offset: int, target: int, size: int) -> int:
    """Appends what `source` has from `offset` on, at most `size` bytes, where `target`
    stands: in the kernel, sharing the blocks where the file system can. Returns how
    many, some at least unless this is the end. Raises OSError.
    """
    for copy in _COPIES:
        # What one way cannot do, for whatever reason, the next one does, or meets the
        # same.
        with suppress(OSError):
            if copied := copy(source, offset, target, size):
                return copied
    return os.write(target, os.pread(source, min(size, _READ_BYTES), offset))


# The best first.
_COPIES: list[Callable[[int, int, int, int], int]] = []
if sys.platform == "linux":
    _COPIES = [
        lambda source, offset, target, size: os.copy_file_range(
            source, target, size, offset
        ),
        lambda source, offset, target, size: os.sendfile(target, source, offset, size),
    ]


class SameFile:
    """A file of a workspace, opened by its path, after it was proved to be the one that
    the server speaks of.

    It stays the one that was opened when another takes its place. Thread-safe.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._stat = os.fstat(descriptor)

    @classmethod
    def open(cls, path: Path, etag: str) -> Self | None:
        """The file at `path` if it is the one that has this etag; None if it is another
        one, or cannot be read here.
        """
        descriptor = open_same(path, os.O_RDONLY, etag)
        return None if descriptor is None else cls(path, descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end`. Raises OSError ESTALE if the file was written over in
        place.
        """
        pieces, at = [], start
        while at < end and (data := os.pread(self._descriptor, end - at, at)):
            pieces.append(data)
            at += len(data)
        self._check()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def copy(self, target: IO[bytes], progress: Callable[[int], object]) -> None:
        """Copies all of it. Raises OSError ESTALE if the file was written over in
        place.
        """
        at = 0
        while copied := copy_bytes(self._descriptor, at, target.fileno(), _COPY_BYTES):
            at += copied
            progress(copied)
        self._check()

    def _check(self) -> None:
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (
            self._stat.st_size,
            self._stat.st_mtime_ns,
        ):
            raise OSError(
                errno.ESTALE,
                "The file was written over while it was read",
                str(self.path),
            )

    def close(self) -> None:
        """Gives the descriptor back."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close
