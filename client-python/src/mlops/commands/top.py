"""The command top."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mlops.commands import live, output
from mlops.commands.context import connection, manager
from mlops.commands.errors import usage
from mlops.commands.live import Count, Interval
from mlops.commands.output import Column, Row
from mlops.commands.parameters import Filter

_SORTS = ("activity", "size", "growth", "changes")

_COLUMNS = (
    Column("NAME", lambda row: row["project_name"]),
    Column("SIZE", lambda row: output.size(row["size_bytes"]), right=True),
    Column("GROWTH", lambda row: output.signed_size(row["growth_bytes"]), right=True),
    Column("PER S", lambda row: output.signed_size(row["bytes_per_s"]), right=True),
    Column("CHANGES", lambda row: row["changes"] or "", right=True),
    Column("FILES", lambda row: row["file_count"], right=True),
)


def top(
    filter: Filter = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="activity, size, growth or changes")
    ] = "activity",
    interval: Interval = 2.0,
    count: Count = 0,
) -> None:
    """Show live which projects grow and change, until q or Ctrl-C.

    GROWTH is the increase in bytes since the command began, PER S the rate in the last
    interval. CHANGES counts changes of settings, metadata and leases since the
    beginning. The order is by activity: by growth, then by changes, then by size. If
    counting is slow, the interval grows. In a pipe, prints all projects and then those
    that changed, with -o json as one object per line.

    Examples:
      mlops top --count 1
      mlops top metadata.stage = production --sort size --count 1
      mlops top --interval 0.5 --count 2 -o json
    """
    if sort not in _SORTS:
        raise usage(f"--sort must be one of {', '.join(_SORTS)}, not {sort}")
    readings = _Readings(" ".join(filter or []), sort)
    live.show(
        readings.read, _COLUMNS, "project_name", readings.heading, interval, count
    )


def _usages(filter: str) -> list[tuple[str, int, int]]:
    """Return the names, bytes and numbers of files of projects.

    Bypasses the manager, which would take ten times as long to describe them.
    """
    from mlops.workspace.v1 import workspace_service_pb2 as pb

    request = pb.StreamWorkspaceStatusesRequest(filter=filter)
    return [
        (status.workspace.project, status.size_bytes, status.file_count)
        for message in connection().collect(request)
        for status in message.statuses
    ]


class _Readings:
    """Compares each status of the projects with the first and the previous one."""

    def __init__(self, filter: str, sort: str) -> None:
        self._filter, self._sort = filter, sort
        # None before the first reading.
        self._first: dict[str, int] | None = None
        self._last: dict[str, int] = {}
        self._read_at = 0.0
        self._changes: Counter[str] = Counter()
        self._watching = False
        self._problem = ""

    def read(self) -> list[Row]:
        found = _usages(self._filter)
        if not self._watching:
            # Watch only after the first call, which starts the server if none runs.
            self._watching = True
            threading.Thread(target=self._watch, daemon=True).start()
        now = time.monotonic()
        took, self._read_at = now - self._read_at, now
        sizes = {name: size for name, size, _ in found}
        if self._first is None:
            self._first = self._last = sizes
        rows = [self._row(*usage, self._first, took) for usage in found]
        self._last = sizes
        return sorted(rows, key=self._key)

    def _row(
        self, name: str, size: int, files: int, first: dict[str, int], took: float
    ) -> Row:
        # A project that appeared later has grown from 0 bytes.
        return {
            "project_name": name,
            "size_bytes": size,
            "file_count": files,
            "growth_bytes": size - first.get(name, 0),
            "bytes_per_s": round((size - self._last.get(name, 0)) / took),
            "changes": self._changes[name],
        }

    def _key(self, row: Row) -> tuple[Any, ...]:
        growth, changes = abs(row["growth_bytes"]), row["changes"]
        size, name = row["size_bytes"], row["project_name"]
        orders = {
            "activity": (-growth, -changes, -size, name),
            "size": (-size, name),
            "growth": (-growth, name),
            "changes": (-changes, name),
        }
        return orders[self._sort]

    def _watch(self) -> None:
        """Count changes, in its own thread, which ends with the process."""
        from mlops.workspace import WorkspaceError

        try:
            token = manager().resume_token()
            for event in manager().watch(resume_token=token):
                self._changes[event.project] += 1
        except WorkspaceError as error:
            # Show the problem in the heading: a message would disturb the screen.
            self._problem = str(error)

    def heading(self, rows: Sequence[Row]) -> str:
        """Return the line above the table."""
        rate = sum(row["bytes_per_s"] for row in rows)
        changes = f"{sum(row['changes'] for row in rows)} changes"
        if self._problem:
            changes = f"changes are not counted: {self._problem}"
        return "  ".join(
            (
                time.strftime("%H:%M:%S"),
                f"{len(rows)} project{'s' * (len(rows) != 1)}",
                output.size(sum(row["size_bytes"] for row in rows)),
                f"{output.signed_size(rate) or '+0 B'}/s",
                changes,
            )
        )


COMMANDS = {"top": top}
