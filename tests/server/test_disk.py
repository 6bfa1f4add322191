"""Full and failing disks, and kernels that refuse the Linux-specific system calls."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.players import Error, Outcome
from server.run import (
    AnnouncedServer,
    MountedServer,
    answer,
    call,
    fill_disk,
    grpcurl,
    log_lines,
    strace,
)
from support.server import Server

_EVENTUALLY_S = 10


def _create_until_refused(server: Server) -> tuple[list[str], Error]:
    names: list[str] = []
    while True:
        name = f"p{len(names)}"
        outcome = call(server, "CreateWorkspace", project=name)
        if outcome.error is not None:
            return names, outcome.error
        names.append(name)


def _check_no_space(error: Error) -> None:
    assert (error.code, error.infos[0].reason) == ("RESOURCE_EXHAUSTED", "NO_SPACE"), (
        error
    )
    assert int(error.infos[0].metadata["available_bytes"]) >= 0
    assert "path" in error.infos[0].metadata


def _check_whole(server: Server, names: list[str]) -> None:
    """Asserts that exactly these workspaces exist, and no leftovers of any other."""
    listed = answer(server, "ListWorkspaces", page_size=1000).get("workspaces", [])
    assert [workspace["project"] for workspace in listed] == sorted(names)
    assert sorted(entry.name for entry in server.seen_base.glob("p*")) == sorted(names)
    assert list((server.seen_base / ".staging").iterdir()) == []


def _eventually(attempt: Callable[[], Outcome]) -> Outcome:
    deadline = time.monotonic() + _EVENTUALLY_S
    while (outcome := attempt()).error is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    return outcome


def test_without_space_nothing_is_half_made(base: Path) -> None:
    with MountedServer(base, "size=300k") as server:
        answer(server, "EnsureWorkspace", project="p")
        filler = fill_disk(server.seen_base)
        names, error = _create_until_refused(server)
        _check_no_space(error)
        update = {"project": "p", "dvc_remote_path": "x" * 4096}
        refused = call(server, "UpdateWorkspace", workspace=update).error
        assert refused is not None
        _check_no_space(refused)
        _check_whole(server, ["p", *names])
        filler.unlink()
        assert (
            _eventually(lambda: call(server, "UpdateWorkspace", workspace=update)).error
            is None
        )
        assert (
            _eventually(lambda: call(server, "CreateWorkspace", project="q")).error
            is None
        )


def test_without_inodes_nothing_is_half_made(base: Path) -> None:
    with MountedServer(base, "size=10m,nr_inodes=50") as server:
        names, error = _create_until_refused(server)
        assert names
        _check_no_space(error)
        _check_whole(server, names)
        answer(server, "DeleteWorkspace", project=names[0], force=True, permanent=True)
        assert call(server, "CreateWorkspace", project="p-again").error is None


def test_a_full_disk_can_be_freed_by_deleting(base: Path) -> None:
    with MountedServer(base, "size=300k") as server:
        answer(server, "EnsureWorkspace", project="p")
        models = server.seen_base / "p/models"
        fill_disk(models)
        deleted = answer(
            server, "DeleteWorkspace", project="p", force=True, permanent=True
        )
        assert int(deleted["size_bytes"]) > 100_000
        assert (
            _eventually(lambda: call(server, "CreateWorkspace", project="p")).error
            is None
        )


def test_a_deletion_takes_no_space(base: Path) -> None:
    with MountedServer(base, "size=300k") as server:
        answer(server, "EnsureWorkspace", project="p")
        fill_disk(server.seen_base)
        answer(server, "DeleteWorkspace", project="p", force=True)
        assert answer(server, "UndeleteWorkspace", project="p")["project"] == "p"


def test_a_server_starts_on_a_full_disk(base: Path) -> None:
    # The files that an earlier server would have left.
    left = (
        "mkdir .workspaced .staging .trash && echo >.workspaced/lock && mkdir p"
        " && echo >p/workspace.yaml"
    )
    fill = "head -c 1m /dev/zero >p/filler 2>/dev/null || true"
    with MountedServer(base, "size=300k", prepare=f"{left} && {fill}") as server:
        refused = call(server, "CreateWorkspace", project="q").error
        assert refused is not None
        _check_no_space(refused)
        answer(server, "DeleteWorkspace", project="p", force=True, permanent=True)
        assert (
            _eventually(lambda: call(server, "CreateWorkspace", project="q")).error
            is None
        )


_REFUSALS = [
    ("openat2", "ENOSYS"),
    ("openat2", "EPERM"),
    ("renameat2", "ENOSYS"),
    ("renameat2", "EPERM"),
    ("renameat2", "EINVAL"),
    ("statx", "ENOSYS"),
    ("statx", "EPERM"),
    ("getdents64", "EINVAL:when=1"),
]


@pytest.mark.parametrize(("name", "error"), _REFUSALS)
def test_the_portable_way_takes_over_where_a_call_is_refused(
    base: Path, name: str, error: str
) -> None:
    with Server(base, wrapper=strace(f"{name}:error={error}")) as server:
        _use(server)


def test_the_portable_way_takes_over_where_all_are_refused(base: Path) -> None:
    refusals = [
        f"{name}:error=ENOSYS"
        for name in ("openat2", "renameat2", "statx", "inotify_init1")
    ]
    with Server(base, wrapper=strace(*refusals)) as server:
        _use(server)


def _use(server: Server) -> None:
    """Makes every kind of change and checks the effects."""
    assert answer(server, "EnsureWorkspace", project="a")["created"]
    (server.base / "b").mkdir()
    answer(server, "CreateWorkspace", project="b")
    assert call(server, "CreateWorkspace", project="a").error is not None
    answer(
        server, "UpdateWorkspace", workspace={"project": "a", "dvc_remote_path": "x"}
    )
    answer(server, "DeleteWorkspace", project="a", force=True)
    assert answer(server, "UndeleteWorkspace", project="a")["dvc_remote_path"] == "x"
    (server.base / "a/models/model.bin").write_bytes(b"1234")
    status = answer(server, "GetWorkspaceStatus", project="a", max_staleness="0s")
    assert status["size_bytes"] == "4"
    answer(server, "DeleteWorkspace", project="b", force=True, permanent=True)
    assert [
        item["project"] for item in answer(server, "ListWorkspaces")["workspaces"]
    ] == ["a"]
    assert sorted(path.name for path in server.base.iterdir()) == [
        ".staging",
        ".trash",
        ".workspaced",
        "a",
    ]


class FirstStart(AnnouncedServer, MountedServer):
    """The first server of a base, on a disk that is already full."""


_FULL = [
    (
        "size=300k",
        "mkdir p && echo >p/workspace.yaml"
        " && (head -c 1m /dev/zero >p/filler 2>/dev/null || true)",
    ),
    (
        "size=10m,nr_inodes=30",
        "mkdir p && echo >p/workspace.yaml"
        " && for i in $(seq 99); do echo >p/$i || break; done 2>/dev/null",
    ),
]


@pytest.mark.parametrize(("options", "prepare"), _FULL)
def test_a_first_start_on_a_full_disk_serves_so_that_things_can_be_deleted(
    base: Path, options: str, prepare: str
) -> None:
    with FirstStart(base, options, prepare=prepare) as server:
        refused = call(server, "CreateWorkspace", project="q").error
        assert refused is not None
        _check_no_space(refused)
        models = server.seen_base / "p/models"
        (server.seen_base / "p/filler").unlink(missing_ok=True)
        for path in list((server.seen_base / "p").glob("[0-9]*"))[:25]:
            path.unlink()
        assert not models.exists()
        answer(server, "DeleteWorkspace", project="p", force=True, permanent=True)
        assert (
            _eventually(lambda: call(server, "CreateWorkspace", project="q")).error
            is None
        )
        # The server retries the files that it could not write at its start.
        lock = server.seen_base / ".workspaced/lock"
        assert (
            _eventually(
                lambda: Outcome(
                    [], None if lock.exists() and lock.read_text().strip() else _NOT_YET
                )
            ).error
            is None
        )
        assert (server.seen_base / ".workspaced/.gitignore").exists()


def test_a_first_start_without_inodes_can_delete_for_good(base: Path) -> None:
    prepare = (
        "mkdir -p p/models && echo 'project_name: p' >p/workspace.yaml"
        " && for i in $(seq 99); do echo >p/models/$i || break; done 2>/dev/null"
    )
    with FirstStart(base, "size=10m,nr_inodes=30", prepare=prepare) as server:
        refused = call(server, "DeleteWorkspace", project="p", force=True).error
        assert refused is not None
        _check_no_space(refused)
        assert "permanent" in refused.message
        assert answer(server, "GetWorkspace", project="p")["project"] == "p"
        answer(server, "DeleteWorkspace", project="p", force=True, permanent=True)
        assert not list(server.seen_base.glob(".trash.*"))
        assert (
            _eventually(lambda: call(server, "CreateWorkspace", project="q")).error
            is None
        )


_NOT_YET = Error("", "not yet", [], [])


def test_an_artifact_directory_is_deleted_on_a_full_disk(base: Path) -> None:
    record = "mkdir -p p/models/big && echo 'project_name: p' >p/workspace.yaml"
    fill = "(for i in $(seq 99); do echo >p/models/big/$i; done) 2>/dev/null || true"
    with FirstStart(
        base, "size=10m,nr_inodes=30", prepare=f"{record} && {fill}"
    ) as server:
        answer(server, "DeleteArtifact", project="p", path="models/big", force=True)
        assert (
            _eventually(lambda: call(server, "CreateWorkspace", project="q")).error
            is None
        )


def test_health_is_told_of_a_failed_disk_at_once(base: Path) -> None:
    # The sixth fsync is that of the base, after p1's rename.
    failing = strace("fsync:error=EIO:when=6")
    with (
        Server(base, "--workers", "1", wrapper=failing) as server,
        server.connect() as channel,
    ):
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(watch) == b"\x08\x01"
        answer(server, "CreateWorkspace", project="p0")
        assert call(server, "CreateWorkspace", project="p1").error is not None
        # The server reports the failure before it answers the call, so there is no
        # interval to wait for.
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x02"
        assert next(watch) == b"\x08\x02"
        watch.cancel()
    assert any(
        "no longer serving" in line.get("message", "") for line in log_lines(server)
    )


def test_a_server_that_may_leave_does_when_its_disk_has_failed(base: Path) -> None:
    failing = strace("fsync:error=EIO:when=6")
    with Server(
        base, "--workers", "1", "--idle-timeout", "1h", wrapper=failing
    ) as server:
        answer(server, "CreateWorkspace", project="p0")
        assert call(server, "CreateWorkspace", project="p1").error is not None
        assert server.wait() == 0


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("sync", range(1, 4))
def test_a_failed_sync_is_an_io_error_whatever_it_says(
    base: Path, error: str, sync: int
) -> None:
    with Server(
        base, "--workers", "1", wrapper=strace(f"fsync:error={error}:when={3 + sync}")
    ) as server:
        answer(server, "CreateWorkspace", project="p0")
        refused = call(server, "CreateWorkspace", project="p1").error
        assert refused is not None
        assert (refused.code, refused.infos[0].reason) == ("INTERNAL", "IO_ERROR")
        assert int(refused.infos[0].metadata["errno"]) > 0
        assert "nothing was changed" not in refused.message


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_failed_sync_of_a_directory_makes_it_read_only_until_a_restart(
    base: Path, error: str
) -> None:
    # A create syncs three times: the record, its directory and the base. With a single
    # worker, the sixth fsync is therefore the second create's sync of the base.
    with Server(
        base, "--workers", "1", wrapper=strace(f"fsync:error={error}:when=6")
    ) as server:
        answer(server, "CreateWorkspace", project="p0")
        for project in ["p1", "p2"]:
            assert call(server, "CreateWorkspace", project=project).error is not None
        assert answer(server, "GetWorkspace", project="p0")["project"] == "p0"
        _wait_until_not_serving(server)
    with Server(base) as server:
        assert answer(server, "CreateWorkspace", project="p2")["project"] == "p2"


def _wait_until_not_serving(server: Server) -> None:
    deadline = time.monotonic() + _EVENTUALLY_S
    while "NOT_SERVING" not in grpcurl(server, "grpc.health.v1.Health/Check"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
