"""Calls to one server: found when it is needed, found again when it is gone."""

from __future__ import annotations  # The types of gRPC's stubs are generic to type checkers only.

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from mlops._rpc import errors
from mlops._rpc.channel import Policy, open_channel, policy_of
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")

# Before a server is looked for again: one that is leaving needs a moment.
_PAUSES_S = (0.0, 0.2, 1.0)
_PING = policy_of(pb.GetServerInfoRequest.DESCRIPTOR)


class Server(Protocol):
    """Knows where a server is."""

    may_move: bool  # Whether it is worth while to look for it again.

    def find(self) -> str:
        """Returns its address. Raises WorkspaceError if there is none."""

    def may_be_at(self, address: str) -> bool:
        """Returns, at once, False if it is no longer at an address found before."""


class FixedServer:
    """A server that is where the user says."""

    may_move = False

    def __init__(self, address: str) -> None:
        self._address = address

    def find(self) -> str:
        """Returns the address given."""
        return self._address

    def may_be_at(self, address: str) -> bool:
        """Returns True: gRPC itself waits for it to come back."""
        return True


@dataclass(frozen=True)
class _Link:
    address: str
    stub: WorkspaceServiceStub
    generation: int  # A forked process needs a channel of its own.


class Connection:
    """Calls the methods of one server. Thread-safe, and usable in forked processes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()  # Held only inside the gate, so that no fork finds it locked.
        self._link: _Link | None = None

    def call(
        self,
        method: Callable[[WorkspaceServiceStub], grpc.UnaryUnaryMultiCallable[Request, Response]],
        request: Request,
    ) -> Response:
        """Makes one call. Raises WorkspaceError."""
        policy = policy_of(request.DESCRIPTOR)
        with GATE:
            return self._attempt(lambda link: method(link.stub)(request, timeout=policy.timeout_s), policy)

    def collect(
        self,
        method: Callable[[WorkspaceServiceStub], grpc.UnaryStreamMultiCallable[Request, Response]],
        request: Request,
    ) -> list[Response]:
        """Makes one call and returns all that it streams. Raises WorkspaceError."""
        policy = policy_of(request.DESCRIPTOR)
        with GATE:
            return self._attempt(lambda link: list(method(link.stub)(request, timeout=policy.timeout_s)), policy)

    def _attempt(self, do: Callable[[_Link], Result], policy: Policy) -> Result:
        if not self._server.may_move:
            return self._once(do, self._open())
        if not policy.repeatable:
            # What must not be sent twice is not the way to find out that the server has gone.
            self._attempt(_ping, _PING)
        for pause_s in _PAUSES_S:
            link = self._open()
            try:
                return self._once(do, link)
            except WorkspaceError as error:
                if not _may_be_repeated(error, policy):
                    raise
            self._drop(link)
            time.sleep(pause_s)
        return self._once(do, self._open())

    def _once(self, do: Callable[[_Link], Result], link: _Link) -> Result:
        try:
            return do(link)
        except grpc.RpcError as error:
            raise errors.from_rpc(error, link.address) from error

    def _open(self) -> _Link:
        with self._lock:
            link = self._link
            if link and link.generation == GATE.generation and self._server.may_be_at(link.address):
                return link
            address = self._server.find()
            self._link = _Link(address, WorkspaceServiceStub(open_channel(address)), GATE.generation)
            return self._link

    def _drop(self, link: _Link) -> None:
        with self._lock:
            if self._link is link:
                self._link = None


def _ping(link: _Link) -> pb.ServerInfo:
    return link.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=_PING.timeout_s)


def _may_be_repeated(error: WorkspaceError, policy: Policy) -> bool:
    if error.details["code"] != grpc.StatusCode.UNAVAILABLE.name:
        return False
    # A server that is shutting down has not begun the call.
    return error.details["reason"] == "SHUTTING_DOWN" or (policy.repeatable and not error.details["reason"])
