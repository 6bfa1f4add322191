"""Measures uploads and downloads, compared with streams that discard their data."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from subjects.figures import Row, grouped, median, ratio, speed, table
from subjects.harness import Bench, free_port, running, workspaced

SLOW_READERS = 64


def run_artifacts(bench: Bench) -> tuple[str, list[Row]]:
    """Runs all measurements of artifacts.

    One server has its files on the measured disk, another in memory, where a sync takes
    no time.
    """
    with contextlib.ExitStack() as stack:
        memory = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="mlops-bench-", dir="/dev/shm")
            )
        )
        port = free_port()
        disk = stack.enter_context(
            workspaced(bench, bench.work / "artifacts", "--listen", f"127.0.0.1:{port}")
        )
        ram = stack.enter_context(workspaced(bench, memory / "b"))
        bench.rows("rpc_bench", disk.target("model"), "--prepare")
        empty_port = free_port()
        socket = f"unix:{bench.work}/empty.socket"
        command = [
            bench.program("empty_server"),
            f"{socket},127.0.0.1:{empty_port}",
            disk.address,
            "project-000000",
        ]
        stack.enter_context(running(command, socket))
        empty_tcp, disk_tcp = f"127.0.0.1:{empty_port}", f"127.0.0.1:{port}"
        rows = measure_transfers(
            bench,
            [("empty", socket), ("disk", disk.address), ("memory", ram.address)],
            "unix",
        )
        rows += measure_transfers(
            bench, [("empty", empty_tcp), ("disk", disk_tcp)], "tcp"
        )
        rows += measure_by_path(bench, disk.address)
        rows += measure_small(bench, socket, disk.address)
        rows += measure_syncs(bench)
    rows += measure_slow_readers(bench)
    return artifacts_text(bench, rows), rows


def measure_transfers(
    bench: Bench, sides: list[tuple[str, str]], network: str
) -> list[Row]:
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
        # A generated stub's stream to an empty handler shows the limit of gRPC.
        first, *others = sides
        plain = [("plain", first[1])] if work in ("download", "upload") else []
        if work == "upload":
            plain.append(("written", first[1]))
        # Round -1 is a warm-up.
        for number in range(-1, bench.sizes.artifact_rounds):
            for target, address in rotated([*plain, first, *others], number):
                mode = {"plain": f"plain-{work}", "written": "write"}.get(target, work)
                further = [bench.work / "written"] if target == "written" else []
                [row] = bench.rows(
                    "artifact_bench", mode, address, "project-000000", *args, *further
                )
                if number >= 0:
                    rows.append(
                        row
                        | {
                            "work": work,
                            "network": network,
                            "target": target,
                            "round": number,
                        }
                    )
    for file in (local, bench.work / "target", bench.work / "written"):
        file.unlink(missing_ok=True)
    return rows


def measure_by_path(bench: Bench, address: str) -> list[Row]:
    size, source, target = (
        bench.sizes.artifact_bytes,
        bench.work / "local",
        bench.work / "target",
    )
    with source.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    sides: dict[str, list[object]] = {
        "copy": [size, source, target],
        "path-download": [size, target],
        "path-upload": [size, source],
    }
    rows: list[Row] = []
    # Round -1 is a warm-up.
    for number in range(-1, bench.sizes.artifact_rounds):
        for mode, _ in rotated([(mode, address) for mode in sides], number):
            [row] = bench.rows(
                "artifact_bench", mode, address, "project-000000", *sides[mode]
            )
            if number >= 0:
                rows.append(row | {"work": "by path", "target": mode, "round": number})
    for file_ in (source, target):
        file_.unlink()
    return rows


def rotated(sides: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Rotates the sides, so that each of them is first in some rounds."""
    first = number % len(sides)
    return sides[first:] + sides[:first]


def measure_small(bench: Bench, empty: str, ours: str) -> list[Row]:
    rows: list[Row] = []
    for number in range(min(bench.sizes.artifact_rounds, 3)):
        for target, mode, address in (
            ("empty", "plain-small", empty),
            ("disk", "small", ours),
        ):
            [row] = bench.rows(
                "artifact_bench",
                mode,
                address,
                "project-000000",
                bench.sizes.small_files,
            )
            rows.append(
                row
                | {
                    "work": "small",
                    "network": "unix",
                    "target": target,
                    "round": number,
                }
            )
    return rows


def measure_syncs(bench: Bench) -> list[Row]:
    """Measures how long it takes to write and sync the same number of bytes."""
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
        rows.append(
            {
                "work": "fsync",
                "round": number,
                "write_seconds": written - start,
                "seconds": end - written,
            }
        )
    (bench.work / "synced").unlink()
    return rows


def peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(
        next(
            line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")
        )
    )


def measure_slow_readers(bench: Bench) -> list[Row]:
    """Measures the peak memory of readers that stall.

    Uses a fresh server, because the peak of a process never falls.
    """
    with workspaced(bench, bench.work / "slow") as server:
        size = bench.sizes.artifact_bytes
        bench.rows("artifact_bench", "download", server.address, "project-000000", size)
        idle = peak_kib(server.process.pid)
        command = [
            bench.program("artifact_bench"),
            "slow",
            server.address,
            "project-000000",
            SLOW_READERS,
            size,
        ]
        with running(command, server.address):
            # Give the buffers time to fill.
            time.sleep(2)
            peak = peak_kib(server.process.pid)
    return [{"work": "slow", "idle_kib": idle, "peak_kib": peak}]


NAMES = {
    "plain": "empty handler, generated stub",
    "empty": "empty handler",
    "written": "no stream: hashed, written and synced",
    "disk": "workspaced",
    "memory": "workspaced, files in memory",
}
WORKS = {
    "download": "download",
    "file-download": "download into a file",
    "parallel-download": "download of 64 files at once",
    "upload": "upload",
    "file-upload": "upload of a file",
    "parallel-upload": "upload of 64 files at once",
}
PATHS = {
    "copy": "`cp`, synced",
    "path-download": "download by path, synced",
    "path-upload": "upload by path, hashed and synced",
}


def artifacts_text(bench: Bench, rows: list[Row]) -> str:
    transfers = [row for row in rows if row["work"] in WORKS]
    by_path, small, syncs, [slow] = (
        [row for row in rows if row["work"] == work]
        for work in ("by path", "small", "fsync", "slow")
    )
    peak_mib, idle_mib = slow["peak_kib"] / 1024, slow["idle_kib"] / 1024
    return "\n\n".join(
        [
            f"Each transfer moves {bench.sizes.artifact_bytes >> 20:,} MiB:",
            transfers_table(transfers),
            "An upload over the Unix socket streams, and at the same time hashes, "
            f"writes and syncs. It takes\n{of_both(transfers)} of the sum of the times "
            "that these two parts take separately.",
            "Direct access to a file of the same size, on the server's host:",
            by_path_table(by_path),
            f"Uploads of {bench.sizes.small_files:,} files of 10 KiB, one at a time:",
            small_table(small),
            "Writing the same number of bytes to a file takes "
            f"{median(row['write_seconds'] for row in syncs):.2f} s, and syncing it "
            f"takes another {median(row['seconds'] for row in syncs):.2f} s.",
            f"A server's peak memory is {idle_mib:.0f} MiB after one download, and "
            f"{peak_mib:.0f} MiB with {SLOW_READERS} stalled readers:\n"
            f"{(peak_mib - idle_mib) / SLOW_READERS:.1f} MiB for each reader.",
        ]
    )


def mib_per_second(group: list[Row]) -> float:
    return median(row["number"] / row["seconds"] for row in group) / (1 << 20)


def transfers_table(rows: list[Row]) -> str:
    lines = []
    for (work, network, target), group in grouped(
        rows, "work", "network", "target"
    ).items():
        of_empty = ratio(speed, rows, target, "empty", work=work, network=network)
        lines.append(
            [
                WORKS[str(work)],
                network,
                NAMES[str(target)],
                f"{mib_per_second(group):,.0f}",
                of_empty,
            ]
        )
    return table(["transfer", "network", "by", "MiB/s", "of empty"], lines)


def by_path_table(rows: list[Row]) -> str:
    lines = [
        [
            PATHS[str(target)],
            f"{mib_per_second(group):,.0f}",
            ratio(speed, rows, target, "copy"),
        ]
        for (target,), group in grouped(rows, "target").items()
    ]
    return table(["by", "MiB/s", "of `cp`"], lines)


def small_table(rows: list[Row]) -> str:
    lines = []
    for (target,), group in grouped(rows, "target").items():
        rate = median(row["number"] / row["seconds"] for row in group)
        lines.append(
            [NAMES[str(target)], f"{rate:,.0f}", ratio(speed, rows, target, "empty")]
        )
    return table(["by", "files/s", "of empty"], lines)


def of_both(transfers: list[Row]) -> str:
    """Returns an upload's time divided by the sum of its two parts, measured alone."""
    ratios = []
    for group in grouped(
        [
            row
            for row in transfers
            if row["work"] == "upload" and row["network"] == "unix"
        ],
        "round",
    ).values():
        seconds = {row["target"]: row["seconds"] for row in group}
        ratios.append(seconds["disk"] / (seconds["empty"] + seconds["written"]))
    return f"{median(ratios):.2f}"
