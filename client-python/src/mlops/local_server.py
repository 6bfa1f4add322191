"""The server of a base directory on this machine.

Finds the server by its socket or its lock file, and starts one if none is running.
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
from typing import IO, Self, Unpack

import grpc

from mlops._rpc import errors, peer
from mlops._rpc.address import check_address, check_addresses, is_local, reachable
from mlops._rpc.channel import open_channel
from mlops._rpc.connection import FixedServer, Server
from mlops._rpc.credentials import (
    NONE,
    TOKEN_VARIABLE,
    CredentialOptions,
    Credentials,
)
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.failover import FailoverServer
from mlops._rpc.stub import Stub
from mlops.cli import BINARY, why_not_run
from mlops.workspace.v1 import workspace_service_pb2 as pb

__all__ = [
    "LocalServer",
    "check_address",
    "choose_server",
    "is_served_here",
    "server_at",
]

ADDRESS_VARIABLE = "MLOPS_WORKSPACE_ADDRESS"
# How long a server that the client started stays idle before it exits, for example
# "90s", "15m" or "12h". The default is short: a new server starts within 50 ms, and
# tests that create many bases would otherwise leave a server for each.
IDLE_TIMEOUT_VARIABLE = "MLOPS_WORKSPACE_IDLE_TIMEOUT"
_IDLE_TIMEOUT = "1m"
_START_S = 60.0
_POLL_S = 0.02
# Exit code of a server that finds the base locked. The lock's holder may still be
# starting, or be about to exit.
_LOCKED_EXIT_CODE = 3
_START_AGAIN_S = 0.5
# How long to wait for a lock holder on another host. If it does not answer by then, it
# is not reachable from here.
_ELSEWHERE_S = 10.0
# Exit code of a server whose base exists and can be read, but not written.
_READ_ONLY_EXIT_CODE = 4
# Environment variables that a server started by the client must not inherit: those for
# this process (gRPC's, systemd's), those for servers that people start, and the token.
_OTHERS_VARIABLES = ("GRPC_", "WORKSPACED_", "NOTIFY_SOCKET", "WATCHDOG_")
_MAX_LOCK_BYTES = 65536
_INFO_S = 10.0


def choose_server(
    base_path: str | os.PathLike[str] | None = None,
    repo_root: str | os.PathLike[str] | None = None,
    address: str | None = None,
    **options: Unpack[CredentialOptions],
) -> "tuple[Server, Path | None]":
    """Return the server for WorkspaceManager's arguments, and its base directory.

    The base directory is None if the server is given by an address. Otherwise it is on
    this machine, and is created if missing. Contacts no server.

    Raises:
        WorkspaceError: FIELD_INVALID if the address or a credential is malformed, or
            the token would be sent to another machine unencrypted.
    """
    credentials = Credentials.of(options)
    given = address or os.environ.get(ADDRESS_VARIABLE)
    if given:
        name = "address" if address else ADDRESS_VARIABLE
        return server_at(name, given, credentials), None
    base = (
        Path(base_path)
        if base_path is not None
        else Path(repo_root or Path.cwd()) / "mlops" / "workspace"
    )
    base = base.expanduser().absolute()
    # The original package creates the base here, too. If that fails, the first call
    # reports why.
    with suppress(OSError):
        base.mkdir(parents=True, exist_ok=True)
    return LocalServer(base, credentials), base


def server_at(name: str, address: str, credentials: Credentials) -> Server:
    """Return the server at an address, or at several with commas between.

    Raises:
        WorkspaceError: FIELD_INVALID for the field `name`, as for choose_server().
    """
    addresses = check_addresses(name, address)
    for one in addresses:
        credentials.check_address(name, one)
    if len(addresses) == 1:
        return FixedServer(addresses[0], credentials)
    return FailoverServer(addresses, credentials)


@dataclass(frozen=True)
class Lock:
    """The contents of `<base>/.workspaced/lock`, which a server writes for its clients.

    The file does not prove that the server is running; only the kernel's lock on it
    does.
    """

    pid: int = 0
    host: str = ""
    addresses: list[str] = field(default_factory=list)
    owner: int = -1  # The uid of the file's owner.

    @classmethod
    def read(cls, path: Path) -> "Lock":
        """Read the file. Return an empty Lock if it is missing or incomplete."""
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
        """Whether the server is on this machine, or its host is unknown."""
        return self.host in ("", socket.gethostname())

    @property
    def sockets(self) -> list[str]:
        """The paths of the server's Unix sockets."""
        return [
            address.removeprefix("unix:")
            for address in self.addresses
            if address.startswith("unix:")
        ]

    def ports(self) -> list[str]:
        """Return the TCP addresses at which this process may reach the server.

        For a server on another machine, these exclude loopback addresses.
        """
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
    """Return whether the server of `base`, if it is running, is on this machine.

    Makes no call to the server.
    """
    with suppress(OSError):
        peer.connect(_socket_below(base))
        return True
    return Lock.read(_lock_file(base)).is_of_this_machine


def _socket_below(base: Path) -> str:
    return str(base / ".workspaced" / "socket")


def _lock_file(base: Path) -> Path:
    return base / ".workspaced" / "lock"


class LocalServer:
    """Finds or starts the server of `base`.

    Thread-safe. Any number of processes may look for the server at the same time.
    """

    may_move = True
    retries_in_grpc = True
    given = ""

    def __init__(self, base: Path, credentials: Credentials = NONE) -> None:
        self._base, self.credentials = base, credentials

    def find(self, to_change: bool = False) -> str:
        """Return the address of a server that accepts connections; start one if needed.

        If the base is not writable, this is a read-only server, unless `to_change` is
        True.

        Raises:
            WorkspaceError: UNAVAILABLE if no server can be started, if the running one
                cannot be reached from here, or if its user is not trusted.
        """
        if address := self._find_running():
            return address
        if not to_change and (address := self._find_reader()):
            return address
        # Another user's socket does not prove that its server still runs. So if no port
        # leads to that server, try to start one before giving up.
        locked_out = self._is_locked_out()
        if locked_out and (address := self._find_by_port()):
            return address
        try:
            return self._start(locked_out)
        except _CannotWrite as error:
            # The base is not writable: reads can be served, changes cannot.
            if to_change:
                raise self._failure(str(error)) from None
            return self._start_reader()
        except WorkspaceError as error:
            if locked_out:
                raise self._served_alone() from error
            raise

    def may_be_at(self, address: str) -> bool:
        """Return False if `address` is a Unix socket that no longer exists."""
        return not address.startswith("unix:") or os.path.exists(
            address.removeprefix("unix:")
        )

    def _find_running(self) -> str | None:
        below = _socket_below(self._base)
        if self._accepts(below):
            return f"unix:{below}"
        # The lock file may be a copy from another base, so ask the server which base it
        # serves.
        for path in Lock.read(_lock_file(self._base)).sockets:
            if path != below and self._accepts(path) and self._serves(f"unix:{path}"):
                return f"unix:{path}"
        return None

    def _accepts(self, path: str) -> bool:
        """Return whether a server that may be used listens on the socket at `path`.

        Raises:
            WorkspaceError: The server's user is not trusted.
        """
        try:
            user = peer.connect(path)
        except OSError:
            return False
        if not peer.is_trusted(user):
            raise peer.untrusted(str(self._base), user)
        return True

    def _serves(self, address: str) -> bool:
        info = _info_of(address, self.credentials)
        with suppress(OSError):
            return info is not None and os.path.samefile(info.base_path, self._base)
        return False

    def _find_by_port(self) -> str | None:
        """Return a TCP address of the server that holds the lock, or None.

        For a server of another user or on another host, whose socket this process
        cannot use.
        """
        lock = Lock.read(_lock_file(self._base))
        for port in lock.ports():
            if not peer.is_trusted(lock.owner):
                raise peer.untrusted(str(self._base), lock.owner)
            # On another host the base may have another path, so any answer will do.
            if (
                self._serves(port)
                if lock.is_of_this_machine
                else _info_of(port, self.credentials) is not None
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
                # A server that found the base locked exits. Keep looking for the lock's
                # holder for a moment before starting the next one.
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
                    # Another server holds the lock; it may listen on a port.
                    if address := self._find_by_port():
                        return address
                    lock = Lock.read(_lock_file(self._base))
                    # The lock's holder may be starting or exiting, so retry for a
                    # while. If its socket exists already, waiting does not help.
                    if locked_out or time.monotonic() > (
                        deadline if lock.is_of_this_machine else elsewhere
                    ):
                        raise self._unreachable(lock, attempt.sentence())
                elif attempt.code() == _READ_ONLY_EXIT_CODE:
                    raise _CannotWrite(attempt.sentence())
                else:
                    raise self._failure(attempt.sentence())

    def _is_locked_out(self) -> bool:
        """Return whether the socket exists, but refuses this user."""
        try:
            peer.connect(_socket_below(self._base))
        except PermissionError:
            return True
        except OSError:
            pass
        return False

    def _served_alone(self) -> WorkspaceError:
        return errors.unavailable(
            f"{self._base} is served by another user's server, whose socket "
            f"unix:{_socket_below(self._base)} refuses this user: "
            f"start that server with a port too (workspaced --listen 127.0.0.1:PORT), "
            f"or have that user restart it",
            addresses=Lock.read(_lock_file(self._base)).addresses,
        )

    def _unreachable(self, lock: Lock, sentence: str) -> WorkspaceError:
        return errors.unavailable(
            f"{sentence}; that server cannot be reached from here: "
            f"start it with a reachable address "
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

    # --- Bases that are not writable ---

    def _find_reader(self) -> str | None:
        """Return the address of this user's read-only server for the base, or None.

        The read-only server stays up for a while after the base has become writable.
        """
        with suppress(OSError):
            path = _reader_socket(self._base)
            if peer.connect(path) == os.geteuid() and self._serves(f"unix:{path}"):
                return f"unix:{path}"
        return None

    def _start_reader(self) -> str:
        deadline = time.monotonic() + _START_S
        while True:
            # The log can be neither in the base, which is not writable, nor in memory,
            # where it would grow without bound.
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
    """Return the socket path of a read-only server for `base`.

    The socket is outside the base, in a directory that belongs to this user.
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


def _info_of(address: str, credentials: Credentials) -> pb.ServerInfo | None:
    """Return the ServerInfo of the server at `address`; None if it does not answer."""
    channel = open_channel(address, credentials)
    try:
        return Stub(channel, credentials).GetServerInfo(
            pb.GetServerInfoRequest(), timeout=_INFO_S
        )
    except grpc.RpcError:
        return None
    finally:
        channel.close()


class _Attempt:
    """A server that this process tried to start.

    It runs in its own session, so it outlives this process.
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
        # Reap the process when it exits, so that it does not stay a zombie.
        threading.Thread(target=self._process.wait, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._output.close()

    def runs(self) -> bool:
        return self._process.poll() is None

    def code(self) -> int | None:
        """Return the exit code; None while the server is running."""
        return self._process.poll()

    def sentence(self) -> str:
        """Return the server's last message before it exited."""
        self._output.seek(0)
        text = os.fsdecode(self._output.read()).strip()
        if "version `GLIBC_" in text:
            return (
                f"the C library of this system is older than workspaced needs; "
                f"take one with glibc 2.34 or newer, or set {ADDRESS_VARIABLE} "
                f"to a server that runs elsewhere ({text.splitlines()[0]})"
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
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith(_OTHERS_VARIABLES) and name != TOKEN_VARIABLE
            },
            start_new_session=True,
        )
    except OSError as error:
        raise errors.unavailable(why_not_run(error)) from error


def _unnamed_file() -> IO[bytes]:
    """Return a temporary file, in memory if possible.

    There may be no writable directory for temporary files.
    """
    if hasattr(os, "memfd_create"):
        # Some sandboxes forbid memfd_create(2).
        with suppress(OSError):
            return os.fdopen(os.memfd_create("workspaced"), "w+b")
    return tempfile.TemporaryFile()
