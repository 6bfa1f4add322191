"""Names of files in projects, `PROJECT:PATH`."""

from __future__ import annotations

import re

from mlops.commands.errors import usage

DIRECTORIES = ("mlflow", "dvc", "monitoring", "models", "outputs")
# Fields of the filter language, in which a colon means "has".
_FIELDS = (
    "project",
    "metadata",
    "mlflow_experiment_id",
    "mlflow_tracking_uri",
    "dvc_remote_path",
    "bentoml_tag_prefix",
    "create_time",
    "update_time",
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SCHEME = "workspace://"


def parse(word: str) -> str | None:
    """Return `PROJECT/PATH` for `PROJECT:PATH`; None if the word is a local path.

    As in scp, a word with a slash before the colon is local: `./a:b`.
    `workspace://PROJECT/PATH` is accepted, too.
    """
    if word.startswith(_SCHEME):
        return word.removeprefix(_SCHEME).strip("/")
    project, colon, path = word.partition(":")
    if not colon or not _NAME.fullmatch(project):
        return None
    # Keep a slash at the end: it says that the path is a directory.
    return f"{project}/{path.lstrip('/')}" if path.strip("/") else project


def remote(word: str) -> str:
    """Return `PROJECT/PATH` for `PROJECT:PATH`.

    Raises:
        CommandError: The word has another form.
    """
    path = parse(word)
    if path is None:
        raise usage(f"{word}: name a project's file as PROJECT:PATH")
    return path


def shown(path: str) -> str:
    """Return `PROJECT:PATH` for `PROJECT/PATH`."""
    project, _, inner = path.partition("/")
    return f"{project}:{inner}"


def is_listed(word: str) -> bool:
    """Return whether a single word for `ls` names files rather than being a filter.

    It does if the colon ends it or is followed by one of the five directories.
    """
    project, colon, path = word.partition(":")
    if word.startswith(_SCHEME):
        return True
    return bool(
        colon
        and _NAME.fullmatch(project)
        and project not in _FIELDS
        and not project.startswith("metadata.")
        and path.strip("/").split("/")[0] in ("", *DIRECTORIES)
    )
