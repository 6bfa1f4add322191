"""Where the files are that a caller names."""

import os
from pathlib import Path

from mlops.client.errors import MLOpsClientError, input_invalid


def find_input(path: str | os.PathLike[str], *roots: Path) -> Path:
    """What `path` names: relative to the working directory as everywhere in Python, or else to one of `roots`.

    Raises MLOpsClientError FILE_NOT_FOUND, which names every place looked at; INPUT_INVALID if it is no path.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise input_invalid("path", f"must be a path, not {path!r:.100}")
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


def require_local(directory: Path) -> None:
    """Raises MLOpsClientError WORKSPACE_NOT_LOCAL unless the directory of a workspace is on this machine: made here it
    would be one that no other client ever sees.
    """
    if directory.is_dir():
        return
    raise MLOpsClientError(
        f"The workspace's directory {directory} is not on this machine: it has been deleted, or its server runs on "
        "another, whose file system this one must share",
        component="workspace",
        details={"reason": "WORKSPACE_NOT_LOCAL", "path": str(directory)},
    )
