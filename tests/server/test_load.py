"""Overload, slow clients, clients that leave, and clients that send junk."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from server.run import answer, call, log_lines
from support.server import Server

_TIMEOUT_S = 60
_STREAM = "StreamWorkspaceStatuses"
_ALL_METADATA = " OR ".join(f'metadata.text:"y{i}"' for i in range(20))


def _stub(channel: grpc.Channel) -> Any:
    return pb_grpc.WorkspaceServiceStub(channel)


def _details(error: Any) -> status_pb2.Status:
    return status_pb2.Status.FromString(
        dict(error.trailing_metadata())["grpc-status-details-bin"]
    )


def _has_retry_info(error: Any) -> bool:
    return any(
        detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
        for detail in _details(error).details
    )


@pytest.fixture
def server_with_much_to_tell(base: Path) -> Iterator[Server]:
    """A server with one worker and 3 MiB of metadata.

    That is far more than the connection of a slow reader buffers.
    """
    with Server(base, "--workers", "1", "--drain-timeout", "1s") as server:
        for i in range(50):
            answer(
                server,
                "EnsureWorkspace",
                project=f"p{i}",
                workspace={"metadata": {"text": "x" * 60_000}},
            )
        yield server


def test_calls_beyond_the_queue_are_refused_with_a_time_to_try_again(
    server_with_much_to_tell: Server,
) -> None:
    server = server_with_much_to_tell
    answer(server, "EnsureWorkspace", project="p")
    with contextlib.ExitStack() as stack:
        # Distinct options, because channels with equal ones share a connection and its
        # limit of concurrent streams.
        options = [[("grpc.enable_http_proxy", 0), ("test", i)] for i in range(3)]
        channels = [
            stack.enter_context(grpc.insecure_channel(server.address, option))
            for option in options
        ]
        # These keep the worker busy, however fast the disk is.
        slow = [
            _stub(channel).ListWorkspaces.future(
                pb.ListWorkspacesRequest(filter=_ALL_METADATA), timeout=_TIMEOUT_S
            )
            for channel in channels
            for _ in range(100)
        ]
        calls = [
            _add_key(channel, f"k{i}-{n}")
            for n in range(500)
            for i, channel in enumerate(channels)
        ]
        errors = [
            error
            for error in (future.exception() for future in calls)
            if error is not None
        ]
        for future in slow:
            future.exception()
        stored = answer(server, "GetWorkspace", project="p")["metadata"]
    assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    assert all(_has_retry_info(error) for error in errors)
    assert len(stored) == len(calls) - len(errors)


def _add_key(channel: grpc.Channel, key: str) -> Any:
    workspace = pb.Workspace(project="p")
    workspace.metadata.update({key: 1})
    return _stub(channel).UpdateWorkspace.future(
        pb.UpdateWorkspaceRequest(workspace=workspace), timeout=_TIMEOUT_S
    )


@pytest.fixture
def slow_reader(server_with_much_to_tell: Server) -> Iterator[Any]:
    """A stream of which the client has read one message and reads no further.

    Its channel buffers at most 64 KiB.
    """
    options = [("grpc.enable_http_proxy", 0), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(server_with_much_to_tell.address, options) as channel:
        stream = _stub(channel).StreamWorkspaceStatuses(
            pb.StreamWorkspaceStatusesRequest(), timeout=_TIMEOUT_S
        )
        next(stream)
        yield stream


def test_a_slow_reader_of_a_stream_holds_nobody_up(
    server_with_much_to_tell: Server, slow_reader: Any
) -> None:
    for i in range(50):
        answer(server_with_much_to_tell, "GetWorkspaceStatus", project=f"p{i}")
    # The log has no line for the stream yet, so it was open all the time.
    assert _STREAM not in server_with_much_to_tell.output
    assert 40 < sum(len(message.statuses) for message in slow_reader) < 50


def test_readers_who_leave_are_forgotten(server_with_much_to_tell: Server) -> None:
    with server_with_much_to_tell.connect() as channel:
        for _ in range(50):
            stream = _stub(channel).StreamWorkspaceStatuses(
                pb.StreamWorkspaceStatusesRequest(), timeout=_TIMEOUT_S
            )
            next(stream)
            stream.cancel()
        assert (
            len(call(server_with_much_to_tell, "StreamWorkspaceStatuses").responses)
            == 50
        )


@pytest.mark.usefixtures("slow_reader")
def test_a_reader_who_does_not_read_keeps_the_server_only_for_the_drain_timeout(
    server_with_much_to_tell: Server,
) -> None:
    server_with_much_to_tell.terminate()
    assert server_with_much_to_tell.wait() == 0
    [code] = [
        line["code"]
        for line in log_lines(server_with_much_to_tell)
        if line.get("method") == _STREAM
    ]
    # UNAVAILABLE if the stream still had room to write when the server began to stop.
    assert code in ("CANCELLED", "UNAVAILABLE")


def test_a_message_too_large_is_refused_and_the_next_one_answered(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        workspace = pb.Workspace(project="p", dvc_remote_path="x" * 5_000_000)
        with pytest.raises(grpc.RpcError) as refused:
            _stub(channel).UpdateWorkspace(
                pb.UpdateWorkspaceRequest(workspace=workspace)
            )
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (
            _stub(channel)
            .EnsureWorkspace(pb.EnsureWorkspaceRequest(project="p"))
            .created
        )


def test_a_connection_that_says_nothing_is_closed(base: Path) -> None:
    with Server(base) as server, socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(_TIMEOUT_S)
        silent.connect(str(server.socket))
        while silent.recv(4096):
            pass


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99,
    ],
)
def test_junk_ends_that_connection_alone(base: Path, junk: bytes) -> None:
    with Server(base) as server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.socket))
        client.sendall(junk)
        assert answer(server, "EnsureWorkspace", project="p")["created"]


def test_connections_beyond_the_descriptors_are_survived(base: Path) -> None:
    # accept(2) fails with EMFILE, after which the server must accept again.
    with Server(base, wrapper=["prlimit", "--nofile=100:100"]) as server:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(150)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(str(server.socket))
        for client in clients:
            client.close()
        assert answer(server, "EnsureWorkspace", project="p")["created"]
