"""Calls to one server, which is located on demand and again after it exits."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from mlops._rpc import errors
from mlops._rpc.channel import (
    Policy,
    method_name,
    open_channel,
    policy_of,
    require_descriptors,
)
from mlops._rpc.credentials import NONE, Credentials
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE, Pausable
from mlops._rpc.leases import HeldLeases
from mlops._rpc.stub import Stub
from mlops.workspace.v1 import workspace_service_pb2 as pb

Result = TypeVar("Result")
Lasting = TypeVar("Lasting", bound=Pausable)

_MAX_LOSSES = 3
# Codes from gRPC itself, without a reason from the server, for calls that were in
# flight when the server exited or broke the connection.
# RESOURCE_EXHAUSTED: gRPC cut the call off because the server had received too much
# from all its clients.
_LOST = ("UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED")
# Pauses between retries while a server shuts down.
_PAUSE_S = 0.1
_MAX_PAUSE_S = 1.0
# How long to retry a lost stream that makes no progress: before its first progress,
# and after it.
_BEGIN_S = 3.0
_RESUME_S = 30.0
# Codes with which gRPC may report a lost stream.
_BROKEN = (*_LOST, "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL")
_PASSING = ("SHUTTING_DOWN", "OVERLOADED", "WORKSPACE_BUSY")
_PING = policy_of(pb.GetServerInfoRequest.DESCRIPTOR)


class Server(Protocol):
    """Locates a server."""

    may_move: bool  # Whether find() may return another address later.
    retries_in_grpc: bool  # Whether gRPC retries calls, at the same address.
    given: str  # The address that the user gave; "" if the server is located.
    credentials: Credentials

    def find(self, to_change: bool = False) -> str:
        """Return the server's address.

        Args:
            to_change: The caller needs a server that accepts changes. Otherwise, the
                result may be a read-only server.

        Raises:
            WorkspaceError: There is no server.
        """

    def may_be_at(self, address: str) -> bool:
        """Return False, without blocking, if no server is at this earlier address."""


class FixedServer:
    """A server at an address that the user gave."""

    may_move = False
    retries_in_grpc = True

    def __init__(self, address: str, credentials: Credentials = NONE) -> None:
        self.given, self.credentials = address, credentials

    def find(self, to_change: bool = False) -> str:
        """Return the address."""
        return self.given

    def may_be_at(self, address: str) -> bool:
        """Return True: gRPC itself waits for the server to return."""
        return True


@dataclass(frozen=True)
class _Link:
    address: str
    channel: grpc.Channel
    stub: Stub
    generation: int  # A forked process needs its own channel.
    stamp: object  # Of the credentials' files.


class Connection:
    """Calls the methods of one server.

    Thread-safe, and usable in forked processes. An unpickled connection reconnects and
    has no leases. While `leases` has a lease on a project, every change of that project
    carries the lease's fence.
    """

    def __init__(self, server: Server) -> None:
        self.leases = HeldLeases()
        self._server = server
        # Acquired only inside the gate, so that it is never locked in a forked child.
        self._lock = threading.Lock()
        self._link: _Link | None = None
        # When the last search for the server failed, and why.
        self._not_found: tuple[float, WorkspaceError | None] = (0.0, None)

    def __reduce__(self) -> tuple[type[Connection], tuple[Server]]:
        return Connection, (self._server,)

    @property
    def address(self) -> str:
        """The address that the user gave, or the address of the latest call's server.

        "" if the server is located automatically and no call was made yet.
        """
        link = self._link
        return link.address if link else self._server.given

    @property
    def server(self) -> Server:
        """How the server is found, and the credentials for it."""
        return self._server

    @property
    def is_open(self) -> bool:
        """Whether the server was found, so that the next call needs no search."""
        return self._link is not None

    def call(self, request: Message) -> Any:
        """Call the method that takes this request type, and return its response.

        Retries as the method's policy allows.

        Raises:
            WorkspaceError: The call failed.
        """
        name, policy = method_name(request), _policy_of(request)
        self.leases.add_fence(request)
        with GATE:
            response = self._attempt(
                lambda link: getattr(link.stub, name)(
                    request, timeout=policy.timeout_s
                ),
                policy,
            )
        self.leases.note_done(request)
        return response

    def collect(self, request: Message) -> list[Any]:
        """Make one streaming call and return all its messages.

        Raises:
            WorkspaceError: The call failed.
        """
        name, policy = method_name(request), _policy_of(request)
        with GATE:
            return self._attempt(
                lambda link: list(
                    getattr(link.stub, name)(request, timeout=policy.timeout_s)
                ),
                policy,
            )

    def follow(self, request: Message, take: Callable[[Any], None]) -> Any:
        """Make one streaming call of any duration, and return its last message.

        Passes each message to `take` when it arrives. The call ends if `take` raises an
        exception.

        Raises:
            WorkspaceError: The call failed.
        """
        name, policy = method_name(request), _policy_of(request)

        def do(link: _Link) -> Any:
            messages = getattr(link.stub, name)(request, timeout=None)
            last = None
            try:
                for last in messages:
                    take(last)
            finally:
                messages.cancel()
            return last

        with GATE:
            return self._attempt(do, policy)

    def once(self, do: Callable[[Stub], Result]) -> Result:
        """Call `do`, which continues a streaming call, without retries.

        Raises:
            WorkspaceError: The call failed.
        """
        with GATE:
            return self._once(lambda link: do(link.stub), self._open())

    def pages(self, request: Message) -> Iterator[Any]:
        """Yield the pages of a List method, starting with the page of `request`.

        Raises:
            WorkspaceError: A call failed.
        """
        following: Any = type(request)()
        following.CopyFrom(request)
        while True:
            page = self.call(following)
            yield page
            if not page.next_page_token:
                return
            following.page_token = page.next_page_token

    def close(self) -> None:
        """Close the connection.

        Calls in flight finish. A later call opens a new connection.
        """
        with self._lock:
            self._link = None

    def begin(self, request: Message, stream: Callable[[Any, Any], Lasting]) -> Lasting:
        """Begin a streaming call of unlimited duration; return `stream(call, link)`.

        The result is paused before a fork. It must keep the link while it needs the
        call, and pass the link to lose() if the call ended with a lost connection.

        Raises:
            WorkspaceError: There is no server.
        """
        with GATE:
            link = self._open()
            lasting = stream(getattr(link.stub, method_name(request))(request), link)
            GATE.watch(lasting)
            return lasting

    def lose(self, link: Any) -> None:
        """Record that a link of begin() broke; the server may have been replaced."""
        if self._server.may_move:
            self._drop(link)

    def resume(
        self,
        do: Callable[[Stub], Result],
        progress: Callable[[], int],
        begun: bool = False,
    ) -> Result:
        """Call `do`; repeat it after a lost connection or while the server is busy.

        Gives up after 30 s without progress, or after 3 s if there was no progress at
        all and `begun` is False.

        Args:
            do: Makes streaming calls. When called again, it must resume where it
                stopped.
            progress: Returns a number that grows with the progress of `do`.
            begun: Whether there was progress before this call.

        Raises:
            WorkspaceError: The error of the last attempt.
        """
        seen, pause, give_up = (
            progress(),
            _PAUSE_S,
            time.monotonic() + (_RESUME_S if begun else _BEGIN_S),
        )
        while True:
            link = None
            with GATE:
                try:
                    link = self._open()
                    return self._once(lambda link: do(link.stub), link)
                except WorkspaceError as error:
                    if not is_passing(error):
                        raise
                    broken = not error.details["reason"]
                    # Progress restarts the time limit.
                    if progress() > seen:
                        seen, pause, give_up = (
                            progress(),
                            _PAUSE_S,
                            time.monotonic() + _RESUME_S,
                        )
                    elif time.monotonic() > give_up:
                        raise
            # The server may have been replaced; locate it again.
            if link and broken and self._server.may_move:
                self._drop(link)
            # Sleep outside the gate, so that other threads may fork.
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_S)

    def _attempt(self, do: Callable[[_Link], Result], policy: Policy) -> Result:
        # gRPC itself retries calls to a fixed address.
        if not self._server.may_move and not policy.retried_here:
            return self._once(do, self._open())
        if not policy.repeatable:
            # This call must not be sent twice, so it must not be the one that detects
            # that the server has exited. Detect that with a repeatable call first.
            self._attempt(_ping, _PING)
        give_up, losses, refusal = time.monotonic() + policy.timeout_s, 0, None
        while True:
            link = self._open(refusal)
            try:
                return self._once(do, link)
            except WorkspaceError as error:
                # A server that is shutting down has not begun the call, so every call
                # may be retried.
                leaving = error.details["reason"] == "SHUTTING_DOWN"
                lost = (
                    policy.repeatable
                    and error.details["code"] in _LOST
                    and not error.details["reason"]
                )
                losses += lost
                # A read-only server refused the change; look once for a server that
                # accepts it.
                refused = error.details["reason"] == "READ_ONLY" and refusal is None
                if error.details["code"] == "DEADLINE_EXCEEDED":
                    # The server's machine may have disappeared.
                    self._drop(link)
                if (
                    not (leaving or lost or refused)
                    or losses > _MAX_LOSSES
                    or time.monotonic() > give_up
                ):
                    raise
                if refused:
                    refusal = error
            self._drop(link)
            if leaving or not self._server.may_move:
                time.sleep(_PAUSE_S)

    def _once(self, do: Callable[[_Link], Result], link: _Link) -> Result:
        try:
            return do(link)
        except grpc.RpcError as error:
            raise self._converted(error, link) from error

    def _converted(self, error: grpc.RpcError, link: _Link) -> WorkspaceError:
        # Create the exception in this frame. In the frame that raises it, a local
        # variable would keep that frame, and its callers' objects, in a cycle.
        converted = errors.from_rpc(error, link.address)
        self.leases.note_error(converted)
        return converted

    def _open(self, refusal: WorkspaceError | None = None) -> _Link:
        """Return the current connection, or open one.

        After a `refusal` by a read-only server, looks for a server that accepts
        changes, and raises the refusal if there is none.
        """
        asked = time.monotonic()
        with self._lock:
            link, credentials = self._link, self._server.credentials
            stamp = credentials.stamp()
            if (
                link
                and link.generation == GATE.generation
                and link.stamp == stamp
                and self._server.may_be_at(link.address)
            ):
                return link
            require_descriptors()
            # While the credentials' files are being replaced, they may briefly not
            # match each other. The open connection remains usable meanwhile.
            may_stay = (
                link and link.generation == GATE.generation and link.stamp != stamp
            )
            # A thread that waited for another thread's search shares its failure.
            failed_at, failure = self._not_found
            if refusal is None and failure and failed_at > asked:
                raise WorkspaceError(failure.message, details=dict(failure.details))
            try:
                address = self._server.find(to_change=refusal is not None)
                channel = open_channel(
                    address, credentials, retry=self._server.retries_in_grpc
                )
            except WorkspaceError as error:
                if refusal is not None:
                    raise refusal from None
                if may_stay and error.details["reason"] == "FIELD_INVALID":
                    assert link is not None
                    return link
                self._not_found = time.monotonic(), error
                raise
            stub = Stub(channel, credentials)
            self._link = _Link(address, channel, stub, GATE.generation, stamp)
            # gRPC never closes a channel on its own. Up to 1.80 it ends a forked child,
            # with exit code 64, if a channel is left that is neither closed nor
            # registered. Calls in flight hold a reference to the link, so the channel
            # is closed after them.
            weakref.finalize(self._link, channel.close).atexit = False
            GATE.arm()
            return self._link

    def _drop(self, link: _Link) -> None:
        with self._lock:
            if self._link is link:
                self._link = None


def is_passing(error: WorkspaceError) -> bool:
    """Whether a stream that ended with this error can be resumed later."""
    if error.details["reason"]:
        return error.details["reason"] in _PASSING
    return error.details["code"] in _BROKEN


def _policy_of(request: Message) -> Policy:
    policy = policy_of(request.DESCRIPTOR)
    # With a request_id the server creates only one workspace, so the call may be
    # repeated.
    repeatable = (
        isinstance(request, pb.CreateWorkspaceRequest | pb.CloneWorkspaceRequest)
        and request.request_id != ""
    )
    return replace(policy, repeatable=True, retried_here=True) if repeatable else policy


def _ping(link: _Link) -> pb.ServerInfo:
    return link.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=_PING.timeout_s)
