"""WatchWorkspaces across lost connections, server restarts and forks."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import grpc

from mlops._rpc import errors
from mlops._rpc.connection import Connection, is_passing
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE, PAUSE_S
from mlops.workspace.v1 import workspace_service_pb2 as pb

_log = logging.getLogger(__name__)
# Limit of buffered responses, besides one batch. Further responses wait at the server,
# which combines them.
_QUEUED = 64
# An idle server sends a response every 10 s. After this time without one, the
# connection is dead.
_SILENCE_S = 60.0
# How long to retry the first connection. Later connections are retried forever.
_BEGIN_S = 3.0
_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_EXPIRED = "RESUME_TOKEN_EXPIRED"


class _Stream:
    """One call. A thread reads its responses, so that callers can wait with a timeout.

    It waits outside the gate, so it does not delay a fork. Thread-safe.
    """

    def __init__(self, call: Any, link: Any) -> None:
        self.link = link
        self.generation = GATE.generation
        self._call = call
        self._changed = threading.Condition()
        self._responses: deque[pb.WatchWorkspacesResponse] = deque()
        self._closed = False
        self._ended = False
        self._error: grpc.RpcError | None = None
        self._thread = threading.Thread(
            target=self._read, name="mlops-watch", daemon=True
        )
        self._thread.start()
        _running.add(self)

    def take(self, timeout_s: float) -> pb.WatchWorkspacesResponse | None:
        """Wait for the next response; return None if none came in time.

        Raises:
            WorkspaceError: The call has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._responses or self._ended, timeout_s)
            if self._responses:
                self._changed.notify_all()
                return self._responses.popleft()
            if not self._ended:
                return None
            if self._error is None:
                raise errors.unavailable("The server ended a watch")
            raise errors.from_rpc(self._error, self.link.address) from self._error

    def pause(self) -> None:
        """End the call before a fork. A later call resumes after the last response."""
        self.close()
        self._thread.join(PAUSE_S)

    def close(self) -> None:
        """End the call, without waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._call.cancel()

    def _read(self) -> None:
        error = None
        try:
            for response in self._call:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._closed or len(self._responses) < _QUEUED
                    )
                    # Servers of earlier releases do not batch responses.
                    self._responses.extend(response.batch or [response])
                    self._changed.notify_all()
        except grpc.RpcError as raised:
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()


_running: weakref.WeakSet[_Stream] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End the open streams at exit: gRPC can hang in a call that outlives Python."""
    for stream in list(_running):
        if stream.generation == GATE.generation:
            stream.pause()


class Watch:
    """An endless sequence of responses of WatchWorkspaces.

    Resumes after the last response when the connection is lost, the server restarts,
    or the process forks; then parent and child both continue. Not thread-safe, except
    close(). Close it, for example with contextlib.closing().
    """

    def __init__(
        self,
        connection: Connection,
        projects: Collection[str] = (),
        resume_token: str = "",
    ) -> None:
        """Prepare a watch of these projects, or of all; read() connects.

        Args:
            resume_token: Where to begin; "" begins with all existing workspaces.
        """
        self.resume_token = resume_token
        self._connection = connection
        self._projects = tuple(projects)
        self._stream: _Stream | None = None
        self._closed = False
        # Whether any response has arrived, and whether one has since the last error.
        self._begun = self._well = False
        self._pause_s = _PAUSE_S

    def read(self, timeout_s: float | None = None) -> pb.WatchWorkspacesResponse | None:
        """Wait for the next response, by default without a limit.

        Returns None after `timeout_s`, or if the watch is closed.

        Raises:
            WorkspaceError: RESUME_TOKEN_EXPIRED if responses may have been missed; the
                next read() begins with all existing workspaces. UNAVAILABLE if no
                server answered since the watch began. Any other error that a retry
                cannot fix.
        """
        now = time.monotonic()
        give_up = None if timeout_s is None else now + timeout_s
        begin_until = now + _BEGIN_S
        while not self._closed:
            left = _SILENCE_S if give_up is None else give_up - time.monotonic()
            try:
                stream = self._open()
                response = stream.take(min(max(left, 0), _SILENCE_S))
            except WorkspaceError as error:
                # close() in another thread also ends the stream.
                if self._closed:
                    break
                self._recover(error, begin_until)
                if give_up is not None and time.monotonic() > give_up:
                    return None
                continue
            if response is not None:
                self._begun = self._well = True
                self._pause_s = _PAUSE_S
                self.resume_token = response.resume_token
                return response
            # The caller's limit ended the wait, which says nothing about the server.
            if left < _SILENCE_S:
                return None
            _log.warning("The server at %s is silent", stream.link.address)
            self._lose()
        return None

    def until(self, deadline: float) -> Iterator[pb.WatchWorkspacesResponse]:
        """Yield responses until `deadline`, a time of time.monotonic().

        Restarts with all existing workspaces if responses may have been missed.

        Raises:
            WorkspaceError: As read(), except RESUME_TOKEN_EXPIRED.
        """
        while (left := deadline - time.monotonic()) > 0:
            try:
                response = self.read(left)
            except WorkspaceError as error:
                if error.details["reason"] != _EXPIRED:
                    raise
                continue
            if response is None:
                return
            yield response

    def close(self) -> None:
        """End the watch. A read() of another thread returns None."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None and stream.generation == GATE.generation:
            stream.close()

    def _open(self) -> _Stream:
        stream = self._stream
        # The thread of a stream does not exist in a forked child.
        if stream is not None and stream.generation == GATE.generation:
            return stream
        request = pb.WatchWorkspacesRequest(
            projects=self._projects, resume_token=self.resume_token, batched=True
        )
        self._stream = stream = self._connection.begin(request, _Stream)
        if self._closed:
            self.close()
        return stream

    def _recover(self, error: WorkspaceError, begin_until: float) -> None:
        """Prepare to reconnect after a transient error; raise any other error."""
        well, self._well = self._well, False
        self._lose()
        if error.details["reason"] == _EXPIRED:
            self.resume_token = ""
            raise error
        # Credentials may have been replaced since the watch began.
        if error.details["code"] == "UNAUTHENTICATED" and well:
            return
        if not is_passing(error) or (
            not self._begun and time.monotonic() > begin_until
        ):
            raise error
        if well:
            return
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)

    def _lose(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and stream.generation == GATE.generation:
            stream.close()
            self._connection.lose(stream.link)
