"""Calls to one server: found when it is needed, found again when it is gone."""

# The types of gRPC's stubs are generic to type checkers only.
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
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE
from mlops._rpc.stub import Stub
from mlops.workspace.v1 import workspace_service_pb2 as pb

Result = TypeVar("Result")

_MAX_LOSSES = 3
# gRPC's own codes, without a reason of the service, for calls that were on their way
# when the server left.
_LOST = ("UNAVAILABLE", "CANCELLED")
# A server that is leaving needs a moment.
_PAUSE_S = 0.1
_MAX_PAUSE_S = 1.0
# A stream that is lost is tried again for so long: one that has just begun, and one
# that had got somewhere.
_BEGIN_S = 3.0
_RESUME_S = 30.0
# As what gRPC may report the loss of a stream.
_BROKEN = (*_LOST, "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL")
_PASSING = ("SHUTTING_DOWN", "OVERLOADED", "WORKSPACE_BUSY")
_PING = policy_of(pb.GetServerInfoRequest.DESCRIPTOR)


class Server(Protocol):
    """Knows where a server is."""

    may_move: bool  # Whether it is worth while to look for it again.

    def find(self, to_change: bool = False) -> str:
        """Returns its address; `to_change`, one that may be another than for reading.
        Raises WorkspaceError if there is none.
        """

    def may_be_at(self, address: str) -> bool:
        """Returns, at once, False if it is no longer at an address found before."""


class FixedServer:
    """A server that is where the user says."""

    may_move = False

    def __init__(self, address: str) -> None:
        self._address = address

    def find(self, to_change: bool = False) -> str:
        """Returns the address given."""
        return self._address

    def may_be_at(self, address: str) -> bool:
        """Returns True: gRPC itself waits for it to come back."""
        return True


@dataclass(frozen=True)
class _Link:
    address: str
    channel: grpc.Channel
    stub: Stub
    generation: int  # A forked process needs a channel of its own.


class Connection:
    """Calls the methods of one server.

    Thread-safe, and usable in forked processes; a pickled one connects anew.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        # Held only inside the gate, so that no fork finds it locked.
        self._lock = threading.Lock()
        self._link: _Link | None = None

    def __reduce__(self) -> tuple[type[Connection], tuple[Server]]:
        return Connection, (self._server,)

    @property
    def address(self) -> str:
        """Where the server is, if the user said so; else where it was when a call was
        made, or "" before the first.
        """
        if not self._server.may_move:
            return self._server.find()
        link = self._link
        return link.address if link else ""

    def call(self, request: Message) -> Any:
        """Makes one call of the method that takes such a request, and returns its
        response.

        Raises WorkspaceError.
        """
        name, policy = method_name(request), _policy_of(request)
        with GATE:
            return self._attempt(
                lambda link: getattr(link.stub, name)(
                    request, timeout=policy.timeout_s
                ),
                policy,
            )

    def collect(self, request: Message) -> list[Any]:
        """Makes one call and returns all that it streams. Raises WorkspaceError."""
        name, policy = method_name(request), _policy_of(request)
        with GATE:
            return self._attempt(
                lambda link: list(
                    getattr(link.stub, name)(request, timeout=policy.timeout_s)
                ),
                policy,
            )

    def pages(self, request: Message) -> Iterator[Any]:
        """The responses of a method that lists, page by page, from that of the
        `request` on.

        Raises WorkspaceError.
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
        """Gives the connection up; calls that run on it finish. A later call opens
        another one.
        """
        with self._lock:
            self._link = None

    def resume(
        self,
        do: Callable[[Stub], Result],
        progress: Callable[[], int],
        begun: bool = False,
    ) -> Result:
        """Calls `do`, which makes calls that stream, and calls it again when the
        connection is lost or the server is busy: it is to go on where it was.
        `progress` tells how far it has got; without any for 30 s, or for 3 s if it had
        got nowhere and had not `begun` before, the error is raised. Raises
        WorkspaceError.
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
                    broken = (
                        error.details["code"] in _BROKEN and not error.details["reason"]
                    )
                    if not broken and error.details["reason"] not in _PASSING:
                        raise
                    if progress() > seen:
                        seen, pause, give_up = (
                            progress(),
                            _PAUSE_S,
                            time.monotonic() + _RESUME_S,
                        )
                    elif time.monotonic() > give_up:
                        raise
            if link and broken and self._server.may_move:
                self._drop(link)
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_S)

    def _attempt(self, do: Callable[[_Link], Result], policy: Policy) -> Result:
        if not self._server.may_move and not policy.retried_here:
            return self._once(do, self._open())
        if not policy.repeatable:
            # What must not be sent twice is not the way to find out that the server has
            # gone.
            self._attempt(_ping, _PING)
        give_up, losses, refusal = time.monotonic() + policy.timeout_s, 0, None
        while True:
            link = self._open(refusal)
            try:
                return self._once(do, link)
            except WorkspaceError as error:
                # It has not begun the call.
                leaving = error.details["reason"] == "SHUTTING_DOWN"
                lost = (
                    policy.repeatable
                    and error.details["code"] in _LOST
                    and not error.details["reason"]
                )
                losses += lost
                refused = error.details["reason"] == "READ_ONLY" and refusal is None
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
            raise errors.from_rpc(error, link.address) from error

    def _open(self, refusal: WorkspaceError | None = None) -> _Link:
        """The connection; after a `refusal` by a server that only reads, one to a
        server that also changes.
        """
        with self._lock:
            link = self._link
            if (
                link
                and link.generation == GATE.generation
                and self._server.may_be_at(link.address)
            ):
                return link
            require_descriptors()
            try:
                address = self._server.find(to_change=refusal is not None)
            except WorkspaceError:
                if refusal is not None:
                    raise refusal from None
                raise
            channel = open_channel(address)
            self._link = _Link(address, channel, Stub(channel), GATE.generation)
            # gRPC never closes a channel by itself, and up to 1.80 ends a forked child,
            # with 64, in which one is left that is neither closed nor registered. What
            # still runs on the link keeps it.
            weakref.finalize(self._link, channel.close).atexit = False
            GATE.arm()
            return self._link

    def _drop(self, link: _Link) -> None:
        with self._lock:
            if self._link is link:
                self._link = None


def _policy_of(request: Message) -> Policy:
    policy = policy_of(request.DESCRIPTOR)
    # Of all that have one id the server makes one workspace.
    repeatable = (
        isinstance(request, pb.CreateWorkspaceRequest) and request.request_id != ""
    )
    return replace(policy, repeatable=True, retried_here=True) if repeatable else policy


def _ping(link: _Link) -> pb.ServerInfo:
    return link.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=_PING.timeout_s)
