"""Fixtures: `mlops dashboard` on a real server, and a browser.

Fixtures of a module share a server and a dashboard; tests use projects of their own.
"""

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from mlops.workspace import WorkspaceManager

from support.server import Server, short_base

DEADLINE_S = 60
_CSRF = re.compile(r'data-csrf="([0-9a-f]+)"')
_numbers = itertools.count()


class Dashboard:
    """A running `mlops dashboard`, as a context manager."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._arguments, self._environment = arguments, environment
        self.link = ""
        self.errors: list[str] = []

    def __enter__(self) -> "Dashboard":
        hidden = ("MLOPS_WORKSPACE_", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(hidden)
        }
        command = [sys.executable, str(Path(sys.executable).with_name("mlops"))]
        self.process = subprocess.Popen(
            [*command, "dashboard", "--port", "0", *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environ, "XDG_CONFIG_HOME": "/nonexistent", **self._environment},
        )
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()
        threading.Thread(target=self._read_errors, daemon=True).start()
        if not self.link:
            self.process.kill()
            raise AssertionError(self.errors)
        return self

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += self.process.stderr

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
        assert not [line for line in self.errors if "Traceback" in line], self.errors

    @property
    def url(self) -> str:
        """The address without the key."""
        return self.link.partition("?")[0].rstrip("/")

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """A browser without scripts, which has opened the link."""
        with self.stranger() as client:
            assert client.get(self.link).status_code == 200
            yield client

    def stranger(self) -> "Client":
        """A browser that does not know the link."""
        return Client(
            base_url=self.url,
            follow_redirects=True,
            timeout=DEADLINE_S,
            trust_env=False,
        )


class Client(httpx.Client):
    """Sends forms as a browser does, with the CSRF token of a page."""

    def csrf(self) -> str:
        found = _CSRF.search(self.get("/").text)
        assert found is not None
        return found[1]

    def submit(self, path: str, **fields: str) -> httpx.Response:
        return self.post(path, data={"csrf": self.csrf(), **fields})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with short_base() as base:
        audit = base.with_name("audit")
        with Server(
            base, "--metrics", "127.0.0.1:0", "--audit-log", str(audit)
        ) as server:
            yield server


@pytest.fixture(scope="module")
def dashboard(server: Server) -> Iterator[Dashboard]:
    audit = server.base.with_name("audit")
    with Dashboard("--base", str(server.base), "--audit-log", str(audit)) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def client(dashboard: Dashboard) -> Iterator[Client]:
    with dashboard.client() as client:
        yield client


@pytest.fixture(scope="module")
def manager(server: Server) -> Iterator[WorkspaceManager]:
    with WorkspaceManager(address=server.address) as manager:
        yield manager


@pytest.fixture
def project(manager: WorkspaceManager) -> str:
    """A project of its own, with the metadata {"stage": "test"}."""
    name = f"p{next(_numbers)}"
    manager.create_workspace(name, metadata={"stage": "test"})
    return name


def wait_until(condition: Callable[[], object], within_s: float = DEADLINE_S) -> float:
    """Waits until a condition holds; returns after how many seconds it did."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + within_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begun


@contextmanager
def running(server: Server, *arguments: str) -> Iterator[Client]:
    """A dashboard with other arguments, as its client."""
    with (
        Dashboard("--base", str(server.base), *arguments) as dashboard,
        dashboard.client() as client,
    ):
        yield client
