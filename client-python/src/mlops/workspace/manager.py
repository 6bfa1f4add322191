"""WorkspaceManager: create, read, change and delete workspaces."""

import logging
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack, overload

from google.protobuf.field_mask_pb2 import FieldMask

from mlops._rpc import convert, errors
from mlops._rpc.connection import Connection
from mlops._rpc.credentials import CredentialOptions
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.watch import Watch
from mlops.local_server import choose_server
from mlops.workspace import archives, dashboards
from mlops.workspace.archives import ArchiveSource, ArchiveTarget, Export, Progress
from mlops.workspace.events import WorkspaceEvent, read_events
from mlops.workspace.html import html_list, html_table
from mlops.workspace.lease import DEFAULT_TTL_S, Lease, LeaseInfo
from mlops.workspace.origin import Origin
from mlops.workspace.project import DIRECTORIES, ProjectWorkspace
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.values import (
    CloneProgress,
    DeletedWorkspace,
    Deletion,
    ServerInfo,
    WorkspaceTemplate,
)

__all__ = [
    "CloneProgress",
    "CredentialOptions",
    "DeletedWorkspace",
    "Deletion",
    "Lease",
    "LeaseInfo",
    "ProjectWorkspace",
    "ServerInfo",
    "WorkspaceError",
    "WorkspaceEvent",
    "WorkspaceManager",
    "WorkspaceTemplate",
]

_PAGE_SIZE = 1000
# How many workspaces a notebook shows.
_SHOWN = 50
_FORCE_REQUIRED = "Workspace deletion requires force=True for safety"
_log = logging.getLogger(__name__)


class Unchanged(Enum):
    """Stands for an argument that was left out, where None has a meaning."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


class WorkspaceManager:
    """Creates, finds, changes and deletes the workspaces of one base directory.

    The server of that directory does the work. The client starts it if none is running,
    and it exits when it has been idle. The constructor contacts no server.

    Thread-safe, and usable in forked processes.

    Every method may raise WorkspaceError; `error.details["reason"]` says why (see
    README.md).
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str] | None = None,
        repo_root: str | os.PathLike[str] | None = None,
        address: str | None = None,
        **credentials: Unpack[CredentialOptions],
    ) -> None:
        """Choose the server; the first call connects to it.

        Args:
            base_path: The base directory. Default: `mlops/workspace` below `repo_root`.
            repo_root: The directory that holds `mlops/workspace`. Default: the working
                directory.
            address: "unix:PATH" or "HOST:PORT" of a server to use instead, or a list
                "HOST:PORT,HOST:PORT" of a server and its standby servers. Default: the
                environment variable MLOPS_WORKSPACE_ADDRESS. With an address, all paths
                are paths on the server's machine.
            credentials: `token`, `token_file`, `ca`, `cert` and `key`; see
                CredentialOptions.

        Raises:
            WorkspaceError: FIELD_INVALID if the address or a credential is malformed,
                or the token would be sent to another machine unencrypted.
        """
        # The workspaces seen so far, as they were when they were last read.
        self.workspaces: dict[str, ProjectWorkspace] = {}
        with self._operation("connect"):
            server, self._local_base = choose_server(
                base_path, repo_root, address, **credentials
            )
        self._connection = Connection(server)
        self._origin = Origin(self._connection, self._local_base)

    @property
    def base_path(self) -> Path:
        """The directory that holds the workspaces.

        With an address, this property asks the server for the directory.
        """
        if self._local_base is not None:
            return self._local_base
        with self._operation("base_path"):
            return Path(self._connection.call(pb.GetServerInfoRequest()).base_path)

    def server_info(self) -> ServerInfo:
        """Return the server's properties and limits."""
        with self._operation("server_info"):
            info = self._connection.call(pb.GetServerInfoRequest())
            return ServerInfo.from_message(info)

    def close(self) -> None:
        """Close the connection, which the workspaces from this manager share.

        Calls in flight finish. A later call opens a new connection. The server exits
        when it has been idle, whether or not clients close their connections.
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
        """Return an HTML table of the first workspaces, for notebooks.

        Starts no server for a base directory that never had one, and connects to no
        address that was not used before: that may take long.
        """
        served = (
            self._local_base is not None and (self._local_base / ".workspaced").is_dir()
        )
        if not (served or self._connection.is_open):
            return html_table("WorkspaceManager", {"server of": self._place()})
        request = pb.ListWorkspacesRequest(page_size=_SHOWN)
        try:
            page = self._connection.call(request)
        except WorkspaceError as error:
            facts = {"server of": self._place(), "problem": error.message}
            return html_table("WorkspaceManager", facts)
        shown = [self._workspace(message) for message in page.workspaces]
        more = page.total_size - len(shown)
        return html_list(
            f"WorkspaceManager: {page.total_size} projects in {self._place()}",
            ("project", "stage", "updated", "metadata"),
            [_cells(workspace) for workspace in shown],
            f"and {more} more: manager.list_workspaces()" if more > 0 else "",
        )

    def dashboard(self) -> None:
        """Run the dashboard of this manager's server in this process; print its link.

        A second call prints the same link. The link contains a key: anyone who has the
        link acts as you, as long as this process runs.

        Raises:
            ModuleNotFoundError: The extra `dashboard` is not installed.
        """
        print(dashboards.link_of(self._connection, self._local_base))

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
        template: str = "",
        request_id: str = "",
        max_size_bytes: int | None = None,
        max_file_count: int | None = None,
    ) -> ProjectWorkspace:
        """Create a workspace.

        Args:
            mlflow_experiment_id, mlflow_tracking_uri, dvc_remote_path,
                bentoml_tag_prefix: The settings. Those left out get defaults.
            metadata: JSON values by text keys (see README.md).
            force: Reset the settings, the metadata and the quotas of an existing
                workspace to these values. Its files are kept.
            template: The template to create the workspace from, see list_templates().
                The other arguments take precedence over its values. Default: the
                server's default template, if it has one.
            request_id: Makes the call idempotent: a repeated call with the same id,
                which must match `[A-Za-z0-9._-]{1,64}`, returns the workspace that the
                first call created. The client then also retries the call when the
                connection is lost. Has no effect with `force`.
            max_size_bytes, max_file_count: Quotas of the bytes and files in the five
                directories; None for no limit. Changes through the server that exceed
                them fail with NO_SPACE.

        Raises:
            WorkspaceError: WORKSPACE_EXISTS if the workspace exists and `force` is not
                set, TEMPLATE_NOT_FOUND or TEMPLATE_INVALID if the template cannot be
                used.
        """
        with self._operation("create_workspace", project_name):
            settings = {
                "mlflow_experiment_id": mlflow_experiment_id,
                "mlflow_tracking_uri": mlflow_tracking_uri,
                "dvc_remote_path": dvc_remote_path,
                "bentoml_tag_prefix": bentoml_tag_prefix,
            }
            wanted = convert.to_workspace(project_name, settings, metadata)
            quotas = {
                "max_size_bytes": max_size_bytes,
                "max_file_count": max_file_count,
            }
            convert.set_quotas(wanted, quotas)
            if force and template:
                raise errors.field_invalid(
                    "template",
                    "cannot be used with force=True, which keeps the files of an "
                    "existing workspace",
                )
            if force:
                # An update with the mask "*" also clears the settings that are left
                # out.
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
                template=convert.check_text("template", template),
                request_id=convert.check_text("request_id", request_id),
            )
            return self._seen(self._connection.call(create))

    def get_workspace(self, project_name: str) -> ProjectWorkspace:
        """Return a workspace as it is on disk now.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if there is no such workspace.
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
        max_size_bytes: int | None = None,
        max_file_count: int | None = None,
        template: str = "",
    ) -> ProjectWorkspace:
        """Return a workspace; create it as create_workspace() does if it is missing.

        An existing workspace is returned unchanged. Any number of callers may do this
        at the same time; exactly one of them creates the workspace.

        Args:
            force: Ignored. Accepted so that callers can pass the arguments of
                create_workspace(); this method never resets a workspace.
            mlflow_experiment_id, mlflow_tracking_uri, dvc_remote_path,
                bentoml_tag_prefix: The settings of a workspace that is created.
            metadata: Metadata of a workspace that is created.
            max_size_bytes, max_file_count: Quotas of a workspace that is created.
            template: The template of a workspace that is created, as in
                create_workspace(). It must be usable even if the workspace exists.
        """
        with self._operation("get_or_create_workspace", project_name):
            settings = {
                "mlflow_experiment_id": mlflow_experiment_id,
                "mlflow_tracking_uri": mlflow_tracking_uri,
                "dvc_remote_path": dvc_remote_path,
                "bentoml_tag_prefix": bentoml_tag_prefix,
            }
            wanted = convert.to_workspace(project_name, settings, metadata)
            quotas = {
                "max_size_bytes": max_size_bytes,
                "max_file_count": max_file_count,
            }
            convert.set_quotas(wanted, quotas)
            request = pb.EnsureWorkspaceRequest(
                project=wanted.project,
                workspace=wanted,
                template=convert.check_text("template", template),
            )
            return self._seen(self._connection.call(request).workspace)

    def clone_workspace(
        self,
        project_name: str,
        new_name: str,
        directories: Collection[str] | None = None,
        progress: Callable[[CloneProgress], None] | None = None,
    ) -> ProjectWorkspace:
        """Copy a workspace with the files in its five directories under a new name.

        The complete copy appears atomically, or nothing does. The workspace may be in
        use meanwhile: each file is copied in one of its states, and a SQLite database
        with every transaction that was committed before. Settings that were derived
        from the name or the place are derived again, as for a copy by hand.

        Args:
            project_name: The workspace to copy.
            new_name: The name of the copy.
            directories: Those of the five directories whose content is copied, for
                example `["models"]`. The others are created empty. Default: all five.
            progress: Called a few times a second. The copy is abandoned if it raises an
                exception.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if there is no such workspace,
                WORKSPACE_EXISTS if the new name is taken, WORKSPACE_BUSY if another
                program keeps writing to a file, PATH_UNSUITABLE if there is a device,
                FIFO or socket, NO_SPACE if the disk is full or the files exceed the
                quota, which the copy has too, OVERLOADED if the server already copies
                too many workspaces.
        """
        with self._operation("clone_workspace", project_name):
            request = pb.CloneWorkspaceRequest(
                project=convert.check_text("project", project_name),
                destination_project=convert.check_text("new_name", new_name),
                directories=convert.check_names("directories", directories or ()),
                # The call may be repeated if the connection is lost.
                request_id=uuid.uuid4().hex,
            )

            def take(message: pb.CloneWorkspaceResponse) -> None:
                if progress is not None:
                    progress(CloneProgress(message.file_count, message.size_bytes))

            return self._seen(self._connection.follow(request, take).workspace)

    def list_templates(self) -> list[WorkspaceTemplate]:
        """Return the templates of the server's base directory, ordered by name.

        Templates that cannot be used have an `error`.
        """
        with self._operation("list_templates"):
            request = pb.ListTemplatesRequest(page_size=_PAGE_SIZE)
            return [
                WorkspaceTemplate.from_message(message)
                for page in self._connection.pages(request)
                for message in page.templates
            ]

    def list_workspaces(
        self,
        filter: str = "",
        order_by: str = "",
        *,
        show_deleted: bool = False,
        limit: int | None = None,
    ) -> list[ProjectWorkspace]:
        """Return all workspaces that match `filter`, by default all of them.

        Workspaces that cannot be read are logged by name.

        Args:
            filter: For example `metadata.stage = "production" AND create_time >
                2026-01-31`; see ListWorkspacesRequest in workspace_service.proto. AND,
                OR and NOT are written in capitals, equality as `=`.
            order_by: "project" (the default), "create_time" or "update_time", each
                optionally followed by " desc".
            show_deleted: Also return workspaces in the trash. These have a `deleted_at`
                and a `purged_at`; undelete_workspace() accepts their `uid`.
            limit: Return at most this many workspaces, the first ones.

        Raises:
            WorkspaceError: FILTER_INVALID if `filter` or `order_by` is malformed; the
                message names the position and the right spelling.
        """
        found: list[ProjectWorkspace] = []
        with self._operation("list_workspaces"):
            request = pb.ListWorkspacesRequest(
                page_size=_PAGE_SIZE if limit is None else min(limit, _PAGE_SIZE),
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
                if limit is not None and len(found) >= limit:
                    break
        found = found[:limit]
        seen = {
            workspace.project_name: workspace
            for workspace in found
            if workspace.deleted_at is None
        }
        # Without a filter and a limit, the list is complete and replaces earlier ones.
        partial = filter or limit is not None
        self.workspaces = {**self.workspaces, **seen} if partial else seen
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
        max_size_bytes: int | Unchanged | None = UNCHANGED,
        max_file_count: int | Unchanged | None = UNCHANGED,
    ) -> ProjectWorkspace:
        """Change settings, metadata and quotas of a workspace.

        Settings and quotas left out keep their values.

        Args:
            mlflow_experiment_id, mlflow_tracking_uri, dvc_remote_path,
                bentoml_tag_prefix: The settings to change.
            metadata: Merged into the stored metadata key by key; nested values are
                replaced, not merged.
            remove_metadata: Keys to remove; missing keys are ignored.
            if_match: The `etag` of a workspace read before. The update fails unless it
                is still the current etag.
            max_size_bytes, max_file_count: The quotas to set; None removes a quota,
                which cannot be combined with `metadata`. A quota may be lower than what
                the workspace uses: deletions still work, and nothing can be added.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if there is no such workspace,
                ETAG_MISMATCH if the workspace changed after it was read.
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
            # None removes a quota, so a quota that the caller left out is UNCHANGED.
            quotas = {
                name: value
                for name, value in (
                    ("max_size_bytes", max_size_bytes),
                    ("max_file_count", max_file_count),
                )
                if value is not UNCHANGED
            }
            convert.set_quotas(wanted, quotas)
            request = pb.UpdateWorkspaceRequest(
                workspace=wanted,
                update_mask=_mask_to_remove(wanted, quotas),
                remove_metadata=convert.check_names("remove_metadata", remove_metadata),
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
        """Delete a workspace with its files.

        The server keeps deleted workspaces in its trash for `ServerInfo.purge_delay`.

        Args:
            force: Must be True.
            permanent: Skip the trash. With the `uid` of a workspace in the trash,
                remove that workspace for good.
            validate_only: Check the request and count the files, but delete nothing.
            if_match: An `etag`. Delete the workspace only if this is its current etag.
            uid: Delete only the workspace with this uid.

        Returns:
            What was freed, or with `validate_only` would be freed. None for a move into
                the trash, which frees nothing yet.

        Raises:
            WorkspaceError: FORCE_REQUIRED if `force` is not set, WORKSPACE_NOT_FOUND if
                there is no such workspace, ETAG_MISMATCH if the workspace changed after
                it was read, NO_SPACE if the disk is too full for the trash; then
                `permanent` succeeds.
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
            # A uid may name an older workspace in the trash; then the one seen still
            # exists.
            known = self.workspaces.get(request.project)
            if known and not validate_only and request.uid in ("", known.uid):
                self.workspaces.pop(request.project, None)
            if not permanent and not validate_only:
                return None
            return Deletion.from_message(response, request.project)

    def undelete_workspace(self, project_name: str, uid: str = "") -> ProjectWorkspace:
        """Restore a deleted workspace from the trash.

        Restores the most recently deleted workspace of that name, or the one with
        `uid`.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if the trash holds no such workspace,
                WORKSPACE_EXISTS if the name is in use again, WORKSPACE_CORRUPT if its
                workspace.yaml is missing, so that it stays in the trash, or cannot be
                read.
        """
        with self._operation("undelete_workspace", project_name):
            request = pb.UndeleteWorkspaceRequest(
                project=convert.check_text("project", project_name),
                uid=convert.check_text("uid", uid),
            )
            return self._seen(self._connection.call(request))

    def list_deleted(self) -> list[DeletedWorkspace]:
        """Return the workspaces in the trash with their sizes, the oldest first.

        undelete_workspace() restores one. Counting their files takes the server as long
        as counting those of other workspaces.
        """
        found = []
        for workspace in self.list_workspaces(show_deleted=True):
            if workspace.deleted_at is None or workspace.purged_at is None:
                continue
            with self._operation("list_deleted"):
                request = pb.GetWorkspaceStatusRequest(
                    project=workspace.project_name, uid=workspace.uid
                )
                try:
                    status = self._connection.call(request)
                except WorkspaceError as error:
                    # The workspace was restored or purged meanwhile.
                    if error.details["reason"] == "WORKSPACE_NOT_FOUND":
                        continue
                    raise
            found.append(
                DeletedWorkspace(
                    project_name=workspace.project_name,
                    uid=workspace.uid,
                    deleted_at=workspace.deleted_at,
                    purged_at=workspace.purged_at,
                    file_count=status.file_count,
                    size_bytes=status.size_bytes,
                )
            )
        return sorted(found, key=lambda deleted: deleted.deleted_at)

    def purge(self, project_name: str, uid: str) -> Deletion:
        """Remove a workspace in the trash for good, without waiting for its time.

        Returns:
            What was freed.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if the trash holds no such workspace; a
                workspace outside the trash is not removed.
        """
        with self._operation("purge"):
            request = pb.DeleteWorkspaceRequest(
                project=convert.check_text("project", project_name),
                force=True,
                permanent=True,
                uid=_required("uid", uid),
                only_deleted=True,
            )
            response = self._connection.call(request)
            return Deletion.from_message(response, request.project)

    def purge_deleted(self, *, older_than: timedelta) -> list[Deletion]:
        """Remove for good the workspaces that were deleted at least `older_than` ago.

        This machine's clock measures the age. `timedelta(0)` empties the trash.

        Returns:
            What was freed, one entry for each workspace.
        """
        latest = datetime.now(UTC) - older_than
        freed = []
        for workspace in self.list_workspaces(show_deleted=True):
            if workspace.deleted_at is None or workspace.deleted_at > latest:
                continue
            try:
                freed.append(self.purge(workspace.project_name, workspace.uid))
            except WorkspaceError as error:
                # The workspace was restored or purged meanwhile.
                if error.details["reason"] != "WORKSPACE_NOT_FOUND":
                    raise
        return freed

    def export_workspace(
        self,
        project_name: str,
        target: ArchiveTarget,
        directories: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write a workspace to a tar archive.

        The archive holds the settings, the metadata and the files, with a SHA-256 of
        each file; the same content gives the same bytes. `tar` can read it.

        Args:
            target: A path, or a binary file. A file at the path appears, or is
                replaced, once the archive is complete and on disk.
            directories: The directories whose content to export, for example
                `["models"]`. Default: all five.
            progress: Called with the number of bytes written so far.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if there is no such workspace,
                WORKSPACE_BUSY if a file kept changing, PATH_UNSUITABLE if the workspace
                has an entry that an archive cannot hold, FIELD_INVALID if `target` is
                neither a path nor a binary file.
        """
        export = self.export_stream(project_name, directories)
        with self._operation("export_workspace", project_name):
            archives.save(export, target, progress)

    def export_stream(
        self, project_name: str, directories: Collection[str] | None = None
    ) -> Export:
        """Return the archive of export_workspace() as an iterator of bytes.

        For example, to copy a workspace to another server:

            other.import_workspace(manager.export_stream("fraud"))

        The call begins with the first piece. The iterator raises the same errors.
        """
        with self._operation("export_workspace", project_name):
            return Export(
                self._connection,
                convert.check_text("project", project_name),
                convert.check_names("directories", directories or ()),
            )

    def import_workspace(
        self,
        source: ArchiveSource,
        project_name: str | None = None,
        progress: Progress | None = None,
        *,
        request_id: str = "",
    ) -> ProjectWorkspace:
        """Create a workspace from an archive of export_workspace().

        The complete workspace appears atomically, or nothing does. Settings that are
        derived from its name or place get the defaults of the new workspace.

        Args:
            source: A path, a binary file, bytes, or an iterable of bytes. If the
                connection is lost, paths and files that can be rewound are sent again.
            project_name: The name of the new workspace. Default: the archive's.
            progress: Called with the number of bytes that the server has staged.
            request_id: As in create_workspace(). Default: a new one.

        Raises:
            WorkspaceError: ARCHIVE_INVALID if the archive is damaged, incomplete or not
                from export_workspace(), WORKSPACE_EXISTS if the name is in use,
                NO_SPACE if the disk or the archive's quota has no room, FIELD_INVALID
                if `source` does not consist of bytes.
        """
        with self._operation("import_workspace", project_name):
            archive = archives.Source(source)
            try:
                name = archive.project() if project_name is None else project_name
                head = pb.ImportWorkspaceRequest(
                    project=convert.check_text("project", name),
                    request_id=convert.check_text("request_id", request_id)
                    or str(uuid.uuid4()),
                )
                call = archives.Import(self._connection, head, archive, progress)
                return self._seen(call.run())
            finally:
                archive.close()

    def lease(
        self,
        project_name: str,
        holder: str | None = None,
        ttl: float | timedelta = DEFAULT_TTL_S,
        wait: bool | float | None = None,
    ) -> Lease:
        """Return a lease for a `with` block: the exclusive right to change a workspace.

        For example::

            with manager.lease("fraud", wait=True):
                manager.update_workspace_metadata("fraud", metadata={"stage": "prod"})

        Lease describes what it protects and what happens when it is lost.

        Args:
            holder: Who holds the lease, shown to others: 1 to 128 printable ASCII
                characters. Two programs with the same holder share the lease. Default:
                `<user>@<host>:<pid>:<random>`.
            ttl: After how many seconds the lease ends if this process does not renew
                it, because it died or lost its connection: 1 s to 24 h.
            wait: How long to wait for another holder's lease to end, in seconds; True
                waits as long as it takes. Default: do not wait.

        Raises:
            WorkspaceError: At the beginning of the block: LEASE_HELD if somebody else
                holds the lease, WORKSPACE_NOT_FOUND if there is no such workspace.
        """
        with self._operation("lease", project_name):
            return Lease(self._connection, project_name, holder, ttl, wait)

    def acquire_lease(
        self,
        project_name: str,
        holder: str | None = None,
        ttl: float | timedelta = DEFAULT_TTL_S,
        wait: bool | float | None = None,
    ) -> LeaseInfo:
        """Acquire a lease that outlives this process; the same holder renews it.

        Unlike lease(), nothing renews it, and changes by this manager do not carry it.
        It is meant for scripts, whose steps are processes. End it with release_lease().

        Args:
            holder, ttl, wait: As for lease(). The lease ends `ttl` from now.

        Raises:
            WorkspaceError: LEASE_HELD if somebody else holds the lease,
                WORKSPACE_NOT_FOUND if there is no such workspace.
        """
        with self._operation("acquire_lease", project_name):
            lease = Lease(self._connection, project_name, holder, ttl, wait)
            return LeaseInfo.of(lease.acquire_only())

    def release_lease(
        self, project_name: str, holder: str | None = None, force: bool = False
    ) -> None:
        """End a lease, for example that of a program that died. No-op if there is none.

        Args:
            holder: The holder of the lease. Required unless `force` is set.
            force: End the lease whoever holds it. Needs the permission to delete the
                workspace.

        Raises:
            WorkspaceError: LEASE_HELD if the lease is not that of `holder`,
                WORKSPACE_NOT_FOUND if there is no such workspace.
        """
        with self._operation("release_lease", project_name):
            request = pb.ReleaseLeaseRequest(
                project=convert.check_text("project", project_name),
                holder=convert.check_text("holder", holder or ""),
                force=force,
            )
            self._connection.call(request)

    def get_workspace_status(
        self, project_name: str, counts_only: bool = False
    ) -> dict[str, Any]:
        """Count the files of a workspace now.

        Args:
            counts_only: Count files, but not bytes; every number of bytes is None. Much
                less work for the server.

        Returns:
            The workspace's to_dict(), and `directory_stats`, `file_count`,
                `size_bytes`, `scan_time` and `error`. `directory_stats` holds, for each
                of the five directories, for example `mlflow_exists`, `mlflow_files` and
                `mlflow_bytes`, subdirectories included. `error` is None unless
                something could not be counted. Also `max_size_bytes`, `max_file_count`
                (None for no limit) and `over_quota`, whether it uses more than that.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if there is no such workspace.
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
        """Return the status of every workspace that matches `filter`, ordered by name.

        By default all workspaces match. Without a filter, the list includes workspaces
        that cannot be read: these have an `error`, and None for every unknown value.
        `counts_only` is as in get_workspace_status().

        Raises:
            WorkspaceError: FILTER_INVALID if `filter` is malformed.
        """
        with self._operation("get_all_workspaces_status"):
            messages = self._connection.collect(
                pb.StreamWorkspaceStatusesRequest(
                    filter=convert.check_text("filter", filter), counts_only=counts_only
                )
            )
            statuses = [status for message in messages for status in message.statuses]
            # The server sends each status as soon as it is counted, in no order.
            statuses.sort(key=lambda status: status.workspace.project)
            return [self._status(status, counts_only) for status in statuses]

    def watch(
        self,
        projects: Collection[str] | None = None,
        *,
        resume_token: str = "",
        synced: bool = False,
    ) -> Iterator[WorkspaceEvent]:
        """Yield every change of workspaces, without end.

        Begins with a "created" event for each existing workspace. Reports all changes
        of records and leases, even those made by hand, and when a workspace begins or
        ceases to use more than its quotas, but not other changes of files in the five
        directories. Several quick changes of a workspace may be reported as one.
        ProjectWorkspace.watch() reports the changes of one workspace.

        Resumes automatically after a lost connection or a restart of the server. To
        stop, leave the loop or close() the iterator.

        Args:
            projects: The names of the projects to watch, at most 1,000; they need not
                exist yet. Default: all.
            resume_token: The `resume_token` of an earlier event: report only what
                changed after it.
            synced: Also yield a "synced" event when everything that changed has been
                reported, and again every few seconds while nothing changes.

        Raises:
            WorkspaceError: RESUME_TOKEN_EXPIRED if the server no longer knows what
                changed after `resume_token`; watch again without it. TOKEN_INVALID
                if it is damaged.
        """
        with self._operation("watch"):
            watch = Watch(
                self._connection,
                convert.check_names("projects", projects or ()),
                convert.check_text("resume_token", resume_token),
            )
        return self._events(watch, synced)

    def resume_token(self) -> str:
        """Return the current position, for `watch(resume_token=...)`.

        That watch reports the changes after this call. It does not begin with the
        existing workspaces.
        """
        with self._operation("resume_token"):
            listed = self._connection.call(pb.ListWorkspacesRequest(page_size=1))
            return str(listed.resume_token)

    def _events(self, watch: Watch, synced: bool) -> Iterator[WorkspaceEvent]:
        with self._operation("watch"):
            for event in read_events(watch, self._seen):
                if event.change == "deleted":
                    self.workspaces.pop(event.project, None)
                if event.change != "synced" or synced:
                    yield event

    @contextmanager
    def _operation(self, name: str, project: str | None = None) -> Iterator[None]:
        with errors.operation(name, project):
            try:
                yield
            except WorkspaceError as error:
                reason = error.details["reason"]
                if project is not None and reason == "WORKSPACE_NOT_FOUND":
                    self.workspaces.pop(project, None)
                # The server's message addresses callers of every language, so it cannot
                # name a Python argument.
                if reason == "FORCE_REQUIRED":
                    error.message = _FORCE_REQUIRED
                    error.args = (error.message,)
                raise

    def _workspace(self, message: pb.Workspace) -> ProjectWorkspace:
        is_deleted = message.HasField("delete_time")
        root = Path(message.root_path)
        if self._local_base is not None:
            # The server reports the resolved path. A caller that reaches the base by a
            # symbolic link gets paths through that link. A workspace in the trash lies
            # two levels below the base, others lie one level below.
            below = root.parts[-2:] if is_deleted else (message.project,)
            root = self._local_base.joinpath(*below)
        # A deleted workspace gets no origin: calls by its name would reach a newer
        # workspace of that name, or none.
        origin = None if is_deleted else self._origin
        return ProjectWorkspace.from_message(message, root, origin)

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
        # Without an etag, the server could not read the record and knows no times.
        if not message.workspace.etag:
            known |= dict.fromkeys(("created_at", "updated_at"))
        return {
            **known,
            "directory_stats": stats,
            "file_count": message.file_count,
            "size_bytes": None if counts_only else message.size_bytes,
            "scan_time": convert.from_timestamp(message.scan_time).isoformat(),
            "error": error,
            **convert.quotas_of(message.workspace),
            "over_quota": message.over_quota,
        }


def _cells(workspace: ProjectWorkspace) -> tuple[object, ...]:
    """Return the cells of a workspace's row in a notebook."""
    rest = {key: value for key, value in workspace.metadata.items() if key != "stage"}
    return (
        workspace.project_name,
        workspace.metadata.get("stage"),
        workspace.updated_at.isoformat(" ", "seconds"),
        ", ".join(f"{key}={value}" for key, value in rest.items()),
    )


def _required(field: str, text: object) -> str:
    checked = convert.check_text(field, text)
    if not checked:
        raise errors.field_invalid(field, "is required")
    return checked


def _mask_to_remove(
    wanted: pb.Workspace, quotas: Mapping[str, object]
) -> FieldMask | None:
    """Return the mask of an update that removes a quota; None if it removes none.

    Without a mask, absent fields stay. With one, `metadata` would be replaced.
    """
    if None not in quotas.values():
        return None
    if wanted.HasField("metadata"):
        raise errors.field_invalid(
            "metadata", "cannot be changed in the call that removes a quota"
        )
    return FieldMask(paths=[*convert.settings_of(wanted), *quotas])
