"""Finds the active server among several addresses."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import queue
import time
from typing import Any

import grpc

from mlops._rpc import errors
from mlops._rpc.channel import SERVICE, open_channel
from mlops._rpc.credentials import NONE, Credentials

_FIND_S = 10.0
_PROBE_S = 2.0
_PAUSE_S = 0.1
# Messages of grpc.health.v1, whose Python package is not a dependency: the request for
# our service, and the response "SERVING".
_CHECK = b"\n%c%s" % (len(SERVICE.full_name), SERVICE.full_name.encode())
_SERVING = b"\x08\x01"


class FailoverServer:
    """Finds the active server among several, while the others stand by.

    A standby server either does not listen or reports NOT_SERVING to health checks.
    Thread-safe.
    """

    may_move = True
    retries_in_grpc = False

    def __init__(
        self, addresses: tuple[str, ...], credentials: Credentials = NONE
    ) -> None:
        self._addresses, self.credentials = addresses, credentials
        self.given = ",".join(addresses)

    def find(self, to_change: bool = False) -> str:
        """Return the address of the active server; wait for one if needed.

        Raises:
            WorkspaceError: UNAVAILABLE if no server is active within 10 s.
        """
        give_up = time.monotonic() + _FIND_S
        while True:
            found, problem = self._probe()
            if found:
                return found
            if time.monotonic() > give_up:
                raise errors.unavailable(
                    f"None of the servers at {self.given} serves; "
                    f"is one running? {problem}"
                )
            time.sleep(_PAUSE_S)

    def may_be_at(self, address: str) -> bool:
        """Return True: only a call shows whether the server still serves."""
        return True

    def _probe(self) -> tuple[str, str]:
        """Query all servers in parallel; return the active one, or a problem."""
        channels: list[grpc.Channel] = []
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        asked: dict[Any, str] = {}
        problem = ""
        try:
            for address in self._addresses:
                channel = open_channel(address, self.credentials, retry=False)
                channels.append(channel)
                check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                    "/grpc.health.v1.Health/Check"
                )
                call = check.future(
                    _CHECK, timeout=_PROBE_S, metadata=self.credentials.metadata()
                )
                asked[call] = address
                call.add_done_callback(answers.put)
            # Take the answers as they arrive: an unreachable server delays nothing.
            for _ in channels:
                answer = answers.get()
                problem = _problem_of(answer)
                if not problem:
                    return asked[answer], ""
        finally:
            for channel in channels:
                channel.close()
        return "", problem


def _problem_of(answer: Any) -> str:
    """Return "" if the server is active, else what prevents it from serving.

    A server that refuses this client counts as active: any call reports the refusal.
    """
    error = answer.exception()
    if error is None:
        return "" if answer.result() == _SERVING else "It reports NOT_SERVING"
    if error.code() in (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    ):
        return ""
    return str(error.details())
