"""Moves an upload's bytes over the connection, and resumes after its loss."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE, PAUSE_S
from mlops._rpc.stub import Stub, build_data
from mlops.fs.kept import Kept, cut
from mlops.fs.upload import Upload
from mlops.fs.write_stream import WriteStream
from mlops.workspace.v1 import workspace_service_pb2 as pb

# Limit of unacknowledged bytes that are kept. It is several times what a server stages
# before it acknowledges, so that sending does not pause.
_KEPT_BYTES = 16 << 20


class ByWire:
    """Sends the bytes of an upload over the connection; finish() makes them visible.

    Keeps up to 16 MiB of the file in memory, and resumes at the server's offset after
    the connection or the server was lost. Not thread-safe. After a fork, only the
    parent process can continue.
    """

    def __init__(self, upload: Upload) -> None:
        """Prepare to send the bytes of a new upload."""
        self._upload = upload
        self._sha256 = hashlib.sha256()
        self._rest = bytearray()  # Less than a chunk.
        self._kept = Kept()
        self._stream: WriteStream | None = None
        self._sent = 0  # Offset up to which the file was passed to the stream.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes to the file and send every full chunk.

        Raises:
            WorkspaceError: The upload failed.
        """
        for chunk in cut(data, self._rest):
            self._keep(chunk)

    def flush(self) -> None:
        """Wait until the server has staged everything written so far.

        Raises:
            WorkspaceError: The upload failed.
        """
        self._keep_rest()
        while self._kept.acknowledged < self._kept.end:
            self._push(finish=False, at_most=0)

    def finish(self) -> pb.Artifact:
        """Make the file visible and return its description.

        Raises:
            WorkspaceError: The upload failed; the old file, if any, is unchanged.
        """
        self._keep_rest()
        while self._upload.artifact is None:
            self._push(finish=True, at_most=0)
        return self._upload.artifact

    def discard(self) -> None:
        """Drop the upload and leave the old file, if any, unchanged.

        Best effort, as Upload.discard().
        """
        stream = self._stream
        if not self.abandon() or stream is None or not _ended_well(stream):
            self._upload.discard()

    def abandon(self) -> bool:
        """Like discard(), but without waiting for the server.

        Returns whether an open stream could ask the server to drop the upload.
        """
        self._kept.clear()
        self._rest.clear()
        if self._stream is None or self._upload.is_inherited:
            return False
        return self._stream.close(pb.WriteArtifactRequest(discard=True))

    def _keep_rest(self) -> None:
        if self._rest:
            self._keep(bytes(self._rest))
            self._rest.clear()

    def _keep(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._kept.append(chunk)
        # Hold the first chunk back until the next one or finish(), so that a small
        # file is one message.
        if self._kept.end > len(chunk):
            while not self._push(finish=False, at_most=_KEPT_BYTES):
                pass

    def _push(self, finish: bool, at_most: int) -> bool:
        """Send the unsent chunks until at most `at_most` bytes are kept.

        Returns False if the stream ended before that: call again.
        """
        return self._upload.resume(
            lambda stub: self._send(stub, finish, at_most),
            lambda: self._kept.acknowledged,
            begun=self._sent > 0,
        )

    def _send(self, stub: Stub, finish: bool, at_most: int) -> bool:
        stream = self._stream or self._open(stub, finish)
        if stream is None:
            return True
        sent = all(stream.put(message) for message in self._unsent(finish))
        if sent and finish:
            self._upload.artifact = self._end_stream().artifact
            return True
        if sent and self._await_acknowledged(stream, at_most):
            return True
        self._end_stream()
        return False

    def _open(self, stub: Stub, finish: bool) -> WriteStream | None:
        """Open a stream that begins where the server's bytes end.

        Returns None if there is nothing left to stream.
        """
        offset = self._find_offset(stub)
        if self._upload.artifact is not None:
            return None
        if finish and self._kept.is_one_chunk():
            (message,) = self._unsent(finish=True)
            self._upload.finish(stub, message)
            return None
        if not finish and offset == self._kept.end:
            return None
        self._stream = WriteStream(stub, offset)
        GATE.watch(self._stream)
        return self._stream

    def _find_offset(self, stub: Stub) -> int:
        """Find the offset of the next stream, or that the file is finished."""
        head, offset = self._upload.head, self._upload.find_offset(stub)
        if self._upload.artifact is None and not self._kept.restart(offset):
            raise WorkspaceError(
                f"{head.path}: the server has lost bytes that it had acknowledged; "
                "write the file again",
                details={
                    "reason": "UPLOAD_NOT_FOUND",
                    "code": "NOT_FOUND",
                    "upload_id": head.upload_id,
                },
            )
        head.offset = self._sent = offset
        return offset

    def _end_stream(self) -> pb.WriteArtifactResponse:
        """Wait for the stream to end and return its last response.

        The next message opens another stream.

        Raises:
            grpc.RpcError: The stream failed.
        """
        assert self._stream is not None
        stream, self._stream = self._stream, None
        try:
            return stream.result()
        finally:
            self._kept.acknowledge(stream.acknowledged)

    def _unsent(self, finish: bool) -> Iterator[bytes]:
        """Yield the messages that the stream still needs.

        The first message of a stream carries the fields that only it may have.
        """
        head = pb.WriteArtifactRequest()
        if self._sent == self._upload.head.offset:
            head.CopyFrom(self._upload.head)
        # The last chunk and the end of the file share a message.
        last: bytes | None = None
        for chunk in self._kept.after(self._sent):
            if last is not None:
                yield build_data(head, last)
                head.Clear()
            last = chunk
            self._sent += len(chunk)
        if finish:
            head.finish, head.sha256 = True, self._sha256.hexdigest()
        if finish or last is not None:
            yield build_data(head, last or b"")

    def _await_acknowledged(self, stream: WriteStream, at_most: int) -> bool:
        """Wait until at most `at_most` bytes lack an acknowledgement.

        Returns False if the stream ends before.
        """
        if at_most == 0:
            stream.put(b"")  # An empty message asks for an acknowledgement at once.
        reached = stream.wait_acknowledged(self._kept.end - at_most)
        self._kept.acknowledge(stream.acknowledged)
        return reached


def _ended_well(stream: WriteStream) -> bool:
    return stream.wait(PAUSE_S) and not stream.failed()
