"""Metrics and health over HTTP, from a real server."""

import base64
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb

from server.callers import (
    Caller,
    Files,
    get,
    metric,
    metrics_address,
    on_socket,
    on_tcp,
    wait_until,
)
from server.run import call, refusal, strace
from support.server import REPO, Server

_ON = ("--metrics", "127.0.0.1:0")
_HANDLED = "grpc_server_handled_total"


def _promtool() -> Path:
    found = shutil.which("promtool")
    tool = Path(found) if found else REPO / "build/tools/promtool"
    if not tool.exists():
        pytest.skip("promtool is missing; .ci/setup extracts it")
    return tool


def test_calls_are_counted_by_method_and_code(base: Path) -> None:
    with Server(base, *_ON) as server, on_socket(server) as caller:
        caller.answer("CreateWorkspace", project="p")
        for _ in range(3):
            caller.answer("GetWorkspace", project="p")
        caller.refusal("GetWorkspace", project="none")
        caller.call("StreamWorkspaceStatuses", {})
        data = b"x" * 1000
        encoded = base64.b64encode(data).decode()
        caller.call(
            "WriteArtifact",
            [
                {"project": "p", "path": "models/x", "data": encoded},
                {"finish": True},
            ],
        )

        def handled(method: str, code: str) -> float:
            return metric(server, _HANDLED, grpc_method=method, grpc_code=code)

        assert handled("GetWorkspace", "OK") == 3
        assert handled("GetWorkspace", "NotFound") == 1
        assert handled("StreamWorkspaceStatuses", "OK") == 1
        get_workspace = {"grpc_method": "GetWorkspace"}
        assert metric(server, "grpc_server_started_total", **get_workspace) == 4
        seconds = "grpc_server_handling_seconds"
        assert metric(server, f"{seconds}_count", **get_workspace) == 4
        assert 0 < metric(server, f"{seconds}_sum", **get_workspace) < 10
        write = {"grpc_method": "WriteArtifact", "grpc_type": "bidi_stream"}
        assert metric(server, "grpc_server_msg_received_total", **write) == 2
        assert metric(server, "workspaced_received_bytes_total", **write) > len(data)
        assert (
            metric(server, "workspaced_errors_total", reason="WORKSPACE_NOT_FOUND") == 1
        )
        assert metric(server, "workspaced_workspaces", state="live") == 1
        assert metric(server, "workspaced_sync_seconds_count") > 0
        assert metric(server, "workspaced_build_info") == 1
        assert metric(server, "process_start_time_seconds") > 1e9
        caller.answer("DeleteWorkspace", project="p", force=True)
        assert metric(server, "workspaced_workspaces", state="deleted") == 1


def test_transfers_are_counted_by_kind_and_result(base: Path) -> None:
    with Server(base, *_ON) as server:
        manager = WorkspaceManager(address=server.address)
        manager.create_workspace("p")
        size = 3_000_000
        (base / "p/models/x").write_bytes(b"x" * size)
        archive = b"".join(manager.export_stream("p"))
        manager.import_workspace([archive], "q")
        with pytest.raises(WorkspaceError) as damaged:
            manager.import_workspace([archive[:2_000_000]], "r")
        assert damaged.value.details["reason"] == "ARCHIVE_INVALID"
        manager.clone_workspace("p", "s")
        # An export too large for the buffers between server and client, abandoned.
        manager.create_workspace("large")
        with (base / "large/models/x").open("wb") as file:
            file.truncate(256 << 20)
        next(iter(manager.export_stream("large")))

        def count(kind: str, result: str) -> float:
            name = "workspaced_transfers_total"
            return metric(server, name, kind=kind, result=result)

        def size_bytes(kind: str) -> float:
            return metric(server, "workspaced_transfer_bytes_total", kind=kind)

        wait_until(lambda: count("export", "failure") == 1)
        assert (count("export", "success"), count("clone", "success")) == (1, 1)
        assert (count("import", "success"), count("import", "failure")) == (1, 1)
        assert count("clone", "failure") == count("export", "refused") == 0
        assert size_bytes("export") > len(archive)
        assert size_bytes("clone") == size
        assert len(archive) < size_bytes("import") <= len(archive) + 2_000_000
        for kind in ("clone", "export", "import"):
            assert metric(server, "workspaced_transfers", kind=kind) == 0
        assert metric(server, "workspaced_transfers_limit") == 16


def test_promtool_finds_nothing_to_improve(base: Path, tmp_path: Path) -> None:
    files = Files(tmp_path, "bindings: []")
    token = files.token("robot")
    with Server(base, *files.args) as server:
        with on_tcp(server, files.authority, token=token) as robot:
            robot.call("ListWorkspaces", {})
        status, text = get(server, "/metrics")
        assert status == 200
        # The certificate is valid for a day.
        expiry = metric(server, "workspaced_certificate_expiry_timestamp_seconds")
        assert 0 < expiry - metric(server, "process_start_time_seconds") < 90_000
    checked = subprocess.run(
        [_promtool(), "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr


def test_the_gauges_of_connections_and_calls_return_to_zero(base: Path) -> None:
    def gauges(server: Server) -> list[float]:
        return [
            metric(server, "workspaced_connections"),
            metric(server, "workspaced_artifact_streams"),
            metric(server, "workspaced_calls_in_flight"),
        ]

    with Server(base, *_ON) as server:
        # The first connection is that of the test's start.
        wait_until(lambda: gauges(server) == [0, 0, 0])
        with on_socket(server) as caller:
            caller.answer("CreateWorkspace", project="p")
            ended = [threading.Event() for _ in range(3)]
            streams = [
                caller.stub.WriteArtifact(_unfinished(f"models/{i}", event))
                for i, event in enumerate(ended)
            ]
            wait_until(lambda: gauges(server) == [1, 3, 3])
            # Ends the first well, cancels the second, and drops the connection.
            ended[0].set()
            list(streams[0])
            streams[1].cancel()
            wait_until(lambda: gauges(server) == [1, 1, 1])
        ended[2].set()
        ended[1].set()
        wait_until(lambda: gauges(server) == [0, 0, 0])


def _unfinished(path: str, event: threading.Event) -> Iterator[pb.WriteArtifactRequest]:
    yield pb.WriteArtifactRequest(project="p", path=path, data=b"1234")
    event.wait(20)
    yield pb.WriteArtifactRequest(finish=True)


def test_refused_connections_and_calls_leave_no_trace_in_the_gauges(
    base: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    with Server(base, *files.args) as server:
        for _ in range(5):
            with on_tcp(server, files.authority, token="wrong") as wrong:
                wrong.call("GetServerInfo", {})
                wrong.call("WriteArtifact", [{"project": "p", "path": "models/x"}])
            # A client that does not speak TLS.
            port = int(server.addresses[-1].rpartition(":")[2])
            with socket.create_connection(("localhost", port)) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wait_until(lambda: metric(server, "workspaced_connections") == 0)
        assert metric(server, "workspaced_calls_in_flight") == 0
        assert metric(server, _HANDLED, grpc_code="Unauthenticated") == 10


# --- Health -------------------------------------------------------------------


def test_a_server_is_healthy_and_ready(base: Path) -> None:
    with Server(base, *_ON) as server:
        assert get(server, "/healthz")[0] == 200
        assert get(server, "/readyz")[0] == 200
        assert get(server, "/")[0] == 404
        assert metric(server, "workspaced_ready") == 1


def test_a_server_with_a_failed_disk_is_healthy_but_not_ready(base: Path) -> None:
    # The sixth fsync is that of the base, after p1's rename.
    failing = strace("fsync:error=EIO:when=6")
    with Server(base, "--workers", "1", *_ON, wrapper=failing) as server:
        assert call(server, "CreateWorkspace", project="p0").error is None
        assert call(server, "CreateWorkspace", project="p1").error is not None
        assert get(server, "/healthz")[0] == 200
        status, reason = get(server, "/readyz")
        assert status == 503 and "disk" in reason
        assert metric(server, "workspaced_ready") == 0
        assert metric(server, "workspaced_disk_healthy") == 0


def test_a_server_that_is_shutting_down_is_not_ready(base: Path) -> None:
    with Server(base, *_ON) as server, on_socket(server) as caller:
        caller.answer("CreateWorkspace", project="p")
        assert get(server, "/readyz")[0] == 200
        stop = threading.Event()
        upload = threading.Thread(target=_upload, args=[caller, stop])
        upload.start()
        wait_until(lambda: metric(server, "workspaced_artifact_streams") == 1)
        server.terminate()
        wait_until(lambda: get(server, "/readyz")[0] == 503)
        assert "shutting down" in get(server, "/readyz")[1]
        assert get(server, "/healthz")[0] == 200
        stop.set()
        upload.join()
        assert server.wait() == 0


def _upload(caller: Caller, stop: threading.Event) -> None:
    """Uploads slowly until `stop`, which delays the end of the server."""

    def messages() -> Iterator[pb.WriteArtifactRequest]:
        yield pb.WriteArtifactRequest(project="p", path="models/x", data=b"1")
        while not stop.wait(0.1):
            yield pb.WriteArtifactRequest(data=b"1")
        yield pb.WriteArtifactRequest(finish=True)

    list(caller.stub.WriteArtifact(messages()))


def test_the_address_must_be_free(base: Path) -> None:
    with Server(base, *_ON) as server:
        address = metrics_address(server)
        other = base.with_name("other")
        sentence = refusal("--base", other, "--metrics", address).sentence
        assert address in sentence
