"""A manager finds the server of its base directory, or starts one.

It does so from any process, thread, child or container, and again after the server has
stopped.
"""

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlops import local_server
from mlops.workspace import WorkspaceError, WorkspaceManager

from python.conftest import Script
from server.run import mounted
from support.server import BINARY, Server, locked, stop_server

_PATIENCE_S = 30
_HAS_READ_ONLY = (
    "--read-only"
    in subprocess.run([BINARY, "--help"], capture_output=True, text=True).stdout
)


def _lock(base: Path) -> Path:
    return base / ".workspaced/lock"


def _pid(base: Path, other_than: int = 0) -> int:
    """Returns the pid in the lock file, once it is not `other_than`.

    The server writes the lock file shortly after it has begun to answer.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(json.JSONDecodeError):
            if (pid := int(json.loads(_lock(base).read_text())["pid"])) != other_than:
                return pid
        time.sleep(0.01)
    raise TimeoutError(f"{_lock(base)} names no other server than {other_than}")


def _write_lock(base: Path, **owner: object) -> None:
    _lock(base).parent.mkdir(parents=True)
    _lock(base).write_text(json.dumps({"pid": 1, **owner}))


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"{pid} does not end"
        time.sleep(0.01)


def _unavailable(manager: WorkspaceManager) -> WorkspaceError:
    with pytest.raises(WorkspaceError) as caught:
        manager.get_workspace("fraud")
    assert (caught.value.operation, caught.value.workspace) == (
        "get_workspace",
        "fraud",
    )
    assert caught.value.details["code"] == "UNAVAILABLE"
    return caught.value


def test_a_new_manager_makes_its_base_and_starts_nothing(base: Path) -> None:
    assert not base.exists()
    assert WorkspaceManager(base_path=base).base_path == base
    assert list(base.iterdir()) == []


def test_the_server_is_on_its_own(base: Path, manager: WorkspaceManager) -> None:
    manager.list_workspaces()
    pid = _pid(base)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_the_server_outlives_who_started_it(script: Script, directory: Path) -> None:
    script(
        "from mlops.workspace import WorkspaceManager as M;"
        " M().create_workspace('fraud')"
    )
    pid = _pid(directory / "mlops/workspace")
    result = script(
        "from mlops.workspace import WorkspaceManager as M;"
        " print(M().get_workspace('fraud').project_name)"
    )
    assert result.stdout == "fraud\n", result.stderr
    assert _pid(directory / "mlops/workspace") == pid


def test_a_server_that_runs_is_used(base: Path, manager: WorkspaceManager) -> None:
    with Server(base) as server:
        manager.create_workspace("fraud")
        assert _pid(base) == server.pid


def test_twenty_processes_at_once_start_one_server(directory: Path) -> None:
    code = (
        "import sys; from mlops.workspace import WorkspaceManager as M;"
        " M().create_workspace(sys.argv[1])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"p{i}"],
            cwd=directory,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(20)
    ]
    assert [process.communicate(timeout=100)[1] for process in processes] == [""] * 20
    manager = WorkspaceManager(repo_root=directory)
    assert len(manager.list_workspaces()) == 20
    stop_server(manager.base_path)
    log = (manager.base_path / ".workspaced/log").read_text()
    assert log.count('"message":"serving') == 1


def test_sixteen_threads_share_a_manager(manager: WorkspaceManager) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = list(
            threads.map(
                lambda i: manager.get_or_create_workspace(f"p{i % 4}").project_name,
                range(64),
            )
        )
    assert made == [f"p{i % 4}" for i in range(64)]
    assert sorted(manager.workspaces) == ["p0", "p1", "p2", "p3"]


_FORK = """
import multiprocessing, os, threading
from mlops.workspace import WorkspaceManager
manager = WorkspaceManager()
manager.create_workspace("fraud")
stop = threading.Event()
def read():
    while not stop.is_set(): manager.get_workspace("fraud")
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads: thread.start()
for i in range(10):
    if (pid := os.fork()) == 0:
        manager.create_workspace(f"child-{i}")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
with multiprocessing.get_context("fork").Pool(4) as pool:
    pool.map(manager.get_workspace, [f"child-{i}" for i in range(10)])
print(len(manager.list_workspaces()))
"""


def test_children_may_be_forked_while_threads_make_calls(script: Script) -> None:
    result = script(_FORK)
    assert (result.stdout, result.stderr) == ("11\n", "")


def test_a_fork_that_grpc_was_not_told_of_is_an_error_and_no_hang(
    script: Script,
) -> None:
    before = (
        "import grpc, os\nfrom mlops.workspace import WorkspaceManager\n"
        "manager = WorkspaceManager()\n"
    )
    child = (
        "manager.list_workspaces()\n"
        "if os.fork() == 0: manager.list_workspaces()\nelse: os.wait()"
    )
    assert (
        "set GRPC_ENABLE_FORK_SUPPORT=1"
        in script(before + child, GRPC_ENABLE_FORK_SUPPORT="0").stderr
    )


@pytest.mark.parametrize(
    "variable", ["http_proxy", "grpc_proxy", "HTTP_PROXY", "https_proxy"]
)
def test_a_proxy_is_not_asked(
    variable: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with Server(base, "--listen", "127.0.0.1:0") as server:
        for address in server.addresses:
            assert WorkspaceManager(address=address).list_workspaces() == []


def test_the_variables_of_other_servers_are_not_for_ours(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of these would keep the server from starting, or delay it.
    monkeypatch.setenv("WORKSPACED_CONFIG", "/none.toml")
    monkeypatch.setenv("WORKSPACED_LISTEN", "0.0.0.0:0")
    monkeypatch.setenv("WORKSPACED_WORKERS", "none")
    monkeypatch.setenv("NOTIFY_SOCKET", "/none/notify")
    assert WorkspaceManager(base).get_or_create_workspace("a").project_name == "a"


def test_a_base_longer_than_a_sockets_name(base: Path) -> None:
    long_base = base / ("x" * 100) / ("y" * 100)
    manager = WorkspaceManager(long_base)
    try:
        assert manager.create_workspace("fraud").root_path == long_base / "fraud"
        assert WorkspaceManager(long_base).get_workspace("fraud").mlflow_path.is_dir()
    finally:
        stop_server(long_base)


@pytest.mark.parametrize(
    "name", ["a b", "é", "a#b", "a?b", "a%41b", "%", "a:b", "-x", "a\\b", "'\"$x"]
)
def test_a_base_of_any_name(name: str, base: Path) -> None:
    try:
        assert (
            WorkspaceManager(base / name).create_workspace("fraud").mlflow_path.is_dir()
        )
    finally:
        stop_server(base / name)


def test_a_pickled_manager_works(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud")
    copy = pickle.loads(pickle.dumps(manager))
    assert copy.get_workspace("fraud") == manager.get_workspace("fraud")


def test_a_relative_base_is_taken_when_the_manager_is_made(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.mkdir()
    monkeypatch.chdir(base.parent)
    manager = WorkspaceManager("base")
    monkeypatch.chdir("/")
    assert manager.create_workspace("fraud").root_path == base / "fraud"


def test_a_base_below_home(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(base.parent))
    assert WorkspaceManager("~/base").base_path == base


def test_a_base_behind_a_symbolic_link(base: Path, manager: WorkspaceManager) -> None:
    link = base.with_name("link")
    link.symlink_to(base)
    manager.create_workspace("fraud")
    linked = WorkspaceManager(link)
    assert linked.get_workspace("fraud").root_path == link / "fraud"
    assert _pid(link) == _pid(base)


def test_the_default_base(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    assert WorkspaceManager().base_path == directory / "mlops/workspace"
    assert WorkspaceManager(repo_root="/repo").base_path == Path(
        "/repo/mlops/workspace"
    )


def test_an_address_comes_before_the_base(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(base) as server:
        manager = WorkspaceManager(base.with_name("other"), address=server.address)
        assert manager.create_workspace("fraud").root_path == base / "fraud"
        monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", server.address)
        assert WorkspaceManager().base_path == base


def test_no_server_at_the_address(base: Path) -> None:
    error = _unavailable(WorkspaceManager(address=f"unix:{base}/none"))
    assert f"The server at unix:{base}/none does not answer; is it running?" in str(
        error
    )
    assert not base.exists()


@pytest.mark.parametrize(
    "address",
    ["nonsense", "host:", ":1", "host:0", "host:65536", "ftp://host:1", "unix:"],
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        WorkspaceManager(address=address)
    assert caught.value.operation == "connect"
    assert caught.value.details["reason"] == "FIELD_INVALID"
    assert caught.value.details["field"] == "address"


def test_a_server_that_cannot_start_says_why(base: Path) -> None:
    base.write_text("no directory")
    error = _unavailable(WorkspaceManager(base))
    assert str(error) == (
        f"No server for {base} can be started: cannot make the base directory {base}: "
        "Not a directory"
    )
    assert error.details["base_path"] == str(base)


_READ = """
import sys
from mlops.workspace import WorkspaceError, WorkspaceManager
manager = WorkspaceManager(sys.argv[1])
print([workspace.project_name for workspace in manager.list_workspaces()])
print(manager.get_or_create_workspace("fraud").metadata, \
manager.get_workspace_status("fraud")["file_count"])
print(WorkspaceManager(sys.argv[1]).server_info().features)
try:
    manager.create_workspace("other")
except WorkspaceError as error:
    print(error.operation, error.details["reason"], error.details["code"])
"""


@pytest.mark.skipif(not _HAS_READ_ONLY, reason="the server has no --read-only")
def test_a_base_that_cannot_be_written_is_read(base: Path) -> None:
    WorkspaceManager(base).create_workspace(
        "fraud", metadata={"a": 1}
    ).outputs_path.joinpath("f").write_text("x")
    stop_server(base)
    # The reader's socket lies below XDG_RUNTIME_DIR. A short idle timeout stops the
    # reader soon after the test.
    command = [
        "sh",
        "-c",
        'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"',
        str(base),
    ]
    command = [
        *mounted(Path("/mnt"), "size=1m")[:2],
        *command,
        sys.executable,
        "-c",
        _READ,
        str(base),
    ]
    environment = {
        **os.environ,
        "MLOPS_WORKSPACE_IDLE_TIMEOUT": "1s",
        "XDG_RUNTIME_DIR": str(base.parent),
    }
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S
    )
    lines = [
        "['fraud']",
        "{'a': 1} 1",
        "('read-only',)",
        "create_workspace READ_ONLY FAILED_PRECONDITION",
    ]
    assert result.stdout.splitlines() == lines, result.stderr


# Changes the user only after all imports, because the other user may not be allowed to
# read the package.
_LIST_AS_USER = """
import os, sys
from mlops.workspace import WorkspaceManager
import grpc._channel  # Which grpc imports late.
manager, user = WorkspaceManager(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
print(manager.list_workspaces())
"""
_NOBODY = 65534
_needs_a_second_user = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to become another user"
)


def _list_as(
    user: int, base: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _LIST_AS_USER, str(base), str(user)]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command,
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )


@_needs_a_second_user
@pytest.mark.parametrize(
    ("listen", "output"), [(["--listen", "127.0.0.1:0"], "[]\n"), ([], "")]
)
def test_another_users_server_is_reached_by_its_port(
    listen: list[str], output: str, base: Path
) -> None:
    base.parent.chmod(0o755)
    with Server(base, *listen):
        result = _list_as(_NOBODY, base)
    assert result.stdout == output, result.stderr
    assert output or "is served by another user's server" in result.stderr


@_needs_a_second_user
def test_the_server_of_a_user_who_is_not_trusted_is_not_used(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.parent.chmod(0o777)
    with Server(base, wrapper=_as_nobody(base)):
        with pytest.raises(
            WorkspaceError, match=r"is served by another user, (nobody|65534),"
        ) as caught:
            WorkspaceManager(base).list_workspaces()
        assert caught.value.details["code"] == "UNAVAILABLE"
        for trusted in ("65534", "nobody", "someone, 65534", "*"):
            monkeypatch.setenv("MLOPS_WORKSPACE_TRUSTED_USERS", trusted)
            assert WorkspaceManager(base).list_workspaces() == []
        for trusted in ("", "65533", "nobody-else"):
            monkeypatch.setenv("MLOPS_WORKSPACE_TRUSTED_USERS", trusted)
            with pytest.raises(WorkspaceError, match="TRUSTED_USERS"):
                WorkspaceManager(base).list_workspaces()


@_needs_a_second_user
def test_an_address_in_the_lock_of_another_user_is_not_used(
    base: Path, manager: WorkspaceManager
) -> None:
    with Server(base.with_name("there"), "--listen", "127.0.0.1:0") as server:
        _write_lock(
            base,
            host="other-host",
            addresses=[f"0.0.0.0:{server.addresses[-1].rpartition(':')[2]}"],
        )
        os.chown(_lock(base), _NOBODY, _NOBODY)
        with locked(base):
            assert "is served by another user" in str(_unavailable(manager))


def _as_nobody(base: Path) -> list[str | Path]:
    """Returns a command prefix that runs a copy of the server as user nobody.

    It runs a copy, because nobody may not be allowed to read the original. Also creates
    `base`, owned by nobody.
    """
    copy = base.with_name("workspaced-copy")
    shutil.copy(BINARY, copy)
    base.mkdir()
    os.chown(base, _NOBODY, _NOBODY)
    # $0 is the copy, which replaces the path of the binary.
    run = 'shift; exec "$0" "$@"'
    return [
        "setpriv",
        f"--reuid={_NOBODY}",
        f"--regid={_NOBODY}",
        "--clear-groups",
        "sh",
        "-c",
        run,
        copy,
    ]


def test_a_base_that_was_removed_starts_afresh(
    base: Path, manager: WorkspaceManager
) -> None:
    manager.create_workspace("fraud")
    pid = _pid(base)
    shutil.rmtree(base)
    assert manager.list_workspaces() == []
    manager.create_workspace("fraud")
    _wait_for_end(pid)
    assert manager.get_workspace("fraud").mlflow_path.is_dir()


def test_a_bad_idle_timeout_says_so(
    manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_IDLE_TIMEOUT", "soon")
    assert '"soon" is not a duration' in str(_unavailable(manager))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_was_stopped_is_started_again(
    base: Path, manager: WorkspaceManager, number: int
) -> None:
    manager.create_workspace("fraud")
    for name in ("second", "third"):
        pid = _pid(base)
        os.kill(pid, number)
        _wait_for_end(pid)
        manager.create_workspace(name)
        assert _pid(base, other_than=pid)
    assert [workspace.project_name for workspace in manager.list_workspaces()] == [
        "fraud",
        "second",
        "third",
    ]


def test_calls_go_on_while_servers_are_stopped(
    base: Path, manager: WorkspaceManager
) -> None:
    manager.create_workspace("fraud")
    done = threading.Event()

    def read() -> bool:
        while not done.is_set():
            manager.get_workspace("fraud")
        return True

    with ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(read) for _ in range(4)]
        for _ in range(3):
            stop_server(base)
            manager.get_workspace("fraud")
        done.set()
        assert all(read.result() for read in reads)


def test_an_idle_server_leaves_and_the_next_call_starts_one(
    base: Path, manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_IDLE_TIMEOUT", "200ms")
    manager.create_workspace("fraud")
    _wait_for_end(_pid(base))
    assert not _lock(base).read_text().strip()
    assert manager.get_workspace("fraud").project_name == "fraud"


# --- The host name in the lock file does not matter ---------------------------


def test_the_lock_file_of_another_host_keeps_nobody_out(
    base: Path, manager: WorkspaceManager
) -> None:
    _write_lock(
        base,
        host="other-host",
        addresses=[f"unix:{base}/.workspaced/socket", "127.0.0.1:50051"],
    )
    manager.create_workspace("fraud")
    assert json.loads(_lock(base).read_text())["host"] == socket.gethostname()


def test_a_server_that_holds_the_lock_and_cannot_be_reached_is_named(
    base: Path, manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "_ELSEWHERE_S", 0)
    _write_lock(
        base, host="other-host", addresses=["unix:/x/socket", "127.0.0.1:50051"]
    )
    with locked(base):
        error = _unavailable(manager)
    assert (
        "with pid 1 on host other-host, "
        "which listens on unix:/x/socket and 127.0.0.1:50051" in str(error)
    )
    assert "cannot be reached from here" in str(error)
    assert (error.details["pid"], error.details["host"]) == (1, "other-host")
    assert error.details["addresses"] == ["unix:/x/socket", "127.0.0.1:50051"]


def test_a_server_on_another_host_is_used_if_it_can_be_reached(
    base: Path, manager: WorkspaceManager
) -> None:
    with Server(
        base.with_name("there"), "--listen", "0.0.0.0:0", "--insecure"
    ) as server:
        port = server.addresses[-1].rpartition(":")[2]
        for address in (f"0.0.0.0:{port}", f"[::]:{port}"):
            shutil.rmtree(base / ".workspaced", ignore_errors=True)
            # The recorded host name marks the server as one on another host, although
            # it resolves to this one.
            _write_lock(base, host="localhost", addresses=["127.0.0.1:1", address])
            with locked(base):
                assert WorkspaceManager(base).server_info().base_path == str(
                    server.base
                )


_IN_CONTAINER = """
import sys
from mlops.workspace import WorkspaceManager
manager = WorkspaceManager(sys.argv[1])
manager.create_workspace(sys.argv[2])
print(sorted(workspace.project_name for workspace in manager.list_workspaces()))
"""


def _in_container(host: str, base: Path, project: str) -> str:
    """Creates a project from a container with host name `host`; returns all projects.

    The container has its own mount, host name, process and network namespaces. All its
    processes are killed when it ends. Skips the test where namespaces are unavailable.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    isolate = [
        "unshare",
        *user,
        "--mount",
        "--uts",
        "--pid",
        "--net",
        "--fork",
        "--mount-proc",
    ]
    enter = [*isolate, "sh", "-c", 'hostname "$0" && exec "$@"', host]
    probe = subprocess.run(
        [*enter, "true"], capture_output=True, text=True, timeout=_PATIENCE_S
    )
    if probe.returncode != 0:
        pytest.skip(f"needs namespaces: {probe.stderr.strip()}")
    command = [*enter, sys.executable, "-c", _IN_CONTAINER, str(base), project]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=_PATIENCE_S
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_base_outlives_its_container(base: Path) -> None:
    assert _in_container("c1", base, "one") == "['one']"
    # The server was killed, so its lock file still names the first container.
    assert json.loads(_lock(base).read_text())["host"] == "c1"
    assert _in_container("c2", base, "two") == "['one', 'two']"
    assert WorkspaceManager(base).get_workspace("two").is_local


def test_the_copy_of_a_base_that_is_served_may_be_served_elsewhere(base: Path) -> None:
    WorkspaceManager(base).create_workspace("one")
    copy = base.with_name("copy")
    archive = "cd $0 && tar -c --ignore-failed-read . | tar -x -C $1"
    copy.mkdir()
    subprocess.run(["sh", "-c", archive, str(base), str(copy)], check=True)
    assert _in_container("c1", copy, "two") == "['one', 'two']"
    assert not (base / "two").exists()


def test_a_container_uses_the_server_that_runs_outside_of_it(base: Path) -> None:
    with Server(base) as server:
        assert _in_container("c1", base, "one") == "['one']"
        assert _pid(base) == server.pid


def test_a_moved_base_is_not_written_by_its_old_server(base: Path) -> None:
    WorkspaceManager(base).create_workspace("fraud")
    old = _pid(base)
    moved = base.with_name("moved")
    base.rename(moved)
    try:
        made = WorkspaceManager(moved).create_workspace("other")
        assert made.root_path == moved / "other" and made.mlflow_path.is_dir()
        assert _pid(moved) != old and not base.exists()
    finally:
        stop_server(moved)


def test_what_a_dead_server_wrote_does_not_count(
    base: Path, manager: WorkspaceManager
) -> None:
    with Server(base.with_name("there"), "--listen", "127.0.0.1:0") as server:
        dead = [f"unix:{base}/.workspaced/socket", server.addresses[-1]]
        _write_lock(base, host=socket.gethostname(), addresses=dead)
        manager.create_workspace("fraud")
    assert (base / "fraud").is_dir()


@pytest.mark.parametrize("depth", [1, 20])
def test_the_copy_of_a_base_is_a_base_of_its_own(depth: int, base: Path) -> None:
    original, copy = (
        base.joinpath("original", *["long-name"] * depth),
        base.joinpath("copied", *["long-name"] * depth),
    )
    try:
        WorkspaceManager(original).create_workspace("fraud")
        copy.parent.mkdir(parents=True)
        subprocess.run(["cp", "-r", original, copy], check=True)
        WorkspaceManager(copy).delete_workspace("fraud", force=True)
        assert (original / "fraud").is_dir() and not (copy / "fraud").exists()
    finally:
        stop_server(copy)
        stop_server(original)


def test_a_lock_file_of_rubbish_does_not_count(
    base: Path, manager: WorkspaceManager
) -> None:
    _write_lock(base, addresses="x")
    _lock(base).write_bytes(b"\xff{]")
    assert manager.list_workspaces() == []


def test_a_second_server_leaves_with_a_code_of_its_own(base: Path) -> None:
    with Server(base) as server:
        second = subprocess.run(
            [BINARY, "--base", base],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        assert second.returncode == 3
        assert f"is already served by workspaced with pid {server.pid}" in second.stderr
