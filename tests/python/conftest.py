"""A base directory for each test, and a manager for it; servers they start are stopped."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from support.elsewhere import RemoteServer
from support.server import short_base, stop_server

Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server but one of the base; should a test fail to stop it, it leaves soon."""
    monkeypatch.delenv("MLOPS_WORKSPACE_ADDRESS", raising=False)
    monkeypatch.setenv("MLOPS_WORKSPACE_IDLE_TIMEOUT", "60s")


@pytest.fixture
def base() -> Iterator[Path]:
    with short_base() as path:
        yield path
        stop_server(path)


@pytest.fixture
def manager(base: Path) -> WorkspaceManager:
    return WorkspaceManager(base)


@pytest.fixture
def remote() -> Iterator[RemoteServer]:
    """A server whose base directory is nowhere to be seen."""
    with short_base() as path, RemoteServer(path) as server:
        yield server


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty working directory; the server of the default base in it is stopped."""
    with short_base() as path:
        path.mkdir()
        yield path
        stop_server(path / "mlops/workspace")


@pytest.fixture
def script(directory: Path) -> Script:
    """Runs a plain script in `directory` and returns what it printed."""

    def run(
        code: str, *args: object, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        (directory / "script.py").write_text(code)
        return subprocess.run(
            [sys.executable, "-W", "error", "script.py", *map(str, args)],
            cwd=directory,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run
