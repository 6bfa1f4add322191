"""Measures MLOpsClient beside what it builds on, in the environment with the toolkits.

Usage: client.py opening BASE ROUNDS CALLS
       client.py imports ROUNDS
       client.py metrics BASE ROUNDS CALLS
Prints one JSON object per line, with what, target, round, seconds and calls.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

# The modules that the original imported on start-up.
_ORIGINAL = "import mlflow, dvc.repo, bentoml, evidently"


def report(what: str, target: str, number: int, seconds: float, calls: int = 1) -> None:
    print(
        json.dumps(
            {
                "what": what,
                "target": target,
                "round": number,
                "seconds": seconds,
                "calls": calls,
            }
        ),
        flush=True,
    )


def take_turns(
    what: str, rounds: int, calls: int, sides: dict[str, Callable[[int], object]]
) -> None:
    """Runs `rounds` rounds of `calls` calls of each side, and reports each round.

    The sides alternate call by call, and so does the one that begins.
    """
    # Warm up.
    for side in sides.values():
        side(0)
    for number in range(rounds):
        seconds = dict.fromkeys(sides, 0.0)
        for call in range(calls):
            for name in list(sides)[:: 1 if call % 2 else -1]:
                start = time.perf_counter()
                sides[name](call)
                seconds[name] += time.perf_counter() - start
        for name, total in seconds.items():
            report(what, name, number, total, calls)


def measure_opening(base: Path, rounds: int, calls: int) -> None:
    """Measures opening an existing workspace, beside a single bare Get.

    "opening" uses a connected manager, and the Get a connected channel. "opening anew"
    is from_project(), which finds the server and connects, and the Get a new channel
    each time.
    """
    from mlops._rpc.channel import open_channel
    from mlops.client import MLOpsClient
    from mlops.workspace import WorkspaceManager
    from mlops.workspace.v1 import workspace_service_pb2 as pb
    from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

    root = base.parents[1]
    MLOpsClient.from_project("fraud", root)
    address = f"unix:{base}/.workspaced/socket"
    stub, manager = WorkspaceServiceStub(open_channel(address)), WorkspaceManager(base)
    request = pb.GetWorkspaceRequest(project="fraud")

    def get_anew(_: int) -> None:
        channel = open_channel(address)
        WorkspaceServiceStub(channel).GetWorkspace(request)
        channel.close()

    def get(_: int) -> None:
        stub.GetWorkspace(request)

    def open_client(_: int) -> None:
        MLOpsClient("fraud", workspace_manager=manager)

    def open_anew(_: int) -> None:
        MLOpsClient.from_project("fraud", root)

    take_turns("opening", rounds, calls, {"bare": get, "client": open_client})
    take_turns("opening anew", rounds, calls, {"bare": get_anew, "client": open_anew})


def measure_imports(rounds: int) -> None:
    """Measures imports in new processes, without the start of Python itself."""
    code = (
        "import time; start = time.perf_counter(); {}; "
        "print(time.perf_counter() - start)"
    )
    sides = {
        "original": _ORIGINAL,
        "mlflow": "import mlflow",
        "client": "import mlops.client",
    }
    # An extra round fills the page cache, except in a smoke test.
    first = -1 if rounds > 2 else 0
    for number in range(first, rounds):
        for name, statement in sides.items():
            command = [sys.executable, "-W", "ignore", "-c", code.format(statement)]
            output = subprocess.run(
                command,
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            if number >= 0:
                report("import", name, number, float(output.stdout.split()[-1]))


def measure_metrics(base: Path, rounds: int, calls: int) -> None:
    """Measures logging equal metrics to two runs of one SQLite store."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlops.client import MLOpsClient
    from mlops.workspace import WorkspaceManager

    client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(base))
    with client.start_run() as run:
        bare = MlflowClient(client.workspace.mlflow_tracking_uri)
        other = bare.create_run(run.info.experiment_id).info.run_id

        def log_batch(values: dict[str, float], step: int) -> None:
            now = int(time.time() * 1000)
            bare.log_batch(
                other,
                metrics=[
                    Metric(key, value, now, step) for key, value in values.items()
                ],
            )

        for count in (1, 10, 100):
            values = {f"{number} of {count}": 0.5 for number in range(count)}
            sides = {
                "bare": partial(log_batch, values),
                "client": partial(client.log_metrics, values),
            }
            take_turns(f"{count} metrics", rounds, calls, sides)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "imports":
        measure_imports(int(arguments[0]))
    else:
        measure = {"opening": measure_opening, "metrics": measure_metrics}[what]
        measure(Path(arguments[0]), int(arguments[1]), int(arguments[2]))


if __name__ == "__main__":
    main()
