"""The leases that this process holds over one connection."""

import os
import re
from typing import Any, Protocol

from google.protobuf.message import Message

from mlops._rpc.errors import WorkspaceError
from mlops.workspace.v1 import workspace_service_pb2 as pb

# Environment variables that name a lease which another process, such as
# `mlops lease run`, holds for this one.
PROJECT, FENCE = "MLOPS_LEASE_PROJECT", "MLOPS_LEASE_FENCE"
# All of these fit into an int64.
_FENCE_TEXT = re.compile("[0-9]{1,18}")


class HeldLease(Protocol):
    """A lease on one project, from its acquisition to its release or loss."""

    @property
    def fence(self) -> int:
        """The number that changes must carry."""

    @property
    def is_stale(self) -> bool:
        """Whether changes by this process no longer need to carry the lease."""

    def check(self) -> None:
        """Return if the lease is held.

        Raises:
            WorkspaceError: LEASE_LOST.
        """

    def lose(self, error: WorkspaceError) -> None:
        """Record that the server reported the lease as lost."""

    def end(self) -> None:
        """Record that the lease ended because its workspace was deleted."""


class _InheritedLease:
    """A lease that the environment names. Another process holds and renews it."""

    def __init__(self, fence: int) -> None:
        self._fence = fence
        self._lost: WorkspaceError | None = None
        self._ended = False

    @property
    def fence(self) -> int:
        return self._fence

    @property
    def is_stale(self) -> bool:
        return self._ended

    def check(self) -> None:
        if self._lost is not None:
            # A new exception each time: threads must not raise the same object.
            raise WorkspaceError(self._lost.message, details=dict(self._lost.details))

    def lose(self, error: WorkspaceError) -> None:
        self._lost = error

    def end(self) -> None:
        self._ended = True


class HeldLeases:
    """The current lease on each project; every change over the connection carries it.

    Initially holds the lease that the environment names, if any.

    Thread-safe, and usable in forked processes: each step is one atomic operation on a
    dict, so there is no lock that a fork could leave locked.
    """

    def __init__(self) -> None:
        self._held: dict[str, HeldLease] = {}
        project, fence = os.environ.get(PROJECT, ""), os.environ.get(FENCE, "")
        if project and _FENCE_TEXT.fullmatch(fence):
            self._held[project] = _InheritedLease(int(fence))

    def hold(self, project: str, lease: HeldLease) -> None:
        """Use this lease for all further changes of the project."""
        self._held[project] = lease

    def drop(self, project: str, lease: HeldLease) -> None:
        """Stop using this lease. No-op if another one is used."""
        if self._held.get(project) is lease:
            self._held.pop(project, None)

    def find(self, project: str) -> HeldLease | None:
        """Return the lease that is used for the project, held or lost."""
        lease = self._held.get(project)
        if lease is not None and lease.is_stale:
            self.drop(project, lease)
            return None
        return lease

    def fence(self, project: str) -> int:
        """Return the fence for a change of the project; 0 without a lease.

        Raises:
            WorkspaceError: LEASE_LOST.
        """
        lease = self.find(project)
        if lease is None:
            return 0
        lease.check()
        return lease.fence

    def add_fence(self, request: Message) -> None:
        """Set the fence of a request that takes one and has none.

        Raises:
            WorkspaceError: LEASE_LOST. The request must not be sent.
        """
        if not self._held or "fence" not in request.DESCRIPTOR.fields_by_name:
            return
        change: Any = request
        if not change.fence:
            change.fence = self.fence(_project(change))

    def note_done(self, request: Message) -> None:
        """Record a successful call: a deletion ends the lease."""
        if isinstance(request, pb.DeleteWorkspaceRequest) and not request.validate_only:
            lease = self._held.get(request.project)
            if lease is not None and request.fence == lease.fence and not request.uid:
                lease.end()

    def note_error(self, error: WorkspaceError) -> None:
        """Record an error from the server, which may report that a lease is lost."""
        if error.details.get("reason") != "LEASE_LOST":
            return
        lease = self._held.get(error.details.get("project", ""))
        if lease is not None and error.details.get("fence") == str(lease.fence):
            lease.lose(error)


def _project(change: Any) -> str:
    by_workspace = isinstance(change, pb.UpdateWorkspaceRequest)
    return str(change.workspace.project if by_workspace else change.project)
