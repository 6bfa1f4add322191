"""Runs that the client logs, as MLflow's own client reads them from the store."""

import asyncio
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.workspace import WorkspaceManager

from support.server import short_base, stop_server


@pytest.fixture(scope="module")
def database() -> Iterator[Path]:
    """A store without runs; creating one takes a second, copying it almost nothing."""
    with short_base() as base:
        client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
        assert client._mlflow()._client().search_experiments()
        yield client.workspace.mlflow_path / "mlflow.db"
        stop_server(base)


@pytest.fixture
def new_client(manager: WorkspaceManager) -> MLOpsClient:
    """A client of a project without a store."""
    return MLOpsClient("fraud", workspace_manager=manager)


@pytest.fixture
def client(new_client: MLOpsClient, database: Path) -> MLOpsClient:
    """A client of a project with an empty store."""
    shutil.copy(database, new_client.workspace.mlflow_path)
    return new_client


def stored(client: MLOpsClient, run: Run) -> Run:
    return mlflow.MlflowClient(client.workspace.mlflow_tracking_uri).get_run(
        run.info.run_id
    )


def all_runs(client: MLOpsClient) -> list[Run]:
    return list(
        mlflow.MlflowClient(client.workspace.mlflow_tracking_uri).search_runs(
            [client.workspace.mlflow_experiment_id]
        )
    )


# --- Runs ---------------------------------------------------------------------


def test_a_run_holds_what_was_logged(client: MLOpsClient) -> None:
    with client.start_run("first", tags={"team": "risk"}, description="A try.") as run:
        client.log_params({"lr": 0.001, "layers": [1, 2]})
        client.log_metrics({"loss": 0.5})
        client.log_metrics({"loss": 0.25}, step=7)
    found = stored(client, run)
    assert found.data.params == {"lr": "0.001", "layers": "[1, 2]"}
    history = mlflow.MlflowClient(
        client.workspace.mlflow_tracking_uri
    ).get_metric_history(run.info.run_id, "loss")
    assert [(metric.value, metric.step) for metric in history] == [(0.5, 0), (0.25, 7)]
    assert abs(history[0].timestamp / 1000 - time.time()) < 60
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")


def test_a_run_has_the_tags_of_the_fluent_api(client: MLOpsClient) -> None:
    with client.start_run("first", tags={"team": "risk"}, description="A try.") as run:
        pass
    tags = stored(client, run).data.tags
    assert (tags["team"], tags["mlflow.note.content"]) == ("risk", "A try.")
    assert {
        "mlflow.user",
        "mlflow.source.name",
        "mlflow.source.type",
        "mlflow.runName",
    } <= tags.keys()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("mine"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "FAILED"),
    ],
    ids=["ValueError", "KeyboardInterrupt", "SystemExit"],
)
def test_a_run_ends_as_its_block_does(
    error: BaseException, status: str, client: MLOpsClient
) -> None:
    with pytest.raises(type(error)) as caught, client.start_run() as run:
        raise error
    assert caught.value is error
    assert stored(client, run).info.status == status
    with pytest.raises(MLOpsClientError, match="no active run"):
        client.log_params({"lr": 1})


def test_a_nested_run_is_a_child_of_the_active_one(client: MLOpsClient) -> None:
    with client.start_run() as parent:
        with client.start_run(nested=True) as child:
            client.log_params({"who": "child"})
        client.log_params({"who": "parent"})
    assert stored(client, child).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert stored(client, child).data.params == {"who": "child"}
    assert stored(client, parent).data.params == {"who": "parent"}


def test_a_run_within_another_must_be_said_to_be_nested(client: MLOpsClient) -> None:
    with client.start_run() as outer:
        with (
            pytest.raises(MLOpsClientError, match="nested=True") as caught,
            client.start_run(),
        ):
            pytest.fail("there is one")
        client.log_params({"still": "outer"})
    assert caught.value.details == {"reason": "RUN_ACTIVE", "run_id": outer.info.run_id}
    assert [run.info.status for run in all_runs(client)] == ["FINISHED"]


def test_logging_needs_a_run(new_client: MLOpsClient) -> None:
    for log in (
        lambda: new_client.log_params({}),
        lambda: new_client.log_metrics({}),
        lambda: new_client.log_artifact(__file__),
        lambda: new_client.log_model(object()),
    ):
        with pytest.raises(
            MLOpsClientError, match=r"within `with client\.start_run"
        ) as caught:
            log()
        assert caught.value.details == {"reason": "NO_ACTIVE_RUN"}
    assert list(new_client.workspace.mlflow_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"tags": {"mlflow.note.content": "a"}, "description": "b"},
        {"tags": {1: "a"}},
        {"tags": "a"},
        {"run_name": 7},
    ],
)
def test_a_run_with_bad_arguments_is_not_begun(
    arguments: dict[str, object], new_client: MLOpsClient
) -> None:
    with pytest.raises(MLOpsClientError) as caught, new_client.start_run(**arguments):  # type: ignore[arg-type]
        pytest.fail("it began")
    assert (caught.value.operation, caught.value.details["reason"]) == (
        "start_run",
        "INPUT_INVALID",
    )
    assert list(new_client.workspace.mlflow_path.iterdir()) == []


# --- Ownership of runs --------------------------------------------------------


def test_a_thread_has_its_own_run(client: MLOpsClient) -> None:
    barrier = threading.Barrier(4)

    def train(number: int) -> Run:
        with client.start_run(f"run-{number}") as run:
            barrier.wait(30)
            client.log_params({"number": number})
            client.log_metrics({"number": number})
            barrier.wait(30)
        return run

    with client.start_run("main") as main, ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(train, range(4)))
    assert stored(client, main).data.params == {}
    for number, run in enumerate(runs):
        found = stored(client, run)
        assert (found.info.run_name, found.data.params) == (
            f"run-{number}",
            {"number": str(number)},
        )
        assert "mlflow.parentRunId" not in found.data.tags


def test_a_task_has_its_own_run(client: MLOpsClient) -> None:
    async def train(number: int) -> Run:
        with client.start_run() as run:
            await asyncio.sleep(0.01)
            client.log_params({"number": number})
            await asyncio.sleep(0.01)
        return run

    async def main() -> list[Run]:
        return await asyncio.gather(*map(train, range(3)))

    for number, run in enumerate(asyncio.run(main())):
        assert stored(client, run).data.params == {"number": str(number)}


def test_projects_keep_apart(client: MLOpsClient, manager: WorkspaceManager) -> None:
    other = MLOpsClient("churn", workspace_manager=manager)
    with client.start_run("f") as one, other.start_run("c") as two:
        client.log_params({"project": "fraud"})
        other.log_params({"project": "churn"})
        other.log_artifact(__file__)
    assert [run.info.run_id for run in all_runs(client)] == [one.info.run_id]
    assert [run.info.run_id for run in all_runs(other)] == [two.info.run_id]
    assert stored(client, one).data.params == {"project": "fraud"}
    assert stored(other, two).data.params == {"project": "churn"}
    assert not list(client.workspace.mlflow_path.rglob(Path(__file__).name))


def test_the_fluent_state_is_neither_read_nor_changed(
    client: MLOpsClient, directory: Path
) -> None:
    """Another script in the same process may use MLflow's fluent API meanwhile."""
    elsewhere = f"sqlite:///{directory}/elsewhere.db"
    mlflow.set_tracking_uri(elsewhere)
    mlflow.set_registry_uri(elsewhere)
    try:
        with mlflow.start_run() as fluent, client.start_run() as run:
            client.log_params({"ours": 1})
            assert mlflow.active_run().info.run_id == fluent.info.run_id
        assert stored(client, run).data.params == {"ours": "1"}
        assert mlflow.get_run(fluent.info.run_id).data.params == {}
        assert mlflow.get_tracking_uri() == elsewhere
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        # MLflow does not undo the latter call.
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            os.environ.pop(variable, None)


# --- Parameters and metrics ---------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        1,
        True,
        0.5,
        np.float32(0.5),
        np.int64(3),
        np.array(0.5),
        np.array([2.0]).sum(),
        Decimal("0.5"),
    ],
)
def test_what_can_be_a_number_is_one(value: float, client: MLOpsClient) -> None:
    with client.start_run() as run:
        client.log_metrics({"value": value}, step=np.int64(3))  # type: ignore[arg-type]
    assert stored(client, run).data.metrics == {"value": float(value)}


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        np.float64("nan"),
        "0.5",
        None,
        [0.5],
        np.array([1, 2]),
        10**400,
        {"a": 1},
        1j,
    ],
    ids=repr,
)
def test_a_metric_that_is_no_number_is_refused_before_any_is_logged(
    value: float, client: MLOpsClient
) -> None:
    with (
        client.start_run() as run,
        pytest.raises(MLOpsClientError, match=r"^metrics\.bad: must be a") as caught,
    ):
        client.log_metrics({"good": 1.0, "bad": value})
    assert (caught.value.operation, caught.value.component) == ("log_metrics", "mlflow")
    assert caught.value.details == {"reason": "INPUT_INVALID", "field": "metrics.bad"}
    assert stored(client, run).data.metrics == {}


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        [("loss", 1)],
        {1: 1.0},
        {"": 1.0},
        {"a\nb": 1.0},
        {"../up": 1.0},
        {"x" * 251: 1.0},
    ],
)
def test_metrics_with_bad_names_are_refused(
    metrics: dict[str, float], client: MLOpsClient
) -> None:
    with client.start_run() as run, pytest.raises(MLOpsClientError) as caught:
        client.log_metrics(metrics)
    assert caught.value.details["reason"] == "INPUT_INVALID"
    assert stored(client, run).data.metrics == {}


@pytest.mark.parametrize("step", ["1", 1.5, 2**63])
def test_a_step_is_an_integer(step: int, client: MLOpsClient) -> None:
    with (
        client.start_run(),
        pytest.raises(MLOpsClientError, match=r"^step: must be an integer"),
    ):
        client.log_metrics({"loss": 1.0}, step=step)


def test_more_than_mlflow_takes_at_once_is_logged_whole_or_not_at_all(
    client: MLOpsClient,
) -> None:
    metrics = {f"m{number}": float(number) for number in range(1500)}
    params = {f"p{number}": number for number in range(250)}
    with client.start_run() as run:
        with pytest.raises(MLOpsClientError):
            client.log_metrics({**metrics, "a\nb": 1.0})
        with pytest.raises(MLOpsClientError):
            client.log_params({**params, "a\nb": 1})
        assert stored(client, run).data.metrics == stored(client, run).data.params == {}
        client.log_metrics(metrics)
        client.log_params(params)
    assert stored(client, run).data.metrics == metrics
    assert stored(client, run).data.params == {
        key: str(value) for key, value in params.items()
    }


def test_a_parameter_does_not_change(client: MLOpsClient) -> None:
    with client.start_run() as run:
        client.log_params({"p200": "old"})
        with pytest.raises(MLOpsClientError, match="p200") as caught:
            client.log_params({"p1": 1, "p200": "new"})
        with pytest.raises(MLOpsClientError, match="p200"):
            client.log_params({f"p{number}": number for number in range(250)})
    assert caught.value.details["reason"] == "INPUT_INVALID"
    assert stored(client, run).data.params == {"p200": "old"}


# --- Artifacts ----------------------------------------------------------------


def test_files_and_directories_are_artifacts_in_the_workspace(
    client: MLOpsClient, directory: Path
) -> None:
    (directory / "plots").mkdir()
    (directory / "plots/loss.txt").write_text("loss")
    (client.workspace.outputs_path / "model.pth").write_text("weights")
    with client.start_run() as run:
        client.log_artifact(directory / "plots")
        client.log_artifact("outputs/model.pth", "weights")
    root = client.workspace.mlflow_path / "artifacts" / run.info.run_id / "artifacts"
    assert (root / "plots/loss.txt").read_text() == "loss"
    assert (root / "weights/model.pth").read_text() == "weights"


def test_a_missing_artifact_is_an_error_that_says_where_it_was_looked_for(
    client: MLOpsClient,
) -> None:
    with (
        client.start_run(),
        pytest.raises(MLOpsClientError, match="looked for") as caught,
    ):
        client.log_artifact("missing.pth")
    assert caught.value.details["reason"] == "FILE_NOT_FOUND"
    assert caught.value.details["places"] == [
        str(Path.cwd() / "missing.pth"),
        str(client.workspace_path / "missing.pth"),
    ]


@pytest.mark.parametrize(
    "artifact_path",
    ["../../up", "/etc", "a//b", "a/", "./a", ".", "a/../b", "..", "", "a\0b", 7],
)
def test_an_artifact_path_lies_within_the_run_and_is_in_its_shortest_form(
    artifact_path: str, client: MLOpsClient
) -> None:
    with (
        client.start_run(),
        pytest.raises(MLOpsClientError, match=r"^artifact_path: ") as caught,
    ):
        client.log_artifact(__file__, artifact_path)
    assert caught.value.details["reason"] == "INPUT_INVALID"
    assert not list(client.workspace_path.rglob(Path(__file__).name))


def test_a_directory_that_holds_the_runs_artifacts_is_no_artifact(
    client: MLOpsClient, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    (tmp_path / "link").symlink_to(base)
    workspace = client.workspace
    with client.start_run() as run:
        own = workspace.mlflow_path / "artifacts" / run.info.run_id / "artifacts"
        client.log_artifact(__file__, "kept")
        before = sorted(base.rglob("*"))
        holders = [
            ".",
            base,
            tmp_path / "link",
            workspace.root_path,
            workspace.mlflow_path,
            own.parent,
            own / "kept",
        ]
        for holder in holders:
            with pytest.raises(
                MLOpsClientError, match="holds the run's own artifacts"
            ) as caught:
                client.log_artifact(holder, "kept" if holder == own / "kept" else None)
            assert caught.value.details == {
                "reason": "INPUT_INVALID",
                "field": "local_path",
            }
            assert caught.value.operation == "log_artifact"
        assert sorted(base.rglob("*")) == before
        client.log_artifact(own / "kept", "copy")
        client.log_artifact(workspace.outputs_path)
    assert (own / "copy/kept" / Path(__file__).name).is_file()


def test_what_is_no_file_is_no_artifact(client: MLOpsClient, tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    os.mkfifo(tmp_path / "in/sub/pipe")
    (tmp_path / "link").symlink_to(tmp_path / "in/sub/pipe")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/link").symlink_to("nowhere")
    with client.start_run() as run:
        for source in ("in", "in/sub/pipe", "link", "broken", "/dev/null"):
            with pytest.raises(MLOpsClientError, match=r"^local_path: ") as caught:
                client.log_artifact(tmp_path / source)
            assert caught.value.details["reason"] == "INPUT_INVALID"
    assert not (
        client.workspace.mlflow_path / "artifacts" / run.info.run_id / "artifacts"
    ).exists()


# --- Experiments --------------------------------------------------------------


def test_the_experiment_is_made_at_the_first_run_and_known_to_all(
    new_client: MLOpsClient, manager: WorkspaceManager
) -> None:
    assert new_client.workspace.mlflow_experiment_id is None
    assert list(new_client.workspace.mlflow_path.iterdir()) == []
    with new_client.start_run() as run:
        pass
    assert new_client.workspace.mlflow_experiment_id == run.info.experiment_id
    assert manager.get_workspace("fraud").mlflow_experiment_id == run.info.experiment_id
    store = mlflow.MlflowClient(new_client.workspace.mlflow_tracking_uri)
    assert store.get_experiment(run.info.experiment_id).name == "fraud"
    with MLOpsClient("fraud", workspace_manager=manager).start_run() as second:
        pass
    assert second.info.experiment_id == run.info.experiment_id


def test_an_experiment_that_the_user_chose_is_used(
    client: MLOpsClient, manager: WorkspaceManager
) -> None:
    store = mlflow.MlflowClient(client.workspace.mlflow_tracking_uri)
    chosen = store.create_experiment(
        "chosen", artifact_location=(client.workspace.mlflow_path / "mine").as_uri()
    )
    manager.update_workspace_metadata("fraud", mlflow_experiment_id=chosen)
    with MLOpsClient("fraud", workspace_manager=manager).start_run() as run:
        pass
    assert run.info.experiment_id == chosen
    assert store.get_experiment_by_name("fraud") is None


@pytest.mark.parametrize("given", ["exp-123", "4711"])
def test_an_experiment_that_is_not_there_gives_way_to_the_projects_own(
    given: str,
    client: MLOpsClient,
    manager: WorkspaceManager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager.update_workspace_metadata("fraud", mlflow_experiment_id=given)
    client = MLOpsClient("fraud", workspace_manager=manager)
    with caplog.at_level(logging.WARNING, "mlops"), client.start_run() as run:
        pass
    assert client.workspace.mlflow_experiment_id == run.info.experiment_id != given
    assert f"experiment {given} does not exist" in caplog.text


def test_a_deleted_experiment_is_an_error_that_says_how_to_restore_it(
    client: MLOpsClient, manager: WorkspaceManager
) -> None:
    with client.start_run() as run:
        pass
    store = mlflow.MlflowClient(client.workspace.mlflow_tracking_uri)
    store.delete_experiment(run.info.experiment_id)
    later = MLOpsClient("fraud", workspace_manager=manager)
    with (
        pytest.raises(MLOpsClientError, match="mlflow experiments restore") as caught,
        later.start_run(),
    ):
        pytest.fail("it began")
    assert caught.value.details["reason"] == "EXPERIMENT_DELETED"
    with pytest.raises(MLOpsClientError, match="deleted"), client.start_run():
        pytest.fail("it began")


def test_a_configuration_is_of_one_client_only(
    new_client: MLOpsClient, manager: WorkspaceManager, directory: Path
) -> None:
    uri = f"sqlite:///{directory}/other.db"
    config = {"tracking_uri": uri, "experiment_name": "trial"}
    with MLOpsClient(
        "fraud", mlflow_config=config, workspace_manager=manager
    ).start_run() as run:
        pass
    assert (
        mlflow.MlflowClient(uri).get_experiment(run.info.experiment_id).name == "trial"
    )
    assert manager.get_workspace("fraud").mlflow_experiment_id is None
    assert list(new_client.workspace.mlflow_path.iterdir()) == []


def test_artifacts_below_a_base_that_is_not_utf8_are_refused(
    base: Path, directory: Path
) -> None:
    """MLflow would store them below another directory, of a similar name."""
    odd = Path(os.fsdecode(os.fsencode(base) + b"-\xe9"))
    before = set(base.parent.iterdir())
    config = {"tracking_uri": f"sqlite:///{directory}/other.db"}
    try:
        client = MLOpsClient("fraud", mlflow_config=config, base_path=odd)
        with (
            pytest.raises(MLOpsClientError, match="is not UTF-8") as caught,
            client.start_run(),
        ):
            pytest.fail("it began")
    finally:
        stop_server(odd)
    assert caught.value.details == {"reason": "INPUT_INVALID", "field": "base_path"}
    assert set(base.parent.iterdir()) - before == {odd}


def test_a_client_sees_that_its_workspace_was_made_anew(
    client: MLOpsClient, manager: WorkspaceManager, database: Path
) -> None:
    # The outer match is for the error at the end of the block.
    with pytest.raises(MLOpsClientError, match="not found"), client.start_run():
        manager.delete_workspace("fraud", force=True)
        with pytest.raises(MLOpsClientError) as caught:
            client.log_metrics({"loss": 0.5})
        assert caught.value.details["reason"] == "WORKSPACE_NOT_LOCAL"
        assert not client.workspace_path.exists()
        manager.create_workspace("fraud")
        shutil.copy(database, client.workspace.mlflow_path)
        # The run was in the database that is now in the trash.
        with pytest.raises(MLOpsClientError, match="not found"):
            client.log_metrics({"loss": 0.5})
        with client.start_run(nested=True) as run:
            client.log_artifact(__file__)
    assert [found.info.run_id for found in all_runs(client)] == [run.info.run_id]


# --- Counting runs ------------------------------------------------------------


def test_runs_are_counted_without_making_anything(new_client: MLOpsClient) -> None:
    assert new_client._mlflow().count() == {"runs": 0}
    assert list(new_client.workspace.mlflow_path.iterdir()) == []
    for _ in range(3):
        with new_client.start_run() as run:
            pass
    mlflow.MlflowClient(new_client.workspace.mlflow_tracking_uri).delete_run(
        run.info.run_id
    )
    assert new_client._mlflow().count() == {"runs": 2}
