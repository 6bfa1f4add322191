"""WorkspaceEvent: what a watch reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlops._rpc.errors import WorkspaceError
from mlops._rpc.watch import Watch
from mlops.workspace.v1 import workspace_service_pb2 as pb

if TYPE_CHECKING:
    from mlops.workspace.project import ProjectWorkspace

Change = Literal["created", "updated", "deleted", "synced"]

_CHANGES: dict[int, Change] = {
    pb.CHANGE_CREATED: "created",
    pb.CHANGE_UPDATED: "updated",
    pb.CHANGE_DELETED: "deleted",
    pb.CHANGE_SYNCED: "synced",
}


@dataclass(frozen=True)
class WorkspaceEvent:
    """One change of a workspace."""

    # "created" also for a workspace that was restored, put there by hand, or existed
    # when the watch began. "updated" if its record, its lease or `over_quota` changed.
    # "synced" if every earlier change has been reported.
    change: Change
    project: str  # "" for "synced".
    # The current state. None if it is deleted, if its record cannot be read, or
    # for "synced".
    workspace: ProjectWorkspace | None
    resume_token: str  # The position after this event.
    uid: str = ""  # Of the workspace, also of a deleted one; "" if it is unknown.
    # Whether it used more than its quotas when the server last counted its files.
    over_quota: bool = False


def read_events(
    watch: Watch, to_workspace: Callable[[pb.Workspace], ProjectWorkspace]
) -> Iterator[WorkspaceEvent]:
    """Yield the events of a watch without end; close it at the end.

    If the watch began with all existing workspaces and the server has forgotten its
    position, lists again, and yields only the differences.

    Raises:
        WorkspaceError: The watch failed. RESUME_TOKEN_EXPIRED if it began with a token.
    """
    known: dict[str, tuple[str, ...]] = {}
    # With a token, the earlier state is unknown, so deletions could not be found.
    complete = not watch.resume_token
    unseen: set[str] | None = None  # While listing again: not found so far.
    with closing(watch):
        while True:
            try:
                response = watch.read()
            except WorkspaceError as error:
                if error.details["reason"] != "RESUME_TOKEN_EXPIRED" or not complete:
                    raise
                unseen = set(known)
                continue
            if response is None:
                return
            project = response.workspace.project
            if response.change == pb.CHANGE_SYNCED and unseen is not None:
                for gone in sorted(unseen):
                    uid = known.pop(gone)[0]
                    yield WorkspaceEvent(
                        "deleted", gone, None, response.resume_token, uid
                    )
                unseen = None
            change = _CHANGES.get(response.change)
            if response.change == pb.CHANGE_DELETED:
                known.pop(project, None)
            elif response.change != pb.CHANGE_SYNCED:
                was, now = known.get(project), _state(response)
                known[project] = now
                if unseen is not None:
                    unseen.discard(project)
                    if was == now:
                        continue
                    if was is not None and was[0] == now[0]:
                        change = "updated"
            # A later server may report other changes.
            if change is None:
                continue
            # Without an etag, the record is deleted or cannot be read.
            readable = response.change != pb.CHANGE_DELETED and response.workspace.etag
            yield WorkspaceEvent(
                change,
                project,
                to_workspace(response.workspace) if readable else None,
                response.resume_token,
                response.workspace.uid,
                response.over_quota,
            )


def read_events_of(
    watch: Watch,
    project: str,
    uid: str,
    to_workspace: Callable[[pb.Workspace], ProjectWorkspace],
) -> Iterator[WorkspaceEvent]:
    """Yield the events of one workspace until it is deleted; close the watch then.

    Args:
        watch: A watch of `project` alone.
        uid: That of the workspace. Another one may get the same name later.

    Raises:
        WorkspaceError: As read_events().
    """
    # A watch that begins with existing workspaces does not report earlier deletions.
    found = bool(watch.resume_token)
    for event in read_events(watch, to_workspace):
        missing = event.change == "synced" and not found
        if missing or event.uid not in ("", uid):
            yield WorkspaceEvent("deleted", project, None, event.resume_token, uid)
            return
        found = True
        yield event
        if event.change == "deleted":
            return


def _state(response: pb.WatchWorkspacesResponse) -> tuple[str, ...]:
    """Return what identifies a state of a workspace, its lease included."""
    workspace, lease = response.workspace, response.workspace.lease
    return (
        workspace.uid,
        workspace.etag,
        lease.holder,
        str(lease.fence),
        str(response.over_quota),
    )
