"""Calls one server for the files of workspaces, and reports failures as OSErrors."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.fs.by_wire import ByWire
from mlops.fs.download import Download
from mlops.fs.entries import (
    Info,
    artifact_info,
    directory_info,
    project_info,
    split,
    text,
)
from mlops.fs.errors import lookup_errors, os_error, os_errors
from mlops.fs.upload import Upload
from mlops.workspace.v1 import workspace_service_pb2 as pb

_PAGE_SIZE = 1000
_ABSENT = (FileNotFoundError, NotADirectoryError)


class Artifacts:
    """The files of all workspaces of one server.

    Paths are `<project>/<directory>/<path>`; the root is "". Failures are OSErrors.
    Thread-safe.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    # --- Entries ---

    def info(self, path: str) -> Info:
        """Return the properties of an entry; see WorkspaceFileSystem.info().

        Raises:
            FileNotFoundError: There is no such entry.
        """
        project, inner = split(path)
        if not project:
            return directory_info("")
        with lookup_errors(path):
            if inner:
                return artifact_info(project, self._call(pb.GetArtifactRequest, path))
            request = pb.GetWorkspaceRequest(project=text(project))
            return project_info(self.connection.call(request))

    def find(self, path: str) -> Info | None:
        """Return info(), or None if there is no such entry."""
        try:
            return self.info(path)
        except _ABSENT:
            return None

    def kind(self, path: str) -> str | None:
        """Return "file" or "directory", or None if there is no such entry."""
        info = self.find(path)
        return None if info is None else str(info["type"])

    def file_info(self, path: str, etag: str | None = None) -> Info:
        """Return info() of a file.

        Raises:
            IsADirectoryError: It is a directory.
            OSError: ESTALE if `etag` is given and differs from the file's.
        """
        info = self.info(path)
        if info["type"] != "file":
            raise os_error(errno.EISDIR, path)
        if etag and info["etag"] != etag:
            raise os_error(
                errno.ESTALE, path, f"The file was replaced: its etag is not {etag}"
            )
        return info

    def projects(self) -> Iterator[Info]:
        """Yield info() of each project in lexicographic order."""
        request = pb.ListWorkspacesRequest(page_size=_PAGE_SIZE)
        with os_errors(""):
            for page in self.connection.pages(request):
                yield from map(project_info, page.workspaces)

    def entries(self, path: str, recursive: bool) -> Iterator[Info]:
        """Yield info() of each entry in a project's directory.

        Raises:
            FileNotFoundError: There is no such entry.
            NotADirectoryError: It is a file.
        """
        project, inner = split(path)
        with os_errors(project):
            request = pb.ListArtifactsRequest(
                project=text(project),
                path=text(inner),
                recursive=recursive,
                page_size=_PAGE_SIZE,
            )
        with lookup_errors(path):
            for page in self.connection.pages(request):
                for artifact in page.artifacts:
                    yield artifact_info(project, artifact)

    def copy(self, source: str, target: str) -> None:
        """Copy a file within a project."""
        with lookup_errors(source):
            to = text(split(target)[1])
            self._call(pb.CopyArtifactRequest, source, destination_path=to)

    def move(self, source: str, target: str) -> None:
        """Move a file or directory within a project, atomically."""
        with os_errors(source):
            to = text(split(target)[1])
            self._call(pb.MoveArtifactRequest, source, destination_path=to)

    def delete(self, path: str, force: bool) -> None:
        """Delete a file or an empty directory; with `force`, also any other directory.

        Raises:
            PermissionError: The path is a project.
        """
        if not split(path)[1]:
            raise os_error(
                errno.EPERM,
                path,
                "Only WorkspaceManager.delete_workspace() can delete a workspace",
            )
        with os_errors(path):
            self._call(pb.DeleteArtifactRequest, path, force=force)

    def make_directory(self, path: str) -> None:
        """Create a directory and its missing parents. No-op if it exists."""
        with os_errors(path):
            self._call(pb.MakeDirectoryRequest, path)

    # --- Contents ---

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of a file as hexadecimal digits."""
        self._file(path)
        with lookup_errors(path):
            return str(self._call(pb.GetArtifactRequest, path, checksum=True).sha256)

    def download(
        self, path: str, start: int = 0, end: int | None = None, etag: str = ""
    ) -> Download:
        """Return a Download, whose errors are WorkspaceErrors."""
        return Download(self.connection, *self._file(path), start, end, etag)

    def read(
        self, path: str, start: int = 0, end: int | None = None, etag: str = ""
    ) -> bytes:
        """Return the bytes `start` to `end` of a file, fewer if it ends before."""
        download = self.download(path, start, end, etag)
        if end is not None and end <= start:
            return b""
        with lookup_errors(path):
            try:
                return b"".join(download)
            except WorkspaceError as error:
                # A range that begins after the end of the file is empty.
                if error.details["reason"] == "OFFSET_OUT_OF_RANGE":
                    return b""
                raise

    def upload(self, path: str, create_only: bool) -> Upload:
        """Return a new Upload, whose errors are WorkspaceErrors."""
        return Upload(self.connection, *self._file(path), create_only)

    def write(
        self, path: str, send: Callable[[ByWire], object], create_only: bool
    ) -> None:
        """Write a whole file, whose bytes `send` writes."""
        writer = ByWire(self.upload(path, create_only))
        try:
            with os_errors(path):
                send(writer)
                writer.finish()
        except BaseException:
            writer.discard()
            raise

    def check_writable(self, path: str, create_only: bool) -> None:
        """Raise early what the server would report only after all data is sent."""
        try:
            info = self.info(path)
        except FileNotFoundError as error:
            # The workspace must exist.
            if not _lacks_only_artifact(error):
                raise
            return
        if info["type"] == "directory":
            raise os_error(errno.EISDIR, path)
        if create_only:
            raise os_error(errno.EEXIST, path)

    def _call(self, request: Callable[..., Message], path: str, **fields: Any) -> Any:
        """Call the method that takes this request, for `path`."""
        project, inner = split(path)
        return self.connection.call(
            request(project=text(project), path=text(inner), **fields)
        )

    def _file(self, path: str) -> tuple[str, str]:
        """Return the project and the path in it for a path that must be a file."""
        project, inner = split(path)
        if not inner:
            self.info(path)
            raise os_error(errno.EISDIR, path)
        with os_errors(path):
            return text(project), text(inner)


def _lacks_only_artifact(error: FileNotFoundError) -> bool:
    cause = error.__cause__
    return (
        isinstance(cause, WorkspaceError)
        and cause.details["reason"] == "ARTIFACT_NOT_FOUND"
    )
