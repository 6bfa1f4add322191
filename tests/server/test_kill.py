"""Kills the server under load with SIGKILL, and checks the base after each restart.

Every acknowledged change must be there, and no change half made. MLOPS_KILL_ROUNDS sets
the number of rounds, by default 20.
"""

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conformance.players import Outcome, Player, Python
from support.server import Server

_ROUNDS = int(os.environ.get("MLOPS_KILL_ROUNDS", "20"))
_CLIENTS = 6
# Projects per client.
_PROJECTS = 4
_DIRECTORIES = ["dvc", "mlflow", "models", "monitoring", "outputs"]


@dataclass(frozen=True)
class State:
    """A project's expected state, in which values stand for workspaces.

    `live` is the value of the live workspace, if any; `trash` holds the values of the
    deleted ones, oldest first.
    """

    live: str | None = None
    trash: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """A kind of call.

    `possible` returns whether it can succeed in a state, `request` builds the request
    from a project and a value, and `steps` returns the states that it passes through.
    """

    rpc: str
    possible: Callable[[State], bool]
    request: Callable[[str, str], dict[str, Any]]
    steps: Callable[[State, str], list[State]]


def _deleted(state: State) -> State:
    assert state.live is not None
    return State(None, (*state.trash, state.live))


_OPERATIONS = [
    Operation(
        "CreateWorkspace",
        lambda state: state.live is None,
        lambda project, value: {
            "project": project,
            "workspace": {"dvc_remote_path": value},
        },
        lambda state, value: [State(value, state.trash)],
    ),
    Operation(
        "EnsureWorkspace",
        lambda state: True,
        lambda project, value: {
            "project": project,
            "workspace": {"dvc_remote_path": value},
        },
        lambda state, value: [State(state.live or value, state.trash)],
    ),
    Operation(
        "UpdateWorkspace",
        lambda state: state.live is not None,
        lambda project, value: {
            "workspace": {"project": project, "dvc_remote_path": value}
        },
        lambda state, value: [State(value, state.trash)],
    ),
    Operation(
        "DeleteWorkspace",
        lambda state: state.live is not None,
        lambda project, value: {"project": project, "force": True},
        lambda state, value: [_deleted(state)],
    ),
    Operation(
        "DeleteWorkspace",
        lambda state: state.live is not None,
        lambda project, value: {"project": project, "force": True, "permanent": True},
        lambda state, value: [_deleted(state), State(None, state.trash)],
    ),
    Operation(
        "UndeleteWorkspace",
        lambda state: state.live is None and bool(state.trash),
        lambda project, value: {"project": project},
        lambda state, value: [State(state.trash[-1], state.trash[:-1])],
    ),
]


@dataclass
class Client:
    """Changes its own projects and tracks the states that each may be in.

    Used by one thread at a time.
    """

    number: int
    random: random.Random
    states: dict[str, list[State]] = field(default_factory=dict)
    acknowledged: int = 0
    problem: Outcome | None = None
    _values: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.states = {f"c{self.number}-{i}": [State()] for i in range(_PROJECTS)}

    def run(self, server: Server) -> None:
        """Makes random calls until one fails."""
        with Python(server) as player:
            while self._change_one(player):
                self.acknowledged += 1

    def _change_one(self, player: Player) -> bool:
        project = self.random.choice(list(self.states))
        before = self.states[project][0]
        value = f"{self.number}-{next(self._values)}"
        operation = self.random.choice(
            [operation for operation in _OPERATIONS if operation.possible(before)]
        )
        steps = operation.steps(before, value)
        outcome = player.call(operation.rpc, operation.request(project, value))
        if outcome.error is None:
            self.states[project] = steps[-1:]
            return True
        # The kill interrupted the call, so any of its steps may have been the last.
        self.states[project] = [before, *steps]
        if outcome.error.code != "UNAVAILABLE":
            self.problem = outcome
        return False


@pytest.mark.timeout(120 + 3 * _ROUNDS)
def test_what_was_acknowledged_survives(base: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    randoms = random.Random(seed)
    clients = [Client(i, random.Random(randoms.random())) for i in range(_CLIENTS)]
    for round_ in range(_ROUNDS):
        flags = ["--portable-fs"] if round_ % 2 else []
        with Server(base, "--log-calls", "off", *flags) as server:
            _check(server, clients)
            _kill_under_load(server, clients, after_s=randoms.uniform(0.05, 0.5))
    with Server(base) as server:
        _check(server, clients)
    assert sum(client.acknowledged for client in clients) > 10 * _ROUNDS


def _kill_under_load(server: Server, clients: list[Client], after_s: float) -> None:
    threads = [
        threading.Thread(target=client.run, args=(server,)) for client in clients
    ]
    for thread in threads:
        thread.start()
    time.sleep(after_s)
    server.kill()
    for thread in threads:
        thread.join()
    assert [client.problem for client in clients if client.problem] == []


def _check(server: Server, clients: list[Client]) -> None:
    found = _read_states(server)
    for client in clients:
        for project, states in client.states.items():
            actual = found.pop(project, State())
            assert actual in states, project
            client.states[project] = [actual]
            _check_whole(server.base / project, actual)
    assert found == {}
    assert list((server.base / ".staging").iterdir()) == []


def _read_states(server: Server) -> dict[str, State]:
    request: dict[str, Any] = {"show_deleted": True, "page_size": 1000}
    workspaces: list[dict[str, Any]] = []
    with Python(server) as player:
        while True:
            outcome = player.call("ListWorkspaces", request)
            assert outcome.error is None
            page = outcome.responses[0]
            assert "unreachable" not in page
            workspaces += page.get("workspaces", [])
            if "next_page_token" not in page:
                break
            request["page_token"] = page["next_page_token"]
    states: dict[str, State] = {}
    for workspace in sorted(
        workspaces, key=lambda workspace: workspace.get("delete_time", "")
    ):
        state = states.get(workspace["project"], State())
        value = workspace["dvc_remote_path"]
        deleted = "delete_time" in workspace
        states[workspace["project"]] = (
            State(state.live, (*state.trash, value))
            if deleted
            else State(value, state.trash)
        )
    return states


def _check_whole(root: Path, state: State) -> None:
    if state.live is None:
        assert not root.exists()
        return
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == _DIRECTORIES
    assert f"dvc_remote_path: {state.live}" in (
        root / "workspace.yaml"
    ).read_text().replace("'", "").replace('"', "")


def test_a_server_killed_after_many_changes_has_left_a_checkpoint(base: Path) -> None:
    checkpoint = base / ".workspaced/checkpoint"
    with Server(base, "--log-calls", "off") as server:
        with Python(server) as player:
            for i in range(1100):
                assert (
                    player.call("EnsureWorkspace", {"project": f"p{i}"}).error is None
                )
        # A checkpoint due to the number of changes: the timer runs once a minute, and
        # the kill prevents the one at shutdown.
        while not checkpoint.exists():
            time.sleep(0.01)
        server.kill()
    assert checkpoint.read_bytes().count(b"workspace") > 0
    with Server(base) as server, Python(server) as player:
        assert player.call("GetServerInfo", {}).responses[0]["workspace_count"] == 1100
