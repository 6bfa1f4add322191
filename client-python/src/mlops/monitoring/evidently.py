"""Drift of a workspace's data: the only importer of evidently."""

from typing import Any

import pandas as pd

from mlops.workspace import ProjectWorkspace


class DriftMonitor:
    """Reference data and reports in one workspace's monitoring/. Thread-safe."""

    def __init__(self, workspace: ProjectWorkspace) -> None: ...

    def set_reference(self, df: pd.DataFrame, target_column: str | None, prediction_column: str | None) -> None: ...

    def compare(self, df: pd.DataFrame, target_column: str | None, prediction_column: str | None) -> dict[str, Any]: ...

    def count(self) -> dict[str, int]: ...
