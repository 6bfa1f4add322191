"""Quotas on a real server: races at the limit, crashes, other programs, restarts."""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from conformance.players import Error, rpc_error
from server.callers import metric, wait_until
from server.run import answer, call
from server.writing import write
from support.server import Server
from support.watching import Watching

_KIB = 1 << 10
_MIB = 1 << 20


def _stub(channel: grpc.Channel) -> Any:
    return pb_grpc.WorkspaceServiceStub(channel)


def _messages(
    path: str, size: int, finish: bool = True, **first: Any
) -> Iterator[pb.WriteArtifactRequest]:
    yield pb.WriteArtifactRequest(project="p", path=path, **first)
    for at in range(first.get("offset", 0), size, 64 * _KIB):
        yield pb.WriteArtifactRequest(data=b"x" * min(64 * _KIB, size - at))
    if finish:
        yield pb.WriteArtifactRequest(finish=True)


def _upload(server: Server, path: str, size: int, **first: Any) -> None:
    with server.connect() as channel:
        write(_stub(channel), _messages(path, size, **first))


def _refused(attempt: Callable[[], Any]) -> dict[str, str]:
    """Calls `attempt`, which a quota must refuse, and returns the error's metadata."""
    with pytest.raises(grpc.RpcError) as raised:
        attempt()
    error: Error = rpc_error(raised.value)
    assert error.code == "RESOURCE_EXHAUSTED"
    assert error.infos[0].reason == "NO_SPACE"
    return dict(error.infos[0].metadata)


def _set(server: Server, mask: tuple[str, ...] = (), **quota: int) -> None:
    request: dict[str, Any] = {"workspace": {"project": "p", **quota}}
    if mask:
        request["update_mask"] = {"paths": list(mask)}
    answer(server, "UpdateWorkspace", **request)


def _status(server: Server) -> tuple[int, int, bool]:
    status = answer(server, "GetWorkspaceStatus", project="p")
    return (
        int(status.get("file_count", 0)),
        int(status.get("size_bytes", 0)),
        status.get("over_quota", False),
    )


def _create(server: Server, **quota: int) -> None:
    answer(server, "CreateWorkspace", project="p", workspace=quota)


def test_an_error_says_what_the_quota_is_and_what_is_used(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=100, max_file_count=2)
        _upload(server, "models/a", 60)
        assert _refused(lambda: _upload(server, "models/b", 41)) == {
            "project": "p",
            "quota": "max_size_bytes",
            "limit": "100",
            "used": "60",
            "wanted": "41",
        }
        _upload(server, "models/b", 40)
        refused = _refused(lambda: _upload(server, "models/c", 0))
        assert refused["quota"] == "max_file_count"
        assert (refused["limit"], refused["used"], refused["wanted"]) == ("2", "2", "1")
        assert not (base / "p/models/c").exists()


def test_an_upload_is_refused_before_its_bytes_are_staged(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=_MIB)
        _refused(lambda: _upload(server, "models/a", 64 * _MIB, upload_id="u"))
        part = base / "p/.uploads/u.part"
        assert part.stat().st_size <= _MIB
        # It can be resumed once there is room.
        _set(server, max_size_bytes=2 * _MIB)
        _upload(server, "models/a", 2 * _MIB, upload_id="u", offset=part.stat().st_size)
        assert _status(server) == (1, 2 * _MIB, False)


def test_concurrent_uploads_never_exceed_the_quota_together(base: Path) -> None:
    size, fit = 300 * _KIB, 5
    with Server(base) as server:
        _create(server, max_size_bytes=fit * size, max_file_count=fit)
        written, refused = [], []
        start = threading.Barrier(16)

        def upload(number: int) -> None:
            start.wait()
            for _ in range(20):
                try:
                    _upload(server, f"models/{number}", size)
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                    refused.append(number)
                else:
                    written.append(number)
                    return

        threads = [threading.Thread(target=upload, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            files, size_bytes, over = _status(server)
            assert files <= fit and size_bytes <= fit * size and not over
        for thread in threads:
            thread.join()
        assert len(written) == fit
        assert refused
        assert _status(server) == (fit, fit * size, False)


def test_copies_moves_and_replaced_files_count_exactly(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=100)
        _upload(server, "models/a", 50)
        copy = {"project": "p", "path": "models/a", "destination_path": "models/b"}
        answer(server, "CopyArtifact", **copy)
        refused = call(
            server, "CopyArtifact", **{**copy, "destination_path": "models/c"}
        ).error
        assert refused is not None and refused.infos[0].reason == "NO_SPACE"
        # In place of the copy, which the move replaces.
        answer(server, "MoveArtifact", **copy)
        assert _status(server) == (1, 50, False)
        _upload(server, "models/b", 100)
        _refused(lambda: _upload(server, "models/b", 101))
        _upload(server, "models/b", 10)
        _upload(server, "models/c", 90)
        _refused(lambda: _upload(server, "models/d", 1))
        assert _status(server) == (2, 100, False)


def test_deletions_make_room(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_file_count=20)
        for i in range(20):
            _upload(server, f"models/dir/{i}", 1)
        _refused(lambda: _upload(server, "models/more", 1))
        answer(server, "DeleteArtifact", project="p", path="models/dir/0")
        _upload(server, "models/more", 1)
        answer(server, "DeleteArtifact", project="p", path="models/dir", force=True)
        for i in range(19):
            _upload(server, f"models/again/{i}", 1)
        _refused(lambda: _upload(server, "models/last", 1))


def test_a_clone_of_what_exceeds_its_quota_is_refused(base: Path) -> None:
    with Server(base) as server, WorkspaceManager(address=server.address) as manager:
        workspace = manager.create_workspace("p", max_size_bytes=_KIB, max_file_count=2)
        (workspace.outputs_path / "by-path").write_bytes(b"x" * 3 * _KIB)
        with pytest.raises(WorkspaceError) as refused:
            manager.clone_workspace("p", "q")
        assert refused.value.details["reason"] == "NO_SPACE"
        assert refused.value.details["project"] == "q"
        assert refused.value.details["wanted"] == str(3 * _KIB)
        assert [one.project_name for one in manager.list_workspaces()] == ["p"]
        assert list((base / ".staging").iterdir()) == []
        # What exceeds nothing is cloned.
        assert manager.clone_workspace("p", "q", directories=["models"])


def test_a_quota_can_be_lowered_below_the_use_and_removed(base: Path) -> None:
    with Server(base, "--metrics", "127.0.0.1:0") as server:

        def over() -> float:
            return metric(server, "workspaced_over_quota_workspaces")

        _create(server)
        _upload(server, "models/a", 100)
        _upload(server, "models/b", 100)
        assert over() == 0
        _set(server, max_size_bytes=50)
        assert _status(server) == (2, 200, True)
        assert over() == 1
        _refused(lambda: _upload(server, "models/c", 1))
        # A smaller file may replace one, and deletions work.
        _upload(server, "models/a", 10)
        answer(server, "DeleteArtifact", project="p", path="models/b")
        assert _status(server) == (1, 10, False)
        assert over() == 0
        _upload(server, "models/c", 40)
        _set(server, mask=("max_size_bytes",))
        _upload(server, "models/d", 1000)
        assert _status(server) == (3, 1050, False)


def test_watchers_hear_when_a_workspace_exceeds_its_quota(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=100)
        manager = WorkspaceManager(address=server.address)
        with Watching(manager) as watch:

            def until(over_quota: bool) -> None:
                event = watch.until(lambda event: event.over_quota == over_quota)
                assert (event.change, event.project) == ("updated", "p")
                assert event.workspace is not None

            assert not watch.until_change("created", "p").over_quota
            watch.until_synced()
            # A write by path is found by the next scan.
            (base / "p/models/a").write_bytes(b"x" * 101)
            assert _status(server) == (1, 101, True)
            until(True)
            with Watching(manager) as later:
                assert later.until_change("created", "p").over_quota
            answer(server, "DeleteArtifact", project="p", path="models/a")
            until(False)
            _upload(server, "models/b", 90)
            _set(server, max_size_bytes=10)
            until(True)
            _set(server, mask=("max_size_bytes",))
            until(False)
            # Nothing else was reported: no change without a flip.
            _status(server)
            assert watch.next().change == "synced"


def test_a_killed_server_still_knows_what_is_used(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=100)
        _upload(server, "models/a", 90)
        with contextlib.suppress(grpc.RpcError), server.connect() as channel:
            write(
                _stub(channel), _messages("models/b", 10, finish=False, upload_id="u")
            )
        server.kill()
    with Server(base) as server:
        # What is staged counts once it is resumed.
        _upload(server, "models/c", 5)
        refused = _refused(
            lambda: _upload(server, "models/b", 10, upload_id="u", offset=10)
        )
        assert (refused["used"], refused["wanted"]) == ("95", "10")
        answer(server, "DeleteArtifact", project="p", path="models/c")
        _upload(server, "models/b", 10, upload_id="u", offset=10)
        assert _status(server) == (2, 100, False)
        server.kill()
    with Server(base) as server:
        _refused(lambda: _upload(server, "models/d", 1))


def test_what_other_programs_write_counts_with_the_next_scan(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=100)
        _upload(server, "models/a", 10)
        (base / "p/models/by-path").write_bytes(b"x" * 200)
        assert _status(server) == (2, 210, True)
        assert _refused(lambda: _upload(server, "models/b", 1))["used"] == "210"
        # Room that they make is found before a change is refused.
        (base / "p/models/by-path").unlink()
        deadline = time.monotonic() + 10
        while True:
            try:
                _upload(server, "models/b", 90)
            except grpc.RpcError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            else:
                break
        assert _status(server) == (2, 100, False)


def test_bytes_appended_by_the_path_count_when_the_upload_ends(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=100)
        with server.connect() as channel:
            write(_stub(channel), _messages("models/a", 0, finish=False, upload_id="u"))
        upload = answer(server, "GetUpload", project="p", upload_id="u")
        with (base / "p" / upload["staged_path"]).open("ab") as part:
            part.write(b"x" * 101)
        _refused(lambda: _upload(server, "models/a", 101, upload_id="u", offset=101))
        assert not (base / "p/models/a").exists()
        _set(server, max_size_bytes=101)
        _upload(server, "models/a", 101, upload_id="u", offset=101)


def test_a_quota_edited_by_hand_holds_at_once(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=10)
        _upload(server, "models/a", 10)
        record = base / "p/workspace.yaml"
        text = record.read_text()
        assert "max_size_bytes: 10\n" in text
        record.write_text(text.replace("max_size_bytes: 10\n", "max_size_bytes: 20\n"))
        _upload(server, "models/b", 10)
        _refused(lambda: _upload(server, "models/c", 1))


def test_a_restored_or_recreated_workspace_is_counted_anew(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_size_bytes=10)
        _upload(server, "models/a", 10)
        answer(server, "DeleteWorkspace", project="p", force=True)
        _create(server, max_size_bytes=10)
        _upload(server, "models/b", 10)
        answer(server, "DeleteWorkspace", project="p", force=True, permanent=True)
        trashed = next((base / ".trash").iterdir())
        (trashed / "models/a").write_bytes(b"x" * 4)
        answer(server, "UndeleteWorkspace", project="p")
        _upload(server, "models/b", 6)
        _refused(lambda: _upload(server, "models/c", 1))


def test_directories_removed_by_hand_are_no_obstacle(base: Path) -> None:
    with Server(base) as server:
        _create(server, max_file_count=1)
        _upload(server, "models/a", 1)
        shutil.rmtree(base / "p/models")
        wait_until(lambda: _status(server)[0] == 0)
        _upload(server, "models/b", 1)
        _refused(lambda: _upload(server, "models/c", 1))
