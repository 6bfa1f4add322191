"""Reads the toolkits' data in a project: runs, models, data, drift."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import artifacts
from mlops.dashboard.link import Link, Metadata
from mlops.dashboard.live import Live
from mlops.workspace.project import ProjectWorkspace
from mlops.workspace.v1 import workspace_service_pb2 as pb

if TYPE_CHECKING:
    from mlops.client.mlflow_client import MLflowClient

MAX_RUNS = 500
# Charts on the page of a run, and points in each.
MAX_HISTORIES = 24
_MAX_POINTS = 300
_MAX_SHOWN = 200
_FRESH_S = 10.0
# The import of MLflow alone can take long on a loaded machine.
_READ_S = 90.0
_MAX_KEPT = 64
_SMALL_FILE = 256 << 10
_REPORT_FILE = 4 << 20
_STORE = "mlflow/mlflow.db"
_Read = TypeVar("_Read")
_REPORT_TIME = re.compile(r"/drift-(\d{8}T\d{6})")


@dataclass(frozen=True)
class Runs:
    """MLflow's runs of a project."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics."""
        return sorted({name for run in self.runs for name in run["metrics"]})

    def best(self, metric: str, lowest: bool) -> dict[str, Any] | None:
        """Return the run with the best value of a metric."""
        choose = min if lowest else max
        return choose(
            self._measured(metric), key=lambda run: run["metrics"][metric], default=None
        )

    def span(self, metric: str) -> tuple[float, float] | None:
        """Return the lowest and the highest value of a metric."""
        values = [run["metrics"][metric] for run in self._measured(metric)]
        return (min(values), max(values)) if values else None

    def _measured(self, metric: str) -> list[dict[str, Any]]:
        """Return the runs with a value of a metric other than NaN."""
        return [
            run
            for run in self.runs
            if not math.isnan(run["metrics"].get(metric, math.nan))
        ]

    def points(self, metric: str) -> list[tuple[float, float]]:
        """Return the values of a metric over time."""
        return [
            (when(run["started_at"]), run["metrics"][metric])
            for run in self.runs
            if metric in run["metrics"] and run["started_at"]
        ]


@dataclass(frozen=True)
class Histories:
    """The values of the metrics of one run, over its steps."""

    # By the name of the metric: steps and values.
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    problem: str = ""


class Toolkits:
    """Reads runs by MLflow, in a thread: its import takes seconds."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._thread = ThreadPoolExecutor(1, "dashboard-toolkits")
        self._kept: dict[Any, tuple[float, Runs]] = {}
        self._lock = asyncio.Lock()

    def close(self) -> None:
        """Start no more work."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def runs(self, live: Live, project: str) -> Runs:
        """Return the latest runs of a project.

        Raises:
            WorkspaceError: The caller may not see the project, among others.
        """
        # MLflow reads the store by path, as this process's user. So first ask the
        # server whether the caller may read it, and where the store is.
        entries = await artifacts.listing(
            self._link, live.metadata, project, "mlflow", False, 1
        )
        workspace = await live.call(pb.GetWorkspaceRequest(project=project))
        has_store = any(one.path == _STORE for one in entries.entries)
        if not has_store and not workspace.mlflow_experiment_id:
            return Runs()
        key = (live.metadata, workspace.uid)
        async with self._lock:
            kept = self._kept.get(key)
            if kept is None or time.monotonic() > kept[0] + _FRESH_S:
                done = await self._read(live.metadata, project, _read_runs)
                found = Runs(problem=done) if isinstance(done, str) else done
                kept = self._kept[key] = time.monotonic(), found
                if len(self._kept) > _MAX_KEPT:
                    del self._kept[next(iter(self._kept))]
        return kept[1]

    async def histories(
        self, live: Live, project: str, run: dict[str, Any]
    ) -> Histories:
        """Return the histories of the first metrics of a run that runs() returned."""
        names = sorted(run["metrics"])[:MAX_HISTORIES]

        def read(client: MLflowClient) -> Histories:
            found = client.metric_history(run["run_id"], names, _MAX_POINTS)
            return Histories(
                {
                    name: [(float(one["step"]), one["value"]) for one in values]
                    for name, values in found.items()
                }
            )

        async with self._lock:
            done = await self._read(live.metadata, project, read)
        return Histories(problem=done) if isinstance(done, str) else done

    async def _read(
        self, metadata: Metadata, project: str, read: Callable[[MLflowClient], _Read]
    ) -> _Read | str:
        """Return what `read` returns, or why it cannot."""
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(
            self._thread, _with_client, self._link, metadata, project, read
        )
        try:
            async with asyncio.timeout(_READ_S):
                return await reading
        except TimeoutError:
            return f"MLflow has not answered within {_READ_S:.0f} s."


def _read_runs(client: MLflowClient) -> Runs:
    return Runs(client.list_runs("", MAX_RUNS))


def _with_client(
    link: Link,
    metadata: Metadata,
    project: str,
    read: Callable[[MLflowClient], _Read],
) -> _Read | str:
    """Read from MLflow; called in the thread of the toolkits."""
    from mlops._toolkits import toolkit
    from mlops._toolkits.errors import MLOpsClientError

    try:
        toolkit.MLFLOW.require()
        from mlops.client.mlflow_client import MLflowClient

        with _manager(link, metadata) as manager:
            workspace = manager.get_workspace(project)
            if problem := _why_not_read(workspace):
                return problem
            return read(MLflowClient(workspace, {}, lambda _: None))
    except (MLOpsClientError, WorkspaceError) as error:
        return str(error)
    except Exception as error:
        # Programs wrote this data, so MLflow may raise any error, which the page shows.
        return f"{type(error).__name__}: {error}"


def _why_not_read(workspace: ProjectWorkspace) -> str:
    """Return why the runs are not read; "" if they are.

    Editors of a project choose where its runs are. They must not be able to make this
    process read other files or send requests.
    """
    from mlops.client import mlflow_store

    if not workspace.is_local:
        return "The runs are on the server's machine: run the dashboard there."
    file = mlflow_store.sqlite_file(workspace.mlflow_tracking_uri or "")
    own = workspace.root_path / _STORE
    # Odd characters in the path may be escaped in the URI. A link could lead anywhere.
    named = file is not None and own in (file, Path(unquote(str(file))))
    if not named or own.resolve() != workspace.root_path.resolve() / _STORE:
        return "The runs are in another store than the project's own; open them there."
    return ""


def _manager(link: Link, metadata: Metadata) -> Any:
    """Return a manager that calls as the caller."""
    from mlops.workspace import WorkspaceManager

    credentials = link.server.credentials
    options = {
        name: value
        for name in ("ca", "cert", "key")
        if (value := getattr(credentials, name))
    }
    for name, value in metadata:
        if name == "authorization":
            options["token"] = value.partition(" ")[2]
    return WorkspaceManager(address=link.address, **options)


@dataclass(frozen=True)
class Version:
    """A version of data or of a model."""

    name: str
    path: str
    version: str
    size_bytes: int
    made_s: float


async def data_versions(link: Link, metadata: Metadata, project: str) -> list[Version]:
    """Return the data that DVC tracks: each .dvc file names one version."""
    found = await artifacts.listing(link, metadata, project, "dvc", True, 5)
    files = _files(found.entries, ".dvc")
    versions = []
    for one in files[:_MAX_SHOWN]:
        content = await artifacts.read_yaml(
            link, metadata, project, one.path, _SMALL_FILE
        )
        outs = content.get("outs") if isinstance(content, dict) else None
        for out in outs if isinstance(outs, list) else []:
            if isinstance(out, dict):
                versions.append(
                    Version(
                        str(out.get("path", "")),
                        one.path,
                        str(out.get("md5", "")),
                        _int(out.get("size")),
                        float(one.modify_time.seconds),
                    )
                )
    return sorted(versions, key=lambda version: -version.made_s)


async def model_versions(link: Link, metadata: Metadata, project: str) -> list[Version]:
    """Return the models in BentoML's store: each has a file model.yaml."""
    found = await artifacts.listing(link, metadata, project, "models", True, 5)
    homes = {
        one.path.rpartition("/")[0]: one
        for one in _files(found.entries, "/model.yaml")
        if one.path.count("/") >= 3
    }
    # Add each file to the model whose directory contains it, at any depth.
    sizes = dict.fromkeys(homes, 0)
    for one in found.entries:
        parts = one.path.split("/")
        for depth in range(2, len(parts)):
            home = "/".join(parts[:depth])
            if home in sizes:
                sizes[home] += one.size_bytes
    versions = [
        Version(
            home.split("/")[-2],
            home,
            home.split("/")[-1],
            sizes[home],
            float(one.modify_time.seconds),
        )
        for home, one in homes.items()
    ]
    return sorted(versions, key=lambda version: -version.made_s)[:_MAX_SHOWN]


@dataclass(frozen=True)
class Drift:
    """A report of drift."""

    name: str
    made_s: float
    share: float | None
    count: int | None
    # Of the HTML report; "" if there is none.
    html_path: str


async def drift_reports(
    link: Link, metadata: Metadata, project: str, limit: int = 50
) -> list[Drift]:
    """Return the latest reports of drift, the latest first."""
    found = await artifacts.listing(
        link, metadata, project, "monitoring/reports", False, 5
    )
    paths = {one.path for one in found.entries}
    files = _files(found.entries, ".json")
    # The names of reports are times, so this order puts the latest first.
    files.sort(key=lambda one: one.path, reverse=True)
    reports = []
    for one in files[:limit]:
        content = await artifacts.read_json(
            link, metadata, project, one.path, _REPORT_FILE
        )
        share, count = _drift(content)
        page = one.path.removesuffix(".json") + ".html"
        reports.append(
            Drift(
                one.path.rpartition("/")[2].removesuffix(".json"),
                _made(one),
                share,
                count,
                page if page in paths else "",
            )
        )
    return reports


def _made(report: pb.Artifact) -> float:
    """Return the time in the name of a report, which a copy keeps."""
    match = _REPORT_TIME.search(report.path)
    if match is not None:
        with suppress(ValueError):
            made = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            return made.timestamp()
    return float(report.modify_time.seconds)


def _drift(content: Any) -> tuple[float | None, int | None]:
    """Return the share and the number of columns that drifted, in Evidently's JSON."""
    metrics = content.get("metrics") if isinstance(content, dict) else None
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, dict) and str(metric.get("metric_name", "")).startswith(
            "DriftedColumnsCount"
        ):
            value = metric.get("value")
            if isinstance(value, dict):
                share, count = value.get("share"), value.get("count")
                if isinstance(share, int | float) and isinstance(count, int | float):
                    return float(share), int(count)
    return None, None


def _files(entries: list[pb.Artifact], ending: str) -> list[pb.Artifact]:
    """Return the files whose paths have this ending; omit directories like dvc/.dvc."""
    return [one for one in entries if not one.directory and one.path.endswith(ending)]


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def when(iso: str | None) -> float:
    """Return the time of an ISO 8601 text; 0 for None."""
    if not iso:
        return 0.0
    return datetime.fromisoformat(iso).astimezone(UTC).timestamp()
