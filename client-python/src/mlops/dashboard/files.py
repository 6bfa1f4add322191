"""The files of a project: tree map, listing, preview, download, reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mlops._rpc import convert
from mlops.dashboard import artifacts, context, previews
from mlops.dashboard.charts import squarify
from mlops.dashboard.link import Link, Metadata
from mlops.dashboard.security import FILE_POLICY, REPORT_POLICY
from mlops.workspace.project import DIRECTORIES
from mlops.workspace.v1 import workspace_service_pb2 as pb

router = APIRouter()
_SILENCE_S = 60.0
_MAP_WIDTH, _MAP_HEIGHT = 960.0, 320.0
_MAX_TILES = 120
_COLOURS, _FILE_COLOUR = 8, 8
_MAX_SHOWN = 500
_MAX_REPORT_BYTES = 64 << 20


@dataclass
class Entry:
    """A file or directory, with all that is below it."""

    name: str
    path: str
    directory: bool
    size_bytes: int = 0
    file_count: int = 0
    modify_s: float = 0


@router.get("/p/{project}/map")
async def tree_map(request: Request, project: str, path: str = "") -> Response:
    """Show the content of a directory as a tree map and as a list."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    path = path.strip("/")
    complete = True
    if path:
        found = await artifacts.listing(
            dashboard.callers.link, live.metadata, project, path
        )
        entries, complete = children(found.entries, path), found.complete
    # The server counts the five directories faster than it lists all their files.
    else:
        entries = _directories(await live.usage_of(project))
    tiles = squarify(
        [(entry, entry.size_bytes) for entry in entries[:_MAX_TILES]],
        _MAP_WIDTH,
        _MAP_HEIGHT,
    )
    return dashboard.page(
        request,
        "map.html",
        project=project,
        folder=path,
        crumbs=_crumbs(path),
        entries=entries[:_MAX_SHOWN],
        more=max(len(entries) - _MAX_SHOWN, 0),
        tiles=tiles,
        colours=_colours(entries, path),
        total=sum(entry.size_bytes for entry in entries),
        complete=complete,
    )


@router.get("/p/{project}/file")
async def file(request: Request, project: str, path: str) -> Response:
    """Show a preview of a file."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    limit = previews.needed_bytes(path)
    async with dashboard.previews:
        artifact, data = await artifacts.head(
            dashboard.callers.link, live.metadata, project, path, limit
        )
        size_bytes = artifact.size_bytes
        # Parsing a large table must not delay the others.
        shown = await asyncio.to_thread(previews.preview, path, data, size_bytes)
    return dashboard.page(
        request,
        "file.html",
        project=project,
        artifact=artifact,
        folder=path.rpartition("/")[0],
        crumbs=_crumbs(path),
        modified=convert.from_timestamp(artifact.modify_time).timestamp(),
        preview=shown,
        report=is_report(path),
    )


@router.get("/p/{project}/raw")
async def raw(request: Request, project: str, path: str) -> Response:
    """Send a file: a safe image to be shown, everything else to be saved."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    link, metadata = dashboard.callers.link, live.metadata
    artifact, begin = await artifacts.head(link, metadata, project, path, 16)
    kind = previews.image_type(path, begin)
    name = quote(path.rpartition("/")[2], safe="")
    headers = {
        "content-security-policy": FILE_POLICY,
        "content-disposition": f"{'inline' if kind else 'attachment'}; "
        f"filename*=UTF-8''{name}",
    }
    read = pb.ReadArtifactRequest(project=project, path=path)
    return _whole(
        link, metadata, read, artifact, kind or "application/octet-stream", headers
    )


@router.get("/p/{project}/report")
async def report(request: Request, project: str, path: str) -> Response:
    """Send an HTML report of drift, for a sandboxed frame."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    if not is_report(path):
        return Response("This is not a report", 404, media_type="text/plain")
    link, metadata = dashboard.callers.link, live.metadata
    artifact, _ = await artifacts.head(link, metadata, project, path, 1)
    if artifact.size_bytes > _MAX_REPORT_BYTES:
        return Response("The report is too large", 413, media_type="text/plain")
    return _whole(
        link,
        metadata,
        pb.ReadArtifactRequest(project=project, path=path),
        artifact,
        "text/html; charset=utf-8",
        {"content-security-policy": REPORT_POLICY},
    )


def _whole(
    link: Link,
    metadata: Metadata,
    read: pb.ReadArtifactRequest,
    artifact: pb.Artifact,
    kind: str,
    headers: dict[str, str],
) -> Response:
    """Return a response that streams a file, holding one part of it at a time."""
    # The etag ensures that the content has the announced length.
    read.etag = artifact.etag

    async def chunks() -> AsyncIterator[bytes]:
        async with aclosing(link.stream(read, metadata, _SILENCE_S)) as responses:
            async for response in responses:
                if response.data:
                    yield response.data

    headers["content-length"] = str(artifact.size_bytes)
    return StreamingResponse(chunks(), headers=headers, media_type=kind)


def is_report(path: str) -> bool:
    """Return whether a file may be opened as a report."""
    return path.startswith("monitoring/") and previews.suffix(path) == ".html"


def children(found: list[pb.Artifact], path: str) -> list[Entry]:
    """Return the direct entries of a directory, the largest first.

    Args:
        found: Everything below the directory.
    """
    entries: dict[str, Entry] = {}
    prefix = f"{path}/" if path else ""
    for one in found:
        name, _, deeper = one.path.removeprefix(prefix).partition("/")
        entry = entries.get(name)
        if entry is None:
            directory = one.directory or bool(deeper)
            entry = entries[name] = Entry(name, f"{prefix}{name}", directory)
        if not one.directory:
            entry.size_bytes += one.size_bytes
            entry.file_count += 1
        entry.modify_s = max(entry.modify_s, float(one.modify_time.seconds))
    return sorted(entries.values(), key=lambda entry: (-entry.size_bytes, entry.name))


def _directories(status: pb.WorkspaceStatus) -> list[Entry]:
    return [
        Entry(
            one.name,
            one.name,
            True,
            one.size_bytes,
            one.file_count,
            float(one.modify_time.seconds),
        )
        for one in status.directories
        if one.exists
    ]


def _colours(entries: list[Entry], path: str) -> dict[str, int]:
    """Return the number of each entry's colour; those of the five are fixed."""
    if not path:
        return {name: number for number, name in enumerate(DIRECTORIES)}
    folders = (entry.name for entry in entries if entry.directory)
    numbers = {name: number % _COLOURS for number, name in enumerate(folders)}
    return {entry.name: numbers.get(entry.name, _FILE_COLOUR) for entry in entries}


def _crumbs(path: str) -> list[tuple[str, str]]:
    """Return the name and path of each directory that leads to a path."""
    names = path.split("/") if path else []
    return [(name, "/".join(names[: at + 1])) for at, name in enumerate(names)]
