"""Workspaces that are copied or moved, with a real MLflow.

A copy writes nothing into the original, and nothing reappears at an old path.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.workspace import WorkspaceManager

from support.server import short_base, stop_server


class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A minimal MLflow model."""

    def predict(self, model_input: list[float]) -> list[float]:
        """Returns the doubled input."""
        return [2 * number for number in model_input]


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A base directory that no server uses.

    Its project `fraud` has a run with an artifact and a registered model.
    """
    with short_base() as base:
        client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
        (client.workspace.outputs_path / "old.txt").write_text("old")
        with client.start_run("old"):
            client.log_artifact(client.workspace.outputs_path / "old.txt", "texts")
            client.log_model(Doubler(), registered_model_name="doubler")
        stop_server(base)
        yield base


@pytest.fixture
def old(template: Path, base: Path) -> Path:
    """A copy of the template at another path, which no client has opened yet."""
    shutil.copytree(template, base, ignore=shutil.ignore_patterns(".workspaced"))
    return base


def content(root: Path) -> dict[str, bytes | str]:
    """Returns every file of a workspace, and the rows of the store for its file."""
    files: dict[str, bytes | str] = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    with closing(sqlite3.connect(root / "mlflow/mlflow.db")) as store:
        files["mlflow/mlflow.db"] = "\n".join(store.iterdump())
    return files


def check(client: MLOpsClient, tmp_path: Path, *other_runs: str) -> None:
    """Asserts that earlier runs can be read and new ones are added beside them."""
    root = client.workspace.root_path
    store = MlflowClient(f"sqlite:///{root}/mlflow/mlflow.db")
    runs = {found.info.run_name: found for found in store.search_runs(["1"])}
    assert runs.keys() == {"old", *other_runs}
    old_run = runs["old"].info
    assert old_run.artifact_uri.startswith(root.as_uri())
    assert [file.path for file in store.list_artifacts(old_run.run_id, "texts")] == [
        "texts/old.txt"
    ]
    assert (
        Path(store.download_artifacts(old_run.run_id, "texts/old.txt")).read_text()
        == "old"
    )
    (tmp_path / "new.txt").write_text("new")
    with client.start_run("new") as run:
        client.log_artifact(tmp_path / "new.txt")
        client.log_model(Doubler())
    assert run.info.experiment_id == "1"
    assert (
        root / f"mlflow/artifacts/{run.info.run_id}/artifacts/new.txt"
    ).read_text() == "new"
    source = store.get_model_version("doubler", "1").source
    assert source.startswith(root.as_uri())
    assert mlflow.pyfunc.load_model(source).predict([1.0]) == [2.0]


def test_a_copy_beside_its_original_while_that_is_used(
    old: Path, tmp_path: Path
) -> None:
    manager = WorkspaceManager(old)
    original = MLOpsClient("fraud", workspace_manager=manager)
    with original.start_run("during") as during:
        # The run is open in the copied store, too, but belongs to the original.
        shutil.copytree(old / "fraud", old / "fraud2")
        before = content(old / "fraud")
        check(MLOpsClient("fraud2", workspace_manager=manager), tmp_path, "during")
        assert content(old / "fraud") == before
        original.log_artifact(__file__)
    assert (
        len(list((old / f"fraud/mlflow/artifacts/{during.info.run_id}").rglob("*.py")))
        == 1
    )
    assert not (old / f"fraud2/mlflow/artifacts/{during.info.run_id}").exists()


def test_a_base_that_was_moved_while_its_server_runs(old: Path, tmp_path: Path) -> None:
    client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(old))
    with pytest.raises(MLOpsClientError) as caught, client.start_run("during"):
        new = old.rename(old.with_name("new base"))
        client.log_artifact(__file__)
    assert caught.value.details["reason"] == "WORKSPACE_NOT_LOCAL"
    assert not old.exists()
    try:
        check(
            MLOpsClient("fraud", workspace_manager=WorkspaceManager(new)),
            tmp_path,
            "during",
        )
        assert not old.exists()
    finally:
        stop_server(new)
