"""MLflow's own client, with an experiment whose artifacts are in a workspace."""

import os
import uuid
from pathlib import Path

import mlflow.artifacts
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlops.tracking.artifacts import WorkspaceArtifactRepository
from mlops.workspace import WorkspaceManager


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store for all tests, because creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def client(
    base: Path,
    manager: WorkspaceManager,
    monkeypatch: pytest.MonkeyPatch,
    tracking_uri: str,
) -> MlflowClient:
    manager.create_workspace("fraud")
    monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", f"unix:{base}/.workspaced/socket")
    return MlflowClient(tracking_uri)


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    name = uuid.uuid4().hex
    experiment = client.create_experiment(
        name, artifact_location=f"workspace://fraud/mlflow/{name}"
    )
    return client.create_run(experiment).info.run_id


def test_a_runs_artifacts_are_files_of_the_workspace(
    client: MlflowClient, run_id: str, base: Path, tmp_path: Path
) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "dir/sub").mkdir(parents=True)
    for name in ("model.pt", "dir/a.txt", "dir/sub/b.txt"):
        (tmp_path / name).write_bytes(content if name == "model.pt" else name.encode())
    client.log_artifact(run_id, str(tmp_path / "model.pt"))
    client.log_artifacts(run_id, str(tmp_path / "dir"), "data")
    client.log_text(run_id, "hello", "notes/hello.txt")
    client.log_dict(run_id, {"a": 1}, "notes/a.json")

    uri = client.get_run(run_id).info.artifact_uri
    assert (
        base / uri.removeprefix("workspace://") / "model.pt"
    ).read_bytes() == content
    listed = [(i.path, i.is_dir, i.file_size) for i in client.list_artifacts(run_id)]
    assert listed == [
        ("data", True, None),
        ("model.pt", False, len(content)),
        ("notes", True, None),
    ]
    assert [i.path for i in client.list_artifacts(run_id, "data")] == [
        "data/a.txt",
        "data/sub",
    ]
    assert (
        client.list_artifacts(run_id, "model.pt")
        == client.list_artifacts(run_id, "none")
        == []
    )
    here = Path(client.download_artifacts(run_id, "", str(tmp_path)))
    assert (here / "model.pt").read_bytes() == content
    assert (here / "data/sub/b.txt").read_bytes() == b"dir/sub/b.txt"
    assert mlflow.artifacts.load_text(f"{uri}/notes/hello.txt") == "hello"


def test_deleted_and_absent_artifacts(
    client: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    client.log_text(run_id, "x", "d/a.txt")
    repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
    assert isinstance(repository, WorkspaceArtifactRepository)
    repository.delete_artifacts("d/a.txt")
    repository.delete_artifacts("d/a.txt")
    assert client.list_artifacts(run_id, "d") == []
    with pytest.raises(MlflowException, match=r"a\.txt"):
        client.download_artifacts(run_id, "d/a.txt", str(tmp_path))
    assert not (tmp_path / "d/a.txt").exists()


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b"])
def test_nothing_out_of_the_run_is_touched(
    client: MlflowClient, run_id: str, tmp_path: Path, path: str
) -> None:
    repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
    (tmp_path / "a").touch()
    for call in (
        repository.list_artifacts,
        repository.delete_artifacts,
        lambda p: repository.log_artifact("a", p),
    ):
        with pytest.raises(MlflowException):
            call(path)


@pytest.mark.parametrize("name", ["preds[1].csv", "v?", "a*b"])
@pytest.mark.parametrize("inner", ["", "/in.txt"])
def test_a_name_is_never_a_pattern(
    client: MlflowClient, run_id: str, base: Path, tmp_path: Path, name: str, inner: str
) -> None:
    other = {"preds[1].csv": "preds1.csv", "v?": "v1", "a*b": "axb"}[name]
    source = tmp_path / "[s]"
    for one in (name, other):
        (source / f"{one}{inner}").parent.mkdir(parents=True, exist_ok=True)
        (source / f"{one}{inner}").write_text(one)
    (tmp_path / "s").mkdir()
    client.log_artifacts(run_id, str(source))
    repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
    assert sorted(file.path for file in repository.list_artifacts()) == sorted(
        [name, other]
    )
    if inner:
        assert [file.path for file in repository.list_artifacts(name)] == [name + inner]
    assert (
        Path(repository.download_artifacts(name, str(tmp_path))) / inner.strip("/")
    ).read_text() == name
    repository.delete_artifacts(name)
    repository.delete_artifacts(name)
    assert [file.path for file in repository.list_artifacts()] == [other]


@pytest.mark.parametrize("path", ["a//b", "a/", "./a", "a/.", "a/../b"])
def test_a_path_to_write_to_is_in_its_shortest_form(
    client: MlflowClient, run_id: str, tmp_path: Path, path: str
) -> None:
    repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
    (tmp_path / "file").touch()
    for log, source in (
        (repository.log_artifact, tmp_path / "file"),
        (repository.log_artifacts, tmp_path),
    ):
        with pytest.raises(MlflowException) as caught:
            log(str(source), path)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert repository.list_artifacts() == []
