"""The commands runs, compare and models, on the toolkits' own stores."""

import json
import shlex
from pathlib import Path

import pytest
from mlops.client import MLOpsClient
from mlops.commands.overviews import COMMANDS
from mlops.commands.texts import examples_of
from mlops.workspace import WorkspaceError, WorkspaceManager

from python.commands.conftest import Run, manager, mlops, settings

__all__ = ["manager", "mlops", "settings"]

# Each command imports a toolkit anew.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def projects(manager: WorkspaceManager, directory: Path) -> None:
    """Two projects with runs, of which one has a model, and one without."""
    (directory / "model.bin").write_bytes(b"weights")
    with MLOpsClient("fraud", workspace_manager=manager) as fraud:
        for number, accuracy in enumerate((0.5, 0.9, 0.7)):
            with fraud.start_run(f"run-{number}"):
                fraud.log_metrics({"accuracy": accuracy, "loss": 1 - accuracy})
        with fraud.start_run("without"):
            fraud.log_params({"depth": 3})
        fraud.deploy_model(directory / "model.bin", "net", "v1")
    with (
        MLOpsClient("churn", workspace_manager=manager) as churn,
        churn.start_run("other"),
    ):
        churn.log_metrics({"accuracy": 0.8, "loss": 0.2})
    manager.create_workspace("empty")


def test_runs_models_and_comparison(
    projects: None, mlops: Run, manager: WorkspaceManager
) -> None:
    best = mlops("runs", "--metric", "accuracy", "--top", "3", "-o", "json")
    assert best.returncode == 0, best.stderr
    found = json.loads(best.stdout)
    assert [(run["project_name"], run["name"]) for run in found] == [
        ("fraud", "run-1"),
        ("churn", "other"),
        ("fraud", "run-2"),
    ]
    lowest = mlops("runs", "fraud", "--metric", "loss", "--lowest", "--no-headers")
    assert lowest.stdout.split()[:3] == ["fraud", "run-1", "FINISHED"]
    latest = json.loads(mlops("runs", "fraud", "--top", "1", "-o", "json").stdout)
    assert latest[0]["params"] == {"depth": "3"}

    (model,) = json.loads(mlops("models", "-o", "json").stdout)
    assert (model["project_name"], model["tag"]) == ("fraud", "net:v1")
    assert mlops("models", "empty").stderr == "There are no models.\n"

    one, other = json.loads(mlops("compare", "fraud", "churn", "-o", "json").stdout)
    assert (one["runs"], one["best_metrics"]["accuracy"]) == (4, 0.9)
    assert other["best_metrics"] == {"accuracy": 0.8, "loss": 0.2}
    table = mlops("compare", "fraud", "empty", "--metric", "accuracy").stdout
    assert "best accuracy" in table
    assert "loss" not in table

    # No command creates what it looks for.
    assert mlops("runs", "nope").returncode == 3
    assert mlops("compare", "fraud", "nope").returncode == 3
    with pytest.raises(WorkspaceError):
        manager.get_workspace("nope")
    assert list(manager.get_workspace("empty").mlflow_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_run(command: str, projects: None, mlops: Run) -> None:
    for example in examples_of(COMMANDS[command]):
        result = mlops(*shlex.split(example)[1:])
        assert result.returncode == 0, f"{example}: {result.stderr}"
        assert result.stdout
        assert result.stderr == ""
