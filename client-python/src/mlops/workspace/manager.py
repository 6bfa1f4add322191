"""The manager: what can be done with workspaces, in plain calls."""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from google.protobuf.field_mask_pb2 import FieldMask

from mlops._rpc import convert, errors
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.local_server import choose_server
from mlops.workspace.html import html_table
from mlops.workspace.origin import Facts, Origin
from mlops.workspace.project import DIRECTORIES, ProjectWorkspace
from mlops.workspace.v1 import workspace_service_pb2 as pb

__all__ = [
    "Deletion",
    "ProjectWorkspace",
    "ServerInfo",
    "WorkspaceError",
    "WorkspaceManager",
]

_PAGE_SIZE = 1000
_FORCE_REQUIRED = "Workspace deletion requires force=True for safety"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deletion:
    """What a deletion freed, or would."""

    project_name: str
    uid: str
    file_count: int
    size_bytes: int
    purged: bool  # Whether it is gone for good.


@dataclass(frozen=True)
class ServerInfo:
    """A server and its limits."""

    version: str
    base_path: str  # On its machine.
    started_at: datetime
    workspace_count: int
    purge_delay: timedelta  # How long the trash keeps a workspace.
    max_page_size: int
    max_chunk_bytes: int
    max_metadata_bytes: int
    features: tuple[str, ...]  # Such as "read-only".

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return html_table("workspaced", asdict(self))


class WorkspaceManager:
    """Makes, finds, changes and deletes the workspaces of one base directory.

    The work is done by the server of that directory, which is started if none runs and
    leaves when it has been idle. No server is asked before the first call. Thread-safe,
    and usable in forked processes.

    Every method may raise WorkspaceError; `error.details["reason"]` says why (see
    README.md).
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str] | None = None,
        repo_root: str | os.PathLike[str] | None = None,
        address: str | None = None,
    ) -> None:
        """Takes the base directory, by default `mlops/workspace` below `repo_root` or
        the working directory.

        With an `address`, or MLOPS_WORKSPACE_ADDRESS in the environment ("unix:PATH" or
        "HOST:PORT"), its server is asked instead, and paths are that server's.
        """
        # Those seen, as they were then.
        self.workspaces: dict[str, ProjectWorkspace] = {}
        with self._operation("connect"):
            server, self._local_base = choose_server(base_path, repo_root, address)
        self._connection = Connection(server)
        self._origin = Origin(self._connection, self._local_base)

    @property
    def base_path(self) -> Path:
        """The directory that holds the workspaces; if an address was given, as its
        server says.
        """
        if self._local_base is not None:
            return self._local_base
        with self._operation("base_path"):
            return Path(self._connection.call(pb.GetServerInfoRequest()).base_path)

    def server_info(self) -> ServerInfo:
        """What the server is and its limits."""
        with self._operation("server_info"):
            info = self._connection.call(pb.GetServerInfoRequest())
            return ServerInfo(
                version=info.version,
                base_path=info.base_path,
                started_at=convert.from_timestamp(info.start_time),
                workspace_count=info.workspace_count,
                purge_delay=info.purge_delay.ToTimedelta(),
                max_page_size=info.max_page_size,
                max_chunk_bytes=info.max_chunk_bytes,
                max_metadata_bytes=info.max_metadata_bytes,
                features=tuple(info.features),
            )

    def close(self) -> None:
        """Gives the connection up, also for the workspaces that came from here; calls
        that run on it finish.

        A later call opens another one. The server leaves when it has been idle, whether
        or not anybody closes.
        """
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place()})"

    def _repr_html_(self) -> str:
        """A table of what is known without a call, for notebooks."""
        return html_table("WorkspaceManager", {"server of": self._place()})

    def _place(self) -> str:
        return str(self._local_base or self._connection.address)

    def create_workspace(
        self,
        project_name: str,
        mlflow_experiment_id: str | int | None = None,
        mlflow_tracking_uri: str | None = None,
        dvc_remote_path: str | os.PathLike[str] | None = None,
        bentoml_tag_prefix: str | None = None,
        metadata: dict[str, Any] | None = None,
        force: bool = False,
        *,
        request_id: str = "",
    ) -> ProjectWorkspace:
        """Makes a workspace. Settings left out get defaults.

        With `force`, one that exists has its settings and metadata reset to these; its
        files are kept.

        A repeated call with the same `request_id`, `[A-Za-z0-9._-]{1,64}`, returns the
        workspace that the first one made. With one, the call is also retried when the
        connection is lost. It has no effect with `force`.

        Raises WorkspaceError WORKSPACE_EXISTS if there is one and `force` is not set.
        """
        with self._operation("create_workspace", project_name):
            settings = {
                "mlflow_experiment_id": mlflow_experiment_id,
                "mlflow_tracking_uri": mlflow_tracking_uri,
                "dvc_remote_path": dvc_remote_path,
                "bentoml_tag_prefix": bentoml_tag_prefix,
            }
            wanted = convert.to_workspace(project_name, settings, metadata)
            if force:
                everything = FieldMask(paths=["*"])
                return self._seen(
                    self._connection.call(
                        pb.UpdateWorkspaceRequest(
                            workspace=wanted, update_mask=everything, allow_missing=True
                        )
                    )
                )
            create = pb.CreateWorkspaceRequest(
                project=wanted.project,
                workspace=wanted,
                request_id=convert.check_text("request_id", request_id),
            )
            return self._seen(self._connection.call(create))

    def get_workspace(self, project_name: str) -> ProjectWorkspace:
        """Returns a workspace as it is on disk now.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none.
        """
        with self._operation("get_workspace", project_name):
            request = pb.GetWorkspaceRequest(
                project=convert.check_text("project", project_name)
            )
            return self._seen(self._connection.call(request))

    def get_or_create_workspace(
        self,
        project_name: str,
        force: bool = False,
        *,
        mlflow_experiment_id: str | int | None = None,
        mlflow_tracking_uri: str | None = None,
        dvc_remote_path: str | os.PathLike[str] | None = None,
        bentoml_tag_prefix: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> ProjectWorkspace:
        """Returns a workspace, untouched if it exists, else made as by
        create_workspace().

        Any number of callers may do so at once; one of them makes it. `force` is
        accepted for those who pass on the arguments of create_workspace(); nothing is
        ever reset here.
        """
        with self._operation("get_or_create_workspace", project_name):
            settings = {
                "mlflow_experiment_id": mlflow_experiment_id,
                "mlflow_tracking_uri": mlflow_tracking_uri,
                "dvc_remote_path": dvc_remote_path,
                "bentoml_tag_prefix": bentoml_tag_prefix,
            }
            wanted = convert.to_workspace(project_name, settings, metadata)
            request = pb.EnsureWorkspaceRequest(
                project=wanted.project, workspace=wanted
            )
            return self._seen(self._connection.call(request).workspace)

    def list_workspaces(
        self, filter: str = "", order_by: str = "", *, show_deleted: bool = False
    ) -> list[ProjectWorkspace]:
        """Returns all workspaces that match `filter`, by default all there are, in
        order of `order_by`: "project" (the default), "create_time" or "update_time",
        each optionally followed by " desc". Those that cannot be read are named in the
        log. With `show_deleted` those in the trash are among them: they have a
        `deleted_at` and a `purged_at`, and undelete_workspace() knows them by their
        `uid`.

        A filter is, for example, `metadata.stage = "production" AND create_time >
        2026-01-31`: see ListWorkspacesRequest in workspace_service.proto. AND, OR and
        NOT are written in capitals, equality as `=`.

        Raises WorkspaceError FILTER_INVALID if `filter` or `order_by` cannot be
        understood; the message names the position and the right spelling.
        """
        found: list[ProjectWorkspace] = []
        with self._operation("list_workspaces"):
            request = pb.ListWorkspacesRequest(
                page_size=_PAGE_SIZE,
                filter=convert.check_text("filter", filter),
                order_by=convert.check_text("order_by", order_by),
                show_deleted=show_deleted,
            )
            for page in self._connection.pages(request):
                found += [self._workspace(message) for message in page.workspaces]
                if page.unreachable:
                    _log.warning(
                        "These workspaces cannot be read: %s",
                        ", ".join(page.unreachable),
                    )
        seen = {
            workspace.project_name: workspace
            for workspace in found
            if workspace.deleted_at is None
        }
        self.workspaces = {**self.workspaces, **seen} if filter else seen
        return found

    def update_workspace_metadata(
        self,
        project_name: str,
        mlflow_experiment_id: str | int | None = None,
        mlflow_tracking_uri: str | None = None,
        dvc_remote_path: str | os.PathLike[str] | None = None,
        bentoml_tag_prefix: str | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        remove_metadata: Collection[str] = (),
        if_match: str = "",
    ) -> ProjectWorkspace:
        """Changes the settings given, and merges `metadata` into what is there, key by
        key, not deeper. Keys in `remove_metadata` are removed; missing ones are
        ignored.

        With `if_match`, the `etag` of a workspace that was read, nothing changes unless
        it is still the current one.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none, ETAG_MISMATCH if
        somebody else changed it.
        """
        with self._operation("update_workspace_metadata", project_name):
            settings = {
                "mlflow_experiment_id": mlflow_experiment_id,
                "mlflow_tracking_uri": mlflow_tracking_uri,
                "dvc_remote_path": dvc_remote_path,
                "bentoml_tag_prefix": bentoml_tag_prefix,
            }
            wanted = convert.to_workspace(project_name, settings, metadata)
            wanted.etag = convert.check_text("if_match", if_match)
            request = pb.UpdateWorkspaceRequest(
                workspace=wanted, remove_metadata=_keys(remove_metadata)
            )
            return self._seen(self._connection.call(request))

    @overload
    def delete_workspace(
        self,
        project_name: str,
        force: bool = ...,
        *,
        permanent: Literal[False] = ...,
        validate_only: Literal[False] = ...,
        if_match: str = ...,
        uid: str = ...,
    ) -> None: ...

    @overload
    def delete_workspace(
        self,
        project_name: str,
        force: bool = ...,
        *,
        permanent: bool = ...,
        validate_only: bool = ...,
        if_match: str = ...,
        uid: str = ...,
    ) -> Deletion | None: ...

    def delete_workspace(
        self,
        project_name: str,
        force: bool = False,
        *,
        permanent: bool = False,
        validate_only: bool = False,
        if_match: str = "",
        uid: str = "",
    ) -> Deletion | None:
        """Deletes a workspace with its files; the server keeps them in its trash for
        some time.

        With `permanent` they skip the trash; together with the `uid` of one that is in
        the trash, that one is removed for good. With `validate_only` nothing is
        deleted. Both return what was freed, or would be; a deletion into the trash,
        which frees nothing yet, returns None. With `if_match`, an `etag`, or with a
        `uid`, nothing but that very workspace is deleted.

        Raises WorkspaceError FORCE_REQUIRED if `force` is not set, WORKSPACE_NOT_FOUND
        if there is none, ETAG_MISMATCH if somebody else changed it.
        """
        with self._operation("delete_workspace", project_name):
            request = pb.DeleteWorkspaceRequest(
                project=convert.check_text("project", project_name),
                force=force,
                permanent=permanent,
                validate_only=validate_only,
                etag=convert.check_text("if_match", if_match),
                uid=convert.check_text("uid", uid),
            )
            response = self._connection.call(request)
            known = self.workspaces.get(request.project)
            if known and not validate_only and request.uid in ("", known.uid):
                self.workspaces.pop(request.project, None)
            if not permanent and not validate_only:
                return None
            freed = (
                response.workspace.uid,
                response.file_count,
                response.size_bytes,
                response.purged,
            )
            return Deletion(request.project, *freed)

    def undelete_workspace(self, project_name: str, uid: str = "") -> ProjectWorkspace:
        """Brings a deleted workspace back from the trash: the one deleted last, or the
        one with `uid`.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if the trash has none,
        WORKSPACE_EXISTS if the name is taken again.
        """
        with self._operation("undelete_workspace", project_name):
            request = pb.UndeleteWorkspaceRequest(
                project=convert.check_text("project", project_name),
                uid=convert.check_text("uid", uid),
            )
            return self._seen(self._connection.call(request))

    def get_workspace_status(
        self, project_name: str, counts_only: bool = False
    ) -> dict[str, Any]:
        """Counts the files that are there now. Returns the workspace's to_dict() and
        `directory_stats`: for each of the five directories, such as mlflow,
        `mlflow_exists`, `mlflow_files` and `mlflow_bytes`, sub-directories included.
        Beside them `file_count` and `size_bytes` of all, `scan_time`, and `error`: None
        unless something could not be counted. With `counts_only`, which is much less
        work for the server, all bytes are None.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none.
        """
        with self._operation("get_workspace_status", project_name):
            project = convert.check_text("project", project_name)
            request = pb.GetWorkspaceStatusRequest(
                project=project, counts_only=counts_only
            )
            return self._status(self._connection.call(request), counts_only)

    def get_all_workspaces_status(
        self, filter: str = "", counts_only: bool = False
    ) -> list[dict[str, Any]]:
        """Returns the status of every workspace that matches `filter`, by default of
        all, in order of their names. Without a filter, one that cannot be read is among
        them, with an `error`, and None where nothing is known. `counts_only` as in
        get_workspace_status.

        Raises WorkspaceError FILTER_INVALID if `filter` cannot be understood.
        """
        with self._operation("get_all_workspaces_status"):
            messages = self._connection.collect(
                pb.StreamWorkspaceStatusesRequest(
                    filter=convert.check_text("filter", filter), counts_only=counts_only
                )
            )
            statuses = [status for message in messages for status in message.statuses]
            # They come as each is counted.
            statuses.sort(key=lambda status: status.workspace.project)
            return [self._status(status, counts_only) for status in statuses]

    @contextmanager
    def _operation(self, name: str, project: str | None = None) -> Iterator[None]:
        with errors.operation(name, project):
            try:
                yield
            except WorkspaceError as error:
                reason = error.details["reason"]
                if project is not None and reason == "WORKSPACE_NOT_FOUND":
                    self.workspaces.pop(project, None)
                # The server says it for callers of every language.
                if reason == "FORCE_REQUIRED":
                    error.message = _FORCE_REQUIRED
                    error.args = (error.message,)
                raise

    def _workspace(self, message: pb.Workspace) -> ProjectWorkspace:
        deleted_at = (
            convert.from_timestamp(message.delete_time)
            if message.HasField("delete_time")
            else None
        )
        purged_at = (
            convert.from_timestamp(message.purge_time)
            if message.HasField("purge_time")
            else None
        )
        root = Path(message.root_path)
        if self._local_base is not None:
            # The server names the real directory; who came by a symbolic link goes on
            # by it.
            # In the trash, or not.
            below = root.parts[-2:] if deleted_at else (message.project,)
            root = self._local_base.joinpath(*below)
        workspace = ProjectWorkspace(
            project_name=message.project,
            root_path=root,
            **convert.settings_of(message),
            metadata=convert.from_struct(message.metadata),
            created_at=convert.from_timestamp(message.create_time),
            updated_at=convert.from_timestamp(message.update_time),
        )
        # By its name the server has no deleted one, but perhaps another.
        origin = None if deleted_at else self._origin
        return workspace.of(
            origin, Facts(message.uid, message.etag, deleted_at, purged_at)
        )

    def _seen(self, message: pb.Workspace) -> ProjectWorkspace:
        workspace = self._workspace(message)
        self.workspaces[workspace.project_name] = workspace
        return workspace

    def _status(self, message: pb.WorkspaceStatus, counts_only: bool) -> dict[str, Any]:
        stats: dict[str, Any] = {}
        usages = {usage.name: usage for usage in message.directories}
        for name in DIRECTORIES:
            usage = usages.get(name, pb.DirectoryUsage())
            stats |= {f"{name}_exists": usage.exists, f"{name}_files": usage.file_count}
            stats[f"{name}_bytes"] = None if counts_only else usage.size_bytes
        error = (
            {"message": message.error.message, **errors.from_status(message.error)}
            if message.error.code
            else None
        )
        known = self._workspace(message.workspace).to_dict()
        if not message.workspace.etag:  # It could not be read.
            known |= dict.fromkeys(("created_at", "updated_at"))
        return {
            **known,
            "directory_stats": stats,
            "file_count": message.file_count,
            "size_bytes": None if counts_only else message.size_bytes,
            "scan_time": convert.from_timestamp(message.scan_time).isoformat(),
            "error": error,
        }


def _keys(names: object) -> list[str]:
    """The keys of metadata to remove, which must not be one text: that would be a list
    of its letters.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise errors.field_invalid(
            "remove_metadata", f"must be a list of keys, not {type(names).__name__}"
        )
    return [convert.check_text("remove_metadata", name) for name in names]
