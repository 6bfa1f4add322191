"""Checks of artifact paths and sources, made before anything is copied."""

import os
import posixpath
import stat
from pathlib import Path
from typing import NoReturn

from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from mlops._toolkits.errors import input_invalid

_FIELD = "local_path"


def check_artifact_path(path: str) -> str:
    """Return `path` if it is a normalized path below a run's artifacts.

    Raises:
        MLOpsClientError: INPUT_INVALID if it is absolute, or has `.`, `..` or an empty
            part.
    """
    if (
        posixpath.normpath(path) != path
        or path.startswith(("/", ".."))
        or path == "."
        or "\0" in path
    ):
        raise input_invalid(
            "artifact_path",
            "must be a path below the run's artifacts, such as 'plots/loss', "
            f"not {path!r:.100}",
        )
    return path


def check_source(source: Path) -> None:
    """Check that `source` consists of files and directories only.

    Opening a named pipe would block until another process writes to it.

    Raises:
        MLOpsClientError: INPUT_INVALID if `source` is, contains, or links to anything
            else.
    """
    _check_kind(source)
    if not source.is_dir():
        return
    for directory, _, files in os.walk(source, onerror=_raise):
        for file in files:
            _check_kind(Path(directory, file))


def check_destination(
    source: Path, artifact_uri: str, artifact_path: str | None
) -> None:
    """Check that a directory does not contain its own destination.

    Such a copy would never end.

    Raises:
        MLOpsClientError: INPUT_INVALID if `source` contains the run's artifacts.
    """
    if not is_local_uri(artifact_uri):
        return
    artifacts = Path(
        local_file_uri_to_path(artifact_uri), artifact_path or "", source.name
    )
    if artifacts.resolve().is_relative_to(source.resolve()):
        raise input_invalid(
            _FIELD,
            f"{source} holds the run's own artifacts, {artifacts.parent}; "
            "name the files or directories in it",
        )


def _check_kind(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise input_invalid(
            _FIELD, f"{path} is a link to what does not exist"
        ) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise input_invalid(_FIELD, f"{path} is neither a file nor a directory")


def _raise(error: OSError) -> NoReturn:
    raise error
