"""Tokens, certificates and several addresses, as clients use them.

The server is a stand-in that shows what arrives; tests/server/test_tls.py has the real
one.
"""

import copy
import json
import logging
import pickle
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlops._rpc.credentials import CredentialOptions, Credentials
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb

from support.certificates import Authority, Identity
from support.stand_in import StandIn

_SECRET = "mlw_secret"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority(directory)


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.fixture(scope="module")
def secure(identity: Identity) -> Iterator[StandIn]:
    with StandIn(identity) as server:
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"MLOPS_WORKSPACE_{name}", raising=False)


def _authorization(manager: WorkspaceManager) -> str:
    return manager.server_info().features[0]


def _problem(**arguments: Any) -> str:
    with pytest.raises(WorkspaceError) as caught:
        WorkspaceManager(**arguments)
    assert caught.value.details["reason"] == "FIELD_INVALID"
    assert _SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value.message


# --- When connections are encrypted ---


@pytest.mark.parametrize(
    ("address", "options", "encrypted"),
    [
        ("unix:/a", {"token": "t", "ca": "/ca"}, False),
        ("far.example:1", {}, False),
        ("far.example:1", {"token": "t"}, True),
        ("far.example:1", {"token_file": "/t"}, True),
        ("far.example:1", {"ca": "/ca"}, True),
        ("far.example:1", {"cert": "/c", "key": "/k"}, True),
        ("localhost:1", {"token": "t"}, False),
        ("127.0.0.1:1", {"token": "t", "ca": "/ca"}, True),
        ("https://localhost:1", {}, True),
        ("https://far.example:1", {}, True),
        ("http://far.example:1", {"ca": "/ca"}, False),
        ("http://localhost:1", {"token": "t"}, False),
    ],
)
def test_connections_are_encrypted(
    address: str, options: CredentialOptions, encrypted: bool
) -> None:
    assert Credentials.of(options).need_tls(address) is encrypted


@pytest.mark.parametrize("address", ["http://far.example:1", "a:1,http://b:1"])
def test_a_token_is_never_sent_unencrypted_to_another_machine(address: str) -> None:
    assert "unencrypted: use https://" in _problem(address=address, token=_SECRET)


def test_the_environment_is_no_way_around_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_TOKEN", _SECRET)
    assert "unencrypted" in _problem(address="http://far.example:1")


def test_a_token_may_be_set_for_a_server_that_the_client_starts(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_TOKEN", _SECRET)
    manager = WorkspaceManager(base)
    assert manager.server_info().base_path == str(base)
    server = Path(f"/proc/{_owner(base)}/environ").read_bytes()
    assert _SECRET.encode() not in server


def _owner(base: Path) -> int:
    return int(json.loads((base / ".workspaced/lock").read_text())["pid"])


# --- Tokens ---


def test_calls_carry_the_token(secure: StandIn, authority: Authority) -> None:
    manager = WorkspaceManager(
        address=secure.address, token=_SECRET, ca=str(authority.cert)
    )
    assert _authorization(manager) == f"Bearer {_SECRET}"


def test_calls_without_a_token_carry_nothing(plain: StandIn) -> None:
    assert _authorization(WorkspaceManager(address=plain.address)) == ""


def test_the_environment_has_the_credentials(
    secure: StandIn, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", secure.address)
    monkeypatch.setenv("MLOPS_WORKSPACE_CA", str(authority.cert))
    monkeypatch.setenv("MLOPS_WORKSPACE_TOKEN", f"{_SECRET}\n")
    assert _authorization(WorkspaceManager()) == f"Bearer {_SECRET}"
    # An argument takes precedence.
    assert _authorization(WorkspaceManager(token="other")) == "Bearer other"


def test_a_token_file_is_read_again_when_it_changes(
    plain: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("MLOPS_WORKSPACE_TOKEN_FILE", str(file))
    manager = WorkspaceManager(address=plain.address)
    assert _authorization(manager) == "Bearer first"
    file.write_text("the second\n".replace(" ", "-"))
    assert _authorization(manager) == "Bearer the-second"
    # As while a secret is being replaced, also by `get-token > file`.
    file.write_text("")
    assert _authorization(manager) == "Bearer the-second"
    file.unlink()
    assert _authorization(manager) == "Bearer the-second"
    file.write_text("the-third-one\n")
    assert _authorization(manager) == "Bearer the-third-one"


def test_a_wrong_token_is_reported_by_its_reason(plain: StandIn) -> None:
    manager = WorkspaceManager(address=plain.address, token="wrong")
    with pytest.raises(WorkspaceError, match="The token is unknown") as caught:
        manager.server_info()
    assert caught.value.details["code"] == "UNAUTHENTICATED"
    assert caught.value.details["reason"] == "CREDENTIALS_INVALID"


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("", "has no token"),
        (f"{_SECRET} x", "characters that no token has"),
        (f"{_SECRET}\r\nx: y", "characters that no token has"),
        (f"{_SECRET}\u00e9", "characters that no token has"),
        (_SECRET * 1000, "longer than 8192 bytes"),
        (_SECRET.encode(), "must be text, not bytes"),
    ],
)
def test_malformed_tokens_are_refused_without_showing_them(
    token: Any, problem: str
) -> None:
    assert problem in _problem(address="localhost:1", token=token)


def test_unusable_token_files_are_named(plain: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "token"
    manager = WorkspaceManager(address=plain.address, token_file=file)
    with pytest.raises(WorkspaceError, match=f"{file} cannot be read: No such"):
        manager.server_info()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(WorkspaceError, match="characters that no token has"):
        manager.server_info()


def test_options_must_fit_each_other() -> None:
    assert "cannot be combined" in _problem(token="a", token_file="b")
    assert "key: is missing" in _problem(cert="/cert")
    assert "cert: is missing" in _problem(key="/key")
    with pytest.raises(TypeError, match="unexpected keyword argument: tokn"):
        WorkspaceManager(tokn="a")  # type: ignore[call-arg]


def test_nothing_shows_the_token(
    plain: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    manager = WorkspaceManager(address=plain.address, token=_SECRET)
    manager.server_info()
    shown = repr(manager) + repr(vars(manager)) + manager._repr_html_()
    shown += repr(vars(manager._connection)) + repr(vars(manager._connection._server))
    assert _SECRET not in shown + caplog.text


def test_a_token_argument_is_not_pickled(plain: StandIn) -> None:
    manager = WorkspaceManager(address=plain.address, token=_SECRET)
    with pytest.raises(pickle.PicklingError, match="give a token_file instead"):
        pickle.dumps(manager)
    # A copy stays in this process.
    assert _authorization(copy.deepcopy(manager)) == f"Bearer {_SECRET}"


def test_a_pickle_takes_the_token_of_the_other_process(
    plain: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_TOKEN", _SECRET)
    pickled = pickle.dumps(WorkspaceManager(address=plain.address))
    assert _SECRET.encode() not in pickled
    monkeypatch.setenv("MLOPS_WORKSPACE_TOKEN", "theirs")
    assert _authorization(pickle.loads(pickled)) == "Bearer theirs"


def test_a_file_system_has_credentials_too(
    secure: StandIn, authority: Authority
) -> None:
    pytest.importorskip("fsspec")
    from mlops.fs import WorkspaceFileSystem

    fs = WorkspaceFileSystem(
        address=secure.address, token=_SECRET, ca=str(authority.cert)
    )
    info = fs._artifacts.connection.call(pb.GetServerInfoRequest())
    assert info.features[0] == f"Bearer {_SECRET}"
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(fs)
    assert _SECRET not in fs.to_json()


def test_mlops_client_has_credentials_too(base: Path) -> None:
    # The server that the client starts accepts everybody.
    client = MLOpsClient.from_project("fraud", base_path=base, token=_SECRET)
    assert client.workspace.project_name == "fraud"
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(client)
    with pytest.raises(MLOpsClientError, match="token: cannot be combined"):
        MLOpsClient("x", workspace_manager=WorkspaceManager(base), token=_SECRET)


# --- Certificates ---


def test_a_server_of_another_authority_is_refused(
    secure: StandIn, tmp_path: Path
) -> None:
    other = Authority(tmp_path)
    manager = WorkspaceManager(address=f"127.0.0.1:{secure.port}", ca=other.cert)
    with pytest.raises(WorkspaceError, match="failed the TLS handshake") as caught:
        manager.server_info()
    assert caught.value.details["code"] == "UNAVAILABLE"


def test_a_server_of_another_name_is_refused(
    authority: Authority, secure: StandIn
) -> None:
    with StandIn(authority.issue("elsewhere", names="DNS:elsewhere")) as server:
        manager = WorkspaceManager(address=server.address, ca=authority.cert)
        with pytest.raises(WorkspaceError) as caught:
            manager.server_info()
    assert caught.value.details["code"] == "UNAVAILABLE"


def test_a_client_certificate_is_presented(
    authority: Authority, identity: Identity
) -> None:
    robot = authority.issue("robot")
    with StandIn(identity, ca=authority.cert) as server:
        manager = WorkspaceManager(
            address=server.address, ca=authority.cert, cert=robot.cert, key=robot.key
        )
        assert manager.server_info().features
        # Not "localhost", since gRPC reports only the last address that failed.
        nobody = WorkspaceManager(address=f"127.0.0.1:{server.port}", ca=authority.cert)
        with pytest.raises(WorkspaceError, match="closed the connection") as caught:
            nobody.server_info()
    assert caught.value.details["code"] == "UNAVAILABLE"


def test_certificates_are_read_again_when_they_change(
    authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.cert.read_bytes())
    with StandIn(identity) as server:
        manager = WorkspaceManager(address=server.address, ca=ca)
        assert manager.server_info().features
        # Unusable files do not break the connection.
        ca.write_text("garbage")
        assert manager.server_info().features
        port = server.port
    renewed = Authority(tmp_path, "renewed")
    ca.write_bytes(renewed.cert.read_bytes())
    with StandIn(renewed.issue("server"), port=port):
        assert manager.server_info().features


def test_unusable_certificates_are_named(
    authority: Authority, identity: Identity, tmp_path: Path
) -> None:
    def problem(**files: Path) -> str:
        manager = WorkspaceManager(address="localhost:1", **files)
        with pytest.raises(WorkspaceError) as caught:
            manager.server_info()
        assert caught.value.details["reason"] == "FIELD_INVALID"
        return caught.value.message

    garbage = tmp_path / "garbage"
    garbage.write_text("garbage")
    assert f"ca: {tmp_path}/none cannot be used: No such" in problem(
        ca=tmp_path / "none"
    )
    assert f"ca: {garbage} cannot be used" in problem(ca=garbage)
    assert "cannot be used" in problem(cert=identity.cert, key=garbage)
    other = authority.issue("other")
    assert "mismatch" in problem(cert=identity.cert, key=other.key)


# --- Several addresses ---


@pytest.mark.parametrize("text", ["a:1,,b:2", "a:1,b", "a:1,unix:/b", ",", "a:1,"])
def test_lists_of_addresses_are_checked(text: str) -> None:
    assert "address: " in _problem(address=text)


def test_the_serving_one_of_several_servers_is_used() -> None:
    with StandIn(serving=False) as standby, StandIn() as active:
        manager = WorkspaceManager(address=f"{standby.address},{active.address}")
        assert [manager.server_info().features[1] for _ in range(3)] == ["1", "2", "3"]
        assert repr(manager) == f"WorkspaceManager({active.address})"


def test_calls_move_to_the_next_server_when_one_is_killed(
    identity: Identity, authority: Authority
) -> None:
    with StandIn(identity) as first, StandIn(identity) as second:
        manager = WorkspaceManager(
            address=f"{first.address},{second.address}", ca=authority.cert
        )
        assert manager.server_info().features
        for server in (first, second):
            if server.address in repr(manager):
                server.kill()
                break
        began = time.monotonic()
        assert manager.server_info().features
        assert time.monotonic() - began < 2


def test_threads_share_a_search_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops._rpc.failover._FIND_S", 1.0)
    manager = WorkspaceManager(address="localhost:1,localhost:2")

    def call(_: int) -> str:
        with pytest.raises(WorkspaceError) as caught:
            manager.server_info()
        return str(caught.value)

    began = time.monotonic()
    with ThreadPoolExecutor(5) as threads:
        problems = list(threads.map(call, range(5)))
    # One after the other they would take five seconds.
    assert time.monotonic() - began < 4
    assert all("None of the servers at" in problem for problem in problems)


def test_a_system_that_does_not_list_open_files_connects(
    plain: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr("mlops._rpc.channel.os.listdir", missing)
    monkeypatch.setattr("mlops._rpc.channel.resource.getrlimit", lambda _: (256, 256))
    assert WorkspaceManager(address=plain.address).server_info().features


def test_calls_wait_for_a_server_that_is_about_to_serve(
    plain: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops._rpc.failover._FIND_S", 0.2)
    with StandIn(serving=False) as standby:
        port = standby.port
        manager = WorkspaceManager(address=f"localhost:1,{standby.address}")
        with pytest.raises(WorkspaceError, match="None of the servers at") as caught:
            manager.server_info()
        assert caught.value.details["code"] == "UNAVAILABLE"
    monkeypatch.setattr("mlops._rpc.failover._FIND_S", 10)
    with StandIn(port=port):
        assert manager.server_info().features
