"""The server of a base directory on this machine: found by its socket or its lock file,
started where there is none.
"""

import hashlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import grpc

from mlops._rpc import errors, peer
from mlops._rpc.address import check_address, is_local, reachable
from mlops._rpc.channel import open_channel
from mlops._rpc.connection import FixedServer, Server
from mlops._rpc.errors import WorkspaceError
from mlops.cli import BINARY
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

__all__ = ["LocalServer", "check_address", "choose_server", "is_served_here"]

ADDRESS_VARIABLE = "MLOPS_WORKSPACE_ADDRESS"
# How long a server that was started here waits for another call before it leaves; as in
# "90s", "15m" or "12h". Short by default, since a new one is there in a twentieth of a
# second, and tests that make a base each would leave one each.
IDLE_TIMEOUT_VARIABLE = "MLOPS_WORKSPACE_IDLE_TIMEOUT"
_IDLE_TIMEOUT = "1m"
_START_S = 60.0
_POLL_S = 0.02
# A server that finds the base locked leaves with this; the one that holds the lock may
# be starting still, or leaving.
_LOCKED_EXIT_CODE = 3
_START_AGAIN_S = 0.5
# The lock's holder on another host is started and answers by then, or cannot be reached
# from here.
_ELSEWHERE_S = 10.0
# A server leaves with this if the base exists and can be read, but not written.
_READ_ONLY_EXIT_CODE = 4
_MAX_LOCK_BYTES = 65536
_INFO_S = 10.0


def choose_server(
    base_path: str | os.PathLike[str] | None = None,
    repo_root: str | os.PathLike[str] | None = None,
    address: str | None = None,
) -> "tuple[Server, Path | None]":
    """The server that the arguments of WorkspaceManager mean, and its base directory if
    that is one of this machine, which is then made. Asks no server.

    Raises WorkspaceError FIELD_INVALID if the address is none.
    """
    given = address or os.environ.get(ADDRESS_VARIABLE)
    if given:
        return FixedServer(
            check_address("address" if address else ADDRESS_VARIABLE, given)
        ), None
    base = (
        Path(base_path)
        if base_path is not None
        else Path(repo_root or Path.cwd()) / "mlops" / "workspace"
    )
    base = base.expanduser().absolute()
    # As it always was; where it cannot be made, the first call says why.
    with suppress(OSError):
        base.mkdir(parents=True, exist_ok=True)
    return LocalServer(base), base


@dataclass(frozen=True)
class Lock:
    """What a server writes into `<base>/.workspaced/lock` for those who look for it.
    That it stands there does not mean that the server runs: only the kernel's lock
    does.
    """

    pid: int = 0
    host: str = ""
    addresses: list[str] = field(default_factory=list)
    owner: int = -1  # The user who wrote it.

    @classmethod
    def read(cls, path: Path) -> "Lock":
        """What stands there; nothing if there is no server, or none yet."""
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(_MAX_LOCK_BYTES))
                owner = os.fstat(file.fileno()).st_uid
            addresses = [str(address) for address in content["addresses"]]
            return cls(
                int(content.get("pid", 0)),
                str(content.get("host", "")),
                addresses,
                owner,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    @property
    def is_of_this_machine(self) -> bool:
        """Whether no other machine's server wrote it."""
        return self.host in ("", socket.gethostname())

    @property
    def sockets(self) -> list[str]:
        """The Unix sockets' paths."""
        return [
            address.removeprefix("unix:")
            for address in self.addresses
            if address.startswith("unix:")
        ]

    def ports(self) -> list[str]:
        """Addresses that others than its own machine's users may reach."""
        if self.is_of_this_machine:
            return [
                reachable(address, "localhost")
                for address in self.addresses
                if not address.startswith("unix:")
            ]
        return [
            reachable(address, self.host)
            for address in self.addresses
            if not is_local(address)
        ]


def is_served_here(base: Path) -> bool:
    """Whether the server of `base`, if one runs, is on this machine. Asks no server."""
    with suppress(OSError):
        peer.connect(_socket_below(base))
        return True
    return Lock.read(_lock_file(base)).is_of_this_machine


def _socket_below(base: Path) -> str:
    return str(base / ".workspaced" / "socket")


def _lock_file(base: Path) -> Path:
    return base / ".workspaced" / "lock"


class LocalServer:
    """The server of `base`. Thread-safe; any number of processes may look for it at
    once.
    """

    may_move = True

    def __init__(self, base: Path) -> None:
        self._base = base

    def find(self, to_change: bool = False) -> str:
        """Returns the address of a server that accepts connections, after starting one
        if need be.

        Where the base cannot be written it is one that only reads, unless one is needed
        `to_change` something.

        Raises WorkspaceError if none can be started, if the one there is cannot be
        reached from here, or if it is that of a user who is not trusted.
        """
        if address := self._find_running():
            return address
        if not to_change and (address := self._find_reader()):
            return address
        locked_out = self._is_locked_out()
        if locked_out and (address := self._find_by_port()):
            return address
        try:
            return self._start(locked_out)
        except _CannotWrite as error:
            if to_change:
                raise self._failure(str(error)) from None
            return self._start_reader()
        except WorkspaceError as error:
            if locked_out:
                raise self._served_alone() from error
            raise

    def may_be_at(self, address: str) -> bool:
        """Returns False if the socket is no longer there."""
        return not address.startswith("unix:") or os.path.exists(
            address.removeprefix("unix:")
        )

    def _find_running(self) -> str | None:
        below = _socket_below(self._base)
        if self._accepts(below):
            return f"unix:{below}"
        # A lock file may be the copy of another base's: what listens there must say
        # that it serves this one.
        for path in Lock.read(_lock_file(self._base)).sockets:
            if path != below and self._accepts(path) and self._serves(f"unix:{path}"):
                return f"unix:{path}"
        return None

    def _accepts(self, path: str) -> bool:
        """Whether a server that may be used listens there.

        Raises WorkspaceError if it is somebody else's.
        """
        try:
            user = peer.connect(path)
        except OSError:
            return False
        if not peer.is_trusted(user):
            raise peer.untrusted(str(self._base), user)
        return True

    def _serves(self, address: str) -> bool:
        info = _info_of(address)
        with suppress(OSError):
            return info is not None and os.path.samefile(info.base_path, self._base)
        return False

    def _find_by_port(self) -> str | None:
        """The server that holds the lock, of another user or on another host, where
        others may reach it.
        """
        lock = Lock.read(_lock_file(self._base))
        for port in lock.ports():
            if not peer.is_trusted(lock.owner):
                raise peer.untrusted(str(self._base), lock.owner)
            # On another host the base may have another path.
            if (
                self._serves(port)
                if lock.is_of_this_machine
                else _info_of(port) is not None
            ):
                return port
        return None

    def _start(self, locked_out: bool) -> str:
        deadline = time.monotonic() + _START_S
        elsewhere = time.monotonic() + _ELSEWHERE_S
        while True:
            log = self._base / ".workspaced" / "log"
            with _Attempt(
                self._base, "--log-calls", "errors", "--log-file", str(log)
            ) as attempt:
                again = time.monotonic() + _START_AGAIN_S
                while attempt.runs() or (
                    attempt.code() == _LOCKED_EXIT_CODE and time.monotonic() < again
                ):
                    if address := self._find_running():
                        return address
                    if time.monotonic() > deadline:
                        raise self._failure(
                            f"it does not answer after {_START_S:.0f} s"
                        )
                    time.sleep(_POLL_S)
                if attempt.code() == _LOCKED_EXIT_CODE:
                    if address := self._find_by_port():
                        return address
                    lock = Lock.read(_lock_file(self._base))
                    # Whoever holds it may be about to begin, or to end: but not where
                    # its socket is there already.
                    if locked_out or time.monotonic() > (
                        deadline if lock.is_of_this_machine else elsewhere
                    ):
                        raise self._unreachable(lock, attempt.sentence())
                elif attempt.code() == _READ_ONLY_EXIT_CODE:
                    raise _CannotWrite(attempt.sentence())
                else:
                    raise self._failure(attempt.sentence())

    def _is_locked_out(self) -> bool:
        """Whether the socket is there, but not for this user."""
        try:
            peer.connect(_socket_below(self._base))
        except PermissionError:
            return True
        except OSError:
            pass
        return False

    def _served_alone(self) -> WorkspaceError:
        return errors.unavailable(
            f"{self._base} is served for another user alone, at unix:{_socket_below(self._base)}: have it listen on a "
            f"port too (workspaced --listen 127.0.0.1:PORT), or let that user start it again",
            addresses=Lock.read(_lock_file(self._base)).addresses,
        )

    def _unreachable(self, lock: Lock, sentence: str) -> WorkspaceError:
        return errors.unavailable(
            f"{sentence}; it cannot be reached from here: have it listen on an address that can "
            f"(workspaced --listen HOST:PORT --insecure), or stop it",
            base_path=str(self._base),
            pid=lock.pid,
            host=lock.host,
            addresses=lock.addresses,
        )

    def _failure(self, why: str) -> WorkspaceError:
        log = self._base / ".workspaced" / "log"
        return errors.unavailable(
            f"No server for {self._base} can be started: {why}",
            base_path=str(self._base),
            log_file=str(log),
        )

    # --- A base that cannot be written ---

    def _find_reader(self) -> str | None:
        """The server that this user has for reading.

        It lives on for a while where the base can be written again.
        """
        with suppress(OSError):
            path = _reader_socket(self._base)
            if peer.connect(path) == os.geteuid() and self._serves(f"unix:{path}"):
                return f"unix:{path}"
        return None

    def _start_reader(self) -> str:
        deadline = time.monotonic() + _START_S
        while True:
            # Not with a log in the base, nor with one that grows in memory.
            with _Attempt(self._base, "--read-only", "--log-calls", "off") as attempt:
                while attempt.runs() and time.monotonic() < deadline:
                    if address := self._find_reader():
                        return address
                    time.sleep(_POLL_S)
                if address := self._find_reader():
                    return address
                if attempt.code() != _LOCKED_EXIT_CODE or time.monotonic() > deadline:
                    raise self._failure(attempt.sentence())
            time.sleep(_POLL_S)


class _CannotWrite(Exception):
    """The base can be read, but not written."""


def _reader_socket(base: Path) -> str:
    """Where a server that only reads listens: outside of the base, in a directory of
    this user's alone.
    """
    real = os.path.realpath(base)
    info = os.stat(real)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = runtime.startswith("/") and len(os.fsencode(runtime)) < 60
    directory = f"{runtime}/workspaced" if usable else f"/tmp/workspaced-{os.geteuid()}"
    name = hashlib.sha256(
        b"read-only %d %d %s" % (info.st_dev, info.st_ino, os.fsencode(real))
    ).hexdigest()[:16]
    return f"{directory}/{name}.sock"


def _info_of(address: str) -> pb.ServerInfo | None:
    """What the server there says of itself; None if it does not answer."""
    channel = open_channel(address)
    try:
        return WorkspaceServiceStub(channel).GetServerInfo(
            pb.GetServerInfoRequest(), timeout=_INFO_S
        )
    except grpc.RpcError:
        return None
    finally:
        channel.close()


class _Attempt:
    """A server that was told to start: it outlives this process, in a session of its
    own.
    """

    def __init__(self, base: Path, *options: str) -> None:
        self._output = _unnamed_file()
        idle_timeout = os.environ.get(IDLE_TIMEOUT_VARIABLE) or _IDLE_TIMEOUT
        try:
            self._process = _run(
                ["--base", str(base), "--idle-timeout", idle_timeout, *options],
                self._output,
            )
        except BaseException:
            self._output.close()
            raise
        # Nobody else waits for it when it leaves, and a process that has ended stays
        # until somebody does.
        threading.Thread(target=self._process.wait, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._output.close()

    def runs(self) -> bool:
        return self._process.poll() is None

    def code(self) -> int | None:
        """What it ended with; None as long as it runs."""
        return self._process.poll()

    def sentence(self) -> str:
        """What it said before it left."""
        self._output.seek(0)
        text = os.fsdecode(self._output.read()).strip()
        if "version `GLIBC_" in text:
            return (
                f"the C library of this system is older than workspaced needs; take Debian 12 or newer, or set "
                f"{ADDRESS_VARIABLE} to a server that runs elsewhere ({text.splitlines()[0]})"
            )
        return (
            text.removeprefix("workspaced: ")
            or f"it ended with {self._process.returncode}"
        )


def _run(arguments: Sequence[str], output: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [str(BINARY), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            # What gRPC should say here is not what it should say there.
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith("GRPC_")
            },
            start_new_session=True,
        )
    except OSError as error:
        # The system says so of a program whose loader it does not have.
        no_loader = isinstance(error, FileNotFoundError) and BINARY.exists()
        why = (
            "this system has no GNU C library, which it needs"
            if no_loader
            else error.strerror
        )
        raise errors.unavailable(f"{BINARY} cannot be run: {why}") from error


def _unnamed_file() -> IO[bytes]:
    """A file in memory: there may be no directory for temporary ones that can be
    written.
    """
    if hasattr(os, "memfd_create"):
        with suppress(OSError):  # Not every sandbox allows it.
            return os.fdopen(os.memfd_create("workspaced"), "w+b")
    return tempfile.TemporaryFile()
