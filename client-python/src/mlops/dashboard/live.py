"""The projects as they are now: one watch and one count of files for all pages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard.link import Link, Metadata, call_all, reason_of
from mlops.dashboard.rows import Row, Usage, sorted_names
from mlops.workspace.v1 import workspace_service_pb2 as pb

_log = logging.getLogger(__name__)
# An idle server sends a response every 10 s.
_SILENCE_S = 60.0
_PAUSE_S = 0.2
_MAX_PAUSE_S = 2.0
# Changes within this time reach the pages together.
_GATHER_S = 0.1
# Limit of the names that wait for a page that does not read. Beyond it, the page
# reloads.
_MAX_WAITING_BYTES = 64 << 10
_MAX_EVENTS = 500
# Counting the files of all projects takes at most this share of the time.
_COUNT_SHARE = 0.05
_MIN_COUNT_S, _MAX_COUNT_S = 5.0, 300.0
# Number of cached orders of the projects; each is a list of names.
_MAX_ORDERS = 16
_LOAD_PAGE = 1000

_WORDS = {
    pb.CHANGE_CREATED: "created",
    pb.CHANGE_UPDATED: "updated",
    pb.CHANGE_DELETED: "deleted",
}


@dataclass(frozen=True, slots=True)
class Event:
    """A change that the watch reported."""

    time_s: float
    change: str
    project: str


class Subscription:
    """The changes that one page has not been sent yet, in bounded space."""

    def __init__(self) -> None:
        self._changed: dict[str, bool] = {}
        self._bytes = 0
        self._everything = False
        self._state = ""
        self._wake = asyncio.Event()

    def add(self, project: str, structure: bool) -> None:
        """Record that a project changed.

        Args:
            structure: Whether it appeared, disappeared, or may match other filters.
        """
        if project not in self._changed:
            self._bytes += len(project.encode(errors="replace")) + 16
        self._changed[project] = structure or self._changed.get(project, False)
        if self._bytes > _MAX_WAITING_BYTES:
            self.add_everything()
        self._wake.set()

    def add_everything(self) -> None:
        """Record that anything may have changed."""
        self._changed, self._bytes, self._everything = {}, 0, True
        self._wake.set()

    def add_state(self, state: str) -> None:
        """Record that the connection to the server changed."""
        self._state = state
        self._wake.set()

    async def take(self, timeout_s: float) -> tuple[dict[str, bool], bool, str]:
        """Wait for changes. Return the projects, whether all changed, and the state."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        self._wake.clear()
        result = self._changed, self._everything, self._state
        self._changed, self._bytes = {}, 0
        self._everything, self._state = False, ""
        return result


class Live:
    """The projects that one caller may see, kept current while pages are open."""

    def __init__(self, link: Link, metadata: Metadata) -> None:
        self.rows: dict[str, Row] = {}
        self.state, self.problem = "connecting", ""
        # Increases with every change of a row.
        self.version = 0
        # Increases when projects appear, disappear or change their records.
        self.record_version = 0
        self.events: deque[Event] = deque(maxlen=_MAX_EVENTS)
        self.loaded = asyncio.Event()
        self.counted_s = 0.0
        self.used_s = time.monotonic()
        self._link, self._call_metadata = link, metadata
        self._token = ""
        self._pages: set[Subscription] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._due: dict[str, bool] = {}
        self._all_due = False
        self._flusher: asyncio.TimerHandle | None = None
        self._orders: dict[Any, tuple[int, list[str]]] = {}
        self._matches: dict[str, tuple[int, set[str]]] = {}
        self._uncounted: set[str] = set()
        self._count_now = asyncio.Event()

    @property
    def metadata(self) -> Metadata:
        """The metadata that authorizes calls."""
        return self._call_metadata or self._link.server.credentials.metadata()

    @property
    def pages(self) -> int:
        """The number of open pages."""
        return len(self._pages)

    def start(self) -> None:
        """Begin to watch and count, unless that has begun or ended."""
        self.used_s = time.monotonic()
        if not self._tasks and self.state != "closed":
            self._tasks = [
                asyncio.create_task(self._watch(), name="dashboard-watch"),
                asyncio.create_task(self._count(), name="dashboard-count"),
            ]

    async def stop(self) -> None:
        """End the watch, and the streams of all pages, for good."""
        # Set the state first, so that a page that opens meanwhile restarts nothing.
        self._set_state("closed")
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def call(self, request: Any) -> Any:
        """Make a call as this caller."""
        return await self._link.call(request, self.metadata)

    # --- Pages ---

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Subscribe a page to changes, for the length of the block."""
        page = Subscription()
        self._pages.add(page)
        self._count_now.set()
        try:
            page.add_state(self.state)
            yield page
        finally:
            self._pages.discard(page)
            self.used_s = time.monotonic()

    async def select(self, filter_: str, key: str, descending: bool) -> list[str]:
        """Return the names of the projects that match a filter, in an order.

        Raises:
            WorkspaceError: FILTER_INVALID, among others.
        """
        wanted = (filter_, key, descending)
        version, names = self._orders.get(wanted, (-1, []))
        if version == self.version:
            return names
        version = self.version
        if filter_:
            matching = await self._matching(filter_)
            rows = [self.rows[name] for name in matching if name in self.rows]
        else:
            rows = list(self.rows.values())
        names = sorted_names(rows, key, descending)
        self._orders[wanted] = version, names
        if len(self._orders) > _MAX_ORDERS:
            del self._orders[next(iter(self._orders))]
        return names

    async def _matching(self, filter_: str) -> set[str]:
        version, names = self._matches.get(filter_, (-1, set()))
        if version == self.record_version:
            return names
        version = self.record_version
        request = pb.ListWorkspacesRequest(filter=filter_, page_size=_LOAD_PAGE)
        pages = await call_all(self._link, request, self.metadata)
        names = {one.project for page in pages for one in page.workspaces}
        self._matches[filter_] = version, names
        if len(self._matches) > _MAX_ORDERS:
            del self._matches[next(iter(self._matches))]
        return names

    # --- Changes ---

    def _set_state(self, state: str, problem: str = "") -> None:
        if self.state == "closed" or (state, problem) == (self.state, self.problem):
            return
        self.state, self.problem = state, problem
        for page in self._pages:
            page.add_state(state)

    def _note(self, project: str, structure: bool) -> None:
        """Schedule a notification of the pages that a project changed."""
        self.version += 1
        if structure:
            self.record_version += 1
        self._due[project] = structure or self._due.get(project, False)
        self._flush_soon()

    def _note_all(self) -> None:
        self.version += 1
        self.record_version += 1
        self._all_due = True
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flusher is None:
            loop = asyncio.get_running_loop()
            self._flusher = loop.call_later(_GATHER_S, self._flush)

    def _flush(self) -> None:
        due, everything = self._due, self._all_due
        self._due, self._all_due, self._flusher = {}, False, None
        for page in self._pages:
            if everything:
                page.add_everything()
            else:
                for project, structure in due.items():
                    page.add(project, structure)

    # --- The watch ---

    async def _watch(self) -> None:
        """Keep the rows current until this task is cancelled."""
        pause_s = _PAUSE_S
        while True:
            try:
                if not self._token:
                    await self._load()
                async with aclosing(self._responses()) as responses:
                    async for response in responses:
                        pause_s = _PAUSE_S
                        self._set_state("live")
                        self._apply(response)
            except WorkspaceError as error:
                if reason_of(error) == "RESUME_TOKEN_EXPIRED":
                    self._token = ""
                    continue
                if error.details.get("code") in (
                    "UNAUTHENTICATED",
                    "PERMISSION_DENIED",
                ):
                    # The caller may no longer see these projects.
                    self.rows, self._token = {}, ""
                    self.events.clear()
                    self._note_all()
                self._set_state("down", _sentence(error))
            except Exception as error:
                # A bug must not end the watch; the page reports it.
                _log.exception("the watch failed")
                self._token = ""
                self._set_state("down", f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _responses(self) -> AsyncGenerator[Any, None]:
        request = pb.WatchWorkspacesRequest(resume_token=self._token)
        return self._link.stream(request, self.metadata, _SILENCE_S)

    async def _load(self) -> None:
        """Read all projects, and the position where the watch continues."""
        rows: dict[str, Row] = {}
        request = pb.ListWorkspacesRequest(page_size=_LOAD_PAGE)
        token = ""
        while True:
            page = await self.call(request)
            # A watch from the first page on misses no change of a later page.
            token = token or page.resume_token
            for project in page.unreachable:
                rows[project] = Row(project, readable=False)
            for workspace in page.workspaces:
                rows[workspace.project] = Row.of(workspace)
            # Show the first pages while the others are being loaded.
            if not self.loaded.is_set():
                self.rows = rows
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
            await asyncio.sleep(0)
        # Keep known sizes until the files are counted again.
        for project, row in rows.items():
            if (known := self.rows.get(project)) is not None:
                row.usage = known.usage
        self.rows, self._token = rows, token
        self.loaded.set()
        self._set_state("live")
        self._note_all()
        self._count_now.set()

    def _apply(self, response: pb.WatchWorkspacesResponse) -> None:
        self._token = response.resume_token
        project = response.workspace.project
        if response.change == pb.CHANGE_SYNCED or not project:
            return
        # A later server may report changes of other kinds.
        word = _WORDS.get(response.change, "changed")
        self.events.append(Event(time.time(), word, project))
        if response.change == pb.CHANGE_DELETED:
            self.rows.pop(project, None)
        else:
            row, known = Row.of(response.workspace), self.rows.get(project)
            if known is not None and known.uid == row.uid:
                row.usage = known.usage
            else:
                self._uncounted.add(project)
                self._count_now.set()
            self.rows[project] = row
        self._note(project, structure=True)

    # --- Counting ---

    async def _count(self) -> None:
        """Count the files while pages are open, until this task is cancelled."""
        next_s = 0.0
        while True:
            self._count_now.clear()
            begun_s = time.monotonic()
            if self.loaded.is_set() and self._pages:
                try:
                    if begun_s >= next_s:
                        await self._count_all()
                        took_s = time.monotonic() - begun_s
                        wait_s = max(_MIN_COUNT_S, took_s / _COUNT_SHARE)
                        next_s = begun_s + min(wait_s, _MAX_COUNT_S)
                    else:
                        await self._count_new()
                except Exception as error:
                    # A bug must not end the counting either.
                    if not isinstance(error, WorkspaceError):
                        _log.exception("counting the files failed")
                    next_s = begun_s + _MIN_COUNT_S
            wait_s = max(next_s - time.monotonic(), _GATHER_S)
            with suppress(TimeoutError):
                # Do not use wait_for(), in which Python 3.11 loses a cancellation that
                # comes together with the event.
                async with asyncio.timeout(wait_s):
                    await self._count_now.wait()
            await asyncio.sleep(_GATHER_S)

    async def _count_all(self) -> None:
        request = pb.StreamWorkspaceStatusesRequest(max_staleness=Duration(seconds=2))
        self._uncounted.clear()
        stream = self._link.stream(request, self.metadata, _SILENCE_S)
        first = self.counted_s == 0
        async with aclosing(stream) as responses:
            async for response in responses:
                self._take(response.statuses, quiet=first)
        self.counted_s = time.time()
        if first:
            self._note_all()

    async def _count_new(self) -> None:
        projects, self._uncounted = list(self._uncounted)[:20], set()
        for project in projects:
            with suppress(WorkspaceError):
                request = pb.GetWorkspaceStatusRequest(project=project)
                self._take([await self.call(request)])

    async def usage_of(self, project: str) -> pb.WorkspaceStatus:
        """Count the files of one project now."""
        request = pb.GetWorkspaceStatusRequest(
            project=project, max_staleness=Duration(seconds=1)
        )
        status: pb.WorkspaceStatus = await self.call(request)
        self._take([status])
        return status

    def _take(
        self, statuses: Iterable[pb.WorkspaceStatus], quiet: bool = False
    ) -> None:
        for status in statuses:
            row = self.rows.get(status.workspace.project)
            if row is None:
                continue
            usage = Usage.of(status)
            if usage != row.usage:
                row.usage = usage
                if quiet:
                    self.version += 1
                else:
                    self._note(row.project, structure=False)


def _sentence(error: WorkspaceError) -> str:
    if error.details.get("code") == "UNIMPLEMENTED":
        return "The server is older than this dashboard: it reports no changes."
    return str(error)
