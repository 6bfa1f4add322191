"""Checks the contract, walking its descriptor.

The checks cover the comments, the methods' options and whether the server implements
each method.
"""

import math
import re
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pb2, struct_pb2
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc

from conformance.contract import comment, promises, reason_names
from conformance.players import SERVICE, make_requests, rpc_error
from support.server import Server, short_base

METHODS = [method.name for method in SERVICE.methods]
# Deliberately neither free of side effects nor idempotent: a retry may fail, or undo a
# change made since the first attempt.
PLAIN_MUTATIONS = {
    "CreateWorkspace",
    "CloneWorkspace",
    "ImportWorkspace",
    "DeleteWorkspace",
    "UndeleteWorkspace",
    "WriteArtifact",
    "DeleteArtifact",
    "MoveArtifact",
    "CopyArtifact",
}


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    options = [("grpc.enable_http_proxy", 0)]
    with (
        short_base() as base,
        Server(base) as server,
        grpc.insecure_channel(server.address, options) as channel,
    ):
        yield channel


def test_every_reason_says_its_code_and_metadata() -> None:
    assert set(promises()) == reason_names() - {"ERROR_REASON_UNSPECIFIED"}
    assert {promise.code for promise in promises().values()} <= {
        code.name for code in grpc.StatusCode
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_errors_in_the_comment_exist(method: str) -> None:
    named = re.findall(
        r"\b([A-Z_]{4,})/([A-Z_]{4,})\b",
        comment(SERVICE.name) + comment(f"{SERVICE.name}.{method}"),
    )
    assert named
    assert {reason: code for code, reason in named} == {
        reason: promises()[reason].code for _, reason in named
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_error_in_the_comment_says_when(method: str) -> None:
    lines = [line.strip() for line in comment(f"{SERVICE.name}.{method}").splitlines()]
    for line in lines:
        if re.search(r"[A-Z_]{4,}/[A-Z_]{4,}", line):
            assert re.match(r"Returns [A-Z_]+/[A-Z_]+ if ", line), line


@pytest.mark.parametrize("method", METHODS)
def test_clients_can_tell_what_to_retry(method: str) -> None:
    level = SERVICE.methods_by_name[method].GetOptions().idempotency_level
    unset = level == descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN
    assert unset == (method in PLAIN_MUTATIONS)


@pytest.mark.parametrize("method", METHODS)
def test_the_server_implements(method: str, channel: grpc.Channel) -> None:
    call = getattr(workspace_service_pb2_grpc.WorkspaceServiceStub(channel), method)
    try:
        result = call(make_requests(method, {}), timeout=30)
        if method == "WatchWorkspaces":
            # It does not end by itself.
            next(result)
            result.cancel()
        elif SERVICE.methods_by_name[method].server_streaming:
            list(result)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=str)
def test_numbers_that_json_has_not_are_refused(
    number: float, channel: grpc.Channel
) -> None:
    metadata = struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=number)})
    stub = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        stub.CreateWorkspace(
            pb.CreateWorkspaceRequest(
                project="fraud", workspace=pb.Workspace(metadata=metadata)
            )
        )
    info = rpc_error(raised.value).infos[0]
    assert (info.reason, info.metadata["project"]) == ("FIELD_INVALID", "fraud")
    assert info.metadata["field"].endswith("metadata.a")
    with pytest.raises(grpc.RpcError) as raised:
        stub.GetWorkspace(pb.GetWorkspaceRequest(project="fraud"))
    assert rpc_error(raised.value).infos[0].reason == "WORKSPACE_NOT_FOUND"
