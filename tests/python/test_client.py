"""MLOpsClient in an environment without any of the toolkits."""

import json
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlops._toolkits.lazy import Lazy
from mlops.client import MLOpsClient, MLOpsClientError, create_client
from mlops.workspace import WorkspaceManager

from python.conftest import Script
from support.server import Server

# A call for each toolkit that needs it.
_CALLS: dict[str, Callable[[MLOpsClient], object]] = {
    "mlflow": lambda client: client.log_params({"lr": 0.1}),
    "dvc": lambda client: client.dvc_add("data.csv"),
    "bentoml": lambda client: client.deploy_model(__file__, "model"),
    "evidently": lambda client: client.set_reference_data(None),  # type: ignore[arg-type]
}


@pytest.fixture
def client(manager: WorkspaceManager) -> MLOpsClient:
    return MLOpsClient("fraud", workspace_manager=manager)


@pytest.fixture
def changed_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(directory)
    return directory


# --- Opening ------------------------------------------------------------------


def test_a_client_makes_the_workspace_of_its_project(changed_directory: Path) -> None:
    client = MLOpsClient.from_project("fraud")
    assert (client.project_name, client.repo_root) == ("fraud", changed_directory)
    assert (
        client.workspace_path
        == client.workspace.root_path
        == changed_directory / "mlops/workspace/fraud"
    )
    assert client.workspace_path.is_dir()
    assert create_client("fraud").workspace == client.workspace


def test_tracebacks_name_the_module_that_users_import_the_error_from() -> None:
    name = f"{MLOpsClientError.__module__}.{MLOpsClientError.__qualname__}"
    assert name == "mlops.client.MLOpsClientError"
    error = pickle.loads(pickle.dumps(MLOpsClientError("failed")))
    assert isinstance(error, MLOpsClientError)


def test_a_repository_root_may_be_elsewhere(directory: Path) -> None:
    assert (
        MLOpsClient.from_project("fraud", repo_root=directory).workspace_path
        == directory / "mlops/workspace/fraud"
    )


def test_a_workspace_may_be_anywhere(base: Path) -> None:
    assert (
        MLOpsClient("fraud", workspace_path=base / "fraud").workspace_path
        == base / "fraud"
    )


def test_a_workspace_has_the_name_of_its_project(base: Path) -> None:
    with pytest.raises(
        MLOpsClientError, match="must end in the project's name, 'fraud'"
    ) as caught:
        MLOpsClient("fraud", workspace_path=base / "other")
    assert caught.value.details == {
        "reason": "INPUT_INVALID",
        "field": "workspace_path",
    }
    assert not base.exists()


def test_a_workspace_elsewhere_than_said_is_not_taken(
    base: Path, manager: WorkspaceManager
) -> None:
    with pytest.raises(MLOpsClientError, match=f"the server has it below '{base}'"):
        MLOpsClient(
            "fraud", workspace_path="/elsewhere/fraud", workspace_manager=manager
        )
    assert manager.list_workspaces() == []


def test_opening_a_workspace_is_one_call(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(base, "--log-calls", "all") as server:
        monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", server.address)
        MLOpsClient.from_project("fraud")
        MLOpsClient.from_project("fraud").get_status()
    calls = re.findall(
        r"\b(?:Ensure|Get|List|Update)Workspace\w*|GetServerInfo", server.output
    )
    assert calls == ["EnsureWorkspace", "EnsureWorkspace", "GetWorkspaceStatus"]


@pytest.mark.parametrize(
    "name", ["", "../other", "a/b", "ä", ".hidden", "x" * 300, None, 7]
)
def test_a_bad_name_is_refused(name: str, manager: WorkspaceManager) -> None:
    with pytest.raises(MLOpsClientError) as caught:
        MLOpsClient(name, workspace_manager=manager)
    assert (caught.value.operation, caught.value.component) == ("open", "workspace")
    assert caught.value.details["reason"] == "FIELD_INVALID"
    assert manager.list_workspaces() == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"tracking": "x"}, "mlflow_config: has unknown keys: tracking"),
        ({1: "x"}, "mlflow_config: has unknown keys: 1"),
        ({"tracking_uri": ""}, "mlflow_config.tracking_uri: must be text"),
        ({"experiment_name": 7}, "mlflow_config.experiment_name: must be text"),
        ("http://localhost:5000", "mlflow_config: must be a dict, not str"),
    ],
)
def test_a_bad_configuration_is_refused(
    config: dict[str, str], problem: str, manager: WorkspaceManager
) -> None:
    with pytest.raises(MLOpsClientError, match=problem):
        MLOpsClient("fraud", mlflow_config=config, workspace_manager=manager)
    assert manager.list_workspaces() == []


def test_a_server_that_is_not_there_is_an_error_of_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", "unix:/tmp/no-such-socket")
    with pytest.raises(MLOpsClientError, match="is it running"):
        MLOpsClient.from_project("fraud")


# --- Paths and status ---------------------------------------------------------


def test_paths(client: MLOpsClient) -> None:
    assert client.get_workspace_path() == client.workspace_path
    assert client.get_workspace_path("models") == client.workspace.models_path
    for name in ("other", "..", "", 7):
        with pytest.raises(
            MLOpsClientError, match="one of mlflow, dvc, monitoring, models, outputs"
        ):
            client.get_workspace_path(name)  # type: ignore[arg-type]


def test_a_status_says_what_each_component_has(client: MLOpsClient) -> None:
    (client.workspace.models_path / "weights.bin").write_bytes(b"12345")
    status = client.get_status()
    assert status["project_name"] == "fraud"
    assert status["workspace"]["directory_stats"]["models_files"] == 1
    bentoml = status["components"]["bentoml"]
    assert (bentoml["path"], bentoml["files"], bentoml["bytes"]) == (
        str(client.workspace.models_path),
        1,
        5,
    )
    assert list(status["components"]) == ["mlflow", "dvc", "bentoml", "evidently"]


def test_the_status_of_a_workspace_that_was_deleted_is_an_error(
    client: MLOpsClient, manager: WorkspaceManager
) -> None:
    manager.delete_workspace("fraud", force=True)
    with pytest.raises(MLOpsClientError) as caught:
        client.get_status()
    assert (caught.value.operation, caught.value.component) == (
        "get_status",
        "workspace",
    )
    assert caught.value.details["reason"] == "WORKSPACE_NOT_FOUND"


# --- Without the toolkits -----------------------------------------------------


@pytest.mark.parametrize("toolkit", _CALLS)
def test_a_missing_toolkit_is_an_error_that_says_what_to_install(
    toolkit: str, client: MLOpsClient
) -> None:
    with pytest.raises(MLOpsClientError) as caught:
        _CALLS[toolkit](client)
    assert f"pip install 'mlops-workspace[{toolkit}]'" in str(caught.value)
    assert caught.value.component == toolkit
    assert caught.value.details == {
        "reason": "TOOLKIT_MISSING",
        "extra": f"mlops-workspace[{toolkit}]",
    }
    assert client.get_status()["workspace"]["file_count"] == 0


def test_a_run_needs_mlflow_when_it_is_begun(client: MLOpsClient) -> None:
    run = client.start_run()
    with (
        pytest.raises(MLOpsClientError, match=r"mlops-workspace\[mlflow\]") as caught,
        run,
    ):
        pytest.fail("there is no run")
    assert caught.value.operation == "start_run"


def test_a_status_counts_only_what_is_installed(client: MLOpsClient) -> None:
    components = client.get_status(deep=True)["components"]
    assert {
        name for name, component in components.items() if component["installed"]
    } == set()
    assert {component["version"] for component in components.values()} == {None}
    assert "runs" not in components["mlflow"]


def test_a_client_takes_no_more_than_the_manager(script: Script) -> None:
    code = (
        "import sys, json; from mlops.client import MLOpsClient;"
        " print(json.dumps(sorted(sys.modules)))"
    )
    more = (
        "import sys, json; from mlops.workspace import WorkspaceManager;"
        " print(json.dumps(sorted(sys.modules)))"
    )
    extra = set(json.loads(script(code).stdout)) - set(json.loads(script(more).stdout))
    assert {name.partition(".")[0] for name in extra} - sys.stdlib_module_names == {
        "mlops"
    }


# --- Lazy creation ------------------------------------------------------------


def test_any_number_of_threads_make_one() -> None:
    made: list[object] = []
    barrier = threading.Barrier(8)

    def make() -> object:
        time.sleep(0.01)
        made.append(object())
        return made[-1]

    lazy = Lazy(make)

    def use(_: int) -> object:
        barrier.wait()
        return lazy()

    assert lazy.made is None
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(8))) == {lazy.made}
    assert len(made) == 1


def test_what_could_not_be_made_is_made_at_the_next_call() -> None:
    answers = iter([OSError("not yet"), "here"])

    def make() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    lazy = Lazy(make)
    with pytest.raises(OSError, match="not yet"):
        lazy()
    assert lazy() == "here"
