"""Workspaces of MLOps projects: an isolated directory for each, looked after by the
server `workspaced`.
"""

from typing import TYPE_CHECKING, Any

import mlops._rpc  # noqa: F401 - before the stubs load gRPC

if TYPE_CHECKING:
    from mlops.workspace.manager import (
        Deletion,
        ProjectWorkspace,
        ServerInfo,
        WorkspaceError,
        WorkspaceManager,
    )

__all__ = [
    "Deletion",
    "ProjectWorkspace",
    "ServerInfo",
    "WorkspaceError",
    "WorkspaceManager",
]


def __getattr__(name: str) -> Any:
    """Loads the manager when it is asked for: it needs `mlops.workspace.v1`, which
    needs this package.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlops.workspace import manager

    return getattr(manager, name)
