"""The recipe for nginx in service/packaging, with Debian's nginx and a real server."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb

from server.callers import (
    DENIED,
    UNAUTHENTICATED,
    Caller,
    bearer,
    metric,
    new_token,
    wait_until,
)
from support.certificates import Authority, Identity
from support.server import REPO, Server, short_base

_RECIPE = REPO / "service/packaging/nginx.conf"
_MANUAL = REPO / "service/OPERATIONS.md"
_FOUND = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
_NGINX = Path(_FOUND) if _FOUND else REPO / "build/tools/nginx"

pytestmark = pytest.mark.skipif(
    not _NGINX.exists(), reason="nginx is missing; .ci/setup extracts it"
)

# What Debian's own nginx.conf says, for a directory.
_MAIN = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  scgi_temp_path {directory}/scgi;
  uwsgi_temp_path {directory}/uwsgi;
  include {directory}/recipe.conf;
}}
"""


class _Nginx:
    """nginx with the recipe, for the server at `target`, as a context manager.

    `names_callers` adds the part of the manual that passes on the certificates' names.
    """

    def __init__(
        self, directory: Path, target: Path, *, names_callers: bool = False
    ) -> None:
        self._directory = directory
        self.authority = Authority(directory)
        self.client = self.authority.issue("client")
        self.port = _free_port()
        identity = self.authority.issue("nginx")
        recipe = _RECIPE.read_text()
        for old, new in [
            ("unix:/run/mlops-workspace/socket", f"unix:{target}"),
            ("listen 443", f"listen 127.0.0.1:{self.port}"),
            ("listen [::]:443 ssl http2;", ""),
            ("/etc/mlops-workspace/tls.crt", str(identity.cert)),
            ("/etc/mlops-workspace/tls.key", str(identity.key)),
            ("/etc/mlops-workspace/clients-ca.pem", str(self.authority.cert)),
        ]:
            assert old in recipe
            recipe = recipe.replace(old, new)
        if names_callers:
            recipe = _naming_callers(recipe)
        (directory / "recipe.conf").write_text(recipe)
        # A worker of another user could not open the socket.
        user = "user root;" if os.getuid() == 0 else ""
        main = directory / "nginx.conf"
        main.write_text(_MAIN.format(directory=directory, user=user))
        self._command: list[str | Path] = [
            *(_NGINX, "-p", directory, "-c", main, "-e", directory / "error.log")
        ]

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @property
    def logs(self) -> str:
        files = [self._directory / name for name in ("error.log", "access.log")]
        return "".join(file.read_text() for file in files if file.exists())

    def __enter__(self) -> "_Nginx":
        checked = subprocess.run([*self._command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr + self.logs
        assert "[warn]" not in checked.stderr, checked.stderr
        self._process = subprocess.Popen(self._command)
        wait_until(lambda: _accepts(self.port), "nginx listens")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def connect(self, identity: Identity | None) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.authority.cert.read_bytes(),
            identity.key.read_bytes() if identity else None,
            identity.cert.read_bytes() if identity else None,
        )
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", 16 << 20),
        ]
        return grpc.secure_channel(self.address, credentials, options)


def _naming_callers(recipe: str) -> str:
    """Returns the recipe with the changes that the manual shows."""
    shown = _MANUAL.read_text().partition("```nginx\n")[2].partition("```")[0]
    names, _, rest = shown.partition("server {\n")
    location = re.compile(r"^  location / {\n.*?^  }\n", re.DOTALL | re.MULTILINE)
    [wanted] = location.findall(rest)
    changed, count = location.subn(lambda _: wanted, recipe)
    assert names.startswith("# ") and count == 1
    return names + changed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class _Site:
    """A server, nginx in front of it, and a token."""

    def __init__(self, server: Server, nginx: _Nginx, token: str) -> None:
        self.server, self.nginx, self.token = server, nginx, token

    @property
    def options(self) -> dict[str, Any]:
        nginx = self.nginx
        return {
            "address": nginx.address,
            "ca": nginx.authority.cert,
            "cert": nginx.client.cert,
            "key": nginx.client.key,
            "token": self.token,
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Site]:
    directory = tmp_path_factory.mktemp("nginx")
    tokens = directory / "tokens"
    token = new_token(tokens, "robot")
    with (
        short_base() as base,
        Server(base, "--tokens", str(tokens), "--metrics", "127.0.0.1:0") as server,
        _Nginx(directory, server.socket) as nginx,
    ):
        WorkspaceManager(base).create_workspace("p")
        yield _Site(server, nginx, token)


@pytest.fixture
def caller(site: _Site) -> Iterator[Caller]:
    with site.nginx.connect(site.nginx.client) as channel:
        yield Caller(channel, bearer(site.token))


def test_calls_get_through_with_the_identity_of_their_token(caller: Caller) -> None:
    assert caller.answer("GetWorkspace", project="p")["project"] == "p"
    info = caller.answer("GetServerInfo")
    assert (info["caller"]["name"], info["caller"]["kind"]) == ("robot", "token")
    # The server's own errors arrive whole.
    assert caller.refusal("GetWorkspace", project="none") == (
        "NOT_FOUND",
        "WORKSPACE_NOT_FOUND",
    )


def test_the_python_client_works(site: _Site) -> None:
    manager = WorkspaceManager(**site.options)
    assert manager.create_workspace("by-client").project_name == "by-client"
    assert [each.project_name for each in manager.list_workspaces()] == [
        "by-client",
        "p",
    ]
    manager.delete_workspace("by-client", force=True)
    wrong = WorkspaceManager(**site.options | {"token": "mlw_wrong"})
    with pytest.raises(WorkspaceError) as caught:
        wrong.server_info()
    assert caught.value.details["reason"] == "CREDENTIALS_INVALID"


def test_without_a_token_nobody_has_the_rights_of_nginx(site: _Site) -> None:
    with site.nginx.connect(site.nginx.client) as channel:
        for metadata in ((), (("authorization", ""),)):
            error = Caller(channel, metadata).call("GetServerInfo", {}).error
            assert error is not None and error.code == "UNAUTHENTICATED"


def test_without_a_certificate_nobody_gets_through(site: _Site, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other-ca").issue("client")
    for identity in (None, other):
        with site.nginx.connect(identity) as channel:
            caller = Caller(channel, bearer(site.token))
            error = caller.call("GetServerInfo", {}).error
            assert error is not None and error.code == "UNAUTHENTICATED", error


def test_large_files_get_through_both_ways(caller: Caller) -> None:
    size, chunk = 64 << 20, 2 << 20
    data = os.urandom(chunk)

    def messages() -> Iterator[pb.WriteArtifactRequest]:
        yield pb.WriteArtifactRequest(project="p", path="models/large", data=data)
        for _ in range(size // chunk - 1):
            yield pb.WriteArtifactRequest(data=data)
        yield pb.WriteArtifactRequest(finish=True)

    uploaded = list(
        caller.stub.WriteArtifact(messages(), metadata=caller.metadata, timeout=60)
    )
    expected = hashlib.sha256(data * (size // chunk)).hexdigest()
    assert uploaded[-1].artifact.sha256 == expected
    request = pb.ReadArtifactRequest(project="p", path="models/large")
    received = hashlib.sha256()
    for part in caller.stub.ReadArtifact(request, metadata=caller.metadata, timeout=60):
        received.update(part.data)
    assert received.hexdigest() == expected


def test_acknowledgements_arrive_during_an_upload(caller: Caller) -> None:
    """nginx must pass on both directions of a stream at once."""
    acknowledged = threading.Event()

    def messages() -> Iterator[pb.WriteArtifactRequest]:
        yield pb.WriteArtifactRequest(project="p", path="models/slow", data=b"1234")
        # Without data, a message asks for the offset.
        yield pb.WriteArtifactRequest()
        assert acknowledged.wait(20)
        yield pb.WriteArtifactRequest(data=b"5678", finish=True)

    offsets = []
    for response in caller.stub.WriteArtifact(
        messages(), metadata=caller.metadata, timeout=60
    ):
        offsets.append(response.offset)
        acknowledged.set()
    assert (offsets[0], offsets[-1]) == (4, 8)


def test_watches_stay_open(caller: Caller) -> None:
    watch: Any = caller.channel.unary_stream("/grpc.health.v1.Health/Watch")(
        b"", metadata=caller.metadata
    )
    assert next(watch) == b"\x08\x01"
    caller.answer("GetWorkspace", project="p")
    assert watch.is_active()
    watch.cancel()
    wait = {
        name: _seconds(re.search(rf"{name} (\w+);", _RECIPE.read_text()))
        for name in ("grpc_read_timeout", "grpc_send_timeout", "client_body_timeout")
    }
    # Longer than the server's own limit on silent clients.
    assert all(seconds > 120 for seconds in wait.values())


def _seconds(found: "re.Match[str] | None") -> int:
    assert found is not None
    amount, unit = int(found[1][:-1]), found[1][-1]
    return amount * {"s": 1, "m": 60, "h": 3600}[unit]


def test_a_client_that_cancels_ends_its_call_on_the_server(
    site: _Site, caller: Caller
) -> None:
    end = threading.Event()

    def messages() -> Iterator[pb.WriteArtifactRequest]:
        yield pb.WriteArtifactRequest(project="p", path="models/never", data=b"1")
        end.wait(20)

    call = caller.stub.WriteArtifact(messages(), metadata=caller.metadata)
    streams = "workspaced_artifact_streams"
    wait_until(lambda: metric(site.server, streams) == 1)
    call.cancel()
    wait_until(lambda: metric(site.server, streams) == 0)
    end.set()


def test_without_a_server_calls_are_unavailable(tmp_path: Path) -> None:
    with (
        _Nginx(tmp_path, tmp_path / "nothing") as nginx,
        nginx.connect(nginx.client) as channel,
    ):
        error = Caller(channel, bearer("mlw_x")).call("GetServerInfo", {}).error
        assert error is not None and error.code == "UNAVAILABLE"


def test_nginx_names_the_callers_by_their_certificates(
    base: Path, tmp_path: Path
) -> None:
    socket_path = base.parent / "proxy"
    policy, audit = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text(
        "bindings:\n  - {principal: alice, role: editor, projects: [team-a]}\n"
    )
    with (
        Server(
            base,
            *("--proxy-socket", str(socket_path), "--policy", str(policy)),
            *("--audit-log", str(audit)),
        ),
        _Nginx(tmp_path, socket_path, names_callers=True) as nginx,
    ):
        alice = nginx.authority.issue("alice")
        with nginx.connect(alice) as channel:
            # nginx replaces what a client says about itself.
            caller = Caller(channel, (("x-forwarded-user", "root"),))
            info = caller.answer("GetServerInfo")["caller"]
            assert (info["name"], info["kind"]) == ("alice", "proxy")
            caller.answer("CreateWorkspace", project="team-a")
            assert caller.refusal("CreateWorkspace", project="team-b") == DENIED
        options = {"address": nginx.address, "ca": nginx.authority.cert}
        manager = WorkspaceManager(**options, cert=alice.cert, key=alice.key)
        assert [each.project_name for each in manager.list_workspaces()] == ["team-a"]
        # A name that the map does not pass on is not that of somebody else.
        odd = nginx.authority.issue("alice,CN=root")
        with nginx.connect(odd) as channel:
            assert Caller(channel).refusal("GetServerInfo") == UNAUTHENTICATED
        wait_until(lambda: audit.exists() and audit.read_text().count("\n") >= 3)
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(each["principal"], each["kind"], each["rpc"]) for each in records[:2]] == [
        ("alice", "proxy", "CreateWorkspace")
    ] * 2


def test_nginx_writes_no_token_down(site: _Site, caller: Caller) -> None:
    caller.answer("GetServerInfo")
    assert "GetServerInfo" in site.nginx.logs
    assert site.token not in site.nginx.logs
