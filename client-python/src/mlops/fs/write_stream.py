"""A stream of messages to WriteArtifact."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import grpc

from mlops._rpc.channel import STREAM_S
from mlops._rpc.fork_gate import PAUSE_S
from mlops._rpc.stub import Stub
from mlops.workspace.v1 import workspace_service_pb2 as pb

_QUEUED_MESSAGES = 2


class WriteStream:
    """One call: gRPC's thread takes the messages, a thread of this class the responses.

    Thread-safe.
    """

    def __init__(self, stub: Stub, offset: int) -> None:
        self._changed = threading.Condition()
        self._messages: deque[bytes] = deque()
        self._closed = False
        self._ended = False
        self._last = pb.WriteArtifactResponse(offset=offset)
        self._error: grpc.RpcError | None = None
        self._call = stub.write_data(iter(self), timeout=STREAM_S)
        threading.Thread(target=self._read, name="mlops-upload", daemon=True).start()

    @property
    def acknowledged(self) -> int:
        """Number of bytes of the file that the server has acknowledged."""
        return self._last.offset

    def put(self, message: bytes) -> bool:
        """Queue a message, waiting for room.

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
        """Wait until the server has acknowledged `offset` bytes.

        Returns False if the call ends before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self.acknowledged >= offset)
            return self.acknowledged >= offset

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the call; return whether it has ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout_s)

    def result(self) -> pb.WriteArtifactResponse:
        """Wait for the end of the call; return its last response.

        Raises:
            grpc.RpcError: The call failed.
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
        """Return whether the call, which has ended, ended with an error."""
        return self._error is not None

    def pause(self) -> None:
        """End the call before a fork. The server keeps what it has staged."""
        self.close()
        if not self.wait(PAUSE_S):
            self._call.cancel()
            self.wait(PAUSE_S)

    def close(self, last: pb.WriteArtifactRequest | None = None) -> bool:
        """End the stream after the queued messages and `last`, without waiting.

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
        """Take every response: gRPC ends a call only once all of them are read."""
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
