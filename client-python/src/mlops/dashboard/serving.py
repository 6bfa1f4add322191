"""Serves the dashboard on a socket until a signal ends it."""

from __future__ import annotations

import asyncio
import atexit
import socket
import threading
import webbrowser
from types import FrameType
from weakref import WeakKeyDictionary

import uvicorn

from mlops.dashboard.app import create_app
from mlops.dashboard.settings import Settings
from mlops.workspace import WorkspaceManager

_BACKLOG = 512
_DRAIN_S = 3
# Streams last as long as their pages, so many connections are normal.
_MAX_CONNECTIONS = 2000


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        OSError: The address is taken, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """Ends the streams to browsers first, which would otherwise delay the end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop after a signal."""
        super().handle_exit(sig, frame)
        self.end_streams()

    def end_streams(self) -> None:
        """End the streams, from any thread."""
        dashboard = self.config.app.state.dashboard  # type: ignore[union-attr]
        loop = dashboard.loop
        if loop is not None:
            asyncio.run_coroutine_threadsafe(dashboard.callers.end_streams(), loop)


def serve(settings: Settings, listener: socket.socket, browser: bool) -> None:
    """Serve on a socket until SIGINT or SIGTERM."""
    if browser:
        threading.Timer(0.5, webbrowser.open, (settings.link,)).start()
    _server(settings).run(sockets=[listener])


def _server(settings: Settings) -> _Server:
    return _Server(
        uvicorn.Config(
            create_app(settings),
            log_level="warning",
            access_log=False,
            server_header=False,
            # A proxy in front need not be believed: nothing here uses its headers.
            proxy_headers=False,
            ws="none",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_DRAIN_S,
        )
    )


_links: WeakKeyDictionary[WorkspaceManager, str] = WeakKeyDictionary()
_lock = threading.Lock()


def start_thread(manager: WorkspaceManager) -> str:
    """Serve the dashboard of a manager's server in a thread; return its link."""
    with _lock:
        if manager in _links:
            return _links[manager]
        listener = listen("127.0.0.1", 0)
        settings = Settings(
            manager._connection._server,
            manager._local_base,
            port=listener.getsockname()[1],
        )
        server = _server(settings)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="mlops-dashboard", daemon=True
        )
        thread.start()
        # gRPC must not be in use when Python ends.
        atexit.register(_end, server, thread)
        _links[manager] = settings.link
        return settings.link


def _end(server: _Server, thread: threading.Thread) -> None:
    server.end_streams()
    server.should_exit = True
    thread.join(_DRAIN_S)
