"""The page that compares two to ten projects."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import context, toolkits
from mlops.dashboard.charts import Series
from mlops.dashboard.context import Dashboard
from mlops.dashboard.live import Live
from mlops.dashboard.rows import Usage
from mlops.dashboard.toolkits import Runs

router = APIRouter()
_MIN, _MAX = 2, 10
_MAX_REPORTS = 20
_MAX_METRICS = 50


@dataclass(frozen=True)
class Compared:
    """A project among those that are compared."""

    project: str
    usage: Usage | None = None
    runs: Runs = field(default_factory=Runs)
    drift: tuple[tuple[float, float], ...] = ()
    problem: str = ""


@router.get("/compare")
async def compare(
    request: Request, p: str = "", metric: str = "", lowest: str = ""
) -> Response:
    """Compare projects: sizes, counts, best runs, drift."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    given = [
        name.strip()
        for value in request.query_params.getlist("p")
        for name in value.replace(",", " ").split()
    ]
    # Show a project once, even if the address names it several times.
    names = list(dict.fromkeys(given))
    found: list[Compared] = []
    if _MIN <= len(names) <= _MAX:
        found = list(
            await asyncio.gather(*(_facts(dashboard, live, name) for name in names))
        )
    metrics = sorted({name for one in found for name in one.runs.metrics})
    # The address may name a metric that none of these projects has.
    metric = metric if metric in metrics else next(iter(metrics), "")
    return dashboard.page(
        request,
        "compare.html",
        names=names,
        found=found,
        bad_count=bool(names) and not found,
        metrics=metrics,
        spans={
            name: [one.runs.span(name) for one in found]
            for name in metrics[:_MAX_METRICS]
        },
        metric=metric,
        lowest=lowest == "1",
        best=_best(found, metric, lowest == "1"),
        largest=_largest(found),
        metric_series=[
            Series(one.project, one.runs.points(metric)) for one in found if metric
        ],
        drift_series=[Series(one.project, one.drift) for one in found],
    )


async def _facts(dashboard: Dashboard, live: Live, project: str) -> Compared:
    link = dashboard.callers.link
    try:
        status = await live.usage_of(project)
        runs = await dashboard.toolkits.runs(live, project)
        reports = await toolkits.drift_reports(
            link, live.metadata, project, _MAX_REPORTS
        )
    except WorkspaceError as error:
        return Compared(project, problem=str(error))
    points = tuple((one.made_s, one.share) for one in reports if one.share is not None)
    return Compared(project, Usage.of(status), runs, points)


def _best(found: list[Compared], metric: str, lowest: bool) -> list[Any]:
    if not metric:
        return [None] * len(found)
    return [one.runs.best(metric, lowest) for one in found]


def _largest(found: list[Compared]) -> dict[str, float]:
    """Return the end of each axis, which is common to all projects."""
    usages = [one.usage for one in found if one.usage is not None]
    return {
        "bytes": max((usage.size_bytes for usage in usages), default=0),
        "files": max((usage.file_count for usage in usages), default=0),
        "runs": max((len(one.runs.runs) for one in found), default=0),
    }
