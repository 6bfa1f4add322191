"""Measures the start-up of `mlops` beside that of `mlflow` and `dvc`."""

import os
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from subjects.figures import Row, grouped, median, ratio, seconds, table
from subjects.harness import REPO, TOOLKITS, Bench, workspaced

_SMALL = 20
# The command of each side, and its environment.
Sides = dict[str, tuple[list[str], Mapping[str, str]]]
# The goals in s.
_GOALS = {
    "mlops --version": 0.2,
    "mlops ls": 0.4,
    "completion of a command": 0.3,
    "completion of a project": 0.3,
    "completion of a path": 0.3,
    "completion of a path by address": 0.3,
}
_PEERS = ("mlflow --version", "dvc --version")


def run_commands(bench: Bench) -> tuple[str, list[Row]]:
    """Runs each command in turn, in rounds; skips peers that are not installed."""
    if not Path(_program("mlops")).exists():
        return "Skipped: `mlops` is not installed; run `make toolkits`.", []
    small, large = bench.work / "small", bench.work / "large"
    count = bench.sizes.workspaces[0]
    for base, number in ((small, _SMALL), (large, count)):
        subprocess.run(
            [bench.program("many_workspaces"), "make", base, str(number)], check=True
        )
    name = next(path.name for path in large.iterdir() if not path.name.startswith("."))
    few = next(path.name for path in small.iterdir() if not path.name.startswith("."))
    sides = {**_sides(small, large, name), **_by_address(small, few), **_peers()}
    rows: list[Row] = []
    with workspaced(bench, small):
        # The round before the first warms the page cache.
        for number in range(-1, bench.sizes.commands):
            for target, (command, environment) in sides.items():
                row = _timed(
                    command, {**environment, "XDG_CONFIG_HOME": str(bench.work)}
                )
                if number >= 0:
                    rows.append({"round": number, "target": target, **row})
    return _table(rows, count), rows


def _sides(small: Path, large: Path, name: str) -> Sides:
    """Returns the sides that find projects by a base directory."""
    few = {"MLOPS_WORKSPACE_BASE": str(small)}
    many = {"MLOPS_WORKSPACE_BASE": str(large)}
    mlops = _program("mlops")
    complete = [mlops, "__complete", "bash"]
    return {
        "mlops --version": ([mlops, "--version"], {}),
        "mlops ls": ([mlops, "ls"], few),
        "completion of a command": ([*complete, "mlops sh"], {}),
        "completion of a project": ([*complete, f"mlops show {name[:-1]}"], many),
        "completion of a path": ([*complete, f"mlops cat {name}:outputs/"], many),
    }


def _by_address(base: Path, name: str) -> Sides:
    address = {"MLOPS_WORKSPACE_ADDRESS": f"unix:{base}/.workspaced/socket"}
    command = [_program("mlops"), "__complete", "bash", f"mlops cat {name}:outputs/"]
    return {"completion of a path by address": (command, address)}


def _peers() -> Sides:
    found = ((peer, peer.split()) for peer in _PEERS)
    return {
        peer: ([_program(program), option], {})
        for peer, (program, option) in found
        if Path(_program(program)).exists()
    }


def _program(name: str) -> str:
    """Returns the path of a program, beside the toolkits if those are installed."""
    environment = TOOLKITS if TOOLKITS.exists() else REPO / ".venv/bin/python"
    return str(environment.with_name(name))


def _timed(command: list[str], environment: Mapping[str, str]) -> Row:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(
        command,
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    took = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(
        getattr(after, kind) - getattr(before, kind)
        for kind in ("ru_utime", "ru_stime")
    )
    return {"seconds": took, "cpu_seconds": cpu}


def _table(rows: list[Row], count: int) -> str:
    peers = [peer for peer in _PEERS if any(row["target"] == peer for row in rows)]
    lines: list[list[object]] = []
    for (target,), group in grouped(rows, "target").items():
        times = [row["seconds"] for row in group]
        lines.append(
            [
                target,
                f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})",
                f"{median([row['cpu_seconds'] for row in group]):.2f}",
                _GOALS.get(str(target), ""),
                *(ratio(seconds, rows, str(target), peer) for peer in peers),
            ]
        )
    head = ["command", "median, s", "CPU, s", "goal, s", *(f"of `{p}`" for p in peers)]
    return (
        f"{table(head, lines)}\n\nThe projects are {_SMALL} for `mlops ls`, "
        f"and {count:,} for completion."
    )
