"""The page of one project, and its parts, which are loaded when they are needed."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlops._rpc import convert
from mlops.dashboard import context, toolkits
from mlops.dashboard.charts import Series
from mlops.dashboard.operations import audit_tail
from mlops.dashboard.rows import Row
from mlops.workspace.v1 import workspace_service_pb2 as pb

router = APIRouter()
_MAX_RUNS_SHOWN = 100
_MAX_COLUMNS = 6


@router.get("/p/{project}")
async def project(request: Request, project: str) -> Response:
    """Show one project."""
    dashboard = context.of(request)
    caller = dashboard.caller(request)
    workspace = await caller.live.call(pb.GetWorkspaceRequest(project=project))
    name = "record.html" if "hx-request" in request.headers else "project.html"
    return dashboard.page(
        request,
        name,
        workspace=workspace,
        row=Row.of(workspace),
        settings_=convert.settings_of(workspace),
        setting_names=convert.SETTINGS,
        quotas=convert.quotas_of(workspace),
        metadata=flat(convert.from_struct(workspace.metadata)),
        rights=await caller.rights(project),
        lease_ends_s=float(workspace.lease.expire_time.seconds),
    )


@router.get("/p/{project}/events")
async def events(request: Request, project: str) -> Response:
    """Show the latest events of a project."""
    dashboard = context.of(request)
    caller = dashboard.caller(request)
    # Only callers that may see the project may see its events.
    await caller.live.call(pb.GetWorkspaceRequest(project=project))
    seen = [one for one in reversed(caller.live.events) if one.project == project]
    audit = await audit_tail(dashboard, caller, project)
    return dashboard.page(
        request, "events.html", project=project, events=seen[:50], audit=audit
    )


@router.get("/p/{project}/runs")
async def runs(
    request: Request, project: str, metric: str = "", lowest: str = ""
) -> Response:
    """Show MLflow's runs, and a metric over time."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    found = await dashboard.toolkits.runs(live, project)
    metric = metric if metric in found.metrics else next(iter(found.metrics), "")
    params = sorted({name for run in found.runs for name in run["params"]})
    return dashboard.page(
        request,
        "runs.html",
        project=project,
        found=found,
        runs=found.runs[:_MAX_RUNS_SHOWN],
        metric=metric,
        lowest=lowest == "1",
        best=found.best(metric, lowest == "1") if metric else None,
        shown=found.metrics[:_MAX_COLUMNS],
        params=params[:_MAX_COLUMNS],
        series=[Series(metric, found.points(metric))] if metric else [],
        when=toolkits.when,
    )


@router.get("/p/{project}/runs/{run_id}")
async def run(request: Request, project: str, run_id: str) -> Response:
    """Show a run among the latest, and its metrics over its steps."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    found = await dashboard.toolkits.runs(live, project)
    chosen = next((one for one in found.runs if one["run_id"] == run_id), None)
    histories = (
        await dashboard.toolkits.histories(live, project, chosen)
        if chosen is not None and chosen["metrics"]
        else toolkits.Histories(problem=found.problem)
    )
    return dashboard.page(
        request,
        "run.html",
        project=project,
        run=chosen,
        run_id=run_id,
        latest=toolkits.MAX_RUNS,
        problem=histories.problem,
        histories=[Series(name, some) for name, some in histories.points.items()],
        when=toolkits.when,
    )


@router.get("/p/{project}/models")
async def models(request: Request, project: str) -> Response:
    """Show the versions of models."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    versions = await toolkits.model_versions(
        dashboard.callers.link, live.metadata, project
    )
    return _versions(request, project, versions, "models", "models in BentoML's store")


@router.get("/p/{project}/data")
async def data(request: Request, project: str) -> Response:
    """Show the versions of data."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    versions = await toolkits.data_versions(
        dashboard.callers.link, live.metadata, project
    )
    return _versions(request, project, versions, "data", "data tracked by DVC")


def _versions(
    request: Request,
    project: str,
    versions: list[toolkits.Version],
    kind: str,
    what: str,
) -> Response:
    return context.of(request).page(
        request,
        "versions.html",
        project=project,
        versions=versions,
        kind=kind,
        what=what,
    )


@router.get("/p/{project}/drift")
async def drift(request: Request, project: str, report: str = "") -> Response:
    """Show the reports of drift, and one of them in a frame."""
    dashboard = context.of(request)
    live = dashboard.caller(request).live
    reports = await toolkits.drift_reports(
        dashboard.callers.link, live.metadata, project
    )
    opened = next((one for one in reports if report and one.html_path == report), None)
    points = [(one.made_s, one.share) for one in reports if one.share is not None]
    return dashboard.page(
        request,
        "drift.html",
        project=project,
        reports=reports,
        opened=opened,
        series=[Series("share of columns that drifted", points)] if points else [],
    )


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the leaves of metadata, with their paths."""
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, item in value.items()
            for leaf in flat(item, f"{name}.{key}" if name else key)
        ]
    if not name:
        return []
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(name, text)]
