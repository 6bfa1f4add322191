"""Servers that must not start, and servers in surroundings of their own."""

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
    """How a server ended that would not start."""

    code: int
    sentence: str


def refusal(*args: object, wrapper: tuple[object, ...] = ()) -> Refusal:
    """Runs workspaced, which must end by itself having said one line and nothing else."""
    command = [str(arg) for arg in (*wrapper, BINARY, *args)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    lines = result.stderr.splitlines()
    assert result.stdout == "" and len(lines) == 1, result
    return Refusal(result.returncode, lines[0])


def mounted(base: Path, options: str, prepare: str = "true") -> tuple[object, ...]:
    """A wrapper that mounts a tmpfs on `base`, seen by the server alone, and prepares
    it by a line of shell.

    Skips the test where that may not be.
    """
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && cd "$2" && eval "$3" && shift 3 && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
    )
    if probe.returncode != 0:
        pytest.skip(f"needs mount namespaces: {probe.stderr.strip()}")
    return ("unshare", "-m", "sh", "-c", script, "sh", options, base, prepare)


class AnnouncedServer(Server):
    """A server that is found by the line it prints when it answers, for where it writes
    no lock file.
    """

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
    """A server on a tmpfs of its own, which others see through /proc."""

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
    """What grpcurl prints, which must succeed."""
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
    """One call by the Python stubs."""
    with Python(server) as player:
        return player.call(rpc, request)


def answer(server: Server, rpc: str, **request: Any) -> dict[str, Any]:
    """The answer to a unary call, which must succeed."""
    outcome = call(server, rpc, **request)
    assert outcome.error is None, outcome.error
    return outcome.responses[0]


def log_lines(server: Server) -> list[dict[str, Any]]:
    """The log, without what is no part of it: the line for the terminal."""
    return [
        json.loads(line) for line in server.output.splitlines() if line.startswith("{")
    ]


def strace(*injections: str) -> list[str]:
    """A wrapper under which system calls fail as strace(1)'s `--inject` says; skips the
    test where that may not be.
    """
    if (
        shutil.which("strace") is None
        or subprocess.run(["strace", "true"], capture_output=True).returncode != 0
    ):
        pytest.skip("needs strace, and leave to trace processes")
    # -D: the tracer is nobody's parent, so that signals and exit codes are the server's
    # own.
    return [
        "strace",
        "-D",
        "-f",
        "-o",
        os.devnull,
        *(f"--inject={injection}" for injection in injections),
    ]
