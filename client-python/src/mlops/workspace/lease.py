"""Lease: the exclusive right to change a workspace, renewed in the background."""

import getpass
import logging
import math
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from google.protobuf.duration_pb2 import Duration

from mlops._rpc import convert, errors
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.lease_queue import wait_until_free
from mlops.workspace.v1 import workspace_service_pb2 as pb

DEFAULT_TTL_S = 60.0
# Codes of a renewal that may succeed later.
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED")
_MAX_HOST = 40
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseInfo:
    """A lease on a workspace, as the server reported it."""

    holder: str
    fence: int
    acquired_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, message: pb.Lease) -> Self:
        """Return the lease that a message describes."""
        return cls(
            holder=message.holder,
            fence=message.fence,
            acquired_at=convert.from_timestamp(message.acquire_time),
            expires_at=convert.from_timestamp(message.expire_time),
        )


class Lease:
    """The exclusive right to change one workspace through the service, for a `with`.

    Entering the block acquires the lease, and leaving it releases the lease. In
    between, a background thread renews it at a third of its `ttl`. All changes of the
    workspace over the same connection carry the lease: those of the manager, of its
    ProjectWorkspace objects with their `files`, and of an MLOpsClient with this
    manager, in every thread of this process. Changes by others are refused with
    LEASE_HELD. Files that programs write by path are not protected.

    The lease is lost if it could not be renewed in time or if somebody released it by
    force. Then `lost` becomes True, and the next change of the workspace over this
    connection raises LEASE_LOST without reaching the server. The end of the block
    raises it too, unless it was raised before. If the block raises, its own exception
    propagates.

    A forked child does not have the lease: its changes raise LEASE_LOST, and it neither
    renews nor releases the lease. The parent keeps it.

    Thread-safe, except that a lease must not be entered twice at the same time.
    """

    def __init__(
        self,
        connection: Connection,
        project_name: str,
        holder: str | None = None,
        ttl: float | timedelta = DEFAULT_TTL_S,
        wait: bool | float | None = None,
    ) -> None:
        """Prepare a lease; WorkspaceManager.lease() describes the arguments."""
        self.project_name = convert.check_text("project", project_name)
        self._is_new_holder = holder is None
        self.holder = (
            _new_holder() if holder is None else convert.check_text("holder", holder)
        )
        self.ttl = ttl.total_seconds() if isinstance(ttl, timedelta) else float(ttl)
        self._request = pb.AcquireLeaseRequest(
            project=self.project_name, holder=self.holder, ttl=_duration(self.ttl)
        )
        self._wait_s = _seconds(wait)
        self._connection = connection
        self._pid = 0  # Of the process that holds the lease.
        self._fence = 0
        self._deadline = 0.0
        self._lost: WorkspaceError | None = None
        self._reported = False
        self._ended = False
        self._closing = threading.Event()
        # Held during a renewal: a renewal that overtakes the release would acquire
        # another lease.
        self._renewing = threading.Lock()

    @property
    def fence(self) -> int:
        """The fencing number, larger than those of the project's earlier leases.

        Store it with your changes outside the service, to detect changes by former
        holders.
        """
        return self._fence

    @property
    def is_stale(self) -> bool:
        """Whether changes by this process no longer need to carry the lease.

        False for a lease that a forked child inherited: its changes are refused.
        """
        return False

    @property
    def lost(self) -> bool:
        """Whether the lease was lost since it was acquired."""
        return self._pid != 0 and self._why_lost() is not None

    def check(self) -> None:
        """Return if the lease is held. Call it before changes that bypass the service.

        Raises:
            WorkspaceError: LEASE_LOST.
        """
        why = self._why_lost()
        if why is not None:
            self._reported = True
            with errors.operation("lease", self.project_name):
                # A new exception each time: one object must not be raised in several
                # threads.
                raise WorkspaceError(why.message, details=dict(why.details))

    def __enter__(self) -> Self:
        with errors.operation("lease", self.project_name):
            if self._pid == os.getpid():
                raise errors.field_invalid("lease", "is already held by this object")
            sent, granted = self._acquire()
        self._fence, self._deadline = granted.fence, sent + self.ttl
        self._lost, self._reported, self._ended = None, False, False
        self._closing, self._renewing = threading.Event(), threading.Lock()
        self._pid = os.getpid()
        self._connection.leases.hold(self.project_name, self)
        threading.Thread(
            target=self._renew, args=(self._closing,), name="mlops-lease", daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._connection.leases.drop(self.project_name, self)
        inherited = self._pid != os.getpid()
        why = None if self._ended else self._why_lost()
        self._pid = 0
        if inherited or self._ended:
            return
        if why is None:
            self._release()
        elif error is None and not self._reported:
            with errors.operation("lease", self.project_name):
                raise why

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.project_name!r}, holder={self.holder!r}, "
            f"fence={self._fence}, lost={self.lost})"
        )

    def acquire_only(self) -> pb.Lease:
        """Acquire or renew the lease without holding it in this process.

        Nothing renews it, so it ends `ttl` from now, unless it is released.
        """
        try:
            return self._acquire()[1]
        except (KeyboardInterrupt, SystemExit):
            # The server may have granted the lease already, and only this call knows
            # the holder, so release it.
            if self._is_new_holder:
                with suppress(WorkspaceError):
                    self._connection.call(self._release_request())
            raise

    def lose(self, error: WorkspaceError) -> None:
        """Record the loss. Only the connection and the renewing thread call this."""
        if self._lost is None:
            self._lost = error
        self._closing.set()

    def end(self) -> None:
        """Record the deletion of the workspace. Only the connection calls this."""
        self._ended = True
        self._closing.set()
        self._connection.leases.drop(self.project_name, self)

    def _why_lost(self) -> WorkspaceError | None:
        if self._pid == 0:
            return self._lost_error("is not held: enter it by `with`")
        if self._pid != os.getpid():
            return self._lost_error(
                f"belongs to process {self._pid}, which forked this one; "
                "acquire a lease in this process"
            )
        if self._lost is None and not self._ended and _now() >= self._deadline:
            return self._lost_error(
                f"could not be renewed for {self.ttl:g} s and may have expired"
            )
        return self._lost

    def _lost_error(self, problem: str) -> WorkspaceError:
        details = {
            "project": self.project_name,
            "fence": str(self._fence),
            "current_fence": "0",
            "reason": "LEASE_LOST",
            "code": "FAILED_PRECONDITION",
        }
        return WorkspaceError(
            f"The lease of {self.holder} on workspace {self.project_name} {problem}",
            details=details,
        )

    def _acquire(self) -> tuple[float, pb.Lease]:
        """Acquire the lease, waiting for it as long as the caller allowed.

        Returns the time at which the request was sent, and the lease.
        """
        give_up = _now() + self._wait_s
        while True:
            sent = _now()
            try:
                return sent, self._connection.call(self._request)
            except WorkspaceError as error:
                rest_s = give_up - _now()
                if error.details["reason"] != "LEASE_HELD" or rest_s <= 0:
                    raise
                wait_until_free(self._connection, self.project_name, error, rest_s)

    def _renew(self, closing: threading.Event) -> None:
        """Renew the lease until it is released or lost. Runs in its own thread."""
        pause = self.ttl / 3
        while not closing.wait(pause):
            sent = _now()
            try:
                with self._renewing:
                    if closing.is_set():
                        return
                    renewed = self._connection.call(self._request)
            except WorkspaceError as error:
                if error.details["code"] not in _PASSING:
                    self.lose(self._lost_error(f"was lost: {error.message}"))
                elif _now() >= self._deadline:
                    self.lose(
                        self._lost_error(f"could not be renewed: {error.message}")
                    )
                pause = min(1.0, self.ttl / 10)
                continue
            if renewed.fence != self._fence:
                # The lease had expired, so this call has acquired another one.
                self.lose(self._lost_error("had expired before it was renewed"))
                self._release()
                return
            pause, self._deadline = self.ttl / 3, sent + self.ttl

    def _release(self) -> None:
        """Release the lease. Best effort: it expires anyway."""
        try:
            with self._renewing:
                self._connection.call(self._release_request())
        except WorkspaceError as error:
            _log.warning(
                "The lease on %s was not released, and expires within %g s: %s",
                self.project_name,
                self.ttl,
                error.message,
            )

    def _release_request(self) -> pb.ReleaseLeaseRequest:
        return pb.ReleaseLeaseRequest(project=self.project_name, holder=self.holder)


def _now() -> float:
    """Return a time that also passes while the machine is suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _new_holder() -> str:
    """Return `<user>@<host>:<pid>:<random>`, which no other lease has."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    host = socket.gethostname()[:_MAX_HOST]
    text = f"{user[:_MAX_HOST]}@{host}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _duration(ttl: float) -> Duration:
    # The server checks the limits; refuse here only what a Duration cannot hold.
    if not math.isfinite(ttl) or abs(ttl) > 1e9:
        raise errors.field_invalid("ttl", "must be 1 s to 24 h")
    duration = Duration()
    duration.FromNanoseconds(round(ttl * 1e9))
    return duration


def _seconds(wait: bool | float | None) -> float:
    """Return how long to wait; infinity for True."""
    if wait is True:
        return math.inf
    return float(wait) if wait else 0.0
