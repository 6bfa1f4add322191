"""The command watch."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.context import manager, options
from mlops.commands.values import described


def watch(
    projects: Annotated[
        list[str] | None, typer.Argument(metavar="[PROJECT]...", help="Default: all")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Begin with what exists already")
    ] = False,
    count: Annotated[
        int, typer.Option(metavar="N", min=0, help="End after N lines; 0: never")
    ] = 0,
) -> None:
    """Print a line for each change of projects, until Ctrl-C.

    A change is the creation, deletion or restoration of a project, or a change of its
    settings, metadata or lease, but not of its files. With -o json, each line is a JSON
    object.

    Examples:
      mlops watch --all --count 1
      mlops watch fraud --all --count 1 -o json
    """
    begun, printed = all_, 0
    # The events before the first "synced" describe existing projects.
    for event in manager().watch(projects or None, synced=True):
        if event.change == "synced":
            begun = True
        elif begun:
            _print(event)
            printed += 1
            if count and printed >= count:
                return


def _print(event: Any) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    workspace = event.workspace and described(event.workspace)
    if options.output == "name":
        output.write(f"{output.clean(event.project)}\n")
        return
    if options.output in ("json", "yaml"):
        output.line(
            {
                "time": now,
                "change": event.change,
                "project_name": event.project,
                "uid": event.uid,
                "workspace": workspace,
            }
        )
        return
    pairs = output.pairs(workspace["metadata"]) if workspace else ""
    output.write(f"{now}  {event.change:7}  {event.project}  {pairs}".rstrip() + "\n")


COMMANDS = {"watch": watch}
