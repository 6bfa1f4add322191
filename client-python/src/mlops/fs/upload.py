"""The life of an upload: begun, resumed, finished or discarded."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import grpc

from mlops._rpc.channel import STREAM_S
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE
from mlops._rpc.stub import Stub
from mlops.workspace.v1 import workspace_service_pb2 as pb

Result = TypeVar("Result")
_FIND_S = 10.0


class Upload:
    """One upload, as the server knows it by its id.

    ByWire sends its bytes, or put_by_path() copies them. Not thread-safe. After a
    fork, only the parent process can continue.
    """

    def __init__(
        self, connection: Connection, project: str, path: str, create_only: bool = False
    ) -> None:
        # A small file has an id, too: resending it without one after a lost response
        # could replace a newer file. The id is new, so no other client writes to it.
        self.head = pb.WriteArtifactRequest(
            project=project,
            path=path,
            create_only=create_only,
            upload_id=str(uuid.uuid4()),
        )
        self.artifact: pb.Artifact | None = None  # Set once the upload is finished.
        self._connection = connection
        self._generation = GATE.generation
        self._begun = False  # Whether an earlier call may have sent something.

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked since the upload was created."""
        return self._generation != GATE.generation

    def resume(
        self, do: Callable[[Stub], Result], progress: Callable[[], int], begun: bool
    ) -> Result:
        """Call `do` until it succeeds, as Connection.resume() does.

        Raises:
            WorkspaceError: The upload failed; FAILED_PRECONDITION if it belongs to the
                parent of this forked process; LEASE_LOST.
        """
        if self.is_inherited:
            raise WorkspaceError(
                "The file was opened for writing by the parent of this forked process; "
                "only the parent can continue",
                details={"reason": "", "code": "FAILED_PRECONDITION"},
            )
        # The lease may have begun after the file was opened.
        self.head.fence = self._connection.leases.fence(self.head.project)
        return self._connection.resume(do, progress, begun)

    def begin(self) -> None:
        """Create the upload at the server, without any bytes.

        Raises:
            WorkspaceError: The server refuses the upload.
        """
        self._begun = True
        self.resume(self._send_head, lambda: 0, begun=False)

    def staged(self) -> pb.Upload:
        """Return the server's state of the upload.

        Raises:
            WorkspaceError: The server does not know the upload.
        """
        found: pb.Upload = self._connection.call(self._query())
        return found

    def find_offset(self, stub: Stub) -> int:
        """Return where to resume; set `artifact` if the upload is already finished."""
        if not self._begun:
            self._begun = True
            return 0
        try:
            found = stub.GetUpload(self._query(), timeout=_FIND_S)
        except grpc.RpcError as error:
            # The upload has not begun, or was swept.
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return 0
            raise
        if found.HasField("artifact"):
            self.artifact = found.artifact
        return found.offset

    def finish(self, stub: Stub, message: bytes) -> None:
        """Finish with one message, which holds all bytes that the server lacks.

        Such a call gets one response, so it can be unary, which avoids the threads of a
        stream. Most files are small.
        """
        self.artifact = stub.write_whole(message, timeout=STREAM_S).artifact

    def discard(self) -> None:
        """Drop the upload and leave the old file, if any, unchanged.

        Best effort: the server later sweeps an upload that is left.
        """
        if self._begun and not self.is_inherited:
            with suppress(WorkspaceError):
                self._connection.resume(self._send_discard, lambda: 0)

    def _send_head(self, stub: Stub) -> None:
        stub.write_whole(self.head.SerializeToString(), timeout=STREAM_S)

    def _send_discard(self, stub: Stub) -> None:
        message = pb.WriteArtifactRequest(
            project=self.head.project,
            path=self.head.path,
            upload_id=self.head.upload_id,
            fence=self.head.fence,
            discard=True,
        )
        stub.write_whole(message.SerializeToString(), timeout=STREAM_S)

    def _query(self) -> pb.GetUploadRequest:
        return pb.GetUploadRequest(
            project=self.head.project, upload_id=self.head.upload_id
        )
