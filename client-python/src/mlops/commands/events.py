"""The command events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.context import manager, options
from mlops.commands.errors import usage
from mlops.commands.output import Column
from mlops.commands.values import time_of

if TYPE_CHECKING:
    from mlops.workspace import ProjectWorkspace, WorkspaceEvent

_Event = dict[str, Any]
_MAX_CURSOR_BYTES = 1 << 16
# The clocks of two machines may differ by this much.
_CLOCKS_DIFFER = timedelta(minutes=2)

_COLUMNS = (
    Column("TIME", lambda row: _local(row["time"])),
    Column("CHANGE", lambda row: row["change"]),
    Column("NAME", lambda row: row["project_name"]),
    Column("UID", lambda row: row["uid"], wide=True),
    Column("DETAILS", lambda row: row["details"]),
)


def events(
    projects: Annotated[
        list[str] | None, typer.Argument(metavar="[PROJECT]...", help="Default: all")
    ] = None,
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="today, a span such as 24h or 7d, or a date"),
    ] = "24h",
    cursor: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Instead: since the last call with this file"
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Only the last N; 0: all")
    ] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then print changes as they happen")
    ] = False,
) -> None:
    """Print past changes of projects, the latest last, and exit.

    mlops watch reports future changes; events reports past ones. It reads them from the
    projects and the trash, so it shows the last change of each kind for each project:
    created, updated, leased, deleted.

    With --cursor, it asks the server for every project that changed since the last call
    with the same file, even if the server or this machine restarted. The first call
    uses --since. The file is replaced after everything is printed.

    Examples:
      mlops events
      mlops events fraud --since today
      mlops events --since 7d --limit 20 -o json
      mlops events --cursor seen.txt
    """
    if cursor and follow:
        raise usage("--cursor and --follow exclude each other")
    token = manager().resume_token() if cursor or follow else ""
    found = _since_cursor(Path(cursor), projects) if cursor else None
    if found is None:
        found = _recorded(projects, _start(since, cursor))
    found = found[-limit:] if limit else found
    if follow:
        _follow(found, projects, token)
        return
    output.rows(found, _COLUMNS, "project_name", "Nothing happened.")
    if cursor:
        _replace(Path(cursor), token)


def _start(since: str, cursor: str) -> datetime:
    """Return the time from which to report events."""
    if cursor:
        # The server no longer knows the position, so use the file's time instead.
        with suppress(OSError):
            modified = datetime.fromtimestamp(os.stat(cursor).st_mtime, UTC)
            return modified - _CLOCKS_DIFFER
    text = time_of(since)
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        raise usage(f"--since: {text} is not a date and time of ISO 8601") from None
    return start if start.tzinfo else start.replace(tzinfo=UTC)


# --- Events from the records ---


def _recorded(projects: list[str] | None, start: datetime) -> list[_Event]:
    """Return the events since `start` that the records of projects show."""
    found = manager().list_workspaces(show_deleted=True)
    if projects:
        found = [one for one in found if one.project_name in projects]
    happened = (event for workspace in found for event in _history(workspace))
    recent = (event for event in happened if event["at"] >= start)
    return [
        {key: value for key, value in event.items() if key != "at"}
        for event in sorted(recent, key=lambda event: event["at"])
    ]


def _history(workspace: ProjectWorkspace) -> Iterator[_Event]:
    """Yield the last event of each kind."""
    metadata = output.pairs(workspace.metadata)
    yield _event(workspace, "created", workspace.created_at, metadata)
    if workspace.updated_at > workspace.created_at:
        yield _event(workspace, "updated", workspace.updated_at, metadata)
    if (lease := workspace.held_by) is not None:
        yield _event(workspace, "leased", lease.acquired_at, f"by {lease.holder}")
    if (deleted_at := workspace.deleted_at) is not None:
        yield _event(workspace, "deleted", deleted_at, "is in the trash")


def _event(
    workspace: ProjectWorkspace, change: str, at: datetime, details: str
) -> _Event:
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return {
        "at": at,
        "time": at.isoformat(),
        "change": change,
        "project_name": workspace.project_name,
        "uid": workspace.uid,
        "details": details,
    }


# --- Events from the server ---


def _since_cursor(cursor: Path, projects: list[str] | None) -> list[_Event] | None:
    """Return the events since the file's position; None if it is unknown."""
    from mlops.workspace import WorkspaceError

    try:
        with cursor.open("rb") as file:
            token = file.read(_MAX_CURSOR_BYTES).decode("utf-8").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise usage(f"{cursor} is not a file of --cursor") from None
    found: list[_Event] = []
    try:
        for event in manager().watch(projects, resume_token=token, synced=True):
            # The server has now reported everything up to the present.
            if event.change == "synced":
                return found
            found.append(_seen(event))
    except WorkspaceError as error:
        reason = error.details["reason"]
        if reason == "TOKEN_INVALID":
            raise usage(f"{cursor} is not a file of --cursor") from None
        if reason != "RESUME_TOKEN_EXPIRED":
            raise
        # The caller then reports what the records show, which is less.
        output.message(
            f"mlops: the server does not know what changed since {cursor} was written, "
            "so this is the last change of each kind of each project"
        )
    return None


def _seen(event: WorkspaceEvent) -> _Event:
    workspace = event.workspace
    time = workspace.updated_at.isoformat() if workspace else None
    return {
        "time": time,
        "change": event.change,
        "project_name": event.project,
        "uid": event.uid,
        "details": output.pairs(workspace.metadata) if workspace else "",
    }


def _replace(cursor: Path, token: str) -> None:
    """Write a position atomically."""
    draft = cursor.with_name(f".{cursor.name[:200]}.{os.getpid()}~")
    try:
        draft.write_text(f"{token}\n", encoding="utf-8")
        os.replace(draft, cursor)
    finally:
        draft.unlink(missing_ok=True)


def _follow(found: list[_Event], projects: list[str] | None, token: str) -> None:
    widths: list[int] = []
    _print(found, widths)
    # Changes between the position and the list are in both.
    known = {(event["project_name"], event["uid"], event["time"]) for event in found}
    for event in manager().watch(projects, resume_token=token, synced=True):
        if event.change == "synced":
            known.clear()
            continue
        one = _seen(event)
        if (one["project_name"], one["uid"], one["time"]) in known:
            continue
        now = datetime.now(UTC).isoformat()
        _print([{**one, "time": now}], widths)


def _print(found: list[_Event], widths: list[int]) -> None:
    if options.output in ("json", "yaml"):
        for event in found:
            output.line(event)
    elif options.output == "name":
        output.rows(found, _COLUMNS, "project_name")
    elif found:
        lines = output.table(found, _COLUMNS, not widths, widths)
        output.write("".join(f"{line}\n" for line in lines))


def _local(time: str | None) -> str:
    """Return a time of ISO 8601 in the local zone, to the second."""
    if time is None:
        return ""
    return datetime.fromisoformat(time).astimezone().isoformat(" ", "seconds")


COMMANDS = {"events": events}
