"""Concurrent clients of one server, which record each call with its result.

The checker in this directory reads the histories.
"""

import json
import random
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

# How long clients use a project, in seconds. They then move on to new ones, so that
# each history stays short enough to check.
ROUND_S = 2.0
_TIMEOUT_S = 30
_START_TIMEOUT_S = 60
_WEIGHTS = {
    "Get": 30,
    "Update": 12,
    "Update if": 20,
    "Create": 8,
    "Ensure": 8,
    "Delete": 6,
    "Delete if": 4,
    "Undelete": 10,
}
# Errors that are definite results. Any other error, such as one that leaves open
# whether the change was made, ends the recording.
_ANSWERS = {"WORKSPACE_NOT_FOUND", "WORKSPACE_EXISTS", "ETAG_MISMATCH"}


@dataclass(frozen=True)
class Answer:
    """A result in the form that the checker reads: an error, or a workspace."""

    reason: str = ""
    value: str = ""
    etag: str = ""
    uid: str = ""
    created: bool = False
    current: str = ""


class Caller:
    """Makes calls by the name of the operation.

    A context manager. Thread-safe.
    """

    def __init__(self, socket: str) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{quote(socket)}", [("grpc.enable_http_proxy", 0)]
        )
        self._stub = pb_grpc.WorkspaceServiceStub(self._channel)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *args: object) -> None:
        self._channel.close()

    def call(self, rpc: str, project: str, value: str = "", etag: str = "") -> Answer:
        """Makes one call and returns its result.

        Raises grpc.RpcError for an error that is no definite result.
        """
        try:
            return self._ask(rpc, project, value, etag)
        except grpc.RpcError as error:
            return answer_of(error)

    def _ask(self, rpc: str, project: str, value: str, etag: str) -> Answer:
        new = pb.Workspace(dvc_remote_path=value)
        match rpc:
            case "Create":
                request = pb.CreateWorkspaceRequest(project=project, workspace=new)
                return _answer(self._stub.CreateWorkspace(request, timeout=_TIMEOUT_S))
            case "Ensure":
                ensured = self._stub.EnsureWorkspace(
                    pb.EnsureWorkspaceRequest(project=project, workspace=new),
                    timeout=_TIMEOUT_S,
                )
                return _answer(ensured.workspace, ensured.created)
            case "Get":
                return _answer(
                    self._stub.GetWorkspace(
                        pb.GetWorkspaceRequest(project=project), timeout=_TIMEOUT_S
                    )
                )
            case "Update":
                changed = pb.Workspace(
                    project=project, etag=etag, dvc_remote_path=value
                )
                request = pb.UpdateWorkspaceRequest(workspace=changed)
                return _answer(self._stub.UpdateWorkspace(request, timeout=_TIMEOUT_S))
            case "Delete":
                request = pb.DeleteWorkspaceRequest(
                    project=project, force=True, etag=etag
                )
                return _answer(
                    self._stub.DeleteWorkspace(request, timeout=_TIMEOUT_S).workspace
                )
            case "Undelete":
                request = pb.UndeleteWorkspaceRequest(project=project)
                return _answer(
                    self._stub.UndeleteWorkspace(request, timeout=_TIMEOUT_S)
                )
        raise ValueError(rpc)

    def count_up(self, project: str) -> int:
        """Increments the workspace's counter with an etag, and retries on a conflict.

        Returns the number of attempts.
        """
        attempts = 0
        while True:
            attempts += 1
            now = self._stub.GetWorkspace(
                pb.GetWorkspaceRequest(project=project), timeout=_TIMEOUT_S
            )
            metadata = struct_pb2.Struct()
            metadata["n"] = counter_of(now) + 1
            changed = pb.Workspace(project=project, etag=now.etag, metadata=metadata)
            try:
                self._stub.UpdateWorkspace(
                    pb.UpdateWorkspaceRequest(workspace=changed), timeout=_TIMEOUT_S
                )
                return attempts
            except grpc.RpcError as error:
                if answer_of(error).reason != "ETAG_MISMATCH":
                    raise

    def counter(self, project: str) -> int:
        """Returns the workspace's counter."""
        return counter_of(
            self._stub.GetWorkspace(
                pb.GetWorkspaceRequest(project=project), timeout=_TIMEOUT_S
            )
        )


def counter_of(workspace: pb.Workspace) -> int:
    """Returns the number that count_up() keeps in the metadata, by default 0."""
    return int(workspace.metadata["n"]) if "n" in workspace.metadata else 0


def _answer(workspace: pb.Workspace, created: bool = False) -> Answer:
    return Answer(
        value=workspace.dvc_remote_path,
        etag=workspace.etag,
        uid=workspace.uid,
        created=created,
    )


def answer_of(error: grpc.RpcError) -> Answer:
    """Returns an error of the service as a result; raises `error` if it is another."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.reason in _ANSWERS:
            return Answer(
                info.reason,
                uid=info.metadata["uid"],
                current=info.metadata["current_etag"],
            )
    raise error


@dataclass(frozen=True)
class Load:
    """What the clients do.

    `processes` times `threads` clients run for `seconds` seconds and use `projects`
    projects at the same time.
    """

    socket: str
    seconds: float
    processes: int
    threads: int
    projects: int
    seed: int


def record(load: Load, directory: Path) -> list[Path]:
    """Records histories; returns their files, one per process."""
    files = [directory / f"history-{i}.jsonl" for i in range(load.processes)]
    _run_processes(_record_process, [(load, i, file) for i, file in enumerate(files)])
    return files


def count(load: Load, directory: Path) -> tuple[int, int, int]:
    """Has the clients increment counters.

    Returns the number of increments, the sum of the counters and the number of
    attempts.
    """
    projects = [f"counter-{i}" for i in range(load.projects)]
    with Caller(load.socket) as caller:
        for project in projects:
            caller.call("Ensure", project)
    files = [directory / f"counted-{i}.json" for i in range(load.processes)]
    _run_processes(
        _count_process, [(load, i, projects, file) for i, file in enumerate(files)]
    )
    totals: Counter[str] = Counter()
    for file in files:
        totals.update(json.loads(file.read_text()))
    with Caller(load.socket) as caller:
        return (
            totals["counted"],
            sum(caller.counter(project) for project in projects),
            totals["attempts"],
        )


def _run_processes(target: Any, arguments: list[tuple[Any, ...]]) -> None:
    # Spawn, because gRPC's threads do not survive a fork.
    context = get_context("spawn")
    ready = context.Barrier(len(arguments))
    processes = [
        context.Process(target=target, args=(ready, *args), daemon=True)
        for args in arguments
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    if any(codes):
        raise RuntimeError(f"clients failed, see above: exit codes {codes}")


def _run_threads(number: int, target: Any) -> None:
    problems: list[BaseException] = []

    def run(i: int) -> None:
        try:
            target(i)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def _record_process(ready: Barrier, load: Load, process: int, file: Path) -> None:
    lines: list[list[dict[str, Any]]] = [[] for _ in range(load.threads)]
    # Start together, because each process computes the current round from its start.
    ready.wait(_START_TIMEOUT_S)
    start = time.monotonic()
    with Caller(load.socket) as caller:
        _run_threads(
            load.threads,
            lambda i: lines[i].extend(
                _call_until_end(caller, load, process * load.threads + i, start)
            ),
        )
    file.write_text("".join(json.dumps(line) + "\n" for part in lines for line in part))


def _call_until_end(
    caller: Caller, load: Load, client: int, start: float
) -> list[dict[str, Any]]:
    choices = random.Random(f"{load.seed} {client}")
    # The last known etags, some of which are stale on purpose.
    etags: dict[str, str] = {}
    lines = []
    while (passed := time.monotonic() - start) < load.seconds:
        project = f"r{int(passed / ROUND_S)}-{choices.randrange(load.projects)}"
        rpc, _, condition = choices.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[
            0
        ].partition(" ")
        value = f"v{client}.{len(lines)}"
        etag = etags.get(project, "") if condition else ""
        call = time.monotonic_ns()
        answer = caller.call(rpc, project, value, etag)
        returned = time.monotonic_ns()
        if answer.etag:
            etags[project] = answer.etag
        asked = {"rpc": rpc, "value": value, "etag": etag}
        line = {"project": project, "client": client, "call": call, "return": returned}
        lines.append({**line, "input": asked, "output": asdict(answer)})
    return lines


def _count_process(
    ready: Barrier, load: Load, process: int, projects: list[str], file: Path
) -> None:
    ready.wait(_START_TIMEOUT_S)
    end = time.monotonic() + load.seconds
    counted: Counter[str] = Counter()
    lock = threading.Lock()
    with Caller(load.socket) as caller:

        def run(thread: int) -> None:
            choices = random.Random(f"{load.seed} {process} {thread}")
            while time.monotonic() < end:
                attempts = caller.count_up(choices.choice(projects))
                with lock:
                    counted.update(counted=1, attempts=attempts)

        _run_threads(load.threads, run)
    file.write_text(json.dumps(counted))
