"""Open files."""

from __future__ import annotations

import errno
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from mlops.fs.artifacts import Artifacts
from mlops.fs.by_wire import ByWire
from mlops.fs.entries import Info
from mlops.fs.errors import lookup_errors, os_error, os_errors
from mlops.fs.forward import Forward
from mlops.fs.local import SameFile

_log = logging.getLogger(__name__)
_LINE_BYTES = 8 << 10


class ReadableFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file as it was when it was opened.

    If another file replaces it, further reads raise OSError ESTALE. They succeed with
    the old content where the file is accessed by its path, or where that content is
    already in transit.

    Random reads fetch blocks through fsspec's cache. Once a block was read without a
    seek, the following data arrives by one stream, until the file is closed, read
    elsewhere, or not read for some seconds.
    """

    loc: int

    def __init__(
        self,
        fs: AbstractFileSystem,
        path: str,
        info: Info,
        artifacts: Artifacts,
        same: SameFile | None,
        **options: Any,
    ) -> None:
        """Open the file of which `info` was read.

        Args:
            artifacts: Reads the file over the connection.
            same: The same file opened by its path, if that is possible. This object
                then owns it.
        """
        self._artifacts = artifacts
        self._same = same
        self._forward: Forward | None = None
        # The range covered by the reads since the last seek.
        self._read_from = self._read_to = 0
        super().__init__(fs, path, "rb", size=info["size"], **options)
        self.details = info

    def read(self, length: int | None = -1) -> bytes:
        """Return the next `length` bytes, fewer at the end of the file.

        Returns all remaining bytes if `length` is negative or None.
        """
        with self._whole_or_nothing():
            return b"".join(self._pieces(-1 if length is None else int(length)))

    def read1(self, length: int = -1) -> bytes:
        """Return some of the next `length` bytes, as they arrive; none at the end.

        A negative `length` means the block size.
        """
        return bytes(next(self._pieces(self.blocksize if length < 0 else length), b""))

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; return their number, fewer at the end."""
        to, filled = memoryview(buffer).cast("B"), 0
        with self._whole_or_nothing():
            for piece in self._pieces(len(to)):
                to[filled : filled + len(piece)] = piece
                filled += len(piece)
        return filled

    def readline(self, size: int | None = -1) -> bytes:
        """Return the bytes up to and including the next newline, or to the end.

        At most `size` bytes, unless it is negative or None.
        """
        left = self.size if size is None or size < 0 else size
        pieces, end = [], 0
        while not end and left and (piece := self.read1(min(_LINE_BYTES, left))):
            if end := piece.find(b"\n") + 1:
                # read1() may have read past the newline, so step back.
                self.loc = self._read_to = self.loc - len(piece) + end
                piece = piece[:end]
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file and drop what was read ahead."""
        super().close()
        if self._same is not None:
            self._same.close()
        self._end_forward()

    @contextmanager
    def _whole_or_nothing(self) -> Iterator[None]:
        """Restore the position if the block raises."""
        start = self.loc
        try:
            yield
        except BaseException:
            self.loc = start
            raise

    def _pieces(self, length: int) -> Iterator[bytes | memoryview]:
        """Yield what read() returns, as it arrives; the position follows."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        end = self.size if length < 0 else min(self.size, self.loc + length)
        while self.loc < end:
            piece = self._piece(end)
            if not piece:
                return
            self.loc = self._read_to = self.loc + len(piece)
            yield piece

    def _piece(self, end: int) -> bytes | memoryview:
        if not self._goes_forward():
            return bytes(self.cache._fetch(self.loc, end))
        if self._forward is None:
            download = self._artifacts.download(
                self.path, self.loc, self.size, self.details["etag"]
            )
            self._forward = Forward(download, self.loc)
        try:
            with lookup_errors(self.path):
                return self._forward.take(self.loc, end - self.loc)
        except BaseException:
            # The stream's position is unknown now, even if the cause was only Ctrl-C.
            self._end_forward()
            raise

    def _goes_forward(self) -> bool:
        if self._forward is not None:
            if self._forward.can_go_to(self.loc):
                return True
            self._end_forward()
        # A seek starts a new range of sequential reads.
        if self.loc != self._read_to:
            self._read_from = self._read_to = self.loc
        # A stream pays only after a sequentially read block, and not for access by
        # path.
        return self.loc - self._read_from >= self.blocksize and self._same is None

    def _end_forward(self) -> None:
        forward, self._forward = self._forward, None
        if forward is not None:
            forward.close()

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._same is not None:
            return self._same.read(start, end)
        return self._artifacts.read(self.path, start, end, self.details["etag"])


class WritableFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file whose data is sent as it is written.

    It becomes visible as a whole when it is closed. It is discarded, and the old file
    stays, if the `with` block raises, if close() is called while an exception is
    handled that was raised after open() (wrappers such as fsspec.open() do this), or if
    the file is never closed.
    """

    closed: bool

    def __init__(
        self,
        fs: AbstractFileSystem,
        path: str,
        mode: str,
        writer: ByWire,
        **options: Any,
    ) -> None:
        super().__init__(fs, path, mode, **options)
        self._writer: ByWire | None = writer
        self._handled_at_open = sys.exc_info()[1]

    def write(self, data: Any) -> int:
        """Write the next bytes; return their number."""
        if self.closed or self._writer is None:
            raise ValueError("I/O operation on closed file.")
        size = memoryview(data).nbytes
        with os_errors(self.path):
            self._writer.write(data)
        self.loc += size
        return size

    def flush(self, force: bool = False) -> None:
        """Do nothing: full blocks are sent at once, and close() sends the rest."""
        if self.closed:
            raise ValueError("Flush on closed file")

    def close(self) -> None:
        """Make the file visible; within a transaction, at its end.

        Raises:
            OSError: This failed, and nothing changed.
        """
        if self.closed:
            return
        # Wrappers such as fsspec.open() call close() without passing the exception.
        handled = sys.exc_info()[1]
        if handled is not None and handled is not self._handled_at_open:
            _log.warning(
                "%s: discarded because of an exception: %r", self.path, handled
            )
            self.discard()
        elif self.autocommit:
            self.commit()
        else:
            self._attempt("flush")
        self.closed = True

    def commit(self) -> None:
        """Make the file visible now."""
        self._attempt("finish")
        self._writer = None

    def discard(self) -> None:
        """Drop what was written."""
        writer, self._writer, self.closed = self._writer, None, True
        if writer is not None:
            writer.discard()

    def _attempt(self, step: str) -> None:
        if self._writer is None:
            raise os_error(errno.EBADF, self.path, "The file was discarded")
        try:
            with os_errors(self.path):
                getattr(self._writer, step)()
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
            warnings.warn(
                f"{self.path} was never closed, so it was not written",
                ResourceWarning,
                stacklevel=2,
            )
            if self._writer is not None:
                self._writer.abandon()
