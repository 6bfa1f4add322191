"""ProjectWorkspace: one workspace and its record, workspace.yaml."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlops._rpc import convert, errors
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.watch import Watch
from mlops.cli import BINARY, why_not_run
from mlops.workspace.events import WorkspaceEvent, read_events_of
from mlops.workspace.html import html_table
from mlops.workspace.lease import DEFAULT_TTL_S, Lease, LeaseInfo
from mlops.workspace.origin import Facts, Origin
from mlops.workspace.shared_lease import shared_lease
from mlops.workspace.v1 import workspace_service_pb2 as pb

if TYPE_CHECKING:
    from mlops.fs.project_files import ProjectFileSystem

DIRECTORIES = ("mlflow", "dvc", "monitoring", "models", "outputs")


# A record that this project wrote begins with this line and ends with the key below. A
# file with the first but not the last was truncated, which the server detects.
_HEADER = b"# Written by mlops-workspace: whole only with its last key.\n"
_END = b"end_of_record: true\n"
_MAX_RECORD_BYTES = 1 << 20
_DECODE_TIMEOUT_S = 60.0
# The key under which --decode-record returns, as YAML text, all keys of a record other
# than the fields, the uid and the request_id.
_OTHER_KEYS = "other_keys"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class ProjectWorkspace:
    """The isolated directory of one project, as it was when it was read.

    The server of a workspace that came from a WorkspaceManager may be on another
    machine. Then the paths are paths on that machine, and `files` gives access to the
    files. A workspace that was constructed directly, or by dataclasses.replace(), has
    no server: it is a directory on this machine.
    """

    project_name: str
    root_path: Path
    mlflow_experiment_id: str | None = None
    mlflow_tracking_uri: str | None = None
    dvc_remote_path: str | None = None
    bentoml_tag_prefix: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime = field(default_factory=_now)
    updated_at: datetime = field(default_factory=_now)

    def __post_init__(self) -> None:
        self.root_path = Path(self.root_path)
        # Not dataclass fields, so they are neither compared nor shown.
        self._origin: Origin | None = None
        self._facts = Facts()

    def of(self, origin: Origin | None, facts: Facts) -> Self:
        """Attach the server's facts, and return this workspace.

        Only WorkspaceManager calls this method.
        """
        self._origin, self._facts = origin, facts
        return self

    @classmethod
    def from_message(
        cls, message: pb.Workspace, root: Path, origin: Origin | None
    ) -> Self:
        """Return a workspace that the server reported. Only this package calls this."""
        return cls(
            project_name=message.project,
            root_path=root,
            **convert.settings_of(message),
            metadata=convert.from_struct(message.metadata),
            created_at=convert.from_timestamp(message.create_time),
            updated_at=convert.from_timestamp(message.update_time),
        ).of(origin, Facts.of(message))

    @property
    def uid(self) -> str:
        """Distinguishes this workspace from others of the same name.

        "" if the workspace came from no server.
        """
        return self._facts.uid

    @property
    def etag(self) -> str:
        """Changes with every change of the record, workspace.yaml; for `if_match`.

        "" if the workspace came from no server, or if the server could not read the
        record.
        """
        return self._facts.etag

    @property
    def deleted_at(self) -> datetime | None:
        """When the workspace was deleted; None if it is not in the trash."""
        return self._facts.deleted_at

    @property
    def purged_at(self) -> datetime | None:
        """When the trash removes it for good; None if it is not in the trash."""
        return self._facts.purged_at

    @property
    def max_size_bytes(self) -> int | None:
        """The quota of bytes in the five directories; None for no limit."""
        return self._facts.max_size_bytes

    @property
    def max_file_count(self) -> int | None:
        """The quota of files in the five directories; None for no limit."""
        return self._facts.max_file_count

    @property
    def held_by(self) -> LeaseInfo | None:
        """The lease on the workspace when it was read; None if nobody held one."""
        return self._facts.lease

    def lease(
        self,
        holder: str | None = None,
        ttl: float | timedelta = DEFAULT_TTL_S,
        wait: bool | float | None = None,
    ) -> Lease:
        """Return a lease on this workspace, as WorkspaceManager.lease() does.

        Raises:
            WorkspaceError: The workspace came from no manager.
        """
        with errors.operation("lease", self.project_name):
            return Lease(self._connection(), self.project_name, holder, ttl, wait)

    def watch(
        self, *, resume_token: str = "", synced: bool = False
    ) -> Iterator[WorkspaceEvent]:
        """Yield every change of this workspace, until it is deleted.

        Begins with a "created" event that has its current state, and ends after a
        "deleted" event. A later workspace of the same name is another one. Otherwise as
        WorkspaceManager.watch(), which has the arguments.

        Raises:
            WorkspaceError: The workspace came from no manager. And as
                WorkspaceManager.watch().
        """
        with errors.operation("watch", self.project_name):
            watch = Watch(
                self._connection(),
                [self.project_name],
                convert.check_text("resume_token", resume_token),
            )
        return self._events(watch, synced)

    def _events(self, watch: Watch, synced: bool) -> Iterator[WorkspaceEvent]:
        def as_this(message: pb.Workspace) -> ProjectWorkspace:
            return self.from_message(message, self.root_path, self._origin)

        with errors.operation("watch", self.project_name):
            for event in read_events_of(watch, self.project_name, self.uid, as_this):
                if event.change != "synced" or synced:
                    yield event

    def exclusively(self, wait_s: float) -> AbstractContextManager[None]:
        """Return a block in which other hosts do not change the workspace by path.

        See shared_lease(). Only MLOpsClient and its adapters call this method. Without
        a server, the block excludes nobody.
        """
        if self._origin is None:
            return nullcontext()
        return shared_lease(self._origin.connection, self.project_name, wait_s)

    @property
    def is_local(self) -> bool:
        """Whether `root_path` on this machine is the directory that the server has.

        True if the server was found by its base directory and runs on this machine.
        Otherwise each access to this property tests it: the client creates a temporary
        file in one of the five directories and asks the server for that file. The
        result is False for another directory of the same name, for a copy, and for a
        directory that this process cannot write to.

        Raises:
            WorkspaceError: The server has to be asked and does not answer.
        """
        with errors.operation("is_local", self.project_name):
            return self._origin is None or self._origin.has(
                self.root_path, self.project_name, DIRECTORIES
            )

    @property
    def files(self) -> "ProjectFileSystem":
        """The workspace as an fsspec file system, wherever the server is.

        A mlops.fs.WorkspaceFileSystem whose paths are relative to the workspace, for
        example `workspace.files.open("outputs/model.pt", "wb")`. It shares the
        connection of the manager that the workspace came from. Failures are OSErrors
        with the server's message.

        Raises:
            ModuleNotFoundError: The extra `fs` is not installed.
            WorkspaceError: The workspace came from no manager.
        """
        with errors.operation("files", self.project_name):
            connection = self._connection()
        from mlops.fs import WorkspaceFileSystem
        from mlops.fs.project_files import ProjectFileSystem

        all_files = WorkspaceFileSystem(
            base_path=self.root_path.parent, connection=connection
        )
        return ProjectFileSystem(self.project_name, all_files)

    def _connection(self) -> Connection:
        if self._origin is None:
            raise errors.unavailable(
                f"{self.project_name} has no server: it came from no WorkspaceManager"
            )
        return self._origin.connection

    @property
    def mlflow_path(self) -> Path:
        """The directory of MLflow's runs and artifacts."""
        return self.root_path / "mlflow"

    @property
    def dvc_path(self) -> Path:
        """The directory of DVC's repository."""
        return self.root_path / "dvc"

    @property
    def monitoring_path(self) -> Path:
        """The directory of Evidently's reports."""
        return self.root_path / "monitoring"

    @property
    def models_path(self) -> Path:
        """The directory of BentoML's models."""
        return self.root_path / "models"

    @property
    def outputs_path(self) -> Path:
        """The directory for checkpoints and training results."""
        return self.root_path / "outputs"

    @property
    def metadata_file(self) -> Path:
        """The record, workspace.yaml, with settings and metadata."""
        return self.root_path / "workspace.yaml"

    def ensure_directories(self) -> None:
        """Create the workspace's directories that are missing.

        For a workspace that is not local, its server does this, and also creates the
        workspace if it is missing.

        Raises:
            WorkspaceError: The server is asked and refuses or does not answer.
        """
        with errors.operation("ensure_directories", self.project_name):
            if self._origin is not None and not self.is_local:
                self._origin.ensure(self._message(), DIRECTORIES)
                return
        for name in DIRECTORIES:
            (self.root_path / name).mkdir(parents=True, exist_ok=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the paths of the five directories as JSON values.

        Paths and times are text.
        """
        return {
            "project_name": self.project_name,
            "root_path": str(self.root_path),
            **{f"{name}_path": str(self.root_path / name) for name in DIRECTORIES},
            **{name: getattr(self, name) for name in convert.SETTINGS},
            "metadata": self.metadata,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    def _repr_html_(self) -> str:
        """Return an HTML table for notebooks."""
        return html_table(self.project_name, self.to_dict())

    def save_metadata(self) -> None:
        """Write workspace.yaml atomically.

        Keys in the file other than the nine fields are kept. The server notices the new
        file. For a workspace that is not local, the server writes the file and sets the
        times itself. If others may change the workspace at the same time, use
        WorkspaceManager.update_workspace_metadata() instead.

        Raises:
            WorkspaceError: The metadata holds a value that a workspace cannot hold, the
                present file is malformed, or the server is asked and refuses or does
                not answer.
        """
        with errors.operation("save_metadata", self.project_name):
            message = self._message()
            if self._origin is not None and not self.is_local:
                self._origin.save(message)
                return
            # Keys that are not fields stay in the record.
            kept = _read(self.metadata_file) if self.metadata_file.exists() else {}
            self.root_path.mkdir(parents=True, exist_ok=True)
            record = {
                name: value for name, value in self.to_dict().items() if name in _FIELDS
            }
            # The settings as the server would store them, for example paths as text.
            record |= {
                name: convert.settings_of(message).get(name)
                for name in convert.SETTINGS
            }
            record["metadata"] = convert.to_metadata(self.metadata)
            # The server shows a path that is not UTF-8 in the same way.
            record["root_path"] = os.fsencode(self.root_path).decode(
                errors="backslashreplace"
            )
            _replace(
                self.metadata_file,
                _dump({**record, **{k: kept[k] for k in kept if k not in _FIELDS}}),
            )

    def _message(self) -> pb.Workspace:
        settings = {name: getattr(self, name) for name in convert.SETTINGS}
        return convert.to_workspace(self.project_name, settings, self.metadata)

    @classmethod
    def load_metadata(cls, root_path: str | os.PathLike[str]) -> Self:
        """Read the workspace.yaml in `root_path`, on this machine, without a server.

        The result is what the server would read: in a copied or moved directory,
        settings that were defaults of the old path become the defaults of the new path.

        Raises:
            WorkspaceError: WORKSPACE_NOT_FOUND if the file is missing,
                WORKSPACE_CORRUPT if it is malformed.
        """
        file = Path(root_path) / "workspace.yaml"
        with errors.operation("load_metadata", file.parent.name):
            if not file.is_file():
                raise errors.WorkspaceError(
                    f"Workspace metadata not found: {file}",
                    details=errors.not_found(file.parent.name).details,
                )
            try:
                record = _read(file)
                modified_at = _modified_at(file)
            except WorkspaceError as error:
                raise WorkspaceError(
                    f"{_LOAD_FAILED}: {error.message}", details=error.details
                ) from error
            except OSError as error:
                details = {
                    "path": str(file),
                    "errno": str(error.errno),
                    "reason": "IO_ERROR",
                    "code": "INTERNAL",
                }
                raise WorkspaceError(
                    f"{_LOAD_FAILED}: {file}: {error.strerror}", details=details
                ) from error
            # Like the server, use the file's mtime in place of missing times.
            created_at = _time(record["created_at"]) or modified_at
            return cls(
                project_name=record["project_name"],
                root_path=file.parent,
                **{name: record[name] for name in convert.SETTINGS},
                metadata=record["metadata"],
                created_at=created_at,
                updated_at=_time(record["updated_at"]) or created_at,
            ).of(
                None,
                Facts(
                    max_size_bytes=record.get("max_size_bytes"),
                    max_file_count=record.get("max_file_count"),
                ),
            )


_LOAD_FAILED = "Failed to load workspace metadata"
_FIELDS = frozenset(ProjectWorkspace.__dataclass_fields__)


def _read(file: Path) -> dict[str, Any]:
    """Read a record: its fields, _OTHER_KEYS, and uid and request_id if present."""
    with file.open("rb") as stream:
        text = stream.read(_MAX_RECORD_BYTES + 1)
    record = _decode(text, os.path.realpath(file.parent))
    if "problem" in record:
        raise _corrupt(file, record["line"], record["problem"])
    return {
        key: value
        for key, value in record.items()
        if key in _FIELDS or value is not None
    }


def _decode(text: bytes, root_path: str) -> dict[str, Any]:
    """Decode `text`, the record in `root_path`, to its values.

    Returns the keys `problem` and `line` if the text is malformed. The server's own
    program decodes the text: a second parser would read some files differently.
    """
    command = [str(BINARY), "--decode-record", root_path]
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            cwd="/",
            timeout=_DECODE_TIMEOUT_S,
            check=True,
        )
        record: dict[str, Any] = json.loads(done.stdout)
    except OSError as error:
        raise errors.unavailable(why_not_run(error)) from error
    except (subprocess.SubprocessError, ValueError) as error:
        raise errors.unavailable(f"{BINARY} cannot be run: {error}") from error
    return record


def _corrupt(file: Path, line: int, problem: str) -> WorkspaceError:
    """Return the error that the server reports for such a file."""
    details = {
        "file": str(file),
        "line": str(line),
        "problem": problem,
        "reason": "WORKSPACE_CORRUPT",
    }
    place = f"{file}:{line}" if line else str(file)
    return WorkspaceError(
        f"{place}: {problem}", details={**details, "code": "DATA_LOSS"}
    )


def _modified_at(file: Path) -> datetime:
    """Return the mtime in whole microseconds, clamped to the range of datetime.

    The server uses the same value in place of missing times.
    """
    microseconds = file.stat().st_mtime_ns // 1000
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
    except OverflowError:
        return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _dump(record: dict[str, Any]) -> bytes:
    """Return the text of a record.

    Raises:
        WorkspaceError: FIELD_INVALID if the text would not read back equal.
    """
    record = dict(record)
    others: str | None = record.pop(_OTHER_KEYS, None)
    # Without other keys, no existing file is replaced: this is a new workspace.
    if others is None:
        record["uid"] = uuid.uuid4().hex
    # Few programs write a record, and importing PyYAML takes longer than a call.
    from mlops.workspace.record_yaml import to_yaml

    text = to_yaml(record)
    text += (others or "").encode()
    # A record made by hand has no uid and stays without one: the server derives the uid
    # from the file. Only a record that this project wrote gets the header and the end.
    if "uid" in record:
        text = _HEADER + text + _END
    # Read the text back, so that no record is written that the server would refuse.
    back = _decode(text, record["root_path"])
    if "problem" in back:
        raise errors.field_invalid(
            "metadata", f"would not be read back: {back['problem']}"
        )
    if any(back[name] != record[name] for name in ("metadata", *convert.SETTINGS)):
        raise errors.field_invalid("metadata", "would not be read back as it is")
    return text


def _replace(file: Path, content: bytes) -> None:
    """Replace `file` atomically: write a draft beside it, fsync it, rename it.

    The server does not sweep away files with the draft's name.
    """
    draft = file.with_name(f".{file.name}~{uuid.uuid4().hex}")
    try:
        with draft.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    # Make the rename durable.
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
