"""Writing a file over the wire, across losses of the connection."""

# The types of gRPC's stubs are generic to type checkers only.
from __future__ import annotations

import hashlib
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import grpc

from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE
from mlops._rpc.stub import Stub, build_data
from mlops.workspace.v1 import workspace_service_pb2 as pb

CHUNK_BYTES = 1 << 20
# What the server may not have yet is kept, and is sent again after a loss.
_KEPT_BYTES = 16 << 20
_CALL_S = 600.0
_QUEUED_MESSAGES = 2
_PAUSE_S = 2.0
# How far it is asked for is told so often; by then even a fast server has not got all
# that is kept.
_POLL_S = 0.01


class Upload:
    """A file on its way to the server, that becomes visible by finish() alone. Holds no
    more than 16 MiB of it.

    After a loss of the connection, or of the server, it goes on where the server has
    got to. Not thread-safe; of a process that was forked meanwhile only the parent can
    go on.
    """

    def __init__(
        self, connection: Connection, project: str, path: str, create_only: bool = False
    ) -> None:
        self._connection = connection
        self._head = pb.WriteArtifactRequest(
            project=project, path=path, create_only=create_only
        )
        self._generation = GATE.generation
        self._sha256 = hashlib.sha256()
        self._pending = bytearray()  # Less than a chunk.
        self._kept: deque[bytes] = deque()
        self._kept_from = 0  # Where they begin in the file.
        self._size = 0  # Where they end.
        self._acknowledged = 0
        self._stream: _Stream | None = None
        self._resumes = False  # Whether there was a stream before.
        self._sent = 0  # By the stream.
        self._artifact: pb.Artifact | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes, and sends them on by and by. Raises WorkspaceError."""
        if isinstance(data, bytes) and len(data) == CHUNK_BYTES and not self._pending:
            self._keep(data)  # Not copied.
            return
        view = memoryview(data).cast("B")
        if self._pending:
            taken = CHUNK_BYTES - len(self._pending)
            self._pending += view[:taken]
            view = view[taken:]
            if len(self._pending) < CHUNK_BYTES:
                return
            self._keep(bytes(self._pending))
            self._pending.clear()
        while len(view) >= CHUNK_BYTES:
            self._keep(bytes(view[:CHUNK_BYTES]))
            view = view[CHUNK_BYTES:]
        self._pending += view

    def flush(self) -> None:
        """Has the server hold all that was written. Raises WorkspaceError."""
        self._keep_rest()
        while self._acknowledged < self._size:
            self._push(finish=False, at_most=0)

    def finish(self) -> pb.Artifact:
        """Makes the file visible and returns it.

        Raises WorkspaceError, after which the file is as it was before.
        """
        self._keep_rest()
        while self._artifact is None:
            self._push(finish=True, at_most=0)
        return self._artifact

    def abort(self) -> None:
        """Has the file stay as it was; what was sent is dropped, by the server's sweep
        if it cannot be told now.
        """
        asked = self.abandon()
        if not self._head.upload_id or self._generation != GATE.generation:
            return
        stream = self._stream
        if not asked or stream is None or not stream.wait(_PAUSE_S) or stream.failed():
            with suppress(WorkspaceError):
                self._connection.resume(self._drop, lambda: 0)

    def abandon(self) -> bool:
        """The same without waiting for anything, and with less certainty that it is
        dropped before the sweep.

        Returns whether the stream is there to ask the server for it.
        """
        self._kept.clear()
        self._pending.clear()
        if self._stream is None or self._generation != GATE.generation:
            return False
        return self._stream.close(pb.WriteArtifactRequest(discard=True))

    def _drop(self, stub: Stub) -> None:
        head = pb.WriteArtifactRequest(
            project=self._head.project,
            path=self._head.path,
            upload_id=self._head.upload_id,
            discard=True,
        )
        stub.WriteArtifact(iter([head]), timeout=_CALL_S)

    def _keep_rest(self) -> None:
        if self._pending:
            self._keep(bytes(self._pending))
            self._pending.clear()

    def _keep(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._kept.append(chunk)
        self._size += len(chunk)
        # The first waits for the next, or for finish(): a small file then is one
        # message.
        if self._size > len(chunk):
            while not self._push(finish=False, at_most=_KEPT_BYTES):
                pass

    def _push(self, finish: bool, at_most: int) -> bool:
        """Sends what was not sent yet, until at most `at_most` bytes are kept.

        False if that has to be gone on with.
        """
        if self._generation != GATE.generation:
            raise WorkspaceError(
                "The file was opened for writing by the process that this one was forked from, which alone can go on",
                details={"reason": "", "code": "FAILED_PRECONDITION"},
            )
        return self._connection.resume(
            lambda stub: self._send(stub, finish, at_most),
            lambda: self._acknowledged,
            begun=self._sent > 0,
        )

    def _send(self, stub: Stub, finish: bool, at_most: int) -> bool:
        if self._stream is None:
            self._find_offset(stub)
            if self._artifact is None and finish and len(self._kept) <= 1:
                self._resumes = True
                (message,) = self._unsent(finish)
                self._artifact = stub.write_whole(message, timeout=_CALL_S).artifact
            if self._artifact is not None:
                return True
            self._stream = _Stream(stub)
            GATE.watch(self._stream)
        sent = all(self._stream.put(message) for message in self._unsent(finish))
        if sent and finish:
            self._artifact = self._ended().artifact
            return True
        if sent and self._forget(stub, at_most):
            return True
        self._ended()
        return False

    def _ended(self) -> pb.WriteArtifactResponse:
        """Waits for the stream's answer; whatever it is, what comes next is sent by
        another stream.
        """
        assert self._stream is not None
        stream, self._stream = self._stream, None
        self._resumes = True
        return stream.result()

    def _find_offset(self, stub: Stub) -> None:
        """Where the next stream begins, or that the server has finished the file
        before.
        """
        # A small file has an id, too: sent again after a lost answer without one, it
        # could replace a newer file.
        if not self._head.upload_id:
            self._head.upload_id = str(uuid.uuid4())
        self._acknowledged = self._committed(stub) if self._resumes else 0
        if self._artifact is not None:
            return
        if self._acknowledged < self._kept_from:
            raise WorkspaceError(
                f"{self._head.path}: the server has lost what it had of the file; write it again",
                details={
                    "reason": "UPLOAD_NOT_FOUND",
                    "code": "NOT_FOUND",
                    "upload_id": self._head.upload_id,
                },
            )
        self._head.offset = self._sent = self._acknowledged

    def _unsent(self, finish: bool) -> Iterator[bytes]:
        """The messages that the stream has not got, the first with what only the first
        may say.
        """
        head = pb.WriteArtifactRequest()
        if self._sent == self._head.offset:
            head.CopyFrom(self._head)
        last: bytes | None = None
        offset = self._kept_from
        for chunk in [*self._kept]:
            skipped = max(0, self._sent - offset)
            offset += len(chunk)
            if offset <= self._sent:
                continue
            if last is not None:
                yield build_data(head, last)
                head.Clear()
            last = chunk[skipped:]
            self._sent = offset
        if finish:
            head.finish, head.sha256 = True, self._sha256.hexdigest()
        if finish or last is not None:
            yield build_data(head, last or b"")

    def _forget(self, stub: Stub, at_most: int) -> bool:
        """Drops what the server has got from what is kept, if there is more of it than
        `at_most`.
        """
        assert self._stream is not None
        while self._size - self._kept_from > at_most:
            self._acknowledged = max(self._acknowledged, self._committed(stub))
            while (
                self._kept
                and self._kept_from + len(self._kept[0]) <= self._acknowledged
            ):
                self._kept_from += len(self._kept.popleft())
            if self._size - self._kept_from > at_most and self._stream.wait(_POLL_S):
                return False
        return True

    def _committed(self, stub: Stub) -> int:
        request = pb.GetUploadRequest(
            project=self._head.project, upload_id=self._head.upload_id
        )
        try:
            upload = stub.GetUpload(request, timeout=10)
        except grpc.RpcError as error:
            # Not begun yet, or not any more.
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        if upload.HasField("artifact"):
            self._artifact = upload.artifact
        return upload.offset


class _Stream:
    """One WriteArtifact call, fed by one thread. Thread-safe."""

    def __init__(self, stub: Stub) -> None:
        self._changed = threading.Condition()
        self._messages: deque[bytes] = deque()
        self._closed = False
        self.ended = False
        self._call = stub.write_data.future(iter(self), timeout=_CALL_S)
        self._call.add_done_callback(lambda call: self._end())

    def put(self, message: bytes) -> bool:
        """Sends a message after those before; returns False if the call has ended or is
        closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or len(self._messages) < _QUEUED_MESSAGES
            )
            if self._closed:
                return False
            self._messages.append(message)
            self._changed.notify_all()
            return True

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end of the call; returns whether it has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ended, timeout_s)

    def result(self) -> pb.WriteArtifactResponse:
        """The answer, waited for. Raises grpc.RpcError."""
        try:
            return self._call.result()
        finally:
            self._call.cancel()  # Where the wait was interrupted.

    def failed(self) -> bool:
        """Whether it has ended otherwise than by an answer; to be called once it has."""
        return self._call.exception() is not None

    def pause(self) -> None:
        """As the gate wants it: what came is kept by the server."""
        self.close()
        if not self.wait(_PAUSE_S):
            self._call.cancel()
            self.wait(_PAUSE_S)

    def close(self, last: pb.WriteArtifactRequest | None = None) -> bool:
        """Ends the call after the messages that wait, and `last`.

        Does not wait. False if it was closed before.
        """
        with self._changed:
            was_open = not self._closed
            if last is not None and was_open:
                self._messages.append(last.SerializeToString())
            self._closed = True
            self._changed.notify_all()
            return was_open

    def _end(self) -> None:
        with self._changed:
            self._closed = self.ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._messages)
                if not self._messages:
                    return
                message = self._messages.popleft()
                self._changed.notify_all()
            yield message
