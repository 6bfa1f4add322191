"""Measures lists and gets of workspaces over HTTP on two MLflow servers.

One uses workspaced's projects as workspaces, the other MLflow's own database. Both hold
equal workspaces and return the same fields, and the same code asks them in turn.

Usage: mlflow_provider.py DIR COUNT ROUNDS ROUND_MS. Fills DIR and prints one JSON
object per line.
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
    """Runs an MLflow server with a database in `directory`; yields a connection."""
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
    """Creates `count` workspaces through the provider of an MLflow server."""
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
        # MLflow's own store always has a workspace "default", the other only if there
        # is such a project.
        assert [found for found in lists["sql"] if found["name"] != "default"] == lists[
            "ours"
        ], "they differ"
        for method in ("list", "get"):
            # Round -1 is a warm-up.
            for number in range(-1, rounds):
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
