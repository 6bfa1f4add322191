"""Workspaces of a server on another machine, with their files and MLflow runs."""

import asyncio
import os
import pickle
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlops._toolkits import toolkit as toolkits
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.tracking.artifacts import artifacts_of
from mlops.workspace import ProjectWorkspace, WorkspaceManager
from sklearn.linear_model import LogisticRegression

from support.elsewhere import RemoteServer
from support.server import Server, short_base
from toolkits.mlflow_server import Running, running

MIB = 1 << 20


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests; each test has its own experiment."""
    directory = tmp_path_factory.mktemp("mlflow")
    command = [
        "server",
        "--backend-store-uri",
        f"sqlite:///{directory}/mlflow.db",
        "--workers",
        "1",
    ]
    with running(command, directory, "/health") as server:
        yield server


@pytest.fixture
def project() -> str:
    """A unique project name, and with it a unique experiment name."""
    return f"fraud-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def workspace(remote: RemoteServer) -> ProjectWorkspace:
    return WorkspaceManager(address=remote.tcp).create_workspace("fraud")


@pytest.fixture
def client(
    remote: RemoteServer,
    mlflow_server: Running,
    project: str,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> MLOpsClient:
    """A client of a remote workspace, in an empty working directory."""
    monkeypatch.chdir(directory)
    manager = WorkspaceManager(address=remote.tcp)
    manager.create_workspace(project, mlflow_tracking_uri=mlflow_server.url)
    return MLOpsClient(project, workspace_manager=manager)


@pytest.fixture
def model() -> LogisticRegression:
    return LogisticRegression().fit([[0.0], [1.0]], [0, 1])


def place_of(uri: str, server: RemoteServer) -> Path:
    assert uri.startswith("workspace://"), uri
    return server.base / uri.removeprefix("workspace://")


# --- Files --------------------------------------------------------------------


def test_files_are_those_of_the_server(
    workspace: ProjectWorkspace, remote: RemoteServer, tmp_path: Path
) -> None:
    files = workspace.files
    with files.open("outputs/model.pt", "wb") as file:
        file.write(b"weights")
    assert (remote.base / "fraud/outputs/model.pt").read_bytes() == b"weights"
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/big").write_bytes(content := os.urandom(3 * MIB))
    files.put(f"{tmp_path}/data/", "dvc/data/", recursive=True)
    assert files.ls("", detail=False) == [
        "dvc",
        "mlflow",
        "models",
        "monitoring",
        "outputs",
    ]
    assert files.find("dvc") == ["dvc/data/sub/big"]
    files.get("dvc/data/", f"{tmp_path}/back/", recursive=True)
    assert (tmp_path / "back/sub/big").read_bytes() == content
    files.rm("dvc/data", recursive=True)
    assert not files.exists("dvc/data") and files.checksum("outputs/model.pt")
    frame = pd.DataFrame({"a": [1.5, 2.5]})
    with files.open("dvc/a.parquet", "wb") as file:
        frame.to_parquet(file)
    assert pd.read_parquet("dvc/a.parquet", filesystem=files).equals(frame)
    assert not remote.path.exists()


@pytest.mark.parametrize(
    "path",
    ["../churn/outputs/a", "/../churn/outputs/a", "outputs/../../churn/outputs/a"],
)
def test_files_end_with_the_workspace(
    workspace: ProjectWorkspace, remote: RemoteServer, path: str
) -> None:
    WorkspaceManager(address=remote.tcp).create_workspace("churn")
    with pytest.raises((OSError, ValueError)):
        workspace.files.pipe(path, b"x")
    assert list((remote.base / "churn/outputs").iterdir()) == []


def test_files_may_be_pickled_and_used_by_threads(workspace: ProjectWorkspace) -> None:
    files = pickle.loads(pickle.dumps(workspace.files))
    with ThreadPoolExecutor(4) as threads:
        list(
            threads.map(
                lambda i: workspace.files.pipe(f"outputs/{i}", b"%d" % i), range(16)
            )
        )
    assert files.cat("outputs/*") == {f"outputs/{i}": b"%d" % i for i in range(16)}


def test_files_are_those_of_the_managers_own_server(
    workspace: ProjectWorkspace, base: Path
) -> None:
    other = WorkspaceManager(base).create_workspace("fraud")
    other.files.pipe("outputs/a", b"other")
    workspace.files.pipe("outputs/a", b"this")
    assert (
        (base / "fraud/outputs/a").read_bytes()
        == b"other"
        == other.files.cat("outputs/a")
    )
    # Only the local workspace's files can be read by their path.
    assert other.files.fs.local_path("fraud/outputs/a") == f"{base}/fraud/outputs/a"
    assert workspace.files.fs.local_path("fraud/outputs/a") is None


# --- Runs ---------------------------------------------------------------------


def test_artifacts_of_a_run_go_to_the_workspaces_server(
    client: MLOpsClient,
    remote: RemoteServer,
    mlflow_server: Running,
    directory: Path,
    tmp_path: Path,
) -> None:
    Path("data/sub").mkdir(parents=True)
    Path("data/sub/b.txt").write_text("b")
    Path("a.bin").write_bytes(content := os.urandom(3 * MIB))
    with client.start_run("first") as run:
        client.log_metrics({"loss": 0.5})
        client.log_artifact("a.bin")
        client.log_artifact("data", "in/it")
    place = place_of(run.info.artifact_uri, remote)
    assert place.is_relative_to(remote.base / client.project_name / "mlflow/artifacts")
    assert (place / "a.bin").read_bytes() == content
    assert (place / "in/it/data/sub/b.txt").read_text() == "b"

    store = MlflowClient(mlflow_server.url)
    assert store.get_run(run.info.run_id).info.status == "FINISHED"
    assert store.get_experiment(run.info.experiment_id).artifact_location == (
        f"workspace://{client.project_name}/mlflow/artifacts"
    )
    known = WorkspaceManager(address=remote.tcp).get_workspace(client.project_name)
    assert known.mlflow_experiment_id == run.info.experiment_id
    with artifacts_of(client.workspace):
        assert [info.path for info in store.list_artifacts(run.info.run_id)] == [
            "a.bin",
            "in",
        ]
        back = Path(store.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert (back / "a.bin").read_bytes() == content and (
        back / "in/it/data/sub/b.txt"
    ).read_text() == "b"
    # The client has created no base here and started no server.
    assert {path.name for path in directory.iterdir()} == {"a.bin", "data"}
    assert not remote.path.exists()


def test_models_go_to_the_workspaces_server(
    client: MLOpsClient,
    remote: RemoteServer,
    mlflow_server: Running,
    model: LogisticRegression,
) -> None:
    name = f"of-{client.project_name}"
    with client.start_run() as run:
        uri = client.log_model(model, "model", registered_model_name=name)
    assert uri == f"runs:/{run.info.run_id}/model"
    store = MlflowClient(mlflow_server.url)
    version = store.get_model_version(name, "1")
    assert (version.status, version.run_id) == ("READY", run.info.run_id)
    (output,) = store.get_run(run.info.run_id).outputs.model_outputs
    logged = store.get_logged_model(output.model_id)
    assert (place_of(logged.artifact_location, remote) / "MLmodel").is_file()
    with artifacts_of(client.workspace):
        loaded = mlflow.sklearn.load_model(logged.artifact_location)
    assert loaded.predict([[0.0], [1.0]]).tolist() == [0, 1]
    assert not remote.path.exists()


def test_neither_environment_nor_working_directory_lead_elsewhere(
    client: MLOpsClient,
    remote: RemoteServer,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("a.txt").write_text("a")
    with Server(base) as other:
        WorkspaceManager(address=other.address).create_workspace(client.project_name)
        monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", other.address)
        with client.start_run() as run:
            # This call makes MLflow cache the artifact repository of the run.
            assert (
                MlflowClient(client.workspace.mlflow_tracking_uri).list_artifacts(
                    run.info.run_id
                )
                == []
            )
            client.log_artifact("a.txt")
    assert (place_of(run.info.artifact_uri, remote) / "a.txt").is_file()
    assert not list((base / client.project_name).rglob("a.txt"))


def test_clients_of_several_servers_do_not_meet(
    client: MLOpsClient, remote: RemoteServer, mlflow_server: Running, tmp_path: Path
) -> None:
    with short_base() as root, RemoteServer(root) as other_server:
        config = {
            "tracking_uri": mlflow_server.url,
            "experiment_name": f"other-{client.project_name}",
        }
        other = MLOpsClient(
            client.project_name,
            config,
            workspace_manager=WorkspaceManager(address=other_server.tcp),
        )
        # Both servers report the same path, so only the connection tells them apart.
        servers = {client: remote, other: other_server}
        assert other.workspace.root_path == client.workspace.root_path

        def in_thread(i: int) -> tuple[MLOpsClient, str]:
            one = (client, other)[i % 2]
            (tmp_path / f"{i}.txt").write_text(str(i))
            with one.start_run() as run:
                one.log_artifact(tmp_path / f"{i}.txt")
            return one, run.info.artifact_uri + f"/{i}.txt"

        async def in_task(i: int) -> tuple[MLOpsClient, str]:
            one = (client, other)[i % 2]
            (tmp_path / f"{i}.txt").write_text(str(i))
            with one.start_run() as run:
                await asyncio.sleep(0)
                one.log_artifact(tmp_path / f"{i}.txt")
            return one, run.info.artifact_uri + f"/{i}.txt"

        async def in_tasks() -> list[tuple[MLOpsClient, str]]:
            return await asyncio.gather(*map(in_task, range(8, 12)))

        with ThreadPoolExecutor(4) as threads:
            logged = [*threads.map(in_thread, range(8)), *asyncio.run(in_tasks())]
        for i, (one, uri) in enumerate(logged):
            assert place_of(uri, servers[one]).read_text() == str(i)
            assert not place_of(
                uri, remote if servers[one] is other_server else other_server
            ).exists()


def test_an_experiment_that_exists_keeps_its_own_place(
    client: MLOpsClient, mlflow_server: Running, remote: RemoteServer
) -> None:
    Path("a.txt").write_text("a")
    made = MlflowClient(mlflow_server.url).create_experiment(client.project_name)
    with client.start_run() as run:
        client.log_artifact("a.txt")
    assert run.info.experiment_id == made and run.info.artifact_uri.startswith(
        "mlflow-artifacts:/"
    )
    assert not list(remote.base.rglob("a.txt"))


def test_a_local_workspace_leaves_the_place_to_the_mlflow_server(
    manager: WorkspaceManager, mlflow_server: Running, project: str, base: Path
) -> None:
    by_address = WorkspaceManager(address=f"unix:{base}/.workspaced/socket")
    manager.create_workspace(project, mlflow_tracking_uri=mlflow_server.url)
    client = MLOpsClient(project, workspace_manager=by_address)
    with client.start_run() as run:
        pass
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")


def test_a_database_of_ones_own_keeps_artifacts_with_the_server_too(
    client: MLOpsClient, remote: RemoteServer, tmp_path: Path
) -> None:
    Path("a.txt").write_text("a")
    config = {"tracking_uri": f"sqlite:///{tmp_path}/mine.db"}
    own = MLOpsClient(
        client.project_name,
        config,
        workspace_manager=WorkspaceManager(address=remote.tcp),
    )
    with own.start_run() as run:
        own.log_artifact("a.txt")
    assert (place_of(run.info.artifact_uri, remote) / "a.txt").is_file()
    assert not remote.path.exists()


def test_what_the_workspaces_server_says_is_told(
    client: MLOpsClient, remote: RemoteServer
) -> None:
    Path("a.txt").write_text("a")
    with client.start_run():
        WorkspaceManager(address=remote.tcp).delete_workspace(
            client.project_name, force=True
        )
        with pytest.raises(MLOpsClientError, match="does not exist") as caught:
            client.log_artifact("a.txt")
    assert (caught.value.operation, caught.value.component) == (
        "log_artifact",
        "workspace",
    )
    assert caught.value.details["reason"] == "WORKSPACE_NOT_FOUND"


def test_without_fsspec_no_experiment_is_made(
    client: MLOpsClient, mlflow_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = toolkits._version
    monkeypatch.setattr(
        toolkits,
        "_version",
        lambda package: None if package == "fsspec" else version(package),
    )
    with (
        pytest.raises(
            MLOpsClientError, match=r"pip install 'mlops-workspace\[fs\]'"
        ) as caught,
        client.start_run(),
    ):
        pytest.fail("it began")
    assert (caught.value.component, caught.value.details["reason"]) == (
        "mlflow",
        "TOOLKIT_MISSING",
    )
    assert (
        MlflowClient(mlflow_server.url).get_experiment_by_name(client.project_name)
        is None
    )


def test_a_file_of_the_same_name_is_not_the_workspaces(
    client: MLOpsClient, base: Path
) -> None:
    (base / "outputs").mkdir(parents=True)
    (base / "outputs/model.pt").touch()
    client.workspace.root_path = base
    with client.start_run(), pytest.raises(MLOpsClientError) as caught:
        client.log_artifact("outputs/model.pt")
    assert caught.value.details["places"] == [f"{Path.cwd()}/outputs/model.pt"]


# --- Operations that need a local workspace -----------------------------------


def test_runs_in_a_file_of_the_server_are_refused(remote: RemoteServer) -> None:
    client = MLOpsClient(
        "fraud", workspace_manager=WorkspaceManager(address=remote.tcp)
    )
    for tracking in (None, {"tracking_uri": client.workspace.mlflow_tracking_uri}):
        client = MLOpsClient(
            "fraud", tracking, workspace_manager=WorkspaceManager(address=remote.tcp)
        )
        with (
            pytest.raises(MLOpsClientError, match="mlflow_config") as caught,
            client.start_run(),
        ):
            pytest.fail("it began")
        assert (caught.value.operation, caught.value.component) == (
            "start_run",
            "workspace",
        )
        assert caught.value.details == {
            "reason": "WORKSPACE_NOT_LOCAL",
            "path": f"{remote.path}/fraud",
        }
    assert not remote.path.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.dvc_add("a.txt"),
        lambda c: c.dvc_push(),
        lambda c: c.dvc_pull(),
        lambda c: c.deploy_model("a.txt", "m"),
        lambda c: c.set_reference_data(pd.DataFrame({"a": [1.0]})),
        lambda c: c.monitor_predictions(pd.DataFrame({"a": [1.0]})),
    ],
)
def test_what_needs_the_directory_says_so(
    call: Callable[[MLOpsClient], Any],
    remote: RemoteServer,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(directory)
    Path("a.txt").touch()
    client = MLOpsClient(
        "fraud", workspace_manager=WorkspaceManager(address=remote.tcp)
    )
    with pytest.raises(MLOpsClientError, match="mount its base directory") as caught:
        call(client)
    assert caught.value.component == "workspace"
    assert caught.value.details == {
        "reason": "WORKSPACE_NOT_LOCAL",
        "path": f"{remote.path}/fraud",
    }


def test_the_status_tells_what_can_be_known(
    client: MLOpsClient, remote: RemoteServer
) -> None:
    Path("a.txt").write_text("a")
    with client.start_run():
        client.log_artifact("a.txt")
    status = client.get_status()
    assert (
        status["workspace"]["file_count"]
        == status["components"]["mlflow"]["files"]
        == 1
    )
    components = client.get_status(deep=True)["components"]
    assert components["mlflow"]["runs"] == 1
    nothing = [
        components["dvc"]["tracked"],
        components["bentoml"]["bentos"],
        components["evidently"]["reports"],
    ]
    assert nothing == [None] * 3 and components["bentoml"]["models"] is None
    default = MLOpsClient(
        "other", workspace_manager=WorkspaceManager(address=remote.tcp)
    )
    assert default.get_status(deep=True)["components"]["mlflow"]["runs"] is None
