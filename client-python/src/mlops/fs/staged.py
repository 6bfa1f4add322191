"""Writes a file by its path in the staging area of a server on this machine."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import grpc

from mlops._rpc import errors
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE
from mlops._rpc.stub import Stub
from mlops.fs.local import copy_bytes, open_same
from mlops.workspace.v1 import workspace_service_pb2 as pb

# Smaller files fit in a message or two, which is faster than the calls that a staged
# upload needs.
MIN_BYTES = 2 << 20
_COPY_BYTES = 8 << 20
_CALL_S = 600.0
_PAUSE_S = 2.0


class StagedUpload:
    """An upload that sends no data.

    The system copies the file into the server's empty staged file, and the server
    hashes what it finds there. Not thread-safe.
    """

    def __init__(
        self, connection: Connection, project: str, path: str, create_only: bool
    ) -> None:
        self._connection = connection
        # A new id, so that no other client can write to the same upload.
        self._head = pb.WriteArtifactRequest(
            project=project,
            path=path,
            create_only=create_only,
            upload_id=str(uuid.uuid4()),
        )
        self._paused = 0

    def put(
        self, source: IO[bytes], base: Path, progress: Callable[[int], object]
    ) -> bool:
        """Write the file and return True; return False, without effect, if impossible.

        It is impossible if the staged file is not proved to be below `base` on this
        machine, or is not writable.

        Args:
            progress: Called with the number of bytes after each copy.

        Raises:
            WorkspaceError: A call failed. Nothing has changed.
            OSError: Copying failed midway. Nothing has changed.
        """
        self._send(self._head)
        done = False
        try:
            done = self._copy(source, base, progress) and self._finish()
            return done
        finally:
            if not done:
                self._discard()

    def _copy(
        self, source: IO[bytes], base: Path, progress: Callable[[int], object]
    ) -> bool:
        target = self._open(base)
        if target is None:
            return False
        try:
            while copied := copy_bytes(
                source.fileno(), self._head.offset, target, _COPY_BYTES
            ):
                self._head.offset += copied
                progress(copied)
        except OSError:
            # An error before the first byte only means that copying is impossible here.
            if self._head.offset:
                raise
        finally:
            os.close(target)
        return self._head.offset > 0

    def _open(self, base: Path) -> int | None:
        request = pb.GetUploadRequest(
            project=self._head.project, upload_id=self._head.upload_id
        )
        upload = self._connection.call(request)
        # A malicious server must not make this process write to a file of its choice.
        if ".." in upload.staged_path or not os.path.basename(
            upload.staged_path
        ).startswith(self._head.upload_id):
            return None
        target = open_same(
            base / self._head.project / upload.staged_path,
            os.O_WRONLY,
            upload.staged_etag,
        )
        if target is not None:
            # The staged file must be empty and have no other name.
            stat = os.fstat(target)
            if stat.st_size or stat.st_nlink != 1:
                os.close(target)
                return None
        return target

    def _finish(self) -> bool:
        """Finish the upload; return False if the server lost the staged data."""
        self._head.finish = True
        try:
            self._send(self._head)
        except WorkspaceError as error:
            if error.details["reason"] != "UPLOAD_OFFSET_MISMATCH":
                raise
            return False
        return True

    def _discard(self) -> None:
        head = pb.WriteArtifactRequest(
            project=self._head.project,
            path=self._head.path,
            upload_id=self._head.upload_id,
            discard=True,
        )
        # The server removes an upload that stays.
        with suppress(WorkspaceError):
            self._send(head)

    def _send(self, message: pb.WriteArtifactRequest) -> None:
        """Make a call with one message.

        The call can be repeated: the server acknowledges a finished upload again.
        """
        self._connection.resume(
            lambda stub: self._call(stub, message),
            lambda: self._paused,
            message.offset > 0,
        )

    def _call(self, stub: Stub, message: pb.WriteArtifactRequest) -> None:
        future = stub.write_whole.future(message.SerializeToString(), timeout=_CALL_S)
        call = _Cancellable(future)
        GATE.watch(call)
        try:
            future.result()
        except grpc.FutureCancelledError:
            self._paused += 1
            raise errors.unavailable("The process was forked meanwhile") from None
        finally:
            # No-op unless the wait was interrupted.
            future.cancel()


class _Cancellable:
    """A call that lasts while the server hashes a file.

    If a fork cannot wait for it, the call is cancelled and made again.
    """

    def __init__(self, future: grpc.Future[pb.WriteArtifactResponse]) -> None:
        self._future = future
        self._ended = threading.Event()
        future.add_done_callback(lambda _: self._ended.set())

    def pause(self) -> None:
        """End the call before a fork; see Pausable."""
        if not self._ended.wait(_PAUSE_S):
            self._future.cancel()
