"""Workspaces of MLOps projects.

A workspace is one isolated directory per project, managed by the server `workspaced`.
"""

from typing import TYPE_CHECKING, Any

import mlops._rpc  # noqa: F401 - before the stubs load gRPC

if TYPE_CHECKING:
    from mlops.workspace.manager import (
        CloneProgress,
        CredentialOptions,
        DeletedWorkspace,
        Deletion,
        Lease,
        LeaseInfo,
        ProjectWorkspace,
        ServerInfo,
        WorkspaceError,
        WorkspaceEvent,
        WorkspaceManager,
        WorkspaceTemplate,
    )

__all__ = [
    "CloneProgress",
    "CredentialOptions",
    "DeletedWorkspace",
    "Deletion",
    "Lease",
    "LeaseInfo",
    "ProjectWorkspace",
    "ServerInfo",
    "WorkspaceError",
    "WorkspaceEvent",
    "WorkspaceManager",
    "WorkspaceTemplate",
]


def __getattr__(name: str) -> Any:
    """Import `mlops.workspace.manager` on first use.

    An eager import would be circular: the manager imports `mlops.workspace.v1`, which
    imports this package.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlops.workspace import manager

    return getattr(manager, name)
