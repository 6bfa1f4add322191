"""Checks of every request and response: host, login, CSRF tokens, headers.

This module defends against another site that makes a browser send requests here (CSRF
tokens, SameSite cookies), a name that resolves to this machine (the host must be an
address or a known name), another user of this machine (the key in the link), and
hostile names and metadata (no inline scripts and styles).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from mlops.dashboard.link import Metadata
from mlops.dashboard.settings import Settings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Evidently's reports draw themselves with inline scripts. These run in a separate
# origin, and can reach neither this dashboard nor the network.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' "
    "'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# Everything else that comes from a workspace.
FILE_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    # Without a referrer, browsers would send forms with the origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_MAX_BODY_BYTES = 512 << 10
_MAX_SESSIONS = 10_000
_SESSION_S = 12 * 3600.0


@dataclass(frozen=True)
class Session:
    """The session of one browser."""

    id: str
    # Authorizes its calls; empty if the dashboard uses its own credentials.
    metadata: Metadata = ()


class Sessions:
    """The sessions of browsers. A restart of the dashboard ends all of them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._key = settings.key.encode()
        # Browsers send a host's cookies to all its ports, so name the port.
        self.cookie = f"mlops_dashboard_{settings.port}"
        self._tokens: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def find(self, headers: Headers, cookies: dict[str, str]) -> Session | None:
        """Return the session of a request; None if it must log in."""
        id_ = self._checked(cookies.get(self.cookie, ""))
        if self.settings.login != "token":
            return Session(id_) if id_ else None
        # A login proxy may pass on the user's token.
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return Session(id_, bearer(token)) if id_ else None
        began_s, token = self._tokens.get(id_, (0.0, ""))
        if not token or time.monotonic() > began_s + _SESSION_S:
            self._tokens.pop(id_, None)
            return None
        return Session(id_, bearer(token))

    def create(self, token: str = "") -> tuple[Session, str]:
        """Return a new session, and the value of its cookie."""
        id_ = secrets.token_urlsafe(18)
        if token:
            self._tokens[id_] = time.monotonic(), token
            if len(self._tokens) > _MAX_SESSIONS:
                self._tokens.popitem(last=False)
        metadata = bearer(token) if token else ()
        return Session(id_, metadata), f"{id_}.{self._sign('session', id_)}"

    def end(self, session: Session) -> None:
        """Forget the token of a session."""
        self._tokens.pop(session.id, None)

    def needs_login(self, headers: Headers) -> bool:
        """Return whether a request without a session must log in first."""
        login = self.settings.login
        passed_on = headers.get("authorization", "").lower().startswith("bearer ")
        return login == "link" or (login == "token" and not passed_on)

    def is_key(self, key: str) -> bool:
        """Return whether this is the key of the link."""
        return hmac.compare_digest(key.encode(), self._key)

    def csrf(self, session: Session) -> str:
        """Return the token that forms of this session carry."""
        return self._sign("csrf", session.id)

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    def _checked(self, cookie: str) -> str:
        id_, _, signature = cookie.partition(".")
        good = self._sign("session", id_)
        return id_ if id_ and hmac.compare_digest(signature, good) else ""


def bearer(token: str) -> Metadata:
    """Return the metadata of calls with a token."""
    return (("authorization", f"Bearer {token}"),)


class Guard:
    """ASGI middleware that checks each request and adds headers to each response."""

    def __init__(self, app: Any, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        secure = _WithHeaders(send)
        response = self._refusal(request)
        if response is None:
            response = self._login(request, secure)
        if response is None and not await self._is_user(request):
            scope["state"]["session"] = None
            if not _is_open(request):
                response = self._to_login(request)
        await (response or self._app)(scope, receive, secure)

    async def _is_user(self, request: Request) -> bool:
        """Return whether the server knows the user of a token; True without one."""
        session = request.scope["state"]["session"]
        if session is None or self._sessions.settings.login != "token":
            return True
        callers = request.app.state.dashboard.callers
        return bool(session.metadata) and await callers.is_user(session.metadata)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not is_known_host(host, self._sessions.settings):
            return PlainTextResponse(
                "This host name is unknown to the dashboard: "
                "give it as --allow-host NAME",
                400,
            )
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        safe = request.method in ("GET", "HEAD")
        if not safe and (
            site not in ("same-origin", "none")
            or (origin is not None and urlsplit(origin).netloc != host)
        ):
            return PlainTextResponse("Requests of other sites are refused", 403)
        return None

    def _login(self, request: Request, send: _WithHeaders) -> Response | None:
        """Find the session. Return a response if there is none."""
        sessions, path = self._sessions, request.url.path
        # Remove the key from the address bar and the history immediately.
        key = parse_qs(request.url.query).get("key", [""])[0]
        if key and sessions.settings.login == "link" and sessions.is_key(key):
            response = RedirectResponse(path, 303)
            self._set_cookie(response.headers, sessions.create()[1])
            return response
        session = sessions.find(request.headers, request.cookies)
        if session is None and sessions.needs_login(request.headers):
            if not _is_open(request):
                return self._to_login(request)
        elif session is None:
            session, cookie = sessions.create()
            send.cookie = self._cookie(cookie)
            # Only now is it known that the header's token belongs to a session.
            if request.headers.get("authorization") and sessions.settings.login == (
                "token"
            ):
                token = request.headers["authorization"].partition(" ")[2]
                session = Session(session.id, bearer(token))
        request.scope.setdefault("state", {})["session"] = session
        return None

    def _to_login(self, request: Request) -> Response:
        if request.method != "GET" or "hx-request" in request.headers:
            return PlainTextResponse("Log in again", 401, {"hx-redirect": "/login"})
        target = request.url.path + (f"?{request.url.query}" * bool(request.url.query))
        return RedirectResponse(f"/login?next={quote(target)}", 303)

    def _cookie(self, value: str) -> str:
        return f"{self._sessions.cookie}={value}; HttpOnly; SameSite=Lax; Path=/"

    def _set_cookie(self, headers: MutableHeaders, value: str) -> None:
        headers.append("set-cookie", self._cookie(value))

    def log_in(self, response: Response, token: str = "") -> None:
        """Add the cookie of a new session to a response."""
        self._set_cookie(response.headers, self._sessions.create(token)[1])


def _is_open(request: Request) -> bool:
    """Return whether a path needs no session."""
    path = request.url.path
    return path == "/login" or path.startswith("/static/")


class _WithHeaders:
    """Adds the headers of every response."""

    def __init__(self, send: Any) -> None:
        self._send, self.cookie = send, ""

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("content-security-policy", POLICY)
            # Files of the dashboard itself have an etag.
            cache = "no-cache" if "etag" in headers else "no-store"
            headers.setdefault("cache-control", cache)
            if "frame-ancestors 'none'" in headers["content-security-policy"]:
                headers["x-frame-options"] = "DENY"
            if self.cookie:
                headers.append("set-cookie", self.cookie)
        await self._send(message)


def is_known_host(host: str, settings: Settings) -> bool:
    """Return whether a Host header cannot come from a rebound name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    known = {"localhost", settings.host, socket.gethostname(), *settings.allowed_hosts}
    if name in {one.lower() for one in known}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class FormError(Exception):
    """A form that is not accepted."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


async def read_form(request: Request, sessions: Sessions) -> dict[str, str]:
    """Read a form, and check its CSRF token.

    Raises:
        FormError: It is too large or malformed, or the token is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/x-www-form-urlencoded":
        raise FormError("The form has another content type than expected", 415)
    # Bound the memory that a client can occupy before its CSRF token is checked.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise FormError("The form is too large", 413)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise FormError("The form is malformed") from None
    # Browsers send CRLF for each line break in a text field.
    form = {name: value.replace("\r\n", "\n") for name, value in pairs}
    session = getattr(request.state, "session", None)
    given = form.pop("csrf", request.headers.get("x-csrf-token", ""))
    if session is None or not hmac.compare_digest(
        given.encode(), sessions.csrf(session).encode()
    ):
        raise FormError("This page is too old: load it again and repeat", 403)
    return form
