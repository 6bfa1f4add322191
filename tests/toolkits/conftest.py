"""Real libraries, each test over a base directory of its own. No test may reach out."""

import pytest
from mlops.client import MLOpsClient
from mlops.workspace import WorkspaceManager

from python.conftest import base, directory, environment, manager, remote, script

__all__ = ["base", "directory", "environment", "manager", "remote", "script"]


@pytest.fixture
def client(manager: WorkspaceManager) -> MLOpsClient:
    return MLOpsClient("fraud", workspace_manager=manager)
