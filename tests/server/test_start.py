"""Starting the server: errors, each reported in one line, and unusual conditions."""

import errno
import fcntl
import json
import os
import socket
import struct
from pathlib import Path

import pytest

from server.run import answer, mounted, refusal
from support.server import Server


def test_a_second_server_on_a_base_names_the_first(base: Path) -> None:
    with Server(base, "--listen", "127.0.0.1:0") as server:
        second = refusal("--base", base)
        assert second.code == 3
        for part in [
            str(base),
            f"pid {server.pid} ",
            f"host {socket.gethostname()},",
            *server.addresses,
        ]:
            assert part in second.sentence
        assert answer(server, "EnsureWorkspace", project="a")["created"]


def test_a_base_that_is_locked_by_who_knows_whom_is_refused(base: Path) -> None:
    lock = base / ".workspaced/lock"
    lock.parent.mkdir(parents=True)
    lock.write_text('{"pid": "x", "host": 1, "addresses": {}}')
    with lock.open("r+") as file:
        fcntl.fcntl(
            file,
            fcntl.F_OFD_SETLK,
            struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0),
        )
        assert refusal("--base", base).code == 3


def test_a_base_that_is_a_file_is_refused(base: Path) -> None:
    base.write_text("")
    result = refusal("--base", base)
    assert result.code == 1 and str(base) in result.sentence


def test_a_base_below_a_file_is_refused(base: Path) -> None:
    base.write_text("")
    assert refusal("--base", base / "sub").code == 1


def test_a_base_that_cannot_be_written_is_refused(base: Path) -> None:
    base.mkdir()
    result = refusal("--base", base, wrapper=mounted(base, "ro"))
    assert result.code == 4
    assert str(base) in result.sentence and "Read-only file system" in result.sentence


def test_a_port_in_use_is_refused(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = refusal("--base", base, "--listen", address)
    assert result.code == 1 and address in result.sentence


def test_a_port_of_another_server_is_refused(base: Path) -> None:
    with Server(base, "--listen", "127.0.0.1:0") as server:
        result = refusal(
            "--base", base.with_name("other"), "--listen", server.addresses[1]
        )
        assert result.code == 1 and server.addresses[1] in result.sentence


def test_a_unix_socket_on_which_another_server_listens_is_refused(base: Path) -> None:
    with Server(base) as server:
        result = refusal("--base", base.with_name("other"), "--listen", server.address)
        assert result.code == 1 and server.address in result.sentence
        assert answer(server, "EnsureWorkspace", project="a")["created"]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:0",
        "[::]:0",
        "example.org:1",
        "127.example.org:1",
        "127.1.example.org:1",
        "[::2]:1",
    ],
)
def test_an_address_that_others_reach_is_refused(base: Path, address: str) -> None:
    result = refusal("--base", base, "--listen", address)
    assert result.code == 2
    assert address in result.sentence and "--insecure" in result.sentence


def test_an_address_that_others_reach_may_be_had_by_request(base: Path) -> None:
    with Server(base, "--listen", "0.0.0.0:0", "--insecure") as server:
        assert server.addresses[1].startswith("0.0.0.0:")


@pytest.mark.parametrize(
    "flags",
    [
        ["--nonsense"],
        ["--base"],
        ["--purge-delay", "soon"],
        ["--purge-delay", "-1s"],
        ["--idle-timeout", "5"],
        ["--workers", "0"],
        ["--workers", "many"],
        ["--log-calls", "some"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_a_bad_flag_is_refused(base: Path, flags: list[str]) -> None:
    result = refusal("--base", base, *flags)
    assert result.code == 2 and result.sentence.startswith("workspaced: ")
    assert not base.exists()


def test_a_base_is_needed() -> None:
    assert refusal().code == 2


@pytest.mark.parametrize(
    "address",
    ["nonsense", "127.0.0.1", "127.0.0.1:70000", ":1", "unix:", f"unix:/{'x' * 108}"],
)
def test_an_ill_formed_address_is_refused(base: Path, address: str) -> None:
    assert refusal("--base", base, "--listen", address).code == 2


def test_a_log_that_cannot_be_written_is_refused(base: Path) -> None:
    log = base.with_name("file") / "log"
    log.parent.write_text("")
    result = refusal("--base", base, "--log-file", log)
    assert result.code == 1 and str(log) in result.sentence


def test_the_lock_file_says_who_serves_and_where(base: Path) -> None:
    with Server(base, "--listen", "127.0.0.1:0") as server:
        owner = json.loads((base / ".workspaced/lock").read_text())
        assert owner["pid"] == server.pid and owner["host"] == socket.gethostname()
        assert owner["addresses"] == [
            f"unix:{base}/.workspaced/socket",
            server.addresses[1],
        ]
    assert (base / ".workspaced/lock").read_text().strip() == ""


def test_the_socket_is_for_this_user_alone(base: Path) -> None:
    with Server(base) as server:
        assert server.socket.stat().st_mode & 0o077 == 0


def test_a_socket_left_by_a_killed_server_is_no_hindrance(base: Path) -> None:
    with Server(base) as server:
        answer(server, "EnsureWorkspace", project="a")
        server.kill()
        assert server.socket.exists()
    with Server(base) as server:
        assert "created" not in answer(server, "EnsureWorkspace", project="a")


def test_two_bases_have_nothing_to_do_with_each_other(base: Path) -> None:
    with Server(base) as one, Server(base.with_name("other")) as other:
        answer(one, "EnsureWorkspace", project="a")
        assert answer(other, "EnsureWorkspace", project="a")["created"]


def test_a_base_deeper_than_the_name_of_a_socket_may_be_long(base: Path) -> None:
    with Server(base / ("d" * 120)) as server:
        assert not str(server.socket).startswith(str(base))
        assert server.socket.parent.stat().st_mode & 0o077 == 0
        assert answer(server, "EnsureWorkspace", project="a")["created"]


def test_a_base_reached_by_a_link_is_the_same_base(base: Path) -> None:
    link = base.with_name("link")
    link.symlink_to(base)
    with Server(base) as server:
        assert f"pid {server.pid}" in refusal("--base", link).sentence


def test_portable_calls_do(base: Path) -> None:
    with Server(base, "--portable-fs") as server:
        answer(server, "EnsureWorkspace", project="a")
        answer(
            server,
            "UpdateWorkspace",
            workspace={"project": "a", "bentoml_tag_prefix": "x"},
        )
        answer(server, "DeleteWorkspace", project="a", force=True)
        assert (
            answer(server, "UndeleteWorkspace", project="a")["bentoml_tag_prefix"]
            == "x"
        )


def test_a_name_with_several_addresses_is_one_address_with_one_port(base: Path) -> None:
    with Server(base, "--listen", "localhost:0") as server:
        host, _, port = server.addresses[1].rpartition(":")
        assert host == "localhost" and int(port) > 0
        for family, address, _, _, name in socket.getaddrinfo(
            "localhost", int(port), type=socket.SOCK_STREAM
        ):
            with socket.socket(family) as client:
                assert client.connect_ex(name) in (
                    0,
                    errno.EADDRNOTAVAIL,
                    errno.EAFNOSUPPORT,
                ), address
