"""MLOpsClient: what can be done within one project, in plain calls."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mlops.client import toolkit
from mlops.client.errors import MLOpsClientError, input_invalid, operation
from mlops.client.lazy import Lazy
from mlops.client.paths import find_input, require_local
from mlops.workspace import ProjectWorkspace, WorkspaceManager
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


class MLOpsClient:
    """MLflow, DVC, BentoML and Evidently within one project's workspace.

    Making one asks the server once, for the workspace, which is made if it does not
    exist. None of the four libraries is imported before the first call that needs it,
    and what they keep (experiment, repository, stores) is made by that call. Clients of
    several projects may live in one process and never see each other's data.
    Thread-safe.

    If the server of the workspace is on another machine, runs need a `tracking_uri`
    that is no file of that machine; their artifacts and models go through the
    workspace's server, if the client made the experiment. DVC, BentoML and Evidently
    need the directory itself: error WORKSPACE_NOT_LOCAL.

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
    ) -> None:
        """Opens the workspace of `project_name`, and makes it if there is none.

        It is one of `workspace_manager`; else the one at `workspace_path`, whose last
        part must be the project's name; else one of the server at `address`; else one
        in the base directory `base_path`, by default `mlops/workspace` below
        `repo_root` or the working directory.

        `mlflow_config` may hold "tracking_uri", "experiment_name" and "registry_uri";
        `dvc_config` "remote_path". They hold for this client only; what is left out is
        the workspace's own.
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
            )
            self._owns_manager = workspace_manager is None
            self.workspace: ProjectWorkspace = self._manager.get_or_create_workspace(
                project_name
            )
            if (self.workspace.mlflow_path / "mlflow.db").is_file():
                # Needs SQLite, as MLflow does.
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
    ) -> Self:
        """Opens the workspace of `project_name` below `repo_root`, by default the
        working directory; or in the base directory `base_path`, or of the server at
        `address`.
        """
        return cls(
            project_name, repo_root=repo_root, base_path=base_path, address=address
        )

    def __getstate__(self) -> dict[str, Any]:
        """What a pickled client, or a copy, has: all but what the libraries keep open,
        and the active run.
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
        """Gives up the connection to the workspace's server, unless it is that of the
        `workspace_manager` given. A later call opens another one.
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
        return f"{type(self).__name__}({self.project_name!r}, workspace_path={str(self.workspace_path)!r})"

    def _repr_html_(self) -> str:
        """The workspace's table, for notebooks."""
        return self.workspace._repr_html_()

    @property
    def workspace_path(self) -> Path:
        """The workspace's directory; if `workspace.is_local` is False, on its server's
        machine.
        """
        return self.workspace.root_path

    def get_workspace_path(self, subdir: str | None = None) -> Path:
        """The workspace's directory, or one of its five:

        "mlflow", "dvc", "monitoring", "models", "outputs".
        """
        if subdir is None:
            return self.workspace_path
        with operation("get_workspace_path", "workspace"):
            if subdir not in DIRECTORIES:
                raise input_invalid(
                    "subdir", f"is {subdir!r}, none of {', '.join(DIRECTORIES)}"
                )
            return self.workspace_path / subdir

    def _roots(self) -> Iterator[Path]:
        """Where files are looked for that are not in the working directory."""
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
        """A run of the project's experiment, active within the `with` block: FINISHED
        at its end, FAILED if it raised, KILLED if that was KeyboardInterrupt. What the
        block raises passes unchanged.

        It is active for this client, in this thread or task only. With `nested` it is a
        child of the one active there; without, an active one is an error. It is as it
        was when it began: later values are the store's.
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
        """Logs parameters to the active run."""
        with operation("log_params", "mlflow"):
            self._mlflow().log_params(params)

    def log_metrics(
        self, metrics: Mapping[str, float], step: int | None = None
    ) -> None:
        """Logs metrics to the active run, at `step` (0 if not said)."""
        with operation("log_metrics", "mlflow"):
            self._mlflow().log_metrics(metrics, step)

    def log_artifact(
        self, local_path: Pathlike, artifact_path: str | None = None
    ) -> None:
        """Copies a file, or a directory with what is in it, into the active run's
        artifacts, below `artifact_path`.

        A relative `local_path` is looked for in the working directory, and then in the
        workspace, if that is local.
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
        """Saves a model into the active run, and registers it if a name is given.
        Returns its URI.
        """
        with operation("log_model", "mlflow"):
            return self._mlflow().log_model(model, artifact_path, registered_model_name)

    def _make_mlflow(self) -> "MLflowClient":
        toolkit.MLFLOW.require()
        from mlops.client.mlflow_client import MLflowClient

        return MLflowClient(self.workspace, self._mlflow_config, self._keep_experiment)

    def _keep_experiment(self, experiment_id: str) -> None:
        """Makes `workspace.mlflow_experiment_id` known to all."""
        self.workspace = self._manager.update_workspace_metadata(
            self.project_name, mlflow_experiment_id=experiment_id
        )

    # --- DVC ---

    def dvc_add(self, path: Pathlike, recursive: bool = False) -> dict[str, Any]:
        """Tracks a file or directory, as it is now, in the workspace's DVC repository.

        A relative path is one in the working directory, or else below
        `workspace.dvc_path`. One from outside that is copied into it: a relative one to
        the same place, an absolute one, or one that begins with "..", by its name. What
        is tracked there becomes the former version. With `recursive` each file below a
        directory is tracked by itself, which is many times slower than a directory as a
        whole.

        Returns `success`, `path`, `dvc_file`, `md5`, `size`, `files`, `changed`, and
        with `recursive` `added`: the same of each file. Reasons of errors:
        FILE_NOT_FOUND, INPUT_INVALID, FILE_CHANGING, LOCAL_CHANGES, REPOSITORY_BUSY.
        """
        with operation("dvc_add", "dvc"):
            return self._dvc().add(path, recursive)

    def dvc_push(
        self, targets: Sequence[Pathlike] | None = None, remote: str | None = None
    ) -> dict[str, Any]:
        """Uploads what is tracked, or the `targets` of it, to
        `workspace.dvc_remote_path`, or to the `remote` of that name in DVC's
        configuration. Targets are paths relative to `workspace.dvc_path` or the working
        directory.

        Returns `success`, `pushed`, `remote` and `url`. Reasons of errors:
        INPUT_INVALID, DATA_MISSING, REPOSITORY_BUSY, TOOLKIT_MISSING if DVC needs more
        for such a remote.
        """
        with operation("dvc_push", "dvc"):
            return self._dvc().push(targets, remote)

    def dvc_pull(
        self,
        targets: Sequence[Pathlike] | None = None,
        remote: str | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Downloads what is tracked, or the `targets` of it, and puts it in place; with
        `force` over changes.

        Returns `success`, `fetched`, `added`, `modified`, `deleted`, `remote` and
        `url`. Reasons of errors: those of dvc_push(), and LOCAL_CHANGES.
        """
        with operation("dvc_pull", "dvc"):
            return self._dvc().pull(targets, remote, force)

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
        """Puts the files at `model_path` into the workspace's model store.

        A relative `model_path` is looked for in the working directory, and then in the
        workspace, if that is local.
        """
        with operation("deploy_model", "bentoml"):
            path = find_input(model_path, self._roots())
            return self._models().deploy(path, model_name, model_version, build_bento)

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
        """Keeps `df` as what later data is compared with, also by other processes."""
        with operation("set_reference_data", "evidently"):
            self._monitor().set_reference(df, target_column, prediction_column)

    def monitor_predictions(
        self,
        df: "pd.DataFrame",
        target_column: str | None = None,
        prediction_column: str | None = None,
    ) -> dict[str, Any]:
        """Compares `df` with the reference data and writes a report into
        `workspace.monitoring_path`.

        With an active run the figures are logged to it as metrics.
        """
        with operation("monitor_predictions", "evidently"):
            results = self._monitor().compare(df, target_column, prediction_column)
            mlflow = self._mlflow.made
            if mlflow is not None and mlflow.active_run_id is not None:
                mlflow.log_metrics(results["metrics"], None)
        return results

    def _make_monitor(self) -> "DriftMonitor":
        toolkit.EVIDENTLY.require()
        require_local(self.workspace)
        from mlops.monitoring.evidently import DriftMonitor

        return DriftMonitor(self.workspace)

    # --- Status ---

    def get_status(self, deep: bool = False) -> dict[str, Any]:
        """The `project_name`, the status of the `workspace` as
        WorkspaceManager.get_workspace_status() says it, and `components`: for each of
        "mlflow", "dvc", "bentoml" and "evidently" whether it is `installed`, its
        `version`, the `path` of its data, and its `files` and `bytes`.

        Imports none of them. With `deep` those that are installed are asked, too:
        `runs`, `tracked`, `models` and `bentos`, `reports`. They are None for those
        that need the workspace's directory, if it is not on this machine.
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
    """What all four have in common."""

    def count(self) -> dict[str, int]:
        """How many things of its own it knows in the workspace, as the library itself
        counts them; makes nothing.
        """


def create_client(
    project_name: str,
    repo_root: Pathlike | None = None,
    *,
    base_path: Pathlike | None = None,
    address: str | None = None,
) -> MLOpsClient:
    """Opens the workspace of a project, as MLOpsClient.from_project()."""
    return MLOpsClient.from_project(
        project_name, repo_root, base_path=base_path, address=address
    )


def _checked(
    field: str, config: Mapping[str, Any] | None, keys: frozenset[str]
) -> dict[str, Any]:
    """Those that are said; None is as good as left out."""
    if not isinstance(config, Mapping | None):
        raise input_invalid(field, f"must be a dict, not {type(config).__name__}")
    said = {key: value for key, value in (config or {}).items() if value is not None}
    if unknown := sorted(str(key) for key in said.keys() - keys):
        raise input_invalid(
            field, f"has no {', '.join(unknown)}; it may hold {', '.join(sorted(keys))}"
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
) -> WorkspaceManager:
    for field, value in (("base_path", base_path), ("address", address)):
        if value is not None and given is not None:
            raise input_invalid(
                field,
                "is what the workspace_manager given has already: leave one of them out",
            )
    if workspace_path is None:
        return given or WorkspaceManager(base_path, repo_root, address)
    if base_path is not None:
        raise input_invalid(
            "base_path",
            "is the directory of the workspace_path given: leave one of them out",
        )
    path = Path(workspace_path).expanduser().absolute()
    if path.name != project_name:
        raise input_invalid(
            "workspace_path",
            f"must end in the project's name, {project_name!r}; it is {str(path)!r}",
        )
    manager = given or WorkspaceManager(path.parent, address=address)
    # A manager that was given, and a server named by the environment, have a base of
    # their own.
    if manager.base_path.resolve() != path.parent.resolve():
        raise input_invalid(
            "workspace_path",
            f"is {str(path)!r}, but the server has it below {str(manager.base_path)!r}",
        )
    return manager
