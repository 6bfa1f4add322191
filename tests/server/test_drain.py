"""How a server ends."""

import contextlib
import socket

import grpc
import pytest
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

from support.server import Server, short_base

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@pytest.mark.timeout(15)
def test_a_client_that_is_idle_does_not_hold_up_the_end() -> None:
    with short_base() as base, socket.socket(socket.AF_UNIX) as client, Server(base, "--drain-timeout", "1h") as server:
        client.connect(str(server.socket))
        client.sendall(_HELLO)
        assert client.recv(1)
        # The server is told to leave before the client closes.


def test_calls_in_flight_get_their_answers() -> None:
    with short_base() as base, contextlib.ExitStack() as stack:
        with Server(base) as server:
            stub = WorkspaceServiceStub(stack.enter_context(grpc.insecure_channel(server.address)))
            calls = [stub.EnsureWorkspace.future(pb.EnsureWorkspaceRequest(project=f"p{i}")) for i in range(200)]
            calls[0].result()
        outcomes = {call.exception() and call.exception().details() for call in calls}
    assert outcomes <= {None, "The server is shutting down and did not begin this call"}
