"""A recorded history: no two holders of a lease ever change the workspace in turn.

Processes take a short lease in turns. They are paused and killed at random, and the
server is killed and restarted. Each change carries its fence into the record or into a
file. Then, in the order of the changes, fences never go back, and each fence belongs to
one holder. MLOPS_LEASE_ROUNDS sets the number of rounds, by default 6.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.players import Python
from server import lease_worker
from server.run import answer
from support.server import REPO, Server

_ROUNDS = int(os.environ.get("MLOPS_LEASE_ROUNDS", "6"))
_TURNS = 10  # Leases granted in a round.
_DEADLINE_S = 60
_WORKERS = 5


class _Crowd:
    """Workers on one server, of which some are paused or killed now and then."""

    def __init__(self, address: str, logs: Path, randoms: random.Random) -> None:
        self._address, self._logs, self._random = address, logs, randoms
        self._workers: list[subprocess.Popen[bytes]] = []

    def fill(self) -> None:
        """Starts workers until there are enough."""
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        while len(self._workers) < _WORKERS:
            command = [sys.executable, lease_worker.__file__, self._address]
            command += [str(self._logs), str(self._random.randrange(10**9))]
            environment = os.environ | {"PYTHONPATH": str(REPO / "tests")}
            self._workers.append(subprocess.Popen(command, env=environment))

    def disturb(self) -> None:
        """Pauses one worker for longer than its lease, or kills it."""
        worker = self._random.choice(self._workers)
        if self._random.random() < 0.1:
            worker.kill()
            worker.wait()
            return
        worker.send_signal(signal.SIGSTOP)
        pause = self._random.uniform(0.1, 1.6)
        threading.Timer(pause, worker.send_signal, [signal.SIGCONT]).start()

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()


@contextmanager
def _watched(server: Server, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Adds the states of the record that a reader sees, whoever wrote them."""
    stop = threading.Event()

    def watch() -> None:
        with Python(server) as player:
            while not stop.wait(0.005):
                outcome = player.call("GetWorkspace", {"project": lease_worker.PROJECT})
                if outcome.error is None and "metadata" in outcome.responses[0]:
                    seen.append(outcome.responses[0])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _events(logs: Path) -> list[dict[str, Any]]:
    """Returns what all workers have noted, without lines that a kill cut off."""
    return [
        json.loads(line)
        for log in logs.glob("*.log")
        for line in log.read_text().splitlines()
        if line.endswith("}")
    ]


def _turns(logs: Path) -> int:
    return sum(event["event"] == "acquired" for event in _events(logs))


@pytest.mark.timeout(120 + _DEADLINE_S * _ROUNDS)
def test_the_fences_of_changes_never_go_back(base: Path, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    randoms = random.Random(seed)
    seen: list[dict[str, Any]] = []
    with Server(base, "--log-calls", "off") as server:
        answer(server, "EnsureWorkspace", project=lease_worker.PROJECT)
        address = server.address
    crowd = _Crowd(address, tmp_path, randoms)
    try:
        for round_ in range(_ROUNDS):
            wanted = _turns(tmp_path) + _TURNS
            give_up = time.monotonic() + _DEADLINE_S
            with (
                Server(base, "--log-calls", "off") as server,
                _watched(server, seen),
            ):
                while _turns(tmp_path) < wanted and time.monotonic() < give_up:
                    crowd.fill()
                    time.sleep(randoms.uniform(0.1, 0.5))
                    crowd.disturb()
                if round_ % 2:
                    server.kill()
    finally:
        crowd.end()
    _check(_events(tmp_path), seen)


def _check(events: list[dict[str, Any]], seen: list[dict[str, Any]]) -> None:
    updates = [
        (event["time_ns"], event["fence"])
        for event in events
        if event["event"] == "updated"
    ]
    updates += [
        (_nanoseconds(state["update_time"]), int(state["metadata"]["fence"]))
        for state in seen
    ]
    writes = [
        (event["time_ns"], event["fence"])
        for event in events
        if event["event"] == "written"
    ]
    for changes in (updates, writes):
        fences = [fence for _, fence in sorted(changes)]
        assert fences == sorted(fences)
    holders: dict[int, set[str]] = {}
    for event in events:
        holders.setdefault(event["fence"], set()).add(event["holder"])
    for state in seen:
        metadata = state["metadata"]
        holders.setdefault(int(metadata["fence"]), set()).add(metadata["holder"])
    assert {fence: who for fence, who in holders.items() if len(who) > 1} == {}
    # The history is worth something: many turns, and some lost leases.
    assert len(holders) >= _ROUNDS * _TURNS
    assert any(event.get("reason") == "LEASE_LOST" for event in events)


def _nanoseconds(text: str) -> int:
    """Converts a time of protojson, with zero to nine digits after the point."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(
        time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone
    )
    return seconds * 10**9 + int(fraction.ljust(9, "0") or 0)
