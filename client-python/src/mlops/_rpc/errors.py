"""The one exception of the package, and the one place where errors of calls become it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "mlops.workspace"
_STATUS_KEY = "grpc-status-details-bin"


class WorkspaceError(Exception):
    """An operation on workspaces failed.

    `details["reason"]` is the name of a value of `mlops.workspace.v1.ErrorReason`, or
    "" for an error of the connection; `details["code"]` is the name of a gRPC code.
    What stands beside them is listed with the reason.
    """

    def __init__(
        self,
        message: str,
        operation: str | None = None,
        workspace: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.workspace = workspace
        self.details = details if details is not None else {}


@contextmanager
def operation(name: str, workspace: object = None) -> Iterator[None]:
    """Names the operation and the workspace in the errors that leave the block, be they
    of a call or of a file.
    """
    workspace = workspace if isinstance(workspace, str) else None
    try:
        yield
    except WorkspaceError as error:
        error.operation = name
        error.workspace = error.workspace or workspace or error.details.get("project")
        raise
    except OSError as error:
        details = {
            "path": str(error.filename),
            "errno": str(error.errno),
            "reason": "IO_ERROR",
            "code": "INTERNAL",
        }
        raise WorkspaceError(
            f"{error.filename}: {error.strerror}", name, workspace, details
        ) from error


def field_invalid(field: str, problem: str) -> WorkspaceError:
    """What the service says of such a field, said before it is sent."""
    details = {
        "field": field,
        "problem": problem,
        "reason": "FIELD_INVALID",
        "code": "INVALID_ARGUMENT",
    }
    return WorkspaceError(f"{field}: {problem}", details=details)


def not_found(project: str) -> WorkspaceError:
    """What the service says where there is no such workspace."""
    details = {"project": project, "reason": "WORKSPACE_NOT_FOUND", "code": "NOT_FOUND"}
    return WorkspaceError(
        f"Workspace does not exist: {project}", workspace=project, details=details
    )


def unavailable(message: str, **details: Any) -> WorkspaceError:
    """There is no server to talk to."""
    return WorkspaceError(
        message, details={**details, "reason": "", "code": "UNAVAILABLE"}
    )


def from_rpc(error: grpc.RpcError, address: str) -> WorkspaceError:
    """What a call to the server at `address` failed with."""
    code, message = error.code(), error.details() or ""
    status = status_pb2.Status()
    for item in error.trailing_metadata() or ():
        if item.key == _STATUS_KEY:
            status.ParseFromString(item.value)
    details = from_status(status)
    if details["reason"]:
        return WorkspaceError(status.message, details=details)
    # gRPC's own errors do not say which server they speak of.
    hint = (
        " does not answer; is it running? "
        if code is grpc.StatusCode.UNAVAILABLE
        else ": "
    )
    return WorkspaceError(
        f"The server at {address}{hint}{message}",
        details={"reason": "", "code": code.name},
    )


def from_status(status: status_pb2.Status) -> dict[str, Any]:
    """The `details` of an error of the service."""
    metadata: dict[str, str] = {}
    reason = ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            metadata, reason = dict(info.metadata), info.reason
    return {**metadata, "reason": reason, "code": code_name(status.code)}


def code_name(number: int) -> str:
    """The name of a gRPC code."""
    return next(
        (code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN"
    )
