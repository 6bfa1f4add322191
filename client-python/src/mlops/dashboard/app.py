"""Assembles the ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import (
    actions,
    compare,
    files,
    login,
    operations,
    project,
    projects,
    stream,
)
from mlops.dashboard.callers import error_page_status
from mlops.dashboard.context import HERE, Dashboard, of
from mlops.dashboard.security import FormError, Guard
from mlops.dashboard.settings import Settings

_ROUTERS = (projects, project, files, compare, operations, actions, stream, login)


def create_app(settings: Settings) -> FastAPI:
    """Return the dashboard's application."""
    dashboard = Dashboard(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # gRPC's objects must be created in the event loop that serves.
        dashboard.open()
        yield
        await dashboard.close()

    app = FastAPI(
        title="mlops dashboard",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.state.dashboard = dashboard
    for module in _ROUTERS:
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), "static")
    app.add_exception_handler(WorkspaceError, _workspace_error)
    app.add_exception_handler(FormError, _form_error)
    app.add_exception_handler(HTTPException, _http_error)
    # Guard checks every request, including those for static files.
    app.add_middleware(Guard, sessions=dashboard.sessions)
    return app


async def _workspace_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WorkspaceError)
    status = error_page_status(error)
    return _error(request, status, str(error), str(error.details.get("reason", "")))


async def _form_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FormError)
    return _error(request, error.status, str(error), "")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(request, error.status_code, str(error.detail), "")


def _error(request: Request, status: int, message: str, reason: str) -> Response:
    if getattr(request.state, "session", None) is None:
        return PlainTextResponse(message, status)
    return of(request).page(
        request, "error.html", status, status=status, message=message, reason=reason
    )
