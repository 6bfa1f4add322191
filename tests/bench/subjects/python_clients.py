"""Measures Python: the original, files, MLOpsClient, and workspaces in MLflow."""

import contextlib
import json
import subprocess
import sys

from subjects.figures import (
    Row,
    grouped,
    median,
    per_call,
    per_second,
    ratio,
    seconds,
    speed,
    table,
)
from subjects.harness import (
    HERE,
    Bench,
    running,
    toolkit_rows,
    toolkits_installed,
    workspaced,
)


def run_original(bench: Bench) -> tuple[str, list[Row]]:
    count, rounds = bench.sizes.original, min(bench.sizes.rounds, 5)
    command = [
        sys.executable,
        HERE / "original_way.py",
        bench.work / "original",
        str(count),
        str(rounds),
    ]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    rows = [json.loads(line) for line in output.splitlines()]
    lines = [
        [method, f"{median(row['per_second'] for row in group):,.1f}"]
        for (method,), group in grouped(rows, "method").items()
    ]
    return table(["mkdir and PyYAML, no fsync", "times/s"], lines), rows


def run_files(bench: Bench) -> tuple[str, list[Row]]:
    if not toolkits_installed():
        return "Skipped: the toolkits are not installed; run `make toolkits`.", []
    size, small = bench.sizes.artifact_bytes, bench.sizes.small_files // 10
    socket = f"unix:{bench.work}/empty.socket"
    directory = bench.work / "files"
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(workspaced(bench, bench.work / "base"))
        bench.rows("rpc_bench", ours.target("model"), "--prepare")
        stack.enter_context(
            running(
                [bench.program("empty_server"), socket, ours.address, "project-000000"],
                socket,
            )
        )
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
        name = (
            "cp, synced"
            if str(what).startswith("same host") and target == "bare"
            else names[str(target)]
        )
        total = small * 10 / 1024 if what == "small" else size / (1 << 20)
        rate = total / median(row["seconds"] for row in group)
        lines.append(
            [
                works[str(what)],
                name,
                f"{rate:,.1f}",
                ratio(speed, rows, target, "ours", what=what),
            ]
        )
    return table(["", "by", "MiB/s", "of ours"], lines), rows


def run_client(bench: Bench) -> tuple[str, list[Row]]:
    if not toolkits_installed():
        return "Skipped: the toolkits are not installed; run `make toolkits`.", []
    base, rounds, calls = (
        bench.work / "mlops/workspace",
        bench.sizes.rounds,
        bench.sizes.client_calls,
    )
    with workspaced(bench, base):
        rows = toolkit_rows("client.py", "opening", base, rounds, 10 * calls)
        rows += toolkit_rows("client.py", "metrics", base, rounds, calls)
    rows += toolkit_rows("client.py", "imports", bench.sizes.imports)
    sides = [
        ("opening", "the stub's GetWorkspace", "MLOpsClient(manager)"),
        (
            "opening anew",
            "the stub's GetWorkspace, a channel each",
            "MLOpsClient.from_project",
        ),
        *(
            (f"{count} metrics", "MlflowClient.log_batch", "log_metrics")
            for count in (1, 10, 100)
        ),
    ]
    lines = []
    for what, bare, ours in sides:
        for target, name in (("bare", bare), ("client", ours)):
            group = [
                per_call(row)
                for row in rows
                if (row["what"], row["target"]) == (what, target)
            ]
            cells = [
                what,
                name,
                f"{1e3 * median(group):.2f}",
                ratio(per_call, rows, target, "bare", what=what),
            ]
            lines.append(cells)
    calls_text = table(["what", "by", "ms", "of bare"], lines)
    names = {
        "original": "mlflow, dvc.repo, bentoml, evidently",
        "mlflow": "mlflow",
        "client": "mlops.client",
    }
    imports = []
    for target, name in names.items():
        group = [
            row["seconds"]
            for row in rows
            if (row["what"], row["target"]) == ("import", target)
        ]
        imports.append(
            [
                name,
                f"{median(group):.2f}",
                ratio(seconds, rows, target, "original", what="import"),
            ]
        )
    return f"{calls_text}\n\n{table(['import of', 's', 'of all four'], imports)}", rows


def run_provider(bench: Bench) -> tuple[str, list[Row]]:
    """Measures projects as workspaces of an MLflow server, beside MLflow's own."""
    sizes = [
        min(1000, bench.sizes.workspaces[0]),
        bench.sizes.rounds,
        2 * bench.sizes.round_ms,
    ]
    command = [
        sys.executable,
        HERE / "mlflow_provider.py",
        bench.work / "provider",
        *sizes,
    ]
    output = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    rows = [json.loads(line) for line in output.splitlines()]
    lines = []
    for (method, target), group in grouped(rows, "method", "target").items():
        name = {"sql": "MLflow's own provider, SQLite", "ours": "ours"}[str(target)]
        milliseconds = 1e3 / median(per_second(row) for row in group)
        lines.append(
            [
                method,
                name,
                f"{milliseconds:.2f}",
                ratio(per_second, rows, target, "sql", method=method),
            ]
        )
    return table(
        [f"of {sizes[0]:,} workspaces", "by", "ms", "times as fast as MLflow's own"],
        lines,
    ), rows
