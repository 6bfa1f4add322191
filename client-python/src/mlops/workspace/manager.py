"""The manager: what can be done with workspaces, in plain calls."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from mlops._rpc import convert, errors
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.local_server import choose_server
from mlops.workspace.origin import Origin
from mlops.workspace.project import DIRECTORIES, ProjectWorkspace
from mlops.workspace.v1 import workspace_service_pb2 as pb

__all__ = ["ProjectWorkspace", "WorkspaceError", "WorkspaceManager"]

_PAGE_SIZE = 1000
_log = logging.getLogger(__name__)


class WorkspaceManager:
    """Makes, finds, changes and deletes the workspaces of one base directory.

    The work is done by the server of that directory, which is started if none runs and leaves when it has been idle.
    No server is asked before the first call. Thread-safe, and usable in forked processes.

    Every method may raise WorkspaceError; `error.details["reason"]` says why (see README.md).
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str] | None = None,
        repo_root: str | os.PathLike[str] | None = None,
        address: str | None = None,
    ) -> None:
        """Takes the base directory, by default `mlops/workspace` below `repo_root` or the working directory.

        With an `address`, or MLOPS_WORKSPACE_ADDRESS in the environment ("unix:PATH" or "HOST:PORT"), its server is
        asked instead, and paths are that server's.
        """
        self.workspaces: dict[str, ProjectWorkspace] = {}  # Those seen, as they were then.
        with self._operation("connect"):
            server, self._local_base = choose_server(base_path, repo_root, address)
        self._connection = Connection(server)
        self._origin = Origin(self._connection, self._local_base)

    @property
    def base_path(self) -> Path:
        """The directory that holds the workspaces; if an address was given, as its server says."""
        if self._local_base is not None:
            return self._local_base
        with self._operation("base_path"):
            info = self._connection.call(lambda stub: stub.GetServerInfo, pb.GetServerInfoRequest())
        return Path(info.base_path)

    def create_workspace(
        self,
        project_name: str,
        mlflow_experiment_id: str | None = None,
        mlflow_tracking_uri: str | None = None,
        dvc_remote_path: str | None = None,
        bentoml_tag_prefix: str | None = None,
        metadata: dict[str, Any] | None = None,
        force: bool = False,
    ) -> ProjectWorkspace:
        """Makes a workspace. Settings left out get defaults.

        With `force`, one that exists has its settings and metadata reset to these; its files are kept.

        Raises WorkspaceError WORKSPACE_EXISTS if there is one and `force` is not set.
        """
        with self._operation("create_workspace", project_name):
            wanted = convert.to_workspace(
                project_name,
                mlflow_experiment_id=mlflow_experiment_id,
                mlflow_tracking_uri=mlflow_tracking_uri,
                dvc_remote_path=dvc_remote_path,
                bentoml_tag_prefix=bentoml_tag_prefix,
                metadata=metadata,
            )
            if force:
                everything = FieldMask(paths=["*"])
                reset = pb.UpdateWorkspaceRequest(workspace=wanted, update_mask=everything, allow_missing=True)
                return self._seen(self._connection.call(lambda stub: stub.UpdateWorkspace, reset))
            create = pb.CreateWorkspaceRequest(project=project_name, workspace=wanted)
            return self._seen(self._connection.call(lambda stub: stub.CreateWorkspace, create))

    def get_workspace(self, project_name: str) -> ProjectWorkspace:
        """Returns a workspace as it is on disk now.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none.
        """
        with self._operation("get_workspace", project_name):
            request = pb.GetWorkspaceRequest(project=convert.check_text("project", project_name))
            return self._seen(self._connection.call(lambda stub: stub.GetWorkspace, request))

    def get_or_create_workspace(
        self, project_name: str, force: bool = False, **settings: Unpack[convert.Settings]
    ) -> ProjectWorkspace:
        """Returns a workspace, untouched if it exists, else made as by create_workspace().

        Any number of callers may do so at once; one of them makes it. `force` is accepted for those who pass on the
        arguments of create_workspace(); nothing is ever reset here.
        """
        with self._operation("get_or_create_workspace", project_name):
            wanted = convert.to_workspace(project_name, **settings)
            request = pb.EnsureWorkspaceRequest(project=project_name, workspace=wanted)
            return self._seen(self._connection.call(lambda stub: stub.EnsureWorkspace, request).workspace)

    def list_workspaces(self, filter: str = "", order_by: str = "") -> list[ProjectWorkspace]:
        """Returns all workspaces that match `filter`, by default all there are, in order of `order_by`: "project" (the
        default), "create_time" or "update_time", each optionally followed by " desc". Those that cannot be read are
        named in the log.

        A filter is, for example, `metadata.stage = "production" AND create_time > 2026-01-31`: see
        ListWorkspacesRequest in workspace_service.proto. AND, OR and NOT are written in capitals, equality as `=`.

        Raises WorkspaceError FILTER_INVALID if `filter` or `order_by` cannot be understood; the message names the
        position and the right spelling.
        """
        found: list[ProjectWorkspace] = []
        with self._operation("list_workspaces"):
            request = pb.ListWorkspacesRequest(
                page_size=_PAGE_SIZE,
                filter=convert.check_text("filter", filter),
                order_by=convert.check_text("order_by", order_by),
            )
            while True:
                page = self._connection.call(lambda stub: stub.ListWorkspaces, request)
                found += [self._workspace(message) for message in page.workspaces]
                if page.unreachable:
                    _log.warning("These workspaces cannot be read: %s", ", ".join(page.unreachable))
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token
        seen = {workspace.project_name: workspace for workspace in found}
        self.workspaces = {**self.workspaces, **seen} if filter else seen
        return found

    def update_workspace_metadata(self, project_name: str, **settings: Unpack[convert.Settings]) -> ProjectWorkspace:
        """Changes the settings given, and merges `metadata` into what is there, key by key, not deeper.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none.
        """
        with self._operation("update_workspace_metadata", project_name):
            request = pb.UpdateWorkspaceRequest(workspace=convert.to_workspace(project_name, **settings))
            return self._seen(self._connection.call(lambda stub: stub.UpdateWorkspace, request))

    def delete_workspace(self, project_name: str, force: bool = False) -> None:
        """Deletes a workspace with its files; the server keeps them in its trash for some time.

        Raises WorkspaceError FORCE_REQUIRED if `force` is not set, WORKSPACE_NOT_FOUND if there is none.
        """
        with self._operation("delete_workspace", project_name):
            project = convert.check_text("project", project_name)
            request = pb.DeleteWorkspaceRequest(project=project, force=force)
            self._connection.call(lambda stub: stub.DeleteWorkspace, request)
            self.workspaces.pop(project, None)

    def get_workspace_status(self, project_name: str, counts_only: bool = False) -> dict[str, Any]:
        """Counts the files that are there now. Returns the workspace's to_dict() and `directory_stats`: for each of the
        five directories, such as mlflow, `mlflow_exists`, `mlflow_files` and `mlflow_bytes`, sub-directories included.
        Beside them `file_count` and `size_bytes` of all, `scan_time`, and `error`: None unless something could not be
        counted. With `counts_only`, which is much less work for the server, all bytes are None.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none.
        """
        with self._operation("get_workspace_status", project_name):
            project = convert.check_text("project", project_name)
            request = pb.GetWorkspaceStatusRequest(project=project, counts_only=counts_only)
            return self._status(self._connection.call(lambda stub: stub.GetWorkspaceStatus, request), counts_only)

    def get_all_workspaces_status(self, filter: str = "", counts_only: bool = False) -> list[dict[str, Any]]:
        """Returns the status of every workspace that matches `filter`, by default of all, in order of their names.
        Without a filter, one that cannot be read is among them, with an `error`, and None where nothing is known.
        `counts_only` as in get_workspace_status.

        Raises WorkspaceError FILTER_INVALID if `filter` cannot be understood.
        """
        with self._operation("get_all_workspaces_status"):
            messages = self._connection.collect(
                lambda stub: stub.StreamWorkspaceStatuses,
                pb.StreamWorkspaceStatusesRequest(filter=convert.check_text("filter", filter), counts_only=counts_only),
            )
            statuses = [status for message in messages for status in message.statuses]
            statuses.sort(key=lambda status: status.workspace.project)  # They come as each is counted.
            return [self._status(status, counts_only) for status in statuses]

    @contextmanager
    def _operation(self, name: str, project: str | None = None) -> Iterator[None]:
        with errors.operation(name, project):
            try:
                yield
            except WorkspaceError as error:
                if project is not None and error.details["reason"] == "WORKSPACE_NOT_FOUND":
                    self.workspaces.pop(project, None)
                raise

    def _workspace(self, message: pb.Workspace) -> ProjectWorkspace:
        # The server names the real directory; who came by a symbolic link goes on by it.
        root = self._local_base / message.project if self._local_base else Path(message.root_path)
        return ProjectWorkspace(
            project_name=message.project,
            root_path=root,
            **convert.settings_of(message),
            metadata=convert.from_struct(message.metadata),
            created_at=convert.from_timestamp(message.create_time),
            updated_at=convert.from_timestamp(message.update_time),
        ).of(self._origin)

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
        error = {"message": message.error.message, **errors.from_status(message.error)} if message.error.code else None
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
