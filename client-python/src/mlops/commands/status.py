"""The commands status and du."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mlops.commands import live, output
from mlops.commands.context import files, manager
from mlops.commands.errors import FAILED, usage
from mlops.commands.live import Count, Interval
from mlops.commands.output import Column
from mlops.commands.parameters import Filter
from mlops.commands.remote_path import DIRECTORIES, parse

_SORTS = ("name", "size", "files")


def _directory(name: str) -> Column:
    def cell(row: output.Row) -> object:
        return output.size(row["directory_stats"][f"{name}_bytes"])

    return Column(name.upper(), cell, wide=True, right=True)


_COLUMNS = (
    Column("NAME", lambda row: row["project_name"]),
    Column("FILES", lambda row: row["file_count"], right=True),
    Column("SIZE", lambda row: output.size(row["size_bytes"]), right=True),
    *map(_directory, DIRECTORIES),
    Column("UPDATED", lambda row: output.age(row["updated_at"])),
)


def status(
    filter: Filter = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="name, size or files; largest first")
    ] = "name",
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show the first N; 0 shows all")
    ] = 0,
    counts_only: Annotated[
        bool,
        typer.Option("--counts-only", help="Count files, not bytes, which is faster"),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again until Ctrl-C")
    ] = False,
    interval: Interval = 2.0,
    count: Count = 0,
) -> int | None:
    """Count the files and bytes of projects.

    With --watch, a terminal shows the table until q or Ctrl-C. A pipe gets the table
    once, and then a line for each project that changed.

    Examples:
      mlops status
      mlops status --sort size --limit 1
      mlops status metadata.stage = production -o wide
      mlops status --watch --interval 0.5 --count 2
    """
    if sort not in _SORTS:
        raise usage(f"--sort must be one of {', '.join(_SORTS)}, not {sort}")

    def read() -> list[dict[str, Any]]:
        found = manager().get_all_workspaces_status(" ".join(filter or []), counts_only)
        if sort != "name":
            key = "file_count" if sort == "files" or counts_only else "size_bytes"
            found.sort(key=lambda row: row[key] or 0, reverse=True)
        return found[: limit or None]

    if watch:
        live.show(read, _COLUMNS, "project_name", _heading, interval, count)
        return None
    found = read()
    output.rows(found, _COLUMNS, "project_name", "No project matches.")
    failed = [row for row in found if row["error"]]
    for row in failed:
        output.message(f"mlops: {row['project_name']}: {row['error']['message']}")
    return FAILED if failed else None


def _heading(found: Sequence[output.Row]) -> str:
    total = sum(row["size_bytes"] or 0 for row in found)
    failed = sum(bool(row["error"]) for row in found)
    words = [time.strftime("%H:%M:%S"), f"{len(found)} shown", output.size(total)]
    return "  ".join(words + [f"{failed} cannot be counted"] * bool(failed))


_Usage = dict[str, Any]


def du(
    path: Annotated[str, typer.Argument(metavar="PROJECT[:PATH]")],
    depth: Annotated[
        int, typer.Option("--depth", "-d", min=0, help="Levels of directories to show")
    ] = 2,
    all_: Annotated[bool, typer.Option("--all", "-a", help="Also show files")] = False,
) -> None:
    """Show the sizes of a project's directories as a tree, the largest first.

    Examples:
      mlops du fraud
      mlops du fraud:outputs --depth 1 --all
    """
    top = (parse(path) or path).rstrip("/")
    found = files().find(top, withdirs=True, detail=True)
    if not found:
        files().info(top)  # Raises the specific error.
    usages = _usages(found, top)
    shown = [
        usage
        for usage in _walk(top, usages)
        if _level(usage["path"], top) <= depth and (all_ or usage["type"] != "file")
    ]
    output.rows(shown, _tree_columns(top), "path")


def _level(path: str, top: str) -> int:
    return path.count("/") - top.count("/")


def _usages(found: dict[str, Any], top: str) -> dict[str, _Usage]:
    """Return the usage of each entry; that of a directory covers all below it."""
    usages = {
        name: {"path": name, "type": info["type"], "file_count": 0, "size_bytes": 0}
        for name, info in {top: {"type": "directory"}, **found}.items()
    }
    for name, info in found.items():
        if info["type"] != "file":
            continue
        above = name
        while True:
            if above in usages:
                usages[above]["file_count"] += 1
                usages[above]["size_bytes"] += info["size"]
            if above == top:
                break
            above = above.rpartition("/")[0]
    return usages


def _walk(top: str, usages: dict[str, _Usage]) -> list[_Usage]:
    """Return the tree from the top down, the largest of siblings first."""
    children: dict[str, list[str]] = {}
    for name in usages:
        if name != top:
            children.setdefault(name.rpartition("/")[0], []).append(name)
    result, stack = [], [top]
    while stack:
        name = stack.pop()
        result.append(usages[name])
        stack += sorted(
            children.get(name, ()), key=lambda one: (usages[one]["size_bytes"], one)
        )
    return result


def _tree_columns(top: str) -> tuple[Column, ...]:
    def name(row: output.Row) -> object:
        level = _level(row["path"], top)
        last = row["path"].rpartition("/")[2] if level else row["path"]
        return "  " * level + last

    return (
        Column("PATH", name),
        Column("FILES", lambda row: row["file_count"], right=True),
        Column("SIZE", lambda row: output.size(row["size_bytes"]), right=True),
    )


COMMANDS = {"status": status, "du": du}
