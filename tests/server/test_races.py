"""Many concurrent clients on a real server."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conformance.players import Player, Python
from server.run import answer
from support.server import Server

_RACERS = 32
_INCREMENTS = 10
_STATUSES = 10


def _race(server: Server, work: Callable[[Player], Any]) -> list[Any]:
    """Runs `work` in all racers at the same moment and returns the results."""
    results: list[Any] = []
    barrier = threading.Barrier(_RACERS)

    def run() -> None:
        with Python(server) as player:
            # Connect before the barrier, so that the race is one of the calls alone.
            player.call("GetServerInfo", {})
            barrier.wait()
            results.append(work(player))

    threads = [threading.Thread(target=run) for _ in range(_RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == _RACERS
    return results


def test_of_those_who_ensure_one_creates(base: Path) -> None:
    with Server(base) as server:
        for round_ in range(10):
            request = {"project": f"p{round_}"}
            outcomes = _race(
                server,
                lambda player, request=request: player.call("EnsureWorkspace", request),
            )
            answers = [outcome.responses[0] for outcome in outcomes]
            assert [answer.get("created", False) for answer in answers].count(True) == 1
            assert len({answer["workspace"]["uid"] for answer in answers}) == 1


def test_of_those_who_create_one_does_and_the_others_are_told(base: Path) -> None:
    with Server(base) as server:
        outcomes = _race(
            server, lambda player: player.call("CreateWorkspace", {"project": "p"})
        )
        errors = [outcome.error for outcome in outcomes if outcome.error]
        assert len(errors) == _RACERS - 1
        assert {error.infos[0].reason for error in errors} == {"WORKSPACE_EXISTS"}


def test_of_those_who_delete_one_does(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        outcomes = _race(
            server,
            lambda player: player.call(
                "DeleteWorkspace", {"project": "p", "force": True}
            ),
        )
        errors = [outcome.error for outcome in outcomes if outcome.error]
        assert len(errors) == _RACERS - 1
        assert {error.infos[0].reason for error in errors} == {"WORKSPACE_NOT_FOUND"}


def _increment(player: Player) -> None:
    """Increments the counter with an etag, and retries on a conflict."""
    while True:
        workspace = player.call("GetWorkspace", {"project": "p"}).responses[0]
        count = int(workspace["mlflow_experiment_id"]) + 1
        changed = {
            "project": "p",
            "etag": workspace["etag"],
            "mlflow_experiment_id": str(count),
        }
        outcome = player.call("UpdateWorkspace", {"workspace": changed})
        if outcome.error is None:
            return
        assert outcome.error.infos[0].reason == "ETAG_MISMATCH"


def test_no_update_is_lost_among_those_with_etags(base: Path) -> None:
    with Server(base) as server:
        answer(
            server,
            "EnsureWorkspace",
            project="p",
            workspace={"mlflow_experiment_id": "0"},
        )
        _race(server, lambda player: [_increment(player) for _ in range(_INCREMENTS)])
        stored = answer(server, "GetWorkspace", project="p")
    assert stored["mlflow_experiment_id"] == str(_RACERS * _INCREMENTS)


def test_no_update_is_lost_among_those_of_different_keys(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        keys = iter(f"k{i}" for i in range(_RACERS))
        _race(
            server,
            lambda player: player.call(
                "UpdateWorkspace",
                {"workspace": {"project": "p", "metadata": {next(keys): 1}}},
            ),
        )
        stored = answer(server, "GetWorkspace", project="p")
    assert sorted(stored["metadata"]) == sorted(f"k{i}" for i in range(_RACERS))


def test_a_status_counts_what_was_written_before_it_was_asked_for(base: Path) -> None:
    lock = threading.Lock()
    begun, written = 0, 0

    def write(text: str) -> None:
        nonlocal begun, written
        with lock:
            begun += 1
            path = base / f"p/models/{begun % 3}/{begun}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        with lock:
            written += 1

    def work(player: Player) -> list[str]:
        problems = []
        for i in range(_STATUSES):
            write("12345")
            # Files written by now must be counted, files begun by then may be.
            before = written
            rpc = "StreamWorkspaceStatuses" if i % 3 == 0 else "GetWorkspaceStatus"
            request: dict[str, Any] = {} if i % 3 == 0 else {"project": "p"}
            outcome = player.call(rpc, {**request, "counts_only": i % 2 == 0})
            after = begun
            [status] = outcome.responses
            if not before <= status["file_count"] <= after:
                problems.append(
                    f"{rpc} counts {status['file_count']} files, "
                    f"not {before} to {after}"
                )
        return problems

    with Server(base) as server:
        answer(server, "CreateWorkspace", project="p")
        assert [
            problem for problems in _race(server, work) for problem in problems
        ] == []
        assert answer(server, "GetWorkspaceStatus", project="p")["size_bytes"] == str(
            5 * _RACERS * _STATUSES
        )
