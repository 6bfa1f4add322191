"""The commands that read the toolkits' stores: runs, compare, models, data, drift."""

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlops.client import MLOpsClient
from mlops.commands.overviews import COMMANDS
from mlops.commands.texts import examples_of
from mlops.workspace import WorkspaceError, WorkspaceManager

from python.commands.conftest import Run, Terminal, manager, mlops, settings, terminal
from support.elsewhere import RemoteServer

__all__ = ["manager", "mlops", "settings", "terminal"]

# Each command imports a toolkit anew.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def projects(manager: WorkspaceManager, directory: Path) -> None:
    """Two projects with runs, of which one has everything else, and one without."""
    (directory / "model.bin").write_bytes(b"weights")
    (directory / "train.csv").write_text("a,b\n1,2\n")
    with MLOpsClient("fraud", workspace_manager=manager) as fraud:
        for number, accuracy in enumerate((0.5, 0.9, 0.7)):
            with fraud.start_run(f"run-{number}"):
                fraud.log_metrics({"accuracy": accuracy, "loss": 1 - accuracy})
        with fraud.start_run("without"):
            fraud.log_params({"depth": 3})
        fraud.deploy_model(directory / "model.bin", "net", "v1")
        fraud.dvc_add(directory / "train.csv")
        people = pd.DataFrame({"age": range(20, 70), "income": range(0, 100, 2)})
        fraud.set_reference_data(people)
        fraud.monitor_predictions(people)
        fraud.monitor_predictions(people.assign(income=people["income"] + 50))
    with (
        MLOpsClient("churn", workspace_manager=manager) as churn,
        churn.start_run("other"),
    ):
        churn.log_metrics({"accuracy": 0.8, "loss": 0.2})
    manager.create_workspace("empty")


def test_a_diverged_run_is_not_the_best(manager: WorkspaceManager, mlops: Run) -> None:
    with MLOpsClient("fraud", workspace_manager=manager) as fraud:
        # log_metrics() refuses NaN; MLflow itself does not.
        store = MlflowClient(manager.get_workspace("fraud").mlflow_tracking_uri)
        for number, loss in enumerate((float("nan"), 0.5, float("nan"), 0.2)):
            with fraud.start_run(f"run-{number}") as run:
                store.log_metric(run.info.run_id, "loss", loss)
    for order, first in (((), "run-1"), (("--lowest",), "run-3")):
        found = json.loads(
            mlops("runs", "--metric", "loss", *order, "-o", "json").stdout
        )
        assert found[0]["name"] == first
        # JSON has no NaN.
        assert [run["metrics"]["loss"] for run in found[2:]] == [None, None]
        compared = mlops("compare", "fraud", "fraud", "--metric", "loss", *order)
        assert "nan" not in compared.stdout, compared.stdout


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

    data(mlops, manager)
    drift(mlops, manager)

    # No command creates what it looks for.
    assert mlops("runs", "nope").returncode == 3
    assert mlops("compare", "fraud", "nope").returncode == 3
    with pytest.raises(WorkspaceError):
        manager.get_workspace("nope")
    assert list(manager.get_workspace("empty").mlflow_path.iterdir()) == []


def data(mlops: Run, manager: WorkspaceManager) -> None:
    (version,) = json.loads(mlops("data", "-o", "json").stdout)
    assert (version["project_name"], version["path"]) == ("fraud", "train.csv")
    assert (version["size_bytes"], version["files"]) == (8, 1)
    assert (version["in_cache"], version["in_remote"]) == (True, False)
    assert version["commit"] is None
    with MLOpsClient("fraud", workspace_manager=manager) as fraud:
        fraud.dvc_push()
    table = mlops("data", "fraud").stdout.splitlines()
    assert table[1].split()[:6] == [
        "fraud",
        "train.csv",
        version["md5"][:8],
        "1",
        "8",
        "B",
    ]
    assert table[1].split()[-1] == "yes"
    nothing = mlops("data", "empty")
    assert (nothing.stdout, nothing.stderr) == ("", "DVC tracks nothing.\n")


def drift(mlops: Run, manager: WorkspaceManager) -> None:
    (project,) = json.loads(mlops("drift", "-o", "json").stdout)
    assert project["project_name"] == "fraud"
    assert project["drift_shares"] == [0.0, 0.5]
    latest, first = json.loads(mlops("drift", "fraud", "-o", "json").stdout)
    assert latest["drifted_columns"] == ["income"]
    assert (latest["drift_share"], first["drift_share"]) == (0.5, 0.0)
    fraud = manager.get_workspace("fraud")
    assert (fraud.root_path / latest["report_html"]).is_file()
    line = mlops("drift").stdout.splitlines()[1].split()
    assert (line[0], line[2], line[-1]) == ("fraud", "50%", "▁▅")
    ascii_only = mlops("drift", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert ascii_only.stdout.splitlines()[1].split()[-1] == "_="
    shown = mlops("drift", "fraud", "--last", "1", "--no-headers").stdout
    assert "██████ " in shown and "income" in shown
    # A report that is damaged hides no other.
    (fraud.root_path / latest["report_json"]).write_text("{")
    result = mlops("drift", "fraud", "-o", "json")
    assert json.loads(result.stdout) == [first]
    assert "cannot be read" in result.stderr
    nothing = mlops("drift", "empty")
    assert (nothing.stdout, nothing.stderr) == ("", "There are no drift reports.\n")


def test_data_in_git_has_a_history(
    manager: WorkspaceManager, directory: Path, mlops: Run
) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(
            ["git", *identity, *arguments],
            cwd=directory,
            check=True,
            capture_output=True,
        )

    git("init")
    with MLOpsClient("fraud", workspace_manager=manager) as fraud:
        for text in ("one", "second"):
            (directory / "train.csv").write_text(text)
            fraud.dvc_add(directory / "train.csv")
            git("add", "-f", "mlops/workspace/fraud/dvc")
            git("commit", "-m", text)
    found = json.loads(mlops("data", "--history", "-o", "json").stdout)
    assert [(one["path"], one["size_bytes"]) for one in found] == [
        ("train.csv", 6),
        ("train.csv", 3),
    ]
    assert found[0]["commit"] is None and len(found[1]["commit"]) == 40
    assert len(json.loads(mlops("data", "-o", "json").stdout)) == 1


def test_drift_of_another_machine(mlops: Run, remote: RemoteServer) -> None:
    with WorkspaceManager(address=remote.tcp) as there:
        reports = "monitoring/reports"
        files = there.create_workspace("far").files
        files.makedirs(reports)
        name = "drift-20260102T030405.000006Z-abcdef"
        test = {"params": {"column": "age"}}
        report = {"tests": [{"id": "drift", "status": "FAIL", "metric_config": test}]}
        files.pipe_file(f"{reports}/{name}.json", json.dumps(report).encode())
    result = mlops("drift", "--address", remote.tcp, "-o", "json")
    assert result.returncode == 0, result.stderr
    (found,) = json.loads(result.stdout)
    assert found["created_at"] == "2026-01-02T03:04:05.000006+00:00"
    assert found["report_html"] == f"{reports}/{name}.html"


def test_a_terminal_shows_plots(
    projects: None, terminal: Callable[..., Terminal]
) -> None:
    best = terminal("runs", "--metric", "accuracy", columns=100)
    assert best.code() == 0
    assert "████" in best.output
    compared = terminal("compare", "fraud", "churn", "--metric", "accuracy")
    assert compared.code() == 0
    assert "BEST ACCURACY" in compared.output
    assert "█" in compared.output
    narrow = terminal("runs", "--metric", "accuracy", columns=40)
    assert narrow.code() == 0
    assert all(len(line) <= 40 for line in narrow.output.splitlines()[1:])


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_run(command: str, projects: None, mlops: Run) -> None:
    for example in examples_of(COMMANDS[command]):
        result = mlops(*shlex.split(example)[1:])
        assert result.returncode == 0, f"{example}: {result.stderr}"
        assert result.stdout
        assert result.stderr == ""
