"""Clients that change workspaces, and the states that a power cut may leave.

These follow from the marks, which tell which changes were acknowledged.
"""

import base64
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conformance.players import Player, Python
from support.server import Server

_DIRECTORIES = ["dvc", "mlflow", "models", "monitoring", "outputs"]
_MAX_TRASH = 2
# Pairs of a path and its content.
Files = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class State:
    """The expected state of a project.

    `value` and `files` are those of the live workspace; `value` is None without one.
    `trash` holds the same for the deleted workspaces, oldest first.
    """

    value: str | None = None
    files: Files = frozenset()
    trash: tuple[tuple[str, Files], ...] = ()

    def with_file(self, path: str, content: str | None) -> "State":
        """Returns the state with `content` at `path`, or without it for None."""
        others = {(other, text) for other, text in self.files if other != path}
        return replace(
            self,
            files=frozenset(others if content is None else {*others, (path, content)}),
        )


@dataclass(frozen=True)
class Change:
    """A call, and the states that it passes through.

    Any of them may be found until the call is acknowledged, and then only the last.
    """

    rpc: str
    request: Any
    steps: list[State]


@dataclass
class Client:
    """Changes its own project and records the states that it may be in.

    `states[i]` are the possible states while change i is in flight; the last of them is
    the final one. Used by one thread at a time.
    """

    number: int
    random: random.Random
    states: list[list[State]] = field(default_factory=list)

    @property
    def project(self) -> str:
        return f"p{self.number}"

    def run(self, player: Player, changes: int, mark: Callable[[str], None]) -> None:
        """Makes `changes` changes, one after the other.

        Calls `mark` before each of them and as soon as it is acknowledged. Raises
        RuntimeError if a change fails.
        """
        state = State()
        for i in range(changes):
            change = self._choose(state, f"{self.number}.{i}")
            self.states.append([state, *change.steps])
            mark(f"begin {self.number} {i}")
            outcome = player.call(change.rpc, change.request)
            if outcome.error is not None:
                raise RuntimeError(f"{change}: {outcome.error}")
            mark(f"end {self.number} {i}")
            state = change.steps[-1]

    def _choose(self, state: State, value: str) -> Change:
        choices = self.random
        if state.value is None:
            if state.trash and choices.random() < 0.5:
                return self._undelete(state)
            request = {"project": self.project, "workspace": {"dvc_remote_path": value}}
            return Change("CreateWorkspace", request, [State(value, trash=state.trash)])
        kind = choices.choices(
            ["update", "write", "move", "remove", "delete"], [20, 35, 25, 8, 12]
        )[0]
        if kind == "delete" and len(state.trash) < _MAX_TRASH:
            deleted = State(trash=(*state.trash, (state.value, state.files)))
            return Change(
                "DeleteWorkspace", {"project": self.project, "force": True}, [deleted]
            )
        if kind == "move" and state.files:
            return self._move(state)
        if kind == "remove" and state.files:
            path = choices.choice(sorted(state.files))[0]
            return Change(
                "DeleteArtifact",
                {"project": self.project, "path": path},
                [state.with_file(path, None)],
            )
        if kind == "update":
            request = {"workspace": {"project": self.project, "dvc_remote_path": value}}
            return Change("UpdateWorkspace", request, [replace(state, value=value)])
        return self._write(state, value)

    def _path(self) -> str:
        return f"models/{self.random.choice('abc')}/f{self.random.randrange(3)}"

    def _write(self, state: State, value: str) -> Change:
        path, content = self._path(), f"{value}\n" * self.random.choice([1, 100, 3000])
        data = base64.b64encode(content.encode()).decode()
        request = [
            {"project": self.project, "path": path, "data": data, "finish": True}
        ]
        return Change("WriteArtifact", request, [state.with_file(path, content)])

    def _move(self, state: State) -> Change:
        (path, content), destination = (
            self.random.choice(sorted(state.files)),
            self._path(),
        )
        request = {
            "project": self.project,
            "path": path,
            "destination_path": destination,
        }
        if path == destination:
            return Change("MoveArtifact", request, [state])
        # On btrfs, the two halves of a rename may reach the disk separately, so that
        # the same file has both names.
        both = state.with_file(destination, content)
        return Change("MoveArtifact", request, [both, both.with_file(path, None)])

    def _undelete(self, state: State) -> Change:
        value, files = state.trash[-1]
        return Change(
            "UndeleteWorkspace",
            {"project": self.project},
            [State(value, files, state.trash[:-1])],
        )

    def may_be(self, marks: list[str]) -> list[State]:
        """Returns the states that may be found if the power was cut after `marks`."""
        mine = [mark.split() for mark in marks]
        begun = sum(
            kind == "begin" and int(number) == self.number for kind, number, _ in mine
        )
        ended = sum(
            kind == "end" and int(number) == self.number for kind, number, _ in mine
        )
        if begun > ended:
            return self.states[ended]
            # A change is in flight: its initial state, or any of its steps.
        return self.states[ended - 1][-1:] if ended else [State()]


def run(
    server: Server, clients: list[Client], changes: int, mark: Callable[[str], None]
) -> None:
    """Has all clients make their changes concurrently; raises the first error."""
    problems: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            with Python(server) as player:
                client.run(player, changes, mark)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def problems_of(server: Server, clients: list[Client], marks: list[str]) -> list[str]:
    """Returns a description of each mismatch between server and marks, or []."""
    return list(_find_problems(server, clients, marks))


def _find_problems(
    server: Server, clients: list[Client], marks: list[str]
) -> Iterator[str]:
    found, unreachable = _read_states(server)
    if unreachable:
        yield f"cannot be read: {unreachable}"
    for client in clients:
        actual, allowed = found.pop(client.project, State()), client.may_be(marks)
        if actual not in allowed:
            yield (
                f"{client.project} is {_short(actual)}, "
                f"not {' or '.join(map(_short, allowed))}"
            )
        directory = server.base / client.project
        if actual.value is None and directory.exists():
            yield f"{directory} exists, but the server lists no workspace"
        if actual.value is not None:
            missing = [name for name in _DIRECTORIES if not (directory / name).is_dir()]
            if missing:
                yield f"{directory} lacks {missing}"
    if found:
        yield f"listed, but created by no client: {sorted(found)}"
    if left := [path.name for path in (server.base / ".staging").iterdir()]:
        yield f"left in .staging: {left}"


def _short(state: State) -> str:
    files = {
        path: text.split("\n")[0] + f"({len(text)})"
        for path, text in sorted(state.files)
    }
    return f"{state.value} {files} + {[value for value, _ in state.trash]}"


def _read_states(server: Server) -> tuple[dict[str, State], list[str]]:
    with Python(server) as player:
        outcome = player.call(
            "ListWorkspaces", {"show_deleted": True, "page_size": 1000}
        )
    if outcome.error is not None:
        raise RuntimeError(str(outcome.error))
    page = outcome.responses[0]
    states: dict[str, State] = {}
    for workspace in sorted(
        page.get("workspaces", []),
        key=lambda workspace: workspace.get("delete_time", ""),
    ):
        project, value = workspace["project"], workspace["dvc_remote_path"]
        state = states.get(project, State())
        if "delete_time" in workspace:
            [root] = (server.base / ".trash").glob(f"*.{workspace['uid']}.{project}")
            states[project] = replace(
                state, trash=(*state.trash, (value, _read_files(root)))
            )
        else:
            states[project] = replace(
                state, value=value, files=_read_files(server.base / project)
            )
    return states, page.get("unreachable", [])


def _read_files(root: Path) -> Files:
    files = [
        path
        for name in _DIRECTORIES
        for path in (root / name).rglob("*")
        if path.is_file()
    ]
    return frozenset(
        (str(path.relative_to(root)), path.read_text(errors="replace"))
        for path in files
    )


@contextlib.contextmanager
def marking(path: Path) -> Iterator[Callable[[str], None]]:
    """Yields a function that writes a mark to the log of the disk, in one piece."""
    with path.open("wb", buffering=0) as file:
        yield lambda text: file.write(text.encode()) and None
