"""Serves the dashboard on a socket until a signal ends it."""

from __future__ import annotations

import asyncio
import atexit
import socket
import threading
import webbrowser
from types import FrameType

import uvicorn

from mlops.dashboard.app import create_app
from mlops.dashboard.settings import Settings

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


class Server(uvicorn.Server):
    """Ends the streams to browsers before it stops, because they would delay that."""

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


def prepare(settings: Settings) -> Server:
    """Return the server of the dashboard, after importing everything that it needs."""
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        # Ignore the headers of a proxy in front, because nothing here uses them.
        proxy_headers=False,
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    # Import everything now: Python would handle a signal during a later import only in
    # the middle of the event loop.
    config.load()
    return Server(config)


def serve(server: Server, listener: socket.socket, open_link: str = "") -> None:
    """Serve on a socket until SIGINT or SIGTERM; in a thread, until Python ends.

    Args:
        open_link: What to open in a browser; "" for nothing.
    """
    if open_link:
        threading.Timer(0.5, webbrowser.open, (open_link,)).start()
    thread = threading.current_thread()
    if thread is not threading.main_thread():
        # gRPC must not be in use when Python exits.
        atexit.register(_end, server, thread)
    server.run(sockets=[listener])


def _end(server: Server, thread: threading.Thread) -> None:
    server.end_streams()
    server.should_exit = True
    thread.join(_DRAIN_S)
