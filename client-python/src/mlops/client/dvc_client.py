"""The workspace's DVC repository: the only importer of dvc."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlops.workspace import ProjectWorkspace

Pathlike = str | os.PathLike[str]


class DVCClient:
    """The repository in one workspace's dvc/. Thread-safe."""

    def __init__(self, workspace: ProjectWorkspace, config: Mapping[str, Any]) -> None: ...

    def add(self, path: Pathlike, recursive: bool) -> dict[str, Any]: ...

    def push(self, targets: Sequence[Pathlike] | None, remote: str | None) -> dict[str, Any]: ...

    def pull(self, targets: Sequence[Pathlike] | None, remote: str | None, force: bool) -> dict[str, Any]: ...

    def count(self) -> dict[str, int]: ...
