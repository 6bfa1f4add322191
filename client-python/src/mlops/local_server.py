"""The server of a base directory on this machine: found by the lock file it writes, started where there is none."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import grpc

from mlops._rpc import errors
from mlops._rpc.channel import is_local, open_channel
from mlops._rpc.connection import FixedServer, Server
from mlops._rpc.errors import WorkspaceError
from mlops.cli import BINARY
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

ADDRESS_VARIABLE = "MLOPS_WORKSPACE_ADDRESS"
# How long a server that was started here waits for another call before it leaves; as in "90s", "15m" or "12h". Short by
# default, since a new one is there in a twentieth of a second, and tests that make a base each would leave one each.
IDLE_TIMEOUT_VARIABLE = "MLOPS_WORKSPACE_IDLE_TIMEOUT"
_IDLE_TIMEOUT = "1m"
_START_S = 60.0
_POLL_S = 0.02
# A server that finds the base locked leaves with this; the one that holds the lock may be starting still, or leaving.
_LOCKED_EXIT_CODE = 3
_START_AGAIN_S = 0.5
_MAX_SOCKET_PATH_BYTES = 107
_MAX_LOCK_BYTES = 65536


def choose_server(
    base_path: str | os.PathLike[str] | None = None,
    repo_root: str | os.PathLike[str] | None = None,
    address: str | None = None,
) -> "tuple[Server, Path | None]":
    """The server that the arguments of WorkspaceManager mean, and its base directory if that is one of this machine,
    which is then made. Asks no server.

    Raises WorkspaceError FIELD_INVALID if the address is none.
    """
    given = address or os.environ.get(ADDRESS_VARIABLE)
    if given:
        return FixedServer(check_address("address" if address else ADDRESS_VARIABLE, given)), None
    base = Path(base_path) if base_path is not None else Path(repo_root or Path.cwd()) / "mlops" / "workspace"
    base = base.expanduser().absolute()
    # As it always was; where it cannot be made, the first call says why.
    with suppress(OSError):
        base.mkdir(parents=True, exist_ok=True)
    return LocalServer(base), base


@dataclass(frozen=True)
class Lock:
    """What a server writes into `<base>/.workspaced/lock` for those who look for it."""

    host: str = ""
    addresses: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Lock":
        """What stands there; nothing if there is no server, or none yet."""
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(_MAX_LOCK_BYTES))
            return cls(str(content.get("host", "")), [str(address) for address in content["addresses"]])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    @property
    def is_of_this_machine(self) -> bool:
        """Whether no other machine's server wrote it."""
        return self.host in ("", socket.gethostname())


def is_served_here(base: Path) -> bool:
    """Whether the server of `base`, if one runs, is on this machine. Asks no server."""
    return Lock.read(base / ".workspaced" / "lock").is_of_this_machine


class LocalServer:
    """The server of `base`. Thread-safe; any number of processes may look for it at once."""

    may_move = True

    def __init__(self, base: Path) -> None:
        self._base = base
        self._lock_file = base / ".workspaced" / "lock"

    def find(self) -> str:
        """Returns the address of a server that accepts connections, after starting one if need be.

        Raises WorkspaceError if none can be started, or if the one there is runs on another machine and cannot be
        reached from here.
        """
        return self._find_running() or self._start()

    def may_be_at(self, address: str) -> bool:
        """Returns False if the socket is no longer there."""
        return not address.startswith("unix:") or os.path.exists(address.removeprefix("unix:"))

    def _find_running(self) -> str | None:
        lock = Lock.read(self._lock_file)
        if not lock.is_of_this_machine:
            return self._elsewhere(lock)
        own_socket = f"unix:{self._base}/.workspaced/socket"
        locked_out = ""
        for address in (own_socket, *(a for a in lock.addresses if a.startswith("unix:") and a != own_socket)):
            try:
                _connect(address.removeprefix("unix:"))
            except PermissionError:
                locked_out = address
            except OSError:
                continue
            else:
                if address == own_socket or self._is_served_at(address):
                    return address
        return self._by_port(lock, locked_out) if locked_out else None

    def _is_served_at(self, address: str) -> bool:
        """Whether the server there is of this base: a lock file may be the copy of another base's."""
        try:
            stub = WorkspaceServiceStub(open_channel(address))
            return os.path.samefile(stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=10).base_path, self._base)
        except (grpc.RpcError, OSError):
            return False

    def _by_port(self, lock: Lock, locked_out: str) -> str:
        """Somebody else's server; what a dead one wrote of its ports would not count."""
        for address in lock.addresses:
            address = _reachable(address, "localhost")
            if not address.startswith("unix:") and self._is_served_at(address):
                return address
        raise errors.unavailable(
            f"{self._base} is served for another user alone, at {locked_out}: have it listen on a port too",
            addresses=lock.addresses,
        )

    def _elsewhere(self, lock: Lock) -> str:
        for address in lock.addresses:
            if not is_local(address):
                return _reachable(address, lock.host)
        raise errors.unavailable(
            f"{self._base} is served on the host {lock.host} at {', '.join(lock.addresses)} alone: have it listen on "
            f"an address that can be reached from here, or empty {self._lock_file} if it is gone",
            host=lock.host,
            addresses=lock.addresses,
        )

    def _start(self) -> str:
        deadline = time.monotonic() + _START_S
        while True:
            with _Attempt(self._base) as attempt:
                again = time.monotonic() + _START_AGAIN_S
                while attempt.runs() or (attempt.found_it_locked() and time.monotonic() < again):
                    if address := self._find_running():
                        return address
                    if time.monotonic() > deadline:
                        raise self._failure(f"it does not answer after {_START_S:.0f} s")
                    time.sleep(_POLL_S)
                if not attempt.found_it_locked() or time.monotonic() > deadline:
                    raise self._failure(attempt.sentence())

    def _failure(self, why: str) -> WorkspaceError:
        log = self._base / ".workspaced" / "log"
        return errors.unavailable(
            f"No server for {self._base} can be started: {why}", base_path=str(self._base), log_file=str(log)
        )


class _Attempt:
    """A server that was told to start: it outlives this process, in a session of its own."""

    def __init__(self, base: Path) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        idle_timeout = os.environ.get(IDLE_TIMEOUT_VARIABLE) or _IDLE_TIMEOUT
        log = ["--log-calls", "errors", "--log-file", str(base / ".workspaced" / "log")]
        command = [str(BINARY), "--base", str(base), "--idle-timeout", idle_timeout, *log]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd="/",
                # What gRPC should say here is not what it should say there.
                env={name: value for name, value in os.environ.items() if not name.startswith("GRPC_")},
                start_new_session=True,
            )
        except OSError as error:
            raise errors.unavailable(f"{BINARY} cannot be run: {error}") from error
        # Nobody else waits for it when it leaves, and a process that has ended stays until somebody does.
        threading.Thread(target=self._process.wait, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._output.close()

    def runs(self) -> bool:
        return self._process.poll() is None

    def found_it_locked(self) -> bool:
        return self._process.returncode == _LOCKED_EXIT_CODE

    def sentence(self) -> str:
        """What it said before it left."""
        self._output.seek(0)
        text = self._output.read().decode(errors="replace").strip()
        return text.removeprefix("workspaced: ") or f"it ended with {self._process.returncode}"


def _reachable(address: str, host: str) -> str:
    """The address with `host` in place of one that means every address of the server's machine."""
    for everywhere in ("0.0.0.0:", "[::]:"):
        if address.startswith(everywhere):
            return f"{host}:{address.removeprefix(everywhere)}"
    return address


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)


def check_address(name: str, address: str) -> str:
    """Returns `address` if it is "unix:PATH" or "HOST:PORT". Raises WorkspaceError, which calls it `name`, if not."""
    if problem := _address_problem(address):
        raise errors.field_invalid(name, problem)
    return address


def _address_problem(address: str) -> str:
    if address.startswith("unix:"):
        path = os.fsencode(address.removeprefix("unix:"))
        if not path:
            return "has no path after unix:"
        if len(path) > _MAX_SOCKET_PATH_BYTES:
            return f"is longer than a Unix socket's path may be, {_MAX_SOCKET_PATH_BYTES} bytes"
        return ""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        return f"must be unix:PATH or HOST:PORT, not {address:.256}"
    return ""
