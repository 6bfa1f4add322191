"""Files of workspaces for fsspec:

`fsspec.open("workspace://fraud/outputs/model.pt")`. Needs the extra `fs`.
"""

try:
    import fsspec  # noqa: F401 - what fails further below is no matter of the extra
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fsspec is not installed; install it by: pip install 'mlops-workspace[fs]'",
        name=error.name,
    ) from error

from mlops.fs.filesystem import WorkspaceFileSystem
from mlops.fs.progress import progress

__all__ = ["WorkspaceFileSystem", "progress"]
