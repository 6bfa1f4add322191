"""MLOpsClient.clean() on what the real toolkits have stored."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlops.client import MLOpsClient, MLOpsClientError, dvc_client
from mlops.client.garbage import Cleaned, Freed
from mlops.workspace import WorkspaceError, WorkspaceManager

_GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(client: MLOpsClient, text: str, name: str = "data.csv") -> Path:
    """Tracks a file with this content in the workspace, and returns it."""
    file = client.workspace.dvc_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    client.dvc_add(file)
    return file


def stored(directory: Path) -> set[bytes]:
    """Returns the contents of the files in a cache or remote."""
    files = (directory / "files").rglob("*")
    return {file.read_bytes() for file in files if file.is_file()}


def cache_of(client: MLOpsClient) -> Path:
    return client.workspace.dvc_path / ".dvc/cache"


def remote_of(client: MLOpsClient) -> Path:
    return client.workspace.dvc_path / "remote"


def _files(client: MLOpsClient) -> list[str]:
    """Returns all files, except DVC's own indexes, which it fills when it reads."""
    files = [file for file in client.workspace_path.rglob("*") if file.is_file()]
    return sorted(
        str(f)
        for f in files
        if not {"site-cache", "tmp"} & {*f.relative_to(client.workspace_path).parts}
    )


def cleaned(client: MLOpsClient) -> Cleaned:
    """Cleans, after a dry run that must return the same and change nothing."""
    files = _files(client)
    expected = client.clean()
    assert _files(client) == files
    result = client.clean(dry_run=False)
    assert (expected.dry_run, result.dry_run) == (True, False)
    assert {**vars(expected), "dry_run": False} == vars(result)
    again = client.clean(dry_run=False)
    assert (again.total, again.kept) == (Freed(), result.kept)
    return result


# --- DVC ---


def test_earlier_versions_are_freed_in_the_cache_and_the_remote(
    client: MLOpsClient,
) -> None:
    add(client, "first")
    client.dvc_push()
    file = add(client, "second, longer")
    client.dvc_push()
    result = cleaned(client)
    assert (result.dvc_cache, result.dvc_remote) == (Freed(1, 5), Freed(1, 5))
    assert result.kept == ()
    assert stored(cache_of(client)) == stored(remote_of(client)) == {b"second, longer"}
    file.unlink()
    assert client.dvc_pull()["added"] == 1
    assert file.read_text() == "second, longer"


def test_files_of_a_tracked_directory_stay(client: MLOpsClient) -> None:
    directory = client.workspace.dvc_path / "set"
    directory.mkdir()
    for name in "ab":
        (directory / name).write_text(name)
    client.dvc_add(directory)
    (directory / "b").write_text("changed")
    client.dvc_add(directory)
    # The file, and the former list of the directory.
    assert cleaned(client).dvc_cache.count == 2
    shutil.rmtree(directory)
    # The remote is empty: the cache alone restores the directory.
    client.dvc_push()
    client.dvc_pull()
    assert (directory / "a").read_text() == "a"
    assert (directory / "b").read_text() == "changed"


@pytest.mark.parametrize("top", ["dvc", "workspace", "base"])
@pytest.mark.parametrize("keeper", ["branch", "tag", "stash"])
def test_versions_in_git_stay(client: MLOpsClient, top: str, keeper: str) -> None:
    dvc = client.workspace.dvc_path
    root = {"dvc": dvc, "workspace": dvc.parent, "base": dvc.parent.parent}[top]

    def git(*args: str) -> None:
        subprocess.run([*_GIT, "-C", root, *args], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "begin")
    # Outside of DVC's own repository the file must be named by its path.
    tracked = str((dvc / "data.csv.dvc").relative_to(root))
    add(client, "first")
    git("add", "-f", tracked)
    if keeper == "stash":
        git("stash", "-q")
    else:
        git("checkout", "-q", "-b", "other")
        git("commit", "-q", "-m", "first")
        if keeper == "tag":
            git("tag", "v1")
        git("checkout", "-q", "main")
        if keeper == "tag":
            git("branch", "-q", "-D", "other")
    add(client, "second")
    add(client, "third")
    assert cleaned(client).dvc_cache == Freed(1, 6)
    assert stored(cache_of(client)) == {b"first", b"third"}


def test_nothing_is_freed_if_the_list_of_a_directory_is_lost(
    client: MLOpsClient,
) -> None:
    add(client, "first")
    add(client, "second")
    directory = client.workspace.dvc_path / "set"
    directory.mkdir()
    (directory / "a").write_text("a")
    client.dvc_add(directory)
    [listing] = cache_of(client).rglob("*.dir")
    listing.unlink()
    result = client.clean(dry_run=False)
    assert (result.dvc_cache, result.dvc_remote) == (Freed(), Freed())
    [kept] = result.kept
    assert kept.kind == "dvc" and "cannot tell" in kept.reason
    assert {b"first", b"second", b"a"} <= stored(cache_of(client))


def _by_setting(manager: WorkspaceManager, remote: Path) -> None:
    manager.create_workspace("churn", dvc_remote_path=str(remote))


def _by_relative_setting(manager: WorkspaceManager, remote: Path) -> None:
    manager.create_workspace("churn", dvc_remote_path="../../fraud/dvc/remote/below")


def _by_configuration(manager: WorkspaceManager, remote: Path) -> None:
    manager.create_workspace("churn")
    config = manager.base_path / "churn/dvc/.dvc/config.local"
    config.parent.mkdir()
    config.write_text(f"['remote \"mine\"']\nurl = {remote}\n")


def _in_the_trash(manager: WorkspaceManager, remote: Path) -> None:
    _by_setting(manager, remote)
    manager.delete_workspace("churn", force=True)


def _unreadable(manager: WorkspaceManager, remote: Path) -> None:
    manager.create_workspace("churn")
    (manager.base_path / "churn/workspace.yaml").write_text("[")
    # The server then no longer lists it.
    with pytest.raises(WorkspaceError):
        manager.get_workspace("churn")


@pytest.mark.parametrize(
    "name_it",
    [_by_setting, _by_relative_setting, _by_configuration, _in_the_trash, _unreadable],
)
def test_a_remote_that_another_workspace_names_is_not_cleaned(
    client: MLOpsClient,
    manager: WorkspaceManager,
    name_it: Callable[[WorkspaceManager, Path], None],
) -> None:
    add(client, "first")
    client.dvc_push()
    add(client, "second")
    name_it(manager, remote_of(client))
    result = client.clean(dry_run=False)
    assert result.dvc_remote == Freed()
    [kept] = [each for each in result.kept if each.kind == "dvc_remote"]
    assert kept.name == str(remote_of(client)) and "churn" in kept.reason
    assert stored(remote_of(client)) == {b"first"}


def test_a_remote_outside_of_the_workspace_is_not_cleaned(
    client: MLOpsClient, manager: WorkspaceManager, tmp_path: Path
) -> None:
    outside = tmp_path / "remote"
    manager.update_workspace_metadata("fraud", dvc_remote_path=str(outside))
    add(client, "first")
    client.dvc_push()
    add(client, "second")
    result = cleaned(client)
    assert (result.dvc_cache, result.dvc_remote) == (Freed(1, 5), Freed())
    [kept] = result.kept
    assert kept.name == str(outside) and "outside of the workspace" in kept.reason
    assert stored(outside) == {b"first"}


def test_a_shared_cache_is_not_cleaned(client: MLOpsClient, tmp_path: Path) -> None:
    add(client, "first")
    config = client.workspace.dvc_path / ".dvc/config.local"
    config.write_text(f"[cache]\ndir = {tmp_path / 'cache'}\n")
    add(client, "second")
    add(client, "third")
    result = client.clean(dry_run=False)
    assert result.dvc_cache == Freed()
    assert stored(tmp_path / "cache") == {b"second", b"third"}


def test_a_repository_in_use_is_busy(
    client: MLOpsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, "first")
    add(client, "second")
    monkeypatch.setattr(dvc_client, "WAIT_SECONDS", 0.1)
    with (
        dvc_client.DVCClient(client.workspace, {})._opened(),
        pytest.raises(MLOpsClientError) as caught,
    ):
        client.clean(dry_run=False)
    assert caught.value.details["reason"] == "REPOSITORY_BUSY"
    assert stored(cache_of(client)) == {b"first", b"second"}


# --- MLflow ---


def log_run(client: MLOpsClient, text: str) -> Any:
    """Logs a run with one artifact and returns it."""
    Path("note.txt").write_text(text)
    with client.start_run() as run:
        client.log_artifact("note.txt")
    return run


def store_of(client: MLOpsClient) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(client.workspace.mlflow_tracking_uri)


def artifacts_of(client: MLOpsClient) -> set[str]:
    files = (client.workspace.mlflow_path / "artifacts").rglob("note.txt")
    return {file.read_text() for file in files}


def test_deleted_runs_are_freed_with_their_artifacts(client: MLOpsClient) -> None:
    deleted, kept = log_run(client, "deleted"), log_run(client, "kept")
    store = store_of(client)
    store.delete_run(deleted.info.run_id)
    assert cleaned(client).mlflow == Freed(1, 7)
    assert artifacts_of(client) == {"kept"}
    assert store.get_run(kept.info.run_id).info.lifecycle_stage == "active"
    with pytest.raises(mlflow.exceptions.MlflowException, match="not found"):
        store.get_run(deleted.info.run_id)


def test_a_run_that_a_model_version_refers_to_stays(client: MLOpsClient) -> None:
    run = log_run(client, "used")
    store = store_of(client)
    store.create_registered_model("fraud")
    source = f"{run.info.artifact_uri}/note.txt"
    store.create_model_version("fraud", source, run.info.run_id)
    store.delete_run(run.info.run_id)
    result = cleaned(client)
    assert result.mlflow == Freed()
    [kept] = result.kept
    assert kept.kind == "mlflow" and "version 1 of the model fraud" in kept.reason
    assert artifacts_of(client) == {"used"}
    # Without the version, nothing refers to the run.
    store.delete_model_version("fraud", "1")
    assert cleaned(client).mlflow == Freed(1, 4)


def test_artifacts_outside_of_the_workspace_stay(
    client: MLOpsClient, tmp_path: Path
) -> None:
    log_run(client, "ours")
    store = store_of(client)
    experiment = store.create_experiment("away", (tmp_path / "away").as_uri())
    run = store.create_run(experiment)
    store.log_text(run.info.run_id, "theirs", "note.txt")
    store.delete_run(run.info.run_id)
    result = cleaned(client)
    assert result.mlflow == Freed()
    [kept] = result.kept
    assert "outside of the workspace" in kept.reason
    assert [file.read_text() for file in tmp_path.rglob("away/**/note.txt")] == [
        "theirs"
    ]


def test_deleted_logged_models_are_freed(client: MLOpsClient) -> None:
    log_run(client, "kept")
    store = store_of(client)
    experiment = client.workspace.mlflow_experiment_id
    assert experiment is not None
    model = store.create_logged_model(experiment)
    directory = Path(model.artifact_location.removeprefix("file://"))
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(b"x" * 9)
    store.finalize_logged_model(model.model_id, "READY")
    assert cleaned(client).mlflow == Freed()
    store.delete_logged_model(model.model_id)
    assert cleaned(client).mlflow == Freed(1, 9)
    assert not directory.exists()


def test_a_store_elsewhere_is_not_cleaned(
    manager: WorkspaceManager, tmp_path: Path
) -> None:
    own = MLOpsClient("fraud", workspace_manager=manager)
    log_run(own, "ours")
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    client = MLOpsClient("fraud", {"tracking_uri": uri}, workspace_manager=manager)
    [kept] = client.clean(dry_run=False).kept
    assert kept.name == uri and "mlflow gc" in kept.reason
