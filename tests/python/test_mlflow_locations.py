"""Locations in a workspace's MLflow store after the workspace was copied or moved.

The store has only the columns of MLflow's tables that matter here.
"""

import json
import multiprocessing
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.client.mlflow_locations import moved, settle
from mlops.workspace import WorkspaceManager

_SCHEMA = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT, source_name TEXT);
CREATE TABLE logged_models (model_id TEXT PRIMARY KEY, artifact_location TEXT);
CREATE TABLE model_versions (version INTEGER PRIMARY KEY, source TEXT, \
storage_location TEXT);
CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT);
CREATE TABLE trace_tags (request_id TEXT, key TEXT, value TEXT);
CREATE TABLE datasets (dataset_uuid TEXT, dataset_source TEXT);
"""


@pytest.fixture
def fraud(tmp_path: Path) -> Path:
    """A workspace whose store does not record the root that it was written for."""
    root = tmp_path / "a b%/fraud"
    (root / "mlflow").mkdir(parents=True)
    artifacts, uri = f"{root}/mlflow/artifacts", (root / "mlflow/artifacts").as_uri()
    history = json.dumps([{"artifact_path": f"{uri}/m", "run_id": "1"}])
    with closing(sqlite3.connect(root / "mlflow/mlflow.db")) as store, store:
        store.executescript(_SCHEMA)
        store.execute(
            "INSERT INTO experiments VALUES (0, ?), (1, ?), (2, 's3://b/x')",
            (f"{uri}/0", uri),
        )
        store.execute(
            "INSERT INTO runs VALUES ('1', ?, ?), ('2', ?, '')",
            (f"{uri}/1", artifacts, artifacts + "2"),
        )
        store.execute(
            "INSERT INTO runs VALUES ('3', ?, '')",
            (root.as_uri() + "2/mlflow/artifacts/3",),
        )
        store.execute("INSERT INTO logged_models VALUES ('m', ?)", (f"{uri}/m",))
        store.execute(
            "INSERT INTO model_versions VALUES (1, ?, ?), (2, 'models:/m-1', NULL)",
            (f"{uri}/m", f"{uri}/m"),
        )
        store.execute(
            "INSERT INTO tags VALUES ('1', 'mine', ?), "
            "('1', 'mlflow.log-model.history', ?)",
            (uri, history),
        )
        store.execute(
            "INSERT INTO trace_tags VALUES ('t', 'mlflow.artifactLocation', ?), "
            "('t', 'x', ?)",
            (uri, uri),
        )
        store.execute(
            "INSERT INTO datasets VALUES ('d', ?)",
            (json.dumps({"uri": f"{root}/dvc/train.csv"}),),
        )
    return root


def dump(root: Path) -> str:
    """Returns all rows of a store, except those of the client's own table."""
    with closing(sqlite3.connect(root / "mlflow/mlflow.db")) as store:
        return "\n".join(
            line for line in store.iterdump() if "mlops_workspace" not in line
        )


def settled(root: Path) -> tuple[Path, bool]:
    """Returns the root that locations lie below, and whether this call moved them."""
    return settle(root / "mlflow/mlflow.db", root)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("file:///a/fraud/mlflow/artifacts/1", "file:///b%20c/copy/mlflow/artifacts/1"),
        ("file:///a/fraud", "file:///b%20c/copy"),
        ("file:/a/fraud/x%25y", "file:/b%20c/copy/x%25y"),
        ("file://localhost/a/fr%61ud/x", "file://localhost/b%20c/copy/x"),
        ("/a/fraud/mlflow", "/b c/copy/mlflow"),
        ("workspace://fraud/mlflow/x", "workspace://copy/mlflow/x"),
        ("workspace://fraud", "workspace://copy"),
        ("/a/fraud2/mlflow", None),
        ("/a/fr%61ud/mlflow", None),
        ("file:///a/fraud2/mlflow", None),
        ("file:///a", None),
        ("file://elsewhere/a/fraud/x", None),
        ("a/fraud/x", None),
        ("workspace://fraud2/x", None),
        ("s3://a/fraud/x", None),
        ("mlflow-artifacts:/a/fraud/x", None),
        ("models:/fraud/1", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_what_lies_below_the_old_root_lies_below_the_new_one(
    location: object, expected: str | None
) -> None:
    assert moved(location, "/a/fraud", "/b c/copy") == expected


def test_a_copy_has_its_own_locations_and_the_original_keeps_its_own(
    fraud: Path,
) -> None:
    before = dump(fraud)
    copy = shutil.copytree(fraud, fraud.with_name("fraud2"))
    assert settled(copy) == (copy, True)
    assert settled(copy) == (copy, False)
    assert settled(fraud) == (fraud, False)
    assert dump(fraud) == before
    with closing(sqlite3.connect(copy / "mlflow/mlflow.db")) as store:
        uri = (copy / "mlflow/artifacts").as_uri()
        assert store.execute(
            "SELECT artifact_location FROM experiments"
        ).fetchall() == [(f"{uri}/0",), (uri,), ("s3://b/x",)]
        assert store.execute("SELECT artifact_uri FROM runs").fetchall() == [
            (f"{uri}/1",),
            (f"{copy}/mlflow/artifacts2",),
            (fraud.as_uri() + "2/mlflow/artifacts/3",),
        ]
        # A run's source is history, and ordinary tags are the user's: neither changes.
        assert store.execute("SELECT source_name FROM runs").fetchone() == (
            f"{fraud}/mlflow/artifacts",
        )
        old = (fraud / "mlflow/artifacts").as_uri()
        history = json.dumps([{"artifact_path": f"{uri}/m", "run_id": "1"}])
        assert store.execute("SELECT value FROM tags").fetchall() == [
            (old,),
            (history,),
        ]
        assert store.execute("SELECT value FROM trace_tags").fetchall() == [
            (uri,),
            (old,),
        ]
        assert store.execute(
            "SELECT source, storage_location FROM model_versions"
        ).fetchall() == [(f"{uri}/m", f"{uri}/m"), ("models:/m-1", None)]
        assert store.execute("SELECT dataset_source FROM datasets").fetchone() == (
            json.dumps({"uri": f"{copy}/dvc/train.csv"}),
        )


def test_a_move_a_copy_of_a_copy_and_an_exchange(fraud: Path) -> None:
    before = dump(fraud)
    base = fraud.parent
    moved_base = base.rename(base.with_name("moved#?;ü"))
    assert settled(moved_base / "fraud") == (moved_base / "fraud", True)
    # A copy of a copy whose store was never opened.
    second = shutil.copytree(moved_base / "fraud", moved_base / "second")
    third = shutil.copytree(second, base / "fraud")
    assert settled(third) == (third, True) and dump(third) == before
    settled(second)
    shutil.move(second, base / "x")
    shutil.move(third, second)
    shutil.move(base / "x", third)
    assert settled(second)[1] and settled(third)[1] and dump(third) == before


def test_another_path_to_the_same_directory_moves_nothing(
    fraud: Path, tmp_path: Path
) -> None:
    before = dump(fraud)
    (tmp_path / "link").symlink_to(fraud.parent)
    assert settled(tmp_path / "link/fraud") == (fraud, False)
    assert settled(fraud) == (fraud, False)
    assert dump(fraud) == before


def test_a_store_that_someone_else_made_elsewhere_is_left_as_it_is(fraud: Path) -> None:
    with closing(sqlite3.connect(fraud / "mlflow/mlflow.db")) as store, store:
        store.execute(
            "UPDATE experiments SET artifact_location = '/mlruns/0' "
            "WHERE experiment_id = 0"
        )
    before = dump(fraud)
    assert settled(fraud) == (fraud, False) and dump(fraud) == before
    copy = shutil.copytree(fraud, fraud.with_name("fraud2"))
    # The first call has recorded the root, so the copy is recognized.
    assert settled(copy) == (copy, True)


def test_a_client_that_is_made_settles_the_store(
    fraud: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = WorkspaceManager(base)
    copy = manager.create_workspace("fraud").root_path
    shutil.copytree(fraud, copy, dirs_exist_ok=True)
    before = dump(fraud)
    MLOpsClient("fraud", workspace_manager=manager)
    assert (
        settled(copy) == (copy, False)
        and dump(fraud) == before
        and str(fraud) not in caplog.text
    )
    (copy / "mlflow/mlflow.db").write_bytes(b"no database")
    MLOpsClient("fraud", workspace_manager=manager)
    assert "file is not a database" in caplog.text


def _settle(root: Path, results: "multiprocessing.Queue[bool]") -> None:
    results.put(settled(root)[1])


def test_of_processes_that_open_a_copy_at_once_one_moves_the_locations(
    fraud: Path,
) -> None:
    copy = shutil.copytree(fraud, fraud.with_name("fraud2"))
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    processes = [fork.Process(target=_settle, args=(copy, results)) for _ in range(8)]
    for process in processes:
        process.start()
    assert sorted(results.get(timeout=60) for _ in processes) == [False] * 7 + [True]
    for process in processes:
        process.join()


def test_a_copy_that_cannot_be_written_says_so_and_the_original_can_be_read(
    fraud: Path,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        copy = shutil.copytree(fraud, Path(directory, "copy"))
        same = shutil.copytree(fraud, Path(directory, "same"))
        settled(same)
        for root in (copy, same):
            (root / "mlflow/mlflow.db").chmod(0o444)
            (root / "mlflow").chmod(0o555)
        if not (pid := os.fork()):
            code = 1
            try:
                # Permissions do not stop root, so become another user.
                if os.geteuid() == 0:
                    os.setuid(65534)
                assert settled(same) == (same, False)
                code = _see_read_only(copy, fraud)
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for root in (copy, same):
            (root / "mlflow").chmod(0o755)
    assert code == 0


def _see_read_only(copy: Path, old: Path) -> int:
    file = str(copy / "mlflow/mlflow.db")
    with pytest.raises(MLOpsClientError) as caught:
        settled(copy)
    assert caught.value.details == {
        "reason": "STORE_READ_ONLY",
        "path": file,
        "root": str(old),
    }
    assert (
        f"below {old} and must be updated to {copy}, but is not writable"
        in caught.value.message
    )
    return 0
