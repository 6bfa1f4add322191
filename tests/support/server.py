"""Runs a real workspaced for tests, on a Unix socket."""

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
    """Yields a base directory, not created yet, with a short path.

    The path of a Unix socket is limited to 107 bytes, and pytest's own temporary
    directories can be too deep for the server's socket. The parent is removed at exit.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-", dir=parent) as directory:
        yield Path(directory).resolve() / "base"


@contextlib.contextmanager
def locked(base: Path) -> Iterator[None]:
    """Holds the lock of `base`, like a server that no client can reach."""
    lock = base / ".workspaced/lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    whole_file = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with lock.open("ab") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole_file)
        yield


class Server:
    """Runs `workspaced --base BASE ARGS...` as a context manager.

    Entering starts the process and waits until it serves; `addresses` is set from then
    on. Leaving sends SIGTERM and asserts exit code 0, unless the test killed the server
    or the block raised. Entering raises RuntimeError if the process exits early and
    TimeoutError if it reports no addresses within 30 seconds.

    `wrapper` is a command prefix. It must exec the command that follows it, so that the
    server keeps the process id.
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
        """The path at which other processes find the base."""
        return self.base

    @property
    def address(self) -> str:
        """The address of the Unix socket, as clients use it."""
        address = next(
            address for address in self.addresses if address.startswith("unix:")
        )
        return address.replace(str(self.base), str(self.seen_base))

    @property
    def socket(self) -> Path:
        return Path(self.address.removeprefix("unix:"))

    @property
    def output(self) -> str:
        """Everything that the server has printed, log lines included."""
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
        # The test called kill(): there is no exit code to check.
        if self._process.returncode == -signal.SIGKILL:
            return
        self.terminate()
        code = self.wait()
        if kind is None:
            assert code == 0, f"workspaced ended with {code}: {self.output}"

    def terminate(self) -> None:
        """Sends SIGTERM and returns at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL, as a simulated crash, and waits for the process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Waits until the server has stopped and returns its exit code.

        After 30 seconds it kills the server and raises subprocess.TimeoutExpired.
        """
        assert self._process is not None
        try:
            return self._process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def connect(self) -> grpc.Channel:
        """Returns a new channel to the Unix socket; the caller closes it."""
        return grpc.insecure_channel(
            f"unix:{quote(str(self.socket))}", [("grpc.enable_http_proxy", 0)]
        )

    def _wait_for_addresses(self) -> list[str]:
        """Returns the addresses from the lock file, once this process has written it.

        Until then the file may be missing, half-written or left by an earlier server,
        so its pid must match.
        """
        lock = self.seen_base / ".workspaced/lock"
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, json.JSONDecodeError, KeyError):
                owner = json.loads(lock.read_text())
                if owner["pid"] == self.pid:
                    return list(owner["addresses"])
            self._check_runs()
            time.sleep(0.01)
        raise TimeoutError(f"workspaced reported no addresses in time: {self.output}")

    def _wait_until_serving(self) -> None:
        with self.connect() as channel:
            # channel_ready_future would poll only five times a second.
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            check(b"", timeout=_DEADLINE_S, wait_for_ready=True)

    def _check_runs(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(
                f"workspaced ended with {self._process.returncode}: {self.output}"
            )


def stop_server(base: Path) -> None:
    """Stops the server that a client started for `base`, if any, and waits for it."""
    lock = base / ".workspaced/lock"
    with contextlib.suppress(OSError, json.JSONDecodeError):
        pid = json.loads(lock.read_text())["pid"]
        # The pid may be stale, or a test may have written the lock file.
        if b"workspaced" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _DEADLINE_S
        while Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < deadline, (
                f"workspaced {pid} of {base} does not stop"
            )
            time.sleep(0.01)
