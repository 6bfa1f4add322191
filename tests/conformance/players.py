"""The players, each of which makes a call over the wire and returns protojson."""

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import grpc
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from mlops.workspace.v1 import workspace_service_pb2, workspace_service_pb2_grpc

from support.server import REPO, Server

SERVICE = workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"]
GRPCURL = Path(os.environ.get("GRPCURL", REPO / "build/tools/grpcurl"))
_CPP_PLAYER = Path(
    os.environ.get("CPP_PLAYER", REPO / "build/tests/conformance/cpp_player")
)
_TIMEOUT_S = 30
# How long grpcurl watches.
_WATCH_S = 3

# The request: one message, or the list of messages of a client stream.
Request = dict[str, Any] | list[dict[str, Any]]


@dataclass(frozen=True)
class Error:
    """The parts of a google.rpc.Status."""

    code: str
    message: str
    infos: list[error_details_pb2.ErrorInfo] = field(default_factory=list)
    invalid_fields: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """The result of a call: its responses, and the error that ended it, if any."""

    responses: list[dict[str, Any]]
    error: Error | None = None


class Player(Protocol):
    """Makes calls to one server; a context manager that frees its resources on exit."""

    def __init__(self, server: Server) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
    def call(self, rpc: str, request: Request) -> Outcome: ...


class Grpcurl:
    """Calls through grpcurl, which learns the service from the server's reflection."""

    def __init__(self, server: Server) -> None:
        flags = [
            "-plaintext",
            "-unix",
            "-format-error",
            "-max-time",
            str(_TIMEOUT_S),
            "-d",
            "@",
        ]
        self._command = [GRPCURL, *flags, server.socket]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def call(self, rpc: str, request: Request) -> Outcome:
        # A watch does not end. The last of two limits counts.
        limit = ["-max-time", str(_WATCH_S)] if rpc == "WatchWorkspaces" else []
        flags, socket = self._command[:-1], self._command[-1]
        command = [*flags, *limit, socket, f"{SERVICE.full_name}/{rpc}"]
        messages = "\n".join(json.dumps(message) for message in messages_of(request))
        result = subprocess.run(
            command, input=messages, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
        responses = _elements(
            [_normal(rpc, response) for response in _json_values(result.stdout)]
        )
        if result.returncode == 0 or any(_is_last(r) for r in responses):
            return Outcome(list(_until_last(responses)))
        try:
            status = json_format.ParseDict(
                json.loads(result.stderr), status_pb2.Status()
            )
        except (json.JSONDecodeError, json_format.ParseError) as error:
            raise AssertionError(f"grpcurl says: {result.stderr}") from error
        return Outcome(responses, _error(status))


class Python:
    """Calls through the Python client's generated stubs."""

    def __init__(self, server: Server) -> None:
        self._channel = server.connect()
        self._stub = workspace_service_pb2_grpc.WorkspaceServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._channel.close()

    def call(self, rpc: str, request: Request) -> Outcome:
        answer = getattr(self._stub, rpc)
        try:
            result = answer(make_requests(rpc, request), timeout=_TIMEOUT_S)
            results = (
                result if SERVICE.methods_by_name[rpc].server_streaming else [result]
            )
            messages = [_to_dict(m) for m in _until_last(results, is_last=_is_synced)]
            return Outcome(_elements(messages))
        except grpc.RpcError as error:
            return Outcome([], rpc_error(error))


class Cpp:
    """Calls through the C++ client, in a process of cpp_player.cc.

    Each call is one line of JSON in each direction of the pipe.
    """

    def __init__(self, server: Server) -> None:
        self._process = subprocess.Popen(
            [_CPP_PLAYER, server.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._process.communicate(timeout=_TIMEOUT_S)
        assert self._process.returncode == 0

    def call(self, rpc: str, request: Request) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None
        messages = (
            messages_of(request)
            if SERVICE.methods_by_name[rpc].client_streaming
            else request
        )
        self._process.stdin.write(json.dumps({"rpc": rpc, "request": messages}) + "\n")
        answer = json.loads(self._process.stdout.readline())
        responses = _elements(
            [_normal(rpc, response) for response in answer["responses"]]
        )
        if "error" not in answer:
            return Outcome(responses)
        return Outcome(
            responses,
            _error(json_format.ParseDict(answer["error"], status_pb2.Status())),
        )


PLAYERS: list[type[Player]] = [Grpcurl, Python, Cpp]


def messages_of(request: Request) -> list[dict[str, Any]]:
    """Returns the messages of `request`, which is one message or a list of them."""
    return request if isinstance(request, list) else [request]


def make_requests(rpc: str, request: Request) -> Any:
    """Returns the argument of the stub's method for `request`.

    That is a message, or an iterator of messages for a method that takes a stream.
    """
    messages = [make_request(rpc, message) for message in messages_of(request)]
    return (
        iter(messages) if SERVICE.methods_by_name[rpc].client_streaming else messages[0]
    )


def make_request(rpc: str, request: dict[str, Any]) -> Any:
    """Returns the protobuf message for `request`.

    Fills in field masks by hand, because protojson cannot express `*` or unknown names.
    """
    body = {key: value for key, value in request.items() if key != "update_mask"}
    message = json_format.ParseDict(
        body, _message_class(SERVICE.methods_by_name[rpc].input_type)()
    )
    if "update_mask" in request:
        message.update_mask.paths.extend(request["update_mask"].get("paths", []))
        message.update_mask.SetInParent()
    return message


def rpc_error(error: grpc.RpcError) -> Error:
    """Returns the error of a failed call of a stub."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if details is None:
        return Error(error.code().name, error.details() or "")
    return _error(status_pb2.Status.FromString(details))


def _error(status: status_pb2.Status) -> Error:
    infos, fields = [], []
    for detail in status.details:
        info, bad_request = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
        )
        if detail.Unpack(info):
            infos.append(info)
        elif detail.Unpack(bad_request):
            fields += [violation.field for violation in bad_request.field_violations]
    return Error(code_pb2.Code.Name(status.code), status.message, infos, fields)


def _normal(rpc: str, response: dict[str, Any]) -> dict[str, Any]:
    """Converts JSON to a message and back.

    So all players write names, defaults and times the same way.
    """
    message_class = _message_class(SERVICE.methods_by_name[rpc].output_type)
    return _to_dict(json_format.ParseDict(response, message_class()))


def _elements(responses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns single statuses, however many of them the server sent in one message."""
    return [
        status
        for response in responses
        for status in response.get("statuses", [response])
    ]


def _is_synced(response: Any) -> bool:
    """Returns whether a watch, which does not end, has nothing to say for now."""
    return getattr(response, "change", 0) == workspace_service_pb2.CHANGE_SYNCED


def _is_last(response: dict[str, Any]) -> bool:
    return response.get("change") == "CHANGE_SYNCED"


def _until_last(
    responses: Iterable[Any], is_last: Callable[[Any], bool] = _is_last
) -> Iterator[Any]:
    """Yields the responses up to the SYNCED of a watch."""
    for response in responses:
        yield response
        if is_last(response):
            return


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _message_class(descriptor: Any) -> Any:
    return getattr(workspace_service_pb2, descriptor.name)


def _json_values(text: str) -> Iterable[dict[str, Any]]:
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        text = text[end:].lstrip()
        yield value
