"""Where the files are that a caller names."""

import os
from pathlib import Path

from mlops.client.errors import MLOpsClientError


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
