"""The socket whose callers are named by a reverse proxy, without a proxy."""

import grp
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from server.callers import (
    DENIED,
    UNAUTHENTICATED,
    Caller,
    bearer,
    new_token,
    on_socket,
    tcp_port,
    wait_until,
)
from support.server import Server

_POLICY = """
bindings:
  - {principal: alice, role: editor, projects: ["team-*"]}
  - {principal: robot, role: viewer, projects: ["*"]}
"""


class _Site:
    """A server with a proxy socket, an address of TCP, tokens and a policy."""

    def __init__(self, directory: Path, *args: str) -> None:
        self.proxy_socket = directory / "proxy"
        self.audit = directory / "audit.log"
        self.token = new_token(directory / "tokens", "robot")
        policy = directory / "policy.yaml"
        policy.write_text(_POLICY)
        self.server = Server(
            directory / "base",
            *("--tokens", str(directory / "tokens"), "--policy", str(policy)),
            *("--audit-log", str(self.audit), "--listen", "127.0.0.1:0"),
            *("--proxy-socket", str(self.proxy_socket), *args),
        )

    @contextmanager
    def on_proxy(self, *metadata: tuple[str, str]) -> Iterator[Caller]:
        with grpc.insecure_channel(f"unix:{self.proxy_socket}") as channel:
            yield Caller(channel, metadata)


@pytest.fixture
def site(base: Path) -> Iterator[_Site]:
    site = _Site(base.parent)
    with site.server:
        yield site


def _named(name: str) -> tuple[str, str]:
    return "x-forwarded-user", name


def test_the_header_names_the_caller(site: _Site) -> None:
    with site.on_proxy(_named("alice")) as alice:
        info = alice.answer("GetServerInfo")["caller"]
        assert (info["name"], info["kind"]) == ("alice", "proxy")
        alice.answer("CreateWorkspace", project="team-a")
        assert alice.refusal("CreateWorkspace", project="other") == DENIED
    wait_until(lambda: site.audit.read_text().count("\n") == 2)
    for line in site.audit.read_text().splitlines():
        record = json.loads(line)
        assert (record["principal"], record["kind"]) == ("alice", "proxy")


def test_streams_are_named_too(site: _Site) -> None:
    with site.on_proxy(_named("alice")) as alice:
        alice.answer("CreateWorkspace", project="team-a")
        upload = {
            "project": "team-a",
            "path": "models/m",
            "data": "YQ==",
            "finish": True,
        }
        assert alice.call("WriteArtifact", upload).error is None
    with site.on_proxy(_named("bob")) as bob:
        error = bob.call("WriteArtifact", upload).error
        assert error is not None and error.code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (_named(""),),
        (_named("uid:0"),),
        (_named("anonymous"),),
        (_named("x" * 257),),
        (_named("alice"), _named("alice")),
        (_named("alice"), _named("root")),
        (("x-remote-user", "alice"),),
        (("authorization", "Bearer mlw_wrong"), _named("alice")),
        (*bearer("a"), *bearer("b"), _named("alice")),
    ],
)
def test_other_calls_are_refused(
    site: _Site, metadata: tuple[tuple[str, str], ...]
) -> None:
    with site.on_proxy(*metadata) as caller:
        assert caller.refusal("GetServerInfo") == UNAUTHENTICATED
        assert caller.refusal("GetWorkspace", project="none") == UNAUTHENTICATED


def test_a_token_wins_over_the_header(site: _Site) -> None:
    with site.on_proxy(*bearer(site.token), _named("alice")) as caller:
        assert caller.answer("GetServerInfo")["caller"]["name"] == "robot"


def test_the_header_means_nothing_elsewhere(site: _Site) -> None:
    assert str(site.proxy_socket) not in " ".join(site.server.addresses)
    with on_socket(site.server) as plain:
        caller = Caller(plain.channel, (_named("alice"),))
        assert caller.answer("GetServerInfo")["caller"] == {
            "name": f"uid:{os.getuid()}",
            "kind": "socket",
        }
        assert caller.refusal("CreateWorkspace", project="team-a") == DENIED
    with grpc.insecure_channel(f"127.0.0.1:{tcp_port(site.server)}") as channel:
        alice = Caller(channel, (_named("alice"),))
        assert alice.refusal("GetServerInfo") == UNAUTHENTICATED
        # Even if it is wrong: proxies may send it beside tokens.
        robot = Caller(channel, (*bearer(site.token), _named("a"), _named("b")))
        assert robot.answer("GetServerInfo")["caller"]["name"] == "robot"


def test_without_other_credentials_tcp_is_closed(base: Path) -> None:
    """The operator who has a proxy does not want anonymous callers."""
    flags = ("--listen", "127.0.0.1:0", "--proxy-socket", str(base.parent / "proxy"))
    with (
        Server(base, *flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{tcp_port(server)}") as channel,
    ):
        assert Caller(channel).refusal("GetServerInfo") == UNAUTHENTICATED


def test_the_header_and_the_group_can_be_chosen(base: Path) -> None:
    mine = set(os.getgroups()) | {os.getgid()}
    group = next(
        each
        for each in grp.getgrall()
        if each.gr_gid in mine or (os.getuid() == 0 and each.gr_gid != 0)
    )
    site = _Site(
        base.parent,
        *("--proxy-header", "X-Remote-User", "--proxy-group", group.gr_name),
    )
    with site.server, site.on_proxy(("x-remote-user", "alice")) as alice:
        assert alice.answer("GetServerInfo")["caller"]["name"] == "alice"
        info = site.proxy_socket.stat()
        assert (info.st_gid, info.st_mode & 0o777) == (group.gr_gid, 0o660)
        # The base's own socket stays private.
        assert site.server.socket.stat().st_mode & 0o777 == 0o600
    assert not site.proxy_socket.exists()


def test_only_the_owner_may_connect_by_default(site: _Site) -> None:
    assert site.proxy_socket.stat().st_mode & 0o777 == 0o600
