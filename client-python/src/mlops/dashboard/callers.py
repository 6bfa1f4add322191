"""The live view and the permissions of each caller."""

from __future__ import annotations

import asyncio
import fnmatch
import re
import time
from typing import Any

from mlops._rpc import errors
from mlops._rpc.errors import WorkspaceError
from mlops.dashboard.link import Link, Metadata
from mlops.dashboard.live import Live
from mlops.workspace.v1 import workspace_service_pb2 as pb

_INFO_S = 5.0
_IDLE_S = 300.0
_SWEEP_S = 30.0
_MAX_CALLERS = 256
# Limit for all callers together; each row takes some kilobytes. The first caller may
# exceed it.
_MAX_ROWS = 400_000
_LEVELS = {"viewer": 0, "editor": 1, "admin": 2, "operator": 3}
# The built-in role that an action needs.
_NEEDED = {"create": 1, "edit": 1, "delete": 2, "undelete": 2, "release": 2}
ACTIONS = tuple(_NEEDED)


class Caller:
    """One identity at the server, and the projects that it sees."""

    def __init__(self, link: Link, metadata: Metadata, read_only: bool) -> None:
        self.live = Live(link, metadata)
        self._read_only = read_only
        self._info: pb.ServerInfo | None = None
        self._info_s = 0.0
        self._lock = asyncio.Lock()

    async def info(self) -> pb.ServerInfo | None:
        """Return the server's description of itself; None if it does not answer."""
        async with self._lock:
            if time.monotonic() > self._info_s + _INFO_S:
                # While the server is unavailable, its last answer still tells the
                # caller's permissions.
                try:
                    self._info = await self.live.call(pb.GetServerInfoRequest())
                except WorkspaceError as error:
                    if error.details.get("code") == "UNAUTHENTICATED":
                        self._info = None
                self._info_s = time.monotonic()
            return self._info

    async def may(self, action: str, project: str | None = None) -> bool:
        """Return whether an action may succeed.

        True for roles that the policy defines: only the server knows what they include.

        Args:
            project: None asks whether the action may succeed on any project.
        """
        info = await self.info()
        if self._read_only or info is None or "read-only" in info.features:
            return False
        return any(
            _LEVELS.get(grant.role, 9) >= _NEEDED[action]
            and (project is None or _covers(grant, project))
            for grant in info.caller.permissions
        )

    async def rights(self, project: str | None = None) -> dict[str, bool]:
        """Return for each action whether it may succeed."""
        return {action: await self.may(action, project) for action in ACTIONS}


async def _info(link: Link, metadata: Metadata) -> pb.ServerInfo:
    info: pb.ServerInfo = await link.call(pb.GetServerInfoRequest(), metadata)
    return info


def _covers(grant: pb.Permission, project: str) -> bool:
    return any(
        # Only * and ? are special in the server's patterns.
        re.match(fnmatch.translate(pattern.replace("[", "[[]")), project)
        for pattern in grant.projects
    )


class Callers:
    """The callers that have been seen lately. For one event loop."""

    def __init__(self, link: Link, read_only: bool) -> None:
        self.link = link
        self._read_only = read_only
        self._callers: dict[Metadata, Caller] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._ended = False

    def of(self, metadata: Metadata) -> Caller:
        """Return the caller that calls with this metadata, and start its watch.

        Raises:
            WorkspaceError: There are too many callers, or they see too many projects,
                or the dashboard is shutting down.
        """
        caller = self._callers.get(metadata)
        if caller is None:
            if self._ended:
                raise errors.unavailable("The dashboard is about to end")
            rows = sum(len(one.live.rows) for one in self._callers.values())
            if len(self._callers) >= _MAX_CALLERS or rows >= _MAX_ROWS:
                raise errors.unavailable("Too many users; try again in a few minutes")
            caller = Caller(self.link, metadata, self._read_only)
            self._callers[metadata] = caller
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        caller.live.start()
        return caller

    async def is_user(self, metadata: Metadata) -> bool:
        """Return whether the server attributes calls with a token to its holder.

        A server without tokens ignores them, and would attribute every call to the
        dashboard itself.
        """
        known = self._callers.get(metadata)
        try:
            info = await (known.info() if known else _info(self.link, metadata))
        except WorkspaceError:
            return False
        return info is not None and info.caller.kind in ("token", "jwt")

    def all(self) -> list[Caller]:
        """Return the callers."""
        return list(self._callers.values())

    async def close(self) -> None:
        """End all watches and the connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.end_streams()
        await self.link.close()

    async def end_streams(self) -> None:
        """End all watches, and with them the streams to browsers, for good."""
        self._ended = True
        await asyncio.gather(*(caller.live.stop() for caller in self.all()))

    async def _sweep(self) -> None:
        """Forget callers whose pages were closed long ago."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now, idle = time.monotonic(), []
            for metadata, caller in self._callers.items():
                live = caller.live
                if metadata and not live.pages and now > live.used_s + _IDLE_S:
                    idle.append(metadata)
            for metadata in idle:
                await self._callers.pop(metadata).live.stop()


async def first_rows(live: Live, wait_s: float) -> None:
    """Wait briefly until all projects are known; pages show those known so far."""
    try:
        async with asyncio.timeout(wait_s):
            await live.loaded.wait()
    except TimeoutError:
        return


def error_page_status(error: WorkspaceError) -> int:
    """Return the HTTP status of an error."""
    by_code: dict[Any, int] = {
        "INVALID_ARGUMENT": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "ABORTED": 409,
        "FAILED_PRECONDITION": 409,
        "OUT_OF_RANGE": 416,
        "RESOURCE_EXHAUSTED": 507,
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
    }
    return by_code.get(error.details.get("code"), 500)
