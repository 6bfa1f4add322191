"""Writes a file over the wire and resumes after the connection is lost."""

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
# Limit of bytes that are kept because the server has not acknowledged them. Several
# times what a server stages before it acknowledges, so that sending does not pause.
_KEPT_BYTES = 16 << 20
_CALL_S = 600.0
_QUEUED_MESSAGES = 2
_PAUSE_S = 2.0


class Upload:
    """A file on its way to the server; finish() makes it visible.

    Keeps up to 16 MiB of the file in memory, and resumes at the server's offset after
    the connection or the server was lost. Not thread-safe. After a fork, only the
    parent process can continue.
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
        self._kept_from = 0  # Offset of the kept chunks in the file.
        self._size = 0  # Offset of their end.
        self._acknowledged = 0
        self._stream: _Stream | None = None
        self._resumes = False  # Whether an earlier call may have sent something.
        self._sent = 0  # Offset up to which the stream was given the file.
        self._artifact: pb.Artifact | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes to the file and sends every full chunk.

        Raises WorkspaceError.
        """
        if isinstance(data, bytes) and len(data) == CHUNK_BYTES and not self._pending:
            self._keep(data)  # Without a copy.
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
        """Returns once the server has staged everything written so far.

        Raises WorkspaceError.
        """
        self._keep_rest()
        while self._acknowledged < self._size:
            self._push(finish=False, at_most=0)

    def finish(self) -> pb.Artifact:
        """Makes the file visible and returns its description.

        Raises WorkspaceError; the old file, if any, is then unchanged.
        """
        self._keep_rest()
        while self._artifact is None:
            self._push(finish=True, at_most=0)
        return self._artifact

    def abort(self) -> None:
        """Drops the upload and leaves the old file, if any, unchanged.

        Best effort: if the server cannot be reached, it later sweeps what it staged.
        """
        asked = self.abandon()
        if not self._head.upload_id or self._generation != GATE.generation:
            return
        stream = self._stream
        if not asked or stream is None or not stream.wait(_PAUSE_S) or stream.failed():
            with suppress(WorkspaceError):
                self._connection.resume(self._drop, lambda: 0)

    def abandon(self) -> bool:
        """Like abort(), but without waiting for the server.

        Returns whether an open stream could ask the server to drop the upload.
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
        stub.write_whole(head.SerializeToString(), timeout=_CALL_S)

    def _keep_rest(self) -> None:
        if self._pending:
            self._keep(bytes(self._pending))
            self._pending.clear()

    def _keep(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._kept.append(chunk)
        self._size += len(chunk)
        # Hold the first chunk back until the next one or finish(), so that a small
        # file is one message.
        if self._size > len(chunk):
            while not self._push(finish=False, at_most=_KEPT_BYTES):
                pass

    def _push(self, finish: bool, at_most: int) -> bool:
        """Sends the unsent chunks until at most `at_most` bytes are kept.

        Returns False if the stream ended before that: call again.
        """
        if self._generation != GATE.generation:
            raise WorkspaceError(
                "The file was opened for writing by the parent of this forked process; "
                "only the parent can continue",
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
                self._send_whole(stub)
            staged = self._acknowledged == self._size and not finish
            if staged or self._artifact is not None:
                return True
            self._stream = _Stream(stub, self._acknowledged)
            GATE.watch(self._stream)
        stream = self._stream
        sent = all(stream.put(message) for message in self._unsent(finish))
        if sent and finish:
            self._artifact = self._end_stream().artifact
            return True
        if sent and self._await_acknowledged(stream, at_most):
            return True
        self._end_stream()
        return False

    def _send_whole(self, stub: Stub) -> None:
        """Sends the whole file, or the rest of it, as a call of one message.

        Such a call gets one response, so it can be unary, which spares the threads of
        a stream: most files are small.
        """
        self._resumes = True
        (message,) = self._unsent(finish=True)
        self._artifact = stub.write_whole(message, timeout=_CALL_S).artifact

    def _end_stream(self) -> pb.WriteArtifactResponse:
        """Waits for the stream to end and returns its last response.

        Raises grpc.RpcError. The next message opens another stream.
        """
        assert self._stream is not None
        stream, self._stream = self._stream, None
        self._resumes = True
        try:
            return stream.result()
        finally:
            self._take_acknowledged(stream)

    def _find_offset(self, stub: Stub) -> None:
        """Finds the offset of the next stream, or that the file is finished."""
        # A small file has an id, too: resending it without one after a lost response
        # could replace a newer file.
        if not self._head.upload_id:
            self._head.upload_id = str(uuid.uuid4())
        self._acknowledged = self._staged(stub) if self._resumes else 0
        if self._artifact is not None:
            return
        if self._acknowledged < self._kept_from:
            raise WorkspaceError(
                f"{self._head.path}: the server has lost bytes that it had "
                "acknowledged; write the file again",
                details={
                    "reason": "UPLOAD_NOT_FOUND",
                    "code": "NOT_FOUND",
                    "upload_id": self._head.upload_id,
                },
            )
        self._head.offset = self._sent = self._acknowledged

    def _unsent(self, finish: bool) -> Iterator[bytes]:
        """Yields the messages that the stream still needs.

        The first message of a stream carries the fields that only it may have.
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

    def _await_acknowledged(self, stream: _Stream, at_most: int) -> bool:
        """Waits until at most `at_most` bytes lack an acknowledgement.

        Returns False if the stream ends before.
        """
        if at_most == 0:
            stream.put(b"")  # An empty message asks for an acknowledgement at once.
        reached = stream.wait_acknowledged(self._size - at_most)
        self._take_acknowledged(stream)
        return reached

    def _take_acknowledged(self, stream: _Stream) -> None:
        """Releases the chunks that the server has acknowledged."""
        self._acknowledged = max(self._acknowledged, stream.acknowledged)
        while self._kept and self._kept_from + len(self._kept[0]) <= self._acknowledged:
            self._kept_from += len(self._kept.popleft())

    def _staged(self, stub: Stub) -> int:
        request = pb.GetUploadRequest(
            project=self._head.project, upload_id=self._head.upload_id
        )
        try:
            upload = stub.GetUpload(request, timeout=10)
        except grpc.RpcError as error:
            # The upload has not begun, or was swept.
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        if upload.HasField("artifact"):
            self._artifact = upload.artifact
        return upload.offset


class _Stream:
    """One WriteArtifact call: gRPC's thread takes the messages, a thread of this class
    takes the responses. Thread-safe.
    """

    def __init__(self, stub: Stub, offset: int) -> None:
        self._changed = threading.Condition()
        self._messages: deque[bytes] = deque()
        self._closed = False
        self._ended = False
        self._last = pb.WriteArtifactResponse(offset=offset)
        self._error: grpc.RpcError | None = None
        self._call = stub.write_data(iter(self), timeout=_CALL_S)
        threading.Thread(target=self._read, name="mlops-upload", daemon=True).start()

    @property
    def acknowledged(self) -> int:
        """Number of bytes of the file that the server has acknowledged."""
        return self._last.offset

    def put(self, message: bytes) -> bool:
        """Queues a message, waiting for room.

        Returns False if the call has ended or is closed.
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

    def wait_acknowledged(self, offset: int) -> bool:
        """Waits until the server has acknowledged `offset` bytes.

        Returns False if the call ends before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self.acknowledged >= offset)
            return self.acknowledged >= offset

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end of the call and returns whether it has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout_s)

    def result(self) -> pb.WriteArtifactResponse:
        """Waits for the end of the call and returns its last response.

        Raises grpc.RpcError.
        """
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._ended)
        finally:
            self._call.cancel()  # No-op unless the wait was interrupted.
        if self._error is not None:
            raise self._error
        return self._last

    def failed(self) -> bool:
        """Returns whether the call, which has ended, ended with an error."""
        return self._error is not None

    def pause(self) -> None:
        """Ends the call before a fork. The server keeps what it has staged."""
        self.close()
        if not self.wait(_PAUSE_S):
            self._call.cancel()
            self.wait(_PAUSE_S)

    def close(self, last: pb.WriteArtifactRequest | None = None) -> bool:
        """Ends the stream after the queued messages and `last`, without waiting.

        Returns False if it was closed before.
        """
        with self._changed:
            was_open = not self._closed
            if last is not None and was_open:
                self._messages.append(last.SerializeToString())
            self._closed = True
            self._changed.notify_all()
            return was_open

    def _read(self) -> None:
        """Takes every response: gRPC ends a call only once all of them are read."""
        error = None
        try:
            for response in self._call:
                with self._changed:
                    self._last = response
                    self._changed.notify_all()
        except grpc.RpcError as raised:
            error = raised
        with self._changed:
            self._error, self._closed, self._ended = error, True, True
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
