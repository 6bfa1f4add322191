"""The server that a workspace was read from."""

import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from google.protobuf.field_mask_pb2 import FieldMask

from mlops._rpc import convert
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.local_server import is_served_here
from mlops.workspace.lease import LeaseInfo
from mlops.workspace.v1 import workspace_service_pb2 as pb


@dataclass(frozen=True)
class Facts:
    """Properties of a workspace that are not fields of ProjectWorkspace."""

    uid: str = ""
    etag: str = ""
    deleted_at: datetime | None = None
    purged_at: datetime | None = None
    max_size_bytes: int | None = None
    max_file_count: int | None = None
    lease: LeaseInfo | None = None

    @classmethod
    def of(cls, message: pb.Workspace) -> Self:
        """Return what the server reported."""

        def time_of(name: Literal["delete_time", "purge_time"]) -> datetime | None:
            found = message.HasField(name)
            return convert.from_timestamp(getattr(message, name)) if found else None

        lease = None
        if message.HasField("lease"):
            lease = LeaseInfo.of(message.lease)
        return cls(
            uid=message.uid,
            etag=message.etag,
            deleted_at=time_of("delete_time"),
            purged_at=time_of("purge_time"),
            lease=lease,
            **convert.quotas_of(message),
        )


@dataclass(frozen=True, eq=False)
class Origin:
    """The connection to a workspace's server, and how that server was found.

    Thread-safe. `base` is the base directory on this machine by which the server was
    found, or None if the server was found by an address.
    """

    connection: Connection
    base: Path | None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return self: copies of a workspace share its connection."""
        return self

    def has(self, root: Path, project: str, directories: tuple[str, ...]) -> bool:
        """Return whether `root` on this machine is the server's directory.

        The server's directory is the one that it has for `project`. If the server was
        not found by its base directory, this method creates a temporary file in one of
        the `directories` and compares its etag with the one that the server reports for
        the same path.

        Raises:
            WorkspaceError: The server does not answer.
        """
        if self.base is not None and is_served_here(self.base):
            return True
        if not os.path.isfile(root / "workspace.yaml"):
            # Create nothing in a directory that is not a workspace.
            return False
        for name in directories:
            if os.path.isdir(root / name) and not os.path.islink(root / name):
                return self._sees_new_file(
                    root, project, f"{name}/.is-this-here-{uuid.uuid4().hex}"
                )
        return False

    def _sees_new_file(self, root: Path, project: str, path: str) -> bool:
        """Return whether the server sees a file that this process creates at `path`."""
        try:
            descriptor = os.open(
                root / path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o644
            )
        except OSError:
            return False
        try:
            request = pb.GetArtifactRequest(project=project, path=path)
            artifact = self.connection.call(request)
            # Compare the identity of the file, because the server may have another
            # directory of the same name.
            return bool(artifact.etag == convert.etag_of(os.fstat(descriptor)))
        except WorkspaceError as error:
            # These codes mean that the server has no such project or file. Any other
            # error leaves the question open.
            if error.details["code"] not in ("NOT_FOUND", "FAILED_PRECONDITION"):
                raise
            return False
        finally:
            os.close(descriptor)
            (root / path).unlink(missing_ok=True)

    def save(self, workspace: pb.Workspace) -> None:
        """Set all settings and the metadata of a workspace, creating it if missing.

        Settings that are absent from `workspace` are cleared.

        Raises:
            WorkspaceError: The server refused the update or does not answer.
        """
        everything = FieldMask(paths=[*convert.SETTINGS, "metadata"])
        request = pb.UpdateWorkspaceRequest(
            workspace=workspace, update_mask=everything, allow_missing=True
        )
        self.connection.call(request)

    def ensure(self, workspace: pb.Workspace, directories: tuple[str, ...]) -> None:
        """Create the workspace and the `directories` in it if they are missing.

        Raises:
            WorkspaceError: The server refused a call or does not answer.
        """
        ensure = pb.EnsureWorkspaceRequest(
            project=workspace.project, workspace=workspace
        )
        self.connection.call(ensure)
        for name in directories:
            make = pb.MakeDirectoryRequest(project=workspace.project, path=name)
            self.connection.call(make)
