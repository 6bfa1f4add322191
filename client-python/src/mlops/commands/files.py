"""Commands on files in projects: cp, mv, cat, and ls of a path."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.context import files, options
from mlops.commands.errors import usage
from mlops.commands.output import Column
from mlops.commands.remote_path import parse, remote, shown

_CHUNK_BYTES = 1 << 20
_COLUMNS = (
    Column("SIZE", lambda row: output.size(row["size"]), right=True),
    Column("MODIFIED", lambda row: (row["modified"] or "")[:19].replace("T", " ")),
    Column("NAME", lambda row: row["path"]),
    Column("ETAG", lambda row: row.get("etag"), wide=True),
)


def list_files(word: str, long: bool, recursive: bool) -> None:
    """List the files that `word`, a `PROJECT:PATH`, names."""
    path = remote(word).rstrip("/")
    if recursive:
        found = files().find(path, withdirs=True, detail=True)
        infos = [info for name, info in found.items() if name != path]
    else:
        infos = files().ls(path)
    rows = [_row(info, path) for info in infos]
    if long or options.output:
        output.rows(rows, _COLUMNS, "path")
    else:
        output.write("".join(f"{output.clean(row['path'])}\n" for row in rows))


def _row(info: dict[str, Any], top: str) -> dict[str, Any]:
    """Return an entry as JSON values, with its path relative to `top`."""
    name = info["name"]
    inner = name.removeprefix(f"{top}/") if name != top else name.rpartition("/")[2]
    is_directory = info["type"] == "directory"
    modified = info.get("modified")
    return {
        "path": f"{inner}/" if is_directory else inner,
        "type": info["type"],
        "size": None if is_directory else info["size"],
        "modified": modified.isoformat() if modified else None,
        **({"etag": info["etag"]} if "etag" in info else {}),
    }


def cp(
    paths: Annotated[list[str], typer.Argument(metavar="SOURCE... DESTINATION")],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Copy directories")
    ] = False,
) -> None:
    """Copy files to, from or between projects.

    A project's file is PROJECT:PATH, whose path begins with mlflow, dvc, monitoring,
    models or outputs. "-" is standard input or output. A copy appears under its name
    only when it is complete.

    Examples:
      mlops cp model.pt fraud:models/
      mlops cp fraud:models/net.pt net.pt
      mlops cp -r reports fraud:monitoring
      mlops cp 'fraud:outputs/*.txt' .
      mlops cp fraud:models/net.pt churn:models/net.pt
      mlops cp - fraud:outputs/note.txt
    """
    if len(paths) < 2:
        raise usage("cp needs a source and a destination")
    *sources, target = paths
    there = parse(target)
    if len(sources) > 1 and not _is_directory(target, there):
        raise usage(f"{target} is not a directory, so only one file can go there")
    for source in sources:
        _copy(source, target, recursive)


def _is_directory(word: str, path: str | None) -> bool:
    if word.endswith("/"):
        return True
    return os.path.isdir(word) if path is None else files().isdir(path)


def _copy(source: str, target: str, recursive: bool) -> None:
    here, there = parse(source), parse(target)
    if here is None and there is None:
        raise usage(f"neither {source} nor {target} is a project's file, PROJECT:PATH")
    if source == "-" and there is not None:
        _copy_input(there)
        return
    if target == "-" and here is not None:
        _write_out(here)
        return
    is_directory = _is_directory(source, here)
    if is_directory and not recursive:
        raise usage(f"{source} is a directory: copy it with -r")
    from mlops.commands.local_files import transfer

    # The shell has already expanded patterns in local names, but not in remote ones.
    with transfer() as bars:
        if here is None:
            files().put(source, there, recursive, callback=bars, assume_literal=True)
        elif there is None:
            files().get(here, target, recursive, callback=bars)
        else:
            files().copy(here, there, recursive)


def _copy_input(path: str) -> None:
    """Write standard input to a project's file."""
    with files().open(path, "wb") as file:
        while data := sys.stdin.buffer.read(_CHUNK_BYTES):
            file.write(data)


def _write_out(path: str) -> None:
    """Write a project's file to standard output."""
    files().get_file(path, "", outfile=_Output())


class _Output:
    """Standard output, as a file to copy into."""

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        output.write_bytes(data)


def cat(paths: Annotated[list[str], typer.Argument(metavar="PROJECT:PATH...")]) -> None:
    """Write files of projects to standard output.

    Examples:
      mlops cat fraud:outputs/log.txt
    """
    for path in [remote(word) for word in paths]:
        _write_out(path)


def mv(
    source: Annotated[str, typer.Argument(metavar="PROJECT:PATH")],
    target: Annotated[str, typer.Argument(metavar="PROJECT:PATH")],
) -> None:
    """Move a file or directory of a project, atomically.

    Between projects, the files are copied and then deleted.

    Examples:
      mlops mv fraud:outputs/log.txt fraud:outputs/old.txt
    """
    there = remote(target)
    files().mv(remote(source), there, recursive=True)
    output.message(f"Moved {source} to {shown(there)}.")


COMMANDS = {"cp": cp, "mv": mv, "cat": cat}
