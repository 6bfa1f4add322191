"""Measures what other clients and the scrapes of Prometheus cost a caller's Get."""

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from types import ModuleType

from subjects.figures import Row, cpu_us, grouped, median, per_second, ratio, table
from subjects.harness import HERE, Bench, Running, free_port, running
from subjects.identity import write_tokens

_TOKENS = {name: f"mlw_{name}" + "x" * 39 for name in ("modest", "greedy")}
_MAX_CALLS = 256  # Of one caller.
_WRONG_PER_SECOND = 1_000
_ROUND_MS = 500
_SCRAPED_ROUND_MS = 1_000
_ALONE = "alone"
_LABELS = {
    _ALONE: "alone",
    "unread": f"beside a caller that reads none of {_MAX_CALLS + 44} responses",
    "greedy": f"beside a caller that keeps {_MAX_CALLS} calls in flight",
    "greedy-elsewhere": "the same caller at another server of this machine",
    "wrong": f"beside {_WRONG_PER_SECOND:,} wrong tokens a second",
    "wrong-elsewhere": "the same wrong tokens at another server",
}

_Neighbour = Callable[[], contextlib.AbstractContextManager[None]]


def run_neighbours(bench: Bench) -> tuple[str, list[Row]]:
    """Measures one server, with each neighbour in turn and without any."""
    full = bench.sizes.round_ms > 100
    with (
        _server(bench, "neighbours") as server,
        # Shows what a neighbour costs by taking the machine's time, not the server's.
        _server(bench, "elsewhere") as elsewhere,
    ):

        def greedy(server: Running) -> contextlib.AbstractContextManager[None]:
            depth = _MAX_CALLS + 44
            return _busy(bench, server, _TOKENS["greedy"], "--depth", depth)

        def wrong(server: Running) -> contextlib.AbstractContextManager[None]:
            return _busy(bench, server, "mlw_wrong", "--per-second", _WRONG_PER_SECOND)

        neighbours: dict[str, _Neighbour] = {
            _ALONE: contextlib.nullcontext,
            "unread": lambda: _unread(server.address),
            "greedy": lambda: greedy(server),
            "greedy-elsewhere": lambda: greedy(elsewhere),
            "wrong": lambda: wrong(server),
            "wrong-elsewhere": lambda: wrong(elsewhere),
        }
        rows: list[Row] = []
        names = list(neighbours)
        for number in range(15 if full else 2):
            # Rotate the order, so that no neighbour always goes first.
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                with neighbours[name]():
                    [row] = bench.rows(
                        "rpc_bench",
                        server.target(name),
                        *("--token", _TOKENS["modest"], "--token-target", name),
                        *("--depths", 1, "--rounds", 1),
                        *("--round-ms", _ROUND_MS if full else bench.sizes.round_ms),
                    )
                rows.append(row | {"round": number})
    return _neighbours_table(rows), rows


def _p99(row: Row) -> float:
    return row["p99_us"]


def _neighbours_table(rows: list[Row]) -> str:
    lines = []
    for (target,), group in grouped(rows, "target").items():
        lines.append(
            [
                _LABELS[target],
                f"{median(row['p50_us'] for row in group):,.0f}",
                f"{median(_p99(row) for row in group):,.0f}",
                ratio(_p99, rows, target, _ALONE),
                f"{median(per_second(row) for row in group):,.0f}",
            ]
        )
    head = ["Get, one call at a time", "p50 µs", "p99 µs", "ratio of p99", "calls/s"]
    return table(head, lines)


def run_metrics(bench: Bench) -> tuple[str, list[Row]]:
    """Measures two servers, of which Prometheus scrapes one each second."""
    full = bench.sizes.round_ms > 100
    port = free_port()
    with (
        _server(bench, "without") as without,
        _server(bench, "metrics", "--metrics", f"127.0.0.1:{port}") as scraped,
        _scraping(f"http://127.0.0.1:{port}/metrics"),
    ):
        rows = [
            row
            for depth in (1, 64)
            for row in bench.rows(
                "rpc_bench",
                without.target("without"),
                scraped.target("metrics"),
                *("--depths", depth, "--rounds", 21 if full else 2),
                *("--round-ms", _SCRAPED_ROUND_MS if full else bench.sizes.round_ms),
            )
        ]
    lines = []
    for (depth, target), group in grouped(rows, "depth", "target").items():
        with_ratio = target == "metrics"
        lines.append(
            [
                depth,
                "scraped each second" if with_ratio else "without --metrics",
                f"{median(per_second(row) for row in group):,.0f}",
                ratio(per_second, rows, target, "without", depth=depth)
                if with_ratio
                else "",
                f"{median(cpu_us(row) for row in group):.1f}",
            ]
        )
    head = ["depth", "Get, from a server", "calls/s", "ratio", "server CPU µs/call"]
    return table(head, lines), rows


@contextlib.contextmanager
def _server(bench: Bench, name: str, *args: object) -> Iterator[Running]:
    tokens = write_tokens(bench.work / f"{name}.tokens", _TOKENS.items())
    base = bench.work / name
    command = [bench.workspaced, "--base", base, "--log-calls", "off"]
    socket = f"unix:{base}/.workspaced/socket"
    with running([*command, "--tokens", tokens, *args], socket) as server:
        bench.rows("rpc_bench", server.target("any"), "--prepare")
        yield server


@contextlib.contextmanager
def _busy(bench: Bench, server: Running, token: str, *args: object) -> Iterator[None]:
    """Runs busy_caller for the length of the block."""
    command = [bench.program("busy_caller"), "--address", server.address]
    process = subprocess.Popen(
        [str(part) for part in (*command, "--token", token, *args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        counts = json.loads(process.communicate()[0])
    # The codes of gRPC: 0 is OK, 14 UNAVAILABLE and 16 UNAUTHENTICATED.
    expected = {"16"} if token == "mlw_wrong" else {"0", "14"}
    assert set(counts) <= expected and counts, counts


def _http2() -> ModuleType:
    """Returns the client of tests/attack, which can leave responses unread."""
    if (tests := str(HERE.parent)) not in sys.path:
        sys.path.append(tests)
    from attack import http2

    return http2


@contextlib.contextmanager
def _unread(address: str) -> Iterator[None]:
    """Opens more calls than one caller may have, as the user of the socket.

    The records are small, so the responses of lists fill the window of HTTP/2, and
    all further calls stay in flight.
    """
    http2 = _http2()
    with http2.Connection(address) as connection:
        call = b"".join(
            connection.open("ListWorkspaces", http2.message(b""))
            for _ in range(_MAX_CALLS + 44)
        )
        connection.socket.sendall(call)
        time.sleep(0.1)
        yield


@contextlib.contextmanager
def _scraping(url: str) -> Iterator[None]:
    end = threading.Event()

    def scrape() -> None:
        while not end.wait(1):
            with urllib.request.urlopen(url, timeout=10) as response:
                assert b"grpc_server_handled_total" in response.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def run_checks(bench: Bench) -> tuple[str, list[Row]]:
    """Measures identity and policy alone, by auth_bench."""
    full = bench.sizes.round_ms > 100
    flags = ["--benchmark_format=json"]
    flags += ["--benchmark_repetitions=9"] if full else ["--benchmark_min_time=0.001"]
    output = subprocess.run(
        [bench.program("auth_bench"), *flags],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    rows = [
        {"name": each["name"], "us": each["cpu_time"] / 1_000}
        for each in json.loads(output)["benchmarks"]
        if each["run_type"] == "iteration"
    ]
    lines = [
        [
            _CHECKS[name],
            f"{median(row['us'] for row in group):.2f}",
            f"{max(row['us'] for row in group):.2f}",
        ]
        for (name,), group in grouped(rows, "name").items()
    ]
    return table(["check of one call", "CPU µs, median", "worst"], lines), rows


_CHECKS = {
    "TokenAndPolicy": "token among 10,000, and policy of 1,000 bindings",
    "WrongToken": "wrong token",
    "Rs256/remembered:0": "new JWT, RS256",
    "Rs256/remembered:1": "JWT seen before, RS256",
    "Es256/remembered:0": "new JWT, ES256",
    "Es256/remembered:1": "JWT seen before, ES256",
}
