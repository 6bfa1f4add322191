"""Settings that follow a workspace whose directory was moved or copied, by the rules of the server."""

import os
from collections.abc import Mapping
from pathlib import Path


def follow(settings: Mapping[str, str | None], project: str, old_root: str, root: Path) -> dict[str, str | None]:
    """The `settings` of a record that was written for `project` at `old_root`, as they are at `root`.

    Locations below the old root are moved below the new one, and the default tag prefix becomes that of the new name.
    """
    moved = dict(settings)
    # A path through a symbolic link is the same place.
    if not old_root or os.path.realpath(old_root) == os.path.realpath(root):
        return moved
    new_root = os.path.abspath(root)
    if moved.get("bentoml_tag_prefix") == f"{project}:":
        moved["bentoml_tag_prefix"] = f"{os.path.basename(new_root)}:"
    for name, old, new in (
        ("dvc_remote_path", old_root, new_root),
        ("mlflow_tracking_uri", f"sqlite:///{_in_uri(old_root)}", f"sqlite:///{_in_uri(new_root)}"),
    ):
        value = moved.get(name)
        if value is not None and (value == old or value.startswith(f"{old}/")):
            moved[name] = new + value[len(old) :]
    return moved


def _in_uri(path: str) -> str:
    """As the server writes it: a '?' would begin a query, a '%' an escape."""
    return path.replace("%", "%25").replace("?", "%3F")
