"""The audit log of a real server: what it records, and what it promises in trouble."""

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace.v1 import workspace_service_pb2 as pb

from attack.http2 import Connection, message
from conformance.players import Request
from server.callers import (
    DENIED,
    TIMEOUT_S,
    UNAUTHENTICATED,
    Caller,
    Files,
    code_and_reason,
    metric,
    on_socket,
    on_tcp,
    wait_until,
)
from server.run import fill_disk, mounted, refusal
from support.server import Server

_USER = f"uid:{os.getuid()}"
_POLICY = f"""
bindings:
  - {{principal: "{_USER}", role: operator}}
  - {{principal: robot, role: editor, projects: ["team-*"]}}
"""


def _lines(file: Path) -> list[dict[str, Any]]:
    """Returns the records of a log that no crash of the machine has cut off."""
    return [json.loads(line) for line in file.read_text().splitlines()]


class _Audited(Server):
    """A server with an audit log in `directory`; further records are read by next()."""

    def __init__(self, base: Path, directory: Path, *args: str, **kwargs: Any) -> None:
        self.file = directory / "audit.log"
        self._seen = 0
        super().__init__(
            base,
            *("--audit-log", str(self.file), "--metrics", "127.0.0.1:0", *args),
            **kwargs,
        )

    def next(self, count: int = 1) -> list[dict[str, Any]]:
        """Waits for `count` more records and returns them."""
        wait_until(
            lambda: self.file.read_text().count("\n") >= self._seen + count,
            f"{count} lines of the audit log",
        )
        lines = _lines(self.file)[self._seen :]
        self._seen += len(lines)
        assert len(lines) == count, lines
        return lines


# Calls, and what their records must say beside the RPC.
_CHANGES: list[tuple[str, Request, dict[str, str]]] = [
    (
        "CreateWorkspace",
        {"project": "p", "request_id": "the-first"},
        {"project": "p", "request_id": "the-first"},
    ),
    ("UpdateWorkspace", {"workspace": {"project": "p"}}, {"project": "p"}),
    ("EnsureWorkspace", {"project": "q"}, {"project": "q"}),
    (
        "WriteArtifact",
        [{"project": "p", "path": "models/x", "data": "AAAA", "finish": True}],
        {"project": "p", "path": "models/x"},
    ),
    (
        "CopyArtifact",
        {"project": "p", "path": "models/x", "destination_path": "models/y"},
        {"project": "p", "path": "models/x", "destination": "models/y"},
    ),
    (
        "MoveArtifact",
        {"project": "p", "path": "models/y", "destination_path": "models/z"},
        {"project": "p", "path": "models/y", "destination": "models/z"},
    ),
    (
        "MakeDirectory",
        {"project": "p", "path": "models/d"},
        {"project": "p", "path": "models/d"},
    ),
    (
        "DeleteArtifact",
        {"project": "p", "path": "models/z"},
        {"project": "p", "path": "models/z"},
    ),
    ("DeleteWorkspace", {"project": "p", "force": True}, {"project": "p"}),
    ("UndeleteWorkspace", {"project": "p"}, {"project": "p"}),
]


def test_each_change_has_one_record(base: Path, tmp_path: Path) -> None:
    with _Audited(base, tmp_path) as server, on_socket(server) as caller:
        for rpc, request, said in _CHANGES:
            outcome = caller.call(rpc, request)
            assert outcome.error is None, (rpc, outcome.error)
            (record,) = server.next()
            assert (
                record.items()
                >= {
                    "rpc": rpc,
                    "principal": _USER,
                    "kind": "socket",
                    "code": "OK",
                    **said,
                }.items()
            ), record
            assert record["peer"].startswith("unix")
            assert record["micros"] > 0
            assert re.fullmatch(
                r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"]
            )
            response = outcome.responses[-1]
            changed = response.get("workspace", response)
            changed = changed.get("artifact", changed)
            if "etag" in changed:
                assert record["etag_after"] == changed["etag"], rpc
            if "uid" in changed:
                assert record["uid"] == changed["uid"], rpc
        assert (os.stat(server.file).st_mode & 0o007) == 0


def test_an_update_has_the_etags_before_and_after(base: Path, tmp_path: Path) -> None:
    with _Audited(base, tmp_path) as server, on_socket(server) as caller:
        before = caller.answer("CreateWorkspace", project="p")
        update = {"project": "p", "dvc_remote_path": "x"}
        after = caller.answer("UpdateWorkspace", workspace=update)
        record = server.next(2)[1]
        assert before["etag"] != after["etag"]
        assert record["etag_before"] == before["etag"]
        assert record["etag_after"] == after["etag"]
        # A workspace that the update creates has none before.
        update["project"] = "q"
        caller.answer("UpdateWorkspace", workspace=update, allow_missing=True)
        assert "etag_before" not in server.next()[0]
        caller.answer("DeleteWorkspace", project="p", etag=after["etag"], force=True)
        assert server.next()[0]["etag_before"] == after["etag"]


def test_failed_changes_are_recorded_with_the_reason(
    base: Path, tmp_path: Path
) -> None:
    with _Audited(base, tmp_path) as server, on_socket(server) as caller:
        for rpc, request, code, reason in [
            ("UndeleteWorkspace", {"project": "p"}, "NOT_FOUND", "WORKSPACE_NOT_FOUND"),
            (
                "DeleteWorkspace",
                {"project": "p", "force": True, "etag": "expected"},
                "NOT_FOUND",
                "WORKSPACE_NOT_FOUND",
            ),
            ("CreateWorkspace", {"project": "-"}, "INVALID_ARGUMENT", "FIELD_INVALID"),
        ]:
            error = caller.call(rpc, request).error
            assert error is not None
            (record,) = server.next()
            assert (record["code"], record["reason"]) == (code, reason)
            assert record["project"] == request["project"]
            assert "etag_before" not in record and "etag_after" not in record


def test_what_changes_nothing_is_recorded_only_on_request(
    base: Path, tmp_path: Path
) -> None:
    reads: list[tuple[str, Request]] = [
        ("GetWorkspace", {"project": "p"}),
        ("ListWorkspaces", {}),
        ("GetWorkspaceStatus", {"project": "p"}),
        ("StreamWorkspaceStatuses", {}),
        ("ListArtifacts", {"project": "p"}),
        ("ReadArtifact", {"project": "p", "path": "models/x"}),
        ("GetServerInfo", {}),
        # Changes that change nothing.
        ("EnsureWorkspace", {"project": "p"}),
        ("CreateWorkspace", {"project": "n", "validate_only": True}),
        ("UpdateWorkspace", {"workspace": {"project": "p"}, "validate_only": True}),
        ("DeleteWorkspace", {"project": "p", "force": True, "validate_only": True}),
    ]
    for flags, count in (((), 0), (("--audit-reads",), len(reads))):
        directory = tmp_path / f"reads-{count}"
        directory.mkdir()
        with (
            _Audited(base, directory, *flags) as server,
            on_socket(server) as caller,
        ):
            caller.answer(
                "UpdateWorkspace", workspace={"project": "p"}, allow_missing=True
            )
            (base / "p/models/x").write_bytes(b"1234")
            server.next()
            for rpc, request in reads:
                assert caller.call(rpc, request).error is None
            records = server.next(count) if count else []
            assert [record["rpc"] for record in records] == [
                rpc for rpc, _ in reads[:count]
            ]
            # Nothing else follows.
            caller.answer("UpdateWorkspace", workspace={"project": "p"})
            assert server.next()[0]["rpc"] == "UpdateWorkspace"


def test_refusals_are_recorded(base: Path, tmp_path: Path) -> None:
    files = Files(tmp_path, _POLICY)
    token = files.token("robot")
    with Server(base, *files.args) as server:
        with on_tcp(server, files.authority, token=token) as robot:
            assert robot.refusal("GetWorkspace", project="other") == DENIED
        with on_tcp(server, files.authority, token=token[:-1]) as wrong:
            assert wrong.refusal("GetWorkspace", project="other") == UNAUTHENTICATED
        with on_tcp(server, files.authority, token=files.jwt("robot")) as robot:
            robot.answer("CreateWorkspace", project="team-a")
        wait_until(lambda: files.audit.read_text().count("\n") == 3)
    denied, unknown, changed = _lines(files.audit)
    assert (
        denied.items()
        >= {
            "principal": "robot",
            "kind": "token",
            "rpc": "GetWorkspace",
            "project": "other",
            "code": "PERMISSION_DENIED",
            "reason": "PERMISSION_MISSING",
        }.items()
    )
    assert re.match(r"ipv[46]:", denied["peer"])
    assert "principal" not in unknown
    assert (
        unknown.items()
        >= {
            "rpc": "GetWorkspace",
            "code": "UNAUTHENTICATED",
            "reason": "CREDENTIALS_INVALID",
        }.items()
    )
    assert (changed["principal"], changed["kind"]) == ("robot", "jwt")


def test_a_client_that_leaves_at_once_keeps_its_name(
    base: Path, tmp_path: Path
) -> None:
    request = message(
        pb.MakeDirectoryRequest(project="p", path="outputs/d").SerializeToString()
    )
    with _Audited(base, tmp_path) as server, on_socket(server) as caller:
        caller.answer("CreateWorkspace", project="p")
        for _ in range(100):
            with Connection(server.address) as connection:
                frames = [connection.open("MakeDirectory", request) for _ in range(20)]
                connection.socket.sendall(b"".join(frames))
        caller.answer("DeleteWorkspace", project="p", force=True)
        wait_until(lambda: "DeleteWorkspace" in server.file.read_text())
        principals = {line.get("principal") for line in _lines(server.file)}
        # Calls that came after the connection had ended have no name at all.
        assert principals <= {_USER, None}


def test_wrong_credentials_cannot_flood_the_log(base: Path, tmp_path: Path) -> None:
    files = Files(tmp_path)
    token = files.token("robot")
    count = 300
    with Server(base, *files.args) as server:
        with on_tcp(server, files.authority, token="mlw_wrong") as wrong:
            for _ in range(count):
                assert wrong.refusal("GetServerInfo") == UNAUTHENTICATED
        left_out = metric(server, "workspaced_audit_lines_total", result="left_out")
        with on_tcp(server, files.authority, token=token) as robot:
            robot.answer("CreateWorkspace", project="p")
    records = _lines(files.audit)
    assert records[-1]["rpc"] == "CreateWorkspace"
    assert len(records) - 1 + left_out == count
    assert left_out > count / 2


# --- The file -----------------------------------------------------------------

_MAX_BYTES = 100 << 20


def test_a_full_file_is_set_aside(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with file.open("wb") as old:
        # Sparse, so it takes no space.
        old.seek(_MAX_BYTES - 100)
        old.write(b"\n")
    with _Audited(base, tmp_path) as server, on_socket(server) as caller:
        caller.answer("CreateWorkspace", project="p")
        caller.answer("CreateWorkspace", project="q")
        wait_until(
            lambda: (
                (tmp_path / "audit.log.1").exists()
                and file.read_text().count("\n") == 2
            )
        )
    assert [record["project"] for record in _lines(file)] == ["p", "q"]
    assert (tmp_path / "audit.log.1").stat().st_size == _MAX_BYTES - 99


def test_another_program_may_rotate_the_file(base: Path, tmp_path: Path) -> None:
    with _Audited(base, tmp_path) as server, on_socket(server) as caller:
        caller.answer("CreateWorkspace", project="p")
        server.next()
        rotated = server.file.rename(tmp_path / "rotated")
        projects = ["p"]
        # Records go to the old file until they are synced.
        while not server.file.exists():
            projects.append(f"q{len(projects)}")
            caller.answer("CreateWorkspace", project=projects[-1])
    old, new = _done(rotated), _done(server.file)
    assert old + new == projects
    assert old[0] == "p" and new


def test_records_are_appended_by_the_next_server(base: Path, tmp_path: Path) -> None:
    for project in ("p", "q"):
        with (
            Server(base, "--audit-log", str(tmp_path / "audit.log")) as server,
            on_socket(server) as caller,
        ):
            caller.answer("CreateWorkspace", project=project)
    # Leaving the block stops the server, which writes what is queued.
    assert [each["project"] for each in _lines(tmp_path / "audit.log")] == ["p", "q"]


def test_two_servers_do_not_share_a_file(base: Path, tmp_path: Path) -> None:
    with _Audited(base, tmp_path) as server:
        other = base.with_name("other")
        sentence = refusal("--base", other, "--audit-log", server.file).sentence
        assert str(server.file) in sentence


# --- Trouble ------------------------------------------------------------------


class _OnSmallDisk(_Audited):
    """A server whose audit log has a disk of 256 KiB of its own."""

    def __init__(self, base: Path, directory: Path, *args: str) -> None:
        wrapper = [str(part) for part in mounted(directory, "size=256k")]
        super().__init__(base, directory, *args, wrapper=wrapper)
        self._directory = directory

    def __enter__(self) -> "_OnSmallDisk":
        super().__enter__()
        # Other processes see the disk only through the server's.
        self.file = Path(f"/proc/{self.pid}/root{self._directory}/audit.log")
        return self


def _changes_until(caller: Caller, stop: Any, names: list[str]) -> None:
    """Creates workspaces until `stop()`; appends the names of those created."""
    for i in range(1_000):
        if stop():
            return
        name = f"p{len(names)}"
        outcome = caller.call(
            "CreateWorkspace", {"project": name, "request_id": str(i)}
        )
        if outcome.error is None:
            names.append(name)
    raise AssertionError("the disk does not fill")


def test_a_full_disk_raises_the_alarm_and_loses_no_record(
    base: Path, tmp_path: Path
) -> None:
    with _OnSmallDisk(base, tmp_path) as server, on_socket(server) as caller:
        filler = fill_disk(server.file.parent)
        names: list[str] = []
        _changes_until(
            caller, lambda: "cannot write the audit log" in server.output, names
        )
        assert metric(server, "workspaced_audit_writable") == 0
        # Changes go on.
        for _ in range(3):
            names.append(f"p{len(names)}")
            caller.answer("CreateWorkspace", project=names[-1])
        filler.unlink()
        wait_until(lambda: "the audit log can be written again" in server.output)
        wait_until(lambda: server.file.read_text().count("\n") >= len(names))
        assert [record["project"] for record in _lines(server.file)] == names
        assert metric(server, "workspaced_audit_writable") == 1
        assert metric(server, "workspaced_audit_failures_total") > 0
        assert metric(server, "workspaced_audit_lines_total", result="dropped") == 0


def test_a_full_disk_stops_changes_that_must_be_recorded(
    base: Path, tmp_path: Path
) -> None:
    with (
        _OnSmallDisk(base, tmp_path, "--audit-required") as server,
        on_socket(server) as caller,
    ):
        filler = fill_disk(server.file.parent)
        names: list[str] = []
        _changes_until(
            caller, lambda: "cannot write the audit log" in server.output, names
        )
        changes: list[tuple[str, Request]] = [
            ("CreateWorkspace", {"project": "late"}),
            ("DeleteWorkspace", {"project": "p0"}),
            (
                "WriteArtifact",
                [{"project": "p0", "path": "models/x", "data": "AAAA", "finish": True}],
            ),
        ]
        for rpc, request in changes:
            outcome = caller.call(rpc, request)
            assert outcome.error is not None
            assert code_and_reason(outcome.error) == ("RESOURCE_EXHAUSTED", "NO_SPACE")
            assert "--audit-required" in outcome.error.message
            assert outcome.error.infos[0].metadata["path"].endswith("audit.log")
        assert not (base / "late").exists()
        # Reads, and changes that change nothing, are answered.
        assert caller.answer("GetWorkspace", project="p0")["project"] == "p0"
        caller.answer("CreateWorkspace", project="late", validate_only=True)
        filler.unlink()
        wait_until(
            lambda: caller.call("CreateWorkspace", {"project": "late"}).error is None
        )
        # Every change that was made is recorded, once.
        wait_until(lambda: _done(server.file)[-1:] == ["late"])
        assert _done(server.file) == [*names, "late"]


def _done(file: Path) -> list[str]:
    """Returns the projects of the successful changes."""
    return [each["project"] for each in _lines(file) if each["code"] == "OK"]


@pytest.mark.parametrize("pause_s", [0, 1.5])
def test_a_killed_server_leaves_whole_lines_of_all_but_the_last_moment(
    base: Path, tmp_path: Path, pause_s: float
) -> None:
    """After a second, the promise covers even a crash of the machine."""
    made: list[str] = []
    with _Audited(base, tmp_path) as server, server.connect() as channel:
        stop = threading.Event()

        def work() -> None:
            caller = Caller(channel)
            while not stop.is_set():
                name = f"p{len(made)}"
                if caller.call("CreateWorkspace", {"project": name}).error is None:
                    made.append(name)

        worker = threading.Thread(target=work)
        worker.start()
        wait_until(lambda: len(made) > 20)
        if pause_s:
            stop.set()
            worker.join(TIMEOUT_S)
            threading.Event().wait(pause_s)
        server.kill()
        stop.set()
        worker.join(TIMEOUT_S)
    recorded = [record["project"] for record in _lines(server.file)]
    # Without a gap, and complete but for the lines of a few milliseconds.
    assert recorded == [f"p{i}" for i in range(len(recorded))]
    assert len(recorded) >= len(made) - (0 if pause_s else 20)
    with (
        Server(base, "--audit-log", str(server.file)) as again,
        on_socket(again) as caller,
    ):
        caller.answer("CreateWorkspace", project="again")
    assert _lines(server.file)[-1]["project"] == "again"
