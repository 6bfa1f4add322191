"""Base directories that move or vanish under a running server, and the base's locks."""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.players import Python
from server.run import answer, log_lines, refusal, strace
from support.server import Server

_EVENTUALLY_S = 20


def _remove_lock(base: Path) -> None:
    (base / ".workspaced/lock").unlink()


def _remove_server_dir(base: Path) -> None:
    shutil.rmtree(base / ".workspaced")


def _move(base: Path) -> None:
    base.rename(base.with_name("moved"))


def _replace(base: Path) -> None:
    _move(base)
    base.mkdir()


_LOSSES = [_remove_lock, _remove_server_dir, _move, _replace, shutil.rmtree]
Loss = Callable[[Path], None]


@pytest.mark.parametrize("lose", _LOSSES)
def test_a_server_that_lost_its_base_stops(base: Path, lose: Loss) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        lose(base)
        assert server.wait() == 0
        assert any(
            "moved, removed or replaced" in line.get("message", "")
            for line in log_lines(server)
        )


@pytest.mark.parametrize("lose", _LOSSES)
@pytest.mark.parametrize(
    "rpc", ["GetWorkspace", "EnsureWorkspace", "UpdateWorkspace", "ListWorkspaces"]
)
def test_the_first_call_afterwards_is_refused(base: Path, lose: Loss, rpc: str) -> None:
    request = (
        {"workspace": {"project": "a", "dvc_remote_path": "x"}}
        if rpc == "UpdateWorkspace"
        else {"project": "a"}
    )
    with Server(base) as server, Python(server) as player:
        player.call("EnsureWorkspace", {"project": "a"})
        lose(base)
        outcome = player.call(rpc, {} if rpc == "ListWorkspaces" else request)
        # There is no ErrorInfo if the server has closed the connection already.
        assert outcome.error is not None and outcome.error.code == "UNAVAILABLE"
        assert [info.reason for info in outcome.error.infos] in (["SHUTTING_DOWN"], [])
        server.wait()


def test_nothing_is_made_under_the_old_path(base: Path) -> None:
    log = base / ".workspaced/log"
    base.mkdir()
    (base / ".workspaced").mkdir()
    with Server(base, "--log-file", str(log)) as server, Python(server) as player:
        player.call("EnsureWorkspace", {"project": "a"})
        _move(base)
        player.call("EnsureWorkspace", {"project": "b"})
        player.call("DeleteWorkspace", {"project": "a", "force": True})
        server.wait()
    moved = base.with_name("moved")
    assert not base.exists()
    assert (moved / "a/workspace.yaml").exists() and not (moved / "b").exists()


def test_a_moved_base_is_served_where_it_is(base: Path) -> None:
    moved = base.with_name("moved")
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        _move(base)
        # The old server holds the lock on the directory, wherever that is now, until it
        # has exited.
        deadline = time.monotonic() + _EVENTUALLY_S
        while True:
            try:
                with Server(moved) as successor:
                    found = answer(successor, "GetWorkspace", project="a")
            except RuntimeError as error:
                assert "ended with 3" in str(error) and time.monotonic() < deadline
                time.sleep(0.05)
                continue
            break
        assert found["root_path"] == str(moved / "a")
        assert server.wait() == 0


@pytest.mark.parametrize("lose", [_remove_lock, _remove_server_dir])
def test_nobody_else_serves_or_sweeps_while_the_first_lives(
    base: Path, lose: Loss
) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        (base / ".staging/being-made").mkdir()
        # While it is stopped, the first server cannot notice the loss.
        os.kill(server.pid, signal.SIGSTOP)
        try:
            lose(base)
            before = sorted(base.rglob("*"))
            assert refusal("--base", base).code == 3
            assert sorted(base.rglob("*")) == before
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert server.wait() == 0


def test_where_directories_cannot_be_locked_the_socket_tells(base: Path) -> None:
    # On NFS everyone gets the lock on the directory. This simulates it by a failing
    # flock(2).
    with Server(base) as server:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            _remove_lock(base)
            before = sorted(base.rglob("*"))
            refused = refusal(
                "--base", base, wrapper=tuple(strace("flock:error=EBADF"))
            )
            assert refused.code == 3 and sorted(base.rglob("*")) == before
        finally:
            os.kill(server.pid, signal.SIGCONT)
        server.wait()


def test_what_a_dead_server_of_another_host_wrote_is_no_hindrance(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        server.kill()
    lock = base / ".workspaced/lock"
    lock.write_text(lock.read_text().replace('"host":"', '"host":"another-'))
    with Server(base) as server:
        assert answer(server, "GetWorkspace", project="a")["project"] == "a"


def test_a_lock_of_the_directory_is_enough(base: Path) -> None:
    base.mkdir()
    directory = os.open(base, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        assert refusal("--base", base).code == 3
        assert list(base.iterdir()) == []
    finally:
        os.close(directory)


def test_an_address_in_use_is_found_before_anything_is_swept(base: Path) -> None:
    with Server(base.with_name("other"), "--listen", "127.0.0.1:0") as other:
        (base / ".staging/left").mkdir(parents=True)
        assert refusal("--base", base, "--listen", other.addresses[1]).code == 1
        assert (base / ".staging/left").exists()
    with Server(base):
        assert not (base / ".staging/left").exists()


def test_health_says_that_the_base_is_lost(base: Path) -> None:
    with Server(base, "--drain-timeout", "5m") as server, server.connect() as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(watch) == b"\x08\x01"
        _move(base)
        assert next(watch) == b"\x08\x02"
        watch.cancel()
        assert server.wait() == 0


def test_git_leaves_the_servers_own_files_alone(base: Path) -> None:
    with Server(base):
        assert (base / ".workspaced/.gitignore").read_text() == "*\n"
    (base / ".workspaced/.gitignore").write_text("# mine\n")
    with Server(base):
        assert (base / ".workspaced/.gitignore").read_text() == "# mine\n"


@pytest.mark.parametrize("name", [".workspaced", ".workspaced/lock", ".workspaced/log"])
def test_links_below_the_base_are_not_followed(base: Path, name: str) -> None:
    target = base.with_name("target")
    if name == ".workspaced":
        target.mkdir()
    else:
        target.write_text("")
    (base / name).parent.mkdir(parents=True)
    (base / name).symlink_to(target)
    log = ["--log-file", base / ".workspaced/log"] if name.endswith("log") else []
    refused = refusal("--base", base, *log)
    assert (
        refused.code == 1
        and str(base / name) in refused.sentence
        and "link" in refused.sentence
    )
    assert (
        (list(target.iterdir()) == [])
        if target.is_dir()
        else (target.read_text() == "")
    )


def test_a_log_elsewhere_may_be_a_link(base: Path) -> None:
    link = base.with_name("link.log")
    link.symlink_to(base.with_name("target.log"))
    with Server(base, "--log-file", str(link)) as server:
        answer(server, "EnsureWorkspace", project="a")
    assert "EnsureWorkspace" in link.read_text()


def test_strangers_who_can_write_in_the_base_are_named_in_the_log(base: Path) -> None:
    base.mkdir()
    base.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(base, 12345, -1)
    with Server(base) as server:
        pass
    warnings = [
        line.get("message", "")
        for line in log_lines(server)
        if line["level"] == "warning"
    ]
    assert any("every user" in warning for warning in warnings)
    assert os.geteuid() != 0 or any("12345" in warning for warning in warnings)
