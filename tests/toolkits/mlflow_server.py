"""A real `mlflow server` on loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_WITHIN_S = 90


@dataclass(frozen=True)
class Running:
    """A process that serves HTTP, as the leader of its own process group."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ends the process group, which includes the server's workers.

        Sends SIGTERM, and SIGKILL after 3 seconds.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], directory: Path, health: str, **environment: str
) -> Iterator[Running]:
    """Runs `python -m mlflow COMMAND --port PORT` for the length of the block.

    The block begins once the server answers at the path `health`, for which it has 90
    seconds. Output goes to mlflow-server.log in `directory`; `environment` is added to
    the process's environment.
    """
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    port = free_port()
    with (directory / "mlflow-server.log").open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                *command,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            cwd=directory,
            # The server runs programs from the directory of the Python binary.
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Running(f"http://127.0.0.1:{port}", process)
    try:
        deadline = time.monotonic() + _START_WITHIN_S
        while not _answers(server.url + health):
            assert process.poll() is None and time.monotonic() < deadline, Path(
                log.name
            ).read_text()
            time.sleep(0.1)
        yield server
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False
