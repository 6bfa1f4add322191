"""Workspaces of MLOps projects: an isolated directory for each, looked after by the server `workspaced`."""

from mlops.workspace.manager import ProjectWorkspace, WorkspaceError, WorkspaceManager

__all__ = ["ProjectWorkspace", "WorkspaceError", "WorkspaceManager"]
