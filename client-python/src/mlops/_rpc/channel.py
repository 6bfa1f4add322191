"""gRPC channels to a server, and the retry and timeout policy of its methods."""

import json
import os
import resource
import weakref
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from mlops._rpc import errors
from mlops._rpc.address import is_local, without_scheme
from mlops._rpc.credentials import NONE, Credentials
from mlops.workspace.v1 import workspace_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["WorkspaceService"]
_REPEATABLE_S = 10.0
_CHANGE_S = 30.0
_STATUS_S = 60.0
STREAM_S = 600.0
# Holds the largest page that the server sends; a larger message must be a mistake.
_MAX_ANSWER_BYTES = 64 << 20
# gRPC's default of 8 KiB is enough for the largest error details only if the message is
# plain ASCII.
_MAX_HEADER_BYTES = 16 << 10
# The descriptors that gRPC, one connection and the start of a server need.
_NEEDED_DESCRIPTORS = 32
_MANY_DESCRIPTORS = 4096


@dataclass(frozen=True)
class Policy:
    """The retry and timeout policy of a method.

    `timeout_s` covers all attempts. `repeatable` is whether the call may be sent again.
    """

    timeout_s: float
    repeatable: bool
    # Retry in Connection instead of gRPC: gRPC's policy is per method, and does not
    # know that this request may be repeated.
    retried_here: bool = False


def _is_repeatable(method: MethodDescriptor) -> bool:
    return bool(
        method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    )


def _policy(method: MethodDescriptor) -> Policy:
    repeatable = _is_repeatable(method)
    if method.server_streaming or method.client_streaming:
        return Policy(STREAM_S, repeatable)
    if method.input_type is pb.GetWorkspaceStatusRequest.DESCRIPTOR:
        return Policy(_STATUS_S, repeatable)
    return Policy(_REPEATABLE_S if repeatable else _CHANGE_S, repeatable)


# Every method has its own request type, so the request identifies the method.
_METHODS = {method.input_type.full_name: method for method in SERVICE.methods}
_POLICIES = {name: _policy(method) for name, method in _METHODS.items()}


def method_name(request: Message) -> str:
    """Return the name of the method that takes this request."""
    return str(_METHODS[request.DESCRIPTOR.full_name].name)


def policy_of(request: Descriptor) -> Policy:
    """Return the policy of the method that takes this request type."""
    return _POLICIES[request.full_name]


def service_config() -> str:
    """Return the gRPC service config: retries of unary methods that may be repeated.

    Up to 4 attempts, 0.1 s to 2 s apart.
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
    # Stop retrying while most calls fail, so that retries do not prolong an outage.
    throttling = {"maxTokens": 100, "tokenRatio": 0.1}
    return json.dumps(
        {
            "methodConfig": [{"name": names, "retryPolicy": policy}],
            "retryThrottling": throttling,
        }
    )


_keeper: tuple[int, grpc.Channel] | None = None


def _keep_grpc_running() -> None:
    """Keep one channel, which never connects, open until this process exits.

    Without it gRPC shuts down with the last channel that is closed, and gRPC 1.71
    crashes if the process forks after that.
    """
    global _keeper
    if _keeper is None or _keeper[0] != os.getpid():
        _keeper = (os.getpid(), grpc.insecure_channel("unix:/dev/null"))


def open_channel(
    address: str, credentials: Credentials = NONE, *, retry: bool = True
) -> grpc.Channel:
    """Return a channel to a server; it connects on the first call.

    Args:
        address: As check_address() accepts it.
        credentials: Decide whether the connection is encrypted. The caller adds the
            token to its calls; see Stub.
        retry: Whether gRPC retries calls as service_config() says.

    Raises:
        WorkspaceError: UNAVAILABLE if the socket's directory cannot be opened;
            FIELD_INVALID if a file of the credentials cannot be used.
    """
    channel: grpc.Channel = _open(grpc, address, credentials, retry)
    return channel


def open_async_channel(
    address: str, credentials: Credentials = NONE, *, retry: bool = True
) -> grpc.aio.Channel:
    """Return a channel for asyncio, as open_channel() does."""
    channel: grpc.aio.Channel = _open(grpc.aio, address, credentials, retry)
    return channel


def _open(library: Any, address: str, credentials: Credentials, retry: bool) -> Any:
    """Open a channel of `library`, which is grpc or grpc.aio."""
    _keep_grpc_running()
    options = _options(address, retry)
    if credentials.need_tls(address):
        return library.secure_channel(
            without_scheme(address), credentials.for_channel(), options
        )
    if not address.startswith("unix:"):
        return library.insecure_channel(without_scheme(address), options)
    path = os.fsencode(address.removeprefix("unix:"))
    if b"," in path:
        return _open_by_directory(library, path, options)
    return library.insecure_channel(f"unix:{quote(path)}", options)


def _options(address: str, retry: bool) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", service_config()),
        ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        ("grpc.max_metadata_size", _MAX_HEADER_BYTES),
        ("grpc.primary_user_agent", f"mlops-workspace-python/{_version()}"),
        # A restarted server is back sooner than gRPC's default, 1 s and growing.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Without this, a new channel shares the reconnect backoff of older channels to
        # the same address.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    if not retry:
        options.append(("grpc.enable_retries", 0))
    return options


def _open_by_directory(
    library: Any, path: bytes, options: list[tuple[str, str | int]]
) -> Any:
    """Open a channel to a socket in a directory whose path contains a comma.

    gRPC ends an address at a comma, even an escaped one. So the address names the
    directory by a descriptor instead.
    """
    directory, name = os.path.split(path)
    # The descriptor stands for the directory only.
    if b"," in name:
        raise errors.unavailable(
            f"The name of the Unix socket {os.fsdecode(path)} must not have a comma"
        )
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.unavailable(
            f"The server at unix:{os.fsdecode(path)} cannot be reached: "
            f"{error.strerror}"
        ) from None
    channel = library.insecure_channel(
        f"unix:/proc/self/fd/{descriptor}/{quote(name)}", options
    )
    # The channel may reconnect at any time, so keep the descriptor as long as it lives.
    weakref.finalize(
        channel, _close_if_same, descriptor, os.fstat(descriptor)
    ).atexit = False
    return channel


def _close_if_same(descriptor: int, was: os.stat_result) -> None:
    """Close `descriptor` if it is still the same file.

    In a child that closed all inherited descriptors, another file may reuse the number.
    """
    with suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), was):
            os.close(descriptor)


def require_descriptors() -> None:
    """Check that this process may open enough files for a connection.

    gRPC reports the lack of descriptors late and unclearly.

    Raises:
        WorkspaceError: UNAVAILABLE if RLIMIT_NOFILE leaves too few descriptors.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or limit > _MANY_DESCRIPTORS:
        return
    try:
        used = len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        # This system does not report the number of open files.
        return
    except OSError:
        # The limit is reached: no descriptor is left to list the directory.
        used = limit
    if limit - used < _NEEDED_DESCRIPTORS:
        raise errors.unavailable(
            f"This process may open {limit} files only (RLIMIT_NOFILE) "
            f"and has {used} of them open; "
            f"a connection takes up to {_NEEDED_DESCRIPTORS}: "
            "raise the limit, as by `ulimit -n 1024`, or close some",
            limit=limit,
        )


def _version() -> str:
    try:
        return metadata.version("mlops-workspace")
    except metadata.PackageNotFoundError:
        return "unknown"
