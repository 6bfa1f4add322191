"""The server that a workspace came from."""

import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from google.protobuf.field_mask_pb2 import FieldMask

from mlops._rpc import convert
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.local_server import is_served_here
from mlops.workspace.v1 import workspace_service_pb2 as pb


@dataclass(frozen=True)
class Facts:
    """What only the server knows of a workspace."""

    uid: str = ""
    etag: str = ""
    deleted_at: datetime | None = None
    purged_at: datetime | None = None


@dataclass(frozen=True, eq=False)
class Origin:
    """How to reach it, and by which directory of this machine it was found; None if by
    an address.

    Thread-safe.
    """

    connection: Connection
    base: Path | None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copies of a workspace share its connection."""
        return self

    def has(self, root: Path, project: str, directories: tuple[str, ...]) -> bool:
        """Whether `root`, on this machine, is the directory that the server has of
        `project`.

        Where the server was not found by the directory itself, a file is made for a
        moment in one of the `directories`: the server says, by its etag, whether it has
        that very file. Raises WorkspaceError if it does not answer.
        """
        if self.base is not None and is_served_here(self.base):
            return True
        if not os.path.isfile(root / "workspace.yaml"):
            return False  # Nothing is made in what is no workspace at all.
        for name in directories:
            if os.path.isdir(root / name) and not os.path.islink(root / name):
                return self._sees_new_file(
                    root, project, f"{name}/.is-this-here-{uuid.uuid4().hex}"
                )
        return False

    def _sees_new_file(self, root: Path, project: str, path: str) -> bool:
        try:
            descriptor = os.open(
                root / path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o644
            )
        except OSError:
            return False
        try:
            request = pb.GetArtifactRequest(project=project, path=path)
            artifact = self.connection.call(request)
            return bool(artifact.etag == convert.etag_of(os.fstat(descriptor)))
        except WorkspaceError as error:
            if error.details["code"] not in ("NOT_FOUND", "FAILED_PRECONDITION"):
                raise
            return False
        finally:
            os.close(descriptor)
            (root / path).unlink(missing_ok=True)

    def save(self, workspace: pb.Workspace) -> None:
        """Sets all settings and metadata; those that are absent are cleared. Makes the
        workspace if there is none.

        Raises WorkspaceError.
        """
        everything = FieldMask(paths=[*convert.SETTINGS, "metadata"])
        request = pb.UpdateWorkspaceRequest(
            workspace=workspace, update_mask=everything, allow_missing=True
        )
        self.connection.call(request)

    def ensure(self, workspace: pb.Workspace, directories: tuple[str, ...]) -> None:
        """Makes the workspace if there is none, and the `directories` in it that are
        missing.

        Raises WorkspaceError.
        """
        ensure = pb.EnsureWorkspaceRequest(
            project=workspace.project, workspace=workspace
        )
        self.connection.call(ensure)
        for name in directories:
            make = pb.MakeDirectoryRequest(project=workspace.project, path=name)
            self.connection.call(make)
