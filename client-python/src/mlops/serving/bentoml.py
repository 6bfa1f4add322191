"""The workspace's model store: the only importer of bentoml."""

from pathlib import Path
from typing import Any

from mlops.workspace import ProjectWorkspace


class ModelStore:
    """BentoML's store in one workspace's models/. Thread-safe."""

    def __init__(self, workspace: ProjectWorkspace) -> None: ...

    def deploy(self, path: Path, name: str, version: str | None, build_bento: bool) -> dict[str, Any]: ...

    def count(self) -> dict[str, int]: ...
