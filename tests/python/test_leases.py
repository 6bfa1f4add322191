"""Leases of the Python client: what carries them, and how they are lost."""

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message
from mlops._rpc.connection import Connection
from mlops.workspace import Lease, WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb

from python.conftest import Script


@pytest.fixture
def other(base: Path, manager: WorkspaceManager) -> Iterator[WorkspaceManager]:
    """Another client of the same base, in which the workspace "fraud" exists."""
    manager.create_workspace("fraud")
    with WorkspaceManager(base) as another:
        yield another


def _reason(error: pytest.ExceptionInfo[WorkspaceError]) -> str:
    return str(error.value.details["reason"])


def _change(manager: WorkspaceManager, value: int = 1) -> None:
    manager.update_workspace_metadata("fraud", metadata={"value": value})


def test_changes_in_the_block_carry_the_lease_and_others_are_refused(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with manager.lease("fraud", holder="trainer-7") as lease:
        assert lease.fence > 0
        _change(manager)
        workspace = manager.get_workspace("fraud")
        assert workspace.held_by is not None
        assert workspace.held_by.holder == "trainer-7"
        assert workspace.held_by.fence == lease.fence
        with pytest.raises(WorkspaceError) as refused:
            _change(other)
        assert _reason(refused) == "LEASE_HELD"
        assert refused.value.details["holder"] == "trainer-7"
        assert refused.value.retry_delay_s is not None
    _change(other)
    assert manager.get_workspace("fraud").held_by is None


def test_threads_of_the_manager_share_the_lease(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    failures: list[BaseException] = []

    def change() -> None:
        try:
            _change(manager)
        except BaseException as error:
            failures.append(error)

    with manager.get_workspace("fraud").lease():
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
    assert failures == []


def test_a_lease_is_renewed(manager: WorkspaceManager, other: WorkspaceManager) -> None:
    with manager.lease("fraud", ttl=1) as lease:
        fence = lease.fence
        time.sleep(2.5)
        assert not lease.lost
        lease.check()
        _change(manager)
        held = other.get_workspace("fraud").held_by
        assert held is not None and held.fence == fence


def test_the_next_call_reports_a_lost_lease(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with pytest.raises(WorkspaceError) as lost, manager.lease("fraud") as lease:
        other.release_lease("fraud", force=True)
        _change(manager)
    assert _reason(lost) == "LEASE_LOST"
    assert lost.value.details["fence"] == str(lease.fence)
    # Nothing of the block counts any more.
    _change(manager)


def test_after_a_loss_no_call_reaches_the_server(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with manager.lease("fraud") as lease:
        other.release_lease("fraud", force=True)
        for _ in range(2):
            with pytest.raises(WorkspaceError) as lost:
                _change(manager)
            assert _reason(lost) == "LEASE_LOST"
        assert lease.lost
        with pytest.raises(WorkspaceError):
            lease.check()
        # Another workspace is not affected.
        manager.create_workspace("churn")
    assert "lost=False" in repr(lease)


def test_the_renewing_thread_notices_a_loss(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with pytest.raises(WorkspaceError) as lost, manager.lease("fraud", ttl=1) as lease:
        other.release_lease("fraud", force=True)
        with other.lease("fraud"):
            while not lease.lost:
                time.sleep(0.02)
    # The block made no call, so its end reports the loss.
    assert _reason(lost) == "LEASE_LOST"


def test_the_exception_of_the_block_wins(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with pytest.raises(ZeroDivisionError), manager.lease("fraud"):
        raise ZeroDivisionError
    _change(other)
    with pytest.raises(ZeroDivisionError), manager.lease("fraud"):
        other.release_lease("fraud", force=True)
        raise ZeroDivisionError


def test_another_lease_waits_if_asked(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    order: list[str] = []

    def queue() -> None:
        with other.lease("fraud", wait=True):
            order.append("second")

    with manager.lease("fraud"):
        for wait in (None, False, 0.2):
            with (
                pytest.raises(WorkspaceError) as refused,
                other.lease("fraud", wait=wait),
            ):
                pass
            assert _reason(refused) == "LEASE_HELD"
        thread = threading.Thread(target=queue)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


_FORKED = """
import os, time
from mlops.workspace import WorkspaceError, WorkspaceManager

manager, other = WorkspaceManager(), WorkspaceManager()
manager.create_workspace("fraud")

def refusal(of):
    try:
        of.update_workspace_metadata("fraud", metadata={"a": 1})
    except WorkspaceError as error:
        return error.details["reason"]

with manager.lease("fraud", ttl=1) as lease:
    if (pid := os.fork()) == 0:
        code = refusal(manager) != "LEASE_LOST"
        lease.__exit__(None, None, None)
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    # The child has not released it, and this process still renews it.
    time.sleep(1.5)
    lease.check()
    print(refusal(manager), refusal(other))
"""


def test_a_forked_child_has_no_lease(script: Script) -> None:
    done = script(_FORKED)
    assert (done.stdout, done.stderr) == ("None LEASE_HELD\n", "")


def test_a_copied_manager_has_no_lease(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with manager.lease("fraud"):
        copy: WorkspaceManager = pickle.loads(pickle.dumps(manager))
        with pytest.raises(WorkspaceError) as refused:
            _change(copy)
        assert _reason(refused) == "LEASE_HELD"


def test_the_holder_may_delete_the_workspace(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    with manager.lease("fraud", ttl=1):
        with pytest.raises(WorkspaceError):
            other.delete_workspace("fraud", force=True)
        manager.delete_workspace("fraud", force=True)
        manager.create_workspace("fraud")
        time.sleep(0.5)
        _change(manager)


def test_a_lease_can_be_entered_again_but_not_twice(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    lease = manager.lease("fraud", holder="a")
    fences = []
    for _ in range(2):
        with lease:
            fences.append(lease.fence)
            with pytest.raises(WorkspaceError):
                lease.__enter__()
    assert fences[0] < fences[1]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"holder": ""}, "holder"),
        ({"holder": "é"}, "holder"),
        ({"ttl": 0.5}, "ttl"),
        ({"ttl": 90_000}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
    ],
)
def test_arguments_are_checked(
    manager: WorkspaceManager,
    other: WorkspaceManager,
    arguments: dict[str, object],
    field: str,
) -> None:
    with pytest.raises(WorkspaceError) as refused, manager.lease("fraud", **arguments):  # type: ignore[arg-type]
        pass
    assert _reason(refused) == "FIELD_INVALID"
    assert refused.value.details["field"] == field
    assert refused.value.workspace == "fraud"


def test_release_lease_ends_the_lease_of_a_dead_holder(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    lease: Lease = manager.lease("fraud", holder="a")
    lease.__enter__()
    with pytest.raises(WorkspaceError) as refused:
        other.release_lease("fraud", holder="b")
    assert _reason(refused) == "LEASE_HELD"
    other.release_lease("fraud", holder="a")
    other.release_lease("fraud", holder="a")
    _change(other)
    with pytest.raises(WorkspaceError) as missing:
        other.release_lease("none", force=True)
    assert _reason(missing) == "WORKSPACE_NOT_FOUND"
    lease.lose(refused.value)
    with pytest.raises(WorkspaceError):
        lease.__exit__(None, None, None)


def test_an_acquired_lease_outlives_its_manager(
    manager: WorkspaceManager, other: WorkspaceManager
) -> None:
    first = manager.acquire_lease("fraud", "nightly", ttl=600)
    assert (first.holder, first.expires_at > first.acquired_at) == ("nightly", True)
    # This manager does not carry it.
    for one in (manager, other):
        with pytest.raises(WorkspaceError) as error:
            _change(one)
        assert _reason(error) == "LEASE_HELD"
    manager.close()
    renewed = other.acquire_lease("fraud", "nightly", ttl=600)
    assert renewed.fence == first.fence
    assert renewed.expires_at >= first.expires_at
    with pytest.raises(WorkspaceError) as error:
        other.acquire_lease("fraud", wait=0.1)
    assert _reason(error) == "LEASE_HELD"
    other.release_lease("fraud", "nightly")
    _change(manager)


def test_the_environment_names_a_lease(
    manager: WorkspaceManager,
    other: WorkspaceManager,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = manager.acquire_lease("fraud", "nightly", ttl=600)
    monkeypatch.setenv("MLOPS_LEASE_PROJECT", "fraud")
    monkeypatch.setenv("MLOPS_LEASE_FENCE", str(lease.fence))
    with WorkspaceManager(base) as child:
        _change(child)
        child.create_workspace("churn")
        child.update_workspace_metadata("churn", metadata={"value": 1})
        other.release_lease("fraud", "nightly")
        # Once it is lost, no change reaches the server.
        for _ in range(2):
            with pytest.raises(WorkspaceError) as error:
                _change(child)
            assert _reason(error) == "LEASE_LOST"
        lease = other.acquire_lease("fraud", "nightly", ttl=600)
    monkeypatch.setenv("MLOPS_LEASE_FENCE", str(lease.fence))
    with WorkspaceManager(base) as child:
        child.delete_workspace("fraud", force=True)
        child.create_workspace("fraud")
        _change(child)
    for malformed in ("-1", "9" * 30, "9" * 5000, "1\n", "x"):
        monkeypatch.setenv("MLOPS_LEASE_FENCE", malformed)
        with WorkspaceManager(base) as child:
            _change(child)


def test_ctrl_c_releases_what_nobody_else_knows(
    manager: WorkspaceManager, other: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Connection.call

    def interrupted(self: Connection, request: Message) -> object:
        answer = call(self, request)
        if isinstance(request, pb.AcquireLeaseRequest):
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(Connection, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manager.acquire_lease("fraud")
    _change(other)
    # A holder that the caller chose may have had the lease before.
    with pytest.raises(KeyboardInterrupt):
        manager.acquire_lease("fraud", "nightly")
    held = other.get_workspace("fraud").held_by
    assert held is not None and held.holder == "nightly"
