"""The dashboard: web pages of a server's projects, which change as they do.

`mlops dashboard` runs it, and so does start(), for notebooks; create_app() of `app`
returns its ASGI application. It needs the extra `dashboard`.

One gRPC connection (link) and one watch (live) serve all browsers. Pages are rendered
here, and small events update them. Names, metadata and files are hostile: templates
escape all text, and no page allows inline scripts or styles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.workspace import WorkspaceManager


def start(manager: WorkspaceManager) -> str:
    """Serve the dashboard of a manager's server in a thread; return its link.

    A second call returns the same link. The dashboard ends with the process.

    Raises:
        ModuleNotFoundError: The extra `dashboard` is not installed.
    """
    from mlops.dashboard.serving import start_thread

    return start_thread(manager)
