"""What a server reports about itself: health, reflection, the log and the trash."""

import json
import time
from pathlib import Path

import pytest

from conformance.players import SERVICE
from server.run import answer, call, grpcurl, log_lines
from support.server import Server

_HEALTH = "grpc.health.v1.Health/Check"
_EVENTUALLY_S = 20


@pytest.mark.parametrize("name", ["", SERVICE.full_name])
def test_health_is_told_of_the_server_and_of_the_service(base: Path, name: str) -> None:
    with Server(base) as server:
        assert json.loads(
            grpcurl(server, _HEALTH, data=json.dumps({"service": name}))
        ) == {"status": "SERVING"}


def test_reflection_lists_and_describes_every_service(base: Path) -> None:
    with Server(base) as server:
        services = grpcurl(server, "list").split()
        assert {SERVICE.full_name, "grpc.health.v1.Health"} <= set(services)
        for service in services:
            assert f"service {service.rpartition('.')[2]} " in grpcurl(
                server, "describe", service
            )


def test_tcp_answers_as_the_unix_socket_does(base: Path) -> None:
    with Server(base, "--listen", "127.0.0.1:0") as server:
        server.addresses.reverse()
        assert "127.0.0.1" in server.addresses[0]
        assert answer(server, "EnsureWorkspace", project="a")["created"]


def test_the_log_has_one_line_of_json_for_each_call(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        call(server, "GetWorkspace", project='no"\n')
        answer(server, "ListWorkspaces")
        list(call(server, "StreamWorkspaceStatuses").responses)
    # Skip GetServerInfo, which is only a probe for whether the server answers.
    lines = [
        line
        for line in log_lines(server)
        if line.get("method", "GetServerInfo") != "GetServerInfo"
    ]
    assert [line["method"] for line in lines] == [
        "EnsureWorkspace",
        "GetWorkspace",
        "ListWorkspaces",
        "StreamWorkspaceStatuses",
    ]
    assert [line["code"] for line in lines] == ["OK", "INVALID_ARGUMENT", "OK", "OK"]
    assert lines[0]["project"] == "a" and lines[1]["reason"] == "FIELD_INVALID"
    assert all(
        line["micros"] >= 0 and line["time"].endswith("Z") and line["level"] == "info"
        for line in lines
    )


def test_the_log_can_go_to_a_file_and_keep_to_what_went_wrong(base: Path) -> None:
    log = base.with_name("calls.json")
    with Server(base, "--log-file", str(log), "--log-calls", "errors") as server:
        answer(server, "EnsureWorkspace", project="a")
        (base / "a/workspace.yaml").write_text("[")
        assert call(server, "GetWorkspace", project="a").error is not None
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["code"] for line in lines if "method" in line] == ["DATA_LOSS"]


@pytest.mark.parametrize("delay", ["0", "300ms"])
def test_the_trash_is_emptied_in_time(base: Path, delay: str) -> None:
    with Server(base, "--purge-delay", delay) as server:
        _delete_one(server, "a")
        _wait_for_empty_trash(base)


def test_the_trash_is_emptied_after_a_restart(base: Path) -> None:
    with Server(base, "--purge-delay", "5s") as server:
        _delete_one(server, "a")
        _delete_one(server, "b")
    assert len(list((base / ".trash").iterdir())) == 2
    with Server(base):
        _wait_for_empty_trash(base)


def test_many_in_the_trash_go_together(base: Path) -> None:
    with Server(base, "--purge-delay", "1s") as server:
        for i in range(50):
            _delete_one(server, f"p{i}")
        _wait_for_empty_trash(base)


def _delete_one(server: Server, project: str) -> None:
    answer(server, "EnsureWorkspace", project=project)
    (server.base / project / "models/model.bin").write_bytes(b"weights")
    answer(server, "DeleteWorkspace", project=project, force=True)


def _wait_for_empty_trash(base: Path) -> None:
    """Waits until the maintainer has purged everything.

    What an earlier run deleted takes longer: after a restart, nothing expires until
    the wall clock has run evenly for 30 seconds.
    """
    deadline = time.monotonic() + 30 + _EVENTUALLY_S
    while list((base / ".trash").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
