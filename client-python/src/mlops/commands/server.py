"""The commands `server info`, `server start`, `server stop` and `server log`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.commands import output
from mlops.commands.context import base_here, manager
from mlops.commands.errors import CONFLICT, NOT_FOUND, UNAVAILABLE, CommandError

if TYPE_CHECKING:
    from mlops.local_server import Lock

HELP = "Show, start and stop the server."
_START_S, _STOP_S, _POLL_S = 30.0, 60.0, 0.02


def info() -> None:
    """Show the server's version, base directory and limits.

    Starts a server if the base directory is on this machine and none runs.

    Examples:
      mlops server info
      mlops server info -o json
    """
    answer = manager().server_info()
    output.record(
        {
            "version": answer.version,
            "base_path": answer.base_path,
            "started_at": answer.started_at.isoformat(),
            "workspace_count": answer.workspace_count,
            "purge_delay_seconds": int(answer.purge_delay.total_seconds()),
            "max_page_size": answer.max_page_size,
            "max_chunk_bytes": answer.max_chunk_bytes,
            "max_metadata_bytes": answer.max_metadata_bytes,
            "features": list(answer.features),
        },
        "base_path",
    )


def start(
    listen: Annotated[
        list[str],
        typer.Option(metavar="ADDRESS", help="Also listen on HOST:PORT or unix:PATH"),
    ] = [],  # noqa: B006
    idle_timeout: Annotated[
        str, typer.Option(metavar="SPAN", help="Exit when idle for so long; inf: never")
    ] = "inf",
    option: Annotated[
        list[str],
        typer.Option(
            metavar="FLAG", help="A flag of workspaced, such as --option=--read-only"
        ),
    ] = [],  # noqa: B006
) -> None:
    """Start the server of the base directory in the background.

    Its log is .workspaced/log below the base directory. `workspaced --help` lists the
    flags for --option.

    Examples:
      mlops server start
      mlops server start --listen 127.0.0.1:0 --idle-timeout 12h
    """
    base = base_here()
    if (running := _running(base)) is not None:
        raise CommandError(
            f"a server runs already on {base} (process {running.pid})", CONFLICT
        )
    base.mkdir(parents=True, exist_ok=True)
    flags = [f"--listen={address}" for address in listen]
    process = _spawn(base, [f"--idle-timeout={idle_timeout}", *flags, *option])
    lock = _wait_until_serving(base, process)
    output.message(f"Server {lock.pid} serves {base}.")
    for address in lock.addresses:
        output.write(f"{address}\n")


def _log_of(base: Path) -> Path:
    return base / ".workspaced" / "log"


def _spawn(base: Path, flags: list[str]) -> subprocess.Popen[bytes]:
    from mlops.cli import BINARY, why_not_run

    log = f"--log-file={_log_of(base)}"
    try:
        return subprocess.Popen(
            [str(BINARY), f"--base={base}", log, "--log-calls=errors", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(why_not_run(error)) from None


def _wait_until_serving(base: Path, process: subprocess.Popen[bytes]) -> Lock:
    assert process.stderr is not None
    deadline = time.monotonic() + _START_S
    try:
        while process.poll() is None:
            lock = _running(base)
            if lock is not None and lock.pid == process.pid and lock.addresses:
                return lock
            if time.monotonic() > deadline:
                raise CommandError(
                    f"the server does not serve after {_START_S:.0f} s", UNAVAILABLE
                )
            time.sleep(_POLL_S)
    except BaseException:
        # Do not leave a server behind that has not started completely.
        process.terminate()
        raise
    sentence = process.stderr.read().decode(errors="replace").strip()
    last = (
        sentence.splitlines()[-1] if sentence else f"it ended with {process.returncode}"
    )
    raise CommandError(last.removeprefix("workspaced: "))


def _running(base: Path) -> Lock | None:
    """Return the lock of a server on this machine that serves `base`; else None."""
    from mlops.local_server import Lock

    lock = Lock.read(base / ".workspaced" / "lock")
    if not lock.pid or not lock.is_of_this_machine:
        return None
    try:
        command = Path(f"/proc/{lock.pid}/cmdline").read_bytes()
        os.kill(lock.pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return lock
    # Another program may have reused the pid.
    return lock if b"workspaced" in command else None


def stop() -> None:
    """Stop the server of the base directory after its calls in flight have finished.

    Examples:
      mlops server stop
    """
    base = base_here()
    lock = _running(base)
    if lock is None:
        raise CommandError(f"no server runs on {base}", NOT_FOUND)
    os.kill(lock.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _running(base) is not None:
        if time.monotonic() > deadline:
            raise CommandError(
                f"the server {lock.pid} still finishes its calls after {_STOP_S:.0f} s",
                UNAVAILABLE,
            )
        time.sleep(_POLL_S)
    output.message(f"Stopped server {lock.pid}.")


def log(
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="The last N lines")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue with new lines")
    ] = False,
) -> None:
    """Show the log of the base directory's server.

    Examples:
      mlops server log
      mlops server log --lines 100
    """
    path = _log_of(base_here())
    try:
        file = path.open(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        raise CommandError(f"there is no log at {path}", NOT_FOUND) from None
    with file:
        output.write("".join(deque(file, maxlen=lines)))
        while follow:
            sys.stdout.flush()
            if text := file.read():
                output.write(text)
            else:
                time.sleep(0.2)


COMMANDS = {"info": info, "start": start, "stop": stop, "log": log}
