"""MLflow artifacts in workspaces, at locations `workspace://<project>/…`."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
)
from mlflow.store.artifact.artifact_repo import ArtifactRepository

if TYPE_CHECKING:
    from mlops.fs import WorkspaceFileSystem
    from mlops.workspace import ProjectWorkspace

# The workspaces of artifacts_of() by project, in this thread or task.
_workspaces: ContextVar[Mapping[str, ProjectWorkspace]] = ContextVar(
    "mlops_artifact_workspaces"
)


@contextmanager
def artifacts_of(workspace: ProjectWorkspace) -> Iterator[None]:
    """Access a workspace's artifacts through its own server within the block.

    Applies to MLflow's calls in this thread or task, for example `with
    artifacts_of(client.workspace): mlflow.sklearn.load_model(…)`. MLOpsClient does this
    itself.
    """
    token = _workspaces.set({**_workspaces.get({}), workspace.project_name: workspace})
    try:
        yield
    finally:
        _workspaces.reset(token)


class WorkspaceArtifactRepository(ArtifactRepository):  # type: ignore[misc]
    """MLflow's artifact repository on top of WorkspaceFileSystem. Needs the extra `fs`.

    Within artifacts_of(), the server is that of the workspace. Otherwise it is found as
    by WorkspaceManager(): by MLOPS_WORKSPACE_ADDRESS, or below the working directory.
    MLflow caches the repository of a run, so it keeps the server that it used last.
    Thread-safe.
    """

    def __init__(
        self,
        artifact_uri: str,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._root = artifact_uri.removeprefix("workspace://").strip("/")
        self._workspace: ProjectWorkspace | None = None
        self._files: WorkspaceFileSystem | None = None

    @property
    def _fs(self) -> WorkspaceFileSystem:
        """The file system of all workspaces.

        MLflow's own threads have no context, so they use what was set by the thread
        that started them.
        """
        said = _workspaces.get({}).get(self._root.partition("/")[0])
        if said is not None and said is not self._workspace:
            self._files, self._workspace = said.files.fs, said
        if self._files is None:
            # Import late: MLflow loads this module wherever the package is installed.
            from mlops.fs import WorkspaceFileSystem

            self._files = WorkspaceFileSystem()
        return self._files

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Copy a file into `artifact_path`."""
        _check_unique(artifact_path)
        self._fs.put_file(
            local_file,
            posixpath.join(self._at(artifact_path), os.path.basename(local_file)),
        )

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Copy the contents of a directory into `artifact_path`."""
        _check_unique(artifact_path)
        self._fs.makedirs(self._at(artifact_path), exist_ok=True)
        # The slash means the contents of the directory instead of the directory.
        source, target = os.path.join(local_dir, ""), self._at(artifact_path) + "/"
        self._fs.put(source, target, recursive=True, assume_literal=True)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List a directory; the list is empty for a file or a missing entry."""
        directory = self._at(path)
        try:
            found: list[dict[str, Any]] = self._fs.ls(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [
            FileInfo(
                posixpath.relpath(info["name"], self._root),
                info["type"] == "directory",
                info["size"] if info["type"] == "file" else None,
            )
            for info in found
            if info["name"] != directory
        ]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or a directory tree. No-op if it is missing."""
        # A name must never become a pattern, even if another client deletes the file
        # first.
        with suppress(FileNotFoundError, NotADirectoryError):
            self._fs.rm(self._at(artifact_path), recursive=True, assume_literal=True)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        try:
            self._fs.get_file(self._at(remote_file_path), local_path)
        except FileNotFoundError as error:
            raise MlflowException(
                f"No such artifact: {remote_file_path}", RESOURCE_DOES_NOT_EXIST
            ) from error

    def _at(self, path: str | None) -> str:
        """Return the path below the root, checked.

        MLflow's server passes on paths from its clients.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE if the path leads out of the root.
        """
        if path and (path.startswith("/") or ".." in PurePosixPath(path).parts):
            raise MlflowException(f"Invalid path: {path}", INVALID_PARAMETER_VALUE)
        return (
            posixpath.normpath(posixpath.join(self._root, path)) if path else self._root
        )


def _check_unique(path: str | None) -> None:
    """Check that a path to write to is normalized, as MLflow's own repositories do.

    Raises:
        MlflowException: INVALID_PARAMETER_VALUE if it is not.
    """
    if path and posixpath.normpath(path) != path:
        raise MlflowException(
            f"Invalid artifact path: {path!r} is not normalized; "
            f"use {posixpath.normpath(path)!r}",
            INVALID_PARAMETER_VALUE,
        )
