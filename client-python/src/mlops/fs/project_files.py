"""The file system of one workspace."""

from typing import Any

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.utils import stringify_path


class ProjectFileSystem(DirFileSystem):  # type: ignore[misc]
    """A WorkspaceFileSystem (`fs`) seen from one of its projects (`path`):
    `outputs/model.pt`. See ProjectWorkspace.files.
    """

    cachable = False  # As what it stands on.

    def _join(self, path: Any) -> Any:
        """DirFileSystem takes no Path, and drops the last slash, which tells a
        directory from what is in it.
        """
        path = stringify_path(path)
        if not isinstance(path, str):
            return super()._join(path)
        return super()._join(path.strip("/")) + ("/" if path.endswith("/") else "")
