"""The sizes, programs and servers of the measurements."""

import contextlib
import importlib.util
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from subjects.figures import Row

HERE = Path(__file__).parents[1]
REPO = HERE.parents[1]
# The environment with MLflow, DVC, BentoML and Evidently, which `make toolkits` makes.
TOOLKITS = REPO / ".toolkits/bin/python"

# Why benchmarks that use the Python client are skipped, if they are.
NO_CLIENT = (
    ""
    if importlib.util.find_spec("mlops")
    else "Skipped: the Python client is not installed; run `make wheel`."
)


@dataclass(frozen=True)
class Sizes:
    """How much to measure: rounds, their lengths in ms, and numbers of items."""

    rounds: int
    round_ms: int
    commit_round_ms: int
    workspaces: tuple[int, ...]
    starts: int
    original: int
    scan_tree: tuple[int, int]
    scan_rounds: int
    statuses: int
    imports: int
    client_calls: int
    artifact_bytes: int
    artifact_rounds: int
    small_files: int
    archive_bytes: int
    archive_files: int
    archive_rounds: int
    leases: int
    commands: int


FULL = Sizes(
    rounds=31,
    round_ms=150,
    commit_round_ms=200,
    workspaces=(10_000, 100_000),
    starts=3,
    original=500,
    scan_tree=(8_120, 200_000),
    scan_rounds=5,
    statuses=10_000,
    imports=5,
    client_calls=20,
    artifact_bytes=1 << 30,
    artifact_rounds=5,
    small_files=10_000,
    archive_bytes=10 << 30,
    archive_files=100_000,
    archive_rounds=3,
    leases=10_000,
    commands=15,
)
QUICK = Sizes(
    rounds=2,
    round_ms=20,
    commit_round_ms=20,
    workspaces=(50,),
    starts=1,
    original=10,
    scan_tree=(200, 2000),
    scan_rounds=2,
    statuses=50,
    imports=2,
    client_calls=1,
    artifact_bytes=64 << 20,
    artifact_rounds=2,
    small_files=20,
    archive_bytes=8 << 20,
    archive_files=200,
    archive_rounds=2,
    leases=20,
    commands=2,
)


@dataclass(frozen=True)
class Bench:
    build: Path
    work: Path
    sizes: Sizes

    def program(self, name: str) -> Path:
        return self.build / "tests/bench" / name

    @property
    def workspaced(self) -> Path:
        return self.build / "service/workspaced"

    def rows(self, program: str, *args: object) -> list[Row]:
        """Runs a benchmark program and returns its rows, one JSON object per line."""
        command = [self.program(program), *map(str, args)]
        lines = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.splitlines()
        return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Running:
    """A running server.

    `start_seconds` is the time from its start to its first line of output, which it
    prints once it serves.
    """

    process: subprocess.Popen[str]
    address: str
    start_seconds: float

    def target(self, name: str) -> str:
        return f"--target={name},{self.process.pid},{self.address}"


@contextlib.contextmanager
def running(command: list[object], address: str) -> Iterator[Running]:
    """Runs a server for the length of the block.

    The block begins when the server prints its first line. At the end the server gets
    SIGTERM and up to 60 seconds.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        if not line:
            raise RuntimeError(f"{command[0]} ended at once")
        yield Running(process, address, seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def workspaced(
    bench: Bench, base: Path, *args: str
) -> contextlib.AbstractContextManager[Running]:
    return running(
        [bench.workspaced, "--base", base, *args], f"unix:{base}/.workspaced/socket"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def toolkits_installed() -> bool:
    """Returns whether the toolkits and a wheel of the client are there."""
    return (REPO / ".toolkits/installed").exists()


def toolkit_rows(script: str, *args: object) -> list[Row]:
    """Runs a script of this directory with the toolkits and returns its rows."""
    command = [TOOLKITS, HERE / script, *map(str, args)]
    output = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return [json.loads(line) for line in output.splitlines()]
