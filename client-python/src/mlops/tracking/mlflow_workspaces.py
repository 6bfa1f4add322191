"""Projects as workspaces of an MLflow server.

    mlflow server --enable-workspaces --workspace-store-uri mlops:///absolute/base/path

MLflow loads this module through its entry point, by the scheme of the URI.
"""

import logging
import os
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from mlflow.entities import Workspace
from mlflow.entities.workspace import WorkspaceDeletionMode
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.workspace.abstract_store import AbstractStore, WorkspaceNameValidator
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

from mlops._rpc import convert, errors
from mlops._rpc.connection import Connection, Server
from mlops._rpc.credentials import Credentials
from mlops._rpc.errors import WorkspaceError
from mlops.local_server import LocalServer, server_at
from mlops.workspace.v1 import workspace_service_pb2 as pb

_log = logging.getLogger(__name__)

_PAGE_SIZE = 1000
_NAMES_A_LINE = 100
_DESCRIPTION = "description"
# MLflow's setting names, and their keys in metadata. Older MLflow versions have none of
# these settings.
_ARCHIVAL = {
    name: f"mlflow_{name}"
    for name in ("trace_archival_location", "trace_archival_retention")
    if name in Workspace.__dataclass_fields__
}
# MLflow's codes by gRPC code; all others become internal errors. MLflow's client
# retries calls for minutes that fail with TEMPORARILY_UNAVAILABLE, DATA_LOSS or
# INVALID_STATE.
_CODES = {
    "INVALID_ARGUMENT": codes.INVALID_PARAMETER_VALUE,
    "NOT_FOUND": codes.RESOURCE_DOES_NOT_EXIST,
    "ALREADY_EXISTS": codes.RESOURCE_ALREADY_EXISTS,
    "FAILED_PRECONDITION": codes.INVALID_STATE,
    "ABORTED": codes.ABORTED,
    "RESOURCE_EXHAUSTED": codes.RESOURCE_EXHAUSTED,
    "UNAVAILABLE": codes.TEMPORARILY_UNAVAILABLE,
    "DEADLINE_EXCEEDED": codes.TEMPORARILY_UNAVAILABLE,
    "DATA_LOSS": codes.DATA_LOSS,
}


class WorkspaceStore(AbstractStore):  # type: ignore[misc] # MLflow is untyped.
    """The projects of one server, as MLflow's workspaces.

    Stores nothing: each call asks the server, so every worker of the MLflow server
    immediately sees what others create, change and delete. Thread-safe.

    Projects whose names MLflow does not allow are omitted, and logged by name. MLflow
    allows 2 to 63 characters of a-z, 0-9 and, between them, -, except for a few
    reserved words. The description is the project's `metadata.description`. The
    artifacts of a workspace are always in its own directory,
    `<root_path>/mlflow/artifacts`.

    Every method may raise MlflowException with one of these codes:

        RESOURCE_DOES_NOT_EXIST: There is no such project.
        RESOURCE_ALREADY_EXISTS: The project exists.
        INVALID_PARAMETER_VALUE: An argument is invalid.
        TEMPORARILY_UNAVAILABLE: There is no server to talk to.
        DATA_LOSS: A workspace.yaml cannot be read.
        RESOURCE_CONFLICT: A workspace to delete is not empty.
        INVALID_STATE, ABORTED, RESOURCE_EXHAUSTED, INTERNAL_ERROR: The server reported
            FAILED_PRECONDITION, ABORTED, RESOURCE_EXHAUSTED or INTERNAL.
    """

    def __init__(self, workspace_uri: str) -> None:
        """Choose the server; the first call connects to it.

        Args:
            workspace_uri: `mlops://HOST:PORT`, or `mlops:///absolute/base/path`, whose
                server is started if none is running. Characters of the path that a URI
                cannot contain are percent-encoded. The environment has the credentials
                (MLOPS_WORKSPACE_TOKEN and so on; see CredentialOptions).
        """
        self._connection = Connection(_server(workspace_uri))
        self._unnameable = _Notice(
            "MLflow does not allow these workspace names, so they are omitted"
        )
        self._unreadable = _Notice(
            "The workspace.yaml of these workspaces cannot be read, so they are omitted"
        )

    def list_workspaces(self) -> list[Workspace]:
        """Return all workspaces, ordered by name.

        Omitted projects are logged by name, once each.
        """
        found: list[Workspace] = []
        unnameable: set[str] = set()
        unreadable: set[str] = set()
        request = pb.ListWorkspacesRequest(page_size=_PAGE_SIZE)
        with _operation("list_workspaces"):
            for page in self._connection.pages(request):
                for message in page.workspaces:
                    if _is_nameable(message.project):
                        found.append(_entity(message))
                    else:
                        unnameable.add(message.project)
                unreadable.update(page.unreachable)
        self._unnameable.tell(unnameable)
        self._unreadable.tell(unreadable)
        return found

    def get_workspace(self, workspace_name: str) -> Workspace:
        """Return the workspace of that name, as it is on disk now."""
        with _operation("get_workspace", workspace_name):
            return _entity(self._get(workspace_name))

    def get_default_workspace(self) -> Workspace:
        """Return the project `default`.

        MLflow uses it for calls that name no workspace.

        Raises:
            NotImplementedError: There is no such project. MLflow then requires every
                request to name its workspace.
        """
        try:
            return self.get_workspace(DEFAULT_WORKSPACE_NAME)
        except MlflowException as error:
            if error.error_code != codes.ErrorCode.Name(codes.RESOURCE_DOES_NOT_EXIST):
                raise
        raise NotImplementedError

    def create_workspace(self, workspace: Workspace) -> Workspace:
        """Create a project with its directory."""
        WorkspaceNameValidator.validate(workspace.name)
        if workspace.default_artifact_root:
            raise _artifact_root_is_fixed(workspace.name)
        given, _ = _metadata(workspace)
        with _operation("create_workspace", workspace.name):
            wanted = pb.Workspace(metadata=convert.to_struct(given))
            request = pb.CreateWorkspaceRequest(
                project=workspace.name, workspace=wanted
            )
            return _entity(self._connection.call(request))

    def update_workspace(self, workspace: Workspace) -> Workspace:
        """Change the description and the trace archival settings of a project.

        None keeps a value, "" clears it.
        """
        with _operation("update_workspace", workspace.name):
            current = _entity(self._get(workspace.name))
            if workspace.default_artifact_root not in (
                None,
                "",
                current.default_artifact_root,
            ):
                raise _artifact_root_is_fixed(workspace.name)
            given, cleared = _metadata(workspace)
            if not given and not cleared:
                return current
            changed = pb.Workspace(
                project=workspace.name, metadata=convert.to_struct(given)
            )
            request = pb.UpdateWorkspaceRequest(
                workspace=changed, remove_metadata=cleared
            )
            return _entity(self._connection.call(request))

    def delete_workspace(
        self,
        workspace_name: str,
        mode: WorkspaceDeletionMode = WorkspaceDeletionMode.RESTRICT,
    ) -> None:
        """Move a project with its files into the server's trash.

        UndeleteWorkspace restores it.

        Args:
            mode: RESTRICT refuses if the project has any files, or any rows in MLflow's
                database. CASCADE permanently deletes its rows in the database.
                SET_DEFAULT is refused, because runs would lose their artifacts with the
                directory.
        """
        WorkspaceNameValidator.validate(workspace_name)
        if workspace_name == DEFAULT_WORKSPACE_NAME:
            raise MlflowException.invalid_parameter_value(
                f"{workspace_name} is MLflow's default workspace, "
                "which it does not delete"
            )
        if mode is WorkspaceDeletionMode.RESTRICT:
            self._delete_empty(workspace_name)
        elif mode is WorkspaceDeletionMode.CASCADE:
            self._delete_all(workspace_name)
        else:
            raise MlflowException.invalid_parameter_value(
                f"{mode.value} is not possible: "
                f"the artifacts of {workspace_name} are in its own directory, and go "
                "with it. Use CASCADE, which deletes its runs as well, or RESTRICT"
            )

    def resolve_artifact_root(
        self, default_artifact_root: str | None, workspace_name: str
    ) -> tuple[str | None, bool]:
        """Return the workspace's artifact directory; MLflow must not append to it."""
        return self.get_workspace(workspace_name).default_artifact_root, False

    def resolve_trace_archival_config(
        self,
        default_trace_archival_root: str,
        default_retention: str,
        workspace_name: str,
    ) -> Any:
        """Return the workspace's location and retention, else the MLflow server's."""
        # Import late: MLflow versions that have workspaces may lack these.
        from mlflow.entities.workspace import TraceArchivalConfig
        from mlflow.store.workspace.abstract_store import ResolvedTraceArchivalConfig

        workspace = self.get_workspace(workspace_name)
        config = TraceArchivalConfig(
            location=workspace.trace_archival_location or default_trace_archival_root,
            retention=workspace.trace_archival_retention or default_retention,
        )
        return ResolvedTraceArchivalConfig(
            config, append_workspace_prefix=not workspace.trace_archival_location
        )

    def _get(self, name: str) -> pb.Workspace:
        if name != DEFAULT_WORKSPACE_NAME:
            WorkspaceNameValidator.validate(name)
        workspace: pb.Workspace = self._connection.call(
            pb.GetWorkspaceRequest(project=name)
        )
        return workspace

    def _delete_empty(self, name: str) -> None:
        from mlops.tracking import mlflow_tables

        with _operation("delete_workspace", name):
            count_now = pb.GetWorkspaceStatusRequest(project=name, counts_only=True)
            status = self._connection.call(count_now)
            if status.file_count or status.error.code:
                problem = (
                    status.error.message
                    or f"it has files ({status.file_count}), "
                    f"in {status.workspace.root_path}"
                )
                raise MlflowException(
                    f"{name} is not deleted: {problem}", codes.RESOURCE_CONFLICT
                )
            # RESTRICT deletes no rows, but fails if there are any.
            mlflow_tables.delete(name, WorkspaceDeletionMode.RESTRICT)
            # The uid ensures that this deletes only the workspace that was counted.
            request = pb.DeleteWorkspaceRequest(
                project=name, force=True, uid=status.workspace.uid
            )
            self._connection.call(request)

    def _delete_all(self, name: str) -> None:
        from mlops.tracking import mlflow_tables

        with _operation("delete_workspace", name):
            # First delete what can be restored.
            request = pb.DeleteWorkspaceRequest(project=name, force=True)
            deleted = self._connection.call(request).workspace
            try:
                mlflow_tables.delete(name, WorkspaceDeletionMode.CASCADE)
            except BaseException:
                undelete = pb.UndeleteWorkspaceRequest(project=name, uid=deleted.uid)
                self._connection.call(undelete)
                raise


class _Notice:
    """Logs the names of affected workspaces: each name once while it is affected.

    Thread-safe.
    """

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence
        self._lock = threading.Lock()
        self._told: Set[str] = frozenset()

    def tell(self, names: Set[str]) -> None:
        with self._lock:
            new, self._told = sorted(names - self._told), names
        for i in range(0, len(new), _NAMES_A_LINE):
            _log.warning(
                "%s: %s", self._sentence, ", ".join(new[i : i + _NAMES_A_LINE])
            )


def _server(uri: str) -> Server:
    host, path = _host_and_path(uri)
    with _operation("connect"):
        credentials = Credentials.of({})
        if host:
            return server_at("--workspace-store-uri", host, credentials)
    base = Path(path)
    # If this fails, the first call reports why.
    with suppress(OSError):
        base.mkdir(parents=True, exist_ok=True)
    return LocalServer(base, credentials)


def _host_and_path(uri: str) -> tuple[str, str]:
    """Return the host or the path of the URI, and "" for the other one."""
    with suppress(ValueError):
        parts = urlsplit(uri)
        path = os.fsdecode(unquote_to_bytes(parts.path)).rstrip("/")
        one = bool(parts.netloc) != path.startswith("/")
        # urlsplit() drops line breaks and tabs, which would name another directory.
        if (
            one
            and not parts.query
            and not parts.fragment
            and not set("\t\r\n") & set(uri)
        ):
            return parts.netloc, path
    raise MlflowException.invalid_parameter_value(
        f"{uri} is not a URI of a workspace store: "
        "it must be mlops:///ABSOLUTE/BASE/PATH "
        "(with %20 and so on for what a URI cannot hold) or mlops://HOST:PORT"
    )


@contextmanager
def _operation(name: str, project: str | None = None) -> Iterator[None]:
    """Convert the server's errors to MLflow's."""
    try:
        with errors.operation(name, project):
            yield
    except WorkspaceError as error:
        code = _CODES.get(error.details["code"], codes.INTERNAL_ERROR)
        raise MlflowException(error.message, code) from error


def _is_nameable(project: str) -> bool:
    try:
        WorkspaceNameValidator.validate(project)
    except MlflowException:
        return False
    return True


def _entity(message: pb.Workspace) -> Workspace:
    archival = {
        name: text
        for name, key in _ARCHIVAL.items()
        if (text := _text(message, key)) is not None
    }
    # The same text as Path.as_uri(), which takes twice the time.
    root = f"file://{quote(message.root_path)}/mlflow/artifacts"
    return Workspace(message.project, _text(message, _DESCRIPTION), root, **archival)


def _text(message: pb.Workspace, key: str) -> str | None:
    """Return a text of the metadata; None if it is missing or not text."""
    fields = message.metadata.fields
    if key not in fields or not fields[key].HasField("string_value"):
        return None
    return fields[key].string_value


def _metadata(workspace: Workspace) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata to set, and the keys to remove."""
    given = (
        {} if workspace.description is None else {_DESCRIPTION: workspace.description}
    )
    cleared = []
    for name, key in _ARCHIVAL.items():
        match getattr(workspace, name, None):
            case None:
                pass
            case "":
                cleared.append(key)
            case text:
                given[key] = text
    return given, cleared


def _artifact_root_is_fixed(name: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(
        f"default_artifact_root: the artifacts of {name} are in its own directory, "
        "below mlflow/artifacts; leave it out"
    )
