"""Artifacts on a real server: kill -9, full disks, slow clients and swapped links."""

import contextlib
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from conformance.players import Error, rpc_error
from server.run import MountedServer, answer, call, grpcurl
from server.writing import Writing
from server.writing import write as _write
from support.server import Server

_MIB = 1 << 20
_TIMEOUT_S = 60
_ROUNDS = int(os.environ.get("MLOPS_KILL_ROUNDS", "20"))


def _stub(channel: grpc.Channel) -> Any:
    return pb_grpc.WorkspaceServiceStub(channel)


def _messages(
    path: str, content: bytes, begin: int = 0, **first: Any
) -> Iterator[pb.WriteArtifactRequest]:
    """Yields messages of at most 64 KiB that write `content` from offset `begin` on."""
    yield pb.WriteArtifactRequest(project="p", path=path, offset=begin, **first)
    for at in range(begin, len(content), 65536):
        yield pb.WriteArtifactRequest(data=content[at : at + 65536])
    yield pb.WriteArtifactRequest(
        finish=True, sha256=hashlib.sha256(content).hexdigest()
    )


def _read(stub: Any, path: str) -> bytes:
    request = pb.ReadArtifactRequest(project="p", path=path)
    return b"".join(
        message.data for message in stub.ReadArtifact(request, timeout=_TIMEOUT_S)
    )


def _failure(attempt: Any) -> Error:
    with pytest.raises(grpc.RpcError) as raised:
        attempt()
    return rpc_error(raised.value)


def _staged(server: Server) -> list[str]:
    directory = server.seen_base / "p/.uploads"
    return (
        sorted(entry.name for entry in directory.iterdir())
        if directory.exists()
        else []
    )


def _eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- kill -9 ------------------------------------------------------------------


class Uploader:
    """Replaces one file again and again, and resumes its upload after each crash.

    Used by one thread at a time.
    """

    def __init__(self, number: int, seed: float) -> None:
        self.path = f"models/{number}/file"
        self.problem: Error | None = None
        self._random = random.Random(seed)
        self._next: tuple[str, bytes] | None = None
        self.acknowledged: bytes | None = None
        self.resumed = 0

    def run(self, server: Server) -> None:
        """Uploads until a call fails."""
        with server.connect() as channel, contextlib.suppress(grpc.RpcError):
            while True:
                self._upload(_stub(channel))

    def _upload(self, stub: Any) -> None:
        if self._next is None:
            content = self._random.randbytes(self._random.randrange(3 * _MIB))
            self._next = (f"id-{self._random.getrandbits(64)}", content)
        upload_id, content = self._next
        begin = self._offset(stub, upload_id)
        if begin is not None:
            self.resumed += begin > 0
            _write(stub, _messages(self.path, content, begin, upload_id=upload_id))
        self.acknowledged, self._next = content, None

    def _offset(self, stub: Any, upload_id: str) -> int | None:
        """Returns the offset to resume from, or None if the upload is finished."""
        try:
            upload = stub.GetUpload(
                pb.GetUploadRequest(project="p", upload_id=upload_id),
                timeout=_TIMEOUT_S,
            )
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return 0
        return None if upload.HasField("artifact") else upload.offset

    def check(self, base: Path) -> None:
        """Asserts that the file on disk has one of the two possible contents.

        That is the last acknowledged content, or the whole of the one in flight.
        """
        file = base / "p" / self.path
        found = file.read_bytes() if file.exists() else None
        assert found in (
            self.acknowledged,
            self._next[1] if self._next else self.acknowledged,
        ), self.path


@pytest.mark.timeout(120 + 3 * _ROUNDS)
def test_what_was_acknowledged_survives_a_kill_and_an_upload_goes_on(
    base: Path,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    randoms = random.Random(seed)
    uploaders = [Uploader(i, randoms.random()) for i in range(4)]
    for round_ in range(_ROUNDS):
        flags = ["--portable-fs"] if round_ % 2 else []
        with Server(base, "--log-calls", "off", *flags) as server:
            answer(server, "EnsureWorkspace", project="p")
            threads = [
                threading.Thread(target=uploader.run, args=(server,))
                for uploader in uploaders
            ]
            for thread in threads:
                thread.start()
            time.sleep(randoms.uniform(0.05, 0.5))
            server.kill()
            for thread in threads:
                thread.join()
        for uploader in uploaders:
            uploader.check(base)
    assert all(uploader.acknowledged is not None for uploader in uploaders)
    assert sum(uploader.resumed for uploader in uploaders) > 0
    with Server(base) as server:
        # The sweep removes uploads without an upload_id and keeps the resumable ones.
        _eventually(lambda: all(name.startswith("id-") for name in _staged(server)))


def test_a_client_killed_in_the_middle_leaves_nothing(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        with server.connect() as channel:
            sent = threading.Event()

            def messages() -> Iterator[pb.WriteArtifactRequest]:
                yield pb.WriteArtifactRequest(
                    project="p", path="models/x", data=b"x" * _MIB
                )
                sent.set()
                threading.Event().wait(_TIMEOUT_S)

            stream = Writing(_stub(channel), messages())
            sent.wait(_TIMEOUT_S)
            _eventually(lambda: _staged(server))
            stream.cancel()
            _eventually(lambda: not _staged(server))
        assert list((base / "p/models").iterdir()) == []


# --- Full disks ---------------------------------------------------------------


def test_on_a_full_disk_the_old_file_stands_and_the_upload_goes_on_later(
    base: Path,
) -> None:
    with MountedServer(base, "size=8m") as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        stub = _stub(channel)
        _write(stub, _messages("models/x", b"old"))
        filler = server.seen_base / "filler"
        filler.write_bytes(b"x" * 5 * _MIB)
        content = random.Random(1).randbytes(4 * _MIB)
        error = _failure(
            lambda: _write(stub, _messages("models/x", content, upload_id="id"))
        )
        assert (error.code, error.infos[0].reason) == ("RESOURCE_EXHAUSTED", "NO_SPACE")
        assert "available_bytes" in error.infos[0].metadata
        assert _read(stub, "models/x") == b"old"
        filler.unlink()
        begin = int(answer(server, "GetUpload", project="p", upload_id="id")["offset"])
        assert 0 < begin < len(content)
        _write(stub, _messages("models/x", content, begin, upload_id="id"))
        assert _read(stub, "models/x") == content


def test_on_a_full_disk_what_nobody_can_resume_takes_no_space(base: Path) -> None:
    with MountedServer(base, "size=4m") as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        stub = _stub(channel)
        for _ in range(3):
            error = _failure(
                lambda: _write(stub, _messages("models/x", b"x" * 8 * _MIB))
            )
            assert error.infos[0].reason == "NO_SPACE"
        _write(stub, _messages("models/x", b"x" * 2 * _MIB))
        assert len(_read(stub, "models/x")) == 2 * _MIB


# --- Slow, many and disappearing clients --------------------------------------


def _memory_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@contextlib.contextmanager
def _slow_readers(server: Server, count: int) -> Iterator[list[Any]]:
    """Yields streams that read a large file and stall after its first message.

    Each has a separate connection, with gRPC's small initial flow-control window.
    """
    with contextlib.ExitStack() as stack:
        streams = []
        for i in range(count):
            options = [
                ("grpc.enable_http_proxy", 0),
                ("grpc.http2.bdp_probe", 0),
                # Distinct options, so that the channels do not share a connection.
                ("test", i),
            ]
            channel = stack.enter_context(
                grpc.insecure_channel(server.address, options)
            )
            streams.append(
                _stub(channel).ReadArtifact(
                    pb.ReadArtifactRequest(project="p", path="models/big")
                )
            )
            next(streams[-1])
        yield streams


@pytest.fixture
def server_with_big_file(base: Path) -> Iterator[Server]:
    with Server(base, "--workers", "2", "--drain-timeout", "1s") as server:
        answer(server, "EnsureWorkspace", project="p")
        with (base / "p/models/big").open("wb") as file:
            file.truncate(1 << 30)
        yield server


def test_slow_readers_cost_a_fixed_buffer_and_hold_no_thread(
    server_with_big_file: Server,
) -> None:
    idle = _memory_bytes(server_with_big_file)
    with (
        _slow_readers(server_with_big_file, 64),
        server_with_big_file.connect() as channel,
    ):
        time.sleep(1)
        _write(_stub(channel), _messages("models/x", b"content"))
        assert _read(_stub(channel), "models/x") == b"content"
        assert _memory_bytes(server_with_big_file) - idle < 64 * 4 * _MIB


def test_readers_and_writers_who_leave_are_forgotten(
    server_with_big_file: Server,
) -> None:
    with server_with_big_file.connect() as channel:
        for i in range(200):
            stream = _stub(channel).ReadArtifact(
                pb.ReadArtifactRequest(project="p", path="models/big")
            )
            if i % 2:
                next(stream)
            stream.cancel()
    descriptors = Path(f"/proc/{server_with_big_file.pid}/fd")

    def open_files() -> list[str]:
        links = []
        for entry in descriptors.iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry))
        return [link for link in links if link.endswith("models/big")]

    _eventually(lambda: open_files() == [])
    assert (
        len(answer(server_with_big_file, "ListArtifacts", project="p")["artifacts"])
        == 5
    )


def test_streams_beyond_the_limit_are_refused_with_a_time_to_try_again(
    base: Path,
) -> None:
    with Server(base, "--max-artifact-streams", "2") as server:
        answer(server, "EnsureWorkspace", project="p")
        with (base / "p/models/big").open("wb") as file:
            file.truncate(1 << 30)
        with _slow_readers(server, 2), server.connect() as channel:
            for attempt in (
                lambda: _read(_stub(channel), "models/big"),
                lambda: _write(_stub(channel), _messages("models/x", b"x")),
            ):
                error = _failure(attempt)
                assert (error.code, error.infos[0].reason) == (
                    "UNAVAILABLE",
                    "OVERLOADED",
                )
        with server.connect() as channel:
            _eventually(
                lambda: (
                    "error"
                    not in str(
                        call(
                            server, "GetArtifact", project="p", path="models/big"
                        ).error
                    )
                )
            )
            deadline = time.monotonic() + 10
            while True:
                try:
                    _write(_stub(channel), _messages("models/x", b"x"))
                    break
                except grpc.RpcError:
                    assert time.monotonic() < deadline


@pytest.mark.parametrize("mib", [1, 4])
def test_as_many_writers_as_may_be_all_finish(base: Path, mib: int) -> None:
    # Together they come close to the memory at which gRPC ends streams.
    data = bytes(mib * _MIB)

    def messages(index: int) -> Iterator[pb.WriteArtifactRequest]:
        yield pb.WriteArtifactRequest(project="p", path=f"outputs/{index}")
        begin.wait(_TIMEOUT_S)
        yield from [pb.WriteArtifactRequest(data=data)] * 4
        yield pb.WriteArtifactRequest(discard=True)

    begin = threading.Event()
    with Server(base) as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        idle = _memory_bytes(server)
        calls = [
            Writing(_stub(channel), messages(i), timeout_s=2 * _TIMEOUT_S)
            for i in range(128)
        ]
        begin.set()
        assert {call.result().offset for call in calls} == {0}
        assert _memory_bytes(server) - idle < (mib + 1) * 128 * _MIB + 256 * _MIB
        assert _staged(server) == []


def test_what_is_staged_is_acknowledged_every_few_mib(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        acknowledged = threading.Semaphore(0)

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(project="p", path="models/x", upload_id="id")
            for _ in range(2):
                yield from [pb.WriteArtifactRequest(data=bytes(_MIB))] * 5
                acknowledged.acquire(timeout=_TIMEOUT_S)
            yield pb.WriteArtifactRequest(data=b"x", finish=True)

        responses = _stub(channel).WriteArtifact(messages(), timeout=_TIMEOUT_S)
        for offset in (5 * _MIB, 10 * _MIB):
            response = next(responses)
            assert (response.offset, response.HasField("artifact")) == (offset, False)
            request = {"project": "p", "upload_id": "id"}
            assert answer(server, "GetUpload", **request)["offset"] == str(offset)
            acknowledged.release()
        [last] = responses
        assert last.offset == last.artifact.size_bytes == 10 * _MIB + 1


def test_one_stream_at_a_time_writes_an_upload(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        stub, done = _stub(channel), threading.Event()

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/x", upload_id="id", data=b"abc"
            )
            done.wait(_TIMEOUT_S)

        first = Writing(stub, messages())
        _eventually(lambda: "id.part" in _staged(server))
        error = _failure(
            lambda: _write(stub, _messages("models/x", b"abcdef", 3, upload_id="id"))
        )
        assert (error.code, error.infos[0].reason) == ("ABORTED", "WORKSPACE_BUSY")
        done.set()
        assert first.result().offset == 3
        assert (
            _write(
                stub, _messages("models/x", b"abcdef", 3, upload_id="id")
            ).artifact.size_bytes
            == 6
        )


def test_a_server_told_to_stop_ends_reads_and_keeps_uploads(
    server_with_big_file: Server,
) -> None:
    with (
        _slow_readers(server_with_big_file, 1),
        server_with_big_file.connect() as channel,
    ):

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/x", upload_id="id", data=b"abc"
            )
            threading.Event().wait(5)

        writing = Writing(_stub(channel), messages())
        _eventually(lambda: "id.part" in _staged(server_with_big_file))
        server_with_big_file.terminate()
        assert server_with_big_file.wait() == 0
        assert writing.exception() is not None
    with Server(server_with_big_file.base) as server:
        assert answer(server, "GetUpload", project="p", upload_id="id")["offset"] == "3"


# --- Links --------------------------------------------------------------------


@pytest.mark.parametrize("relative", [False, True])
def test_links_swapped_in_lead_nowhere(base: Path, relative: bool) -> None:
    outside = base.with_name("outside")
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    with Server(base) as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        models, stop = base / "p/models", threading.Event()
        (models / "real").mkdir()
        (models / "real/file").write_bytes(b"mine")
        (models / "link").symlink_to("../../../outside" if relative else outside)

        def swap() -> None:
            for turn in range(1_000_000):
                if stop.is_set():
                    return
                source = models / ("link" if turn % 2 else "real")
                try:
                    source.rename(models / "dir")
                    (models / "dir").rename(source)
                except OSError:
                    # The server has created models/dir: remove it and continue.
                    shutil.rmtree(models / "dir", ignore_errors=True)

        swapper = threading.Thread(target=swap)
        swapper.start()
        stub = _stub(channel)
        for _ in range(300):
            with contextlib.suppress(grpc.RpcError):
                assert _read(stub, "models/dir/file") == b"mine"
            with contextlib.suppress(grpc.RpcError):
                _write(stub, _messages("models/dir/file", b"mine"))
        stop.set()
        swapper.join()
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"secret"


def test_a_small_file_is_one_line_of_grpcurl(base: Path) -> None:
    with Server(base) as server:
        service = "mlops.workspace.v1.WorkspaceService"
        grpcurl(server, f"{service}/EnsureWorkspace", data='{"project":"p"}')
        line = '{"project":"p","path":"models/x","data":"aGVsbG8=","finish":true}'
        assert '"size_bytes": "5"' in grpcurl(
            server, f"{service}/WriteArtifact", data=line
        )
        assert '"aGVsbG8="' in grpcurl(
            server, f"{service}/ReadArtifact", data='{"project":"p","path":"models/x"}'
        )


def test_reading_whole_files_keeps_no_change_waiting(base: Path) -> None:
    """Checksums of huge files, more than there are workers, do not block changes."""
    with Server(base, "--workers", "2") as server, server.connect() as channel:
        stub = _stub(channel)
        answer(server, "CreateWorkspace", project="p")
        path = server.seen_base / "p/outputs/sparse"
        path.touch()
        os.truncate(path, 1 << 43)
        request = pb.GetArtifactRequest(
            project="p", path="outputs/sparse", checksum=True
        )
        checksums = [
            stub.GetArtifact.future(request, timeout=_TIMEOUT_S) for _ in range(16)
        ]
        for i in range(3):
            stub.CreateWorkspace(
                pb.CreateWorkspaceRequest(project=f"q{i}"), timeout=_TIMEOUT_S
            )
        assert stub.GetArtifact(
            pb.GetArtifactRequest(project="p", path="outputs/sparse"),
            timeout=_TIMEOUT_S,
        ).size_bytes
        assert not any(checksum.done() for checksum in checksums)
        for checksum in checksums:
            checksum.cancel()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1.78e12, "9999-12-31T23:59:59.999999Z"), (-1e11, "0001-01-01T00:00:00Z")],
)
def test_a_time_that_no_timestamp_holds_hides_nothing(
    base: Path, seconds: float, shown: str
) -> None:
    """tmpfs, XFS and Btrfs accept such times, for example from swapped units."""
    with MountedServer(base, "size=16m") as server, server.connect() as channel:
        stub = _stub(channel)
        answer(server, "CreateWorkspace", project="p")
        outputs = server.seen_base / "p/outputs"
        for name in ("good.csv", "odd.csv"):
            (outputs / name).write_text("x")
        os.utime(outputs / "odd.csv", (seconds, seconds))
        request = pb.ListArtifactsRequest(project="p", path="outputs")
        listed = {
            artifact.path: artifact
            for artifact in stub.ListArtifacts(request, timeout=_TIMEOUT_S).artifacts
        }
        assert set(listed) == {"outputs/good.csv", "outputs/odd.csv"}
        odd = listed["outputs/odd.csv"]
        assert odd.modify_time.ToJsonString() == shown
        state = os.stat(outputs / "odd.csv")
        # The etag is derived from the true time, not from the clamped one.
        text = f"{state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
        assert odd.etag == hashlib.sha256(text.encode()).hexdigest()[:16]
        assert answer(server, "GetWorkspaceStatus", project="p")["file_count"] == 2
