"""A real workspaced for tests: started on a Unix socket, stopped by SIGTERM."""

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import grpc

REPO = Path(__file__).parents[2]
BINARY = Path(os.environ.get("WORKSPACED", REPO / "build/service/workspaced"))
_DEADLINE_S = 30


@contextlib.contextmanager
def short_base(parent: str = "/tmp") -> Iterator[Path]:
    """Makes a base directory whose path leaves room for the socket's: those are at most
    107 bytes long.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-", dir=parent) as directory:
        yield Path(directory).resolve() / "base"


@contextlib.contextmanager
def locked(base: Path) -> Iterator[None]:
    """Holds the lock of the base directory as a server does that nobody can reach."""
    lock = base / ".workspaced/lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with lock.open("ab") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole_file)
        yield


class Server:
    """One `workspaced --base BASE ARGS...`, as a context manager; entered, it knows its
    `addresses`.

    `wrapper` is a command that ends by executing the one that follows it, in the same
    process.
    """

    def __init__(
        self, base: Path, *args: str, wrapper: Sequence[str | Path] = ()
    ) -> None:
        self.base = base
        self.addresses: list[str] = []
        self._args = args
        self._wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def seen_base(self) -> Path:
        """Where others find the base."""
        return self.base

    @property
    def address(self) -> str:
        """The Unix socket's."""
        address = next(
            address for address in self.addresses if address.startswith("unix:")
        )
        return address.replace(str(self.base), str(self.seen_base))

    @property
    def socket(self) -> Path:
        return Path(self.address.removeprefix("unix:"))

    @property
    def output(self) -> str:
        """What it printed, the log included."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.base.with_name(f"{self.base.name}.log")

    def __enter__(self) -> Self:
        self.base.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            command = [*self._wrapper, BINARY, "--base", self.base, *self._args]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.addresses = self._wait_for_addresses()
            self._wait_until_serving()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._process.returncode == -signal.SIGKILL:
            return
        self.terminate()
        code = self.wait()
        if kind is None:
            assert code == 0, f"workspaced ended with {code}: {self.output}"

    def terminate(self) -> None:
        """Asks it to stop."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it on the spot, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Waits until it has stopped; returns its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def connect(self) -> grpc.Channel:
        """A channel to its Unix socket."""
        return grpc.insecure_channel(
            f"unix:{quote(str(self.socket))}", [("grpc.enable_http_proxy", 0)]
        )

    def _wait_for_addresses(self) -> list[str]:
        """The lock file may still tell of the server before: the pid says whose it is."""
        lock = self.seen_base / ".workspaced/lock"
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, json.JSONDecodeError, KeyError):
                owner = json.loads(lock.read_text())
                if owner["pid"] == self.pid:
                    return list(owner["addresses"])
            self._check_runs()
            time.sleep(0.01)
        raise TimeoutError(f"workspaced does not say where it listens: {self.output}")

    def _wait_until_serving(self) -> None:
        with self.connect() as channel:
            # Not channel_ready_future, which looks only five times a second.
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            check(b"", timeout=_DEADLINE_S, wait_for_ready=True)

    def _check_runs(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(
                f"workspaced ended with {self._process.returncode}: {self.output}"
            )


def stop_server(base: Path) -> None:
    """Stops the server that a client started for `base`, if one runs, and waits until
    it has gone.
    """
    lock = base / ".workspaced/lock"
    with contextlib.suppress(OSError, json.JSONDecodeError):
        pid = json.loads(lock.read_text())["pid"]
        # What stands there may be of a test's making, or of a server killed long ago.
        if b"workspaced" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _DEADLINE_S
        while Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < deadline, (
                f"workspaced {pid} of {base} does not stop"
            )
            time.sleep(0.01)
