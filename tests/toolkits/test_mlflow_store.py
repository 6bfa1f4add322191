"""Stores under concurrency, after killed processes, at odd paths and on servers."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow

# Import it once here, rather than in each forked process.
import mlflow.store.tracking.sqlalchemy_store
import pytest
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.workspace import WorkspaceManager

from python.conftest import Script
from support.server import short_base, stop_server
from toolkits.mlflow_server import Running, free_port, running

_PROCESSES = 4
_fork = multiprocessing.get_context("fork")


def log_one(base: Path, start: float) -> str:
    """Opens the project anew and logs a run; returns the experiment's id."""
    time.sleep(max(0.0, start - time.time()))
    client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
    with client.start_run() as run:
        client.log_metrics({"loss": 0.5})
    assert client.workspace.mlflow_experiment_id == run.info.experiment_id
    return str(run.info.experiment_id)


def finished(base: Path) -> list[str]:
    """Returns the ids of all runs, which must have the status FINISHED."""
    workspace = WorkspaceManager(base).get_workspace("fraud")
    runs = mlflow.MlflowClient(workspace.mlflow_tracking_uri).search_runs(
        [workspace.mlflow_experiment_id]
    )
    assert {run.info.status for run in runs} <= {"FINISHED"}
    return [run.info.run_id for run in runs]


# --- Concurrency --------------------------------------------------------------


def test_processes_that_begin_at_once_make_one_store_and_one_experiment(
    base: Path,
) -> None:
    WorkspaceManager(base).create_workspace("fraud")
    with _fork.Pool(_PROCESSES) as pool:
        start = time.time() + 0.2
        experiments = pool.starmap(log_one, [(base, start)] * _PROCESSES)
    assert len(set(experiments)) == 1
    assert len(finished(base)) == _PROCESSES
    assert sorted(path.name for path in (base / "fraud/mlflow").iterdir()) == [
        "mlflow.db"
    ]


def test_threads_that_begin_at_once_make_one_store_and_one_experiment(
    base: Path,
) -> None:
    WorkspaceManager(base).create_workspace("fraud")
    with ThreadPoolExecutor(_PROCESSES) as pool:
        experiments = list(pool.map(log_one, [base] * _PROCESSES, [0.0] * _PROCESSES))
    assert len(set(experiments)) == 1
    assert len(finished(base)) == _PROCESSES


# --- Killed processes ---------------------------------------------------------

_BEGIN = """
from mlops.client import MLOpsClient
client = MLOpsClient.from_project("fraud")
with client.start_run():
    client.log_params({"lr": 1})
    print("logged", flush=True)
    input()
"""


def test_a_process_that_is_killed_while_it_makes_the_store_leaves_nothing_in_the_way(
    directory: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN], cwd=directory, stderr=subprocess.DEVNULL
    )
    base = directory / "mlops/workspace"
    try:
        deadline = time.monotonic() + 60
        while not list(base.glob("fraud/mlflow/.mlflow.db.new/*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (base / "fraud/mlflow/mlflow.db").exists()
    log_one(base, 0.0)
    assert [path.name for path in (base / "fraud/mlflow").iterdir()] == ["mlflow.db"]


def test_a_process_that_is_killed_in_a_run_leaves_nothing_locked(
    directory: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"logged\n"
    process.kill()
    process.communicate()
    log_one(directory / "mlops/workspace", 0.0)
    workspace = WorkspaceManager(repo_root=directory).get_workspace("fraud")
    runs = mlflow.MlflowClient(workspace.mlflow_tracking_uri).search_runs(
        [workspace.mlflow_experiment_id]
    )
    assert sorted(run.info.status for run in runs) == ["FINISHED", "RUNNING"]


def test_a_workspace_made_anew_has_a_store_of_its_own(base: Path) -> None:
    """MLflow keeps connections to the deleted database, which is now in the trash."""
    log_one(base, 0.0)
    manager = WorkspaceManager(base)
    manager.delete_workspace("fraud", force=True)
    log_one(base, 0.0)
    assert len(finished(base)) == 1
    assert (base / "fraud/mlflow/mlflow.db").exists()


# --- Locations of the store ---------------------------------------------------


# Characters that have a meaning in URIs, shells, templates or SQLAlchemy.
ODD = "jürgen #?;&%41 '\"{}$HOME[*]:@\\\n"


@pytest.mark.parametrize("name", ["my models", ODD], ids=["space", "odd"])
def test_a_base_may_have_any_name_and_nothing_is_made_beside_it(name: str) -> None:
    with short_base() as path:
        base = path.with_name(name)
        client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
        try:
            with client.start_run() as run:
                client.log_artifact(__file__)
                client.log_metrics({"loss": 0.5})
            assert client._mlflow().count() == {"runs": 1}
            artifacts = base / f"fraud/mlflow/artifacts/{run.info.run_id}/artifacts"
            assert [file.name for file in artifacts.iterdir()] == [Path(__file__).name]
            assert os.listdir(path.parent) == [name]
        finally:
            stop_server(base)


def test_a_workspace_that_is_not_on_this_machine_is_not_made_here(base: Path) -> None:
    client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
    client.workspace.root_path = Path("/not/here/fraud")
    with (
        pytest.raises(MLOpsClientError, match="is not on this machine") as caught,
        client.start_run(),
    ):
        pytest.fail("it began")
    assert caught.value.details == {
        "reason": "WORKSPACE_NOT_LOCAL",
        "path": "/not/here/fraud",
    }
    assert not Path("/not").exists()


@pytest.mark.parametrize(
    "uri", ["sqlite:////proc/no/mlflow.db", "file:///tmp/mlruns", "nonsense://x"]
)
def test_a_store_that_cannot_be_is_an_error_at_once(
    uri: str, manager: WorkspaceManager
) -> None:
    client = MLOpsClient(
        "fraud", mlflow_config={"tracking_uri": uri}, workspace_manager=manager
    )
    begin = time.monotonic()
    with pytest.raises(MLOpsClientError) as caught, client.start_run():
        pytest.fail("it began")
    assert (caught.value.operation, caught.value.component) == ("start_run", "mlflow")
    assert time.monotonic() - begin < 20


# --- Servers ------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown() -> Iterator[MLOpsClient]:
    """A client with a run in its workspace's own store."""
    with short_base() as base:
        client = MLOpsClient("shown", workspace_manager=WorkspaceManager(base))
        with client.start_run("first"):
            client.log_metrics({"loss": 0.5})
        yield client
        stop_server(base)


@pytest.fixture(scope="module")
def server(shown: MLOpsClient) -> Iterator[Running]:
    """An `mlflow server` on the workspace's store."""
    command = [
        "server",
        "--backend-store-uri",
        str(shown.workspace.mlflow_tracking_uri),
        "--workers",
        "1",
    ]
    command += ["--artifacts-destination", str(shown.workspace.outputs_path / "served")]
    with running(command, shown.workspace.outputs_path, "/health") as server:
        yield server


def test_mlflows_own_server_shows_the_runs(server: Running, shown: MLOpsClient) -> None:
    query = {"experiment_ids": [shown.workspace.mlflow_experiment_id]}
    request = urllib.request.Request(
        f"{server.url}/api/2.0/mlflow/runs/search",
        json.dumps(query).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        [run] = json.load(answer)["runs"]
    assert (run["info"]["run_name"], run["info"]["status"]) == ("first", "FINISHED")
    assert [(metric["key"], metric["value"]) for metric in run["data"]["metrics"]] == [
        ("loss", 0.5)
    ]


def test_runs_go_to_a_server_if_the_workspace_says_so(
    server: Running, manager: WorkspaceManager
) -> None:
    workspace = manager.create_workspace("remote", mlflow_tracking_uri=server.url)
    client = MLOpsClient("remote", workspace_manager=manager)
    with client.start_run("there") as run:
        client.log_params({"lr": 1})
        client.log_metrics({"loss": 0.5})
        client.log_artifact(__file__)
    store = mlflow.MlflowClient(server.url)
    found = store.get_run(run.info.run_id)
    assert (found.info.status, found.data.params, found.data.metrics) == (
        "FINISHED",
        {"lr": "1"},
        {"loss": 0.5},
    )
    assert [file.path for file in store.list_artifacts(run.info.run_id)] == [
        Path(__file__).name
    ]
    assert store.get_experiment(client.workspace.mlflow_experiment_id).name == "remote"
    assert client._mlflow().count() == {"runs": 1}
    assert list(workspace.mlflow_path.iterdir()) == []


def test_a_model_goes_to_a_server(server: Running, manager: WorkspaceManager) -> None:
    client = MLOpsClient(
        "modelled",
        mlflow_config={"tracking_uri": server.url},
        workspace_manager=manager,
    )
    with client.start_run() as run:
        client.log_model(Doubler(), registered_model_name="doubler")
    version = mlflow.MlflowClient(server.url).get_model_version("doubler", "1")
    assert (version.run_id, version.status) == (run.info.run_id, "READY")


class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A minimal MLflow model."""

    def predict(self, model_input: list[float]) -> list[float]:
        """Returns the doubled input."""
        return [2 * number for number in model_input]


def test_a_server_that_is_down_is_an_error_within_seconds(
    manager: WorkspaceManager,
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    client = MLOpsClient(
        "fraud", mlflow_config={"tracking_uri": uri}, workspace_manager=manager
    )
    begin = time.monotonic()
    with (
        pytest.raises(
            MLOpsClientError, match=f"MLflow server at {uri} does not answer"
        ) as caught,
        client.start_run(),
    ):
        pytest.fail("it began")
    assert time.monotonic() - begin < 15
    assert (caught.value.operation, caught.value.component) == ("start_run", "mlflow")
    assert caught.value.details == {"reason": "SERVER_UNAVAILABLE", "tracking_uri": uri}
    assert client.get_status()["workspace"]["file_count"] == 0


def test_a_server_that_never_answers_is_an_error_within_seconds(
    manager: WorkspaceManager,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        client = MLOpsClient(
            "fraud", mlflow_config={"tracking_uri": uri}, workspace_manager=manager
        )
        begin = time.monotonic()
        with (
            pytest.raises(MLOpsClientError, match="does not answer"),
            client.start_run(),
        ):
            pytest.fail("it began")
        assert time.monotonic() - begin < 20


def test_a_server_that_goes_away_does_not_hide_what_the_block_raised(
    shown: MLOpsClient,
    manager: WorkspaceManager,
    caplog: pytest.LogCaptureFixture,
    directory: Path,
) -> None:
    # A copy saves the server from creating a database.
    shutil.copy(shown.workspace.mlflow_path / "mlflow.db", directory / "gone.db")
    command = [
        "server",
        "--backend-store-uri",
        f"sqlite:///{directory}/gone.db",
        "--workers",
        "1",
    ]
    with running(command, directory, "/health") as server:
        client = MLOpsClient(
            "fraud",
            mlflow_config={"tracking_uri": server.url},
            workspace_manager=manager,
        )
        begin = 0.0
        with (
            caplog.at_level(logging.WARNING, "mlops"),
            pytest.raises(ValueError, match="mine"),
            client.start_run(),
        ):
            server.stop()
            begin = time.monotonic()
            raise ValueError("mine")
    assert time.monotonic() - begin < 30
    assert "remains RUNNING" in caplog.text


# --- Telemetry ----------------------------------------------------------------

_QUIET = """
import os, socket, sys
# MLflow is quiet by itself where it sees a test.
for name in ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS"):
    os.environ.pop(name, None)
connect, reached = socket.socket.connect, []
def watch(self, address):
    if self.family != socket.AF_UNIX:
        reached.append(address)
    return connect(self, address)
socket.socket.connect = watch
from mlops.client import MLOpsClient
client = MLOpsClient.from_project("fraud")
with client.start_run():
    client.log_metrics({"loss": 1.0})
from mlflow.telemetry import get_telemetry_client
print(os.environ["MLFLOW_DISABLE_TELEMETRY"], get_telemetry_client() is None, reached)
"""


def quiet(directory: Path, **environment: str) -> str:
    unset = {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"}
    known = {key: value for key, value in os.environ.items() if key not in unset}
    command = [sys.executable, "-c", _QUIET]
    result = subprocess.run(
        command,
        cwd=directory,
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_mlflow_tells_nobody_of_its_use(directory: Path) -> None:
    assert quiet(directory) == "true True []"


def test_who_wants_mlflow_to_tell_says_so(directory: Path, script: Script) -> None:
    code = (
        "import os; from mlops._toolkits.toolkit import MLFLOW; MLFLOW.require();"
        " print(os.environ[MLFLOW.no_telemetry])"
    )
    assert script(code, MLFLOW_DISABLE_TELEMETRY="false").stdout == "false\n"
