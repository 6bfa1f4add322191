"""Servers with --wait, which stand by until the server of their base ends."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2_grpc

from conformance.players import (
    GRPCURL,
    SERVICE,
    Cpp,
    Error,
    make_requests,
    rpc_error,
)
from server.run import log_lines
from support.server import BINARY, Server

_NAMES = itertools.count()
_PATIENCE_S = 20
_SERVING, _NOT_SERVING = 1, 2


class Active(Server):
    """The server that serves, which listens on `tcp` too."""

    def __init__(self, base: Path, *args: str) -> None:
        super().__init__(base, "--listen", "127.0.0.1:0", *args)

    @property
    def tcp(self) -> str:
        return self.addresses[-1]


class Standby(Server):
    """A server with --wait, which listens on `tcp`. Entering waits for it to stand by.

    `exit_code` is the one expected at the end.
    """

    def __init__(self, base: Path, *args: str, exit_code: int = 0) -> None:
        super().__init__(base, "--wait", "--listen", "127.0.0.1:0", *args)
        self._name = f"standby-{next(_NAMES)}.log"
        self._exit_code = exit_code
        self.tcp = ""

    @property
    def _log(self) -> Path:
        return self.base.with_name(self._name)

    def _wait_for_addresses(self) -> list[str]:
        while not (told := self._told()):
            self._check_runs()
            time.sleep(0.01)
        self.tcp = told
        return [told]

    def _wait_until_serving(self) -> None:
        assert health(self.tcp) == _NOT_SERVING

    def wait_to_serve(self) -> None:
        """Waits until it serves; then `address` is that of its Unix socket."""
        wait_until(lambda: health(self.tcp) == _SERVING)
        self.addresses = super()._wait_for_addresses()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.terminate()
        code = self.wait()
        assert kind or code in (self._exit_code, -signal.SIGKILL), self.output

    def _told(self) -> str:
        """Returns the address that it has printed, or ""."""
        _, found, rest = self.output.partition(" stands by on ")
        return rest.partition(": ")[0] if found else ""


@dataclass(frozen=True)
class Both:
    """An address list, as an object that players accept."""

    address: str


@pytest.fixture
def active(base: Path) -> Iterator[Active]:
    with Active(base) as server:
        yield server


@pytest.fixture
def standby(active: Active) -> Iterator[Standby]:
    with Standby(active.base) as server:
        yield server


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def health(address: str, service: str = SERVICE.full_name) -> int | None:
    """Returns the status of a health check, or None if the server cannot be reached."""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = b"\n" + bytes([len(service)]) + service.encode()
        try:
            return int(check(request, timeout=_PATIENCE_S)[1])
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return None


def refusal(address: str, rpc: str, request: Any) -> Error:
    """Returns the error of a call that must fail."""
    with grpc.insecure_channel(address) as channel:
        stub = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            answer = getattr(stub, rpc)(
                make_requests(rpc, request), timeout=_PATIENCE_S
            )
            if SERVICE.methods_by_name[rpc].server_streaming:
                list(answer)
    return rpc_error(caught.value)


def page(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- While it stands by ---


@pytest.mark.parametrize("service", ["", SERVICE.full_name])
def test_health_is_not_serving(standby: Standby, service: str) -> None:
    assert health(standby.tcp, service) == _NOT_SERVING


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("GetServerInfo", {}),
        ("DeleteWorkspace", {"project": "a"}),
        ("StreamWorkspaceStatuses", {}),
        ("WriteArtifact", [{"project": "a", "path": "models/m"}]),
    ],
)
def test_calls_are_refused_and_told_who_serves(
    active: Active, standby: Standby, rpc: str, request_: Any
) -> None:
    error = refusal(standby.tcp, rpc, request_)
    assert error.code == "UNAVAILABLE"
    assert [info.reason for info in error.infos] == ["SHUTTING_DOWN"]
    assert f"stands by and did not begin this call: {active.base}" in error.message
    assert f"workspaced with pid {active.pid}" in error.message
    assert active.tcp in error.message


def test_grpcurl_shows_the_same(active: Active, standby: Standby) -> None:
    rpc = f"{SERVICE.full_name}/GetServerInfo"
    command = [GRPCURL, "-plaintext", standby.tcp, rpc]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert f"workspaced with pid {active.pid}" in result.stderr


def test_strangers_do_not_learn_who_serves(base: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    command = [BINARY, "token", "robot", "--tokens", tokens]
    subprocess.run(command, check=True, capture_output=True)
    flags = ("--tokens", str(tokens))
    with Active(base, *flags) as active, Standby(base, *flags) as standby:
        error = refusal(standby.tcp, "GetServerInfo", {})
        assert error.infos[0].reason == "SHUTTING_DOWN"
        assert str(base) not in error.message
        assert str(active.pid) not in error.message


def test_a_file_that_changes_is_read(base: Path, tmp_path: Path) -> None:
    """A token that was revoked while the server stood by is never accepted."""
    tokens = tmp_path / "tokens"
    command = [BINARY, "token", "robot", "--tokens", tokens]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    with Active(base) as active, Standby(base, "--tokens", str(tokens)) as standby:
        tokens.write_text("# Nobody.\n")
        wait_until(lambda: len(log_lines(standby)) > 0)
        assert "tokens file" in log_lines(standby)[0]["message"].lower()
        active.kill()
        standby.wait_to_serve()
        manager = WorkspaceManager(address=standby.tcp, token=made.stdout.strip())
        with pytest.raises(WorkspaceError, match="does not know this token"):
            manager.server_info()


def test_readyz_says_that_it_stands_by_until_it_serves(active: Active) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    with Standby(active.base, "--metrics", metrics) as standby:
        status, text = page(metrics, "/readyz")
        assert status == 503 and f"pid {active.pid}" in text
        assert page(metrics, "/healthz")[0] == 200
        assert "process_start_time_seconds" in page(metrics, "/metrics")[1]
        active.kill()
        standby.wait_to_serve()
        assert page(metrics, "/readyz")[0] == 200


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_at_once(
    active: Active, standby: Standby, stop: signal.Signals
) -> None:
    begin = time.monotonic()
    os.kill(standby.pid, stop)
    assert standby.wait() == 0
    assert time.monotonic() - begin < 1
    assert health(active.tcp) == _SERVING


def test_sighup_does_not_end_it_with_a_configuration_file(
    active: Active, tmp_path: Path
) -> None:
    config = tmp_path / "workspaced.toml"
    config.write_text("workers = 4\n")
    with Standby(active.base, "--config", str(config)) as standby:
        os.kill(standby.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert health(standby.tcp) == _NOT_SERVING


def test_without_addresses_it_only_waits(active: Active) -> None:
    command = [BINARY, "--base", active.base, "--wait"]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert " stands by: " in waiting.stdout.readline()
    active.kill()
    assert " serves " in waiting.stdout.readline()
    waiting.terminate()
    waiting.communicate(timeout=_PATIENCE_S)
    assert waiting.returncode == 0


def test_it_ends_when_the_base_has_gone(active: Active) -> None:
    with Standby(active.base, exit_code=1) as standby:
        shutil.rmtree(active.base)
        assert active.wait() == 0
        assert standby.wait() == 1
        last = standby.output.splitlines()[-1]
        assert f"cannot lock the base directory {active.base}" in last
    assert not active.base.exists()


def test_it_does_not_touch_the_log_file_of_the_server(base: Path) -> None:
    log = base / ".workspaced/log"
    flags = ("--log-file", str(log))
    with Active(base, *flags) as active, Standby(base, *flags) as standby:
        wait_until(lambda: log.read_text().count("serving") == 1)
        before = log.read_text()
        active.kill()
        standby.wait_to_serve()
        wait_until(lambda: log.read_text().count("serving") == 2)
        assert log.read_text().startswith(before)


# --- Taking over ---


@pytest.mark.parametrize("clean", [True, False])
def test_it_serves_within_a_second(
    active: Active, standby: Standby, clean: bool
) -> None:
    WorkspaceManager(address=active.tcp).create_workspace("fraud")
    if clean:
        active.terminate()
        assert active.wait() == 0
    else:
        active.kill()
    begin = time.monotonic()
    wait_until(lambda: health(standby.tcp) == _SERVING)
    assert time.monotonic() - begin < 1
    manager = WorkspaceManager(address=standby.tcp)
    assert manager.get_workspace("fraud").project_name == "fraud"


def test_exactly_one_of_three_takes_over(active: Active) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(Standby(active.base)) for _ in range(3)]
        holder: Server = active
        while waiting:
            holder.kill()
            holder = _successor(waiting)


def _successor(waiting: list[Standby]) -> Standby:
    """Removes the server that has taken over, and returns it."""
    wait_until(lambda: _SERVING in [health(each.tcp) for each in waiting])
    (successor,) = [each for each in waiting if health(each.tcp) == _SERVING]
    waiting.remove(successor)
    successor.wait_to_serve()
    wait_until(lambda: all(_names(each, successor) for each in waiting))
    assert all(health(each.tcp) == _NOT_SERVING for each in waiting)
    return successor


def _names(standby: Standby, holder: Standby) -> bool:
    error = refusal(standby.tcp, "GetServerInfo", {})
    return f"pid {holder.pid} " in error.message and holder.tcp in error.message


# --- Under load ---


class Load(threading.Thread):
    """Changes its own workspace until stopped.

    `acknowledged` counts the calls, of which the last set the value `value`.
    """

    def __init__(self, addresses: str, number: int) -> None:
        super().__init__()
        self.project = f"client-{number}"
        self.acknowledged, self.value = 0, ""
        self.problem: object = None
        self.stopped = threading.Event()
        self._addresses = addresses

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                change = self.connect(stack)
                for value in map(str, itertools.count()):
                    if self.stopped.is_set():
                        return
                    change(value)
                    self.value = value
                    self.acknowledged += 1
        except BaseException as error:
            self.problem = error

    def connect(self, stack: ExitStack) -> Callable[[str], object]:
        """Creates the workspace and returns a function that sets its value."""
        raise NotImplementedError


class PythonLoad(Load):
    def connect(self, stack: ExitStack) -> Callable[[str], object]:
        manager = stack.enter_context(WorkspaceManager(address=self._addresses))
        manager.get_or_create_workspace(self.project)

        def change(value: str) -> None:
            # A create with a request_id may be sent twice.
            name = f"{self.project}-{value}"
            manager.create_workspace(name, request_id=name)
            manager.update_workspace_metadata(self.project, dvc_remote_path=value)

        return change


class FilesLoad(Load):
    """Uploads files, of which each has its value as content, many times over."""

    def connect(self, stack: ExitStack) -> Callable[[str], object]:
        from mlops.fs import WorkspaceFileSystem

        manager = stack.enter_context(WorkspaceManager(address=self._addresses))
        manager.get_or_create_workspace(self.project)
        files = WorkspaceFileSystem(address=self._addresses, by_path=False)

        def change(value: str) -> None:
            files.pipe_file(f"{self.project}/models/m", value.encode() * 1_000_000)
            manager.update_workspace_metadata(self.project, dvc_remote_path=value)

        return change


class CppLoad(Load):
    def connect(self, stack: ExitStack) -> Callable[[str], object]:
        player = stack.enter_context(Cpp(Both(self._addresses)))  # type: ignore[arg-type]

        def call(rpc: str, **request: Any) -> None:
            outcome = player.call(rpc, request)
            assert outcome.error is None, outcome.error

        call("EnsureWorkspace", project=self.project)
        return lambda value: call(
            "UpdateWorkspace",
            workspace={"project": self.project, "dvc_remote_path": value},
        )


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("load", [PythonLoad, FilesLoad, CppLoad])
def test_no_call_fails_and_no_acknowledged_change_is_lost(
    base: Path, load: type[Load], clean: bool
) -> None:
    if load is FilesLoad:
        pytest.importorskip("fsspec")
    with ExitStack() as stack:
        active = stack.enter_context(Active(base, "--log-calls", "off"))
        standby = stack.enter_context(Standby(base, "--log-calls", "off"))
        addresses = f"{active.tcp},{standby.tcp}"
        clients = [load(addresses, i) for i in range(4)]
        stack.callback(_stop, clients)
        for client in clients:
            client.start()
        _wait_for_progress(clients)
        if clean:
            active.terminate()
            assert active.wait() == 0
        else:
            active.kill()
        _wait_for_progress(clients)
        _stop(clients)
        assert [client.problem for client in clients] == [None] * len(clients)
        _check(standby.tcp, clients)


def _wait_for_progress(clients: list[Load]) -> None:
    """Waits until each client has got a few answers more, or has failed."""
    before = [client.acknowledged for client in clients]
    wait_until(
        lambda: all(
            client.acknowledged >= count + 5 or client.problem is not None
            for client, count in zip(clients, before, strict=True)
        )
    )


def _stop(clients: list[Load]) -> None:
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join()


def _check(address: str, clients: list[Load]) -> None:
    with WorkspaceManager(address=address) as manager:
        projects = {each.project_name for each in manager.list_workspaces()}
        for client in clients:
            workspace = manager.get_workspace(client.project)
            assert workspace.dvc_remote_path == client.value
            if isinstance(client, PythonLoad):
                made = {f"{client.project}-{i}" for i in range(client.acknowledged)}
                assert made <= projects
            if isinstance(client, FilesLoad):
                content = workspace.files.cat_file("models/m")
                assert content == client.value.encode() * 1_000_000
