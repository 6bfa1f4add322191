"""The commands `trash ls`, `trash restore` and `trash purge`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.asking import confirm
from mlops.commands.context import manager
from mlops.commands.errors import NOT_FOUND, CommandError, usage
from mlops.commands.output import Column
from mlops.commands.remove import DryRun, Yes
from mlops.commands.values import described

HELP = "List, restore and purge deleted projects."
_COLUMNS = (
    Column("NAME", lambda row: row["project_name"]),
    Column("DELETED", lambda row: output.age(row["deleted_at"])),
    Column("PURGED", lambda row: output.age(row["purged_at"])),
    Column("UID", lambda row: row["uid"]),
)
Uid = Annotated[
    str, typer.Option(help="The one with this uid, of several of that name")
]


def _deleted(filter: str = "") -> list[dict[str, Any]]:
    """Return the deleted workspaces, the most recently deleted one first."""
    found = manager().list_workspaces(filter, show_deleted=True)
    rows = [described(one) for one in found if one.deleted_at is not None]
    return sorted(rows, key=lambda row: str(row["deleted_at"]), reverse=True)


def list_(
    filter: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILTER]", help="See mlops help filters"),
    ] = None,
) -> None:
    """List deleted projects, the most recently deleted first.

    Examples:
      mlops trash ls
      mlops trash ls old -o json
    """
    output.rows(
        _deleted(" ".join(filter or [])),
        _COLUMNS,
        "project_name",
        "The trash is empty." if not filter else "No deleted project matches.",
    )


def restore(
    projects: Annotated[list[str], typer.Argument(metavar="PROJECT...")], uid: Uid = ""
) -> None:
    """Restore deleted projects, by default the most recently deleted of each name.

    Examples:
      mlops trash restore old
    """
    if uid and len(projects) > 1:
        raise usage("--uid restores one project: name only one")
    for project in projects:
        manager().undelete_workspace(project, uid)
        output.message(f"Restored {project}.")


def purge(
    projects: Annotated[
        list[str] | None, typer.Argument(metavar="[PROJECT]...")
    ] = None,
    uid: Uid = "",
    all_: Annotated[bool, typer.Option("--all", help="All deleted projects")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Remove deleted projects for good.

    Examples:
      mlops trash purge old --dry-run
      mlops trash purge old --yes
    """
    if bool(projects) == all_:
        raise usage("name the projects to purge, or give --all")
    rows = [
        row
        for row in _deleted()
        if (all_ or row["project_name"] in (projects or [])) and uid in ("", row["uid"])
    ]
    # Refuse an unknown name before anything is purged.
    for project in projects or []:
        if all(row["project_name"] != project for row in rows):
            raise CommandError(
                f"the trash has no project {project}"
                + (f" with the uid {uid}" if uid else ""),
                NOT_FOUND,
            )
    output.rows(rows, _COLUMNS, "project_name", "The trash is empty.")
    if dry_run:
        return
    confirm(dict.fromkeys(row["project_name"] for row in rows), yes)
    for row in rows:
        manager().purge(row["project_name"], row["uid"])
        output.message(f"Purged {row['project_name']} ({row['uid']}).")


COMMANDS = {"ls": list_, "restore": restore, "purge": purge}
