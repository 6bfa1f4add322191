"""Locates the files that callers name."""

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from mlops._toolkits.errors import MLOpsClientError, input_invalid
from mlops.workspace import ProjectWorkspace


def expanded(path: str | os.PathLike[str]) -> Path:
    """Expand a leading "~" in `path`.

    Unlike Path.expanduser(), does not fail if no user has that name.
    """
    return Path(os.path.expanduser(path))


def find_input(path: str | os.PathLike[str], roots: Iterable[Path]) -> Path:
    """Return the existing file or directory that `path` names.

    A relative path is relative to the working directory, else to one of `roots`, which
    are consumed only if needed.

    Raises:
        MLOpsClientError: FILE_NOT_FOUND, naming every place that was searched;
            INPUT_INVALID if `path` is not a path.
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


def require_utf8(path: Path) -> None:
    """Check that `path`, which is below the base directory, is UTF-8.

    MLflow stores paths as text, and would use another directory for any other path.

    Raises:
        MLOpsClientError: INPUT_INVALID if it is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise input_invalid(
            "base_path",
            f"{os.fsencode(path)!r} is not UTF-8, and MLflow keeps paths as text: "
            "move the base directory to a path that is",
        ) from None


def is_here(workspace: ProjectWorkspace) -> bool:
    """Return whether the workspace's directory exists on this machine."""
    return os.path.isdir(workspace.root_path) and workspace.is_local


def require_local(
    workspace: ProjectWorkspace,
    remedy: str = (
        "work on that machine, or mount its base directory on this one at the same path"
    ),
) -> None:
    """Check that the workspace's directory is on this machine.

    Otherwise a library would create a directory here that no other client ever sees.

    Args:
        remedy: What to do if the workspace's server is on another machine.

    Raises:
        MLOpsClientError: WORKSPACE_NOT_LOCAL if the directory is not here.
    """
    if is_here(workspace):
        return
    path = str(workspace.root_path)
    raise MLOpsClientError(
        f"The workspace's directory {path} is not on this machine: "
        "it was moved or deleted, or its server runs on another; "
        f"then {remedy}",
        component="workspace",
        details={"reason": "WORKSPACE_NOT_LOCAL", "path": path},
    )
