"""Generated stubs of `mlops.workspace.v1.WorkspaceService`."""
