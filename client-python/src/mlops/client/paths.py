"""Where the files are that a caller names."""

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from mlops.client.errors import MLOpsClientError, input_invalid
from mlops.workspace import ProjectWorkspace


def expanded(path: str | os.PathLike[str]) -> Path:
    """`path` with a leading "~" replaced; unlike Path.expanduser(), no error if that
    names no user.
    """
    return Path(os.path.expanduser(path))


def find_input(path: str | os.PathLike[str], roots: Iterable[Path]) -> Path:
    """What `path` names: relative to the working directory as everywhere in Python, or
    else to one of `roots`, which are asked for only then.

    Raises MLOpsClientError FILE_NOT_FOUND, which names every place looked at;
    INPUT_INVALID if it is no path.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise input_invalid("path", f"must be a path, not {path!r:.100}")
    given = expanded(path)
    places: dict[str, None] = {}
    for root in chain([Path.cwd()], roots):
        candidate = (root / given).absolute()
        if candidate.exists():
            return candidate
        places[str(candidate)] = None
    raise MLOpsClientError(
        f"There is no file or directory {path}; looked for {' and '.join(places)}",
        details={"reason": "FILE_NOT_FOUND", "path": str(path), "places": list(places)},
    )


def is_here(workspace: ProjectWorkspace) -> bool:
    """Whether the directory of a workspace is there, on this machine."""
    return os.path.isdir(workspace.root_path) and workspace.is_local


def require_local(
    workspace: ProjectWorkspace,
    remedy: str = "work on that machine, or mount its base directory on this one at the same path",
) -> None:
    """Raises MLOpsClientError WORKSPACE_NOT_LOCAL unless the directory of a workspace
    is on this machine: made here it would be one that no other client ever sees.
    `remedy` is what to do if its server is on another.
    """
    if is_here(workspace):
        return
    path = str(workspace.root_path)
    raise MLOpsClientError(
        f"The workspace's directory {path} is not on this machine: it was moved or deleted, or its server runs on "
        f"another; then {remedy}",
        component="workspace",
        details={"reason": "WORKSPACE_NOT_LOCAL", "path": path},
    )
