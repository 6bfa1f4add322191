"""Where the files are that a caller names."""

import os
from pathlib import Path

from mlops.client.errors import MLOpsClientError
from mlops.workspace import ProjectWorkspace


def find_input(path: str | os.PathLike[str], *roots: Path) -> Path:
    """What `path` names: relative to the working directory as everywhere in Python, or else to one of `roots`.

    Raises MLOpsClientError FILE_NOT_FOUND, which names every place looked at.
    """
    given = Path(path).expanduser()
    candidates = [(root / given).absolute() for root in (Path.cwd(), *roots)]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = list(dict.fromkeys(map(str, candidates)))
    raise MLOpsClientError(
        f"There is no file or directory {path}; looked for {' and '.join(places)}",
        details={"reason": "FILE_NOT_FOUND", "path": str(path), "places": places},
    )


def existing_workspace(workspace: ProjectWorkspace) -> Path:
    """The workspace's directory: what is made in it must not bring back one that was deleted.

    Raises MLOpsClientError WORKSPACE_NOT_FOUND.
    """
    if workspace.metadata_file.is_file():
        return workspace.root_path
    raise MLOpsClientError(
        f"There is no workspace {workspace.project_name} at {workspace.root_path} any more; open the project again",
        component="workspace",
        details={"reason": "WORKSPACE_NOT_FOUND", "path": str(workspace.root_path)},
    )
