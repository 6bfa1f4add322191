"""Measures the time from exec to serving, and that of the doctor."""

import resource
import shutil
import subprocess
import time

from subjects.figures import Row, grouped, median, table
from subjects.harness import Bench, workspaced


def run_start(bench: Bench) -> tuple[str, list[Row]]:
    rows = [
        row for count in bench.sizes.workspaces for row in measure_starts(bench, count)
    ]
    lines = []
    for (count,), group in grouped(rows, "workspaces").items():
        cells = [f"{count:,}"]
        for kind in ("first", "second", "parse"):
            seconds = [row["seconds"] for row in group if row["kind"] == kind]
            spread = (
                f" ({min(seconds):.2f} to {max(seconds):.2f})"
                if len(seconds) > 1
                else ""
            )
            cells.append(f"{median(seconds):.2f}{spread}")
        lines.append(cells)
    head = [
        "workspaces",
        "first start, s",
        "second start, s",
        "yaml-cpp alone, one thread, s",
    ]
    return table(head, lines), rows


def measure_starts(bench: Bench, count: int) -> list[Row]:
    """Measures starts on a new tree, which is still in the page cache."""
    base = bench.work / f"tree-{count}"
    subprocess.run(
        [bench.program("many_workspaces"), "make", base, str(count)], check=True
    )
    rows: list[Row] = []

    def add(kind: str, seconds: float) -> None:
        rows.append({"workspaces": count, "kind": kind, "seconds": seconds})

    for _ in range(bench.sizes.starts):
        (base / ".workspaced/checkpoint").unlink(missing_ok=True)
        for kind in ("first", "second"):
            with workspaced(bench, base) as server:
                add(kind, server.start_seconds)
    [parsed] = bench.rows("many_workspaces", "parse", base)
    assert parsed["records"] == count, parsed
    add("parse", parsed["seconds"])
    shutil.rmtree(base)
    return rows


def run_doctor(bench: Bench) -> tuple[str, list[Row]]:
    """Measures the doctor on a base that is in the page cache."""
    count = bench.sizes.workspaces[0]
    base = bench.work / "tree"
    subprocess.run(
        [bench.program("many_workspaces"), "make", base, str(count)], check=True
    )
    rows: list[Row] = []
    # The first round only warms up.
    for number in range(bench.sizes.starts + 3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        subprocess.run(
            [bench.workspaced, "doctor", "--base", base],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if number > 0:
            rows.append({"round": number, "seconds": seconds, "cpu_seconds": cpu})
    cells = [f"{count:,}"]
    for key in ("seconds", "cpu_seconds"):
        values = [row[key] for row in rows]
        cells.append(f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    return table(["workspaces", "doctor, s", "CPU, s"], [cells]), rows
