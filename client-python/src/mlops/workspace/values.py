"""The values that WorkspaceManager returns beside workspaces."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from mlops._rpc import convert, errors
from mlops.workspace.html import html_table
from mlops.workspace.v1 import workspace_service_pb2 as pb


@dataclass(frozen=True)
class Deletion:
    """The files and bytes that a deletion freed, or would free."""

    project_name: str
    uid: str
    file_count: int
    size_bytes: int
    purged: bool  # Whether the files are removed for good.

    @classmethod
    def from_message(cls, message: pb.DeleteWorkspaceResponse, project: str) -> Self:
        """Return the deletion that the server reported."""
        return cls(
            project_name=project,
            uid=message.workspace.uid,
            file_count=message.file_count,
            size_bytes=message.size_bytes,
            purged=message.purged,
        )


@dataclass(frozen=True)
class DeletedWorkspace:
    """A workspace in the trash."""

    project_name: str
    uid: str
    deleted_at: datetime
    purged_at: datetime  # The trash keeps it until then.
    file_count: int
    size_bytes: int


@dataclass(frozen=True)
class ServerInfo:
    """A server's properties and limits."""

    version: str
    base_path: str  # A path on the server's machine.
    started_at: datetime
    workspace_count: int
    purge_delay: timedelta  # How long a workspace stays in the trash.
    max_page_size: int
    max_chunk_bytes: int
    max_metadata_bytes: int
    max_lease_ttl: timedelta
    features: tuple[str, ...]  # For example "read-only".

    @classmethod
    def from_message(cls, info: pb.ServerInfo) -> Self:
        """Return the server's description of itself."""
        return cls(
            version=info.version,
            base_path=info.base_path,
            started_at=convert.from_timestamp(info.start_time),
            workspace_count=info.workspace_count,
            purge_delay=info.purge_delay.ToTimedelta(),
            max_page_size=info.max_page_size,
            max_chunk_bytes=info.max_chunk_bytes,
            max_metadata_bytes=info.max_metadata_bytes,
            max_lease_ttl=info.max_lease_ttl.ToTimedelta(),
            features=tuple(info.features),
        )

    def _repr_html_(self) -> str:
        """Return an HTML table for notebooks."""
        return html_table("workspaced", asdict(self))


@dataclass(frozen=True)
class WorkspaceTemplate:
    """A template for new workspaces: the directory `.templates/<name>` of a base.

    The values are those of its template.yaml, before `${project}`, `${date}` and
    `${root}` are replaced.
    """

    name: str
    description: str
    settings: dict[str, str]
    metadata: dict[str, Any]
    max_size_bytes: int | None
    max_file_count: int | None
    # Directories and files, relative to the workspace; at most 1,000.
    paths: tuple[str, ...]
    # Why the template cannot be used; None if it can.
    error: dict[str, Any] | None = None

    @classmethod
    def from_message(cls, message: pb.Template) -> Self:
        """Return a template as the server lists it."""
        defaults = message.defaults
        return cls(
            name=message.name,
            description=message.description,
            settings=convert.settings_of(defaults),
            metadata=convert.from_struct(defaults.metadata),
            max_size_bytes=(
                defaults.max_size_bytes if defaults.HasField("max_size_bytes") else None
            ),
            max_file_count=(
                defaults.max_file_count if defaults.HasField("max_file_count") else None
            ),
            paths=tuple(message.directories),
            error=(
                {"message": message.error.message, **errors.from_status(message.error)}
                if message.error.code
                else None
            ),
        )


@dataclass(frozen=True)
class CloneProgress:
    """The files and bytes that clone_workspace() has copied so far."""

    file_count: int
    size_bytes: int
