"""The commands `lease run`, `lease acquire` and `lease release`."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.commands import output
from mlops.commands.context import manager
from mlops.commands.errors import REFUSED, CommandError, usage
from mlops.commands.parameters import Holder, Project, Wait

if TYPE_CHECKING:
    from mlops.workspace.lease import Lease

HELP = "Run commands that alone may change a project."
_PROJECT, _HOLDER, _FENCE = (
    "MLOPS_LEASE_PROJECT",
    "MLOPS_LEASE_HOLDER",
    "MLOPS_LEASE_FENCE",
)
_LOOK_S = 0.2
_STOP_S = 10
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


def run(
    project: Project,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND")],
    holder: Holder = "",
    ttl: Annotated[
        float, typer.Option(metavar="SECONDS", help="Ends so long after this process")
    ] = 60.0,
    wait: Wait = 0.0,
) -> int:
    """Run a command while holding the lease of a project.

    Meanwhile, the server refuses changes by others. The command gets the lease in
    MLOPS_LEASE_PROJECT, MLOPS_LEASE_HOLDER and MLOPS_LEASE_FENCE, so mlops and the
    Python and C++ clients in it may change the project. If the lease is lost, the
    command is terminated. The exit code is the command's.

    Examples:
      mlops lease run fraud -- mlops set fraud stage=test
      mlops lease run fraud --holder nightly --wait 60 -- true
    """
    with manager().lease(project, holder or None, ttl, wait or None) as lease:
        return _run(command, lease)


def _run(command: list[str], lease: Lease) -> int:
    variables = _variables(lease.project_name, lease.holder, lease.fence)
    try:
        process = subprocess.Popen(command, env={**os.environ, **variables})
    except FileNotFoundError:
        raise CommandError(f"{command[0]}: command not found", _NOT_FOUND) from None
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}", _NOT_EXECUTABLE) from None
    try:
        # Wake up regularly to detect that the lease was lost.
        while True:
            try:
                code = process.wait(_LOOK_S)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                if lease.lost:
                    raise CommandError(
                        f"the lease on {lease.project_name} was lost, "
                        "so the command was ended",
                        REFUSED,
                    ) from None
    finally:
        # End the command even after Ctrl-C, which the terminal also sends to it.
        _end(process)


def _variables(project: str, holder: str, fence: int) -> Mapping[str, str]:
    return {
        _PROJECT: project,
        _HOLDER: holder,
        _FENCE: str(fence),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def acquire(
    project: Project,
    holder: Holder = "",
    ttl: Annotated[
        float, typer.Option(metavar="SECONDS", help="The lease ends so long from now")
    ] = 600.0,
    wait: Wait = 0.0,
    export: Annotated[
        bool, typer.Option("--export", help="Print the variables for a shell")
    ] = False,
) -> None:
    """Acquire the lease of a project for several commands, or renew it.

    The lease ends after --ttl or with mlops lease release. Only the same command with
    the same --holder renews it. Commands that find the variables of --export in their
    environment carry the lease: eval "$(mlops lease acquire PROJECT --export)". The
    server refuses all other changes. Once the lease has ended, it also refuses those of
    these commands.

    Examples:
      mlops lease acquire fraud --holder nightly
      mlops lease acquire fraud --holder nightly --ttl 3600 --export
    """
    info = manager().acquire_lease(project, holder or None, ttl, wait or None)
    if export:
        variables = _variables(project, info.holder, info.fence)
        output.write(
            "".join(
                f"export {name}={shlex.quote(value)}\n"
                for name, value in variables.items()
            )
        )
        return
    acquired = {
        "project_name": project,
        "holder": info.holder,
        "fence": info.fence,
        "acquired_at": info.acquired_at.isoformat(),
        "expires_at": info.expires_at.isoformat(),
    }
    output.record(acquired, "holder")


def release(
    project: Project,
    holder: Annotated[
        str, typer.Option(metavar="NAME", help="The holder of the lease")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Whoever holds the lease")
    ] = False,
) -> None:
    """End a lease, for example that of a program that died.

    The default holder comes from the environment; see mlops lease acquire.

    Examples:
      mlops lease release fraud --force
      mlops lease release fraud --holder nightly
    """
    if not holder and not force and os.environ.get(_PROJECT) == project:
        holder = os.environ.get(_HOLDER, "")
    if bool(holder) == force:
        raise usage("give either --holder or --force")
    manager().release_lease(project, holder or None, force)
    output.message(f"Nobody holds a lease on {project}.")


COMMANDS = {"run": run, "acquire": acquire, "release": release}
