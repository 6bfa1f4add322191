"""The state that all requests share: settings, sessions, callers and templates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import charts, shown
from mlops.dashboard.callers import Caller, Callers
from mlops.dashboard.link import Link
from mlops.dashboard.live import Live
from mlops.dashboard.security import Sessions
from mlops.dashboard.settings import Settings
from mlops.dashboard.toolkits import Toolkits
from mlops.workspace.project import DIRECTORIES

HERE = Path(__file__).parent


class Dashboard:
    """The state that all requests share."""

    callers: Callers
    toolkits: Toolkits

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sessions = Sessions(settings)
        # One examination at a time: each reads the whole base.
        self.doctor = asyncio.Lock()
        # Each preview holds up to 32 MiB of a file.
        self.previews = asyncio.Semaphore(4)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._templates = _environment()

    def open(self) -> None:
        """Prepare to call the server. Call it in the loop that serves."""
        self.loop = asyncio.get_running_loop()
        link = Link(self.settings.server)
        self.callers = Callers(link, self.settings.read_only)
        self.toolkits = Toolkits(link)

    async def close(self) -> None:
        """End all calls."""
        self.toolkits.close()
        await self.callers.close()

    def caller(self, request: Request) -> Caller:
        """Return the caller that a request belongs to."""
        return self.callers.of(request.state.session.metadata)

    def render(self, name: str, **context: Any) -> str:
        """Return a part of a page, from its template."""
        return self._templates.get_template(name).render(context)

    def page(
        self, request: Request, name: str, status_code: int = 200, **context: Any
    ) -> Response:
        """Return a response with a page, or a part of one, from its template."""
        session = getattr(request.state, "session", None)
        common = {
            "csrf": self.sessions.csrf(session) if session else "",
            "path": request.url.path,
            "settings": self.settings,
            "partial": "hx-request" in request.headers,
            "live": self._live(request) if session else None,
        }
        return HTMLResponse(self.render(name, **common, **context), status_code)

    def _live(self, request: Request) -> Live | None:
        """Return what the caller sees; None if there are too many callers."""
        try:
            return self.caller(request).live
        except WorkspaceError:
            # The page may be the one that reports this error.
            return None


def of(request: Request) -> Dashboard:
    """Return the dashboard of a request."""
    dashboard: Dashboard = request.app.state.dashboard
    return dashboard


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("size", "count", "number", "span", "age", "moment", "clean"):
        environment.filters[name] = getattr(shown, name)
    environment.globals["DIRECTORIES"] = DIRECTORIES
    environment.globals["charts"] = charts
    return environment
