"""Paths in workspaces, and the server's descriptions as fsspec's dictionaries."""

from typing import Any

from mlops._rpc import convert
from mlops.workspace.v1 import workspace_service_pb2 as pb

Info = dict[str, Any]


def split(path: str) -> tuple[str, str]:
    """Split a path into the project and the path within it; each may be empty."""
    project, _, inner = path.partition("/")
    return project, inner


def text(value: str) -> str:
    """Return a project or a path, checked.

    Raises:
        WorkspaceError: FIELD_INVALID if it cannot be sent as text.
    """
    return convert.check_text("path", value)


def directory_info(name: str, **more: Any) -> Info:
    """Return the properties of a directory."""
    return {"name": name, "size": 0, "type": "directory", **more}


def project_info(workspace: pb.Workspace) -> Info:
    """Return the properties of a project."""
    return directory_info(
        workspace.project,
        created=convert.from_timestamp(workspace.create_time),
        modified=convert.from_timestamp(workspace.update_time),
    )


def artifact_info(project: str, artifact: pb.Artifact) -> Info:
    """Return the properties of a file or directory in a project."""
    name = f"{project}/{artifact.path}"
    modified = convert.from_timestamp(artifact.modify_time)
    if artifact.directory:
        return directory_info(name, modified=modified)
    return {
        "name": name,
        "size": artifact.size_bytes,
        "type": "file",
        "modified": modified,
        "etag": artifact.etag,
    }
