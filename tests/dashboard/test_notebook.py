"""WorkspaceManager.dashboard(), for notebooks."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from mlops.workspace import WorkspaceManager

from python.conftest import directory, environment

__all__ = ["directory", "environment"]


@pytest.fixture
def manager(directory: Path) -> WorkspaceManager:
    return WorkspaceManager(directory / "base")


def test_prints_the_link_of_a_dashboard(
    manager: WorkspaceManager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.create_workspace("fraud")
    manager.dashboard()
    manager.dashboard()
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(first)
        assert page.status_code == 200
        assert "fraud" in page.text
        # The link has the key.
        alien = httpx.get(first.partition("?")[0])
        assert alien.headers["location"].startswith("/login")
    manager.delete_workspace("fraud", force=True)


def test_a_program_with_a_dashboard_ends(directory: Path) -> None:
    code = (
        "from mlops.workspace import WorkspaceManager\n"
        "manager = WorkspaceManager()\n"
        "manager.create_workspace('fraud')\n"
        "manager.dashboard()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("http://127.0.0.1:")
