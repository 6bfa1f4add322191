"""Models in runs, which MLflow itself loads and serves."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.workspace import WorkspaceManager
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from support.server import short_base, stop_server
from toolkits.mlflow_server import running

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def client() -> Iterator[MLOpsClient]:
    with short_base() as base:
        yield MLOpsClient("iris", workspace_manager=WorkspaceManager(base))
        stop_server(base)


@pytest.fixture(scope="module")
def forest(client: MLOpsClient) -> str:
    """The URI of a model that the client has logged and registered."""
    with client.start_run() as run:
        uri = client.log_model(
            RandomForestClassifier(3, random_state=0).fit(X, Y),
            registered_model_name="forest",
        )
    assert uri == f"runs:/{run.info.run_id}/model"
    return uri


@pytest.fixture
def fluent(client: MLOpsClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """Points MLflow's own variable at the workspace's store, as other tools need it."""
    uri = str(client.workspace.mlflow_tracking_uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_a_model_can_be_loaded_as_what_it_was(forest: str, fluent: str) -> None:
    loaded = mlflow.sklearn.load_model(forest)
    assert isinstance(loaded, RandomForestClassifier)
    assert (
        loaded.predict(X)
        == RandomForestClassifier(3, random_state=0).fit(X, Y).predict(X)
    ).all()


def test_a_registered_model_can_be_loaded_by_its_name(
    forest: str, fluent: str, client: MLOpsClient
) -> None:
    version = mlflow.MlflowClient(fluent).get_model_version("forest", "1")
    assert version.run_id == forest.split("/")[1]
    assert mlflow.pyfunc.load_model("models:/forest/1").predict(X[:2]).tolist() == [
        0,
        0,
    ]
    artifacts = client.workspace.mlflow_path / "artifacts"
    assert [path.parents[3] for path in artifacts.rglob("MLmodel")] == [artifacts]


def test_a_model_is_an_output_of_its_run(forest: str, fluent: str) -> None:
    run = mlflow.MlflowClient(fluent).get_run(forest.split("/")[1])
    [output] = run.outputs.model_outputs
    model = mlflow.MlflowClient(fluent).get_logged_model(output.model_id)
    assert (model.name, model.status, model.source_run_id) == (
        "model",
        "READY",
        run.info.run_id,
    )


def test_a_model_can_be_served(forest: str, fluent: str, tmp_path: Path) -> None:
    command = ["models", "serve", "--model-uri", forest, "--env-manager", "local"]
    with running(command, tmp_path, "/ping", MLFLOW_TRACKING_URI=fluent) as server:
        body = json.dumps({"inputs": X[:2].tolist()}).encode()
        request = urllib.request.Request(
            f"{server.url}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer) == {"predictions": [0, 0]}


def test_a_model_with_a_function_of_the_script_can_be_loaded(
    client: MLOpsClient, fluent: str
) -> None:
    model = make_pipeline(
        FunctionTransformer(lambda rows: rows + 0.0), RandomForestClassifier(2)
    ).fit(X, Y)
    with client.start_run():
        uri = client.log_model(model, "pipeline")
    assert (mlflow.sklearn.load_model(uri).predict(X) == model.predict(X)).all()


def test_a_model_of_ones_own_is_a_python_model(
    client: MLOpsClient, fluent: str
) -> None:
    class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, model_input: list[float]) -> list[float]:
            return [2 * number for number in model_input]

    with client.start_run():
        uri = client.log_model(Doubler(), "doubler")
    assert mlflow.pyfunc.load_model(uri).predict([1.0, 2.0]) == [2.0, 4.0]


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_a_model_of_another_library(
    library: str, client: MLOpsClient, fluent: str
) -> None:
    module = pytest.importorskip(library)
    model = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier"}[library]
    with client.start_run() as run:
        uri = client.log_model(
            getattr(module, model)(n_estimators=2).fit(X, Y), library
        )
    [output] = (
        mlflow.MlflowClient(fluent).get_run(run.info.run_id).outputs.model_outputs
    )
    assert mlflow.MlflowClient(fluent).get_logged_model(output.model_id).name == library
    assert mlflow.pyfunc.load_model(uri).predict(X[:2]).tolist() == [0, 0]


@pytest.mark.parametrize(
    "model",
    [None, "weights.bin", {"a": 1}, np.zeros(3), Bunch(), RandomForestClassifier],
    ids=repr,
)
def test_what_is_no_model_is_refused_before_anything_is_logged(
    model: object, client: MLOpsClient
) -> None:
    with (
        client.start_run(),
        pytest.raises(MLOpsClientError, match="PythonModel") as caught,
    ):
        client.log_model(model, "nothing")
    assert (caught.value.operation, caught.value.details["field"]) == (
        "log_model",
        "model",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"artifact_path": "a/b", "registered_model_name": "new"},
        {"registered_model_name": "a/b:c"},
    ],
)
def test_of_a_model_that_cannot_be_logged_nothing_remains(
    arguments: dict[str, str], client: MLOpsClient, fluent: str
) -> None:
    store = mlflow.MlflowClient(fluent)
    with client.start_run() as run:
        before = len(store.search_logged_models([run.info.experiment_id]))
        with pytest.raises(MLOpsClientError) as caught:
            client.log_model(RandomForestClassifier(1).fit(X, Y), **arguments)
    assert caught.value.details["reason"] == "INPUT_INVALID"
    assert len(store.search_logged_models([run.info.experiment_id])) == before
    assert arguments["registered_model_name"] not in [
        model.name for model in store.search_registered_models()
    ]
    assert store.get_run(run.info.run_id).outputs.model_outputs == []


def test_a_model_that_cannot_be_saved_leaves_nothing(
    client: MLOpsClient, fluent: str
) -> None:
    class Unpicklable(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def __init__(self) -> None:
            self.generator = (number for number in range(3))

        def predict(self, model_input: list[float]) -> list[float]:
            return model_input

    store = mlflow.MlflowClient(fluent)
    with client.start_run() as run, pytest.raises(MLOpsClientError) as caught:
        client.log_model(Unpicklable(), "broken", registered_model_name="broken")
    assert caught.value.operation == "log_model"
    assert [
        model.name
        for model in store.search_logged_models(
            [run.info.experiment_id], "name = 'broken'"
        )
    ] == []
    assert "broken" not in [model.name for model in store.search_registered_models()]
