"""Copies an upload's bytes directly into the staged file of a server on this machine.

The operating system copies them into the server's empty staged file, and the server
hashes the bytes that it finds there.
"""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import grpc

from mlops._rpc import errors
from mlops._rpc.channel import STREAM_S
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE, PAUSE_S
from mlops._rpc.stub import Stub
from mlops.fs.local import copy_bytes, open_same
from mlops.fs.upload import Upload
from mlops.workspace.v1 import workspace_service_pb2 as pb

# Smaller files fit into one or two messages, which is faster than these extra calls.
MIN_BYTES = 2 << 20
_COPY_BYTES = 8 << 20


def put_by_path(
    upload: Upload, source: IO[bytes], base: Path, progress: Callable[[int], object]
) -> bool:
    """Write a whole file and return True; return False, without effect, if impossible.

    This is possible only if the staged file is proved to be below `base` on this
    machine and is writable.

    Args:
        upload: A new upload.
        progress: Called with the number of bytes after each copy.

    Raises:
        WorkspaceError: A call failed. Nothing has changed.
        OSError: Copying failed midway. Nothing has changed.
    """
    upload.begin()
    done = False
    try:
        size = _copy(upload, source, base, progress)
        done = size > 0 and _finish(upload, size)
        return done
    finally:
        if not done:
            upload.discard()


def _copy(
    upload: Upload, source: IO[bytes], base: Path, progress: Callable[[int], object]
) -> int:
    """Copy the file into the staged file; return its size, 0 if this is impossible."""
    target = _open_staged(upload, base)
    if target is None:
        return 0
    size = 0
    try:
        while copied := copy_bytes(source.fileno(), size, target, _COPY_BYTES):
            size += copied
            progress(copied)
    except OSError:
        # An error before the first byte only means that copying is impossible here.
        if size:
            raise
    finally:
        os.close(target)
    return size


def _open_staged(upload: Upload, base: Path) -> int | None:
    staged = upload.staged()
    path, name = staged.staged_path, os.path.basename(staged.staged_path)
    # A malicious server must not make this process write to a file of its choice.
    if ".." in path or not name.startswith(upload.head.upload_id):
        return None
    target = open_same(
        base / upload.head.project / path, os.O_WRONLY, staged.staged_etag
    )
    if target is None:
        return None
    # The staged file must be empty and have no other name.
    stat = os.fstat(target)
    if stat.st_size or stat.st_nlink != 1:
        os.close(target)
        return None
    return target


def _finish(upload: Upload, size: int) -> bool:
    """Finish the upload; return False if the server lost the staged data."""
    upload.head.offset, upload.head.finish = size, True
    hashing = _Hashing(upload.head.SerializeToString())
    try:
        # The call can be repeated: the server acknowledges a finished upload again.
        upload.resume(hashing.wait, lambda: hashing.paused, begun=True)
    except WorkspaceError as error:
        if error.details["reason"] != "UPLOAD_OFFSET_MISMATCH":
            raise
        return False
    return True


class _Hashing:
    """A call that lasts while the server hashes a file.

    If a fork cannot wait for it, the call is cancelled and made again.
    """

    def __init__(self, message: bytes) -> None:
        self.paused = 0  # How often the call was cancelled.
        self._message = message
        self._future: grpc.Future[pb.WriteArtifactResponse] | None = None
        self._ended = threading.Event()

    def wait(self, stub: Stub) -> None:
        """Make the call and wait for its end."""
        self._ended = ended = threading.Event()
        self._future = stub.write_whole.future(self._message, timeout=STREAM_S)
        self._future.add_done_callback(lambda _: ended.set())
        GATE.watch(self)
        try:
            self._future.result()
        except grpc.FutureCancelledError:
            self.paused += 1
            raise errors.unavailable("The process was forked meanwhile") from None
        finally:
            # No-op unless the wait was interrupted.
            self._future.cancel()

    def pause(self) -> None:
        """End the call before a fork; see Pausable."""
        if self._future is not None and not self._ended.wait(PAUSE_S):
            self._future.cancel()
