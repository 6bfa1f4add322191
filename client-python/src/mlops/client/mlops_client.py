"""MLOpsClient: MLflow, DVC, BentoML and Evidently within one project."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

from mlops._toolkits import toolkit
from mlops._toolkits.errors import MLOpsClientError, input_invalid, operation
from mlops._toolkits.lazy import Lazy
from mlops._toolkits.paths import find_input, require_local
from mlops.client import garbage
from mlops.client.garbage import Cleaned
from mlops.workspace import CredentialOptions, ProjectWorkspace, WorkspaceManager
from mlops.workspace.project import DIRECTORIES

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

    from mlops.client.dvc_client import DVCClient
    from mlops.client.mlflow_client import MLflowClient
    from mlops.monitoring.evidently import DriftMonitor
    from mlops.serving.bentoml import ModelStore

Pathlike = str | os.PathLike[str]
_MLFLOW_CONFIG = frozenset({"tracking_uri", "experiment_name", "registry_uri"})
_DVC_CONFIG = frozenset({"remote_path"})
_LEASE_WAIT_S = 60.0


class MLOpsClient:
    """MLflow, DVC, BentoML and Evidently within one project's workspace.

    The constructor makes one call to the server, which creates the workspace if it is
    missing. The first call that needs one of the four libraries imports it and creates
    its storage (experiment, repository, stores). One process may have clients of
    several projects; they never see each other's data. Thread-safe.

    If the workspace's server is on another machine, runs need a `tracking_uri` that is
    not a file on that machine. Their artifacts and models then go through the
    workspace's server, if this client created the experiment. DVC, BentoML and
    Evidently need direct access to the directory and raise WORKSPACE_NOT_LOCAL.

    Every method may raise MLOpsClientError; `error.details["reason"]` says why.
    """

    def __init__(
        self,
        project_name: str,
        mlflow_config: Mapping[str, Any] | None = None,
        dvc_config: Mapping[str, Any] | None = None,
        repo_root: Pathlike | None = None,
        workspace_path: Pathlike | None = None,
        workspace_manager: WorkspaceManager | None = None,
        *,
        base_path: Pathlike | None = None,
        address: str | None = None,
        **credentials: Unpack[CredentialOptions],
    ) -> None:
        """Open the workspace of `project_name`, creating it if missing.

        Args:
            mlflow_config: May hold "tracking_uri", "experiment_name" and
                "registry_uri". Applies to this client only; the workspace's settings
                are the defaults.
            dvc_config: May hold "remote_path". Applies to this client only; the
                workspace's setting is the default.
            repo_root: The directory that holds `mlops/workspace`. Default: the working
                directory.
            workspace_path: The workspace's directory. It excludes `base_path`. Its last
                part must be the project's name.
            workspace_manager: The manager to use. It excludes `base_path` and
                `address`.
            base_path: The base directory. Default: `mlops/workspace` below `repo_root`.
            address: The server to use, as for WorkspaceManager.
            credentials: `token`, `token_file`, `ca`, `cert` and `key`, as for
                WorkspaceManager. They exclude `workspace_manager`.
        """
        with operation("open", "workspace"):
            self._mlflow_config = _checked(
                "mlflow_config", mlflow_config, _MLFLOW_CONFIG
            )
            self._dvc_config = _checked("dvc_config", dvc_config, _DVC_CONFIG)
            self.repo_root = (
                Path(repo_root).expanduser().absolute()
                if repo_root is not None
                else Path.cwd()
            )
            self._manager = _manager(
                project_name,
                self.repo_root,
                workspace_path,
                workspace_manager,
                base_path,
                address,
                credentials,
            )
            # close() leaves a manager open that the caller gave.
            self._owns_manager = workspace_manager is None
            self.workspace: ProjectWorkspace = self._manager.get_or_create_workspace(
                project_name
            )
            # After a copy or a move, MLflow's own tools need the new locations.
            if (self.workspace.mlflow_path / "mlflow.db").is_file():
                # This module imports sqlite3, which only MLflow needs.
                from mlops.client import mlflow_locations

                mlflow_locations.settle_if_possible(self.workspace)
        self.project_name = project_name
        self._make_adapters()

    def _make_adapters(self) -> None:
        self._mlflow = Lazy(self._make_mlflow)
        self._dvc = Lazy(self._make_dvc)
        self._models = Lazy(self._make_models)
        self._monitor = Lazy(self._make_monitor)

    @classmethod
    def from_project(
        cls,
        project_name: str,
        repo_root: Pathlike | None = None,
        *,
        base_path: Pathlike | None = None,
        address: str | None = None,
        **credentials: Unpack[CredentialOptions],
    ) -> Self:
        """Open the workspace of `project_name`, creating it if missing.

        The workspace is in `mlops/workspace` below `repo_root` (default: the working
        directory), in the base directory `base_path`, or on the server at `address`,
        with `credentials` as for WorkspaceManager.
        """
        return cls(
            project_name,
            repo_root=repo_root,
            base_path=base_path,
            address=address,
            **credentials,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling and copying.

        It excludes objects that the libraries keep open, and the active run.
        """
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(value, Lazy)
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_adapters()

    def close(self) -> None:
        """Close the connection to the workspace's server.

        The connection of a given `workspace_manager` stays open. A later call opens a
        new connection.
        """
        if self._owns_manager:
            self._manager.close()

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
        return (
            f"{type(self).__name__}({self.project_name!r}, "
            f"workspace_path={str(self.workspace_path)!r})"
        )

    def _repr_html_(self) -> str:
        """Return the workspace's table, for notebooks."""
        return self.workspace._repr_html_()

    @property
    def workspace_path(self) -> Path:
        """The workspace's directory.

        If `workspace.is_local` is False, a path on the server's machine.
        """
        return self.workspace.root_path

    def get_workspace_path(self, subdir: str | None = None) -> Path:
        """Return the workspace's directory, or one of its five subdirectories.

        Args:
            subdir: "mlflow", "dvc", "monitoring", "models" or "outputs".

        Raises:
            MLOpsClientError: INPUT_INVALID if `subdir` is none of these.
        """
        if subdir is None:
            return self.workspace_path
        with operation("get_workspace_path", "workspace"):
            if subdir not in DIRECTORIES:
                raise input_invalid(
                    "subdir",
                    f"must be one of {', '.join(DIRECTORIES)}, not {subdir!r}",
                )
            return self.workspace_path / subdir

    def _roots(self) -> Iterator[Path]:
        """Yield the directories to search after the working directory."""
        if self.workspace.is_local:
            yield self.workspace_path

    # --- MLflow ---

    @contextmanager
    def start_run(
        self,
        run_name: str | None = None,
        nested: bool = False,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> "Iterator[Run]":
        """Run the `with` block as a run of the project's experiment.

        The run is active for this client, in this thread or asyncio task only. At the
        end of the block it becomes FINISHED, FAILED if the block raised, or KILLED if
        it raised KeyboardInterrupt. The block's exception propagates unchanged.

        Args:
            nested: Create the run as a child of the active run. Without this, an active
                run is an error.

        Yields:
            The run as it was when it began; the store has the later values.
        """
        with operation("start_run", "mlflow"):
            mlflow = self._mlflow()
            run = mlflow.create_run(run_name, nested, tags, description)
        with mlflow.active(run):
            try:
                yield run
            except BaseException as error:
                mlflow.give_up_run(
                    run, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                )
                raise
        with operation("start_run", "mlflow"):
            mlflow.end_run(run, "FINISHED")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters to the active run."""
        with operation("log_params", "mlflow"):
            self._mlflow().log_params(params)

    def log_metrics(
        self, metrics: Mapping[str, float], step: int | None = None
    ) -> None:
        """Log metrics to the active run, at `step` (default: 0)."""
        with operation("log_metrics", "mlflow"):
            self._mlflow().log_metrics(metrics, step)

    def log_artifact(
        self, local_path: Pathlike, artifact_path: str | None = None
    ) -> None:
        """Copy a file or a directory tree into the active run's artifacts.

        Args:
            local_path: A relative path is searched for in the working directory, then
                in the workspace if that is local.
            artifact_path: The directory of the artifact, below the run's artifacts.
        """
        with operation("log_artifact", "mlflow"):
            self._mlflow().log_artifact(
                find_input(local_path, self._roots()), artifact_path
            )

    def log_model(
        self,
        model: Any,
        artifact_path: str = "model",
        registered_model_name: str | None = None,
    ) -> str:
        """Save a model into the active run and return its URI.

        With `registered_model_name`, also registers the model under this name.
        """
        with operation("log_model", "mlflow"):
            return self._mlflow().log_model(model, artifact_path, registered_model_name)

    def list_runs(self, order_by: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Return the runs of the project's experiment, by default the latest first.

        Creates nothing.

        Args:
            order_by: As in MLflow's search_runs(), such as "metrics.accuracy DESC".
            limit: The maximum number of runs, up to 1000.

        Returns:
            For each run `run_id`, `name`, `status`, `started_at`, `ended_at` (ISO 8601
                or None), `metrics` with their last values, and `params`.
        """
        with operation("list_runs", "mlflow"):
            return self._mlflow().list_runs(order_by, limit)

    def _make_mlflow(self) -> "MLflowClient":
        toolkit.MLFLOW.require()
        from mlops.client.mlflow_client import MLflowClient

        return MLflowClient(self.workspace, self._mlflow_config, self._keep_experiment)

    def _keep_experiment(self, experiment_id: str) -> None:
        """Store the experiment's id in the workspace, for other clients."""
        # Wait for another holder of the lease, which may be pushing a version.
        with self.workspace.exclusively(_LEASE_WAIT_S):
            self.workspace = self._manager.update_workspace_metadata(
                self.project_name, mlflow_experiment_id=experiment_id
            )

    # --- DVC ---

    def dvc_add(self, path: Pathlike, recursive: bool = False) -> dict[str, Any]:
        """Track a file or directory, as it is now, in the workspace's DVC repository.

        The version tracked before becomes the previous version.

        Args:
            path: A relative path names an entry of the working directory, else of
                `workspace.dvc_path`. A path outside the repository is copied into it: a
                relative path to the same relative place, an absolute path or one that
                begins with ".." by its name.
            recursive: Track each file below a directory separately. Many times slower
                than tracking a directory as a whole.

        Returns:
            `success`, `path`, `dvc_file`, `md5`, `size`, `files`, `changed`, and with
                `recursive` also `added`: the same keys for each file.

        Raises:
            MLOpsClientError: FILE_NOT_FOUND, INPUT_INVALID, FILE_CHANGING,
                LOCAL_CHANGES or REPOSITORY_BUSY.
        """
        with operation("dvc_add", "dvc"):
            return self._dvc().add(path, recursive)

    def dvc_push(
        self, targets: Sequence[Pathlike] | None = None, remote: str | None = None
    ) -> dict[str, Any]:
        """Upload tracked data to a remote.

        Args:
            targets: What to upload: paths relative to `workspace.dvc_path` or the
                working directory. Default: everything that is tracked.
            remote: The name of a remote in DVC's configuration. Default:
                `workspace.dvc_remote_path`.

        Returns:
            `success`, `pushed`, `remote` and `url`.

        Raises:
            MLOpsClientError: INPUT_INVALID, DATA_MISSING, REPOSITORY_BUSY, or
                TOOLKIT_MISSING if DVC needs another package for this remote.
        """
        with operation("dvc_push", "dvc"):
            return self._dvc().push(targets, remote)

    def dvc_pull(
        self,
        targets: Sequence[Pathlike] | None = None,
        remote: str | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Download tracked data from a remote and put it in place.

        Args:
            targets: As for dvc_push().
            remote: As for dvc_push().
            force: Overwrite local changes.

        Returns:
            `success`, `fetched`, `added`, `modified`, `deleted`, `remote` and `url`.

        Raises:
            MLOpsClientError: As for dvc_push(), or LOCAL_CHANGES.
        """
        with operation("dvc_pull", "dvc"):
            return self._dvc().pull(targets, remote, force)

    def list_data(self, history: bool = False) -> list[dict[str, Any]]:
        """Return the data that DVC tracks in the project, ordered by path.

        Takes no lock and creates nothing.

        Args:
            history: Also return the versions in Git's history, if the workspace is in
                a Git repository, the latest of each path first.

        Returns:
            For each version `path` (relative to the DVC repository), `md5`,
                `size_bytes`, `files`, `changed_at` (ISO 8601: of the .dvc file or the
                commit), `commit` (None for the present version), `in_cache`, and
                `in_remote` (None if the remote is not in this file system).
        """
        with operation("list_data", "dvc"):
            return self._dvc().versions(history)

    def _make_dvc(self) -> "DVCClient":
        toolkit.DVC.require()
        require_local(self.workspace)
        from mlops.client.dvc_client import DVCClient

        return DVCClient(self.workspace, self._dvc_config)

    # --- BentoML ---

    def deploy_model(
        self,
        model_path: Pathlike,
        model_name: str,
        model_version: str | None = None,
        build_bento: bool = False,
    ) -> dict[str, Any]:
        """Store the files at `model_path` in the workspace's model store.

        Args:
            model_path: A relative path is searched for in the working directory, then
                in the workspace if that is local.
            model_version: Default: a new version.
            build_bento: Also build a bento that serves the model.
        """
        with operation("deploy_model", "bentoml"):
            path = find_input(model_path, self._roots())
            return self._models().deploy(path, model_name, model_version, build_bento)

    def list_models(self) -> list[dict[str, Any]]:
        """Return the models in the project's BentoML store, the latest first.

        Returns:
            For each model `tag`, `created_at` (ISO 8601), `size_bytes` and `path`.
        """
        with operation("list_models", "bentoml"):
            return self._models().list_models()

    def _make_models(self) -> "ModelStore":
        toolkit.BENTOML.require()
        require_local(self.workspace)
        from mlops.serving.bentoml import ModelStore

        return ModelStore(self.workspace)

    # --- Evidently ---

    def set_reference_data(
        self,
        df: "pd.DataFrame",
        target_column: str | None = None,
        prediction_column: str | None = None,
    ) -> None:
        """Store `df` as the reference data for later comparisons, in any process."""
        with operation("set_reference_data", "evidently"):
            self._monitor().set_reference(df, target_column, prediction_column)

    def monitor_predictions(
        self,
        df: "pd.DataFrame",
        target_column: str | None = None,
        prediction_column: str | None = None,
    ) -> dict[str, Any]:
        """Compare `df` with the reference data and write a report.

        The report goes to `workspace.monitoring_path`. If a run is active, the figures
        are also logged to it as metrics.
        """
        with operation("monitor_predictions", "evidently"):
            results = self._monitor().compare(df, target_column, prediction_column)
            mlflow = self._mlflow.made
            if mlflow is not None and mlflow.active_run_id is not None:
                mlflow.log_metrics(results["metrics"], None)
        return results

    def list_reports(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the drift reports of the project, the latest first.

        Needs neither Evidently nor the workspace's directory on this machine.

        Returns:
            For each report `created_at` (ISO 8601), `drift_share`,
                `number_of_columns`, `number_of_drifted_columns`, `drifted_columns`,
                `skipped_columns`, `report_json` and `report_html` (paths in the
                workspace).
        """
        from mlops.monitoring.reports import read_reports

        with operation("list_reports", "evidently"):
            return read_reports(self.workspace, limit)

    def _make_monitor(self) -> "DriftMonitor":
        toolkit.EVIDENTLY.require()
        require_local(self.workspace)
        from mlops.monitoring.evidently import DriftMonitor

        return DriftMonitor(self.workspace)

    # --- Garbage ---

    def clean(self, dry_run: bool = True) -> Cleaned:
        """Free data that no version, run or model of the workspace refers to.

        Frees, in the workspace's own directory only:
            - objects in DVC's cache and in the workspace's remote that no tracked file
              refers to, now or in a commit, branch or tag of the Git repository that
              the workspace may be in. Without Git, only current versions count. A
              remote or cache that another workspace of the base names is not cleaned;
            - runs and logged models that were deleted in MLflow, with their artifacts,
              unless a model version refers to them. They can no longer be restored;
            - directories in BentoML's model store that are not models;
            - reports older than the number of days in the workspace's metadata
              `report_retention_days`. Without that key, all reports stay, and the
              newest one always stays.

        Args:
            dry_run: Change nothing, and return what would be freed.

        Returns:
            The numbers and bytes of each kind, and what was kept and why.

        Raises:
            MLOpsClientError: INPUT_INVALID if the metadata has an invalid number of
                days, REPOSITORY_BUSY, WORKSPACE_NOT_LOCAL.
        """
        with operation("clean", "workspace"):
            self.workspace = self._manager.get_workspace(self.project_name)
            require_local(self.workspace)
            return garbage.clean(
                self.workspace,
                lambda: self._manager.list_workspaces(show_deleted=True),
                self._dvc,
                self._mlflow,
                dry_run,
            )

    # --- Status ---

    def get_status(self, deep: bool = False) -> dict[str, Any]:
        """Return the status of the workspace and of the four libraries.

        Imports none of the libraries unless `deep` is set.

        Args:
            deep: Also ask the installed libraries for the counts `runs`, `tracked`,
                `models`, `bentos` and `reports`. A count is None if it needs the
                workspace's directory and that is not on this machine.

        Returns:
            `project_name`, `workspace` as WorkspaceManager.get_workspace_status()
                returns it, and `components`: for each of "mlflow", "dvc", "bentoml" and
                "evidently" whether it is `installed`, its `version`, the `path` of its
                data, and its `files` and `bytes`.
        """
        with operation("get_status", "workspace"):
            workspace = self._manager.get_workspace_status(self.project_name)
        components = {
            kit.component: self._component(kit, workspace["directory_stats"])
            for kit in toolkit.TOOLKITS
        }
        if deep:
            for kit in toolkit.TOOLKITS:
                if kit.version is not None:
                    components[kit.component] |= self._count(kit)
        return {
            "project_name": self.project_name,
            "workspace": workspace,
            "components": components,
        }

    def _component(
        self, kit: toolkit.Toolkit, stats: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "installed": kit.version is not None,
            "version": kit.version,
            "path": str(self.workspace_path / kit.directory),
            "files": stats[f"{kit.directory}_files"],
            "bytes": stats[f"{kit.directory}_bytes"],
        }

    def _count(self, kit: toolkit.Toolkit) -> Mapping[str, int | None]:
        try:
            with operation("get_status", kit.component):
                return self._adapter(kit).count()
        except MLOpsClientError as error:
            if error.details["reason"] != "WORKSPACE_NOT_LOCAL":
                raise
            return dict.fromkeys(kit.counts)

    def _adapter(self, kit: toolkit.Toolkit) -> "Adapter":
        adapters: dict[toolkit.Toolkit, Callable[[], Adapter]] = {
            toolkit.MLFLOW: self._mlflow,
            toolkit.DVC: self._dvc,
            toolkit.BENTOML: self._models,
            toolkit.EVIDENTLY: self._monitor,
        }
        return adapters[kit]()


class Adapter(Protocol):
    """The interface that the four adapters share."""

    def count(self) -> dict[str, int]:
        """Return the library's own counts of its objects in the workspace.

        Creates nothing.
        """


def create_client(
    project_name: str,
    repo_root: Pathlike | None = None,
    *,
    base_path: Pathlike | None = None,
    address: str | None = None,
    **credentials: Unpack[CredentialOptions],
) -> MLOpsClient:
    """Open the workspace of a project; see MLOpsClient.from_project()."""
    return MLOpsClient.from_project(
        project_name, repo_root, base_path=base_path, address=address, **credentials
    )


def _checked(
    field: str, config: Mapping[str, Any] | None, keys: frozenset[str]
) -> dict[str, Any]:
    """Return the entries of `config` that are not None.

    Raises:
        MLOpsClientError: INPUT_INVALID if a key is unknown, or a value is not a
            non-empty text.
    """
    if not isinstance(config, Mapping | None):
        raise input_invalid(field, f"must be a dict, not {type(config).__name__}")
    said = {key: value for key, value in (config or {}).items() if value is not None}
    if unknown := sorted(str(key) for key in said.keys() - keys):
        raise input_invalid(
            field,
            f"has unknown keys: {', '.join(unknown)}; "
            f"known keys are {', '.join(sorted(keys))}",
        )
    for key, value in said.items():
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise input_invalid(
                f"{field}.{key}", f"must be text that is not empty, not {value!r:.100}"
            )
    return {key: os.fspath(value) for key, value in said.items()}


def _manager(
    project_name: str,
    repo_root: Path,
    workspace_path: Pathlike | None,
    given: WorkspaceManager | None,
    base_path: Pathlike | None,
    address: str | None,
    credentials: CredentialOptions,
) -> WorkspaceManager:
    # A given manager already determines the server and the credentials.
    excluded = {"base_path": base_path, "address": address, **credentials}
    for field, value in excluded.items():
        if value is not None and given is not None:
            raise input_invalid(
                field,
                "cannot be combined with workspace_manager: leave one of them out",
            )
    if workspace_path is None:
        return given or WorkspaceManager(base_path, repo_root, address, **credentials)
    if base_path is not None:
        raise input_invalid(
            "base_path",
            "cannot be combined with workspace_path: leave one of them out",
        )
    # The server names each directory after its project.
    path = Path(workspace_path).expanduser().absolute()
    if path.name != project_name:
        raise input_invalid(
            "workspace_path",
            f"must end in the project's name, {project_name!r}; it is {str(path)!r}",
        )
    manager = given or WorkspaceManager(path.parent, address=address, **credentials)
    # A given manager, or a server named by the environment, may have another base.
    if manager.base_path.resolve() != path.parent.resolve():
        raise input_invalid(
            "workspace_path",
            f"is {str(path)!r}, but the server has it below {str(manager.base_path)!r}",
        )
    return manager
