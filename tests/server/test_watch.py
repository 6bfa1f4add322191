"""Watches of a real server, through restarts, crashes and changes by hand."""

import contextlib
import random
import shutil
import threading
import time
from pathlib import Path

import grpc
import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from conformance.players import rpc_error
from server.callers import code_and_reason, metric, new_token, replace, wait_until
from support.server import Server
from support.watching import Watching


def _manager(server: Server) -> WorkspaceManager:
    return WorkspaceManager(address=server.address)


def _edit(base: Path, project: str, note: str) -> None:
    """Changes a record as an editor does."""
    record = base / project / "workspace.yaml"
    draft = record.with_name("draft")
    draft.write_text(record.read_text() + f"note: {note}\n")
    draft.rename(record)


# --- By hand -------------------------------------------------------------------------


def test_changes_by_hand_are_reported(base: Path) -> None:
    with Server(base) as server, Watching(_manager(server)) as watch:
        watch.until_synced()
        _manager(server).create_workspace("made")
        assert watch.until_change("created", "made").workspace is not None
        shutil.copytree(base / "made", base / "copied")
        watch.until_change("created", "copied")
        _edit(base, "copied", "by hand")
        edited = watch.until_change("updated", "copied").workspace
        assert edited is not None
        assert edited.etag == _manager(server).get_workspace("copied").etag
        (base / "copied").rename(base / "moved")
        gone = watch.until_change("deleted", "copied")
        assert gone.uid == edited.uid
        assert gone.workspace is None
        if "moved" not in watch.state:
            watch.until_change("created", "moved")
        (base / "made" / "workspace.yaml").write_text("[")
        assert watch.until_change("updated", "made").workspace is None
        shutil.rmtree(base / "moved")
        watch.until_change("deleted", "moved")
        assert set(watch.state) == {"made"}


# --- Restarts ------------------------------------------------------------------------


def test_a_watch_continues_after_a_clean_restart(base: Path) -> None:
    with Server(base) as server:
        manager = _manager(server)
        for name in ("a", "b", "c"):
            manager.create_workspace(name)
        with Watching(manager) as watch:
            watch.until_synced()
            server.terminate()
            server.wait()
            shutil.rmtree(base / "a")
            _edit(base, "b", "while it was down")
            shutil.copytree(base / "c", base / "d")
            with Server(base) as server:
                watch.until_change("deleted", "a")
                watch.until(lambda _: watch.state.keys() == {"b", "c", "d"})
                watch.until_synced()
                changes = [(e.change, e.project) for e in watch.events[4:]]
                assert sorted(c for c in changes if c[0] != "synced") == [
                    ("created", "d"),
                    ("deleted", "a"),
                    ("updated", "b"),
                ]
                _manager(server).create_workspace("e")
                watch.until_change("created", "e")


def test_a_watch_lists_again_after_a_crash_and_finds_what_is_gone(base: Path) -> None:
    with Server(base) as server:
        manager = _manager(server)
        with Watching(manager) as watch:
            watch.until_synced()
            for name in ("a", "b", "c"):
                manager.create_workspace(name)
            watch.until_change("created", "c")
            server.kill()
            shutil.rmtree(base / "a")
            _edit(base, "b", "while it was down")
            with Server(base) as server:
                assert watch.until_change("deleted", "a").uid
                assert watch.state.keys() == {"b", "c"}
                changes = [(e.change, e.project) for e in watch.events]
                assert ("updated", "b") in changes
                assert changes.count(("created", "c")) == 1
                _manager(server).create_workspace("d")
                watch.until_change("created", "d")


def test_a_token_of_the_user_that_is_lost_is_an_error(base: Path) -> None:
    with Server(base) as server:
        manager = _manager(server)
        with Watching(manager) as watch:
            watch.until_synced()
            manager.create_workspace("a")
            token = watch.until_change("created", "a").resume_token
        manager.create_workspace("b")
        with Watching(manager, resume_token=token) as watch:
            watch.until_change("created", "b")
            assert "a" not in watch.state
        server.kill()
    with Server(base) as server:
        with pytest.raises(WorkspaceError) as caught:
            next(_manager(server).watch(resume_token=token))
        assert caught.value.details["reason"] == "RESUME_TOKEN_EXPIRED"
        with pytest.raises(WorkspaceError) as caught:
            next(_manager(server).watch(resume_token="x"))
        assert caught.value.details["reason"] == "TOKEN_INVALID"


def test_the_final_state_is_right_whatever_races(base: Path) -> None:
    """Writers, edits by hand, clean restarts and crashes."""
    stop = threading.Event()
    chance = random.Random(7)

    def write(seed: int) -> None:
        own = random.Random(seed)
        while not stop.is_set():
            name = f"p{own.randrange(8)}"
            with contextlib.suppress(WorkspaceError, OSError):
                manager = WorkspaceManager(address=f"unix:{socket}")
                match own.randrange(4):
                    case 0:
                        manager.delete_workspace(name, force=True)
                    case 1:
                        manager.update_workspace_metadata(
                            name, metadata={"n": own.random()}
                        )
                    case 2:
                        shutil.rmtree(base / name)
                    case _:
                        manager.create_workspace(name)

    with Server(base) as server:
        socket = server.socket
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    watch = Watching(WorkspaceManager(address=f"unix:{socket}"))
    try:
        for round_ in range(4):
            with Server(base) as server:
                if round_ == 0:
                    watch.__enter__()
                    for writer in writers:
                        writer.start()
                time.sleep(0.5 + chance.random())
                if round_ % 2:
                    server.kill()
        stop.set()
        for writer in writers:
            writer.join()
        with Server(base) as server:
            manager = _manager(server)
            last = manager.create_workspace("z-last")
            watch.until(lambda event: event.uid == last.uid)
            watch.until_synced()
            listed = {w.project_name: w.uid for w in manager.list_workspaces()}
            wait_until(lambda: watch.state == listed or (watch.next() and False))
    finally:
        stop.set()
        watch.__exit__(None, None, None)


# --- The limit -----------------------------------------------------------------------


def test_watchers_beyond_the_limit_wait_for_a_place(base: Path) -> None:
    flags = ("--max-watchers", "1", "--metrics", "127.0.0.1:0")
    with Server(base, *flags) as server, server.connect() as channel:
        manager = _manager(server)
        manager.create_workspace("fraud")
        assert metric(server, "workspaced_watchers_limit") == 1
        stub = pb_grpc.WorkspaceServiceStub(channel)
        first = stub.WatchWorkspaces(pb.WatchWorkspacesRequest())
        next(first)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.WatchWorkspaces(pb.WatchWorkspacesRequest()))
        error = rpc_error(caught.value)
        assert code_and_reason(error) == ("UNAVAILABLE", "OVERLOADED")
        assert "at most 1 may be connected (--max-watchers)" in error.message
        # Our client retries for some seconds.
        with pytest.raises(WorkspaceError) as given_up:
            next(manager.watch())
        assert given_up.value.details["reason"] == "OVERLOADED"
        # One that waits for a lease asks again instead.
        holder = manager.lease("fraud", holder="a")
        holder.__enter__()
        threading.Timer(0.5, holder.__exit__, (None, None, None)).start()
        with _manager(server).lease("fraud", holder="b", wait=30):
            pass
        threading.Timer(1, first.cancel).start()
        assert next(manager.watch()).project == "fraud"


# --- Slow, idle and filtered watchers ------------------------------------------------


def test_only_the_projects_asked_for_are_reported(base: Path) -> None:
    with Server(base) as server:
        manager = _manager(server)
        manager.create_workspace("a")
        manager.create_workspace("b")
        with Watching(manager, ["a", "later"]) as watch:
            watch.until_synced()
            manager.update_workspace_metadata("b", metadata={"x": 1})
            manager.create_workspace("later")
            manager.update_workspace_metadata("a", metadata={"x": 1})
            watch.until_change("updated", "a")
            assert set(watch.state) == {"a", "later"}


def test_an_idle_watch_is_told_so(base: Path) -> None:
    with Server(base) as server, Watching(_manager(server)) as watch:
        watch.until_synced()
        watch.until_synced()


def test_a_watcher_that_does_not_read_is_ended_while_others_go_on(base: Path) -> None:
    args = ("--client-timeout", "1s", "--metrics", "127.0.0.1:0")
    # A fixed flow-control window of 64 KiB.
    options = [("grpc.enable_http_proxy", 0), ("grpc.http2.bdp_probe", 0)]
    with (
        Server(base, *args) as server,
        grpc.insecure_channel(server.address, options) as channel,
    ):
        manager = _manager(server)
        manager.create_workspace("a")
        stub = pb_grpc.WorkspaceServiceStub(channel)
        slow = stub.WatchWorkspaces(pb.WatchWorkspacesRequest())
        with Watching(manager) as watch:
            watch.until_synced()
            wait_until(lambda: metric(server, "workspaced_watchers") == 2)
            for n in range(40):
                note = f"{n}".ljust(50_000)
                manager.update_workspace_metadata("a", metadata={"note": note})
            wait_until(lambda: metric(server, "workspaced_watchers") == 1)
            manager.create_workspace("b")
            watch.until_change("created", "b")
        slow.cancel()


def test_watches_end_at_once_at_a_stop(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        stub = pb_grpc.WorkspaceServiceStub(channel)
        watch = stub.WatchWorkspaces(pb.WatchWorkspacesRequest())
        assert next(watch).change == pb.CHANGE_SYNCED
        begin = time.monotonic()
        server.terminate()
        with pytest.raises(grpc.RpcError) as caught:
            list(watch)
        error = code_and_reason(rpc_error(caught.value))
        assert error == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert server.wait() == 0
        assert time.monotonic() - begin < 8


def test_a_list_and_a_watch_leave_no_gap(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        manager = _manager(server)
        manager.create_workspace("a")
        stub = pb_grpc.WorkspaceServiceStub(channel)
        page = stub.ListWorkspaces(pb.ListWorkspacesRequest())
        assert [w.project for w in page.workspaces] == ["a"]
        manager.create_workspace("b")
        with Watching(manager, resume_token=page.resume_token) as watch:
            assert watch.next().project == "b"


# --- Who may see what ----------------------------------------------------------------

_POLICY = """\
roles:
bindings:
  - principal: alice
    role: viewer
    projects: [{}]
  - principal: root
    role: admin
    projects: ["*"]
"""


def test_a_watcher_sees_what_the_policy_shows_it(base: Path, tmp_path: Path) -> None:
    tokens, policy = tmp_path / "tokens", tmp_path / "policy.yaml"
    tokens.touch(0o600)
    policy.write_text(_POLICY.format("a*").replace("roles:\n", ""))
    alice, root = new_token(tokens, "alice"), new_token(tokens, "root")
    args = ("--tokens", str(tokens), "--policy", str(policy))
    with Server(base, *args) as server:
        manager = WorkspaceManager(address=server.address, token=root)
        for name in ("a1", "b1"):
            manager.create_workspace(name)
        viewer = WorkspaceManager(address=server.address, token=alice)
        with Watching(viewer) as watch:
            watch.until_synced()
            assert set(watch.state) == {"a1"}
            manager.create_workspace("b2")
            manager.create_workspace("a2")
            assert watch.next().project == "a2"
            # With another policy, the client lists again.
            replace(policy, _POLICY.format("b*").replace("roles:\n", ""))
            watch.until(lambda _: set(watch.state) == {"b1", "b2"})
