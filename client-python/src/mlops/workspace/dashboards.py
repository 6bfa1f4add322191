"""Dashboards that run in this process, for notebooks."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path

from mlops._rpc.connection import Connection

_lock = threading.Lock()
# The process and the link of the dashboard of each connection.
_links: weakref.WeakKeyDictionary[Connection, tuple[int, str]] = (
    weakref.WeakKeyDictionary()
)


def link_of(connection: Connection, base: Path | None) -> str:
    """Return the link of a server's dashboard; start the dashboard if none runs.

    The dashboard runs in a thread, on a free port of this machine, and ends with the
    process.

    Raises:
        ModuleNotFoundError: The extra `dashboard` is not installed.
    """
    try:
        from mlops.dashboard import serving
        from mlops.dashboard.settings import Settings
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed; "
            "install it by: pip install 'mlops-workspace[dashboard]'",
            name=error.name,
        ) from None
    with _lock:
        process, link = _links.get(connection, (0, ""))
        # In a forked child, the thread that serves the dashboard does not exist.
        if process != os.getpid():
            listener = serving.listen("127.0.0.1", 0)
            settings = Settings(connection.server, base, port=listener.getsockname()[1])
            threading.Thread(
                target=serving.serve,
                args=(serving.prepare(settings), listener),
                name="mlops-dashboard",
                daemon=True,
            ).start()
            link = settings.link
            _links[connection] = os.getpid(), link
    return link
