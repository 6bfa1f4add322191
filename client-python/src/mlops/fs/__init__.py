"""Files of workspaces for fsspec. Needs the extra `fs`.

For example `fsspec.open("workspace://fraud/outputs/model.pt")`.
"""

try:
    import fsspec  # noqa: F401 - so that only a missing fsspec names the extra
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fsspec is not installed; install it by: pip install 'mlops-workspace[fs]'",
        name=error.name,
    ) from error

from mlops.fs.filesystem import WorkspaceFileSystem
from mlops.fs.progress import progress

__all__ = ["WorkspaceFileSystem", "progress"]
