"""Files of workspaces for fsspec: `fsspec.open("workspace://fraud/outputs/model.pt")`. Needs the extra `fs`."""

from mlops.fs.filesystem import WorkspaceFileSystem
from mlops.fs.progress import progress

__all__ = ["WorkspaceFileSystem", "progress"]
