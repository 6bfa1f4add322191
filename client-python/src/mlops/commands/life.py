"""Commands on whole workspaces: clone, export, import and templates."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from mlops.commands import output
from mlops.commands.context import manager, options
from mlops.commands.errors import CONFLICT, NOT_FOUND, CommandError, usage
from mlops.commands.output import Column
from mlops.commands.parameters import Project
from mlops.commands.remote_path import DIRECTORIES
from mlops.commands.values import described

Only = Annotated[
    list[str],
    typer.Option(
        "--only", metavar="DIRECTORY", help="Only the content of this directory"
    ),
]
_CHUNK_BYTES = 1 << 20


def clone(
    project: Project,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The copy's name")],
    only: Only = [],  # noqa: B006 - Typer needs a list
) -> None:
    """Copy a project with its files under a new name.

    The complete copy appears atomically, or nothing does.

    Examples:
      mlops clone fraud fraud-2
      mlops clone fraud fraud-models --only models
    """
    with _progress(f"clone {project}") as show:
        made = manager().clone_workspace(
            project, new, _checked(only), lambda done: show(done.size_bytes)
        )
    output.message(f"Cloned {project} as {new}.")
    if options.output:
        output.record(described(made), "project_name")


def _checked(directories: list[str]) -> list[str]:
    for name in directories:
        if name not in DIRECTORIES:
            raise usage(f"--only must be one of {', '.join(DIRECTORIES)}, not {name}")
    return directories


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int], None]]:
    """Return a function that shows a number of bytes at a terminal."""
    if options.quiet or not output.is_terminal(sys.stderr):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(text, total=None)
        yield lambda count: bars.update(task, completed=count)


def export(
    project: Project,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Default: PROJECT.tar; - is the output"),
    ] = None,
    only: Only = [],  # noqa: B006
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing file")
    ] = False,
) -> None:
    """Write a project with its files to a tar archive.

    The file appears when it is complete.

    Examples:
      mlops export fraud
      mlops export fraud models.tar --only models
      mlops export fraud - --only outputs
    """
    target = file or f"{project}.tar"
    if target == "-":
        with manager().export_stream(project, _checked(only)) as pieces:
            for piece in pieces:
                output.write_bytes(piece)
        return
    if os.path.exists(target) and not force:
        raise CommandError(f"{target} exists already: give --force", CONFLICT)
    with _progress(f"export {project}") as show:
        manager().export_workspace(project, target, _checked(only), show)
    output.message(f"Exported {project} to {target}.")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="- is the input")],
    project: Annotated[
        str | None,
        typer.Argument(metavar="[PROJECT]", help="Default: the archive's project"),
    ] = None,
) -> None:
    """Create a project from an archive of mlops export.

    The complete project appears atomically, or nothing does. After a lost connection,
    mlops sends the archive again.

    Examples:
      mlops import saved.tar
      mlops import saved.tar fraud-restored
    """
    if file != "-" and not os.path.exists(file):
        raise CommandError(f"{file}: No such file or directory", NOT_FOUND)
    source = iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
    with _progress(f"import {file}") as show:
        made = manager().import_workspace(
            source if file == "-" else file, project, show
        )
    output.message(f"Imported {made.project_name}.")
    if options.output:
        output.record(described(made), "project_name")


def templates() -> None:
    """List the templates for mlops create --template.

    Examples:
      mlops templates
    """
    rows = [
        {
            "name": one.name,
            "description": one.description,
            "settings": one.settings,
            "metadata": one.metadata,
            "max_size_bytes": one.max_size_bytes,
            "max_file_count": one.max_file_count,
            "paths": list(one.paths),
            "error": one.error,
        }
        for one in manager().list_templates()
    ]
    columns = (
        Column("NAME", lambda row: row["name"]),
        Column("DESCRIPTION", lambda row: row["description"]),
        Column("METADATA", lambda row: output.pairs(row["metadata"]), wide=True),
        Column("PROBLEM", lambda row: (row["error"] or {}).get("message")),
    )
    output.rows(rows, columns, "name", "There are no templates.")


COMMANDS = {
    "clone": clone,
    "export": export,
    "import": import_,
    "templates": templates,
}
