"""Leases of a real server: kills, races, uploads, and what they cost on disk."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace.v1 import workspace_service_pb2 as pb

from conformance.players import Python
from server.callers import metric, on_socket, wait_until
from server.run import AnnouncedServer, answer, call
from server.writing import Writing
from support.server import Server

_RACERS = 16


def _reason(server: Server, rpc: str, **request: Any) -> str:
    error = call(server, rpc, **request).error
    return error.infos[0].reason if error else ""


def _acquire(server: Server, holder: str, ttl: str = "60s") -> int:
    lease = answer(server, "AcquireLease", project="p", holder=holder, ttl=ttl)
    assert lease["holder"] == holder
    return int(lease["fence"])


def _update(server: Server, fence: int = 0) -> str:
    change = {"project": "p", "metadata": {"fence": fence}}
    return _reason(server, "UpdateWorkspace", workspace=change, fence=fence)


def test_leases_and_fences_survive_kills(base: Path) -> None:
    fences = []
    for _ in range(5):
        with Server(base) as server:
            answer(server, "EnsureWorkspace", project="p")
            fences.append(_acquire(server, "a"))
            server.kill()
        with Server(base) as server:
            # As after a lost answer: the same holder gets the same fence.
            assert _acquire(server, "a") == fences[-1]
            assert _reason(server, "AcquireLease", project="p", holder="b") == (
                "LEASE_HELD"
            )
            assert _update(server) == "LEASE_HELD"
            assert _update(server, fences[-1]) == ""
            answer(server, "ReleaseLease", project="p", holder="a")
            server.kill()
    assert fences == sorted(set(fences))
    with Server(base) as server:
        # A release survives, too.
        assert _update(server) == ""
        answer(server, "DeleteWorkspace", project="p", force=True, permanent=True)
        server.kill()
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        assert _acquire(server, "a") > fences[-1]


def test_of_those_who_want_a_lease_one_gets_it(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        for round_ in range(5):
            granted: list[tuple[str, int]] = []
            barrier = threading.Barrier(_RACERS)

            def run(
                holder: str, granted: Any = granted, barrier: Any = barrier
            ) -> None:
                with Python(server) as player:
                    player.call("GetServerInfo", {})
                    barrier.wait()
                    outcome = player.call(
                        "AcquireLease", {"project": "p", "holder": holder}
                    )
                    if outcome.error is None:
                        granted.append((holder, outcome.responses[0]["fence"]))
                    else:
                        assert outcome.error.infos[0].reason == "LEASE_HELD"

            threads = [
                threading.Thread(target=run, args=(f"{round_}-{i}",))
                for i in range(_RACERS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            ((holder, _),) = granted
            answer(server, "ReleaseLease", project="p", holder=holder)


def test_renewals_write_nothing(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        fence = _acquire(server, "a")

        def state() -> dict[str, int]:
            paths = [
                base / "p",
                base / "p/workspace.yaml",
                base / ".workspaced",
                base / ".workspaced/fences",
                base / ".workspaced/leases",
                base / ".workspaced/leases/p",
            ]
            return {str(path): path.stat().st_mtime_ns for path in paths}

        before = state()
        for _ in range(100):
            assert _acquire(server, "a") == fence
        assert state() == before
        stored = json.loads((base / ".workspaced/leases/p").read_text())
        assert (stored["holder"], stored["fence"]) == ("a", fence)


def test_an_expired_lease_leaves_nothing_behind(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        fence = _acquire(server, "a", ttl="1s")
        file = base / ".workspaced/leases/p"
        assert file.exists()
        wait_until(lambda: not file.exists(), "the end of the lease")
        assert _update(server, fence) == "LEASE_LOST"
        assert _update(server) == ""


def test_an_upload_that_has_lost_its_lease_is_refused_at_its_end(base: Path) -> None:
    with Server(base) as server, on_socket(server) as caller:
        answer(server, "EnsureWorkspace", project="p")
        fence = _acquire(server, "a")
        go_on = threading.Event()

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/a/x", data=b"old", fence=fence, upload_id="u"
            )
            go_on.wait(30)
            yield pb.WriteArtifactRequest(finish=True)

        writing = Writing(caller.stub, messages())
        wait_until(lambda: list((base / "p").glob(".uploads/u.part")), "the upload")
        answer(server, "ReleaseLease", project="p", force=True)
        other = _acquire(server, "b")
        go_on.set()
        error = writing.exception()
        assert error is not None
        assert "LEASE_LOST" in str(error) or f"with fence {fence}" in str(error)
        assert not (base / "p/models/a").exists()
        assert other > fence


def test_a_paused_server_does_not_shorten_a_lease(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        fence = _acquire(server, "a", ttl="30s")
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(server.pid, signal.SIGCONT)
        assert _update(server, fence) == ""


def test_a_read_only_server_grants_no_lease(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        fence = _acquire(server, "a")
        with AnnouncedServer(base, "--read-only") as reader:
            for rpc in ("AcquireLease", "ReleaseLease"):
                assert _reason(reader, rpc, project="p", holder="a") == "READ_ONLY"
            # Not LEASE_LOST: this server does not know.
            assert _update(reader, fence) == "READ_ONLY"
        assert _update(server, fence) == ""


def test_only_those_who_may_delete_release_by_force(base: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    user = f"uid:{os.getuid()}"
    policy.write_text(
        f'bindings:\n  - {{principal: "{user}", role: editor, projects: ["*"]}}\n'
    )
    with Server(base, "--policy", str(policy)) as server:
        answer(server, "EnsureWorkspace", project="p")
        _acquire(server, "a")
        assert (
            _reason(server, "ReleaseLease", project="p", force=True)
            == "PERMISSION_MISSING"
        )
        assert _reason(server, "ReleaseLease", project="p", holder="a") == ""


def test_leases_are_counted_and_recorded(base: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    args = ("--audit-log", str(log), "--metrics", "127.0.0.1:0")
    with Server(base, *args) as server:
        answer(server, "EnsureWorkspace", project="p")
        for _ in range(3):
            _acquire(server, "a")
        assert metric(server, "workspaced_leases") == 1
        answer(server, "ReleaseLease", project="p", holder="a")
        assert metric(server, "workspaced_leases") == 0
    methods = [json.loads(line)["rpc"] for line in log.read_text().splitlines()]
    # Renewals are not worth a record.
    assert methods.count("AcquireLease") == 1
    assert methods.count("ReleaseLease") == 1


@pytest.mark.parametrize("content", ["", "{", '{"uid": 1}'])
def test_a_damaged_lease_is_reported_and_harms_no_other(
    base: Path, content: str
) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        fence = _acquire(server, "a")
    (base / ".workspaced/leases/other").write_text(content)
    with Server(base) as server:
        assert ".workspaced/leases/other" in server.output
        assert _update(server, fence) == ""
