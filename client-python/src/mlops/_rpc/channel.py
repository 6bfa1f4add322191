"""gRPC channels to a server, and how its methods may be called."""

import json
import os
import resource
import weakref
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from mlops._rpc import errors
from mlops._rpc.address import is_local
from mlops.workspace.v1 import workspace_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["WorkspaceService"]
_REPEATABLE_S = 10.0
_CHANGE_S = 30.0
_STATUS_S = 60.0
_STREAM_S = 600.0
# Holds the largest page the server sends; more than this must be a mistake.
_MAX_ANSWER_BYTES = 64 << 20
# An error of the largest details is within gRPC's default of 8 KiB only if its message
# is plain ASCII.
_MAX_HEADER_BYTES = 16 << 10
# Of gRPC itself, of one connection, and of a server that has to be started first.
_NEEDED_DESCRIPTORS = 32
_MANY_DESCRIPTORS = 4096


@dataclass(frozen=True)
class Policy:
    """How a method is called: how long it may take with all its attempts, and whether
    it may be called again.
    """

    timeout_s: float
    repeatable: bool
    # Since gRPC, which knows methods alone, does not know that it may be.
    retried_here: bool = False


def _is_repeatable(method: MethodDescriptor) -> bool:
    return bool(
        method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    )


def _policy(method: MethodDescriptor) -> Policy:
    repeatable = _is_repeatable(method)
    if method.server_streaming or method.client_streaming:
        return Policy(_STREAM_S, repeatable)
    if method.input_type is pb.GetWorkspaceStatusRequest.DESCRIPTOR:
        return Policy(_STATUS_S, repeatable)
    return Policy(_REPEATABLE_S if repeatable else _CHANGE_S, repeatable)


# A method is known by its request, which it shares with no other.
_METHODS = {method.input_type.full_name: method for method in SERVICE.methods}
_POLICIES = {name: _policy(method) for name, method in _METHODS.items()}


def method_name(request: Message) -> str:
    """The name of the method that takes such a request."""
    return str(_METHODS[request.DESCRIPTOR.full_name].name)


def policy_of(request: Descriptor) -> Policy:
    """The policy of the method that takes such a request."""
    return _POLICIES[request.full_name]


def service_config() -> str:
    """gRPC's own retries of unary methods that may be repeated: 4 attempts, 0.1 s to 2
    s apart.
    """
    unary = [
        m for m in SERVICE.methods if not (m.server_streaming or m.client_streaming)
    ]
    names = [
        {"service": SERVICE.full_name, "method": m.name}
        for m in unary
        if _is_repeatable(m)
    ]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 4,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    throttling = {"maxTokens": 100, "tokenRatio": 0.1}
    return json.dumps(
        {
            "methodConfig": [{"name": names, "retryPolicy": policy}],
            "retryThrottling": throttling,
        }
    )


_keeper: tuple[int, grpc.Channel] | None = None


def _keep_grpc_running() -> None:
    """Keeps one channel, which never connects, for as long as this process lives.

    Without it gRPC would shut down with the last channel that is closed, and gRPC 1.71
    crashes at a fork after that.
    """
    global _keeper
    if _keeper is None or _keeper[0] != os.getpid():
        _keeper = (os.getpid(), grpc.insecure_channel("unix:/dev/null"))


def open_channel(address: str) -> grpc.Channel:
    """A channel to "unix:PATH" or "HOST:PORT"; it connects with the first call."""
    _keep_grpc_running()
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", service_config()),
        ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        ("grpc.max_metadata_size", _MAX_HEADER_BYTES),
        ("grpc.primary_user_agent", f"mlops-workspace-python/{_version()}"),
        # A server that restarts is back sooner than gRPC's own second and growing.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Else a new channel to an address waits for what an old one to it has to wait
        # for.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    if not address.startswith("unix:"):
        return grpc.insecure_channel(address, options)
    path = os.fsencode(address.removeprefix("unix:"))
    if b"," in path:
        return _open_by_directory(path, options)
    return grpc.insecure_channel(f"unix:{quote(path)}", options)


def _open_by_directory(
    path: bytes, options: list[tuple[str, str | int]]
) -> grpc.Channel:
    """gRPC takes a comma for the end of an address, even an escaped one: so the path
    must not show its directory.
    """
    directory, name = os.path.split(path)
    if b"," in name:
        raise errors.unavailable(
            f"The name of the Unix socket {os.fsdecode(path)} must not have a comma"
        )
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.unavailable(
            f"The server at unix:{os.fsdecode(path)} cannot be reached: {error.strerror}"
        ) from None
    channel = grpc.insecure_channel(
        f"unix:/proc/self/fd/{descriptor}/{quote(name)}", options
    )
    weakref.finalize(
        channel, _close_if_same, descriptor, os.fstat(descriptor)
    ).atexit = False
    return channel


def _close_if_same(descriptor: int, was: os.stat_result) -> None:
    """In a child that closed what it inherited, another file may have the number."""
    with suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), was):
            os.close(descriptor)


def require_descriptors() -> None:
    """Raises WorkspaceError if this process may open too few files for a connection.

    gRPC itself would say so late, in words of its own.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or limit > _MANY_DESCRIPTORS:
        return
    with suppress(FileNotFoundError):
        try:
            used = len(os.listdir("/proc/self/fd"))
        except OSError:  # There is not even one for the list.
            used = limit
        if limit - used < _NEEDED_DESCRIPTORS:
            raise errors.unavailable(
                f"This process may open {limit} files only (RLIMIT_NOFILE) and has {used} of them open; a connection "
                f"takes up to {_NEEDED_DESCRIPTORS}: raise the limit, as by `ulimit -n 1024`, or close some",
                limit=limit,
            )


def _version() -> str:
    try:
        return metadata.version("mlops-workspace")
    except metadata.PackageNotFoundError:
        return "unknown"
