"""Reads a file over the connection, resuming after its loss."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import threading
import time
from typing import Self, TypeAlias
from weakref import WeakSet

import grpc

from mlops._rpc.channel import STREAM_S
from mlops._rpc.connection import Connection
from mlops._rpc.fork_gate import GATE, PAUSE_S
from mlops._rpc.stub import Stub
from mlops.workspace.v1 import workspace_service_pb2 as pb

# End a call after this time without a read, because the server limits their number.
_IDLE_S = 5.0
_NOTHING = memoryview(b"")

_Call: TypeAlias = "grpc._CallIterator[memoryview | pb.ReadArtifactResponse]"


class Download:
    """A range of a file as an iterator of pieces of up to some MiB.

    gRPC's flow control bounds what arrives ahead of the reader. After a lost
    connection, a fork, or some seconds without a read, the download resumes where it
    was, with the same version of the file. Only one thread at a time may read.
    """

    def __init__(
        self,
        connection: Connection,
        project: str,
        path: str,
        start: int = 0,
        end: int | None = None,
        etag: str = "",
    ) -> None:
        """Prepare to read bytes `start` to `end`, or to the end of the file."""
        self.artifact: pb.Artifact | None = None  # Known after the first read.
        self._connection = connection
        self._request = pb.ReadArtifactRequest(
            project=project, path=path, offset=start, etag=etag
        )
        self._end = end
        self._begun = bool(etag)
        self._call: _Call | None = None
        self._ended = threading.Event()  # Set when the call has ended.
        self._reading = False
        self._read_time = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> memoryview:
        """Return the next piece.

        The last piece is returned only after the server has confirmed that all pieces
        are of one version.

        Raises:
            WorkspaceError: ETAG_MISMATCH if the file was replaced meanwhile,
                OFFSET_OUT_OF_RANGE if it ends before `start`.
        """
        self._reading = True
        try:
            piece = self._connection.resume(self._receive, self._offset, self._begun)
        finally:
            self._reading, self._read_time = False, time.monotonic()
        self._begun = True
        if not piece:
            raise StopIteration
        return piece

    def pause(self) -> None:
        """End the call, within seconds; the next read begins another one.

        Thread-safe, for callers inside the gate.
        """
        if self.close():
            self._ended.wait(PAUSE_S)

    def close(self) -> bool:
        """End the call without waiting; return whether there was one."""
        call, self._call = self._call, None
        return call is not None and call.cancel()

    def pause_if_idle(self) -> bool:
        """Pause if nothing was read for some seconds; return whether a call is left."""
        if not self._reading and time.monotonic() - self._read_time > _IDLE_S:
            self.pause()
        return self._call is not None

    def _offset(self) -> int:
        return self._request.offset

    def _receive(self, stub: Stub) -> memoryview:
        while self._end is None or self._request.offset < self._end:
            message = self._next_message(stub)
            if message is None:
                continue
            # A later server may send data with fields that are not known here.
            piece = (
                message if isinstance(message, memoryview) else self._unpack(message)
            )
            if piece:
                if self._end == self._request.offset + len(piece):
                    # No message follows: this waits for the end of the call, or for its
                    # error.
                    self._next_message(stub)
                self._request.offset += len(piece)
                return piece
        self.close()
        return _NOTHING

    def _unpack(self, message: pb.ReadArtifactResponse) -> memoryview:
        """Record the version, which the first message names, and return the data."""
        if message.HasField("artifact"):
            # Later calls request this version.
            self.artifact = message.artifact
            self._request.etag = message.artifact.etag
            size = message.artifact.size_bytes
            self._end = size if self._end is None else min(self._end, size)
        return memoryview(message.data)

    def _next_message(self, stub: Stub) -> memoryview | pb.ReadArtifactResponse | None:
        call = self._call or self._begin(stub)
        message = None
        try:
            message = next(call, None)
        finally:
            if message is None:
                self.close()
        return message

    def _begin(self, stub: Stub) -> _Call:
        self._request.limit = (
            0 if self._end is None else self._end - self._request.offset
        )
        call = stub.read_data(self._request, timeout=STREAM_S)
        ended = self._ended = threading.Event()
        if not call.add_callback(ended.set):
            ended.set()
        self._call = call
        GATE.watch(self)
        _IDLE.watch(self)
        return call


class _Idle:
    """Pauses downloads that are not read. Its thread runs while calls are open."""

    def __init__(self) -> None:
        # Acquired only inside the gate, so that it is never locked in a forked child.
        self._lock = threading.Lock()
        self._downloads: WeakSet[Download] = WeakSet()
        self._runs_in = -1  # The process of the thread, as the gate's generation.

    def watch(self, download: Download) -> None:
        """Watch a download. The caller is inside the gate."""
        with self._lock:
            self._downloads.add(download)
            if self._runs_in != GATE.generation:
                self._runs_in = GATE.generation
                threading.Thread(
                    target=self._run, name="mlops-idle-downloads", daemon=True
                ).start()

    def _run(self) -> None:
        while True:
            time.sleep(_IDLE_S / 4)
            with GATE, self._lock:
                for download in list(self._downloads):
                    if not download.pause_if_idle():
                        self._downloads.discard(download)
                if not self._downloads:
                    self._runs_in = -1
                    return


_IDLE = _Idle()
