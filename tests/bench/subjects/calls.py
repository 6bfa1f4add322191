"""Measures calls and changes, compared with an empty server and bare system calls."""

import contextlib
import subprocess

from subjects.figures import Row, cpu_us, grouped, median, per_second, ratio, table
from subjects.harness import NO_CLIENT, Bench, running, workspaced


def measure_calls(bench: Bench, method: str) -> list[Row]:
    """Measures one method on three servers.

    One workspaced logs every call, which is the default. The other logs none, like the
    empty server.
    """
    with contextlib.ExitStack() as stack:
        ours = {
            name: stack.enter_context(
                workspaced(
                    bench, bench.work / name.replace(" ", "-"), "--log-calls", calls
                )
            )
            for name, calls in (("no log", "off"), ("with log", "all"))
        }
        model = ours["no log"]
        bench.rows("rpc_bench", model.target("model"), "--prepare")
        address = f"unix:{bench.work}/empty.socket"
        command = [
            bench.program("empty_server"),
            address,
            model.address,
            "project-000000",
        ]
        empty = stack.enter_context(running(command, address))
        targets = [
            empty.target("empty"),
            *(server.target(name) for name, server in ours.items()),
        ]
        sizes = ["--rounds", bench.sizes.rounds, "--round-ms", bench.sizes.round_ms]
        return bench.rows("rpc_bench", *targets, "--method", method, *sizes)


def calls_table(method: str, rows: list[Row]) -> str:
    lines = []
    for (depth, target), group in grouped(rows, "depth", "target").items():
        cells = [
            depth,
            {"empty": "empty handler", "no log": "workspaced, --log-calls off"}.get(
                target, "workspaced"
            ),
            f"{median(per_second(row) for row in group):,.0f}",
            ratio(per_second, rows, target, "empty", depth=depth),
            f"{median(cpu_us(row) for row in group):.1f}",
            ratio(cpu_us, rows, target, "empty", depth=depth),
            f"{median(row['p50_us'] for row in group):,.0f}",
            f"{median(row['p99_us'] for row in group):,.0f}",
        ]
        lines.append(cells)
    head = [
        "depth",
        f"{method}, served by",
        "calls/s",
        "of empty",
        "server CPU µs/call",
        "of empty",
        "p50 µs",
        "p99 µs",
    ]
    return table(head, lines)


def run_get(bench: Bench) -> tuple[str, list[Row]]:
    rows = measure_calls(bench, "get")
    return calls_table("Get", rows), rows


def run_ensure(bench: Bench) -> tuple[str, list[Row]]:
    rows = measure_calls(bench, "ensure")
    return calls_table("Ensure", rows), rows


def run_list(bench: Bench) -> tuple[str, list[Row]]:
    count = bench.sizes.workspaces[-1]
    base = bench.work / f"tree-{count}"
    subprocess.run(
        [bench.program("many_workspaces"), "make", base, str(count)], check=True
    )
    sizes = ["--rounds", bench.sizes.rounds, "--round-ms", 4 * bench.sizes.round_ms]
    with workspaced(bench, base) as server:
        address = f"unix:{bench.work}/empty.socket"
        command = [
            bench.program("empty_server"),
            address,
            server.address,
            "project-000000",
        ]
        with running(command, address) as empty:
            targets = [empty.target("empty"), server.target("with log")]
            rows = bench.rows(
                "rpc_bench", *targets, "--method", "list", "--depths", "1,8", *sizes
            )
        rows += bench.rows(
            "rpc_bench",
            server.target("with log"),
            "--method",
            "filter",
            "--depths",
            "1",
            *sizes,
        )
    pages = calls_table(
        f"page of 1,000 out of {count:,}",
        [row for row in rows if row["method"] == "list"],
    )
    filtered = [row for row in rows if row["method"] == "filter"]
    milliseconds = median(row["p50_us"] for row in filtered) / 1e3
    return (
        f"{pages}\n\nWith a filter, the first page takes {milliseconds:.1f} ms: "
        f"the server examines all {count:,} workspaces.",
        rows,
    )


def run_commit(bench: Bench) -> tuple[str, list[Row]]:
    base = bench.work / "commit-server"
    with workspaced(bench, base) as server:
        sizes = [
            "--rounds",
            bench.sizes.rounds,
            "--round-ms",
            bench.sizes.commit_round_ms,
        ]
        rows = bench.rows(
            "commit_bench",
            "--dir",
            bench.work / "commit",
            "--server",
            server.address,
            *sizes,
        )
    lines = []
    for (method, threads, target), group in sorted(
        grouped(rows, "method", "threads", "target").items()
    ):
        cells = [
            method,
            threads,
            target,
            f"{median(per_second(row) for row in group):,.0f}",
            ratio(per_second, rows, target, "bare", method=method, threads=threads),
        ]
        lines.append(cells)
    return table(["change", "threads", "by", "changes/s", "of bare calls"], lines), rows


def run_leases(bench: Bench) -> tuple[str, list[Row]]:
    """Measures Get from two servers with the same workspaces, one with live leases."""
    if NO_CLIENT:
        return NO_CLIENT, []
    count = bench.sizes.leases
    names = {"without": "no lease", "with": f"{count:,} live leases"}
    with contextlib.ExitStack() as stack:
        servers = []
        for name in names:
            base = bench.work / name
            subprocess.run(
                [bench.program("many_workspaces"), "make", base, str(count)],
                check=True,
            )
            servers.append(
                stack.enter_context(workspaced(bench, base, "--log-calls", "off"))
            )
        _lease_all(servers[1].address, count)
        rows = bench.rows(
            "rpc_bench",
            *(server.target(name) for name, server in zip(names, servers, strict=True)),
            *("--depths", "1,64", "--rounds", bench.sizes.rounds),
            *("--round-ms", bench.sizes.round_ms),
        )
    lines = [
        [
            depth,
            names[target],
            f"{median(per_second(row) for row in group):,.0f}",
            ratio(per_second, rows, target, "without", depth=depth),
            f"{median(cpu_us(row) for row in group):.1f}",
            ratio(cpu_us, rows, target, "without", depth=depth),
        ]
        for (depth, target), group in grouped(rows, "depth", "target").items()
    ]
    head = [
        "depth",
        "Get, from a server with",
        "calls/s",
        "ratio",
        "server CPU µs/call",
        "ratio",
    ]
    return table(head, lines), rows


def _lease_all(address: str, count: int) -> None:
    """Acquires a lease on each workspace, for longer than the measurement."""
    from mlops._rpc.channel import open_channel
    from mlops.workspace.v1 import workspace_service_pb2 as pb
    from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

    with open_channel(address) as channel:
        stub = WorkspaceServiceStub(channel)
        in_flight = []
        for number in range(count):
            request = pb.AcquireLeaseRequest(
                project=f"project-{number:06}", holder="bench", ttl={"seconds": 3_600}
            )
            in_flight.append(stub.AcquireLease.future(request))
            if len(in_flight) == 32:
                in_flight.pop(0).result()
        for call in in_flight:
            call.result()
