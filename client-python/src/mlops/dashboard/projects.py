"""The page of all projects."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import context
from mlops.dashboard.callers import first_rows
from mlops.dashboard.context import Dashboard
from mlops.dashboard.live import Live
from mlops.dashboard.rows import Row, chosen_columns, common_keys

router = APIRouter()
PAGE_SIZE = 100
_FIRST_ROWS_S = 0.6
_KEYS_S = 10.0
_SORTS = ("project", "size", "files", "changed", "created", "lease", "health")
# Orders that begin with the largest.
_DESCENDING = ("size", "files", "changed", "created", "lease", "health")


@dataclass(frozen=True)
class Query:
    """The selection of projects that the page's address describes."""

    filter: str = ""
    sort: str = "project"
    descending: bool = False
    cols: str | None = None
    page: int = 1

    @classmethod
    def of(cls, request: Request) -> Query:
        """Return the query of a request; unknown values become the default."""
        given = request.query_params
        sort = given.get("sort", "project")
        if sort not in _SORTS and not sort.startswith("metadata."):
            sort = "project"
        page = given.get("page", "1")
        return cls(
            given.get("filter", "").strip(),
            sort,
            given.get("desc", "1" if sort in _DESCENDING else "") == "1",
            given.get("cols"),
            max(int(page), 1) if page.isascii() and page.isdecimal() else 1,
        )

    def link(self, **changes: Any) -> str:
        """Return the address of this query with changes."""
        values = {
            "filter": self.filter,
            "sort": self.sort,
            "desc": "1" if self.descending else "",
            "cols": self.cols,
            "page": self.page,
            **changes,
        }
        default = {"filter": "", "sort": "project", "cols": None, "page": 1}
        sort = values["sort"]
        default["desc"] = "1" if sort in _DESCENDING else ""
        kept = {key: value for key, value in values.items() if value != default[key]}
        return f"/?{urlencode(kept)}" if kept else "/"

    def sorted_by(self, sort: str) -> str:
        """Return the address that sorts by a column, or reverses its order."""
        descending = sort in _DESCENDING
        if sort == self.sort:
            descending = not self.descending
        return self.link(sort=sort, desc="1" if descending else "", page=1)


@router.get("/")
async def projects(request: Request) -> Response:
    """Show all projects, or, to htmx, only the table."""
    dashboard = context.of(request)
    caller = dashboard.caller(request)
    await first_rows(caller.live, _FIRST_ROWS_S)
    query = Query.of(request)
    keys = known_keys(caller.live)
    columns = chosen_columns(query.cols, keys)
    shown = await _found(dashboard, caller.live, query, columns)
    name = "table.html" if "hx-request" in request.headers else "projects.html"
    return dashboard.page(
        request,
        name,
        query=query,
        keys=keys[:50],
        columns=columns,
        may_create=await caller.may("create"),
        **shown,
    )


async def _found(
    dashboard: Dashboard, live: Live, query: Query, columns: tuple[str, ...]
) -> dict[str, Any]:
    """Return the part of the context that depends on the filter."""
    error: dict[str, str] | None = None
    names: list[str] = []
    try:
        names = await live.select(query.filter, query.sort, query.descending)
    except WorkspaceError as failure:
        error = filter_error(query.filter, failure)
    # Fewer projects may match than when the page's address was made.
    pages = max((len(names) + PAGE_SIZE - 1) // PAGE_SIZE, 1)
    page = min(query.page, pages)
    first = (page - 1) * PAGE_SIZE
    rows = [
        Markup(render_row(dashboard, live.rows[name], columns))
        for name in names[first : first + PAGE_SIZE]
        if name in live.rows
    ]
    return {
        "error": error,
        "rows": rows,
        "matching": len(names),
        "total": len(live.rows),
        "page": page,
        "pages": pages,
        "first": first,
        "totals": _totals(live, names),
    }


def _totals(live: Live, names: list[str]) -> tuple[int, int]:
    """Return the files and bytes of the projects that have been counted."""
    usages = [
        row.usage
        for name in names
        if (row := live.rows.get(name)) is not None and row.usage is not None
    ]
    return (
        sum(usage.file_count for usage in usages),
        sum(usage.size_bytes for usage in usages),
    )


def render_row(dashboard: Dashboard, row: Row, columns: tuple[str, ...] | None) -> str:
    """Return the HTML of a row of the table."""
    quota = 0.0
    if row.usage is not None:
        if row.max_size_bytes:
            quota = row.usage.size_bytes / row.max_size_bytes
        if row.max_file_count:
            quota = max(quota, row.usage.file_count / row.max_file_count)
    return dashboard.render(
        "row.html",
        row=row,
        columns=columns or (),
        quota=quota,
        leased=row.holder != "" and row.expire_s > time.time(),
    )


def filter_error(text: str, error: WorkspaceError) -> dict[str, str]:
    """Return the problem with a filter, and the text around its position."""
    position = error.details.get("position", "")
    if error.details.get("reason") != "FILTER_INVALID" or not position.isdecimal():
        return {"message": str(error), "before": "", "at": "", "after": ""}
    encoded, at = text.encode(), int(position)
    before = encoded[:at].decode(errors="ignore")
    rest = encoded[at:].decode(errors="ignore")
    word = rest.split(" ", 1)[0] or rest[:1]
    return {
        "message": str(error.details.get("problem", error)),
        "position": str(len(before)),
        "before": before,
        "at": word,
        "after": rest[len(word) :],
    }


def known_keys(live: Live) -> list[str]:
    """Return the keys of metadata of all projects, counted every few seconds."""
    known = _keys.get(live)
    if known is None or time.monotonic() > known[0] + _KEYS_S or not known[1]:
        known = time.monotonic(), common_keys(live.rows.values())
        _keys[live] = known
    return known[1]


_keys: WeakKeyDictionary[Live, tuple[float, list[str]]] = WeakKeyDictionary()
