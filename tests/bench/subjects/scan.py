"""Measures counting beside bare system calls, other tools and the original."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from subjects.figures import Row, grouped, median, ratio, seconds, speed, table
from subjects.harness import HERE, Bench, workspaced

# The kind of count, the tool's name, and its command.
Tool = tuple[str, str, list[object]]


def run_scan(bench: Bench) -> tuple[str, list[Row]]:
    directories, files = bench.sizes.scan_tree
    tree = bench.work / "tree"
    bench.rows("scan_bench", "make", tree, directories, files)
    rows: list[Row] = []
    # The sides alternate round by round.
    for number in range(bench.sizes.scan_rounds):
        rows += [
            row | {"round": number} for row in bench.rows("scan_bench", "run", tree, 1)
        ]
        rows += [measure_tool(tool, number) for tool in tools(tree)]
    shutil.rmtree(tree)
    statuses = measure_statuses(bench)
    text = f"{files:,} files in {directories:,} directories:\n\n{scan_table(rows)}\n\n"
    text += (
        f"All statuses of {bench.sizes.statuses:,} workspaces:\n\n"
        f"{statuses_table(statuses)}"
    )
    return text, rows + statuses


def tools(tree: Path) -> list[Tool]:
    """Returns the tools that are installed."""
    known: list[Tool] = [
        ("counts", "find -type f", ["find", tree, "-type", "f"]),
        (
            "counts",
            "fdfind --type f",
            ["fdfind", "--type", "f", "--unrestricted", ".", tree],
        ),
        ("counts", "du -s", ["du", "-s", tree]),
        (
            "counts",
            "rglob in Python",
            [sys.executable, HERE / "original_status.py", "tree", tree],
        ),
        ("bytes", "du -sb", ["du", "-sb", tree]),
        (
            "bytes",
            "gdu",
            ["gdu", "--non-interactive", "--no-progress", "--summarize", tree],
        ),
    ]
    return [tool for tool in known if shutil.which(str(tool[2][0]))]


def measure_tool(tool: Tool, number: int) -> Row:
    what, name, command = tool
    start = time.perf_counter()
    # Use a pipe, because some tools do less work when their output is discarded.
    output = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE
    ).stdout
    seconds = time.perf_counter() - start
    # The script measures its own time, without the start of Python.
    if command[0] == sys.executable:
        seconds = json.loads(output)["seconds"]
    return {"what": what, "target": name, "round": number, "seconds": seconds}


def scan_table(rows: list[Row]) -> str:
    """Returns the table, in which `ours` is the reference."""
    lines = []
    for (what, target), group in sorted(
        grouped(rows, "what", "target").items(), reverse=True
    ):
        cells = [what, target, f"{1e3 * median(row['seconds'] for row in group):,.1f}"]
        lines.append([*cells, ratio(seconds, rows, target, "ours", what=what)])
    return table(["of", "by", "ms", "of ours"], lines)


def measure_statuses(bench: Bench) -> list[Row]:
    base = bench.work / "statuses"
    subprocess.run(
        [bench.program("many_workspaces"), "make", base, str(bench.sizes.statuses)],
        check=True,
    )
    rows: list[Row] = []
    with workspaced(bench, base) as server:
        for number in range(min(bench.sizes.scan_rounds, 3)):
            rows += [
                row | {"round": number}
                for row in bench.rows("scan_bench", "stream", server.address, 1)
            ]
            # Measure a tenth of them and scale, because all would take minutes.
            some = max(1, bench.sizes.statuses // 10)
            tool: Tool = (
                "statuses",
                "original",
                [sys.executable, HERE / "original_status.py", "statuses", base, some],
            )
            row = measure_tool(tool, number)
            rows.append(row | {"seconds": row["seconds"] * bench.sizes.statuses / some})
    shutil.rmtree(base)
    return rows


def statuses_table(rows: list[Row]) -> str:
    names = {
        "original": "the original's loop in Python",
        "with sizes": "ours",
        "counts only": "ours, counts only",
    }
    lines = [
        [
            names[str(target)],
            f"{1e3 * median(row['seconds'] for row in group):,.0f}",
            ratio(speed, rows, target, "original"),
        ]
        for (target,), group in grouped(rows, "target").items()
    ]
    return table(["by", "ms", "times as fast as the original"], lines)
