"""Fixtures: a base directory per test, and clients for it.

Fixtures stop the servers that the clients start.
"""

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
    """Clears the configured address, so that each test finds only its base's server.

    The idle timeout ends servers that a failing test leaves behind.
    """
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
    """A server whose base directory clients cannot see."""
    with short_base() as path, RemoteServer(path) as server:
        yield server


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty working directory; stops the server of the default base below it."""
    with short_base() as path:
        path.mkdir()
        yield path
        stop_server(path / "mlops/workspace")


@pytest.fixture
def script(directory: Path) -> Script:
    """A function that runs Python code in `directory`; returns the finished process.

    Warnings are errors there.
    """

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
