"""The file system of one workspace."""

from typing import Any

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.utils import stringify_path


class ProjectFileSystem(DirFileSystem):  # type: ignore[misc]
    """A WorkspaceFileSystem (`fs`) with paths relative to one project (`path`).

    For example `outputs/model.pt`. See ProjectWorkspace.files.
    """

    cachable = False  # Like WorkspaceFileSystem.

    def _join(self, path: Any) -> Any:
        """Join a path to the project's path.

        Accepts Path objects and keeps a last slash. DirFileSystem accepts no Path and
        drops the last slash, which distinguishes a directory from its contents.
        """
        path = stringify_path(path)
        if not isinstance(path, str):
            return super()._join(path)
        return super()._join(path.strip("/")) + ("/" if path.endswith("/") else "")
