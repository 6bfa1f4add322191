"""Open files."""

from __future__ import annotations

import errno
import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

from mlops.fs.errors import os_error, os_errors

if TYPE_CHECKING:
    from mlops.fs.filesystem import WorkspaceFileSystem
    from mlops.fs.local import SameFile
    from mlops.fs.upload import Upload

_log = logging.getLogger(__name__)


class ReadableFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file as it was when it was opened. If another one takes its place, reading on raises OSError ESTALE, or goes on
    with the old one where that can be read by its path.
    """

    fs: WorkspaceFileSystem

    def __init__(self, fs: WorkspaceFileSystem, path: str, info: dict[str, Any], **options: Any) -> None:
        self._same: SameFile | None = None
        super().__init__(fs, path, "rb", size=info["size"], **options)
        self.details = info

        self._same = fs._open_same(path, info["etag"])

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._same is not None:
            return self._same.read(start, end)
        return self.fs._read(self.path, start, end, self.details["etag"])

    def close(self) -> None:
        """Lets go of what was read ahead."""
        super().close()
        if self._same is not None:
            self._same.close()


class WritableFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is sent as it is written, and is there, whole, when it was closed.

    It is not if the `with` block is left by an exception, if close() is called while one is handled that came after
    open() (as wrappers such as fsspec.open() call it), or if it is never closed: then what was there stays.
    """

    fs: WorkspaceFileSystem
    closed: bool

    def __init__(self, fs: WorkspaceFileSystem, path: str, mode: str, upload: Upload, **options: Any) -> None:
        super().__init__(fs, path, mode, **options)
        self._upload: Upload | None = upload
        self._handled_at_open = sys.exc_info()[1]

    def write(self, data: Any) -> int:
        """Takes the next bytes; returns how many."""
        if self.closed or self._upload is None:
            raise ValueError("I/O operation on closed file.")
        size = memoryview(data).nbytes
        with os_errors(self.path):
            self._upload.write(data)
        self.loc += size
        return size

    def flush(self, force: bool = False) -> None:
        """Does nothing: the server gets what fills a block at once, and the rest by close()."""
        if self.closed:
            raise ValueError("Flush on closed file")

    def close(self) -> None:
        """Makes the file visible, in a transaction at its end. Raises OSError if that fails; then nothing changed."""
        if self.closed:
            return
        handled = sys.exc_info()[1]
        if handled is not None and handled is not self._handled_at_open:
            _log.warning("%s: discarded, since an exception left it: %r", self.path, handled)
            self.discard()
        elif self.autocommit:
            self.commit()
        else:
            self._attempt("flush")
        self.closed = True

    def commit(self) -> None:
        """Makes the file visible now."""
        self._attempt("finish")
        self._upload = None

    def discard(self) -> None:
        """Drops what was written."""
        upload, self._upload, self.closed = self._upload, None, True
        if upload is not None:
            upload.abort()

    def _attempt(self, step: str) -> None:
        if self._upload is None:
            raise os_error(errno.EBADF, self.path, "The file was discarded")
        try:
            with os_errors(self.path):
                getattr(self._upload, step)()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None and not self.closed:
            self.discard()
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            self.closed = True
            warnings.warn(f"{self.path} was never closed, so it was not written", ResourceWarning, stacklevel=2)
            if self._upload is not None:
                self._upload.abandon()
