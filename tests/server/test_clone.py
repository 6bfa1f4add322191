"""Clones workspaces that other programs use meanwhile, with a real server."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

from conformance.players import rpc_error
from server.run import answer, call
from support.server import Server


def _clone(server: Server, name: str, source: str = "fraud") -> dict[str, object]:
    outcome = call(server, "CloneWorkspace", project=source, destination_project=name)
    assert outcome.error is None, outcome.error
    workspace: dict[str, object] = outcome.responses[-1]["workspace"]
    return workspace


def _reason(server: Server, name: str) -> str:
    outcome = call(server, "CloneWorkspace", project="fraud", destination_project=name)
    assert outcome.error is not None
    return str(outcome.error.infos[0].reason)


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _staged(base: Path) -> list[str]:
    return os.listdir(base / ".staging")


@contextmanager
def _running(code: str, *args: object) -> Iterator[None]:
    """Runs Python code in a process from its first line of output on."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_links_modes_and_times_are_kept(base: Path) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        models = base / "fraud/models"
        (models / "private").mkdir(mode=0o700)
        (models / "private/key").write_text("secret")
        (models / "private/key").chmod(0o640)
        (models / "latest").symlink_to("private/key")
        (models / "away").symlink_to("/etc/hostname")
        os.link(models / "private/key", models / "hard")
        for path in (models / "private/key", models / "private", models):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        _clone(server, "copy")
    copy = base / "copy/models"
    assert (copy / "private").stat().st_mode & 0o777 == 0o700
    assert (copy / "private/key").stat().st_mode & 0o777 == 0o640
    assert os.readlink(copy / "latest") == "private/key"
    assert os.readlink(copy / "away") == "/etc/hostname"
    # Hard links become files of their own.
    assert (copy / "hard").read_text() == "secret"
    assert (copy / "hard").stat().st_nlink == 1
    for path in (copy / "private/key", copy / "private", copy):
        assert path.stat().st_mtime == 1_000_000_000
    assert (base / "copy").stat().st_mode == (base / "fraud").stat().st_mode
    assert _staged(base) == []


def test_holes_take_no_space_in_copies(base: Path) -> None:
    size = 8 << 30
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        sparse = base / "fraud/outputs/sparse"
        with sparse.open("wb") as file:
            file.seek(size // 2)
            file.write(b"in the middle")
            file.truncate(size)
        if sparse.stat().st_blocks * 512 > size // 2:
            pytest.skip("this file system stores holes")
        time.sleep(0.05)
        _clone(server, "clone")
        answer(
            server,
            "CopyArtifact",
            project="fraud",
            path="outputs/sparse",
            destination_path="outputs/copy",
        )
    for copy in (base / "clone/outputs/sparse", base / "fraud/outputs/copy"):
        assert copy.stat().st_size == size
        assert copy.stat().st_blocks * 512 < 1 << 20
        with copy.open("rb") as file:
            file.seek(size // 2)
            assert file.read(14) == b"in the middle\0"


def test_many_files_and_deep_directories_are_copied(base: Path) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        deep = base / "fraud/outputs" / "/".join(["d"] * 100)
        deep.mkdir(parents=True)
        for i in range(300):
            (deep / str(i)).write_text(str(i))
        (base / "fraud/models/big").write_bytes(os.urandom(20 << 20))
        _clone(server, "copy")
    copied = base / "copy/outputs" / "/".join(["d"] * 100)
    assert {path.name: path.read_text() for path in copied.iterdir()} == {
        str(i): str(i) for i in range(300)
    }
    assert (base / "copy/models/big").read_bytes() == (
        base / "fraud/models/big"
    ).read_bytes()


_WRITER = """
import os, sys
path, n = sys.argv[1], 0
while True:
    n += 1
    # A whole file has one letter only.
    with open(path + ".new", "w") as file:
        file.write("abcdefghij"[n % 10] * 100_000)
    os.replace(path + ".new", path)
    if n == 1:
        print("ready", flush=True)
"""


def test_a_file_that_is_replaced_all_the_time_is_whole(base: Path) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        with _running(_WRITER, base / "fraud/models/state"):
            for i in range(5):
                _clone(server, f"copy-{i}")
                text = (base / f"copy-{i}/models/state").read_text()
                assert text == text[0] * 100_000


_DATABASE_WRITER = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
store.execute("PRAGMA journal_mode=" + sys.argv[2])
store.execute("CREATE TABLE a (n INTEGER PRIMARY KEY, text)")
store.execute("CREATE TABLE b (n INTEGER PRIMARY KEY, text)")
print("ready", flush=True)
n = 0
while True:
    n += 1
    store.execute("BEGIN IMMEDIATE")
    store.execute("INSERT INTO a VALUES (?, ?)", (n, "x" * 2000))
    store.execute("INSERT INTO b VALUES (?, ?)", (n, "y" * 2000))
    # Some transactions spill to the file before they are rolled back.
    store.execute("ROLLBACK" if n % 7 == 0 else "COMMIT")
"""


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST", "WAL"])
def test_a_busy_database_is_never_torn(base: Path, mode: str) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        file = base / "fraud/mlflow/mlflow.db"
        with _running(_DATABASE_WRITER, file, mode):
            for i in range(5):
                with closing(sqlite3.connect(file, timeout=60)) as store:
                    (before,) = store.execute("SELECT count(*) FROM a").fetchone()
                _clone(server, f"copy-{i}")
                copy = base / f"copy-{i}/mlflow/mlflow.db"
                with closing(sqlite3.connect(copy)) as store:
                    assert store.execute("PRAGMA integrity_check").fetchall() == [
                        ("ok",)
                    ]
                    (a,) = store.execute("SELECT count(*) FROM a").fetchone()
                    (b,) = store.execute("SELECT count(*) FROM b").fetchone()
                assert a == b >= before
                assert not (base / f"copy-{i}/mlflow/mlflow.db-shm").exists()


def test_a_locked_database_is_busy(base: Path) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        with closing(sqlite3.connect(base / "fraud/mlflow/mlflow.db")) as store:
            store.execute("CREATE TABLE t (n)")
            store.commit()
            store.execute("BEGIN EXCLUSIVE")
            assert _reason(server, "copy") == "WORKSPACE_BUSY"
            store.rollback()
        _clone(server, "copy")
    assert _staged(base) == []


def test_of_two_clones_for_one_name_one_wins(base: Path) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
        for i in range(200):
            (base / f"fraud/models/{i}").write_text("x")
        outcomes = []
        threads = [
            threading.Thread(
                target=lambda: outcomes.append(
                    call(
                        server,
                        "CloneWorkspace",
                        project="fraud",
                        destination_project="copy",
                    )
                )
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    reasons = [outcome.error and outcome.error.infos[0].reason for outcome in outcomes]
    assert sorted(map(str, reasons)) == ["None", "WORKSPACE_EXISTS", "WORKSPACE_EXISTS"]
    assert len(os.listdir(base / "copy/models")) == 200
    assert _staged(base) == []


def _start(channel: grpc.Channel, name: str = "copy") -> grpc.Call:
    stub = WorkspaceServiceStub(channel)
    return stub.CloneWorkspace(
        pb.CloneWorkspaceRequest(project="fraud", destination_project=name)
    )


def _fill(base: Path, count: int = 1000) -> None:
    for i in range(count):
        (base / f"fraud/models/{i}").write_text("x" * 100)


def test_a_cancelled_clone_leaves_nothing(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "CreateWorkspace", project="fraud")
        _fill(base)
        stream = _start(channel)
        _wait(lambda: bool(_staged(base)))
        stream.cancel()
        _wait(lambda: not _staged(base))
        assert not (base / "copy").exists()
        # The slot is free again, and so is the name.
        _clone(server, "copy")


def test_a_killed_server_leaves_nothing_after_its_restart(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "CreateWorkspace", project="fraud")
        _fill(base)
        stream = _start(channel)
        _wait(lambda: bool(_staged(base)))
        server.kill()
        with pytest.raises(grpc.RpcError):
            list(stream)
    with Server(base) as server:
        assert _staged(base) == []
        if (base / "copy").exists():
            assert len(os.listdir(base / "copy/models")) == 1000
        else:
            _clone(server, "copy")


def test_a_shutdown_ends_a_clone(base: Path) -> None:
    with Server(base, "--drain-timeout", "100ms") as server:
        answer(server, "CreateWorkspace", project="fraud")
        _fill(base)
        with server.connect() as channel:
            stream = _start(channel)
            _wait(lambda: bool(_staged(base)))
            server.terminate()
            assert server.wait() == 0
            try:
                list(stream)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert _staged(base) == []


def test_too_many_clones_are_refused(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "CreateWorkspace", project="fraud")
        # A locked database keeps each of them waiting.
        with closing(sqlite3.connect(base / "fraud/mlflow/mlflow.db")) as store:
            store.execute("CREATE TABLE t (n)")
            store.commit()
            store.execute("BEGIN EXCLUSIVE")
            # Four of them run, twelve wait, and the server refuses the others.
            streams = [_start(channel, f"copy-{i}") for i in range(20)]
            _wait(lambda: sum(stream.done() for stream in streams) == 4)
            for stream in streams:
                if not stream.done():
                    stream.cancel()
                    continue
                with pytest.raises(grpc.RpcError) as caught:
                    list(stream)
                assert rpc_error(caught.value).infos[0].reason == "OVERLOADED"
            store.rollback()
        _wait(lambda: not _staged(base))


def test_a_deleted_source_is_not_found(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "CreateWorkspace", project="fraud")
        with closing(sqlite3.connect(base / "fraud/mlflow/mlflow.db")) as store:
            store.execute("CREATE TABLE t (n)")
            store.commit()
            store.execute("BEGIN EXCLUSIVE")
            stream = _start(channel)
            _wait(lambda: bool(_staged(base)))
            answer(server, "DeleteWorkspace", project="fraud", force=True)
            store.rollback()
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert not (base / "copy").exists() and _staged(base) == []


_POLICY = """
bindings:
  - {principal: "*", role: %s, projects: [fraud]}
  - {principal: "*", role: %s, projects: [copy]}
"""


@pytest.mark.parametrize(
    ("source", "copy", "allowed"),
    [
        ("viewer", "editor", True),
        ("viewer", "viewer", False),
        ("editor", "viewer", False),
    ],
)
def test_a_clone_needs_rights_on_both_workspaces(
    base: Path, tmp_path: Path, source: str, copy: str, allowed: bool
) -> None:
    with Server(base) as server:
        answer(server, "CreateWorkspace", project="fraud")
    policy = tmp_path / "policy.yaml"
    policy.write_text(_POLICY % (source, copy))
    with Server(base, "--policy", str(policy)) as server:
        if allowed:
            _clone(server, "copy")
        else:
            assert _reason(server, "copy") == "PERMISSION_MISSING"
