"""--read-only: bases that the server cannot or must not write to."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conformance.players import Python
from server.run import AnnouncedServer, answer, call, log_lines, refusal
from support.server import BINARY, Server

_CHANGES: list[tuple[str, Any]] = [
    ("CreateWorkspace", {"project": "new"}),
    ("EnsureWorkspace", {"project": "new"}),
    ("UpdateWorkspace", {"workspace": {"project": "a", "dvc_remote_path": "other"}}),
    ("DeleteWorkspace", {"project": "a", "force": True}),
    (
        "DeleteWorkspace",
        {"project": "gone", "uid": "UID", "force": True, "permanent": True},
    ),
    ("UndeleteWorkspace", {"project": "gone"}),
    (
        "WriteArtifact",
        [{"project": "a", "path": "models/new.bin", "data": "eA==", "finish": True}],
    ),
    ("DeleteArtifact", {"project": "a", "path": "models/m.bin"}),
    (
        "MoveArtifact",
        {"project": "a", "path": "models/m.bin", "destination_path": "models/n.bin"},
    ),
    (
        "CopyArtifact",
        {"project": "a", "path": "models/m.bin", "destination_path": "models/n.bin"},
    ),
    ("MakeDirectory", {"project": "a", "path": "models/sub"}),
]


@pytest.fixture
def filled(base: Path) -> Path:
    """A base with a workspace, a file in it, and another workspace in the trash."""
    with Server(base) as server:
        answer(
            server, "EnsureWorkspace", project="a", workspace={"dvc_remote_path": "x"}
        )
        (base / "a/models/m.bin").write_bytes(b"1234")
        answer(server, "EnsureWorkspace", project="gone")
        answer(server, "DeleteWorkspace", project="gone", force=True)
    return base


def _read_only_mount(base: Path) -> list[str]:
    """Returns a command prefix that makes `base` read-only for the server alone.

    Skips the test where mount namespaces are unavailable.
    """
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    )
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
    )
    if probe.returncode != 0:
        pytest.skip(f"needs mount namespaces: {probe.stderr.strip()}")
    return ["unshare", "-m", "sh", "-c", script, "sh", str(base)]


def _state(base: Path) -> list[tuple[str, int, float]]:
    return sorted(
        (str(path), path.lstat().st_ino, path.lstat().st_mtime)
        for path in (base, *base.rglob("*"))
    )


def _check_reads(reader: Server) -> None:
    assert answer(reader, "GetWorkspace", project="a")["dvc_remote_path"] == "x"
    listed = answer(reader, "ListWorkspaces", show_deleted=True)["workspaces"]
    assert [workspace["project"] for workspace in listed] == ["a", "gone"]
    assert (
        answer(reader, "GetWorkspaceStatus", project="a", max_staleness="0s")[
            "size_bytes"
        ]
        == "4"
    )
    assert call(reader, "StreamWorkspaceStatuses").error is None
    artifacts = answer(reader, "ListArtifacts", project="a", path="models")["artifacts"]
    assert [artifact["path"] for artifact in artifacts] == ["models/m.bin"]
    assert (
        call(reader, "ReadArtifact", project="a", path="models/m.bin").responses[-1][
            "data"
        ]
        == "MTIzNA=="
    )
    assert answer(reader, "GetServerInfo")["features"] == ["read-only"]
    assert answer(reader, "EnsureWorkspace", project="a")["workspace"]["project"] == "a"


def test_a_base_that_cannot_be_written_is_read(filled: Path) -> None:
    refused = refusal("--base", filled, wrapper=tuple(_read_only_mount(filled)))
    assert (
        refused.code == 4
        and str(filled) in refused.sentence
        and "--read-only" in refused.sentence
    )
    before = _state(filled)
    with AnnouncedServer(
        filled, "--read-only", wrapper=_read_only_mount(filled)
    ) as reader:
        assert not str(reader.socket).startswith(str(filled))
        _check_reads(reader)
    assert _state(filled) == before


@pytest.mark.parametrize(
    ("rpc", "request_"),
    _CHANGES,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_change_is_refused_and_nothing_is_written(
    filled: Path, rpc: str, request_: Any
) -> None:
    before = _state(filled)
    with AnnouncedServer(filled, "--read-only") as reader, Python(reader) as player:
        if isinstance(request_, dict) and request_.get("uid"):
            deleted = answer(reader, "ListWorkspaces", show_deleted=True)["workspaces"][
                1
            ]
            request_ = {**request_, "uid": deleted["uid"]}
        error = player.call(rpc, request_).error
        assert error is not None
        assert (error.code, error.infos[0].reason) == (
            "FAILED_PRECONDITION",
            "READ_ONLY",
        ), error
        assert error.infos[0].metadata["path"] == str(filled)
    assert _state(filled) == before
    assert [line for line in log_lines(reader) if line["level"] == "warning"] == []


def test_it_reads_what_a_server_beside_it_writes(filled: Path) -> None:
    with Server(filled) as server, AnnouncedServer(filled, "--read-only") as reader:
        _check_reads(reader)
        answer(
            server,
            "UpdateWorkspace",
            workspace={"project": "a", "dvc_remote_path": "y"},
        )
        assert answer(reader, "GetWorkspace", project="a")["dvc_remote_path"] == "y"


def test_readers_of_one_user_meet_at_one_socket(filled: Path) -> None:
    with AnnouncedServer(filled, "--read-only") as reader:
        second = refusal("--base", filled, "--read-only")
        assert second.code == 3 and reader.address in second.sentence
        assert reader.socket.parent.stat().st_mode & 0o077 == 0
    assert not reader.socket.exists()


def test_of_readers_that_start_at_once_one_listens(filled: Path) -> None:
    command = [BINARY, "--base", filled, "--read-only", "--idle-timeout", "2s"]
    started = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(6)
    ]
    assert sorted(process.wait(30) for process in started) == [0, 3, 3, 3, 3, 3]


def test_it_listens_where_it_is_told_and_nowhere_else(filled: Path) -> None:
    socket = filled.with_name("s")
    with AnnouncedServer(
        filled, "--read-only", "--listen", f"unix:{socket}", "--listen", "127.0.0.1:0"
    ) as reader:
        assert reader.addresses[0] == f"unix:{socket}" and len(reader.addresses) == 2
        _check_reads(reader)


def test_a_base_that_is_missing_is_not_made(base: Path) -> None:
    refused = refusal("--base", base, "--read-only")
    assert refused.code == 1 and str(base) in refused.sentence
    assert not base.exists()


def test_it_stops_when_the_base_is_moved(filled: Path) -> None:
    with AnnouncedServer(filled, "--read-only") as reader:
        filled.rename(filled.with_name("moved"))
        error = call(reader, "GetWorkspace", project="a").error
        assert error is not None and error.code == "UNAVAILABLE"
        assert reader.wait() == 0


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start a server as another user"
)
def test_another_users_base_is_read(filled: Path) -> None:
    filled.parent.chmod(0o755)
    # Skip below if the path of the binary is closed to other users.
    as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "XDG_RUNTIME_DIR=",
    ]
    if (
        subprocess.run(
            [*as_nobody, BINARY, "--version"], capture_output=True
        ).returncode
        != 0
    ):
        pytest.skip("another user cannot run the server from here")
    assert refusal("--base", filled, wrapper=tuple(as_nobody)).code == 4
    with AnnouncedServer(filled, "--read-only", wrapper=as_nobody) as reader:
        assert reader.address.startswith("unix:/tmp/workspaced-65534/")
        _check_reads(reader)
        assert any(
            "belongs to the user 0" in line.get("message", "")
            for line in log_lines(reader)
        )
    with Server(filled):
        # The error about another server precedes the one about permissions.
        assert refusal("--base", filled, wrapper=tuple(as_nobody)).code == 3
