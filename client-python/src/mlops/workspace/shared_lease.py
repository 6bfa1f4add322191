"""A lease that the threads of this process share for operations by path."""

import logging
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.workspace.lease import Lease

# Reasons and codes of a server that grants no leases to anybody or does not answer.
_NO_LEASES = frozenset({"READ_ONLY", "UNIMPLEMENTED", "UNAVAILABLE"})
_log = logging.getLogger(__name__)


class _OwnLease(Lease):
    """A lease of this package: a forked child ignores it."""

    @property
    def is_stale(self) -> bool:
        """Whether the parent of this process holds the lease."""
        return self._pid not in (0, os.getpid())


class _Use:
    """The users of one project's lease in this process."""

    def __init__(self) -> None:
        # Held while the first user acquires the lease, and while the last releases it.
        self.lock = threading.Lock()
        self.users = 0
        self.lease: Lease | None = None


class _Uses:
    """The leases in use in this process, by connection and project."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.by_connection: weakref.WeakKeyDictionary[
            Connection, defaultdict[str, _Use]
        ] = weakref.WeakKeyDictionary()


_uses = _Uses()


def _use_of(connection: Connection, project: str) -> _Use:
    global _uses
    if _uses.pid != os.getpid():
        # The parent's locks may have been locked when it forked.
        _uses = _Uses()
    return _uses.by_connection.setdefault(connection, defaultdict(_Use))[project]


@contextmanager
def shared_lease(connection: Connection, project: str, wait_s: float) -> Iterator[None]:
    """Hold the project's lease for the block, so that other hosts stay away.

    Uses the lease that the user already holds over this connection. Otherwise acquires
    one for all threads of this process that want it at the same time; the caller must
    exclude them from each other. Holds none if the server cannot grant one.

    Raises:
        WorkspaceError: LEASE_HELD if somebody else has held the lease for `wait_s`;
            LEASE_LOST if the user's lease is lost.
    """
    # A lease that the user holds already excludes other hosts.
    held = connection.leases.find(project)
    if held is not None and not isinstance(held, _OwnLease):
        held.check()
        yield
        return
    use = _use_of(connection, project)
    give_up = time.monotonic() + wait_s
    # The first of several threads acquires the lease, and the last one releases it.
    with use.lock:
        if use.users == 0:
            use.lease = _acquired(connection, project, give_up - time.monotonic())
        use.users += 1
    try:
        yield
    finally:
        with use.lock:
            use.users -= 1
            if use.users == 0 and use.lease is not None:
                _release(use.lease)
                use.lease = None


def _acquired(connection: Connection, project: str, wait_s: float) -> Lease | None:
    """Acquire the lease; return None if the server cannot grant one."""
    lease = _OwnLease(connection, project, wait=max(wait_s, 0.0))
    try:
        return lease.__enter__()
    except WorkspaceError as error:
        if error.details["reason"] == "LEASE_HELD":
            raise
        known = not _NO_LEASES.isdisjoint(
            (error.details["reason"], error.details["code"])
        )
        _log.log(
            logging.DEBUG if known else logging.WARNING,
            "Without a lease on %s, which only protects from other hosts: %s",
            project,
            error.message,
        )
        return None


def _release(lease: Lease) -> None:
    try:
        lease.__exit__(None, None, None)
    except WorkspaceError as error:
        # The operation is complete, and the lock files excluded this host's other
        # processes, so only log the error.
        _log.warning("%s", error.message)
