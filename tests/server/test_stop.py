"""Stopping the server: with calls in flight, during start-up, and by idle timeout."""

import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from conformance.players import GRPCURL, Python
from server.run import answer, log_lines, strace
from support.server import BINARY, Server

_CLIENTS = 4


class Client(threading.Thread):
    """Updates its own workspace until the server refuses a call.

    `acknowledged` is the last acknowledged value, and `refusal` the code of that
    refusal.
    """

    def __init__(self, server: Server, number: int) -> None:
        super().__init__()
        self.project = f"client-{number}"
        self.acknowledged = ""
        self.refusal = ""
        self._server = server

    def run(self) -> None:
        with Python(self._server) as player:
            player.call("EnsureWorkspace", {"project": self.project})
            for value in map(str, itertools.count()):
                workspace = {"project": self.project, "dvc_remote_path": value}
                outcome = player.call("UpdateWorkspace", {"workspace": workspace})
                if outcome.error is not None:
                    self.refusal = outcome.error.code
                    return
                self.acknowledged = value


def _start_clients(server: Server) -> list[Client]:
    clients = [Client(server, i) for i in range(_CLIENTS)]
    for client in clients:
        client.start()
    while not all(client.acknowledged for client in clients):
        time.sleep(0.01)
    return clients


def test_no_call_that_has_begun_fails(base: Path) -> None:
    for _ in range(5):
        with Server(base) as server:
            clients = _start_clients(server)
            server.terminate()
            for client in clients:
                client.join()
            assert server.wait() == 0
        assert {client.refusal for client in clients} == {"UNAVAILABLE"}
        with Server(base) as server:
            for client in clients:
                stored = answer(server, "GetWorkspace", project=client.project)
                assert stored["dvc_remote_path"] == client.acknowledged


def test_watchers_of_health_are_told_first_and_hold_nothing_up(base: Path) -> None:
    with Server(base, "--drain-timeout", "5m") as server:
        flags = [
            "-plaintext",
            "-unix",
            "-d",
            "{}",
            server.socket,
            "grpc.health.v1.Health/Watch",
        ]
        watch = subprocess.Popen([GRPCURL, *flags], stdout=subprocess.PIPE, text=True)
        assert watch.stdout is not None
        told = iter(line.strip() for line in watch.stdout if "status" in line)
        assert next(told) == '"status": "SERVING"'
        server.terminate()
        assert next(told) == '"status": "NOT_SERVING"'
        assert server.wait() == 0
        watch.communicate()


def test_a_second_signal_changes_nothing(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        server.terminate()
        server.terminate()
        assert server.wait() == 0


def test_sigint_stops_it_too(base: Path) -> None:
    with Server(base) as server:
        subprocess.run(["kill", "-INT", str(server.pid)], check=True)
        assert server.wait() == 0


def test_sighup_stops_it_as_sigterm_does(base: Path) -> None:
    with Server(base, wrapper=["env", "--default-signal=HUP"]) as server:
        clients = _start_clients(server)
        os.kill(server.pid, signal.SIGHUP)
        for client in clients:
            client.join()
        assert server.wait() == 0
    assert {client.refusal for client in clients} == {"UNAVAILABLE"}


def test_sighup_is_ignored_under_nohup(base: Path) -> None:
    with Server(base, wrapper=["env", "--ignore-signal=HUP"]) as server:
        os.kill(server.pid, signal.SIGHUP)
        time.sleep(0.5)
        assert answer(server, "EnsureWorkspace", project="a")["created"]


def test_a_signal_while_it_starts_ends_it_in_order(base: Path) -> None:
    # The signal hits a different phase of the start with each delay.
    for delay_ms in range(0, 60, 4):
        with subprocess.Popen(
            [BINARY, "--base", base],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(delay_ms / 1000)
            process.terminate()
            # SIGTERM kills the process if it arrives before the handler is installed.
            assert process.wait(30) in (0, -signal.SIGTERM)
    with Server(base) as server:
        assert answer(server, "EnsureWorkspace", project="a")["created"]


def test_it_leaves_when_nobody_calls(base: Path) -> None:
    with Server(base, "--idle-timeout", "1s") as server:
        # Calls for twice the timeout keep the server alive.
        for _ in range(8):
            answer(server, "EnsureWorkspace", project="a")
            time.sleep(0.25)
        assert server.wait() == 0
        assert log_lines(server)[-1]["message"] == "stopped"


def test_it_leaves_when_the_base_has_gone(base: Path) -> None:
    with Server(base, "--idle-timeout", "1h") as server:
        answer(server, "EnsureWorkspace", project="a")
        shutil.rmtree(base)
        with Server(base) as successor:
            assert server.wait() == 0
            assert answer(successor, "EnsureWorkspace", project="a")["created"]


def test_what_it_knew_is_read_faster_by_the_next(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
    assert (base / ".workspaced/checkpoint").stat().st_size > 0
    with Server(base) as server:
        assert answer(server, "GetWorkspace", project="a")["project"] == "a"


def test_a_call_beyond_the_drain_timeout_is_cut_off_and_leaves_nothing_half_made(
    base: Path,
) -> None:
    # From the second fsync on, each takes a second longer.
    slow_disk = strace("fsync:delay_enter=1000000:when=2+")
    flags = ["--workers", "1", "--drain-timeout", "200ms"]
    with Server(base, *flags, wrapper=slow_disk) as server, Python(server) as player:
        calls = [("CreateWorkspace", {"project": f"p{i}"}) for i in range(3)]
        threads = [threading.Thread(target=player.call, args=call) for call in calls]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.terminate()
        assert server.wait() == 0
        for thread in threads:
            thread.join()
    with Server(base) as server:
        for path in base.glob("p*"):
            # Five directories and the record.
            assert len(list(path.iterdir())) == 6
            assert (
                answer(server, "GetWorkspace", project=path.name)["project"]
                == path.name
            )
        assert list((base / ".staging").iterdir()) == []
