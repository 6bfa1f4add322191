"""The command rm."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.asking import confirm
from mlops.commands.context import files, manager
from mlops.commands.output import Column
from mlops.commands.remote_path import parse, shown

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would happen, and change nothing")
]
COLUMNS = (
    Column("NAME", lambda row: row["project_name"]),
    Column("FILES", lambda row: row["file_count"], right=True),
    Column("SIZE", lambda row: output.size(row["size_bytes"]), right=True),
    Column("UID", lambda row: row["uid"], wide=True),
)


def rm(
    projects: Annotated[list[str], typer.Argument(metavar="PROJECT...")],
    yes: Yes = False,
    permanent: Annotated[
        bool, typer.Option("--permanent", help="Past the trash: cannot be undone")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="PROJECT:PATH may be a directory")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Delete projects with their files, or single files (PROJECT:PATH).

    Shows first what would be deleted, and asks for each name. Deleted projects can be
    restored from the trash for some days (mlops trash); deleted files cannot.

    Examples:
      mlops rm churn --dry-run
      mlops rm churn --yes
      mlops rm fraud:outputs/old.txt --yes
      mlops rm fraud:outputs/run-1 -r --yes
    """
    names = list(dict.fromkeys(projects))
    paths = {name: path for name in names if (path := parse(name)) is not None}
    previews = [_preview(name, permanent) for name in names if name not in paths]
    if previews:
        output.rows(previews, COLUMNS, "project_name")
    for name, path in paths.items():
        info = files().info(path)
        output.message(f"{name}  {output.size(info['size'])}")
    if dry_run:
        return
    confirm(names, yes)
    for row in previews:
        # The uid protects a project of the same name that was created meanwhile.
        manager().delete_workspace(
            row["project_name"], force=True, permanent=permanent, uid=row["uid"]
        )
        output.message(
            f"Deleted {row['project_name']} for good."
            if permanent
            else f"Deleted {row['project_name']}; "
            f"undo it by: mlops trash restore {row['project_name']}"
        )
    # Delete only the names that were confirmed: a name is never a pattern here.
    for path in paths.values():
        files().rm(path, recursive=recursive, assume_literal=True)
        output.message(f"Deleted {shown(path)}.")


def _preview(project: str, permanent: bool) -> dict[str, Any]:
    freed = manager().delete_workspace(
        project, force=True, permanent=permanent, validate_only=True
    )
    assert freed is not None
    return {
        "project_name": project,
        "uid": freed.uid,
        "file_count": freed.file_count,
        "size_bytes": freed.size_bytes,
    }


COMMANDS = {"rm": rm}
