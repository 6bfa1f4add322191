"""The command sync: synchronizes a directory in a project with a local directory."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.commands import output
from mlops.commands.context import files, options
from mlops.commands.errors import NOT_FOUND, CommandError, stopping, usage
from mlops.commands.remote_path import parse
from mlops.commands.remove import DryRun

if TYPE_CHECKING:
    from mlops.fs.plan import Step

_THREADS = 8
_READ_BYTES = 1 << 20
_Sizes = dict[str, int]  # By the path relative to the directory.


@dataclass
class _Plan:
    """Relative paths of the files to copy and to delete."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    same: int = 0


def sync(
    source: Annotated[str, typer.Argument(metavar="DIR")],
    target: Annotated[str, typer.Argument(metavar="PROJECT:PATH")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete files that the source lacks")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Copy the files of a directory that differ at the destination.

    Files differ if their sizes or their SHA-256 differ. Either of the two is
    PROJECT:PATH. Symbolic links to files are copied as files; links to directories and
    empty directories are left out.

    Examples:
      mlops sync reports fraud:monitoring/reports --dry-run
      mlops sync reports fraud:monitoring/reports --delete
      mlops sync fraud:outputs here
    """
    here, there = parse(source), parse(target)
    if (here is None) == (there is None):
        raise usage(
            "exactly one of the two must be a project's directory, PROJECT:PATH"
        )
    uploads = here is None
    local = os.path.normpath(source if uploads else target)
    remote = ((there if uploads else here) or "").rstrip("/")
    # Compare both sides completely before anything is copied or deleted.
    local_sizes = _local_sizes(local, must_exist=uploads)
    remote_sizes = _remote_sizes(remote, must_exist=not uploads)
    plan = _compare(local, local_sizes, remote, remote_sizes, uploads)
    if not delete:
        plan.extra = []
    if dry_run or options.output:
        _show(plan)
    if not dry_run:
        _copy(plan, local, remote, uploads)
        _delete(plan, local, remote, uploads)
    output.message(
        f"{len(plan.new)} new, {len(plan.changed)} changed, {plan.same} the same, "
        f"{len(plan.extra)} deleted{' (dry run: nothing was done)' if dry_run else ''}."
    )


def _local_sizes(top: str, must_exist: bool) -> _Sizes:
    """Return the sizes of the files below a local directory.

    Raises:
        CommandError: It is missing and must exist, or it holds a special file.
    """
    if not os.path.isdir(top):
        if must_exist or os.path.exists(top):
            raise CommandError(f"{top} is not a directory", NOT_FOUND)
        return {}
    from mlops.fs.local import check_copyable

    sizes: _Sizes = {}
    for directory, _, names in os.walk(top, onerror=_raise):
        for name in names:
            path = os.path.join(directory, name)
            check_copyable(path)
            info = os.stat(path)
            if stat.S_ISREG(info.st_mode):
                sizes[os.path.relpath(path, top)] = info.st_size
    return sizes


def _raise(error: OSError) -> None:
    raise error


def _remote_sizes(top: str, must_exist: bool) -> _Sizes:
    found = files().find(top, withdirs=True, detail=True)
    if not found:
        # Distinguish a missing project from a missing directory.
        files().info(top.partition("/")[0])
        if must_exist:
            files().info(top)
    if found.get(top, {}).get("type") == "file":
        raise CommandError(f"{top} is not a directory", NOT_FOUND)
    sizes = {
        name.removeprefix(f"{top}/"): info["size"]
        for name, info in found.items()
        if info["type"] == "file"
    }
    # A malicious server must not make this process write elsewhere.
    for name in sizes:
        if ".." in name.split("/"):
            raise CommandError(f"the name {name} leads out of the directory")
    return sizes


def _compare(
    local: str, local_sizes: _Sizes, remote: str, remote_sizes: _Sizes, uploads: bool
) -> _Plan:
    source, target = (
        (local_sizes, remote_sizes) if uploads else (remote_sizes, local_sizes)
    )
    plan = _Plan(
        new=sorted(source.keys() - target.keys()),
        extra=sorted(target.keys() - source.keys()),
    )
    # Compute checksums only for files of equal size; all others differ anyway.
    both = sorted(source.keys() & target.keys())
    alike = [name for name in both if source[name] == target[name]]

    def differs(name: str) -> bool:
        if stopping.is_set():
            return False
        here = _sha256(os.path.join(local, name))
        return here != files().checksum(f"{remote}/{name}")

    with ThreadPoolExecutor(_THREADS) as threads:
        different = dict(zip(alike, threads.map(differs, alike), strict=True))
    plan.changed = [name for name in both if different.get(name, True)]
    plan.same = len(both) - len(plan.changed)
    return plan


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while (data := file.read(_READ_BYTES)) and not stopping.is_set():
            digest.update(data)
    return digest.hexdigest()


def _show(plan: _Plan) -> None:
    rows = [
        {"action": action, "path": path}
        for action, paths in (
            ("copy", plan.new),
            ("replace", plan.changed),
            ("delete", plan.extra),
        )
        for path in paths
    ]
    columns = (
        output.Column("ACTION", lambda row: row["action"]),
        output.Column("PATH", lambda row: row["path"]),
    )
    output.rows(rows, columns, "path")


def _steps(plan: _Plan, local: str, remote: str, uploads: bool) -> Iterator[Step]:
    for name in (*plan.new, *plan.changed):
        pair = os.path.join(local, name), f"{remote}/{name}"
        yield pair if uploads else pair[::-1]


def _copy(plan: _Plan, local: str, remote: str, uploads: bool) -> None:
    from mlops.commands.local_files import transfer
    from mlops.fs.trees import copy_all

    steps = list(_steps(plan, local, remote, uploads))
    if not steps:
        return
    copy_one = files().put_file if uploads else _get_one
    with transfer() as bars:
        copy_all(steps, lambda one, to, bar: copy_one(one, to, callback=bar), bars)


def _get_one(path: str, local: str, callback: object) -> None:
    os.makedirs(os.path.dirname(local), exist_ok=True)
    files().get_file(path, local, callback=callback)


def _delete(plan: _Plan, local: str, remote: str, uploads: bool) -> None:
    for name in plan.extra:
        if uploads:
            files().rm_file(f"{remote}/{name}")
        else:
            os.unlink(os.path.join(local, name))


COMMANDS = {"sync": sync}
