"""TLS and tokens of the real server, from the command line to its clients."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager

from conformance.players import GRPCURL
from server.run import refusal
from support.certificates import Authority, Identity
from support.server import BINARY, REPO, Server

pytestmark = pytest.mark.skipif(
    "--tls-cert"
    not in subprocess.run([BINARY, "--help"], capture_output=True, text=True).stdout,
    reason="this server has no TLS",
)
_PATIENCE_S = 10


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def identity(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"MLOPS_WORKSPACE_{name}", raising=False)


def _server(base: Path, identity: Identity, *args: object) -> Server:
    return Server(
        base,
        *("--listen", "127.0.0.1:0"),
        *("--tls-cert", str(identity.cert), "--tls-key", str(identity.key)),
        *map(str, args),
    )


def _port(server: Server) -> int:
    return int(server.addresses[-1].rpartition(":")[2])


def _address(server: Server) -> str:
    return f"localhost:{_port(server)}"


def _token(file: Path, name: str = "robot", *args: str) -> str:
    command = [BINARY, "token", name, "--tokens", file, *args]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    return made.stdout.strip()


def _code(call: Callable[[], Any]) -> tuple[str, str]:
    """Returns the code and the reason of an error of the call."""
    with pytest.raises(WorkspaceError) as caught:
        call()
    return caught.value.details["code"], caught.value.details["reason"]


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _serial(port: int) -> str:
    """Returns the server's certificate."""
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=_PATIENCE_S)


def test_clients_use_tls_on_tcp_and_none_on_the_socket(
    base: Path, authority: Authority, identity: Identity
) -> None:
    with _server(base, identity) as server:
        far = WorkspaceManager(address=_address(server), ca=authority.cert)
        assert far.create_workspace("fraud").project_name == "fraud"
        near = WorkspaceManager(address=server.address)
        assert near.get_workspace("fraud").project_name == "fraud"
        plain = WorkspaceManager(address=f"http://{_address(server)}")
        assert _code(plain.server_info) == ("UNAVAILABLE", "")


def test_addresses_of_other_machines_need_tls(base: Path, identity: Identity) -> None:
    assert "--insecure" in refusal("--base", base, "--listen", "0.0.0.0:0").sentence
    with Server(
        base,
        *("--listen", "0.0.0.0:0"),
        *("--tls-cert", str(identity.cert), "--tls-key", str(identity.key)),
    ):
        pass


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "accepted"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)]
)
def test_tls_is_1_2_or_newer(
    base: Path,
    authority: Authority,
    identity: Identity,
    version: str,
    accepted: bool,
) -> None:
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.set_alpn_protocols(["h2"])
    # The default security level of OpenSSL refuses old versions on this side.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    only = getattr(ssl.TLSVersion, version)
    context.minimum_version = context.maximum_version = only
    with (
        _server(base, identity) as server,
        socket.create_connection(("127.0.0.1", _port(server))) as raw,
    ):
        if accepted:
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                assert tls.selected_alpn_protocol() == "h2"
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(raw, server_hostname="localhost")


def test_a_client_without_a_required_certificate_never_speaks_http2(
    base: Path, authority: Authority, identity: Identity
) -> None:
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.set_alpn_protocols(["h2"])
    options = ("--tls-client-ca", authority.cert, "--tls-client-auth", "required")
    with _server(base, identity, *options) as server:
        with (
            socket.create_connection(("127.0.0.1", _port(server))) as raw,
            pytest.raises((ssl.SSLError, ConnectionError)),
            # With TLS 1.3 the refusal arrives after the client's handshake. The
            # server's first HTTP/2 frame would be data.
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            assert tls.recv(1) == b""
            raise ConnectionError("closed")
        robot = authority.issue("robot", names="URI:spiffe://example/robot")
        manager = WorkspaceManager(
            address=_address(server), ca=authority.cert, cert=robot.cert, key=robot.key
        )
        assert manager.server_info().base_path == str(base)


def test_handshakes_are_bounded_in_time(base: Path, identity: Identity) -> None:
    with _server(base, identity) as server:
        silent = socket.create_connection(("127.0.0.1", _port(server)))
        half = socket.create_connection(("127.0.0.1", _port(server)))
        with silent, half:
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
            for client in (silent, half):
                client.settimeout(7)
                # The end of the connection, or an alert and then the end.
                while client.recv(100):
                    pass


def test_certificates_are_replaced_under_load_without_a_failed_call(
    base: Path, authority: Authority, identity: Identity
) -> None:
    with _server(base, identity) as server:
        failures: list[Exception] = []
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                manager = WorkspaceManager(address=_address(server), ca=authority.cert)
                try:
                    for _ in range(5):
                        manager.server_info()
                except WorkspaceError as error:
                    failures.append(error)
                manager.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            before = _serial(_port(server))
            authority.issue("server")
            _wait_until(lambda before=before: _serial(_port(server)) != before)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []


def test_garbage_leaves_the_old_certificate_in_use(
    base: Path, authority: Authority, identity: Identity
) -> None:
    with _server(base, identity) as server:
        before = _serial(_port(server))
        identity.cert.write_text("garbage")
        _wait_until(lambda: "cannot use the TLS certificate" in server.output)
        assert _serial(_port(server)) == before
        # One line for each change.
        time.sleep(0.5)
        assert server.output.count("cannot use the TLS certificate") == 1
        authority.issue("server")
        _wait_until(lambda: _serial(_port(server)) != before)


@pytest.mark.parametrize(
    ("option", "text", "problem"),
    [
        ("--tls-cert", "garbage", "it has no PEM certificate"),
        ("--tls-key", "garbage", "it has no PEM private key"),
        ("--tls-client-ca", "garbage", "it has no PEM certificate"),
        ("--tls-key", None, "No such file"),
    ],
)
def test_the_server_does_not_start_with_unusable_files(
    base: Path, identity: Identity, option: str, text: str | None, problem: str
) -> None:
    wrong = identity.cert.with_name("wrong")
    if text is not None:
        wrong.write_text(text)
    files = {"--tls-cert": identity.cert, "--tls-key": identity.key, option: wrong}
    arguments: list[object] = [part for pair in files.items() for part in pair]
    if option == "--tls-client-ca":
        arguments += ["--tls-client-auth", "optional"]
    sentence = refusal("--base", base, "--listen", "127.0.0.1:0", *arguments).sentence
    assert str(wrong) in sentence and problem in sentence


# --- Tokens ---


def test_calls_need_a_token(
    base: Path, authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    token = _token(tokens)
    with _server(base, identity, "--tokens", tokens) as server:

        def manager(**options: Any) -> WorkspaceManager:
            return WorkspaceManager(
                address=_address(server), ca=authority.cert, **options
            )

        assert manager(token=token).create_workspace("fraud").project_name == "fraud"
        refused = ("UNAUTHENTICATED", "CREDENTIALS_INVALID")
        assert _code(manager().server_info) == refused
        assert _code(manager(token=token[:-1] + "x").server_info) == refused
        # A token that is added later is accepted without a restart.
        late = _token(tokens, "late")
        _wait_until(lambda: _accepts(manager(token=late)))
        for secret in (token, late):
            assert secret not in server.output
            assert secret not in tokens.read_text()


def _accepts(manager: WorkspaceManager) -> bool:
    try:
        manager.server_info()
    except WorkspaceError:
        return False
    return True


def test_grpcurl_sends_a_token(
    base: Path, authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    token = _token(tmp_path / "tokens")
    with _server(base, identity, "--tokens", tmp_path / "tokens") as server:
        command = [GRPCURL, "-cacert", authority.cert]
        method = "mlops.workspace.v1.WorkspaceService/GetServerInfo"
        header = ["-H", f"authorization: Bearer {token}"]
        told = subprocess.run(
            [*command, *header, _address(server), method],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(told.stdout)["base_path"] == str(base)
        refused = subprocess.run(
            [*command, _address(server), method], capture_output=True, text=True
        )
        assert "Unauthenticated" in refused.stderr


def test_transfers_carry_the_token(
    base: Path, authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec")
    from mlops.fs import WorkspaceFileSystem

    tokens = tmp_path / "tokens"
    token_file = tmp_path / "token"
    token_file.write_text(_token(tokens))
    with _server(base, identity, "--tokens", tokens) as server:
        options = {
            "address": _address(server),
            "ca": authority.cert,
            "token_file": token_file,
        }
        WorkspaceManager(**options).create_workspace("fraud")
        files = WorkspaceFileSystem(by_path=False, **options)
        data = os.urandom(9 << 20)
        files.pipe_file("fraud/outputs/model", data)
        assert files.cat_file("fraud/outputs/model") == data


def test_the_cpp_client_speaks_tls(
    base: Path, authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    token = _token(tmp_path / "tokens")
    with _server(base, identity, "--tokens", tmp_path / "tokens") as server:
        example = REPO / "build/client-cpp/quickstart"
        if not example.exists():
            pytest.skip("the C++ examples are not built")
        environment = os.environ | {
            "MLOPS_WORKSPACE_CA": str(authority.cert),
            "MLOPS_WORKSPACE_TOKEN": token,
        }
        ran = subprocess.run(
            [example, _address(server)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr


def test_http_1_gets_no_answer(base: Path, identity: Identity) -> None:
    """A browser on the port must not hang."""
    with _server(base, identity) as server:
        context = ssl._create_unverified_context()
        client = http.client.HTTPSConnection(
            "127.0.0.1", _port(server), context=context, timeout=7
        )
        with pytest.raises((http.client.HTTPException, OSError)):
            client.request("GET", "/")
            client.getresponse()
        client.close()


# --- Standby servers ---


def test_calls_move_to_the_standby_server_when_the_active_one_is_killed(
    base: Path, authority: Authority, identity: Identity
) -> None:
    """Both servers have the same base; the second waits for its lock."""
    first_port, second_port = _free_port(), _free_port()
    tls = ("--tls-cert", str(identity.cert), "--tls-key", str(identity.key))
    with Server(base, "--listen", f"127.0.0.1:{first_port}", *tls) as active:
        with (base / "../standby.log").open("wb") as log:
            standby = subprocess.Popen(
                [
                    *(BINARY, "--base", base, "--wait"),
                    *("--listen", f"127.0.0.1:{second_port}", *tls),
                ],
                stdout=log,
                stderr=log,
            )
        try:
            manager = WorkspaceManager(
                address=f"localhost:{first_port},localhost:{second_port}",
                ca=authority.cert,
            )
            made: list[str] = []
            for i in range(50):
                if i == 20:
                    active.kill()
                # May be sent again, with its request_id.
                manager.create_workspace(f"p{i}", request_id=f"r{i}")
                made.append(f"p{i}")
            found = {each.project_name for each in manager.list_workspaces()}
            assert found == set(made)
        finally:
            standby.terminate()
            standby.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
