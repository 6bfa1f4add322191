"""Runs the benchmarks and prints their tables in Markdown; keeps the tables and the raw figures below build/bench.

Usage: run.py [--quick] [--build DIR] [--work DIR] [--readme] [NAME...], a NAME being get, ensure, list, commit,
start, scan, artifacts, files, original, client or, with .toolkits/bin/python, provider; all of them if none is given.
With --readme, the tables of README.md are replaced by the new ones.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket as socketlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPO = HERE.parents[1]
# MLflow, DVC, BentoML and Evidently: `make toolkits`.
TOOLKITS = REPO / ".toolkits/bin/python"

Row = dict[str, object]


@dataclass(frozen=True)
class Sizes:
    """How much is measured: rounds of each kind, their length, and the numbers of workspaces to start with."""

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
        """Runs one of the programs; what it prints is a JSON object a line."""
        command = [self.program(program), *map(str, args)]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Running:
    """A server, and how long it took from its start to its first line, with which it says that it serves."""

    process: subprocess.Popen[str]
    address: str
    start_seconds: float

    def target(self, name: str) -> str:
        return f"--target={name},{self.process.pid},{self.address}"


@contextlib.contextmanager
def running(command: list[object], address: str) -> Iterator[Running]:
    """Starts a server that prints a line when it serves; ends it with SIGTERM and waits for it."""
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


def workspaced(bench: Bench, base: Path, *args: str) -> contextlib.AbstractContextManager[Running]:
    return running([bench.workspaced, "--base", base, *args], f"unix:{base}/.workspaced/socket")


# --- Calls through a server, against a server that does nothing -----------------------------------------------------


def measure_calls(bench: Bench, method: str) -> list[Row]:
    """Of our servers one logs every call, as by default, and one none: the empty server does not log either."""
    with contextlib.ExitStack() as stack:
        ours = {
            name: stack.enter_context(workspaced(bench, bench.work / name.replace(" ", "-"), "--log-calls", calls))
            for name, calls in (("no log", "off"), ("with log", "all"))
        }
        model = ours["no log"]
        bench.rows("rpc_bench", model.target("model"), "--prepare")
        address = f"unix:{bench.work}/empty.socket"
        command = [bench.program("empty_server"), address, model.address, "project-000000"]
        empty = stack.enter_context(running(command, address))
        targets = [empty.target("empty"), *(server.target(name) for name, server in ours.items())]
        sizes = ["--rounds", bench.sizes.rounds, "--round-ms", bench.sizes.round_ms]
        return bench.rows("rpc_bench", *targets, "--method", method, *sizes)


def calls_table(method: str, rows: list[Row]) -> str:
    lines = []
    for (depth, target), group in grouped(rows, "depth", "target").items():
        cells = [
            depth,
            {"empty": "empty handler", "no log": "workspaced, --log-calls off"}.get(target, "workspaced"),
            f"{median(per_second(row) for row in group):,.0f}",
            ratio(per_second, rows, target, "empty", depth=depth),
            f"{median(cpu_us(row) for row in group):.1f}",
            ratio(cpu_us, rows, target, "empty", depth=depth),
            f"{median(row['p50_us'] for row in group):,.0f}",
            f"{median(row['p99_us'] for row in group):,.0f}",
        ]
        lines.append(cells)
    head = ["depth", f"{method} by", "calls/s", "of empty", "server CPU µs/call", "of empty", "p50 µs", "p99 µs"]
    return table(head, lines)


def run_get(bench: Bench) -> tuple[str, list[Row]]:
    rows = measure_calls(bench, "get")
    return calls_table("Get", rows), rows


def run_ensure(bench: Bench) -> tuple[str, list[Row]]:
    rows = measure_calls(bench, "ensure")
    return calls_table("Ensure", rows), rows


# --- Lists of many --------------------------------------------------------------------------------------------------


def run_list(bench: Bench) -> tuple[str, list[Row]]:
    count = bench.sizes.workspaces[-1]
    base = bench.work / f"tree-{count}"
    subprocess.run([bench.program("many_workspaces"), "make", base, str(count)], check=True)
    sizes = ["--rounds", bench.sizes.rounds, "--round-ms", 4 * bench.sizes.round_ms]
    with workspaced(bench, base) as server:
        address = f"unix:{bench.work}/empty.socket"
        command = [bench.program("empty_server"), address, server.address, "project-000000"]
        with running(command, address) as empty:
            targets = [empty.target("empty"), server.target("with log")]
            rows = bench.rows("rpc_bench", *targets, "--method", "list", "--depths", "1,8", *sizes)
        rows += bench.rows("rpc_bench", server.target("with log"), "--method", "filter", "--depths", "1", *sizes)
    pages = calls_table(f"a page of 1,000 of {count:,}", [row for row in rows if row["method"] == "list"])
    filtered = [row for row in rows if row["method"] == "filter"]
    milliseconds = median(row["p50_us"] for row in filtered) / 1e3
    return f"{pages}\n\nThe first page of those that match a filter, of {count:,}: {milliseconds:.1f} ms.", rows


# --- Durable changes, against the bare system calls -----------------------------------------------------------------


def run_commit(bench: Bench) -> tuple[str, list[Row]]:
    base = bench.work / "commit-server"
    with workspaced(bench, base) as server:
        sizes = ["--rounds", bench.sizes.rounds, "--round-ms", bench.sizes.commit_round_ms]
        rows = bench.rows("commit_bench", "--dir", bench.work / "commit", "--server", server.address, *sizes)
    lines = []
    for (method, threads, target), group in sorted(grouped(rows, "method", "threads", "target").items()):
        cells = [
            method,
            threads,
            target,
            f"{median(per_second(row) for row in group):,.0f}",
            ratio(per_second, rows, target, "bare", method=method, threads=threads),
        ]
        lines.append(cells)
    return table(["change", "threads", "by", "changes/s", "of bare calls"], lines), rows


# --- From exec to serving -------------------------------------------------------------------------------------------


def run_start(bench: Bench) -> tuple[str, list[Row]]:
    rows = [row for count in bench.sizes.workspaces for row in measure_starts(bench, count)]
    lines = []
    for (count,), group in grouped(rows, "workspaces").items():
        cells = [f"{count:,}"]
        for kind in ("first", "second", "parse"):
            seconds = [row["seconds"] for row in group if row["kind"] == kind]
            spread = f" ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else ""
            cells.append(f"{median(seconds):.2f}{spread}")
        lines.append(cells)
    head = ["workspaces", "first start, s", "second start, s", "yaml-cpp alone, one thread, s"]
    return table(head, lines), rows


def measure_starts(bench: Bench, count: int) -> list[Row]:
    """The tree was just made, so that the page cache is warm."""
    base = bench.work / f"tree-{count}"
    subprocess.run([bench.program("many_workspaces"), "make", base, str(count)], check=True)
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


# --- Counting, against the bare system calls, tools and the original's way -------------------------------------------

Tool = tuple[str, str, list[object]]  # What it counts, its name, its command.


def run_scan(bench: Bench) -> tuple[str, list[Row]]:
    directories, files = bench.sizes.scan_tree
    tree = bench.work / "tree"
    bench.rows("scan_bench", "make", tree, directories, files)
    rows: list[Row] = []
    for number in range(bench.sizes.scan_rounds):  # A round of each, and then the next.
        rows += [row | {"round": number} for row in bench.rows("scan_bench", "run", tree, 1)]
        rows += [measure_tool(tool, number) for tool in tools(tree)]
    shutil.rmtree(tree)
    statuses = measure_statuses(bench)
    text = f"{files:,} files in {directories:,} directories:\n\n{scan_table(rows)}\n\n"
    text += f"All statuses of {bench.sizes.statuses:,} workspaces:\n\n{statuses_table(statuses)}"
    return text, rows + statuses


def tools(tree: Path) -> list[Tool]:
    """Those that are installed."""
    known: list[Tool] = [
        ("counts", "find -type f", ["find", tree, "-type", "f"]),
        ("counts", "fdfind --type f", ["fdfind", "--type", "f", "--unrestricted", ".", tree]),
        ("counts", "du -s", ["du", "-s", tree]),
        ("counts", "rglob in Python", [sys.executable, HERE / "original_status.py", "tree", tree]),
        ("bytes", "du -sb", ["du", "-sb", tree]),
        ("bytes", "gdu", ["gdu", "--non-interactive", "--no-progress", "--summarize", tree]),
    ]
    return [tool for tool in known if shutil.which(str(tool[2][0]))]


def measure_tool(tool: Tool, number: int) -> Row:
    what, name, command = tool
    start = time.perf_counter()
    # Through a pipe: some tools do less work when nobody reads.
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout
    seconds = time.perf_counter() - start
    if command[0] == sys.executable:  # It has a clock of its own, so that Python's start does not count.
        seconds = json.loads(output)["seconds"]
    return {"what": what, "target": name, "round": number, "seconds": seconds}


def scan_table(rows: list[Row]) -> str:
    """`ours` is what all others are divided by."""
    lines = []
    for (what, target), group in sorted(grouped(rows, "what", "target").items(), reverse=True):
        cells = [what, target, f"{1e3 * median(row['seconds'] for row in group):,.1f}"]
        lines.append([*cells, ratio(seconds, rows, target, "ours", what=what)])
    return table(["of", "by", "ms", "of ours"], lines)


def measure_statuses(bench: Bench) -> list[Row]:
    base = bench.work / "statuses"
    subprocess.run([bench.program("many_workspaces"), "make", base, str(bench.sizes.statuses)], check=True)
    rows: list[Row] = []
    with workspaced(bench, base) as server:
        for number in range(min(bench.sizes.scan_rounds, 3)):
            rows += [row | {"round": number} for row in bench.rows("scan_bench", "stream", server.address, 1)]
            # A tenth of them, as they would take minutes.
            some = max(1, bench.sizes.statuses // 10)
            tool: Tool = ("statuses", "original", [sys.executable, HERE / "original_status.py", "statuses", base, some])
            row = measure_tool(tool, number)
            rows.append(row | {"seconds": row["seconds"] * bench.sizes.statuses / some})
    shutil.rmtree(base)
    return rows


def statuses_table(rows: list[Row]) -> str:
    names = {"original": "the original's loop in Python", "with sizes": "ours", "counts only": "ours, counts only"}
    lines = [
        [
            names[str(target)],
            f"{1e3 * median(row['seconds'] for row in group):,.0f}",
            ratio(speed, rows, target, "original"),
        ]
        for (target,), group in grouped(rows, "target").items()
    ]
    return table(["by", "ms", "times as fast as the original"], lines)


# --- Artifacts, against streams that carry as much and do nothing with it ---------------------------------------------

SLOW_READERS = 64


def run_artifacts(bench: Bench) -> tuple[str, list[Row]]:
    """One server keeps its files on the disk that is measured, one in memory, where a sync takes no time."""
    with contextlib.ExitStack() as stack:
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlops-bench-", dir="/dev/shm")))
        port = free_port()
        disk = stack.enter_context(workspaced(bench, bench.work / "artifacts", "--listen", f"127.0.0.1:{port}"))
        ram = stack.enter_context(workspaced(bench, memory / "b"))
        bench.rows("rpc_bench", disk.target("model"), "--prepare")
        empty_port = free_port()
        socket = f"unix:{bench.work}/empty.socket"
        command = [bench.program("empty_server"), f"{socket},127.0.0.1:{empty_port}", disk.address, "project-000000"]
        stack.enter_context(running(command, socket))
        empty_tcp, disk_tcp = f"127.0.0.1:{empty_port}", f"127.0.0.1:{port}"
        rows = measure_transfers(bench, [("empty", socket), ("disk", disk.address), ("memory", ram.address)], "unix")
        rows += measure_transfers(bench, [("empty", empty_tcp), ("disk", disk_tcp)], "tcp")
        rows += measure_by_path(bench, disk.address)
        rows += measure_small(bench, socket, disk.address)
        rows += measure_syncs(bench)
    rows += measure_slow_readers(bench)
    return artifacts_text(bench, rows), rows


def free_port() -> int:
    with socketlib.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure_transfers(bench: Bench, sides: list[tuple[str, str]], network: str) -> list[Row]:
    size = bench.sizes.artifact_bytes
    local = bench.work / "local"
    local.write_bytes(b"")
    with local.open("r+b") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    works: list[tuple[str, list[object]]] = [
        ("download", [size]),
        ("file-download", [size, bench.work / "target"]),
        ("parallel-download", [size]),
        ("upload", [size]),
        ("file-upload", [size, local]),
        ("parallel-upload", [size]),
    ]
    rows: list[Row] = []
    for work, args in works:
        # A stub's stream from and to an empty handler is what gRPC can do.
        first, *others = sides
        plain = [("plain", first[1])] if work in ("download", "upload") else []
        if work == "upload":
            plain.append(("written", first[1]))
        for number in range(-1, bench.sizes.artifact_rounds):  # The first is to warm up.
            for target, address in rotated([*plain, first, *others], number):
                mode = {"plain": f"plain-{work}", "written": "write"}.get(target, work)
                further = [bench.work / "written"] if target == "written" else []
                [row] = bench.rows("artifact_bench", mode, address, "project-000000", *args, *further)
                if number >= 0:
                    rows.append(row | {"work": work, "network": network, "target": target, "round": number})
    for file in (local, bench.work / "target", bench.work / "written"):
        file.unlink(missing_ok=True)
    return rows


def measure_by_path(bench: Bench, address: str) -> list[Row]:
    size, source, target = bench.sizes.artifact_bytes, bench.work / "local", bench.work / "target"
    with source.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    sides: dict[str, list[object]] = {
        "copy": [size, source, target],
        "path-download": [size, target],
        "path-upload": [size, source],
    }
    rows: list[Row] = []
    for number in range(-1, bench.sizes.artifact_rounds):  # The first is to warm up.
        for mode, _ in rotated([(mode, address) for mode in sides], number):
            [row] = bench.rows("artifact_bench", mode, address, "project-000000", *sides[mode])
            if number >= 0:
                rows.append(row | {"work": "by path", "target": mode, "round": number})
    for file_ in (source, target):
        file_.unlink()
    return rows


def rotated(sides: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Nobody is always the first."""
    first = number % len(sides)
    return sides[first:] + sides[:first]


def measure_small(bench: Bench, empty: str, ours: str) -> list[Row]:
    rows: list[Row] = []
    for number in range(min(bench.sizes.artifact_rounds, 3)):
        for target, mode, address in (("empty", "plain-small", empty), ("disk", "small", ours)):
            [row] = bench.rows("artifact_bench", mode, address, "project-000000", bench.sizes.small_files)
            rows.append(row | {"work": "small", "network": "unix", "target": target, "round": number})
    return rows


def measure_syncs(bench: Bench) -> list[Row]:
    """What the disk takes for as many bytes at once."""
    rows: list[Row] = []
    block = os.urandom(1 << 20)
    for number in range(bench.sizes.artifact_rounds):
        with (bench.work / "synced").open("wb") as file:
            start = time.perf_counter()
            for _ in range(bench.sizes.artifact_bytes >> 20):
                file.write(block)
            file.flush()
            written = time.perf_counter()
            os.fsync(file.fileno())
            end = time.perf_counter()
        rows.append({"work": "fsync", "round": number, "write_seconds": written - start, "seconds": end - written})
    (bench.work / "synced").unlink()
    return rows


def peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def measure_slow_readers(bench: Bench) -> list[Row]:
    """A server of its own, which has done nothing else: what it took at most is never given back."""
    with workspaced(bench, bench.work / "slow") as server:
        size = bench.sizes.artifact_bytes
        bench.rows("artifact_bench", "download", server.address, "project-000000", size)
        idle = peak_kib(server.process.pid)
        command = [bench.program("artifact_bench"), "slow", server.address, "project-000000", SLOW_READERS, size]
        with running(command, server.address):
            time.sleep(2)  # Until buffers are full.
            peak = peak_kib(server.process.pid)
    return [{"work": "slow", "idle_kib": idle, "peak_kib": peak}]


def artifacts_text(bench: Bench, rows: list[Row]) -> str:
    size = bench.sizes.artifact_bytes
    lines = []
    transfers = [row for row in rows if row["work"] not in ("by path", "small", "fsync", "slow")]
    names = {
        "plain": "empty handler, generated stub",
        "empty": "empty handler",
        "written": "no stream: hashed, written and synced",
        "disk": "workspaced",
        "memory": "workspaced, files in memory",
    }
    works = {
        "download": "download",
        "file-download": "download into a file",
        "parallel-download": "download of 64 files at once",
        "upload": "upload",
        "file-upload": "upload of a file",
        "parallel-upload": "upload of 64 files at once",
    }
    for (work, network, target), group in grouped(transfers, "work", "network", "target").items():
        rate = median(row["number"] / row["seconds"] for row in group) / (1 << 20)
        of_empty = ratio(speed, transfers, target, "empty", work=work, network=network)
        lines.append([works[str(work)], network, names[str(target)], f"{rate:,.0f}", of_empty])
    text = f"{size >> 20:,} MiB in all:\n\n" + table(["", "over", "by", "MiB/s", "of empty"], lines)
    text += f"\n\nOver the Unix socket, an upload takes {of_both(transfers)} of the time of an empty stream and of "
    text += "hashing, writing and syncing as much, one after the other."
    by_path = [row for row in rows if row["work"] == "by path"]
    paths = {
        "copy": "`cp`, synced",
        "path-download": "download by path, synced",
        "path-upload": "upload by path, hashed and synced",
    }
    lines = []
    for (target,), group in grouped(by_path, "target").items():
        rate = median(row["number"] / row["seconds"] for row in group) / (1 << 20)
        lines.append([paths[str(target)], f"{rate:,.0f}", ratio(speed, by_path, target, "copy")])
    text += "\n\nThe same file on the same host, by its path:\n\n" + table(["by", "MiB/s", "of `cp`"], lines)
    small = [row for row in rows if row["work"] == "small"]
    lines = [
        [
            names[str(target)],
            f"{median(row['number'] / row['seconds'] for row in group):,.0f}",
            ratio(speed, small, target, "empty"),
        ]
        for (target,), group in grouped(small, "target").items()
    ]
    text += f"\n\n{bench.sizes.small_files:,} files of 10 KiB, one after the other:\n\n"
    text += table(["by", "files/s", "of empty"], lines)
    syncs = [row for row in rows if row["work"] == "fsync"]
    text += f"\n\nTo write as many bytes into a file takes {median(row['write_seconds'] for row in syncs):.2f} s here, "
    text += f"and to sync it then {median(row['seconds'] for row in syncs):.2f} s."
    [slow] = [row for row in rows if row["work"] == "slow"]
    text += (
        f"\n\nPeak memory of a server that was read from once: {slow['idle_kib'] / 1024:.0f} MiB; with {SLOW_READERS} "
    )
    text += f"readers that stopped reading: {slow['peak_kib'] / 1024:.0f} MiB, "
    return text + f"{(slow['peak_kib'] - slow['idle_kib']) / 1024 / SLOW_READERS:.1f} MiB more for each."


def of_both(transfers: list[Row]) -> str:
    """What an upload takes of what its two halves take apart."""
    ratios = []
    for group in grouped(
        [row for row in transfers if row["work"] == "upload" and row["network"] == "unix"], "round"
    ).values():
        seconds = {row["target"]: row["seconds"] for row in group}
        ratios.append(seconds["disk"] / (seconds["empty"] + seconds["written"]))
    return f"{median(ratios):.2f}"


# --- The original's way ---------------------------------------------------------------------------------------------


def run_original(bench: Bench) -> tuple[str, list[Row]]:
    count, rounds = bench.sizes.original, min(bench.sizes.rounds, 5)
    command = [sys.executable, HERE / "original_way.py", bench.work / "original", str(count), str(rounds)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in output.splitlines()]
    lines = [
        [method, f"{median(row['per_second'] for row in group):,.1f}"]
        for (method,), group in grouped(rows, "method").items()
    ]
    return table(["mkdir and PyYAML, no fsync", "times/s"], lines), rows


# --- Files through Python ---------------------------------------------------------------------------------------------


def run_files(bench: Bench) -> tuple[str, list[Row]]:
    if not TOOLKITS.exists():
        return f"Left out: there is no {TOOLKITS}; `make toolkits` makes it.", []
    size, small = bench.sizes.artifact_bytes, bench.sizes.small_files // 10
    socket = f"unix:{bench.work}/empty.socket"
    directory = bench.work / "files"
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(workspaced(bench, bench.work / "base"))
        bench.rows("rpc_bench", ours.target("model"), "--prepare")
        stack.enter_context(running([bench.program("empty_server"), socket, ours.address, "project-000000"], socket))
        sizes = [size, small, bench.sizes.artifact_rounds]
        rows = toolkit_rows("files.py", directory, socket, ours.address, *sizes)
    works = {
        "read": "read",
        "upload": "upload of a file",
        "download": "download into a file",
        "same host": "download by path, synced",
        "same host up": "upload by path, hashed and synced",
        "small": f"upload of {small:,} files of 10 KiB",
    }
    names = {
        "bare": "empty handler, generated stub",
        "hash": "SHA-256 alone",
        "ours": "workspaced",
        "mlflow": "MLflow over HTTP",
    }
    lines = []
    for (what, target), group in grouped(rows, "what", "target").items():
        name = "cp, synced" if str(what).startswith("same host") and target == "bare" else names[str(target)]
        total = small * 10 / 1024 if what == "small" else size / (1 << 20)
        rate = total / median(row["seconds"] for row in group)
        lines.append([works[str(what)], name, f"{rate:,.1f}", ratio(speed, rows, target, "ours", what=what)])
    return table(["", "by", "MiB/s", "of ours"], lines), rows


# --- MLOpsClient, against what it stands on -------------------------------------------------------------------------


def run_client(bench: Bench) -> tuple[str, list[Row]]:
    if not TOOLKITS.exists():
        return f"Left out: there is no {TOOLKITS}; `make toolkits` makes it.", []
    base, rounds, calls = bench.work / "mlops/workspace", bench.sizes.rounds, bench.sizes.client_calls
    with workspaced(bench, base):
        rows = toolkit_rows("client.py", "opening", base, rounds, 10 * calls)
        rows += toolkit_rows("client.py", "metrics", base, rounds, calls)
    rows += toolkit_rows("client.py", "imports", bench.sizes.imports)
    sides = [
        ("opening", "the stub's GetWorkspace", "MLOpsClient(manager)"),
        ("opening anew", "the stub's GetWorkspace, a channel each", "MLOpsClient.from_project"),
        *((f"{count} metrics", "MlflowClient.log_batch", "log_metrics") for count in (1, 10, 100)),
    ]
    lines = []
    for what, bare, ours in sides:
        for target, name in (("bare", bare), ("client", ours)):
            group = [per_call(row) for row in rows if (row["what"], row["target"]) == (what, target)]
            cells = [what, name, f"{1e3 * median(group):.2f}", ratio(per_call, rows, target, "bare", what=what)]
            lines.append(cells)
    calls_text = table(["what", "by", "ms", "of bare"], lines)
    names = {"original": "mlflow, dvc.repo, bentoml, evidently", "mlflow": "mlflow", "client": "mlops.client"}
    imports = []
    for target, name in names.items():
        group = [row["seconds"] for row in rows if (row["what"], row["target"]) == ("import", target)]
        imports.append([name, f"{median(group):.2f}", ratio(seconds, rows, target, "original", what="import")])
    return f"{calls_text}\n\n{table(['import of', 's', 'of all four'], imports)}", rows


def toolkit_rows(script: str, *args: object) -> list[Row]:
    """What a script beside this one prints; as a process of its own, in the environment with the toolkits."""
    command = [TOOLKITS, HERE / script, *map(str, args)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def per_call(row: Row) -> float:
    return row["seconds"] / row["calls"]


# --- Figures --------------------------------------------------------------------------------------------------------


def median(values: Iterator[float] | list[float]) -> float:
    return statistics.median(values)


def per_second(row: Row) -> float:
    return row["calls"] / row["seconds"]


def seconds(row: Row) -> float:
    return row["seconds"]


def speed(row: Row) -> float:
    return 1 / row["seconds"]


def grouped(rows: list[Row], *keys: str) -> dict[tuple[object, ...], list[Row]]:
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def cpu_us(row: Row) -> float:
    return 1e6 * row["server_cpu_seconds"] / row["calls"]


def ratio(figure: Callable[[Row], float], rows: list[Row], target: str, yardstick: str, **where: object) -> str:
    """The median of the ratios within each round, whose sides were measured a moment apart; quartiles in brackets."""
    if target == yardstick:
        return "1"
    rounds = grouped([row for row in rows if all(row[key] == value for key, value in where.items())], "round")
    ratios = []
    for group in rounds.values():
        figures = {row["target"]: figure(row) for row in group}
        ratios.append(figures[target] / figures[yardstick])
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{median(ratios):.2f} ({low:.2f} to {high:.2f})"


def table(head: list[str], lines: list[list[object]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def machine(work: Path) -> str:
    """In what circumstances the figures were got."""
    cpus = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    device, kind = subprocess.check_output(["df", "--output=source,fstype", work], text=True).split()[-2:]
    host = f"{len(cpus)} cores of {cpus[0]}, Linux {os.uname().release}, {kind} on {device}"
    return f"{time.strftime('%Y-%m-%d %H:%M')}; {host}; load average before: {os.getloadavg()[0]:.1f}."


def replace_table(name: str, text: str) -> None:
    """In README.md a table stands between two comments with its name."""
    readme = HERE / "README.md"
    before, begin, rest = readme.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    assert begin and end, f"no place for {name} in {readme}"
    readme.write_text(f"{before}{begin}{text}\n{end}{after}")


BENCHES: dict[str, Callable[[Bench], tuple[str, list[Row]]]] = {
    "get": run_get,
    "ensure": run_ensure,
    "list": run_list,
    "commit": run_commit,
    "start": run_start,
    "scan": run_scan,
    "artifacts": run_artifacts,
    "files": run_files,
    "original": run_original,
    "client": run_client,
}


def run_provider(bench: Bench) -> tuple[str, list[Row]]:
    """Our workspaces in an MLflow server, against MLflow's own."""
    sizes = [min(1000, bench.sizes.workspaces[0]), bench.sizes.rounds, 2 * bench.sizes.round_ms]
    command = [sys.executable, HERE / "mlflow_provider.py", bench.work / "provider", *sizes]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in output.splitlines()]
    lines = []
    for (method, target), group in grouped(rows, "method", "target").items():
        name = {"sql": "MLflow's own provider, SQLite", "ours": "ours"}[str(target)]
        milliseconds = 1e3 / median(per_second(row) for row in group)
        lines.append([method, name, f"{milliseconds:.2f}", ratio(per_second, rows, target, "sql", method=method)])
    return table([f"of {sizes[0]:,} workspaces", "by", "ms", "times as fast as MLflow's own"], lines), rows


if importlib.util.find_spec("mlflow"):  # By .toolkits/bin/python.
    BENCHES["provider"] = run_provider


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure workspaced against what it could be at best.")
    parser.add_argument(
        "--quick", action="store_true", help="everything at its smallest: no figures, only a smoke test"
    )
    parser.add_argument("--build", type=Path, default=REPO / "build", help="CMake's build directory")
    parser.add_argument("--work", type=Path, default="/tmp", help="on the file system to measure; a short path [/tmp]")
    parser.add_argument("--readme", action="store_true", help="replace the tables of README.md by the new ones")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHES)}")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = args.build / "bench"
    results.mkdir(exist_ok=True)
    for name in args.names or BENCHES:
        with tempfile.TemporaryDirectory(prefix="mlops-bench-", dir=args.work) as work:
            where = machine(Path(work))
            figures, rows = BENCHES[name](Bench(args.build, Path(work), QUICK if args.quick else FULL))
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
