"""WorkspaceManager.watch(): its end, forks, and bad arguments."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlops._rpc.watch import Watch
from mlops.workspace import ProjectWorkspace, WorkspaceError, WorkspaceManager

from python.conftest import Script
from support.watching import Watching


def test_leaving_the_loop_ends_the_watch(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud")
    for event in manager.watch():
        assert (event.change, event.project) == ("created", "fraud")
        assert event.workspace == manager.get_workspace("fraud")
        assert event.workspace is not None and event.uid == event.workspace.uid
        break
    events = manager.watch(["fraud"])
    assert next(events).project == "fraud"
    events.close()
    assert list(events) == []


def test_events_keep_the_manager_up_to_date(
    manager: WorkspaceManager, base: Path
) -> None:
    other = WorkspaceManager(base)
    with Watching(manager) as watch:
        watch.until_synced()
        other.create_workspace("fraud", metadata={"stage": "test"})
        watch.until_change("created", "fraud")
        assert manager.workspaces["fraud"].metadata == {"stage": "test"}
        other.delete_workspace("fraud", force=True)
        watch.until_change("deleted", "fraud")
        assert manager.workspaces == {}


def test_bad_arguments_are_refused_at_once(manager: WorkspaceManager) -> None:
    with pytest.raises(WorkspaceError, match="must be a list of texts, not str"):
        manager.watch("fraud")
    with pytest.raises(WorkspaceError) as caught:
        next(manager.watch(["../x"]))
    assert caught.value.details["reason"] == "FIELD_INVALID"
    assert caught.value.operation == "watch"


def test_without_a_server_it_fails_soon() -> None:
    manager = WorkspaceManager(address="127.0.0.1:9")
    with pytest.raises(WorkspaceError) as caught:
        next(manager.watch())
    assert caught.value.details["code"] == "UNAVAILABLE"


def test_a_wait_ends_at_its_deadline(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud")
    with closing(Watch(manager._connection, ["fraud"])) as watch:
        responses = watch.until(time.monotonic() + 1)
        assert next(responses).workspace.project == "fraud"
        begin = time.monotonic()
        assert [response.workspace.project for response in responses] == [""]
        assert time.monotonic() - begin < 5
        assert watch.read(0.01) is None
        watch.close()
        assert watch.read() is None


def test_a_wait_ends_when_another_thread_closes_it(manager: WorkspaceManager) -> None:
    watch = Watch(manager._connection)
    watch.read()  # SYNCED
    threading.Timer(0.1, watch.close).start()
    assert watch.read() is None


def test_a_workspace_reports_its_own_changes_until_it_is_deleted(
    manager: WorkspaceManager,
) -> None:
    fraud = manager.create_workspace("fraud")
    events = fraud.watch()
    first = next(events)
    assert (first.change, first.workspace) == ("created", fraud)
    manager.create_workspace("churn")
    manager.update_workspace_metadata("fraud", metadata={"stage": "test"})
    event = next(events)
    assert (event.change, event.project) == ("updated", "fraud")
    assert event.workspace is not None
    assert event.workspace.metadata == {"stage": "test"}
    # The new state has a server, too.
    with event.workspace.lease():
        assert next(events).change == "updated"
    assert next(events).change == "updated"
    resumed = fraud.watch(resume_token=event.resume_token, synced=True)
    assert [next(resumed).change for _ in range(2)] == ["updated", "synced"]
    manager.delete_workspace("fraud", force=True)
    manager.create_workspace("fraud")
    for watch in (events, resumed):
        *_, last = watch
        assert (last.change, last.uid) == ("deleted", fraud.uid)
        assert last.workspace is None
    # Now that it is gone, and another one has the name.
    assert [event.change for event in fraud.watch()] == ["deleted"]
    manager.delete_workspace("fraud", force=True)
    assert [event.uid for event in fraud.watch()] == [fraud.uid]
    manager.undelete_workspace("fraud", fraud.uid)
    assert next(fraud.watch()).change == "created"


def test_a_workspace_without_a_server_cannot_be_watched(base: Path) -> None:
    with pytest.raises(WorkspaceError, match="came from no WorkspaceManager"):
        ProjectWorkspace("fraud", base / "fraud").watch()


_FORKED = """
import os, threading, time
from mlops.workspace import WorkspaceManager

manager = WorkspaceManager()
manager.create_workspace("fraud")
seen = threading.Event()

def wait():
    for event in manager.watch():
        if event.project == "later":
            return seen.set()

threading.Thread(target=wait, daemon=True).start()
own = manager.watch(["later"], synced=True)
assert next(own).change == "synced"
begin = time.monotonic()
if (child := os.fork()) == 0:
    # The child continues an inherited watch, and can begin its own.
    os._exit(
        next(own).change != "synced"
        or next(manager.watch(["fraud"])).project != "fraud"
    )
assert time.monotonic() - begin < 4
assert os.waitpid(child, 0)[1] == 0
manager.create_workspace("later")
assert seen.wait(60)
print(next(e for e in own if e.change != "synced").project)
"""


def test_a_fork_waits_for_no_watch_and_both_continue(script: Script) -> None:
    done = script(_FORKED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "later\n", "")


_INTERRUPTED = """
import signal, sys, threading
from mlops.workspace import WorkspaceManager

threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
try:
    for event in WorkspaceManager().watch():
        pass
except KeyboardInterrupt:
    print("interrupted")
"""

_FORGOTTEN = """
from mlops.workspace import WorkspaceManager

manager = WorkspaceManager()
manager.create_workspace("fraud")
events = manager.watch()
print(next(events).project)
"""


@pytest.mark.parametrize(
    ("code", "output"), [(_INTERRUPTED, "interrupted\n"), (_FORGOTTEN, "fraud\n")]
)
def test_a_program_ends_in_a_watch(script: Script, code: str, output: str) -> None:
    begin = time.monotonic()
    done = script(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")
    assert time.monotonic() - begin < 20


def test_a_watch_begins_at_a_resume_token(manager: WorkspaceManager) -> None:
    manager.create_workspace("before")
    token = manager.resume_token()
    manager.create_workspace("after")
    with closing(manager.watch(resume_token=token)) as events:
        assert next(events).project == "after"
