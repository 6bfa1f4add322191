"""Measures what watches cost the updates, and how many events a server delivers."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from subjects.figures import Row, cpu_us, grouped, median, ratio, table
from subjects.harness import REPO, Bench, Running, free_port, running

_FEW = 10
_NO_WATCH = "no watch"
_WATCHED = "watched"


def run_watch(bench: Bench) -> tuple[str, list[Row]]:
    """Measures updates with and without watches, and the fan-out beside etcd's."""
    updates = _measure_updates(bench)
    events = _measure_events(bench)
    text = f"{_updates_table(updates)}\n\n{_events_table(events)}"
    return text, [*updates, *events]


# --- What watches cost an update ---

_OTHERS = "others, closed loop"
_PACED = "all, 5 updates a second"
_CLOSED = "all, closed loop"


def _measure_updates(bench: Bench) -> list[Row]:
    full = bench.sizes.round_ms > 100
    watches = 1_000 if full else _FEW
    rows = []
    with (
        _workspaced(bench, _NO_WATCH) as none,
        _workspaced(bench, _WATCHED) as watched,
    ):
        targets = [
            _target(_NO_WATCH, "workspaced", none, 0),
            _target(_WATCHED, "workspaced", watched, watches),
        ]
        kinds = {
            _OTHERS: ("--others", "--updates", 1_000 if full else 4),
            _PACED: ("--interval-us", 200_000 if full else 1_000, "--updates", 10),
            _CLOSED: ("--updates", 50 if full else 4),
        }
        for kind, arguments in kinds.items():
            rounds = 11 if full else 2
            rows += [
                row | {"kind": kind}
                for row in bench.rows(
                    "watch_bench", *targets, "--rounds", rounds, *arguments
                )
            ]
    return rows


def _update_us(row: Row) -> float:
    return 1e6 * row["seconds"] / row["calls"]


def _updates_table(rows: list[Row]) -> str:
    lines = [
        [
            kind,
            target,
            f"{median(_update_us(row) for row in group):,.0f}",
            ratio(_update_us, rows, target, _NO_WATCH, kind=kind),
            f"{median(row['p99_us'] for row in group):,.0f}",
            f"{median(cpu_us(row) for row in group):,.0f}",
        ]
        for (kind, target), group in grouped(rows, "kind", "target").items()
    ]
    head = [
        "watches of",
        "server",
        "µs/update",
        "ratio",
        "p99 µs",
        "server CPU µs/update",
    ]
    return table(head, lines)


# --- Fan-out ---

# The servers that get the same updates, but have no watches.
_UNWATCHED = {name: f"{name} without watches" for name in ("workspaced", "etcd")}


def _measure_events(bench: Bench) -> list[Row]:
    full = bench.sizes.round_ms > 100
    watches = 1_000 if full else _FEW
    rows = []
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        ours = start(_workspaced(bench, "fan-out"))
        ours_unwatched = start(_workspaced(bench, "unwatched"))
        targets = [
            _target("workspaced", "workspaced", ours, watches),
            _target(_UNWATCHED["workspaced"], "workspaced", ours_unwatched, 0),
        ]
        if etcd := shutil.which("etcd", path=REPO / "build/tools"):
            peer = start(_etcd(Path(etcd), bench.work / "etcd"))
            peer_unwatched = start(_etcd(Path(etcd), bench.work / "unwatched-etcd"))
            targets += [
                _target("etcd", "etcd", peer, watches),
                _target(_UNWATCHED["etcd"], "etcd", peer_unwatched, 0),
            ]
        for connections in (10, watches) if full else (2,):
            for form in ("batched", "single"):
                rows += [
                    row | {"connections": connections, "form": form}
                    for row in bench.rows(
                        "watch_bench",
                        *targets,
                        *(("--single",) if form == "single" else ()),
                        *("--connections", connections),
                        *("--updates", 64 if full else 4, "--writers", 8),
                        *("--rounds", 7 if full else 2),
                    )
                ]
    return rows


def _events_per_cpu_second(row: Row) -> float:
    return row["events"] / row["server_cpu_seconds"]


def _events_per_fan_out_second(row: Row) -> float:
    return row["events"] / row["fan_out_cpu_seconds"]


def _with_fan_out_cpu(rows: list[Row]) -> list[Row]:
    """Subtracts the CPU time of the updates, which a server without watches takes."""
    unwatched = {
        key: median(row["server_cpu_seconds"] for row in group)
        for key, group in grouped(rows, "connections", "form", "target").items()
        if key[2] in _UNWATCHED.values()
    }
    return [
        row
        | {
            "fan_out_cpu_seconds": row["server_cpu_seconds"]
            - unwatched[row["connections"], row["form"], _UNWATCHED[str(row["target"])]]
        }
        for row in rows
        if row["target"] in _UNWATCHED
    ]


def _is_single(form: str, target: str) -> bool:
    return form == "single" and target == "workspaced"


def _events_table(rows: list[Row]) -> str:
    rows = _with_fan_out_cpu(rows)
    with_etcd = any(row["target"] == "etcd" for row in rows)

    def of_etcd(figure: Callable[[Row], float], target: str, **where: object) -> str:
        return ratio(figure, rows, target, "etcd", **where) if with_etcd else ""

    lines = []
    for (connections, form, target), group in grouped(
        rows, "connections", "form", "target"
    ).items():
        # The figures of etcd in the other runs are as good.
        if target == "etcd" and form != "batched":
            continue
        line = [
            connections,
            target + (", one event per message" if _is_single(form, target) else ""),
            f"{median(row['message_bytes'] for row in group):,.0f}",
        ]
        for figure in (_events_per_cpu_second, _events_per_fan_out_second):
            line += [
                f"{median(figure(row) for row in group):,.0f}",
                of_etcd(figure, target, connections=connections, form=form),
            ]
        line.append(
            f"{median(row['events'] / row['all_seconds'] for row in group):,.0f}"
        )
        lines.append(line)
    head = [
        "connections",
        "watched server",
        "bytes/event",
        "events per second of server CPU",
        "of etcd",
        "without the updates",
        "of etcd",
        "events/s",
    ]
    return table(head, lines)


# --- Servers ---


def _target(name: str, kind: str, server: Running, watches: int) -> str:
    return f"--target={name},{kind},{server.process.pid},{watches},{server.address}"


def _workspaced(bench: Bench, name: str) -> contextlib.AbstractContextManager[Running]:
    address = f"localhost:{free_port()}"
    base = bench.work / name.replace(" ", "-")
    command = [bench.workspaced, "--base", base, "--log-calls", "off"]
    return running([*command, "--listen", address], address)


@contextlib.contextmanager
def _etcd(program: Path, data: Path) -> Iterator[Running]:
    """Runs one etcd that stores its data on the same disk as workspaced."""
    client, peer = free_port(), free_port()
    start = time.perf_counter()
    process = subprocess.Popen(
        [
            program,
            *("--data-dir", data, "--logger=zap", "--log-outputs=/dev/null"),
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # A single member serves once it has elected itself.
        while time.perf_counter() - start < 30:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", client)).close()
                break
            time.sleep(0.05)
        yield Running(process, f"127.0.0.1:{client}", time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(60)
