"""`workspaced doctor`, on bases that a real server has made."""

import itertools
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from conformance.players import Python
from readme.blocks import read_blocks
from server.callers import wait_until
from server.doctoring import OF_THE_MACHINE, described, diagnose, run_doctor
from server.run import answer
from server.writing import Writing
from support.server import BINARY, REPO, Server

_MOVED = "CREATE TABLE mlops_workspace (root TEXT); INSERT INTO mlops_workspace VALUES"


@pytest.fixture
def made(base: Path) -> Path:
    """A base with the workspaces `churn` and `fraud`, whose server has stopped."""
    with Server(base) as server, Python(server) as player:
        for project in ("churn", "fraud"):
            request: dict[str, Any] = {"project": project}
            assert player.call("CreateWorkspace", request).error is None
        request = {"project": "fraud", "path": "outputs/a", "finish": True}
        request |= {"data": "YWJj"}
        assert player.call("WriteArtifact", [request]).error is None
        player.call("CreateWorkspace", {"project": "gone"})
        player.call("DeleteWorkspace", {"project": "gone", "force": True})
    return base


def test_a_clean_base_has_no_findings(made: Path) -> None:
    before = described(made)
    diagnosis = diagnose(made)
    assert (diagnosis.code, diagnosis.codes) == (0, [])
    assert diagnosis.report["workspaces"] == 2
    assert described(made) == before


def _names(base: Path) -> set[str]:
    # Unlike rglob(), walk() tolerates what a server removes meanwhile.
    return {
        (Path(directory) / name).relative_to(base).as_posix()
        for directory, directories, files in os.walk(base)
        for name in directories + files
    }


def test_every_name_that_the_server_makes_is_known(made: Path) -> None:
    """Of service/core/layout.h: what a server that has stopped may leave behind."""
    template = made / ".templates/tabular"
    (template / "files/outputs").mkdir(parents=True)
    (template / "files/outputs/start").write_text("x")
    (template / "template.yaml").write_text("metadata: {a: 1}\n")
    (made / "lost+found").mkdir()
    log = made / ".workspaced/log"
    with Server(made, "--log-file", str(log)) as server, Python(server) as player:

        def do(method: str, request: Any) -> None:
            result = player.call(method, request)
            assert result.error is None, result

        do("CreateWorkspace", {"project": "new", "template": "tabular"})
        do("AcquireLease", {"project": "new", "holder": "a", "ttl": "3600s"})
        clone = {"project": "fraud", "destination_project": "clone"}
        do("CloneWorkspace", clone)
        for upload_id, finish in (("begun", False), ("done", True)):
            upload = {"project": "fraud", "path": "models/m", "upload_id": upload_id}
            do("WriteArtifact", [{**upload, "data": "YWJj", "finish": finish}])
        for project in ("churn", "clone"):
            do("DeleteWorkspace", {"project": project, "force": True})
    # The first release named deleted workspaces without a purge time.
    gone = next((made / ".trash").glob("*.gone"))
    time_, rest = gone.name.split("-", 1)
    gone.rename(gone.with_name(f"{time_}.{rest.split('.', 1)[1]}"))
    # What --repair moves aside.
    checkpoint = (made / ".workspaced/checkpoint").read_bytes()
    (made / ".workspaced/checkpoint").write_text("x")
    assert run_doctor(made, "--repair").returncode == 0
    (made / ".workspaced/checkpoint").write_bytes(checkpoint)
    expected = {
        ".staging",
        ".templates/tabular/files/outputs/start",
        ".workspaced/.gitignore",
        ".workspaced/checkpoint",
        ".workspaced/fences",
        ".workspaced/leases/new",
        ".workspaced/lock",
        ".workspaced/log",
        "fraud/.uploads/begun.json",
        "fraud/.uploads/begun.part",
        "fraud/.uploads/done.json",
        "new/outputs/start",
    }
    assert expected <= _names(made)
    assert list((made / ".workspaced").glob("doctor-*"))
    diagnosis = diagnose(made)
    assert (diagnosis.code, diagnosis.codes) == (0, [])


def test_what_a_crash_leaves_behind_is_no_foreign_entry(made: Path) -> None:
    """Of service/core/layout.h: the names that the next server removes."""
    id_ = "0" * 32
    files = [
        f".workspaced/fences.{id_}",
        f".workspaced/leases/.fraud.{id_}",
        f"fraud/.workspace.yaml.{id_}",
        f"fraud/.uploads/{id_}.tmp",
    ]
    directories = [
        f".staging/{id_}",
        f".trash/0.{id_}.fraud",
        f".trash/0-0.{id_}.fraud",
        f".trash.0.{id_}.fraud",
        f"fraud/.uploads/{id_}.trash",
        f"fraud/.uploads.{id_}.trash",
    ]
    for path in files:
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text("x")
    for path in directories:
        (made / path).mkdir(parents=True)
    diagnosis = diagnose(made)
    assert diagnosis.code == 0, diagnosis.report
    assert len(diagnosis.codes) == len(files) + len(directories) - 2
    assert not [code for code in diagnosis.codes if "foreign" in code]
    with Server(made) as server:
        record = {"project": "fraud", "metadata": {"a": 1}}
        answer(server, "UpdateWorkspace", workspace=record)
        wait_until(lambda: not [name for name in _names(made) if id_ in name])
    assert diagnose(made).codes == []


def test_a_finding_is_one_line_that_says_how_to_fix_it(made: Path) -> None:
    (made / "fraud/workspace.yaml").write_text("[")
    result = run_doctor(made)
    assert result.returncode == 1
    [line] = [text for text in result.stdout.splitlines() if "fraud" in text]
    assert line.startswith("error: fraud/workspace.yaml line ")
    assert line.endswith("[record-corrupt]")
    assert "Repair the line" in line
    assert result.stdout.splitlines()[-1].startswith("2 workspaces: 1 error")


def _edit(path: str, text: str) -> Callable[[Path], object]:
    def damage(base: Path) -> None:
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text)

    return damage


def _moved_store(base: Path) -> None:
    old = "/former/fraud"
    with sqlite3.connect(base / "fraud/mlflow/mlflow.db") as store:
        store.executescript(f"{_MOVED} ('{old}'); CREATE TABLE runs (artifact_uri);")
        store.execute("INSERT INTO runs VALUES (?)", (f"{old}/mlflow/1",))
    store.close()


_REMOTE = "['remote \"r\"']\nurl = ../../../churn/dvc/remote\n"
# What is done to a base, the code of what must be found, and the exit code.
_DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "record-corrupt": (_edit("fraud/workspace.yaml", "["), 1),
    "record-missing": (lambda base: (base / "fraud/workspace.yaml").unlink(), 1),
    "record-temp": (_edit("fraud/.workspace.yaml.x", ""), 0),
    "directory-missing": (lambda base: (base / "fraud/models").rmdir(), 1),
    "foreign-directory": (lambda base: (base / "photos").mkdir(), 0),
    "foreign-file": (_edit("README", ""), 0),
    "staging-leftover": (_edit(".staging/x/workspace.yaml", ""), 0),
    "trash-foreign": (_edit(".trash/mine/file", ""), 1),
    "checkpoint-damaged": (_edit(".workspaced/checkpoint", "x"), 0),
    "lock-foreign-host": (
        _edit(".workspaced/lock", '{"pid": 7, "host": "elsewhere", "addresses": []}'),
        0,
    ),
    "upload-damaged": (_edit("fraud/.uploads/u.part", "abc"), 0),
    "name-unreachable": (
        lambda base: shutil.copytree(base / "fraud", base / "fraud copy"),
        1,
    ),
    "case-collision": (
        lambda base: shutil.copytree(base / "fraud", base / "Fraud"),
        1,
    ),
    "link-leaves": (lambda base: (base / "fraud/dvc/l").symlink_to("/etc"), 1),
    "special-file": (lambda base: os.mkfifo(base / "fraud/outputs/fifo"), 1),
    "mlflow-moved": (_moved_store, 1),
    "dvc-remote-elsewhere": (_edit("fraud/dvc/.dvc/config", _REMOTE), 1),
    "base-world-writable": (lambda base: base.chmod(0o777), 1),
}


@pytest.mark.parametrize("code", _DAMAGES)
def test_damage_is_found(code: str, made: Path) -> None:
    damage, exit_code = _DAMAGES[code]
    damage(made)
    before = described(made)
    diagnosis = diagnose(made)
    assert diagnosis.codes == [code]
    assert diagnosis.code == exit_code
    [finding] = [each for each in diagnosis.report["findings"] if each["code"] == code]
    assert finding["problem"] and finding["fix"]
    # It only read.
    assert described(made) == before


def test_a_base_that_cannot_be_looked_at_is_another_exit_code(base: Path) -> None:
    for args in ([], ["--repair"]):
        result = run_doctor(base / "missing", *args)
        assert (result.returncode, result.stdout) == (4, "")
        assert "cannot find the base directory" in result.stderr
    assert run_doctor(base, "--json", "--nonsense").returncode == 2


def test_repair_moves_aside_once_and_the_server_starts(made: Path) -> None:
    for code in ("record-temp", "directory-missing", "staging-leftover"):
        _DAMAGES[code][0](made)
    (made / "fraud/.workspace.yaml.x").write_text("half a record")
    repaired = diagnose(made, "--repair")
    assert (repaired.code, repaired.codes) == (0, [])
    assert len(repaired.report["repairs"]) == 3
    results = {each["path"]: each["result"] for each in repaired.report["repairs"]}
    kept = made / results["fraud/.workspace.yaml.x"]
    assert kept.read_text() == "half a record"
    assert (made / "fraud/models").is_dir()
    again = diagnose(made, "--repair")
    assert (again.code, again.report["repairs"]) == (0, [])
    with Server(made) as server, Python(server) as player:
        assert player.call("GetWorkspace", {"project": "fraud"}).error is None
    assert kept.read_text() == "half a record"


def test_repair_refuses_a_base_that_is_served(made: Path) -> None:
    (made / "fraud/.workspace.yaml.x").write_text("")
    with Server(made) as server:
        result = run_doctor(made, "--repair")
        assert (result.returncode, result.stdout) == (3, "")
        assert f"pid {server.pid}" in result.stderr
        assert (made / "fraud/.workspace.yaml.x").exists()
        assert diagnose(made).report["server"]["pid"] == server.pid


def _churn(server: Server, number: int, stop: threading.Event) -> None:
    """Creates, changes, fills and deletes workspaces until `stop` is set."""
    with Python(server) as player:

        def call(rpc: str, request: Any) -> None:
            error = player.call(rpc, request).error
            # The test may kill the server.
            assert error is None or error.code == "UNAVAILABLE", (rpc, error)

        for count in itertools.count():
            if stop.is_set():
                return
            named = {"project": f"p{number}-{count % 7}"}
            call("EnsureWorkspace", named)
            call("UpdateWorkspace", {"workspace": named | {"metadata": {"n": count}}})
            artifact = {"path": f"outputs/{count}/a", "data": "YQ==", "finish": True}
            call("WriteArtifact", [named | artifact])
            call("DeleteArtifact", named | {"path": f"outputs/{count}/a"})
            if count % 3 == 0:
                call("DeleteWorkspace", named | {"force": True, "permanent": True})


@contextmanager
def _busy(server: Server) -> Iterator[None]:
    stop = threading.Event()
    threads = [
        threading.Thread(target=_churn, args=(server, number, stop))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_beside_a_busy_server_nothing_is_found(made: Path) -> None:
    with Server(made) as server, _busy(server), server.connect() as channel:
        stub = pb_grpc.WorkspaceServiceStub(channel)
        go_on = threading.Event()

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="fraud", path="outputs/long", upload_id="u1", data=b"abc"
            )
            go_on.wait(30)
            yield pb.WriteArtifactRequest(finish=True)

        writing = Writing(stub, messages())
        for _ in range(8):
            diagnosis = diagnose(made)
            assert (diagnosis.code, diagnosis.codes) == (0, ["server-running"])
        go_on.set()
        writing.result()


def test_a_server_starts_while_the_base_is_examined(made: Path) -> None:
    for number in range(200):
        shutil.copytree(made / "fraud", made / f"copy{number}")
    stop = threading.Event()

    def examine() -> None:
        while not stop.is_set():
            run_doctor(made)

    thread = threading.Thread(target=examine)
    thread.start()
    try:
        for _ in range(5):
            with Server(made):
                time.sleep(0.05)
    finally:
        stop.set()
        thread.join()


def test_a_killed_server_leaves_nothing_that_needs_attention(made: Path) -> None:
    for _ in range(3):
        with Server(made) as server, _busy(server):
            time.sleep(0.3)
            server.kill()
        diagnosis = diagnose(made)
        assert diagnosis.code == 0, diagnosis.report
        assert "lock-left-over" in diagnosis.codes


def test_the_example_in_the_manual_runs(made: Path) -> None:
    manual = (REPO / "service/OPERATIONS.md").read_text()
    [block] = [each for each in read_blocks(manual) if each.name == "doctor"]
    (made / "churn/dvc").rmdir()
    (made / "fraud/workspace.yaml").write_text("project_name: fraud\nmetadata: [\n")
    code = block.code.replace("/var/lib/mlops-workspace", str(made))
    code = code.replace("sudo -u mlops-workspace workspaced", str(BINARY))
    result = subprocess.run(["sh", "-euc", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = [
        line
        for line in result.stdout.splitlines(keepends=True)
        if not any(f"[{code}" in line for code in OF_THE_MACHINE)
    ]
    # The summary counts what was left out above.
    printed = re.sub(r"\d+ notes?;", "0 notes;", "".join(lines))
    assert block.prints(printed), result.stdout
