"""The trash, the free-space guard and the name policy of a real server."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager

from server.callers import metric, wait_until
from server.run import answer, call, refusal
from support.server import Server

_EVERYTHING = str(2**62)  # More bytes than any disk has free.


def _delete(server: Server, project: str, **options: Any) -> str:
    deleted = answer(server, "DeleteWorkspace", project=project, force=True, **options)
    return str(deleted["workspace"]["uid"])


def _in_trash(server: Server) -> list[str]:
    listed = answer(server, "ListWorkspaces", show_deleted=True)
    return [
        workspace["project"]
        for workspace in listed.get("workspaces", [])
        if "delete_time" in workspace
    ]


def _reason(server: Server, rpc: str, **request: Any) -> tuple[str, dict[str, str]]:
    error = call(server, rpc, **request).error
    assert error is not None
    return error.infos[0].reason, dict(error.infos[0].metadata)


def test_the_trash_is_listed_with_sizes_restored_and_purged(base: Path) -> None:
    with Server(base) as server, WorkspaceManager(address=server.address) as manager:
        for name, size in (("a", 10), ("b", 20)):
            manager.create_workspace(name)
            (base / name / "models/x").write_bytes(b"x" * size)
            manager.delete_workspace(name, force=True)
        manager.create_workspace("a")
        first, second = manager.list_deleted()
        assert (first.project_name, first.file_count, first.size_bytes) == ("a", 1, 10)
        assert (second.project_name, second.size_bytes) == ("b", 20)
        assert first.deleted_at <= second.deleted_at
        assert first.purged_at - first.deleted_at == timedelta(hours=72)
        manager.undelete_workspace("b", second.uid)
        freed = manager.purge("a", first.uid)
        assert freed.uid == first.uid and freed.purged and freed.size_bytes >= 10
        assert manager.list_deleted() == []
        # It never removes a workspace that is not in the trash.
        with pytest.raises(WorkspaceError) as raised:
            manager.purge("a", manager.get_workspace("a").uid)
        assert raised.value.details["reason"] == "WORKSPACE_NOT_FOUND"
        assert "The trash has no workspace a with the uid" in raised.value.message
        assert (base / "a/workspace.yaml").exists()


def test_what_is_old_enough_is_purged(base: Path) -> None:
    with Server(base) as server, WorkspaceManager(address=server.address) as manager:
        for name in ("a", "b"):
            manager.create_workspace(name)
            manager.delete_workspace(name, force=True)
        assert manager.purge_deleted(older_than=timedelta(hours=1)) == []
        freed = manager.purge_deleted(older_than=timedelta(0))
        assert sorted(deletion.project_name for deletion in freed) == ["a", "b"]
        assert all(deletion.purged for deletion in freed)
        assert list((base / ".trash").iterdir()) == []


def test_without_permission_a_full_disk_purges_nothing(base: Path) -> None:
    with Server(
        base, "--min-free-bytes", _EVERYTHING, "--metrics", "127.0.0.1:0"
    ) as server:
        answer(server, "CreateWorkspace", project="p")
        _delete(server, "p")
        wait_until(lambda: metric(server, "workspaced_disk_low") == 1)
        wait_until(lambda: "too little space on the disk" in server.output)
        assert "--purge-early" in server.output
        assert _in_trash(server) == ["p"]
        assert metric(server, "workspaced_purged_early_total") == 0


def test_with_permission_a_full_disk_purges_the_oldest_first(base: Path) -> None:
    with Server(base) as server:
        for name in ("b", "a"):
            answer(server, "CreateWorkspace", project=name)
            _delete(server, name)
    args = ("--min-free-bytes", _EVERYTHING, "--purge-early")
    with Server(base, *args, "--metrics", "127.0.0.1:0") as server:
        wait_until(lambda: metric(server, "workspaced_purged_early_total") == 2)
        assert _in_trash(server) == []
        wait_until(lambda: list((base / ".trash").iterdir()) == [])
        lines = [line for line in server.output.splitlines() if " early" in line]
        assert "purged workspace b " in lines[0] and "purged workspace a " in lines[1]
        wait_until(lambda: "the trash is empty" in server.output)


def test_enough_space_purges_nothing(base: Path) -> None:
    with Server(
        base, "--min-free-bytes=1", "--purge-early", "--metrics", "127.0.0.1:0"
    ) as server:
        answer(server, "CreateWorkspace", project="p")
        _delete(server, "p")
        assert metric(server, "workspaced_disk_low") == 0
        assert _in_trash(server) == ["p"]


def test_purge_early_needs_a_minimum(base: Path) -> None:
    assert refusal("--base", base, "--purge-early").code == 2


# --- Names --------------------------------------------------------------------


def test_new_names_must_match_the_pattern(base: Path) -> None:
    with Server(base) as server:
        for name in ("old", "gone"):
            answer(server, "CreateWorkspace", project=name)
        uid = _delete(server, "gone")
    with Server(base, "--project-pattern", "team-[a-z]+") as server:
        info = answer(server, "GetServerInfo")
        assert "project-pattern" in info["features"]
        answer(server, "CreateWorkspace", project="team-a")
        answer(server, "EnsureWorkspace", project="team-a")
        for rpc in ("CreateWorkspace", "EnsureWorkspace"):
            for name in ("old", "new", "my-team-a", "team-a1"):
                reason, metadata = _reason(server, rpc, project=name)
                assert (reason, metadata["field"]) == ("FIELD_INVALID", "project")
                assert "team-[a-z]+" in metadata["problem"]
        update = {"workspace": {"project": "new"}, "allow_missing": True}
        assert _reason(server, "UpdateWorkspace", **update)[0] == "FIELD_INVALID"
        undelete = {"project": "gone", "uid": uid}
        assert _reason(server, "UndeleteWorkspace", **undelete)[0] == "FIELD_INVALID"
        # What exists is served.
        answer(server, "GetWorkspace", project="old")
        answer(server, "UpdateWorkspace", workspace={"project": "old"})
        answer(server, "MakeDirectory", project="old", path="models/x")
        _delete(server, "old")


def test_an_invalid_pattern_is_refused_in_one_sentence(base: Path) -> None:
    refused = refusal("--base", base, "--project-pattern", "team-(")
    assert refused.code == 2
    assert '--project-pattern "team-(" is not a regular expression' in refused.sentence
