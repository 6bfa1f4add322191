"""Runs the benchmarks, prints their tables as Markdown and stores them.

Tables and raw figures go to build/bench.

Usage: run.py [--quick] [--build DIR] [--work DIR] [--readme] [NAME...]. A NAME is get,
ensure, list, leases, identity, neighbours, metrics, checks, watch, commit, start,
doctor, scan, artifacts, archives, files, original, client, commands or, with
.toolkits/bin/python, provider; the default is all of them. --readme replaces the tables
of README.md by the new ones.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from subjects import (
    archives,
    artifacts,
    calls,
    commands,
    identity,
    neighbours,
    python_clients,
    scan,
    start,
    watch,
)
from subjects.figures import Row
from subjects.harness import FULL, HERE, QUICK, REPO, Bench

BENCHES: dict[str, Callable[[Bench], tuple[str, list[Row]]]] = {
    "get": calls.run_get,
    "ensure": calls.run_ensure,
    "list": calls.run_list,
    "leases": calls.run_leases,
    "identity": identity.run_identity,
    "neighbours": neighbours.run_neighbours,
    "metrics": neighbours.run_metrics,
    "checks": neighbours.run_checks,
    "watch": watch.run_watch,
    "commit": calls.run_commit,
    "start": start.run_start,
    "doctor": start.run_doctor,
    "scan": scan.run_scan,
    "artifacts": artifacts.run_artifacts,
    "archives": archives.run_archives,
    "files": python_clients.run_files,
    "original": python_clients.run_original,
    "client": python_clients.run_client,
    "commands": commands.run_commands,
}
# MLflow is installed only for .toolkits/bin/python.
if importlib.util.find_spec("mlflow"):
    BENCHES["provider"] = python_clients.run_provider


def machine(work: Path) -> str:
    """Describes the machine, the file system of `work`, and the load."""
    cpus = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    device, kind = subprocess.check_output(
        ["df", "--output=source,fstype", work], text=True
    ).split()[-2:]
    host = (
        f"{len(cpus)} cores of {cpus[0]}, Linux {os.uname().release}, "
        f"{kind} on {device}"
    )
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}; {host}; "
        f"load average before: {os.getloadavg()[0]:.1f}."
    )


def replace_table(name: str, text: str) -> None:
    """Replaces the text in README.md between the two comments that name the table."""
    readme = HERE / "README.md"
    before, begin, rest = readme.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    assert begin and end, f"no place for {name} in {readme}"
    readme.write_text(f"{before}{begin}{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures workspaced beside the best possible results."
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke test with the smallest sizes; stores no results",
    )
    parser.add_argument(
        "--build", type=Path, default=REPO / "build", help="CMake's build directory"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default="/tmp",
        help="directory on the file system to measure, with a short path [/tmp]",
    )
    parser.add_argument(
        "--readme",
        action="store_true",
        help="replace the tables of README.md by the new ones",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHES)}"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = args.build / "bench"
    results.mkdir(exist_ok=True)
    for name in args.names or BENCHES:
        with tempfile.TemporaryDirectory(prefix="mlops-bench-", dir=args.work) as work:
            where = machine(Path(work))
            figures, rows = BENCHES[name](
                Bench(args.build, Path(work), QUICK if args.quick else FULL)
            )
        text = f"{figures}\n\n{where}"
        print(f"### {name}\n\n{text}\n", flush=True)
        if args.quick:
            continue
        (results / f"{name}.md").write_text(text + "\n")
        (results / f"{name}.json").write_text(json.dumps(rows, indent=1))
        if args.readme:
            replace_table(name, text)


if __name__ == "__main__":
    main()
