"""Exports and imports on a real server: other programs' view, damage, kills, bounds."""

import hashlib
import io
import json
import os
import random
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from conformance.players import rpc_error
from server.run import AnnouncedServer
from support.server import BINARY, Server, short_base

_MIB = 1 << 20
_TIMEOUT_S = 60


@pytest.fixture
def other_base() -> Iterator[Path]:
    with short_base() as path:
        yield path


def _manager(server: Server) -> WorkspaceManager:
    return WorkspaceManager(address=server.address)


def _fill(root: Path) -> None:
    """Adds files of every kind to a workspace."""
    (root / "models/v1/deep/er").mkdir(parents=True)
    (root / "models/v1/weights.bin").write_bytes(random.Random(1).randbytes(3 * _MIB))
    (root / "models/v1-old").write_bytes(b"old")
    (root / "models/empty").touch(mode=0o600)
    (root / "models/run.sh").write_text("exit\n")
    (root / "models/run.sh").chmod(0o755)
    (root / "models/latest").symlink_to("v1/weights.bin")
    (root / "outputs/absolute").symlink_to(root / "models/v1")
    (root / "outputs/none").mkdir()
    for name in ("ü €", "new\nline", "back\\slash", "l" * 255, os.fsdecode(b"\xff")):
        (root / "outputs" / name).write_text(name, errors="surrogateescape")
    with (root / "outputs/sparse").open("wb") as file:
        file.truncate(64 * _MIB)
    os.utime(root / "models/v1-old", ns=(1, -1_500_000_000))


def _tree(root: Path) -> dict[str, Any]:
    """Returns the mode, time and content of everything in the five directories."""
    found: dict[str, Any] = {}
    for path in sorted(root.glob("*/**/*")) + sorted(root.glob("*/")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
            continue
        state = path.stat()
        content = (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "dir"
        )
        found[name] = (oct(state.st_mode), state.st_mtime_ns, content)
    return found


def _export(manager: WorkspaceManager, project: str) -> bytes:
    return b"".join(manager.export_stream(project))


def _staged(server: Server) -> list[str]:
    staging = server.base / ".staging"
    return os.listdir(staging) if staging.exists() else []


def _eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_other_programs_read_archives(base: Path, tmp_path: Path) -> None:
    """GNU tar, Python's tarfile and sha256sum agree with the workspace."""
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud", metadata={"team": "risk"})
        root = base / "fraud"
        _fill(root)
        archive = tmp_path / "fraud.tar"
        manager.export_workspace("fraud", archive)
        expected = _tree(root)
    expected["outputs/absolute"] = "../models/v1"

    by_tar = tmp_path / "by_tar"
    by_tar.mkdir()
    command = ["tar", "-C", by_tar, "-xpf", archive]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    assert (by_tar / "manifest.json").exists()
    listed = subprocess.run(
        ["sha256sum", "--strict", "-c", "checksums/000001.sha256"],
        cwd=by_tar,
        capture_output=True,
        check=True,
    )
    assert listed.stdout.count(b": OK") == 11
    by_python = tmp_path / "by_python"
    with tarfile.open(archive) as opened:
        # Older releases have no filters.
        options = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
        opened.extractall(by_python, **options)
        names = opened.getnames()
    assert names[0] == "manifest.json"
    for extracted in (by_tar, by_python):
        (extracted / "manifest.json").unlink()
        (extracted / "checksums/000001.sha256").unlink()
        (extracted / "checksums").rmdir()
        tree = _tree(extracted)
        assert set(tree) == set(expected)
        # Python's tarfile drops the fraction of a time.
        if extracted == by_tar:
            assert tree == expected


def test_a_workspace_moves_between_servers_unchanged(
    base: Path, other_base: Path
) -> None:
    with (
        Server(base) as one,
        Server(other_base) as two,
        _manager(one) as a,
        _manager(two) as b,
    ):
        a.create_workspace("fraud", 17, metadata={"team": "risk"})
        _fill(base / "fraud")
        imported = b.import_workspace(a.export_stream("fraud"))
        assert imported.project_name == "fraud"
        assert imported.metadata == {"team": "risk"}
        assert imported.dvc_remote_path == str(other_base / "fraud/dvc/remote")
        expected = _tree(base / "fraud")
        expected["outputs/absolute"] = "../models/v1"
        assert _tree(other_base / "fraud") == expected
        first = _export(a, "fraud")
        assert first == _export(a, "fraud") == _export(b, "fraud")
        assert _staged(two) == []


def test_many_small_files(base: Path, tmp_path: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("many")
        for at in range(100):
            directory = base / f"many/outputs/{at}"
            directory.mkdir()
            for name in range(100):
                (directory / f"{name}.json").write_text(f"{at} {name}")
        manager.export_workspace("many", tmp_path / "many.tar")
        progress: list[int] = []
        manager.import_workspace(tmp_path / "many.tar", "copy", progress.append)
        assert manager.get_workspace_status("copy")["file_count"] == 10_000
        assert progress == sorted(progress)
        assert progress[-1] == (tmp_path / "many.tar").stat().st_size
        assert _tree(base / "copy") == _tree(base / "many")


def test_files_appear_whole_or_not_at_all(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "fraud.tar"
    target.write_bytes(b"older")
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        (base / "fraud/models/a").write_bytes(b"x" * 5 * _MIB)
        os.mkfifo(base / "fraud/outputs/fifo")
        with pytest.raises(WorkspaceError) as raised:
            manager.export_workspace("fraud", target)
        assert raised.value.details["reason"] == "PATH_UNSUITABLE"
        assert raised.value.details["path"] == "outputs/fifo"
        assert target.read_bytes() == b"older"
        assert os.listdir(tmp_path) == ["fraud.tar"]
        manager.export_workspace("fraud", target, directories=["models"])
        assert tarfile.is_tarfile(target)
        buffer = io.BytesIO()
        manager.export_workspace("fraud", buffer, ["models"])
        assert buffer.getvalue() == target.read_bytes()
        buffer.seek(0)
        assert manager.import_workspace(buffer, "copy").project_name == "copy"


def test_every_kind_of_source(base: Path, tmp_path: Path) -> None:
    archive = tmp_path / "fraud.tar"
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        (base / "fraud/models/a").write_bytes(b"x" * 3 * _MIB)
        manager.export_workspace("fraud", archive)
        content = archive.read_bytes()
        manager.delete_workspace("fraud", force=True, permanent=True)
        assert manager.import_workspace(str(archive)).project_name == "fraud"
        with archive.open("rb") as file:
            manager.import_workspace(file, "file")
        manager.import_workspace(iter([content]), "one-piece")
        tiny = (content[at : at + 1000] for at in range(0, len(content), 1000))
        manager.delete_workspace("fraud", force=True, permanent=True)
        assert manager.import_workspace(tiny).project_name == "fraud"
        for bad in (b"", b"no archive", content[:-2000], content + b"x"):
            with pytest.raises(WorkspaceError) as raised:
                manager.import_workspace([bad])
            assert raised.value.details["reason"] in (
                "ARCHIVE_INVALID",
                "WORKSPACE_EXISTS",
            )
            with pytest.raises(WorkspaceError) as raised:
                manager.import_workspace([bad], "bad")
            assert raised.value.details["reason"] == "ARCHIVE_INVALID"
        assert _staged(server) == []


def _failing(content: bytes) -> Iterator[bytes]:
    yield content
    raise ValueError("the source broke")


def test_text_is_neither_source_nor_target(base: Path, tmp_path: Path) -> None:
    class Exhausted:
        def read(self, size: int) -> None: ...

    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        (tmp_path / "text").write_text("abc")
        with open(tmp_path / "text") as file:
            for source in (
                file,
                io.StringIO("abc"),
                ["abc"],
                [7],
                7,
                None,
                Exhausted(),
            ):
                with pytest.raises(WorkspaceError, match="source") as caught:
                    manager.import_workspace(source, "copy")  # type: ignore[arg-type]
                assert caught.value.details["reason"] == "FIELD_INVALID"
        with open(tmp_path / "target", "w") as file:
            for target in (file, io.StringIO(), None, 7):
                with pytest.raises(WorkspaceError, match="target") as caught:
                    manager.export_workspace("fraud", target)  # type: ignore[arg-type]
                assert caught.value.details["reason"] == "FIELD_INVALID"
        assert [each.project_name for each in manager.list_workspaces()] == ["fraud"]


def test_a_piece_of_large_items_is_cut_by_bytes(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        (base / "fraud/models/x").write_bytes(os.urandom(8 * _MIB))
        archive = _export(manager, "fraud")
        assert len(archive) % 8 == 0
        copy = manager.import_workspace([memoryview(archive).cast("d")], "copy")
        assert (copy.models_path / "x").stat().st_size == 8 * _MIB


def test_a_source_that_breaks_leaves_nothing(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        (base / "fraud/models/a").write_bytes(b"x" * 3 * _MIB)
        content = _export(manager, "fraud")
        with pytest.raises(ValueError, match="broke"):
            manager.import_workspace(_failing(content[: 2 * _MIB]), "copy")
        _eventually(lambda: _staged(server) == [])
        assert not (base / "copy").exists()


def test_a_cancelled_import_leaves_nothing(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        (base / "fraud/models/a").write_bytes(b"x" * 9 * _MIB)
        content = _export(manager, "fraud")
        sent = threading.Event()

        def messages() -> Iterator[pb.ImportWorkspaceRequest]:
            yield pb.ImportWorkspaceRequest(project="copy", data=content[: 4 * _MIB])
            yield pb.ImportWorkspaceRequest(data=content[4 * _MIB : 8 * _MIB])
            sent.wait(_TIMEOUT_S)

        with grpc.insecure_channel(server.address) as channel:
            call = pb_grpc.WorkspaceServiceStub(channel).ImportWorkspace(messages())
            assert next(call).offset > 4 * _MIB
            assert len(_staged(server)) == 1
            call.cancel()
            sent.set()
            _eventually(lambda: _staged(server) == [])
        assert not (base / "copy").exists()


def test_a_killed_import_leaves_nothing(base: Path) -> None:
    with Server(base) as server:
        with _manager(server) as manager:
            manager.create_workspace("fraud")
            (base / "fraud/models/a").write_bytes(b"x" * 9 * _MIB)
            content = _export(manager, "fraud")
        sent = threading.Event()

        def messages() -> Iterator[pb.ImportWorkspaceRequest]:
            yield pb.ImportWorkspaceRequest(project="copy", data=content[: 4 * _MIB])
            yield pb.ImportWorkspaceRequest(data=content[4 * _MIB : 8 * _MIB])
            sent.wait(_TIMEOUT_S)

        with grpc.insecure_channel(server.address) as channel:
            call = pb_grpc.WorkspaceServiceStub(channel).ImportWorkspace(messages())
            assert next(call).offset > 4 * _MIB
            server.kill()
            sent.set()
    with Server(base) as server, _manager(server) as manager:
        assert _staged(server) == []
        assert not (base / "copy").exists()
        manager.import_workspace([content], "copy")


def test_a_file_is_sent_again_after_the_server_was_killed(
    base: Path, tmp_path: Path
) -> None:
    """The client resends the archive, with the same request_id, to the next server."""
    archive = tmp_path / "fraud.tar"
    with WorkspaceManager(base) as manager:
        manager.create_workspace("fraud")
        (base / "fraud/models/a").write_bytes(b"x" * 40 * _MIB)
        manager.export_workspace("fraud", archive)
        killed: list[int] = []

        def kill_once(offset: int) -> None:
            if not killed:
                lock = (base / ".workspaced/lock").read_text()
                killed.append(json.loads(lock)["pid"])
                os.kill(killed[0], 9)

        imported = manager.import_workspace(archive, "copy", kill_once)
        assert killed
        assert imported.project_name == "copy"
        assert _tree(base / "copy") == _tree(base / "fraud")


def _header(name: str, size: int = 0, kind: bytes = b"0") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.PAX_FORMAT)


def _manifest(archive: bytes) -> bytes:
    size = int(archive[124:135], 8)
    return archive[: 512 + (size + 511) // 512 * 512]


def test_a_bomb_is_refused_before_it_is_sent(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        start = _manifest(_export(manager, "fraud"))
        start += _header("models/", kind=tarfile.DIRTYPE)
        bomb = start + _header("models/bomb", 1 << 50)
        with pytest.raises(WorkspaceError) as raised:
            manager.import_workspace([bomb], "copy")
        assert raised.value.details["reason"] == "NO_SPACE"
        assert int(raised.value.details["available_bytes"]) > 0
        assert _staged(server) == []


def test_the_archives_quota_counts_before_anything_is_written(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        with grpc.insecure_channel(server.address) as channel:
            pb_grpc.WorkspaceServiceStub(channel).CreateWorkspace(
                pb.CreateWorkspaceRequest(
                    project="fraud", workspace=pb.Workspace(max_size_bytes=_MIB)
                )
            )
        start = _manifest(_export(manager, "fraud"))
        start += _header("models/", kind=tarfile.DIRTYPE)
        with pytest.raises(WorkspaceError) as raised:
            manager.import_workspace([start + _header("models/a", _MIB + 1)], "copy")
        details = raised.value.details
        assert details["reason"] == "NO_SPACE"
        assert details["quota"] == "max_size_bytes"
        assert details["wanted"] == str(_MIB + 1)


def test_hostile_entries(base: Path, other_base: Path) -> None:
    outside = other_base
    outside.mkdir()
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        start = _manifest(_export(manager, "fraud"))
        start += _header("models/", kind=tarfile.DIRTYPE)
        link = tarfile.TarInfo("models/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        escapes = [
            _header("../escaped"),
            _header("/tmp/escaped"),
            _header("models/../../escaped"),
            link.tobuf(tarfile.PAX_FORMAT),
            _header("models/device", kind=tarfile.CHRTYPE),
            _header("models/fifo", kind=tarfile.FIFOTYPE),
            _header("models/hard", kind=tarfile.LNKTYPE),
            _header("workspace.yaml"),
            _header("models/A") + _header("models/a"),
        ]
        for entry in escapes:
            with pytest.raises(WorkspaceError) as raised:
                manager.import_workspace([start + entry + bytes(1024)], "evil")
            assert raised.value.details["reason"] == "ARCHIVE_INVALID"
        assert os.listdir(outside) == []
        assert _staged(server) == []


def test_a_slow_reader_costs_two_chunks_and_no_thread(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("big")
        with (base / "big/models/a").open("wb") as file:
            file.truncate(512 * _MIB)
        before = _memory_kib(server.pid)
        with manager.export_stream("big") as slow:
            next(slow)
            time.sleep(1)
            assert _memory_kib(server.pid) - before < 32 * 1024
            # Others are served meanwhile.
            manager.export_workspace("big", io.BytesIO(), ["dvc"])


def _memory_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


def test_too_many_transfers_are_refused(base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("big")
        with (base / "big/models/a").open("wb") as file:
            file.truncate(64 * _MIB)
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.WorkspaceServiceStub(channel)
            request = pb.ExportWorkspaceRequest(project="big")
            calls = [stub.ExportWorkspace(request) for _ in range(16)]
            for call in calls:
                next(call)
            with pytest.raises(grpc.RpcError) as raised:
                next(stub.ExportWorkspace(request))
            error = rpc_error(raised.value)
            assert error.infos[0].reason == "OVERLOADED"
            for call in calls:
                call.cancel()
        _eventually(lambda: len(_export(manager, "big")) > 64 * _MIB)


def test_an_export_ends_when_the_server_stops(base: Path) -> None:
    with Server(base, "--drain-timeout", "1s") as server:
        manager = _manager(server)
        manager.create_workspace("big")
        with (base / "big/models/a").open("wb") as file:
            file.truncate(512 * _MIB)
        export = manager.export_stream("big")
        next(export)
        server.terminate()
        with pytest.raises(WorkspaceError):
            for _ in export:
                time.sleep(0.05)
        manager.close()


def test_files_that_are_written_meanwhile(base: Path) -> None:
    """No file mixes two versions; logs may grow."""
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        root = base / "fraud"
        stop = threading.Event()

        def write() -> None:
            count = 0
            with (root / "outputs/log").open("ab", buffering=0) as log:
                while not stop.is_set():
                    count += 1
                    # In place, so that a reader could see half of it.
                    (root / "models/state").write_bytes(b"%09d" % count * 50_000)
                    log.write(b"line\n")
                    time.sleep(0.1)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            _eventually(lambda: (root / "models/state").exists())
            for at in range(10):
                manager.import_workspace(_export(manager, "fraud"), f"copy{at}")
                # The writer may be interrupted in the middle for long, but what is
                # read comes from one version.
                state = (base / f"copy{at}/models/state").read_bytes()
                counts = {state[i : i + 9] for i in range(0, len(state) - 8, 9)}
                assert len(counts) <= 1
                log = (base / f"copy{at}/outputs/log").read_bytes()
                assert log == b"line\n" * (len(log) // 5)
        finally:
            stop.set()
            writer.join()


def test_databases_are_consistent(base: Path) -> None:
    """A SQLite database in use is exported as of one moment."""
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        database = base / "fraud/mlflow/mlflow.db"
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")
        connection.execute("INSERT INTO pairs VALUES (0, 0)")
        connection.commit()
        stop = threading.Event()

        def write() -> None:
            own = sqlite3.connect(database)
            count = 0
            while not stop.is_set():
                count += 1
                with own:
                    own.execute("UPDATE pairs SET a = ?", (count,))
                    own.execute("UPDATE pairs SET b = ?", (count,))
            own.close()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for at in range(5):
                manager.import_workspace(_export(manager, "fraud"), f"copy{at}")
                copy = sqlite3.connect(base / f"copy{at}/mlflow/mlflow.db")
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                a, b = copy.execute("SELECT a, b FROM pairs").fetchone()
                assert a == b
                copy.close()
        finally:
            stop.set()
            writer.join()
            connection.close()


def test_permissions(base: Path, tmp_path: Path) -> None:
    """Exports need a viewer, imports an administrator of the new project."""
    tokens, policy = tmp_path / "tokens", tmp_path / "policy.yaml"
    tokens.touch(0o600)
    secrets = {
        name: subprocess.run(
            [BINARY, "token", name, "--tokens", tokens],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in ("reader", "writer")
    }
    policy.write_text(
        "bindings:\n"
        "  - {principal: reader, role: viewer, projects: ['*']}\n"
        "  - {principal: writer, role: admin, projects: ['team-*']}\n"
        f"  - {{principal: 'uid:{os.getuid()}', role: operator, projects: ['*']}}\n"
    )
    args = ("--tokens", str(tokens), "--policy", str(policy))
    with Server(base, *args) as server, _manager(server) as manager:
        manager.create_workspace("team-a")
        content = _export(manager, "team-a")
        outcomes = {}
        for name, secret in secrets.items():
            with WorkspaceManager(address=server.address, token=secret) as caller:
                for operation, project in (
                    ("export", "team-a"),
                    ("export", "other"),
                    ("import", f"team-{name}"),
                    ("import", f"other-{name}"),
                ):
                    try:
                        if operation == "export":
                            _export(caller, project)
                        else:
                            caller.import_workspace([content], project)
                        outcomes[name, operation, project] = ""
                    except WorkspaceError as error:
                        outcomes[name, operation, project] = error.details["reason"]
        assert outcomes == {
            ("reader", "export", "team-a"): "",
            ("reader", "export", "other"): "WORKSPACE_NOT_FOUND",
            ("reader", "import", "team-reader"): "PERMISSION_MISSING",
            ("reader", "import", "other-reader"): "PERMISSION_MISSING",
            ("writer", "export", "team-a"): "",
            ("writer", "export", "other"): "PERMISSION_MISSING",
            ("writer", "import", "team-writer"): "",
            ("writer", "import", "other-writer"): "PERMISSION_MISSING",
        }


def test_a_read_only_server_exports(base: Path, other_base: Path) -> None:
    with Server(base) as server, _manager(server) as manager:
        manager.create_workspace("fraud")
        _fill(base / "fraud")
        expected = _export(manager, "fraud")
    listen = f"unix:{other_base.parent}/socket"
    with (
        AnnouncedServer(base, "--read-only", "--listen", listen),
        WorkspaceManager(address=listen) as manager,
    ):
        assert _export(manager, "fraud") == expected
        with pytest.raises(WorkspaceError) as raised:
            manager.import_workspace([expected], "copy")
        assert raised.value.details["reason"] == "READ_ONLY"
