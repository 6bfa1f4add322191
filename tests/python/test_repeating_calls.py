"""Which calls clients retry when a server fails, shown with a scripted server."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from mlops.local_server import LocalServer
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc


class Scripted(pb_grpc.WorkspaceServiceServicer):
    """Counts the calls, and fails the next `failures` of them with `reason`."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.failures = 0
        self.reason = ""

    def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> pb.ServerInfo:
        return pb.ServerInfo(base_path="/scripted")

    def GetWorkspace(
        self, request: pb.GetWorkspaceRequest, context: grpc.ServicerContext
    ) -> pb.Workspace:
        return self._answer("Get", request.project, context)

    def CreateWorkspace(
        self, request: pb.CreateWorkspaceRequest, context: grpc.ServicerContext
    ) -> pb.Workspace:
        return self._answer("Create", request.project, context)

    def StreamWorkspaceStatuses(
        self, request: pb.StreamWorkspaceStatusesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamWorkspaceStatusesResponse]:
        yield _message(pb.Workspace(project="first"))
        yield _message(self._answer("Stream", "second", context))

    def _answer(
        self, name: str, project: str, context: grpc.ServicerContext
    ) -> pb.Workspace:
        self.calls[name] += 1
        if self.failures > 0:
            self.failures -= 1
            context.set_trailing_metadata(_details(self.reason) if self.reason else ())
            context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")
        return pb.Workspace(project=project)


def _message(workspace: pb.Workspace) -> pb.StreamWorkspaceStatusesResponse:
    return pb.StreamWorkspaceStatusesResponse(
        statuses=[pb.WorkspaceStatus(workspace=workspace)]
    )


def _details(reason: str) -> Any:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(domain="mlops.workspace", reason=reason))
    status = status_pb2.Status(
        code=code_pb2.UNAVAILABLE, message="scripted", details=[info]
    )
    return (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.fixture
def scripted(base: Path) -> Iterator[Scripted]:
    """A scripted server whose address is in the lock file of `base`."""
    service = Scripted()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    pb_grpc.add_WorkspaceServiceServicer_to_server(service, server)
    (base / ".workspaced").mkdir(parents=True)
    address = f"unix:{base}/.workspaced/socket"
    server.add_insecure_port(address)
    lock = {"pid": 1, "host": socket.gethostname(), "addresses": [address]}
    (base / ".workspaced/lock").write_text(json.dumps(lock))
    server.start()
    yield service
    server.stop(None).wait()


def test_a_read_is_repeated(scripted: Scripted, manager: WorkspaceManager) -> None:
    scripted.failures = 2
    assert manager.get_workspace("fraud").project_name == "fraud"
    assert scripted.calls == {"Get": 3}


def test_a_stream_is_begun_again_and_comes_once(
    scripted: Scripted, manager: WorkspaceManager
) -> None:
    scripted.failures = 1
    assert [
        status["project_name"] for status in manager.get_all_workspaces_status()
    ] == ["first", "second"]
    assert scripted.calls == {"Stream": 2}


def test_a_change_that_may_have_been_made_is_not_repeated(
    scripted: Scripted, manager: WorkspaceManager
) -> None:
    scripted.failures = 1
    with pytest.raises(WorkspaceError, match="does not answer; is it running"):
        manager.create_workspace("fraud")
    assert scripted.calls == {"Create": 1}


def test_a_change_that_was_not_begun_is_repeated(
    scripted: Scripted, manager: WorkspaceManager
) -> None:
    scripted.failures, scripted.reason = 2, "SHUTTING_DOWN"
    assert manager.create_workspace("fraud").project_name == "fraud"
    assert scripted.calls == {"Create": 3}


def test_a_server_with_too_much_to_do_is_not_pressed_further(
    scripted: Scripted, manager: WorkspaceManager
) -> None:
    scripted.failures, scripted.reason = 1, "OVERLOADED"
    with pytest.raises(WorkspaceError, match="scripted") as caught:
        manager.create_workspace("fraud")
    assert caught.value.details == {"reason": "OVERLOADED", "code": "UNAVAILABLE"}
    assert scripted.calls == {"Create": 1}


def test_a_server_at_a_given_address_is_asked_again_for_reads_alone(
    scripted: Scripted, base: Path
) -> None:
    manager = WorkspaceManager(address=f"unix:{base}/.workspaced/socket")
    scripted.failures = 1
    assert manager.get_workspace("fraud").project_name == "fraud"
    scripted.failures = 1
    with pytest.raises(WorkspaceError):
        manager.create_workspace("fraud")
    assert scripted.calls == {"Get": 2, "Create": 1}


@pytest.mark.parametrize("by_address", [False, True])
def test_a_create_with_a_request_id_is_repeated(
    by_address: bool, scripted: Scripted, base: Path
) -> None:
    manager = (
        WorkspaceManager(address=f"unix:{base}/.workspaced/socket")
        if by_address
        else WorkspaceManager(base)
    )
    scripted.failures = 2
    assert manager.create_workspace("fraud", request_id="job-7").project_name == "fraud"
    assert scripted.calls == {"Create": 3}
    scripted.failures = 10
    with pytest.raises(WorkspaceError, match="does not answer; is it running"):
        manager.create_workspace("fraud", request_id="job-7")
    assert scripted.calls["Create"] == 7


def test_a_change_refused_for_reading_only_looks_once_for_another_server(
    scripted: Scripted, manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    find = LocalServer.find

    def note(server: LocalServer, to_change: bool = False) -> str:
        asked.append(to_change)
        return find(server)

    monkeypatch.setattr(LocalServer, "find", note)
    scripted.failures, scripted.reason = 1, "READ_ONLY"
    assert manager.create_workspace("fraud").project_name == "fraud"
    assert asked == [False, True]
    scripted.failures = 5
    with pytest.raises(WorkspaceError, match="scripted") as caught:
        manager.create_workspace("fraud")
    assert caught.value.details["reason"] == "READ_ONLY"
    assert scripted.calls["Create"] == 4


def test_pages_follow_their_tokens(manager: WorkspaceManager) -> None:
    for i in range(5):
        manager.create_workspace(f"p{i}")
    request = pb.ListWorkspacesRequest(page_size=2)
    pages = list(manager._connection.pages(request))
    assert [[workspace.project for workspace in page.workspaces] for page in pages] == [
        ["p0", "p1"],
        ["p2", "p3"],
        ["p4"],
    ]
    assert request.page_token == ""
