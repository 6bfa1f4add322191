"""MLflowClient: the workspace's experiment and its runs.

In the client, only this module and the modules mlflow_* beside it import mlflow.
"""

import logging
import math
import operator
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

from mlflow import MlflowClient as Client
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
)
from mlflow.utils.validation import (
    MAX_METRICS_PER_BATCH,
    MAX_PARAMS_TAGS_PER_BATCH,
    _validate_batch_log_data,
)

from mlops._toolkits import toolkit
from mlops._toolkits.errors import MLOpsClientError, input_invalid, toolkit_failed
from mlops._toolkits.lazy import Lazy
from mlops._toolkits.paths import is_here, require_local, require_utf8
from mlops.client import (
    mlflow_artifacts,
    mlflow_garbage,
    mlflow_locations,
    mlflow_models,
    mlflow_store,
)
from mlops.client.garbage import Freed, Kept
from mlops.tracking.artifacts import artifacts_of
from mlops.workspace import ProjectWorkspace

_COUNT_PAGE = 1000
_NO_STORE = (
    "to log runs from here, set the workspace's mlflow_tracking_uri, "
    'or mlflow_config={"tracking_uri": …}, to an MLflow server: '
    "artifacts then go through the workspace's own server"
)
_log = logging.getLogger(__name__)
# The active run of each client, in this thread or task. One variable holds all clients:
# ContextVars are never collected, so one per client would leak.
_active: ContextVar[Mapping["MLflowClient", str]] = ContextVar("mlops_active_runs")


class MLflowClient:
    """Runs of one workspace's experiment.

    Thread-safe. Uses its own MLflow clients, and neither reads nor changes MLflow's
    fluent state, which is process-wide. The constructor contacts no server. The first
    run creates the store and the experiment.
    """

    def __init__(
        self,
        workspace: ProjectWorkspace,
        config: Mapping[str, Any],
        keep_experiment: Callable[[str], None],
    ) -> None:
        """Resolve the store's URI.

        Args:
            config: `mlflow_config` of MLOpsClient.
            keep_experiment: Called with the experiment's id if it differs from the
                workspace's id and `config` has neither tracking_uri nor
                experiment_name.
        """
        self._workspace = workspace
        self._registry_uri: str | None = config.get("registry_uri")
        self._experiment_name: str = (
            config.get("experiment_name") or workspace.project_name
        )
        self._is_workspaces_own = (
            not {"tracking_uri", "experiment_name"} & config.keys()
        )
        self._keep_experiment = keep_experiment
        own_file = workspace.mlflow_path.absolute() / "mlflow.db"
        own_uri = mlflow_store.database_uri(own_file)
        uri: str = (
            config.get("tracking_uri") or workspace.mlflow_tracking_uri or own_uri
        )
        # Also recognize the workspace's own file by its path before a move.
        self._is_default_store = mlflow_store.is_of(uri, own_file) or self._is_outdated(
            uri, config
        )
        self._uri = own_uri if self._is_default_store else mlflow_store.normalize(uri)
        # A SQLite file that the workspace names is on its server's machine, and so is a
        # file below the workspace.
        file = mlflow_store.sqlite_file(self._uri)
        self._is_workspaces_file = file is not None and (
            "tracking_uri" not in config or file.is_relative_to(workspace.root_path)
        )
        # The (device, inode) of the workspace when the store was opened, to detect that
        # another directory has replaced it.
        self._directory: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._client = Lazy(self._open_store)
        self._experiment_id = Lazy(self._open_experiment)

    def _is_outdated(self, uri: str, config: Mapping[str, Any]) -> bool:
        """Return whether `uri` is the default store at a former path of the workspace.

        The server reports such a URI until it notices that the base directory was
        moved.
        """
        file, here = mlflow_store.sqlite_file(uri), self._workspace.root_path
        if file is None or "tracking_uri" in config:
            return False
        default = (self._workspace.project_name, "mlflow", "mlflow.db")
        return file.parts[-3:] == default and here.is_dir() and not file.exists()

    # --- Runs ---

    @property
    def active_run_id(self) -> str | None:
        """The id of this client's innermost active run in this thread or task."""
        return _active.get({}).get(self)

    @contextmanager
    def active(self, run: Run) -> Iterator[None]:
        """Make a run the active one within the block."""
        before = _active.get({})
        _active.set({**before, self: run.info.run_id})
        try:
            yield
        finally:
            # Read the variable again: other clients' runs may have begun or ended in
            # the block.
            others = {
                client: run_id
                for client, run_id in _active.get({}).items()
                if client is not self
            }
            _active.set({**others, self: before[self]} if self in before else others)

    def create_run(
        self,
        run_name: str | None,
        nested: bool,
        tags: Mapping[str, str] | None,
        description: str | None,
    ) -> Run:
        """Create a run with the tags that mlflow.start_run() would set.

        Args:
            nested: Create it as a child of the active run.

        Raises:
            MLOpsClientError: RUN_ACTIVE if a run is active and `nested` is False.
        """
        parent = self.active_run_id
        if parent is not None and not nested:
            raise MLOpsClientError(
                f"The run {parent} is active; end it first, "
                "or begin one within it by start_run(nested=True)",
                details={"reason": "RUN_ACTIVE", "run_id": parent},
            )
        # A tag that repeats an argument is an error, because one would win silently.
        ours = {
            MLFLOW_RUN_NAME: run_name and _text("run_name", run_name),
            MLFLOW_RUN_NOTE: description and _text("description", description),
            MLFLOW_PARENT_RUN_ID: parent,
        }
        set_here = {key: value for key, value in ours.items() if value}
        given = {
            _text("tags", key): str(value)
            for key, value in _mapping("tags", tags or {}).items()
        }
        if twice := sorted(given.keys() & set_here):
            raise input_invalid(
                "tags", f"has {twice[0]}: use the argument for it instead"
            )
        with _mlflow_errors():
            # Fail within seconds, where MLflow would retry for minutes.
            mlflow_store.check_answers(self._uri)
            client = self._store(writes=True)
            return client.create_run(
                self._experiment_id(),
                tags=resolve_tags({**given, **set_here}),
                run_name=run_name,
            )

    def end_run(self, run: Run, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        with _mlflow_errors():
            self._store().set_terminated(run.info.run_id, status)

    def give_up_run(self, run: Run, status: str) -> None:
        """End a run whose body raised.

        Logs a failure instead of raising it, so that the caller sees the body's
        exception.
        """
        try:
            mlflow_store.check_answers(self._uri)
            self.end_run(run, status)
        except Exception as error:
            _log.warning(
                "The run %s, which is %s, remains RUNNING in MLflow: %s",
                run.info.run_id,
                status,
                error,
            )

    # --- Logging ---

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters to the active run: all of them or none."""
        run_id = self._require_run()
        batch = [
            Param(_text("params", key), str(value))
            for key, value in _mapping("params", params).items()
        ]
        with _mlflow_errors():
            # MLflow sends more than this in several requests, so check all of them
            # first.
            if len(batch) > MAX_PARAMS_TAGS_PER_BATCH:
                _, batch, _ = _validate_batch_log_data([], batch, [])
                self._refuse_changes(run_id, batch)
            self._store().log_batch(run_id, params=batch)

    def _refuse_changes(self, run_id: str, batch: list[Param]) -> None:
        known = self._store().get_run(run_id).data.params
        for param in batch:
            if known.get(param.key, param.value) != param.value:
                raise input_invalid(
                    f"params.{param.key}",
                    f"is {known[param.key]!r:.100} already, and cannot change",
                )

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Log metrics to the active run: all of them or none."""
        run_id = self._require_run()
        timestamp, at = int(time.time() * 1000), _step(step)
        batch = [
            Metric(_text("metrics", key), _number(key, value), timestamp, at)
            for key, value in _mapping("metrics", metrics).items()
        ]
        with _mlflow_errors():
            # MLflow sends more than this in several requests, so check all of them
            # first.
            if len(batch) > MAX_METRICS_PER_BATCH:
                _validate_batch_log_data(batch, [], [])
            self._store().log_batch(run_id, metrics=batch)

    def log_artifact(self, path: Path, artifact_path: str | None) -> None:
        """Copy a file or a directory into the active run's artifacts."""
        run_id = self._require_run()
        below = None
        if artifact_path is not None:
            below = mlflow_artifacts.check_artifact_path(
                _text("artifact_path", artifact_path)
            )
        with artifacts_of(self._workspace), _mlflow_errors():
            client = self._store(writes=True)
            # Check first: MLflow would copy a directory into itself without end,
            # or block on a named pipe.
            if path.is_dir():
                mlflow_artifacts.check_destination(
                    path, client.get_run(run_id).info.artifact_uri, below
                )
            mlflow_artifacts.check_source(path)
            client.log_artifact(run_id, str(path), below)

    def log_model(
        self, model: Any, artifact_path: str, registered_model_name: str | None
    ) -> str:
        """Save a model into the active run and return its URI.

        With `registered_model_name`, also registers the model under this name.
        """
        run_id = self._require_run()
        with artifacts_of(self._workspace), _mlflow_errors():
            client = self._store(writes=True)
            name = _text("artifact_path", artifact_path)
            mlflow_models.log_model(
                client,
                client.get_run(run_id),
                model,
                name,
                resolve_tags(),
                registered_model_name,
            )
        return f"runs:/{run_id}/{artifact_path}"

    def _require_run(self) -> str:
        run_id = self.active_run_id
        if run_id is None:
            raise MLOpsClientError(
                "There is no active run in this thread or task; "
                "call it within `with client.start_run():`",
                details={"reason": "NO_ACTIVE_RUN"},
            )
        return run_id

    # --- Garbage ---

    def clean(self, dry_run: bool) -> tuple[Freed, list[Kept]]:
        """Free deleted runs and logged models of the workspace's own database."""
        if not self._is_default_store:
            reason = "is not the workspace's own database; use `mlflow gc` there"
            return Freed(), [Kept("mlflow", self._uri, reason)]
        with _mlflow_errors():
            return mlflow_garbage.clean(
                self._store(writes=True), self._workspace, dry_run
            )

    # --- Status ---

    def count(self) -> dict[str, int]:
        """Return the number of the experiment's `runs` that are not deleted.

        Creates neither the store nor the experiment.
        """
        with _mlflow_errors():
            found = self._find_experiment()
            return {"runs": 0 if found is None else _count_runs(*found)}

    def list_runs(self, order_by: str, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` of the experiment's runs that are not deleted.

        Creates neither the store nor the experiment.

        Args:
            order_by: As in MLflow's search_runs(); "" means the latest first.
        """
        with _mlflow_errors():
            found = self._find_experiment()
            if found is None:
                return []
            client, experiment_id = found
            order = [order_by] if order_by else ["attributes.start_time DESC"]
            page = client.search_runs(
                [experiment_id], max_results=limit, order_by=order
            )
            return [_described(run) for run in page]

    def metric_history(
        self, run_id: str, names: Collection[str], limit: int
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the values of metrics of a run, each with its step and time.

        Args:
            names: The metrics. A name that the run lacks gets no values.
            limit: The approximate number of values of each metric. If there are more,
                returns evenly spaced values, including the first and the last.

        Raises:
            MLOpsClientError: INPUT_INVALID if the experiment has no such run.
        """
        with _mlflow_errors():
            found = self._find_experiment()
            if found is not None:
                client, experiment_id = found
                run = client.get_run(run_id)
                if run.info.experiment_id == experiment_id:
                    # MlflowClient can only read all values at once.
                    store = client._tracking_client.store
                    return {
                        name: [
                            _measured(one)
                            for one in store.get_metric_history_bulk_interval(
                                [run_id], name, limit, None, None
                            )
                        ]
                        for name in names
                    }
        raise input_invalid(
            "run_id", f"is no run of the project's experiment: {run_id}"
        )

    def _find_experiment(self) -> tuple[Client, str] | None:
        """Return the store's client and the experiment's id; None if missing."""
        self._require_store()
        file = mlflow_store.sqlite_file(self._uri)
        if file is not None and not file.exists():
            return None
        client = self._store()
        experiment = mlflow_store.find_experiment(
            client, self._experiment_name, self._kept_id
        )
        return None if experiment is None else (client, experiment.experiment_id)

    # --- Store and experiment ---

    @property
    def _kept_id(self) -> str | None:
        return self._workspace.mlflow_experiment_id if self._is_workspaces_own else None

    def _store(self, writes: bool = False) -> Client:
        """Return the client of the store.

        Reopens the store if another directory has replaced the workspace's directory.

        Args:
            writes: Rewrite the store's artifact locations first if the workspace was
                copied or moved, because they still name the old directory.
        """
        if self._is_workspaces_file:
            self._reopen_if_replaced()
        client = self._client()
        if writes and self._is_default_store:
            self._settle()
        return client

    def _reopen_if_replaced(self) -> None:
        directory = _identity(self._workspace.root_path)
        with self._lock:
            if directory is None or directory != self._directory:
                self._require_store()
                self._directory = directory
                self._client, self._experiment_id = (
                    Lazy(self._open_store),
                    Lazy(self._open_experiment),
                )

    def _open_store(self) -> Client:
        self._require_store()
        return mlflow_store.open_store(
            self._uri, self._registry_uri, self._locate_artifacts
        )

    def _settle(self) -> Path:
        """Return the root of the locations in the workspace's own store."""
        file = mlflow_store.sqlite_file(self._uri)
        assert file is not None
        root, has_moved = mlflow_locations.settle(
            file, self._workspace.root_path.absolute()
        )
        if has_moved:
            mlflow_store.forget_locations()
        return root

    def _require_store(self) -> None:
        if not self._is_workspaces_file:
            return
        require_local(self._workspace, _NO_STORE)
        require_utf8(self._workspace.root_path)

    def _locate_artifacts(self) -> str | None:
        """Return the location for new artifacts; None lets the MLflow server choose."""
        if not is_here(self._workspace):
            toolkit.require_fsspec("mlflow")
            return f"workspace://{self._workspace.project_name}/mlflow/artifacts"
        if not mlflow_store.is_database(self._uri):
            return None
        root = self._workspace.root_path.absolute()
        require_utf8(root)
        file = mlflow_store.sqlite_file(self._uri)
        if self._is_default_store and file is not None and file.exists():
            root = self._settle()
        return (root / "mlflow" / "artifacts").as_uri()

    def _open_experiment(self) -> str:
        found = mlflow_store.find_or_create_experiment(
            self._client(), self._experiment_name, self._kept_id, self._locate_artifacts
        )
        experiment_id: str = found.experiment_id
        if self._is_workspaces_own and experiment_id != self._kept_id:
            if self._kept_id:
                _log.warning(
                    "The workspace's experiment %s does not exist at %s; "
                    "the workspace now uses %s (%s)",
                    *(self._kept_id, self._uri, found.name, experiment_id),
                )
            self._keep_experiment(experiment_id)
        return experiment_id


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _count_runs(client: Client, experiment_id: str) -> int:
    runs, token = 0, None
    while True:
        page = client.search_runs(
            [experiment_id], max_results=_COUNT_PAGE, page_token=token
        )
        runs, token = runs + len(page), page.token
        if not token:
            return runs


def _described(run: Run) -> dict[str, Any]:
    """Return a run as JSON values."""
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "started_at": _iso(run.info.start_time),
        "ended_at": _iso(run.info.end_time),
        "metrics": dict(run.data.metrics),
        "params": dict(run.data.params),
    }


def _measured(metric: Metric) -> dict[str, Any]:
    """Return a value of a metric as JSON values."""
    return {
        "value": metric.value,
        "step": metric.step,
        "time": _iso(metric.timestamp),
    }


def _iso(milliseconds: int | None) -> str | None:
    """Return MLflow's time in ISO 8601."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


@contextmanager
def _mlflow_errors() -> Iterator[None]:
    """Convert MLflow's exceptions; invalid arguments become INPUT_INVALID."""
    try:
        yield
    except MlflowException as error:
        failure = toolkit_failed(error, error.message, None, "mlflow")
        failure.details["error_code"] = error.error_code
        if error.error_code == "INVALID_PARAMETER_VALUE":
            failure.details["reason"] = "INPUT_INVALID"
        raise failure from error


def _mapping(field: str, value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise input_invalid(field, f"must be a dict, not {type(value).__name__}")
    return value


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise input_invalid(
            field, f"must be text that is not empty, not {value!r:.100}"
        )
    return value


def _number(key: str, value: object) -> float:
    """Convert a Python number, a NumPy number or a one-element tensor to float."""
    try:
        number = float(value) if isinstance(value, SupportsFloat) else None
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None:
        raise input_invalid(
            f"metrics.{key}",
            f"must be a number, not {value!r:.100} of {type(value).__name__}",
        )
    if not math.isfinite(number):
        raise input_invalid(f"metrics.{key}", f"must be a finite number, not {number}")
    return number


def _step(step: object) -> int:
    number = operator.index(step) if isinstance(step, SupportsIndex) else 0
    if not (step is None or isinstance(step, SupportsIndex)) or abs(number) >= 2**63:
        raise input_invalid("step", f"must be an integer of 64 bits, not {step!r:.100}")
    return number
