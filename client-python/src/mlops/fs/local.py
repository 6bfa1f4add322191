"""Local files: sources and targets of copies, and files of a server on this machine."""

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
    """A local file to write, created at the first write.

    Creates missing parent directories. Until the first write, an existing file is
    unchanged. If the block raises, removes the partial file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, data: memoryview) -> None:
        """Append data to the file."""
        while data:
            data = data[self.file().write(data) :]

    def file(self) -> IO[bytes]:
        """Return the open file, creating it if needed."""
        if self._file is None:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            # Opening a named pipe without a reader fails instead of blocking forever.
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
    """Check that `path` is, or links to, a file or a directory.

    Raises:
        OSError: EINVAL if it is anything else; FileNotFoundError if it does not exist.
    """
    _check_kind(path, os.stat(path).st_mode, stat.S_ISREG, stat.S_ISDIR)


def real_directory(path: str | os.PathLike[str]) -> str | None:
    """Return the real path of a directory, or of a path that may become one.

    Returns None for a file.
    """
    return None if os.path.isfile(path) else os.path.realpath(path)


def open_source(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a local file for reading, unbuffered.

    Raises:
        OSError: EINVAL, without blocking, if it is not a file.
    """
    check_copyable(path)
    # O_NONBLOCK: a named pipe may have replaced the file, and must not block.
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
    """Open the file at `path` if it has this etag; else return None.

    Also returns None if the file cannot be opened here. `access` is os.O_RDONLY or
    O_WRONLY. If a server computes etags in another way than convert.etag_of(), no file
    matches.
    """
    try:
        # Neither follow a link, nor block on a named pipe.
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
    """Append up to `size` bytes of `source`, from `offset`, to `target`.

    Copies in the kernel, sharing blocks where the file system supports this. Returns
    the number of bytes, which is 0 only at the end of `source`.

    Raises:
        OSError: Copying failed.
    """
    for copy in _COPIES:
        # If one method fails, for whatever reason, the next one succeeds or fails with
        # the same error.
        with suppress(OSError):
            if copied := copy(source, offset, target, size):
                return copied
    return os.write(target, os.pread(source, min(size, _READ_BYTES), offset))


# Best method first.
_COPIES: list[Callable[[int, int, int, int], int]] = []
if sys.platform == "linux":
    _COPIES = [
        lambda source, offset, target, size: os.copy_file_range(
            source, target, size, offset
        ),
        lambda source, offset, target, size: os.sendfile(target, source, offset, size),
    ]


class SameFile:
    """A file of a workspace, opened by its path and proved to be the server's file.

    It stays the same file if another one replaces it. Thread-safe.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._stat = os.fstat(descriptor)

    @classmethod
    def open(cls, path: Path, etag: str) -> Self | None:
        """Open the file at `path` if it has this etag and can be read; else None."""
        descriptor = open_same(path, os.O_RDONLY, etag)
        return None if descriptor is None else cls(path, descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes `start` to `end`.

        Raises:
            OSError: ESTALE if the file was overwritten in place.
        """
        pieces, at = [], start
        while at < end and (data := os.pread(self._descriptor, end - at, at)):
            pieces.append(data)
            at += len(data)
        self._check()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def copy(self, target: IO[bytes], progress: Callable[[int], object]) -> None:
        """Copy the whole file.

        Raises:
            OSError: ESTALE if the file was overwritten in place.
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
                "The file was overwritten while it was read",
                str(self.path),
            )

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close
