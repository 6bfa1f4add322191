"""The workspace's experiment: the only importer of mlflow in the client."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from mlops.workspace import ProjectWorkspace


class MLflowClient:
    """Runs of one workspace's experiment. Thread-safe."""

    def __init__(
        self, workspace: ProjectWorkspace, config: Mapping[str, Any], keep_experiment: Callable[[str], None]
    ) -> None: ...

    @property
    def active_run_id(self) -> str | None: ...

    def start_run(
        self, run_name: str | None, nested: bool, tags: Mapping[str, str] | None, description: str | None
    ) -> AbstractContextManager[Run]: ...

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None: ...

    def log_artifact(self, path: Path, artifact_path: str | None) -> None: ...

    def log_model(self, model: Any, artifact_path: str, registered_model_name: str | None) -> str: ...

    def count(self) -> dict[str, int]: ...
