"""One caller at its limits does not shut others off."""

import io
import random
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from mlops.workspace.v1 import workspace_service_pb2 as pb

from attack.http2 import Connection, message
from server.callers import Caller, Files, metric, on_socket, on_tcp, wait_until
from support.server import Server

_MAX_CALLS = 256
_MAX_STREAMS = 64


class _OpenUploads:
    """Uploads that wait for the end of the block, of which some may be refused."""

    def __init__(self, caller: Caller, count: int) -> None:
        self._end = threading.Event()
        self.calls = [
            caller.stub.WriteArtifact(self._messages(), metadata=caller.metadata)
            for _ in range(count)
        ]

    def _messages(self) -> Iterator[pb.WriteArtifactRequest]:
        # A stream counts before its first message.
        self._end.wait(60)
        yield from ()

    def __enter__(self) -> "_OpenUploads":
        return self

    def __exit__(self, *_: object) -> None:
        for call in self.calls:
            call.cancel()
        self._end.set()


def _refusal(call: grpc.Call) -> tuple[error_details_pb2.ErrorInfo, float]:
    """Returns the ErrorInfo and the delay in the RetryInfo of a refused call."""
    assert call.code() == grpc.StatusCode.UNAVAILABLE, call.details()
    details = dict(call.trailing_metadata())["grpc-status-details-bin"]
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return info, retry.retry_delay.ToTimedelta().total_seconds()


def _started(server: Server, rpc: str) -> float:
    return metric(server, "workspaced_calls_in_flight", grpc_method=rpc)


@dataclass
class _Two:
    """Two callers of a server with the project "p"."""

    server: Server
    greedy: Caller
    # The same principal as `greedy`, on another connection.
    also_greedy: Caller
    modest: Caller


@pytest.fixture
def two(base: Path, tmp_path: Path) -> Iterator[_Two]:
    files = Files(tmp_path)
    tokens = {name: files.token(name) for name in ("greedy", "modest")}
    with (
        Server(base, *files.args) as server,
        on_tcp(server, files.authority, token=tokens["greedy"]) as greedy,
        on_socket(server, token=tokens["greedy"]) as also_greedy,
        on_tcp(server, files.authority, token=tokens["modest"]) as modest,
    ):
        modest.answer("CreateWorkspace", project="p")
        yield _Two(server, greedy, also_greedy, modest)


def test_a_caller_at_its_limit_of_streams_is_refused_and_others_are_not(
    two: _Two,
) -> None:
    upload = [{"project": "p", "path": "models/x", "finish": True}]
    with _OpenUploads(two.greedy, _MAX_STREAMS) as uploads:
        wait_until(lambda: _started(two.server, "WriteArtifact") == _MAX_STREAMS)
        for caller in (two.greedy, two.also_greedy):
            with _OpenUploads(caller, 1) as more:
                info, delay_s = _refusal(more.calls[0])
                assert info.reason == "OVERLOADED"
                assert str(_MAX_STREAMS) in info.metadata["limit"]
                assert 0 < delay_s < 10
        # Unary calls have a limit of their own.
        assert two.greedy.answer("GetWorkspace", project="p")["project"] == "p"
        assert two.modest.call("WriteArtifact", upload).error is None
        assert two.modest.call("StreamWorkspaceStatuses", {}).error is None
        assert all(call.is_active() for call in uploads.calls)
        assert metric(two.server, "workspaced_overloaded_total") >= 2
    wait_until(lambda: _started(two.server, "WriteArtifact") == 0)
    assert two.greedy.call("WriteArtifact", upload).error is None


def test_a_caller_at_its_limit_of_calls_is_refused_and_others_are_not(
    base: Path, tmp_path: Path
) -> None:
    """The user of the socket opens calls and does not read the responses."""
    files = Files(tmp_path)
    token = files.token("modest")
    with (
        Server(base, *files.args) as server,
        on_tcp(server, files.authority, token=token) as modest,
        on_socket(server) as local,
    ):
        text = "x" * 60_000
        for i in range(2):
            modest.answer(
                "CreateWorkspace", project=f"p{i}", workspace={"metadata": {"t": text}}
            )
        request = message(pb.ListWorkspacesRequest().SerializeToString())
        with Connection(server.address) as greedy:
            greedy.socket.sendall(
                b"".join(greedy.open("ListWorkspaces", request) for _ in range(300))
            )
            refused = "workspaced_overloaded_total"
            wait_until(lambda: metric(server, refused) == 300 - _MAX_CALLS)
            # The same user on another connection.
            assert local.refusal("GetWorkspace", project="p0") == (
                "UNAVAILABLE",
                "OVERLOADED",
            )
            for _ in range(20):
                modest.answer("GetWorkspace", project="p0")
        # Closing the connection gives its share back.
        wait_until(lambda: local.call("GetWorkspace", {"project": "p0"}).error is None)


def test_a_caller_with_many_streams_gets_all_data_while_others_call(
    two: _Two,
) -> None:
    """The server slows such a caller; see service/OPERATIONS.md."""
    greedy, modest, server = two.also_greedy, two.modest, two.server
    data = random.Random(1).randbytes(3 << 20)
    (server.base / "p/outputs/data").write_bytes(data)
    read = pb.ReadArtifactRequest(project="p", path="outputs/data")
    paced = "workspaced_paced_calls_total"
    results: list[bytes | int] = []
    done = threading.Event()

    def call_on() -> None:
        while not done.is_set():
            modest.answer("GetWorkspace", project="p")

    def download() -> None:
        messages = greedy.stub.ReadArtifact(read, metadata=greedy.metadata)
        results.append(b"".join(message.data for message in messages))

    def count_all() -> None:
        request = pb.StreamWorkspaceStatusesRequest()
        messages = greedy.stub.StreamWorkspaceStatuses(
            request, metadata=greedy.metadata
        )
        results.append(sum(len(message.statuses) for message in messages))

    def export() -> None:
        request = pb.ExportWorkspaceRequest(project="p")
        messages = greedy.stub.ExportWorkspace(request, metadata=greedy.metadata)
        archive = b"".join(message.data for message in messages)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            [name] = [each for each in tar.getnames() if each.endswith("outputs/data")]
            file = tar.extractfile(name)
            assert file is not None
            results.append(file.read())

    kinds = [download] * 40 + [count_all] * 12 + [export] * 12
    calling = threading.Thread(target=call_on)
    calling.start()
    try:
        threads = [threading.Thread(target=kind) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        done.set()
        calling.join()
    assert len(results) == len(kinds)
    assert results.count(data) == 52
    assert results.count(1) == 12
    assert metric(server, paced) > 0
    # A caller who is alone is not slowed.
    wait_until(lambda: _started(server, "ReadArtifact") == 0)
    time.sleep(1.1)
    before = metric(server, paced)
    messages = [
        greedy.stub.ReadArtifact(read, metadata=greedy.metadata) for _ in range(40)
    ]
    assert all(b"".join(each.data for each in one) == data for one in messages)
    assert metric(server, paced) == before


def test_a_caller_with_many_calls_gets_every_answer_while_others_call(
    two: _Two,
) -> None:
    """The server slows such a caller; see service/OPERATIONS.md."""
    get = pb.GetWorkspaceRequest(project="p")
    greedy, modest, server = two.also_greedy, two.modest, two.server
    for part in range(4):
        # Half of them read, on gRPC's threads, and half change, on the server's.
        calls = [
            greedy.stub.GetWorkspace.future(get, metadata=greedy.metadata)
            if i % 2
            else greedy.stub.EnsureWorkspace.future(
                pb.EnsureWorkspaceRequest(project=f"p{part}-{i}"),
                metadata=greedy.metadata,
            )
            for i in range(200)
        ]
        for _ in range(20):
            modest.answer("GetWorkspace", project="p")
        for call in calls:
            assert call.code() == grpc.StatusCode.OK, call.details()
    assert metric(server, "workspaced_paced_calls_total") > 0
    # Calls that wait when the server stops end as others do.
    calls = [
        greedy.stub.GetWorkspace.future(get, metadata=greedy.metadata)
        for _ in range(200)
    ]
    modest.answer("GetWorkspace", project="p")
    server.terminate()
    codes = {call.code() for call in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
