"""The login page: by the key of the link, or by a token of the server."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mlops.dashboard import context
from mlops.dashboard.security import Guard, bearer, read_form

router = APIRouter()
_MAX_LOGIN_BYTES = 16 << 10


@router.get("/login")
async def show(request: Request, next: str = "/") -> Response:
    """Show the form."""
    return _form(request, next)


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Check the key or the token, and begin a session.

    There is no session yet, and so no CSRF token: Guard checks the origin.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_LOGIN_BYTES:
            return _form(request, "/", "The form is too large", 413)
    form = dict(parse_qsl(body.decode(errors="replace")))
    target, secret = form.get("next", "/"), form.get("secret", "").strip()
    problem, token = await _check(request, secret)
    if problem:
        return _form(request, target, problem, 401)
    # Never redirect to another site.
    here = target.startswith("/") and not target.startswith(("//", "/\\"))
    response = RedirectResponse(target if here else "/", 303)
    Guard(request.app, context.of(request).sessions).log_in(response, token)
    return response


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session."""
    dashboard = context.of(request)
    await read_form(request, dashboard.sessions)
    dashboard.sessions.end(request.state.session)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(dashboard.sessions.cookie)
    return response


async def _check(request: Request, secret: str) -> tuple[str, str]:
    """Return the problem with a key or token, and the token to use."""
    dashboard = context.of(request)
    if dashboard.settings.login != "token":
        wrong = not dashboard.sessions.is_key(secret)
        return ("This is not the key of the link" if wrong else "", "")
    if not secret.isascii() or not secret.isprintable() or not secret:
        return "This is not a token", ""
    metadata = bearer(secret)
    if not await dashboard.callers.is_user(metadata):
        return "The server does not accept this token", ""
    return "", secret


def _form(
    request: Request, target: str, problem: str = "", status: int = 200
) -> Response:
    return context.of(request).page(
        request, "login.html", status, next=target, problem=problem
    )
