"""Projects as the workspaces of an MLflow server.

Some tests use a real MLflow server over HTTP, others only the provider.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Workspace
from mlflow.entities.workspace import WorkspaceDeletionMode
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.workspace_context import WorkspaceContext
from mlops.cli import BINARY
from mlops.tracking.mlflow_workspaces import WorkspaceStore
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb

from support.server import short_base, stop_server


class MLflowServer:
    """An `mlflow server` with its own base and database."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = base.with_name("mlflow.log")
        self.client = MlflowClient(self.url)

    def start(self, workers: int) -> None:
        uri = f"mlops://{self.base.as_uri().removeprefix('file://')}"
        database = f"sqlite:///{self.base.with_name('mlflow.db')}"
        options = [
            "--port",
            self.url.rpartition(":")[2],
            "--workers",
            str(workers),
            "--backend-store-uri",
            database,
        ]
        options += ["--enable-workspaces", "--workspace-store-uri", uri]
        quiet = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with self.log.open("ab") as log:
            # A new session makes a process group, through which stop() also ends the
            # server's workers.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                stdout=log,
                stderr=log,
                cwd=self.base.parent,
                env={**os.environ, **quiet},
                start_new_session=True,
            )
        while not self._is_up():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def ask(
        self, method: str, name: str = "", **keywords: Any
    ) -> tuple[int, dict[str, Any]]:
        """Returns the status and the JSON of a response."""
        url = f"{self.url}/api/3.0/mlflow/workspaces" + (f"/{name}" if name else "")
        answer = requests.request(method, url, timeout=60, **keywords)
        return answer.status_code, answer.json() if answer.content else {}

    def names(self) -> list[str]:
        """Returns the workspaces' names, as several of the server's workers list them.

        Each request may reach a different worker; all must return the same names.
        """
        seen = [
            [found["name"] for found in self.ask("GET")[1].get("workspaces", [])]
            for _ in range(6)
        ]
        assert all(names == seen[0] for names in seen)
        return seen[0]

    def _is_up(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=30).ok
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="module")
def served() -> Iterator[MLflowServer]:
    with short_base() as path:
        base = path.with_name("all of #1")
        server = MLflowServer(base)
        server.start(workers=2)
        yield server
        server.stop()
        stop_server(base)


@pytest.fixture
def projects(served: MLflowServer) -> Iterator[WorkspaceManager]:
    """The manager of the MLflow server's base, which the fixture empties afterwards."""
    manager = WorkspaceManager(served.base)
    yield manager
    for workspace in manager.list_workspaces():
        if workspace.project_name != "default":
            served.ask("DELETE", workspace.project_name, params={"mode": "CASCADE"})
    for workspace in manager.list_workspaces():
        manager.delete_workspace(workspace.project_name, force=True)


@pytest.fixture
def store(base: Path) -> WorkspaceStore:
    return WorkspaceStore(f"mlops://{base}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def code_of(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    assert "Traceback" not in answer[1]["message"]
    return answer[0], answer[1]["error_code"]


def kill_server(base: Path) -> None:
    os.kill(json.loads((base / ".workspaced/lock").read_text())["pid"], signal.SIGKILL)


def log_run(client: MlflowClient, workspace: str, text: str, directory: Path) -> str:
    """Logs a run with a metric and an artifact; returns the run's id."""
    file = directory / "note.txt"
    file.write_text(text)
    with WorkspaceContext(workspace):
        experiment = client.get_experiment_by_name("training")
        experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment("training")
        )
        run_id = str(client.create_run(experiment_id).info.run_id)
        client.log_metric(run_id, "loss", 0.5)
        client.log_artifact(run_id, file)
        client.set_terminated(run_id)
    return run_id


# --- Over HTTP ----------------------------------------------------------------


def test_a_project_is_a_workspace_with_its_own_artifact_root(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    projects.create_workspace(
        "fraud", metadata={"description": "Who cheats", "stage": "test"}
    )
    root = f"{(projects.base_path / 'fraud').as_uri()}/mlflow/artifacts"
    expected = {
        "name": "fraud",
        "description": "Who cheats",
        "default_artifact_root": root,
    }
    assert served.ask("GET", "fraud") == (200, {"workspace": expected})
    assert served.ask("GET") == (200, {"workspaces": [expected]})


def test_creating_a_workspace_makes_a_project(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    status, answer = served.ask(
        "POST", json={"name": "churn", "description": "Who leaves"}
    )
    assert (status, answer["workspace"]["name"]) == (201, "churn")
    assert projects.get_workspace("churn").metadata == {"description": "Who leaves"}
    assert projects.get_workspace("churn").mlflow_path.is_dir()
    assert code_of(served.ask("POST", json={"name": "churn"})) == (
        400,
        "RESOURCE_ALREADY_EXISTS",
    )


def test_an_update_changes_what_it_says_and_nothing_else(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    projects.create_workspace("fraud", metadata={"stage": "test"})
    change = {"description": "New", "trace_archival_config": {"retention": "30d"}}
    assert served.ask("PATCH", "fraud", json=change)[1]["workspace"][
        "trace_archival_config"
    ] == {"retention": "30d"}
    kept = {"stage": "test", "description": "New"}
    assert projects.get_workspace("fraud").metadata == {
        **kept,
        "mlflow_trace_archival_retention": "30d",
    }
    assert (
        served.ask("PATCH", "fraud", json={"trace_archival_config": {"retention": ""}})[
            0
        ]
        == 200
    )
    assert projects.get_workspace("fraud").metadata == kept
    assert code_of(served.ask("PATCH", "nobody", json=change)) == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )


def test_no_other_place_for_artifacts_is_taken(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    elsewhere = {"default_artifact_root": "/tmp/elsewhere"}
    assert code_of(served.ask("POST", json={"name": "fraud", **elsewhere})) == (
        400,
        "INVALID_PARAMETER_VALUE",
    )
    assert served.names() == []
    projects.create_workspace("fraud")
    assert code_of(served.ask("PATCH", "fraud", json=elsewhere)) == (
        400,
        "INVALID_PARAMETER_VALUE",
    )
    its_own = served.ask("GET", "fraud")[1]["workspace"]["default_artifact_root"]
    for same in (its_own, ""):
        assert (
            served.ask("PATCH", "fraud", json={"default_artifact_root": same})[0] == 200
        )
    assert (
        served.ask("GET", "fraud")[1]["workspace"]["default_artifact_root"] == its_own
    )


def test_what_our_api_makes_and_removes_is_seen_at_once(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    projects.create_workspace("fraud")
    assert served.names() == ["fraud"]
    projects.delete_workspace("fraud", force=True)
    assert served.names() == []
    assert code_of(served.ask("GET", "fraud")) == (404, "RESOURCE_DOES_NOT_EXIST")
    with (
        pytest.raises(MlflowException, match="Workspace does not exist: fraud"),
        WorkspaceContext("fraud"),
    ):
        served.client.search_experiments()


def test_names_that_mlflow_cannot_have_are_left_out(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    for name in ("a", "Fraud", "my_data", "v1.0", "x" * 63, "api", "ok-1"):
        projects.create_workspace(name)
    assert served.names() == ["ok-1", "x" * 63]
    assert (
        "does not allow these workspace names, so they are omitted: "
        "Fraud, a, api, my_data, v1.0" in (served.log.read_text())
    )
    assert code_of(served.ask("GET", "my_data")) == (400, "INVALID_PARAMETER_VALUE")


def test_runs_of_two_workspaces_are_apart(
    served: MLflowServer, projects: WorkspaceManager, tmp_path: Path
) -> None:
    runs = {}
    for name in ("fraud", "churn"):
        projects.create_workspace(name)
        runs[name] = log_run(served.client, name, f"of {name}", tmp_path)
    for name, run_id in runs.items():
        files = list(projects.get_workspace(name).root_path.rglob("note.txt"))
        assert [file.read_text() for file in files] == [f"of {name}"]
        assert files[0].is_relative_to(
            projects.get_workspace(name).mlflow_path / "artifacts"
        )
        with WorkspaceContext(name):
            experiment = served.client.get_experiment_by_name("training")
            found = served.client.search_runs([experiment.experiment_id])
            assert [run.info.run_id for run in found] == [run_id]
            assert (
                Path(served.client.download_artifacts(run_id, "note.txt")).read_text()
                == f"of {name}"
            )
    with pytest.raises(MlflowException, match="not found"), WorkspaceContext("fraud"):
        served.client.get_run(runs["churn"])


def test_without_a_default_project_each_call_names_its_workspace(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    with pytest.raises(MlflowException, match="Active workspace is required"):
        served.client.create_experiment("nowhere")
    projects.create_workspace("default")
    experiment = served.client.get_experiment(
        served.client.create_experiment("somewhere")
    )
    assert experiment.artifact_location.startswith(
        f"{(projects.base_path / 'default').as_uri()}/mlflow/artifacts/"
    )
    served.client.delete_experiment(experiment.experiment_id)
    assert code_of(served.ask("DELETE", "default")) == (400, "INVALID_PARAMETER_VALUE")


def test_an_empty_workspace_is_deleted_into_our_trash(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    served.client.create_workspace("fraud", description="Who cheats")
    served.client.delete_workspace("fraud")
    assert served.names() == []
    undeleted = undelete(projects, "fraud")
    assert (undeleted.project, served.names()) == ("fraud", ["fraud"])


@pytest.mark.parametrize("content", ["a file", "an experiment", "a registered model"])
def test_what_is_not_empty_is_deleted_only_by_cascade(
    served: MLflowServer, projects: WorkspaceManager, content: str
) -> None:
    project = projects.create_workspace("fraud")
    with WorkspaceContext("fraud"):
        if content == "a file":
            (project.dvc_path / "data.csv").write_text("1,2")
        elif content == "an experiment":
            served.client.create_experiment("training")
        else:
            served.client.create_registered_model("classifier")
    for parameters in (
        {},
        {"mode": "RESTRICT"},
        {"mode": "SET_DEFAULT"},
        {"mode": "EVERYTHING"},
    ):
        status, code = code_of(served.ask("DELETE", "fraud", params=parameters))
        assert (status, code) in [
            (409, "RESOURCE_CONFLICT"),
            (400, "INVALID_PARAMETER_VALUE"),
        ]
    assert served.names() == ["fraud"] and project.dvc_path.is_dir()
    assert served.ask("DELETE", "fraud", params={"mode": "CASCADE"}) == (204, {})
    assert served.names() == [] and not project.root_path.exists()


def test_after_cascade_the_name_is_free_and_nothing_is_left_of_the_runs(
    served: MLflowServer, projects: WorkspaceManager, tmp_path: Path
) -> None:
    projects.create_workspace("fraud")
    run_id = log_run(served.client, "fraud", "old", tmp_path)
    projects.create_workspace("churn")
    other = log_run(served.client, "churn", "stays", tmp_path)
    assert served.ask("DELETE", "fraud", params={"mode": "CASCADE"})[0] == 204
    served.client.create_workspace("fraud")
    with WorkspaceContext("fraud"):
        assert served.client.search_experiments() == []
        with pytest.raises(MlflowException, match="not found"):
            served.client.get_run(run_id)
    with WorkspaceContext("churn"):
        assert served.client.get_run(other).data.metrics == {"loss": 0.5}


def test_a_workspace_that_cannot_be_read_harms_no_other(
    served: MLflowServer, projects: WorkspaceManager
) -> None:
    projects.create_workspace("fraud")
    broken = projects.create_workspace("broken")
    broken.metadata_file.write_text("metadata: [")
    assert code_of(served.ask("GET", "broken")) == (500, "DATA_LOSS")
    assert served.names() == ["fraud"]
    assert (
        "The workspace.yaml of these workspaces cannot be read, so they are omitted: broken"
        in served.log.read_text()
    )


def test_our_server_may_be_killed(
    served: MLflowServer, projects: WorkspaceManager, tmp_path: Path
) -> None:
    projects.create_workspace("fraud")
    run_id = log_run(served.client, "fraud", "before", tmp_path)
    kill_server(served.base)
    assert served.names() == ["fraud"]
    kill_server(served.base)
    with WorkspaceContext("fraud"):
        assert served.client.get_run(run_id).info.status == "FINISHED"
    assert served.ask("POST", json={"name": "churn"})[0] == 201


def test_all_is_there_when_mlflow_is_started_again(
    served: MLflowServer, projects: WorkspaceManager, tmp_path: Path
) -> None:
    projects.create_workspace("fraud", metadata={"description": "Who cheats"})
    run_id = log_run(served.client, "fraud", "before", tmp_path)
    served.stop()
    served.start(workers=1)
    assert served.ask("GET", "fraud")[1]["workspace"]["description"] == "Who cheats"
    with WorkspaceContext("fraud"):
        assert served.client.get_run(run_id).data.metrics == {"loss": 0.5}


# --- The provider without a server --------------------------------------------


def undelete(manager: WorkspaceManager, project: str) -> pb.Workspace:
    return manager._connection.call(pb.UndeleteWorkspaceRequest(project=project))


def raised(error: "pytest.ExceptionInfo[MlflowException]") -> str:
    return str(error.value.error_code)


NO_PLACES = """
mlops: mlops:// mlops:/// mlops:relative mlops://host mlops://host:1/and/path \
mlops://:80 mlops:///base?x=1
mlops:///base#1 mlops://user@host:99999 mlops://[::1
"""


@pytest.mark.parametrize("uri", [*NO_PLACES.split(), "mlops:///a\nb", "mlops:///a\tb"])
def test_a_uri_that_names_no_place_is_refused(uri: str) -> None:
    with pytest.raises(MlflowException, match=r"HOST:PORT") as error:
        WorkspaceStore(uri)
    assert raised(error) == "INVALID_PARAMETER_VALUE"


def test_a_base_may_have_any_name(base: Path) -> None:
    odd = base.with_name("jürgen #?;&%41 '\"{}$[*]\n")
    try:
        WorkspaceManager(odd).create_workspace("fraud")
        store = WorkspaceStore("mlops://" + odd.as_uri().removeprefix("file://"))
        root = store.get_workspace("fraud").default_artifact_root
        assert local_file_uri_to_path(root) == f"{odd}/fraud/mlflow/artifacts"
        assert os.listdir(odd.parent) == [odd.name]
    finally:
        stop_server(odd)


def test_a_server_that_is_away_is_said_to_be_so_and_found_when_it_is_back(
    base: Path,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [BINARY, "--base", base, "--listen", address, "--log-calls", "off"]
    store = WorkspaceStore(f"mlops://{address}")
    with pytest.raises(
        MlflowException, match=f"{address} does not answer; is it running"
    ) as error:
        store.list_workspaces()
    assert raised(error) == "TEMPORARILY_UNAVAILABLE"
    base.mkdir()
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    # The server prints its first line once it serves.
    assert server.stdout is not None and server.stdout.readline()
    WorkspaceManager(base).create_workspace("fraud")
    assert [workspace.name for workspace in store.list_workspaces()] == ["fraud"]
    assert store.resolve_artifact_root("mlflow-artifacts:/", "fraud") == (
        f"file://{base}/fraud/mlflow/artifacts",
        False,
    )
    server.terminate()
    server.wait(30)


def test_what_is_left_out_is_said_once_each(
    manager: WorkspaceManager, store: WorkspaceStore, caplog: pytest.LogCaptureFixture
) -> None:
    manager.create_workspace("my_data")
    store.list_workspaces()
    manager.create_workspace("Fraud")
    manager.create_workspace("fine")
    for _ in range(3):
        assert [workspace.name for workspace in store.list_workspaces()] == ["fine"]
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        "my_data",
        "Fraud",
    ]


def test_of_racing_creators_one_makes_the_workspace(store: WorkspaceStore) -> None:
    def create(number: int) -> str:
        try:
            return str(
                store.create_workspace(
                    Workspace("fraud", description=str(number))
                ).description
            )
        except MlflowException as error:
            return str(error.error_code)

    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(create, range(16)))
    assert answers[1:] == ["RESOURCE_ALREADY_EXISTS"] * 15
    assert store.get_workspace("fraud").description == answers[0]


def test_more_than_a_page_is_listed(store: WorkspaceStore) -> None:
    names = [f"project-{number:04}" for number in range(1003)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: store.create_workspace(Workspace(name)), names))
    assert [workspace.name for workspace in store.list_workspaces()] == names


def test_a_description_that_is_no_text_is_none(
    manager: WorkspaceManager, store: WorkspaceStore
) -> None:
    manager.create_workspace("fraud", metadata={"description": {"en": "Who cheats"}})
    assert store.get_workspace("fraud").description is None
    assert store.update_workspace(Workspace("fraud")) == store.get_workspace("fraud")
    with pytest.raises(MlflowException, match="metadata") as error:
        store.update_workspace(Workspace("fraud", description="x" * (1 << 17)))
    assert raised(error) == "INVALID_PARAMETER_VALUE"


def test_archival_of_traces_is_the_workspaces_own_or_the_servers(
    store: WorkspaceStore,
) -> None:
    store.create_workspace(Workspace("fraud", trace_archival_location="s3://own/place"))
    own = store.resolve_trace_archival_config("s3://all", "30d", "fraud")
    assert (own.config.location, own.config.retention, own.append_workspace_prefix) == (
        "s3://own/place",
        "30d",
        False,
    )
    store.update_workspace(
        Workspace("fraud", trace_archival_location="", trace_archival_retention="7d")
    )
    shared = store.resolve_trace_archival_config("s3://all", "30d", "fraud")
    assert (
        shared.config.location,
        shared.config.retention,
        shared.append_workspace_prefix,
    ) == ("s3://all", "7d", True)


@pytest.mark.parametrize(
    "mode", [WorkspaceDeletionMode.RESTRICT, WorkspaceDeletionMode.CASCADE]
)
@pytest.mark.parametrize("database", ["", "unknown://database"])
def test_where_mlflows_database_cannot_be_asked_nothing_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
    manager: WorkspaceManager,
    store: WorkspaceStore,
    mode: WorkspaceDeletionMode,
    database: str,
) -> None:
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", database)
    created = manager.create_workspace("fraud", metadata={"stage": "test"})
    with pytest.raises(MlflowException):
        store.delete_workspace("fraud", mode)
    assert manager.get_workspace("fraud") == created


def test_there_must_be_a_workspace(
    manager: WorkspaceManager, store: WorkspaceStore
) -> None:
    operations = [
        lambda: store.get_workspace("fraud"),
        lambda: store.resolve_artifact_root("/tmp", "fraud"),
        lambda: store.update_workspace(Workspace("fraud", description="x")),
        lambda: store.delete_workspace("fraud"),
        lambda: store.delete_workspace("fraud", WorkspaceDeletionMode.CASCADE),
    ]
    for operation in operations:
        with pytest.raises(
            MlflowException, match="Workspace does not exist: fraud"
        ) as error:
            operation()
        assert raised(error) == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(WorkspaceError):
        manager.get_workspace("fraud")
