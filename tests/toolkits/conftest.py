"""Fixtures for tests against the real libraries; no test may use the network."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
import pytest
from mlops.client import MLOpsClient
from mlops.fs import WorkspaceFileSystem
from mlops.workspace import WorkspaceManager

from python.conftest import base, directory, environment, manager, remote, script

__all__ = ["base", "directory", "environment", "manager", "remote", "script"]


@pytest.fixture
def client(manager: WorkspaceManager) -> MLOpsClient:
    return MLOpsClient("fraud", workspace_manager=manager)


@pytest.fixture
def fs(base: Path, manager: WorkspaceManager) -> WorkspaceFileSystem:
    """A file system that sends everything over the connection, none of it by path."""
    manager.create_workspace("fraud")
    return fsspec.filesystem("workspace", base_path=base, by_path=False)


@contextmanager
def killing(base: Path) -> Iterator[None]:
    """Kills the server of `base` three times a second for the length of the block.

    Clients start a new server each time, which is killed in turn.
    """
    stop = threading.Event()

    def trouble() -> None:
        while not stop.wait(0.3):
            kill_server(base)

    killer = threading.Thread(target=trouble)
    killer.start()
    try:
        yield
    finally:
        stop.set()
        killer.join()


def kill_server(base: Path) -> None:
    """Kills the server of `base` with SIGKILL, if it runs.

    The next call of a client starts another server.
    """
    pid = json.loads((base / ".workspaced/lock").read_text())["pid"]
    with suppress(FileNotFoundError, ProcessLookupError):
        # The pid may be stale and belong to another process by now.
        if str(base).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
