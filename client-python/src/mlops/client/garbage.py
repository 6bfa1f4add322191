"""Finds and frees data that no version, run or model of a workspace refers to.

Only data in the workspace's own directory is ever freed, and only if it is proven that
nothing refers to it. This module imports none of the four libraries.
"""

import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlops._rpc.errors import WorkspaceError
from mlops._toolkits import toolkit
from mlops._toolkits.errors import input_invalid
from mlops._toolkits.locks import locked
from mlops.workspace import ProjectWorkspace

if TYPE_CHECKING:
    from mlops.client.dvc_client import DVCClient
    from mlops.client.mlflow_client import MLflowClient

# The metadata key that says how long reports are kept.
RETENTION_KEY = "report_retention_days"
_LOCK = ".clean.lock"
_WAIT_SECONDS = 60.0
_DAY_S = 86400.0
# BentoML may still be storing a model that has no model.yaml yet.
_MODEL_REST_S = _DAY_S
_REPORT = re.compile(r"drift-(\d{8}T\d{6}\.\d{6})Z-\w+\.(?:json|html)")
_URL = re.compile(r"\w[\w+.-]*://")


@dataclass(frozen=True)
class Freed:
    """The number of objects of one kind, and their bytes."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.count + other.count, self.bytes + other.bytes)


@dataclass(frozen=True)
class Kept:
    """An item that was not freed, or not even examined, and the reason.

    `kind` is "dvc", "dvc_cache", "dvc_remote", "mlflow", "models" or "reports".
    """

    kind: str
    name: str
    reason: str


@dataclass(frozen=True)
class Cleaned:
    """The result of MLOpsClient.clean(): what it freed, or with `dry_run` would free.

    It counts objects of the cache and of the remote, runs and logged models,
    directories that are not models, and files of reports.
    """

    dry_run: bool
    dvc_cache: Freed = Freed()
    dvc_remote: Freed = Freed()
    mlflow: Freed = Freed()
    models: Freed = Freed()
    reports: Freed = Freed()
    kept: tuple[Kept, ...] = ()

    @property
    def total(self) -> Freed:
        """The sum of all kinds."""
        parts = (self.dvc_cache, self.dvc_remote, self.mlflow, self.models)
        return sum(parts, self.reports)


@dataclass
class Others:
    """The remotes and caches of all other workspaces of the base, by project."""

    # Real paths, and URLs of other machines.
    places: dict[str, set[str]] = field(default_factory=dict)
    # Workspaces whose remotes are unknown, because their records cannot be read.
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, workspace: ProjectWorkspace, listed: Iterable[ProjectWorkspace]
    ) -> Self:
        """Collect the places from the server's list and from DVC's configurations.

        Args:
            workspace: The workspace to be cleaned, whose base is on this machine.
            listed: All workspaces that the server lists, including those in the trash.
        """
        others, base = cls(), workspace.root_path.parent
        for other in listed:
            if other.project_name != workspace.project_name or other.deleted_at:
                others._add(other, base / other.project_name)
        # The list lacks workspaces that a policy hides from this caller, and those that
        # the server cannot read. Treat their remotes as unknown.
        known = {other.root_path.name for other in listed}
        for directory in _directories(base):
            if directory.name in known or directory.samefile(workspace.root_path):
                continue
            if not (directory / "dvc").is_dir():
                continue
            try:
                others._add(ProjectWorkspace.load_metadata(directory), directory)
            except WorkspaceError:
                if (directory / "workspace.yaml").exists():
                    others.unknown.append(directory.name)
        return others

    def naming(self, url: str) -> list[str]:
        """Return the projects that name a place at, in, or around `url`."""
        place = _place(url, Path("/"))
        return self.unknown + sorted(
            project
            for project, places in self.places.items()
            if any(_overlap(place, other) for other in places)
        )

    def _add(self, other: ProjectWorkspace, former: Path) -> None:
        """Add the places of a workspace, which was at `former` when it was live."""
        from mlops.client import dvc_config

        places = self.places.setdefault(other.project_name, set())
        if other.dvc_remote_path:
            places.add(_place(other.dvc_remote_path, former / "dvc"))
        for url in dvc_config.places(other.dvc_path):
            places.add(_place(url, former / "dvc" / ".dvc"))


def clean(
    workspace: ProjectWorkspace,
    listed: Callable[[], list[ProjectWorkspace]],
    make_dvc: "Callable[[], DVCClient]",
    make_mlflow: "Callable[[], MLflowClient]",
    dry_run: bool,
) -> Cleaned:
    """Free unreferenced data; see MLOpsClient.clean().

    Args:
        workspace: The workspace, on this machine.
        listed: Returns all workspaces of the base.
        make_dvc: Returns the adapter; called only if there is a DVC repository.
        make_mlflow: Returns the adapter; called only if there is a store.
        dry_run: Change nothing.
    """
    days = _retention_days(workspace.metadata)
    kept: list[Kept] = []
    cache = remote = runs = Freed()
    with ExitStack() as stack:
        # A dry run changes nothing, so it need not exclude others.
        if not dry_run:
            stack.enter_context(_alone(workspace))
        if (workspace.dvc_path / ".dvc").is_dir() and _installed(
            toolkit.DVC, workspace.dvc_path, kept
        ):
            others = Others.of(workspace, listed())
            cache, remote, unclean = make_dvc().clean(dry_run, others)
            kept += unclean
        store = workspace.mlflow_path / "mlflow.db"
        if store.is_file() and _installed(toolkit.MLFLOW, store, kept):
            runs, unclean = make_mlflow().clean(dry_run)
            kept += unclean
        models = _clean_models(workspace.models_path, dry_run, kept)
        reports = _clean_reports(workspace.monitoring_path / "reports", days, dry_run)
    return Cleaned(dry_run, cache, remote, runs, models, reports, tuple(kept))


def size_of(path: Path) -> int:
    """Return the bytes of the files at or below `path`. Follows no link."""
    total = 0
    with suppress(FileNotFoundError):
        total = 0 if path.is_dir() else path.lstat().st_size
    for directory, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError):
                total += Path(directory, name).lstat().st_size
    return total


@contextmanager
def _alone(workspace: ProjectWorkspace) -> Iterator[None]:
    """Exclude other clean() calls, and writers through the server, also on other hosts.

    The lease excludes DVC operations and writers through the server. The file lock
    works without a server. The DVC repository, the model store and MLflow's database
    have their own locks, which are acquired in addition.
    """
    with (
        workspace.exclusively(_WAIT_SECONDS),
        locked(workspace.root_path / _LOCK, _WAIT_SECONDS),
    ):
        yield


def _installed(kit: toolkit.Toolkit, path: Path, kept: list[Kept]) -> bool:
    if kit.version is not None:
        return True
    reason = f"{kit.component} is not installed, which is needed to clean it"
    kept.append(Kept(kit.component, str(path), reason))
    return False


# --- Models ---


def _clean_models(home: Path, dry_run: bool, kept: list[Kept]) -> Freed:
    """Remove directories in the model store that are not models.

    BentoML neither lists nor loads a version without its model.yaml. Nothing can prove
    that a complete model is no longer needed, so all complete models stay.
    """
    found = [
        directory
        for directory in _directories(home / "models", depth=2)
        if not (directory / "model.yaml").exists()
    ]
    if not found:
        return Freed()
    named = _models_of_bentos(home / "bentos")
    freed = Freed()
    with ExitStack() as stack:
        # Exclude ModelStore, which publishes under this lock.
        if not dry_run:
            (home / ".staging").mkdir(exist_ok=True)
            lock = home / ".staging" / "publish.lock"
            stack.enter_context(locked(lock, _WAIT_SECONDS))
        for directory in found:
            tag = f"{directory.parent.name}:{directory.name}"
            if tag in named:
                reason = "has no model.yaml, but a bento refers to it"
                kept.append(Kept("models", tag, reason))
            elif time.time() - _newest(directory) < _MODEL_REST_S:
                reason = "has no model.yaml, but was changed within a day"
                kept.append(Kept("models", tag, reason))
            # The model may have become complete since the first look.
            elif not (directory / "model.yaml").exists():
                freed += Freed(1, size_of(directory))
                if not dry_run:
                    shutil.rmtree(directory)
    return freed


def _models_of_bentos(bentos: Path) -> set[str]:
    """Return the tags of all models that bentos refer to."""
    import yaml  # Import late: the import is slow, and few programs call clean().

    tags = set()
    for directory in _directories(bentos, depth=2):
        with suppress(OSError, yaml.YAMLError, AttributeError, TypeError):
            text = (directory / "bento.yaml").read_text("utf-8")
            for model in yaml.safe_load(text).get("models") or []:
                tags.add(str(model["tag"] if isinstance(model, dict) else model))
    return tags


def _newest(directory: Path) -> float:
    """Return the last time that anything in `directory` changed."""
    newest = directory.lstat().st_mtime
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            with suppress(FileNotFoundError):
                newest = max(newest, Path(top, name).lstat().st_mtime)
    return newest


# --- Reports ---


def _retention_days(metadata: Mapping[str, Any]) -> float | None:
    """Return how long reports are kept; None means forever.

    Raises:
        MLOpsClientError: INPUT_INVALID if the metadata has any other value.
    """
    days = metadata.get(RETENTION_KEY)
    if days is None:
        return None
    is_number = isinstance(days, int | float) and not isinstance(days, bool)
    if not is_number or not math.isfinite(days) or days < 0:
        raise input_invalid(
            f"metadata.{RETENTION_KEY}",
            f"must be a number of days, 0 or more, not {days!r:.100}",
        )
    return float(days)


def _clean_reports(directory: Path, days: float | None, dry_run: bool) -> Freed:
    """Remove reports that are older than `days`, except the newest one.

    Both the time in the name and the time of the file must be that old, so that neither
    a copy nor an edit makes a report older.
    """
    if days is None or not directory.is_dir():
        return Freed()
    written: dict[Path, float] = {}
    for file in sorted(directory.iterdir()):
        match = _REPORT.fullmatch(file.name)
        if match is None or file.is_symlink() or not file.is_file():
            continue
        named = datetime.strptime(match[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
        written[file] = max(named.timestamp(), file.stat().st_mtime)
    if not written:
        return Freed()
    # A report is a JSON and an HTML file with the same stem; keep both of the newest.
    newest = max(written, key=lambda file: written[file]).stem
    freed = Freed()
    for file, at in written.items():
        if file.stem != newest and time.time() - at > days * _DAY_S:
            freed += Freed(1, size_of(file))
            if not dry_run:
                file.unlink(missing_ok=True)
    return freed


# --- Places ---


def _directories(top: Path, depth: int = 1) -> Iterator[Path]:
    """Yield the directories `depth` levels below `top`, without links."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in sorted(top.iterdir()):
            if entry.is_symlink() or not entry.is_dir() or entry.name[0] == ".":
                continue
            if depth == 1:
                yield entry
            else:
                yield from _directories(entry, depth - 1)


def _place(url: str, directory: Path) -> str:
    """Return a path as its real path, and a URL as it is.

    Relative paths begin at `directory`.
    """
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    if _URL.match(url):
        return url.rstrip("/")
    return os.path.realpath(directory / os.path.expanduser(url))


def _overlap(a: str, b: str) -> bool:
    """Return whether one place is, or contains, the other."""
    return a == b or f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/")
