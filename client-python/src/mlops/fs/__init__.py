"""Files of workspaces for fsspec: `fsspec.open("workspace://fraud/outputs/model.pt")`. Needs the extra `fs`."""

try:
    import fsspec  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fsspec is not installed; install it by: pip install 'mlops-workspace[fs]'", name=error.name
    ) from None

from mlops.fs.filesystem import WorkspaceFileSystem
from mlops.fs.progress import progress

__all__ = ["WorkspaceFileSystem", "progress"]
