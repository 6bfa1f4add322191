"""An MLflow server with our workspaces, and one with MLflow's own in its database:
lists and gets over HTTP.

Usage: mlflow_provider.py DIR COUNT ROUNDS ROUND_MS. Fills DIR; prints a JSON object a
line. Both servers hold the same workspaces, their answers have the same fields, and one
connection asks them in turn.
"""

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Workspace
from mlflow.tracking._workspace.registry import get_workspace_store

PATH = "/api/3.0/mlflow/workspaces"
NAME = "project-{:06}"


@contextlib.contextmanager
def mlflow_server(directory: Path, *args: str) -> Iterator[http.client.HTTPConnection]:
    """One with its own database in `directory`, and a connection to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--enable-workspaces",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *command,
                "--backend-store-uri",
                f"sqlite:///{directory}/mlflow.db",
                *args,
            ],
            stdout=log,
            stderr=log,
            cwd=directory,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                connection.connect()
                break
            assert process.poll() is None, (directory / "log").read_text()
            time.sleep(0.1)
        yield connection
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def ask(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return content


def fill(store_uri: str, count: int, artifacts: str | None) -> None:
    """As an MLflow server with that store would: by its provider."""
    store = get_workspace_store(store_uri)
    for number in range(count):
        name = NAME.format(number)
        root = None if artifacts is None else f"{artifacts}/{name}/mlflow/artifacts"
        store.create_workspace(
            Workspace(name, f"The project of team {number % 7}", root)
        )


def measure(
    connection: http.client.HTTPConnection, method: str, count: int, round_ms: float
) -> dict[str, object]:
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() - start < round_ms / 1e3:
        ask(
            connection,
            PATH if method == "list" else f"{PATH}/{NAME.format(calls * 37 % count)}",
        )
        calls += 1
    return {"calls": calls, "seconds": time.perf_counter() - start}


def main() -> None:
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    directory, count, rounds, round_ms = (
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        float(sys.argv[4]),
    )
    base = directory / "base"
    directories = {name: directory / name for name in ("sql", "ours")}
    for path in directories.values():
        path.mkdir(parents=True)
    with (
        mlflow_server(directories["sql"]) as sql,
        mlflow_server(
            directories["ours"], "--workspace-store-uri", f"mlops://{base}"
        ) as ours,
    ):
        fill(f"sqlite:///{directories['sql']}/mlflow.db", count, f"file://{base}")
        fill(f"mlops://{base}", count, None)
        targets = {"sql": sql, "ours": ours}
        lists = {
            name: json.loads(ask(connection, PATH))["workspaces"]
            for name, connection in targets.items()
        }
        # Theirs has a workspace "default" always, ours if there is such a project.
        assert [found for found in lists["sql"] if found["name"] != "default"] == lists[
            "ours"
        ], "they differ"
        for method in ("list", "get"):
            for number in range(-1, rounds):  # A round to warm up.
                for name, connection in targets.items():
                    figures = measure(connection, method, count, round_ms)
                    if number >= 0:
                        print(
                            json.dumps(
                                {
                                    "method": method,
                                    "target": name,
                                    "round": number,
                                    **figures,
                                }
                            ),
                            flush=True,
                        )


if __name__ == "__main__":
    main()
