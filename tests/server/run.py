"""Helpers that run workspaced in unusual environments, or expect it not to start."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from conformance.players import GRPCURL, Outcome, Python
from support.server import BINARY, Server


@dataclass(frozen=True)
class Refusal:
    """The exit code and the message of a server that refused to start."""

    code: int
    sentence: str


def refusal(*args: object, wrapper: tuple[object, ...] = ()) -> Refusal:
    """Runs workspaced and returns how it refused to start.

    It must exit within 30 seconds, with one line on stderr and nothing on stdout.
    """
    command = [str(arg) for arg in (*wrapper, BINARY, *args)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    lines = result.stderr.splitlines()
    assert result.stdout == "" and len(lines) == 1, result
    return Refusal(result.returncode, lines[0])


def fill_disk(directory: Path) -> Path:
    """Fills the file system of `directory` to the last byte with a file, returns it."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def mounted(base: Path, options: str, prepare: str = "true") -> tuple[object, ...]:
    """Returns a command prefix that mounts a tmpfs on `base` for the server alone.

    `options` are mount options; `prepare` is a shell command that runs in the new mount
    before the server starts. Skips the test where mount namespaces are unavailable.
    """
    script = (
        'mount -t tmpfs -o "$1" tmpfs "$2" && cd "$2" && eval "$3" && shift 3'
        ' && exec "$@"'
    )
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
    )
    if probe.returncode != 0:
        pytest.skip(f"needs mount namespaces: {probe.stderr.strip()}")
    return ("unshare", "-m", "sh", "-c", script, "sh", options, base, prepare)


class AnnouncedServer(Server):
    """A server that writes no lock file.

    Its addresses are read from the line that it prints when it starts to serve.
    """

    # The length of the output before this start, as servers of one base share the file.
    _printed_before = 0

    def __enter__(self) -> Self:
        self._printed_before = len(self.output)
        return super().__enter__()

    def _wait_for_addresses(self) -> list[str]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in self.output[self._printed_before :].splitlines():
                if line.startswith("workspaced ") and " on " in line:
                    return line.rpartition(" on ")[2].split(" and ")
            self._check_runs()
            time.sleep(0.01)
        raise TimeoutError(self.output)


class MountedServer(Server):
    """A server whose base is a private tmpfs; other processes see it through /proc."""

    def __init__(
        self, base: Path, options: str, *args: str, prepare: str = "true"
    ) -> None:
        base.mkdir(parents=True)
        super().__init__(
            base, *args, wrapper=[str(part) for part in mounted(base, options, prepare)]
        )

    @property
    def seen_base(self) -> Path:
        return Path(f"/proc/{self.pid}/root{self.base}")


def grpcurl(server: Server, *verbs: str, data: str = "") -> str:
    """Runs grpcurl, which must succeed, and returns its output."""
    command = [
        GRPCURL,
        "-plaintext",
        "-unix",
        "-max-time",
        "30",
        "-d",
        data,
        server.socket,
        *verbs,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def call(server: Server, rpc: str, **request: Any) -> Outcome:
    """Calls `rpc` with the Python stubs and returns the outcome."""
    with Python(server) as player:
        return player.call(rpc, request)


def answer(server: Server, rpc: str, **request: Any) -> dict[str, Any]:
    """Calls the unary `rpc`, which must succeed, and returns its response."""
    outcome = call(server, rpc, **request)
    assert outcome.error is None, outcome.error
    return outcome.responses[0]


def log_lines(server: Server) -> list[dict[str, Any]]:
    """Returns the log's records, without the start-up line meant for the terminal."""
    return [
        json.loads(line) for line in server.output.splitlines() if line.startswith("{")
    ]


def strace(*injections: str) -> list[str]:
    """Returns a command prefix under which system calls fail.

    Each of `injections` is an argument of strace(1)'s `--inject`. Skips the test where
    strace is missing or may not trace.
    """
    if (
        shutil.which("strace") is None
        or subprocess.run(["strace", "true"], capture_output=True).returncode != 0
    ):
        pytest.skip("needs strace and permission to trace processes")
    # With -D the tracer is a detached grandchild, so that signals reach the server and
    # the exit code is the server's.
    return [
        "strace",
        "-D",
        "-f",
        "-o",
        os.devnull,
        *(f"--inject={injection}" for injection in injections),
    ]
