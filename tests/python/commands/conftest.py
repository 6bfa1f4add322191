"""Fixtures: the `mlops` command, piped and at a terminal, on a real server."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace import WorkspaceManager

from python.conftest import directory, environment, remote
from support.processes import killed_at_end

__all__ = ["directory", "environment", "remote"]

MLOPS = Path(sys.executable).with_name("mlops")
COMMAND = [sys.executable, str(MLOPS)]
# Commands call `mlops`, too.
_PATH = f"{MLOPS.parent}{os.pathsep}{os.environ['PATH']}"
_DEADLINE_S = 100
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def settings(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the user's own configuration."""
    for name in list(os.environ):
        if name.startswith("MLOPS_WORKSPACE_") and not name.endswith("IDLE_TIMEOUT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    # Takes precedence over the terminal's width; pytest-xdist sets it.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def manager(directory: Path) -> Iterator[WorkspaceManager]:
    """A manager of the default base directory, with the project fraud."""
    with WorkspaceManager(repo_root=directory) as manager:
        manager.create_workspace("fraud", metadata={"stage": "production", "runs": 31})
        yield manager


@pytest.fixture
def mlops(directory: Path) -> Run:
    """A function that runs `mlops` in `directory`, with pipes for its streams."""

    def run(
        *arguments: str, input: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=directory,
            env={**os.environ, "PATH": _PATH, **environment},
            input=input,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
        )

    return run


class Terminal:
    """A command at a pseudo-terminal."""

    def __init__(
        self, directory: Path, *arguments: str, columns: int = 80, **environment: str
    ) -> None:
        self._main, inner = pty.openpty()
        ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=directory,
            env={**os.environ, **environment},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(inner)
        self.output = ""

    def wait_for(self, text: str) -> None:
        """Waits until the terminal shows `text`."""
        while text not in self.output:
            assert self._read(), self.output

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def modes(self) -> list[str]:
        """Returns which of the terminal's modes for lines of input are on."""
        flags = termios.tcgetattr(self._main)[3]
        return [name for name in ("ICANON", "ECHO") if flags & getattr(termios, name)]

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def code(self) -> int:
        """Waits for the end and returns the exit code."""
        while self._read():
            pass
        code = self.process.wait(_DEADLINE_S)
        os.close(self._main)
        return code

    def _read(self) -> bool:
        """Reads some output; returns False at its end."""
        assert select.select([self._main], [], [], _DEADLINE_S)[0], self.output
        try:
            data = os.read(self._main, 65536)
        except OSError:  # The process has ended.
            return False
        self.output += data.decode()
        return bool(data)


@pytest.fixture
def terminal(directory: Path) -> Iterator[Callable[..., Terminal]]:
    """A function that starts `mlops` at a terminal."""
    with ExitStack() as stack:

        def start(*arguments: str, **options: Any) -> Terminal:
            screen = Terminal(directory, *arguments, **options)
            stack.enter_context(killed_at_end(screen.process))
            return screen

        yield start


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
