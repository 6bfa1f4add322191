"""Hostile clients, and the end of streams when the server stops."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from mlops.workspace import WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from attack.http2 import Connection, message, send_until_closed
from conformance.players import rpc_error
from server.run import answer, log_lines
from server.writing import Writing, write
from support.server import Server

_MIB = 1 << 20
_TIMEOUT_S = 60


def _stub(channel: grpc.Channel) -> Any:
    return pb_grpc.WorkspaceServiceStub(channel)


def _eventually(condition: Any) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Requests and responses ---------------------------------------------------


def test_a_page_ends_at_8_mib_and_the_next_one_goes_on(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        workspace = pb.Workspace()
        workspace.metadata["zeros"] = [0] * 32_000
        for i in range(40):
            request = pb.EnsureWorkspaceRequest(project=f"p{i:02}", workspace=workspace)
            _stub(channel).EnsureWorkspace(request, timeout=_TIMEOUT_S)
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", 9 * _MIB),
        ]
        with grpc.insecure_channel(server.address, options) as receiver:
            names, token = [], ""
            while True:
                page = _stub(receiver).ListWorkspaces(
                    pb.ListWorkspacesRequest(page_size=1000, page_token=token)
                )
                assert page.ByteSize() < 8 * _MIB + 10_000
                names += [found.project for found in page.workspaces]
                token = page.next_page_token
                if not token:
                    break
        assert names == [f"p{i:02}" for i in range(40)]


def test_more_unread_answers_than_fit_are_refused_and_others_are_served(
    base: Path,
) -> None:
    with Server(base) as server:
        workspace = {"metadata": {"text": "x" * 65_000}}
        for i in range(150):
            answer(server, "EnsureWorkspace", project=f"p{i}", workspace=workspace)
        data = message(pb.ListWorkspacesRequest(page_size=1000).SerializeToString())
        # The client returns no flow-control credit, so the responses pile up.
        with Connection(server.address) as greedy:
            greedy.socket.sendall(
                b"".join(greedy.open("ListWorkspaces", data) for _ in range(50))
            )
            _eventually(
                lambda: _codes(server, "ListWorkspaces").count("UNAVAILABLE") > 20
            )
            assert answer(server, "GetWorkspace", project="p1")["project"] == "p1"
            # Because others need the room, the server drops the unread responses
            # earlier than after the client's timeout.
            _eventually(lambda: _lists(server))


def _codes(server: Server, method: str) -> list[str]:
    return [line["code"] for line in log_lines(server) if line.get("method") == method]


def _lists(server: Server) -> bool:
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", 9 * _MIB),
    ]
    with grpc.insecure_channel(server.address, options) as channel:
        try:
            return (
                len(
                    _stub(channel)
                    .ListWorkspaces(pb.ListWorkspacesRequest(page_size=1000))
                    .workspaces
                )
                > 100
            )
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return False


def test_requests_that_never_end_are_bounded_in_bytes(base: Path) -> None:
    def peak_mib() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    part = message(bytes(4 * _MIB))[:-1000]
    with Server(base) as server, contextlib.ExitStack() as attackers:
        manager = WorkspaceManager(base)
        manager.create_workspace("p")
        before, sent = peak_mib(), 0
        for _ in range(3):
            attacker = attackers.enter_context(Connection(server.address))
            with contextlib.suppress(ConnectionError, TimeoutError):
                sent += attacker.send_as_allowed("CreateWorkspace", part, 100, 0.5)
            assert manager.get_workspace("p").project_name == "p"
        # gRPC checks its quota of 160 MiB after each read, so attackers exceed it,
        # on a fast machine by as much again, however many they are.
        assert sent > 400 * _MIB
        assert peak_mib() - before < 400


# --- Stalled clients ----------------------------------------------------------


def test_uploads_that_say_nothing_shut_nobody_off(base: Path) -> None:
    with (
        Server(base, "--max-artifact-streams", "4") as server,
        server.connect() as channel,
    ):
        answer(server, "EnsureWorkspace", project="p")
        # Streams without a message do not count against the limit.
        with Connection(server.address) as idle:
            idle.socket.sendall(
                b"".join(idle.open("WriteArtifact") for _ in range(100))
            )
            request = pb.WriteArtifactRequest(
                project="p", path="models/x", data=b"x", finish=True
            )
            assert write(_stub(channel), [request]).offset == 1


@pytest.mark.parametrize("method", ["WriteArtifact", "ReadArtifact"])
def test_streams_that_stand_still_give_their_slots_up(base: Path, method: str) -> None:
    with Server(
        base, "--max-artifact-streams", "2", "--client-timeout", "300ms"
    ) as server:
        answer(server, "EnsureWorkspace", project="p")
        with (base / "p/models/big").open("wb") as file:
            file.truncate(1 << 30)
        if method == "WriteArtifact":
            bodies = [
                pb.WriteArtifactRequest(project="p", path=f"models/{i}", data=b"x")
                for i in range(20)
            ]
        else:
            bodies = [
                pb.ReadArtifactRequest(project="p", path="models/big")
                for _ in range(20)
            ]
        with Connection(server.address) as idle, server.connect() as channel:
            frames = [
                idle.open(
                    method,
                    message(body.SerializeToString()),
                    end=method == "ReadArtifact",
                )
                for body in bodies
            ]
            idle.socket.sendall(b"".join(frames))
            _eventually(lambda: "UNAVAILABLE" in _codes(server, method))
            request = pb.WriteArtifactRequest(
                project="p", path="models/mine", data=b"x", finish=True
            )
            _eventually(lambda: _writes(channel, request))


@pytest.mark.parametrize("host", ["unix", "127.0.0.1"])
def test_a_connection_that_is_not_read_at_all_shuts_nobody_off(
    base: Path, host: str
) -> None:
    listen = [] if host == "unix" else ["--listen", f"{host}:0"]
    flags = ["--max-artifact-streams", "4", "--client-timeout", "300ms"]
    with Server(base, *flags, *listen) as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        with (base / "p/models/big").open("wb") as file:
            file.truncate(1 << 30)
        body = pb.ReadArtifactRequest(project="p", path="models/big")
        data = message(body.SerializeToString())
        upload = pb.WriteArtifactRequest(
            project="p", path="models/x", data=b"x", finish=True
        )
        with Connection(server.addresses[-1]) as idle:
            # The refusals may fill the socket's buffer, so that gRPC cannot end even a
            # cancelled call.
            frames = [idle.open("ReadArtifact", data) for _ in range(1000)]
            idle.socket.sendall(b"".join(frames))
            time.sleep(0.5)  # They take the slots.
            _eventually(lambda: _writes(channel, upload))


def _writes(channel: grpc.Channel, request: pb.WriteArtifactRequest) -> bool:
    try:
        return write(_stub(channel), [request]).offset == 1
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False


def test_an_upload_that_stood_still_is_told_and_goes_on(base: Path) -> None:
    with (
        Server(base, "--client-timeout", "300ms") as server,
        server.connect() as channel,
    ):
        answer(server, "EnsureWorkspace", project="p")
        done = threading.Event()

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/x", upload_id="id", data=b"abc"
            )
            done.wait(_TIMEOUT_S)

        error = rpc_error(Writing(_stub(channel), messages()).exception())
        done.set()
        assert (error.code, error.infos[0].reason) == ("UNAVAILABLE", "OVERLOADED")
        rest = pb.WriteArtifactRequest(
            project="p",
            path="models/x",
            upload_id="id",
            offset=3,
            data=b"def",
            finish=True,
        )
        assert write(_stub(channel), [rest]).artifact.size_bytes == 6


_ASKED = 20_000  # More acknowledgements than fit a stream that nobody reads.


@contextlib.contextmanager
def _unread_stream(server: Server) -> Iterator[tuple[Any, threading.Event]]:
    """An upload of one byte that asks for acknowledgements and reads none.

    It finishes when the event is set.
    """
    go_on = threading.Event()

    def messages() -> Iterator[pb.WriteArtifactRequest]:
        yield pb.WriteArtifactRequest(
            project="p", path="models/x", upload_id="id", data=b"x"
        )
        yield from [pb.WriteArtifactRequest()] * _ASKED
        go_on.wait(_TIMEOUT_S)
        yield pb.WriteArtifactRequest(finish=True)

    # Its window stays small.
    options = [("grpc.enable_http_proxy", 0), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(server.address, options) as channel:
        # Named, since a call that nobody refers to is cancelled.
        call = _stub(channel).WriteArtifact(messages(), timeout=_TIMEOUT_S)
        yield call, go_on
        go_on.set()


def test_unread_acknowledgements_delay_nothing_and_are_combined(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="p")
        with _unread_stream(server) as (responses, go_on):
            go_on.set()
            _eventually(lambda: (base / "p/models/x").exists())
            received = list(responses)
        assert received[-1].artifact.size_bytes == 1
        assert {response.offset for response in received} == {1}
        assert len(received) < 3 / 4 * _ASKED


def test_an_upload_that_neither_reads_nor_sends_gives_its_slot_up(base: Path) -> None:
    with (
        Server(
            base, "--max-artifact-streams", "1", "--client-timeout", "300ms"
        ) as server,
        server.connect() as channel,
    ):
        answer(server, "EnsureWorkspace", project="p")
        request = pb.WriteArtifactRequest(
            project="p", path="models/mine", data=b"x", finish=True
        )
        with _unread_stream(server):
            _eventually(lambda: (base / "p/.uploads/id.part").exists())
            assert not _writes(channel, request)
            _eventually(lambda: _writes(channel, request))


def test_a_silent_connection_is_closed_within_five_seconds(base: Path) -> None:
    with Server(base) as server, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(server.socket))
        silent.settimeout(5)
        while silent.recv(4096):
            pass


# --- Rapid reset --------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "method"),
    [
        ("unix", "GetWorkspace"),
        ("unix", "StreamWorkspaceStatuses"),
        ("127.0.0.1", "GetWorkspace"),
    ],
)
@pytest.mark.timeout(200)
def test_a_connection_that_resets_beyond_a_rate_is_closed_and_no_other(
    base: Path, host: str, method: str
) -> None:
    listen = [] if host == "unix" else ["--listen", f"{host}:0"]
    with Server(base, *listen) as server, server.connect() as other:
        answer(server, "EnsureWorkspace", project="p")
        address = server.addresses[-1]
        with Connection(address) as attacker:
            data = message(
                pb.GetWorkspaceRequest(project="p").SerializeToString()
                if "Get" in method
                else b""
            )
            send_until_closed(
                attacker,
                20_000,
                lambda: attacker.open(method, data, end=False, reset=True),
            )
            assert attacker.is_closed_within(_TIMEOUT_S)
        assert (
            _stub(other).GetWorkspace(pb.GetWorkspaceRequest(project="p")).project
            == "p"
        )
        # The server closes the connection before it writes the log line.
        deadline = time.monotonic() + _TIMEOUT_S
        while not any(
            "cancelled too many calls" in str(line.get("message"))
            for line in log_lines(server)
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("host", ["unix", "127.0.0.1"])
@pytest.mark.timeout(200)
def test_a_client_that_resets_too_fast_connects_once_a_second_and_others_as_before(
    base: Path, host: str
) -> None:
    get = pb.GetWorkspaceRequest(project="p")
    data = message(get.SerializeToString())

    def attack(address: str) -> None:
        with Connection(address) as attacker:
            send_until_closed(
                attacker,
                20_000,
                lambda: attacker.open("GetWorkspace", data, end=False, reset=True),
            )
            assert attacker.is_closed_within(_TIMEOUT_S)

    listen = [] if host == "unix" else ["--listen", f"{host}:0"]
    with Server(base, *listen) as server, server.connect() as early:
        answer(server, "EnsureWorkspace", project="p")
        address = server.addresses[-1]
        _stub(early).GetWorkspace(get)
        began = time.monotonic()
        for _ in range(3):
            attack(address)
        # The first connection is free, and each later one waits for a second.
        assert time.monotonic() - began >= 2
        # This process still has the connection that it had, and may open others.
        _stub(early).GetWorkspace(get, timeout=_TIMEOUT_S)
        with ThreadPoolExecutor(4) as threads:
            waiting = [threads.submit(attack, address) for _ in range(4)]
            # Another process need not wait for those that do.
            answer(server, "GetWorkspace", project="p")
            for attempt in waiting:
                attempt.result()
        assert time.monotonic() - began >= 6
        with server.connect() as later:
            _stub(later).GetWorkspace(get, timeout=_TIMEOUT_S, wait_for_ready=True)


def test_a_client_may_cancel_as_many_calls_at_once_as_a_caller_may_have(
    base: Path,
) -> None:
    with Server(base) as server, Connection(server.address) as connection:
        answer(server, "EnsureWorkspace", project="p")
        get = message(pb.GetWorkspaceRequest(project="p").SerializeToString())
        connection.socket.sendall(
            b"".join(
                connection.open("GetWorkspace", get, end=False, reset=True)
                for _ in range(256)
            )
        )
        assert not connection.is_closed_within(1)


def test_clients_that_cancel_now_and_then_are_left_alone(base: Path) -> None:
    with Server(base) as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")
        for _ in range(500):
            _stub(channel).StreamWorkspaceStatuses(
                pb.StreamWorkspaceStatusesRequest()
            ).cancel()
        assert (
            _stub(channel).GetWorkspace(pb.GetWorkspaceRequest(project="p")).project
            == "p"
        )
        assert not any(
            "cancelled too many" in str(line.get("message"))
            for line in log_lines(server)
        )


# --- Stopping -----------------------------------------------------------------


@pytest.fixture
def server_with_big_file(base: Path) -> Iterator[Server]:
    with Server(base, "--drain-timeout", "60s") as server:
        answer(server, "EnsureWorkspace", project="p")
        with (base / "p/models/big").open("wb") as file:
            file.truncate(64 * _MIB)
        yield server


def test_a_read_that_moves_is_finished(server_with_big_file: Server) -> None:
    with server_with_big_file.connect() as channel:
        request = pb.ReadArtifactRequest(project="p", path="models/big")
        stream = _stub(channel).ReadArtifact(request, timeout=_TIMEOUT_S)
        next(stream)
        server_with_big_file.terminate()
        # The read must continue although the server already refuses new calls.
        _eventually(lambda: _refuses(server_with_big_file))
        assert sum(len(part.data) for part in stream) == 64 * _MIB
    assert server_with_big_file.wait() == 0


def _refuses(server: Server) -> bool:
    with server.connect() as channel:
        try:
            _stub(channel).GetWorkspace(
                pb.GetWorkspaceRequest(project="p"), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as error:
            return rpc_error(error).infos[0].reason == "SHUTTING_DOWN"
    return False


def test_an_upload_that_moves_is_finished(server_with_big_file: Server) -> None:
    with server_with_big_file.connect() as channel:

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/x", upload_id="id", data=b"x"
            )
            for _ in range(20):
                time.sleep(0.05)
                yield pb.WriteArtifactRequest(data=b"x")
            yield pb.WriteArtifactRequest(finish=True)

        writing = Writing(_stub(channel), messages())
        # The server refuses a call that it has not begun when it is told to stop.
        staged = server_with_big_file.base / "p/.uploads/id.part"
        _eventually(staged.exists)
        server_with_big_file.terminate()
        assert writing.result().artifact.size_bytes == 21
    assert server_with_big_file.wait() == 0


@pytest.mark.parametrize("upload_id", ["id", ""])
def test_an_upload_that_stands_still_holds_nothing_up(
    server_with_big_file: Server, upload_id: str
) -> None:
    with server_with_big_file.connect() as channel:
        done = threading.Event()

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/x", upload_id=upload_id, data=b"abc"
            )
            done.wait(_TIMEOUT_S)

        writing = Writing(_stub(channel), messages())
        _eventually(lambda: (server_with_big_file.base / "p/.uploads").exists())
        server_with_big_file.terminate()
        # wait() raises after 30 s, well before the drain timeout of 60 s.
        assert server_with_big_file.wait() == 0
        done.set()
        error = rpc_error(writing.exception())
    assert (error.code, error.infos[0].reason) == ("UNAVAILABLE", "SHUTTING_DOWN")


def test_a_stream_that_is_cut_gets_the_right_word(base: Path) -> None:
    with Server(base, "--drain-timeout", "1s") as server, server.connect() as channel:
        answer(server, "EnsureWorkspace", project="p")

        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(
                project="p", path="models/x", upload_id="id", data=b"x"
            )
            for _ in range(400):
                time.sleep(0.05)
                yield pb.WriteArtifactRequest(data=b"x")

        writing = Writing(_stub(channel), messages())
        _eventually(lambda: (base / "p/.uploads/id.part").exists())
        server.terminate()
        error = rpc_error(writing.exception())
        assert (error.code, error.infos[0].reason) == ("UNAVAILABLE", "SHUTTING_DOWN")


def test_under_load_no_call_ends_cancelled(base: Path) -> None:
    with Server(base, "--log-calls", "off") as server:
        answer(server, "EnsureWorkspace", project="p")
        codes: set[grpc.StatusCode] = set()

        gone = threading.Event()

        def call_until_gone(index: int) -> None:
            with grpc.insecure_channel(
                server.address, [("grpc.enable_http_proxy", 0), ("n", index)]
            ) as channel:
                while not gone.is_set():
                    calls = [
                        _stub(channel).GetWorkspace.future(request, timeout=_TIMEOUT_S)
                        for _ in range(50)
                    ]
                    # After a refusal it goes on, as a client that retries would.
                    errors = [call.exception() for call in calls]
                    codes.update(error.code() for error in errors if error is not None)

        request = pb.GetWorkspaceRequest(project="p")
        threads = [
            threading.Thread(target=call_until_gone, args=(i,)) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        try:
            server.terminate()
            assert server.wait() == 0
        finally:
            gone.set()
            for thread in threads:
                thread.join()
    assert codes == {grpc.StatusCode.UNAVAILABLE}
