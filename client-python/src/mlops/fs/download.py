"""Reading a file over the wire, across losses of the connection."""

from collections.abc import Callable
from functools import partial

from mlops._rpc.connection import Connection
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

# One call reads so much: no process can fork while a call runs.
_SLICE_BYTES = 256 << 20
_CALL_S = 120.0


class Download:
    """A part of a file on its way here. After a loss it goes on where it was, with the same version of the file.
    Not thread-safe.
    """

    def __init__(
        self, connection: Connection, project: str, path: str, sink: Callable[[bytes], object], etag: str = ""
    ) -> None:
        """Has `sink` called with each piece, in order. It must make no calls itself."""
        self.artifact: pb.Artifact | None = None  # Known once something was read.
        self._connection = connection
        self._request = pb.ReadArtifactRequest(project=project, path=path, etag=etag)
        self._begun = bool(etag)
        self._sink = sink

    def run(self, start: int = 0, end: int | None = None) -> pb.Artifact:
        """Reads from `start` up to `end`, or to the end of the file if that comes first.

        Raises WorkspaceError ETAG_MISMATCH if the file is another one meanwhile, OFFSET_OUT_OF_RANGE if it ends before
        `start`.
        """
        self._request.offset = start
        while True:
            left = _SLICE_BYTES if end is None else min(_SLICE_BYTES, end - self._request.offset)
            stop = self._request.offset + left
            self._connection.resume(partial(self._read, stop), self._offset, self._begun)
            assert self.artifact is not None
            self._begun = True
            end = self.artifact.size_bytes if end is None else min(end, self.artifact.size_bytes)
            if self._request.offset >= end:
                return self.artifact

    def _offset(self) -> int:
        return self._request.offset

    def _read(self, stop: int, stub: WorkspaceServiceStub) -> None:
        self._request.limit = stop - self._request.offset
        if not self._request.limit:  # All came, and only then the connection was lost.
            return
        call = stub.ReadArtifact(self._request, timeout=_CALL_S)
        try:
            for message in call:
                if message.HasField("artifact"):
                    self.artifact = message.artifact
                    self._request.etag = message.artifact.etag
                else:
                    self._sink(message.data)
                    self._request.offset += len(message.data)
        finally:
            call.cancel()


def read(
    connection: Connection, project: str, path: str, start: int = 0, end: int | None = None, etag: str = ""
) -> bytes:
    """Bytes `start` to `end` of a file, fewer if it ends before. Raises WorkspaceError."""
    if end is not None and end <= start:
        return b""
    pieces: list[bytes] = []
    Download(connection, project, path, pieces.append, etag).run(start, end)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
