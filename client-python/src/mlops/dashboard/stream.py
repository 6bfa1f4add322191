"""Server-sent events that report changes to the script of the pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mlops.dashboard import context
from mlops.dashboard.context import Dashboard
from mlops.dashboard.live import Live
from mlops.dashboard.projects import render_row
from mlops.dashboard.rows import MAX_COLUMNS

router = APIRouter()
# A comment after this silence shows that the connection works.
_SILENCE_S = 15.0
# More rows than this are cheaper to load as a page.
_MAX_ROWS = 50


@router.get("/events")
async def events(request: Request, cols: str = "") -> Response:
    """Stream the changes that a page shows.

    Args:
        cols: The columns of metadata of the table, with commas between; "" for a page
            without the table.
    """
    # Find the caller before the response begins, so that an error sets the status.
    live = context.of(request).caller(request).live
    columns = tuple(name for name in cols.split(",") if name)[:MAX_COLUMNS]
    wanted = columns if "cols" in request.query_params else None
    stream = _events(context.of(request), live, wanted)
    # Tell nginx to forward events without buffering.
    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(stream, headers=headers, media_type="text/event-stream")


async def _events(
    dashboard: Dashboard, live: Live, columns: tuple[str, ...] | None
) -> AsyncIterator[str]:
    with live.subscribe() as subscription:
        yield "retry: 1000\n\n"
        while True:
            changed, everything, state = await subscription.take(_SILENCE_S)
            if state:
                yield _event("state", {"state": state, "problem": live.problem})
            if state == "closed":
                return
            if everything or len(changed) > _MAX_ROWS:
                yield _event("all", {"count": len(live.rows)})
            elif changed:
                rows = {
                    name: render_row(dashboard, live.rows[name], columns)
                    for name in changed
                    if columns is not None and name in live.rows
                }
                yield _event("rows", {"changed": changed, "html": rows})
            if not (state or everything or changed):
                yield ": nothing new\n\n"


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
