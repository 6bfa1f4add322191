"""Objects that are sent to other processes, and processes that lack a resource."""

import concurrent.futures
import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlops._toolkits.lazy import Lazy
from mlops.client import MLOpsClient
from mlops.workspace import ProjectWorkspace, WorkspaceManager

from python.conftest import Script
from support.server import BINARY, stop_server


@pytest.fixture
def kill() -> Iterator[list[Path]]:
    """A list to which tests add bases; their servers are stopped at the end."""
    bases: list[Path] = []
    yield bases
    for base in bases:
        stop_server(base)


_COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "oldest pickle": lambda value: pickle.loads(pickle.dumps(value, 2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", _COPIES.values(), ids=_COPIES)
def test_a_copy_is_as_good(
    way: Callable[[Any], Any], manager: WorkspaceManager
) -> None:
    client = MLOpsClient(
        "fraud",
        {"experiment_name": "e"},
        {"remote_path": "r"},
        workspace_manager=manager,
    )
    other: MLOpsClient = way(client)
    assert vars(other).keys() == vars(client).keys()
    assert (other.project_name, other.workspace, other.repo_root) == (
        "fraud",
        client.workspace,
        client.repo_root,
    )
    assert other.get_status()["project_name"] == "fraud"
    workspace: ProjectWorkspace = way(client.workspace)
    assert (workspace, workspace.etag, workspace.is_local) == (
        client.workspace,
        client.workspace.etag,
        True,
    )
    workspace.ensure_directories()
    assert way(manager).get_workspace("fraud") == workspace
    assert way([manager, workspace, client])[1] == workspace


def test_a_copy_of_a_client_makes_its_own_of_what_it_keeps_open(
    manager: WorkspaceManager,
) -> None:
    client = MLOpsClient("fraud", workspace_manager=manager)
    other = copy.copy(client)
    lazies = [name for name, value in vars(client).items() if isinstance(value, Lazy)]
    assert len(lazies) == 4
    for name in lazies:
        assert getattr(other, name) is not getattr(client, name)
        assert getattr(other, name)._make.__self__ is other


_GIVE_TO_WORKERS = """
import concurrent.futures, multiprocessing, sys
from mlops.client import MLOpsClient

def name(client):
    return client.get_status()["project_name"]

if __name__ == "__main__":
    clients = [MLOpsClient.from_project(project) for project in ("a", "b")]
    with concurrent.futures.ProcessPoolExecutor(2, \
mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        print(*pool.map(name, clients))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_client_is_given_to_workers(method: str, script: Script) -> None:
    result = script(_GIVE_TO_WORKERS, method)
    assert result.stdout == "a b\n", result.stderr


# --- Forks --------------------------------------------------------------------

_CLOSE_ALL = """
import os
from mlops.workspace import WorkspaceManager
manager = WorkspaceManager()
manager.create_workspace("fraud")
if (pid := os.fork()) == 0:
    os.closerange(3, 1024)
    for _ in range(3):
        try: print(manager.get_workspace("fraud").project_name, flush=True)
        except Exception as error: \
print(error.details["code"], str(error)[:57], flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(manager.get_workspace("fraud").project_name)
"""


def test_a_child_that_closes_its_descriptors_works_or_is_told(script: Script) -> None:
    result = script(_CLOSE_ALL)
    told = "UNAVAILABLE This process has closed file descriptors that gRPC uses, "
    lines = result.stdout.splitlines()
    assert lines in (["fraud"] * 4, [told[:69]] * 3 + ["fraud"]), (
        result.stdout,
        result.stderr[-500:],
    )
    assert result.stderr == ""


def test_a_process_that_closes_its_descriptors_is_told(script: Script) -> None:
    code = (
        _CLOSE_ALL.partition("if (pid")[0]
        + "os.closerange(3, 1024)\nmanager.list_workspaces()"
    )
    result = script(code)
    assert (
        "WorkspaceError: This process has closed file descriptors that gRPC uses"
        in result.stderr
    )
    assert len(result.stderr.splitlines()) < 50


_FORKS = """
import os, signal, threading
from mlops.workspace import WorkspaceManager
manager = WorkspaceManager()
manager.create_workspace("fraud")
stop, failed = threading.Event(), []
def read():
    while not stop.is_set(): manager.get_workspace("fraud")
def fork():
    for _ in range(15):
        if (pid := os.fork()) == 0:
            signal.alarm(30)  # Ends a child that hangs.
            manager.get_workspace("fraud")
            os._exit(0)
        if os.waitpid(pid, 0)[1]: failed.append(pid)
readers, forkers = ([threading.Thread(target=f) for _ in range(3)] \
for f in (read, fork))
for thread in readers + forkers: thread.start()
for thread in forkers: thread.join()
stop.set()
for thread in readers: thread.join()
print(len(failed), manager.get_workspace("fraud").project_name)
"""


def test_three_threads_fork_while_three_call(script: Script) -> None:
    result = script(_FORKS)
    assert result.stdout == "0 fraud\n", result.stderr[-3000:]


def test_a_child_makes_what_another_thread_of_its_parent_was_making(
    script: Script,
) -> None:
    code = """
import os, threading
from mlops._toolkits.lazy import Lazy
begun, done = threading.Event(), threading.Event()
parent = os.getpid()
def make():
    if os.getpid() == parent:
        begun.set()
        done.wait()
    return os.getpid()
lazy = Lazy(make)
thread = threading.Thread(target=lazy)
thread.start()
begun.wait()
if (pid := os.fork()) == 0:
    os._exit(0 if lazy() == os.getpid() else 1)
print(os.waitpid(pid, 0)[1])
done.set()
thread.join()
print(lazy() == parent)
"""
    assert script(code).stdout == "0\nTrue\n"


# --- Missing resources --------------------------------------------------------


def test_too_few_descriptors_are_said_so_at_once(base: Path) -> None:
    code = """
import resource, sys
from mlops.workspace import WorkspaceManager
manager = WorkspaceManager(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
manager.list_workspaces()
"""
    for limit in (16, 24, 32):
        command = [sys.executable, "-c", code, str(base), str(limit)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert f"may open {limit} files only" in result.stderr.splitlines()[-1], (
            result.stderr
        )
        assert "ulimit -n" in result.stderr.splitlines()[-1]
    assert not (base / ".workspaced").exists()


def test_a_server_with_too_few_descriptors_says_so(base: Path) -> None:
    command = ["sh", "-c", 'ulimit -n 32; exec "$@"', "sh", BINARY, "--base", base]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "workspaced: this process may open 32 files only (RLIMIT_NOFILE)"
    )
    assert len(result.stderr.splitlines()) == 1


def test_no_temporary_directory_is_needed(script: Script) -> None:
    code = """
import os, tempfile
tempfile.tempdir = None
tempfile._candidate_tempdir_list = lambda: ["/nonexistent"]
from mlops.workspace import WorkspaceManager
print(WorkspaceManager().get_or_create_workspace("fraud").project_name)
"""
    result = script(code, TMPDIR="/nonexistent")
    assert result.stdout == "fraud\n", result.stderr


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "#!/bin/sh\n"
            "echo \"$0: /lib/libc.so.6: version \\`GLIBC_2.36' not found"
            ' (required by $0)" >&2; exit 1',
            "the C library of this system is older than workspaced needs",
        ),
        ("#!/no/such/loader\n", "this system has no GNU C library"),
        ("\x7fELF", "Exec format error"),
    ],
    ids=["old glibc", "no glibc", "another processor"],
)
def test_a_system_that_cannot_run_the_server_is_told_why(
    program: str,
    sentence: str,
    base: Path,
    manager: WorkspaceManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binary = base.with_name("program")
    binary.write_text(program)
    binary.chmod(0o755)
    monkeypatch.setattr("mlops.local_server.BINARY", binary)
    with pytest.raises(Exception, match=sentence) as caught:
        manager.list_workspaces()
    assert "\n" not in str(caught.value)


def test_files_without_fsspec_name_the_extra(script: Script) -> None:
    result = script("import sys; sys.modules['fsspec'] = None\nimport mlops.fs")
    assert result.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: fsspec is not installed; install it by: "
        "pip install 'mlops-workspace[fs]'"
    )


# --- Base directories with any name -------------------------------------------

_NAMES = [
    bytes([byte])
    for byte in (*range(1, 47), *range(58, 65), *range(91, 97), *range(123, 128))
]
_ODD = [
    b"a,b",
    b",",
    b"a\nb",
    b"%2C",
    b"\xff\xfe",
    "é".encode("latin-1"),
    b"{x}$HOME~",
    b"\xed\xa0\x80",
    b"'\"`\\",
]


@pytest.mark.parametrize(
    "name", [*_ODD, b"".join(_NAMES)], ids=lambda name: repr(name)[:20]
)
def test_a_base_of_any_bytes(name: bytes, base: Path, kill: list[Path]) -> None:
    odd = Path(os.fsdecode(os.fsencode(base) + b"/" + name))
    kill.append(odd)
    manager = WorkspaceManager(odd)
    made = manager.create_workspace("fraud", metadata={"a": 1})
    assert made.root_path == odd / "fraud" and (odd / "fraud/workspace.yaml").is_file()
    (made.outputs_path / "f").write_text("x")
    assert [w.project_name for w in manager.list_workspaces()] == ["fraud"]
    assert manager.get_workspace_status("fraud", counts_only=True)[
        "outputs_path"
    ] == str(made.outputs_path)
    manager.update_workspace_metadata("fraud", metadata={"b": 2})
    made = manager.get_workspace("fraud")
    made.metadata["c"] = 3
    made.save_metadata()
    assert manager.get_workspace("fraud").metadata == {"a": 1, "b": 2, "c": 3}
    assert ProjectWorkspace.load_metadata(odd / "fraud").metadata == {
        "a": 1,
        "b": 2,
        "c": 3,
    }
    assert sorted(os.listdir(base)) == [odd.name]
    assert MLOpsClient("fraud", base_path=odd).get_status()["workspace"][
        "root_path"
    ] == str(made.root_path)
    assert manager.server_info().workspace_count == 1
    manager.delete_workspace("fraud", force=True)
    assert manager.undelete_workspace("fraud").root_path == odd / "fraud"


def test_sixteen_threads_at_a_base_with_a_comma(base: Path, kill: list[Path]) -> None:
    manager = WorkspaceManager(base / "a,b")
    kill.append(base / "a,b")
    barrier = threading.Barrier(16)

    def make(i: int) -> str:
        barrier.wait()
        return manager.get_or_create_workspace(f"p{i}").project_name

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(make, range(16))) == sorted(
            f"p{i}" for i in range(16)
        )
    manager.close()
    assert len(manager.list_workspaces()) == 16
