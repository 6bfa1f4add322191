"""A copy of the base that is taken while the server works is a backup.

Everything that was acknowledged before the copy began must be in it, whole, and a
server must start on it. What is acknowledged later may be there or not.
"""

import base64
import itertools
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conformance.players import Python
from server.doctoring import diagnose
from support.server import Server

_CLIENTS = 4
# Projects per client that are kept; each has another that comes and goes.
_PROJECTS = 5
# Changes per client before the copy begins.
_CHANGES = 40
_TIMEOUT_S = 120


@dataclass
class Ledger:
    """What the server has acknowledged."""

    # The largest count in each project's metadata.
    counts: dict[str, int] = field(default_factory=dict)
    # The content of each artifact, by project and path.
    artifacts: dict[tuple[str, str], bytes] = field(default_factory=dict)


class Client(threading.Thread):
    """Changes its own projects without a pause until `ended` is set."""

    def __init__(self, server: Server, number: int, ended: threading.Event) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.ready = threading.Event()
        self.problem: BaseException | None = None
        self._server = server
        self._number = number
        self._ended = ended
        self._lock = threading.Lock()

    def acknowledged(self) -> Ledger:
        with self._lock:
            return Ledger(dict(self.ledger.counts), dict(self.ledger.artifacts))

    def run(self) -> None:
        try:
            with Python(self._server) as player:
                for count in itertools.count(1):
                    if self._ended.is_set():
                        return
                    self._change(player, count)
                    if count == _CHANGES:
                        self.ready.set()
        except BaseException as error:
            self.problem = error
            self.ready.set()

    def _change(self, player: Python, count: int) -> None:
        project = f"kept{self._number}-{count % _PROJECTS}"
        workspace = {"project": project, "metadata": {"count": count}}
        path = f"outputs/{count % 3}/{count}"
        # Some are larger than one read of any copying program.
        content = f"{project} {count} ".encode() * (1 if count % 5 else 60_000)
        _call(player, "EnsureWorkspace", {"project": project})
        _call(player, "UpdateWorkspace", {"workspace": workspace})
        artifact = {"project": project, "path": path, "finish": True}
        data = {"data": base64.b64encode(content).decode()}
        _call(player, "WriteArtifact", [artifact | data])
        with self._lock:
            self.ledger.counts[project] = count
            self.ledger.artifacts[project, path] = content
        passing = {"project": f"passing{self._number}"}
        _call(player, "EnsureWorkspace", passing)
        if count % 2:
            _call(player, "DeleteWorkspace", passing | {"force": True})


def _call(player: Python, rpc: str, request: Any) -> dict[str, Any]:
    outcome = player.call(rpc, request)
    assert outcome.error is None, (rpc, request, outcome.error)
    return outcome.responses[-1]


@contextmanager
def _load(server: Server) -> Iterator[list[Client]]:
    stop = threading.Event()
    clients = [Client(server, number, stop) for number in range(_CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert [client.problem for client in clients] == [None] * _CLIENTS


def _run(*command: object, may_return: tuple[int, ...]) -> None:
    """Runs a program that may complain about entries that vanished meanwhile."""
    result = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    assert result.returncode in may_return, result.stderr


def _cp(base: Path, copy: Path) -> None:
    _run("cp", "-a", base, copy, may_return=(0, 1))


def _rsync(base: Path, copy: Path) -> None:
    _run("rsync", "-a", f"{base}/", f"{copy}/", may_return=(0, 24))


def _tar(base: Path, copy: Path) -> None:
    """Copies as OPERATIONS.md says."""
    archive = copy.with_suffix(".tar.gz")
    excluded = ("--exclude=./.workspaced", "--exclude=./.staging")
    _run("tar", "-C", base, *excluded, "-czf", archive, ".", may_return=(0, 1))
    copy.mkdir()
    _run("tar", "-C", copy, "-xpzf", archive, may_return=(0,))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("copy_tree", [_cp, _rsync, _tar], ids=["cp", "rsync", "tar"])
def test_a_copy_under_load_has_all_that_was_acknowledged(
    base: Path, copy_tree: Callable[[Path, Path], None]
) -> None:
    if copy_tree is _rsync and shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    copy = base.with_name("copy")
    with Server(base) as server, _load(server) as clients:
        for client in clients:
            assert client.ready.wait(_TIMEOUT_S)
        before = [client.acknowledged() for client in clients]
        copy_tree(base, copy)
        after = [client.acknowledged() for client in clients]
    # The load went on while the copy was made.
    assert all(
        len(late.artifacts) > len(early.artifacts)
        for early, late in zip(before, after, strict=True)
    )
    assert diagnose(copy).of_severity("error") == []
    with Server(copy) as server, Python(server) as player:
        for ledger in before:
            _check(player, copy, ledger)
    assert diagnose(copy).of_severity("error") == []


def _check(player: Python, copy: Path, ledger: Ledger) -> None:
    for project, count in ledger.counts.items():
        workspace = _call(player, "GetWorkspace", {"project": project})
        assert workspace["metadata"]["count"] >= count
        assert workspace["root_path"] == str(copy / project)
    for (project, path), content in ledger.artifacts.items():
        assert (copy / project / path).read_bytes() == content
    # The service reads them too.
    (project, path), content = next(iter(ledger.artifacts.items()))
    artifact = _call(player, "GetArtifact", {"project": project, "path": path})
    assert int(artifact["size_bytes"]) == len(content)
