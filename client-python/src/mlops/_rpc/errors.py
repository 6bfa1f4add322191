"""WorkspaceError, the package's exception, and the mapping from gRPC errors."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "mlops.workspace"
_STATUS_KEY = "grpc-status-details-bin"


class WorkspaceError(Exception):
    """An operation on workspaces failed.

    `details["reason"]` is the name of an `mlops.workspace.v1.ErrorReason` value, or ""
    for a connection error. `details["code"]` is the name of a gRPC code. The other keys
    of `details` depend on the reason and are listed with it in error_reason.proto.
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
        # The retry delay that the server suggests; None if it suggests none.
        self.retry_delay_s: float | None = None


@contextmanager
def operation(name: str, workspace: object = None) -> Iterator[None]:
    """Add the operation and the workspace to errors that leave the block.

    Converts OSError to WorkspaceError with the reason IO_ERROR.
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
    """Return the error that the server would report for this field.

    Lets the client refuse a value before it sends the request.
    """
    details = {
        "field": field,
        "problem": problem,
        "reason": "FIELD_INVALID",
        "code": "INVALID_ARGUMENT",
    }
    return WorkspaceError(f"{field}: {problem}", details=details)


def not_found(project: str) -> WorkspaceError:
    """Return the error that the server reports for a missing workspace."""
    details = {"project": project, "reason": "WORKSPACE_NOT_FOUND", "code": "NOT_FOUND"}
    return WorkspaceError(
        f"Workspace does not exist: {project}", workspace=project, details=details
    )


def unavailable(message: str, **details: Any) -> WorkspaceError:
    """Return an UNAVAILABLE error: there is no server to talk to."""
    return WorkspaceError(
        message, details={**details, "reason": "", "code": "UNAVAILABLE"}
    )


def from_rpc(error: grpc.RpcError, address: str) -> WorkspaceError:
    """Convert the error of a call to the server at `address`."""
    code, message = error.code(), error.details() or ""
    status = status_pb2.Status()
    # Unpack the pairs by position: those of grpc.aio have no attribute names.
    for key, value in cast("Iterable[Any]", error.trailing_metadata() or ()):
        if key == _STATUS_KEY:
            status.ParseFromString(value)
    details = from_status(status)
    if details["reason"]:
        reported = WorkspaceError(status.message, details=details)
        reported.retry_delay_s = _retry_delay_s(status)
        return reported
    # gRPC's own errors do not name the server.
    return WorkspaceError(
        f"The server at {address}{_hint(code, message)}{message}",
        details={"reason": "", "code": code.name},
    )


def _hint(code: grpc.StatusCode, message: str) -> str:
    """Return a hint to insert between the server's address and gRPC's message."""
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ": "
    if "handshake failed" in message:
        return " failed the TLS handshake; do the client's ca and the scheme fit it? "
    if "failed to connect" in message and "Socket closed" in message:
        return " closed the connection; does it need TLS, or a client certificate? "
    return " does not answer; is it running? "


def from_status(status: status_pb2.Status) -> dict[str, Any]:
    """Return the `details` for an error that the server reported."""
    metadata: dict[str, str] = {}
    reason = ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            metadata, reason = dict(info.metadata), info.reason
    return {**metadata, "reason": reason, "code": code_name(status.code)}


def _retry_delay_s(status: status_pb2.Status) -> float | None:
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return None


def code_name(number: int) -> str:
    """Return the name of a gRPC code, or "UNKNOWN"."""
    return next(
        (code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN"
    )
