"""A workspace, and its workspace.yaml."""

import json
import os
import subprocess
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from mlops._rpc import convert, errors
from mlops._rpc.errors import WorkspaceError
from mlops.cli import BINARY
from mlops.workspace.html import html_table
from mlops.workspace.origin import Facts, Origin
from mlops.workspace.v1 import workspace_service_pb2 as pb

if TYPE_CHECKING:
    from mlops.fs.project_files import ProjectFileSystem

DIRECTORIES = ("mlflow", "dvc", "monitoring", "models", "outputs")


# The first line of a record that this project wrote, and its last key: a file with the
# one and without the other was cut off, which the server notices.
_HEADER = b"# Written by mlops-workspace: whole only with its last key.\n"
_END = b"end_of_record: true\n"
_MAX_RECORD_BYTES = 1 << 20
_DECODE_TIMEOUT_S = 60.0
# Under this key stands, as YAML, what a record holds beside the fields, the uid and the
# request_id.
_OTHER_KEYS = "other_keys"


class _Dumper(yaml.SafeDumper):
    """Without anchors and aliases, which the server refuses."""

    def ignore_aliases(self, data: object) -> bool:
        """Writes an object that stands in several places in each of them."""
        return True


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class ProjectWorkspace:
    """The isolated directory of one project. Values are as they were when it was read.

    The server of one that came from a WorkspaceManager may be on another machine: then
    the paths are that machine's, and its files are to be had by `files`. One that did
    not, or that dataclasses.replace() made, knows no server: it is a directory of this
    machine.
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
        # No fields: neither compared nor shown.
        self._origin: Origin | None = None
        self._facts = Facts()

    def of(self, origin: Origin | None, facts: Facts) -> Self:
        """This workspace, as one that came from a server. For WorkspaceManager."""
        self._origin, self._facts = origin, facts
        return self

    @property
    def uid(self) -> str:
        """Tells this workspace from others that had its name; "" if it came from no
        server.
        """
        return self._facts.uid

    @property
    def etag(self) -> str:
        """Changes whenever the record, workspace.yaml, does: for `if_match`. "" if the
        workspace came from no server, or if the server could not read the record.
        """
        return self._facts.etag

    @property
    def deleted_at(self) -> datetime | None:
        """When it was deleted; None if it is not in the trash."""
        return self._facts.deleted_at

    @property
    def purged_at(self) -> datetime | None:
        """When it will be removed from the trash for good; None if it is not there."""
        return self._facts.purged_at

    @property
    def is_local(self) -> bool:
        """Whether `root_path` is, on this machine, the very directory that the server
        has.

        One whose server was found by its base directory is, if that server is on this
        machine. Where the server was found otherwise it is proved, at each call: a file
        that is made for a moment in one of the five directories must be there for the
        server, too. A directory of the same name is none, nor is a copy, nor one where
        nothing can be written from here.

        Raises WorkspaceError if the server has to be asked and does not answer.
        """
        with errors.operation("is_local", self.project_name):
            return self._origin is None or self._origin.has(
                self.root_path, self.project_name, DIRECTORIES
            )

    @property
    def files(self) -> "ProjectFileSystem":
        """The workspace as a file system of fsspec, by the connection of the manager
        that it came from: `workspace.files.open("outputs/model.pt", "wb")`, wherever
        the server is. It is a mlops.fs.WorkspaceFileSystem whose paths begin at the
        workspace; errors are OSErrors, made of the server's.

        Raises ModuleNotFoundError if the extra `fs` is not installed, WorkspaceError if
        it came from no manager.
        """
        if self._origin is None:
            with errors.operation("files", self.project_name):
                raise errors.unavailable(
                    f"{self.project_name} has no server: it came from no WorkspaceManager"
                )
        from mlops.fs import WorkspaceFileSystem
        from mlops.fs.project_files import ProjectFileSystem

        all_files = WorkspaceFileSystem(
            base_path=self.root_path.parent, connection=self._origin.connection
        )
        return ProjectFileSystem(self.project_name, all_files)

    @property
    def mlflow_path(self) -> Path:
        """Runs and artifacts of MLflow."""
        return self.root_path / "mlflow"

    @property
    def dvc_path(self) -> Path:
        """Data versioned by DVC."""
        return self.root_path / "dvc"

    @property
    def monitoring_path(self) -> Path:
        """What Evidently found."""
        return self.root_path / "monitoring"

    @property
    def models_path(self) -> Path:
        """Models of BentoML."""
        return self.root_path / "models"

    @property
    def outputs_path(self) -> Path:
        """Checkpoints and results of training."""
        return self.root_path / "outputs"

    @property
    def metadata_file(self) -> Path:
        """The record: settings and metadata."""
        return self.root_path / "workspace.yaml"

    def ensure_directories(self) -> None:
        """Makes the workspace's directories where they are missing. If it is not local
        its server does, which also makes the workspace if there is none.

        Raises WorkspaceError if the server is asked and cannot.
        """
        with errors.operation("ensure_directories", self.project_name):
            if self._origin is not None and not self.is_local:
                self._origin.ensure(self._message(), DIRECTORIES)
                return
        for name in DIRECTORIES:
            (self.root_path / name).mkdir(parents=True, exist_ok=True)

    def to_dict(self) -> dict[str, Any]:
        """The fields and the paths of the five directories, ready for JSON: paths and
        times as text.
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
        """A table, for notebooks."""
        return html_table(self.project_name, self.to_dict())

    def save_metadata(self) -> None:
        """Writes workspace.yaml, at once or not at all. Keys in it that are none of the
        nine fields are kept.

        The server finds what was written; if the workspace is not local, it is the
        server who writes, and sets the times itself. To change what others may change
        at the same time, use WorkspaceManager.update_workspace_metadata().

        Raises WorkspaceError if metadata holds what a workspace cannot hold, if the
        file there cannot be understood, or if the server is asked and cannot.
        """
        with errors.operation("save_metadata", self.project_name):
            message = self._message()
            if self._origin is not None and not self.is_local:
                self._origin.save(message)
                return
            kept = _read(self.metadata_file) if self.metadata_file.exists() else {}
            self.root_path.mkdir(parents=True, exist_ok=True)
            record = {
                name: value for name, value in self.to_dict().items() if name in _FIELDS
            }
            record |= {
                name: convert.settings_of(message).get(name)
                for name in convert.SETTINGS
            }
            record["metadata"] = convert.to_metadata(self.metadata)
            # As the server shows a path that is no UTF-8.
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
        """Reads the workspace.yaml in `root_path`, on this machine, as the server reads
        it: in a copied or moved directory, settings that were defaults of the old place
        are those of the new one. No server is asked.

        Raises WorkspaceError WORKSPACE_NOT_FOUND if there is none, WORKSPACE_CORRUPT if
        it cannot be understood.
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
            created_at = _time(record["created_at"]) or modified_at
            return cls(
                project_name=record["project_name"],
                root_path=file.parent,
                **{name: record[name] for name in convert.SETTINGS},
                metadata=record["metadata"],
                created_at=created_at,
                updated_at=_time(record["updated_at"]) or created_at,
            )


_LOAD_FAILED = "Failed to load workspace metadata"
_FIELDS = frozenset(ProjectWorkspace.__dataclass_fields__)


def _read(file: Path) -> dict[str, Any]:
    """The fields of a record, its uid and request_id if it has them, and _OTHER_KEYS."""
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
    """What the server reads in `text`, the record in `root_path`; or the line and the
    problem.

    The server's own program reads it: a second parser would take some files for
    something else.
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
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise errors.unavailable(f"{BINARY} cannot be run: {error}") from error
    return record


def _corrupt(file: Path, line: int, problem: str) -> WorkspaceError:
    """What the service says of such a file."""
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
    """In whole microseconds, and of a year that there is: what the server takes for the
    times that are missing.
    """
    microseconds = file.stat().st_mtime_ns // 1000
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
    except OverflowError:
        return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _dump(record: dict[str, Any]) -> bytes:
    """The text of a record.

    Raises WorkspaceError FIELD_INVALID if it would not be read back as it is.
    """
    record = dict(record)
    others: str | None = record.pop(_OTHER_KEYS, None)
    if others is None:  # No file is replaced.
        record["uid"] = uuid.uuid4().hex
    text: bytes = yaml.dump(
        record, Dumper=_Dumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
    text += (others or "").encode()
    # One made by hand stays one: without a uid, the server derives it from what it
    # finds.
    if "uid" in record:
        text = _HEADER + text + _END
    back = _decode(text, record["root_path"])
    if "problem" in back:
        raise errors.field_invalid(
            "metadata", f"would not be read back: {back['problem']}"
        )
    if any(back[name] != record[name] for name in ("metadata", *convert.SETTINGS)):
        raise errors.field_invalid("metadata", "would not be read back as it is")
    return text


def _replace(file: Path, content: bytes) -> None:
    """Writes beside the file and renames over it.

    The draft's name is none that the server would tidy away.
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
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
