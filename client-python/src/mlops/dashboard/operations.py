"""The pages about the server: limits, metrics, audit log, doctor, trash."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlops._rpc import convert
from mlops.cli import BINARY
from mlops.dashboard import context
from mlops.dashboard.callers import Caller
from mlops.dashboard.context import Dashboard
from mlops.dashboard.link import call_all
from mlops.workspace.v1 import workspace_service_pb2 as pb

router = APIRouter()
_METRICS_S, _DOCTOR_S = 3.0, 60.0
_MAX_METRICS_BYTES = 4 << 20
_TAIL_BYTES = 256 << 10
_AUDIT_LINES = 100
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ([^ ]+)$")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


@router.get("/operations")
async def operations(request: Request) -> Response:
    """Show the server, its load, and its callers."""
    dashboard = context.of(request)
    caller = dashboard.caller(request)
    info = await caller.info()
    numbers = None
    if is_operator(info):
        numbers = await asyncio.to_thread(read_metrics, dashboard.settings.metrics)
    return dashboard.page(
        request,
        "operations.html",
        info=info,
        started=_seconds(info.start_time) if info else 0.0,
        purge_delay_s=info.purge_delay.seconds if info else 0,
        lease_s=info.max_lease_ttl.seconds if info else 0,
        address=dashboard.callers.link.address,
        numbers=numbers,
        pages=sum(one.live.pages for one in dashboard.callers.all()),
        may_see_server=is_operator(info),
        audit=await audit_tail(dashboard, caller, ""),
        doctor=bool(dashboard.settings.base),
    )


@router.get("/operations/doctor")
async def doctor(request: Request) -> Response:
    """Show what `workspaced doctor` finds."""
    dashboard = context.of(request)
    base = dashboard.settings.base
    allowed = is_operator(await dashboard.caller(request).info())
    result: dict[str, Any] = {"problem": "", "findings": []}
    if base is None or not allowed:
        result["problem"] = "The base directory is not on this machine, or not yours."
    else:
        async with dashboard.doctor:
            result = await _run_doctor(base)
    return dashboard.page(request, "doctor.html", **result)


@router.get("/trash")
async def trash(request: Request) -> Response:
    """Show the deleted projects."""
    dashboard = context.of(request)
    caller = dashboard.caller(request)
    live = caller.live
    # The list mixes deleted and other projects, so read all its pages.
    pages = await call_all(
        dashboard.callers.link,
        pb.ListWorkspacesRequest(show_deleted=True, page_size=1000),
        live.metadata,
    )
    # The rows may lag behind a deletion that has just led to this page.
    taken = {
        one.project
        for page in pages
        for one in page.workspaces
        if not one.HasField("delete_time")
    }
    taken.update(project for page in pages for project in page.unreachable)
    deleted = [
        {
            "project": one.project,
            "uid": one.uid,
            "deleted": _seconds(one.delete_time),
            "purged": _seconds(one.purge_time),
            "taken": one.project in taken,
            "may": await caller.may("undelete", one.project),
        }
        for page in pages
        for one in page.workspaces
        if one.HasField("delete_time")
    ]
    deleted.sort(key=lambda one: -float(one["deleted"]))
    return dashboard.page(request, "trash.html", deleted=deleted)


def is_operator(info: pb.ServerInfo | None) -> bool:
    """Return whether the caller may see data about the whole server."""
    return info is not None and any(
        grant.role == "operator" for grant in info.caller.permissions
    )


def _seconds(timestamp: Any) -> float:
    return convert.from_timestamp(timestamp).timestamp()


# --- Metrics ---


@dataclass(frozen=True)
class Method:
    """The calls of one method since the server started."""

    name: str
    count: float
    errors: float
    p99_s: float | None


@dataclass(frozen=True)
class Numbers:
    """The figures from the server's metrics."""

    methods: list[Method]
    memory_bytes: float
    watchers: float
    uptime_s: float
    problem: str = ""

    @property
    def calls(self) -> float:
        """The calls of all methods."""
        return sum(method.count for method in self.methods)


def read_metrics(address: str) -> Numbers | None:
    """Read the server's metrics; None if their address is not known."""
    if not address:
        return None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/metrics", timeout=_METRICS_S) as answer:
            text = answer.read(_MAX_METRICS_BYTES).decode()
    except (OSError, ValueError) as error:
        return Numbers([], 0, 0, 0, f"Metrics at {address}: {error}")
    return parse_metrics(text)


def parse_metrics(text: str) -> Numbers:
    """Parse the text format of Prometheus."""
    samples: list[tuple[str, dict[str, str], float]] = []
    for line in text.splitlines():
        if (match := _SAMPLE.match(line)) is not None:
            labels = dict(_LABEL.findall(match[2] or ""))
            samples.append((match[1], labels, float(match[3])))
    # Metrics without labels have one sample, which describes the whole process.
    single = {name: value for name, labels, value in samples if not labels}
    counts: dict[str, list[float]] = {}
    buckets: dict[str, list[tuple[float, float]]] = {}
    for name, labels, value in samples:
        method = labels.get("grpc_method", "")
        if name == "grpc_server_handled_total":
            total = counts.setdefault(method, [0.0, 0.0])
            total[0] += value
            if labels.get("grpc_code") != "OK":
                total[1] += value
        elif name == "grpc_server_handling_seconds_bucket":
            buckets.setdefault(method, []).append((float(labels["le"]), value))
    methods = [
        Method(name, total[0], total[1], quantile(buckets.get(name, []), 0.99))
        for name, total in counts.items()
        if total[0]
    ]
    methods.sort(key=lambda method: -method.count)
    started = single.get("process_start_time_seconds", 0.0)
    return Numbers(
        methods,
        single.get("process_resident_memory_bytes", 0.0),
        single.get("workspaced_watchers", 0.0),
        time.time() - started if started else 0.0,
    )


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """Return the upper end of the bucket of a histogram with this quantile."""
    merged: dict[float, float] = {}
    for end, value in buckets:
        merged[end] = merged.get(end, 0.0) + value
    total = max(merged.values(), default=0.0)
    for end, value in sorted(merged.items()):
        if total and value >= share * total:
            return end
    return None


# --- Audit log and doctor ---


async def audit_tail(
    dashboard: Dashboard, caller: Caller, project: str
) -> list[dict[str, Any]] | None:
    """Return the latest lines of the audit log, the latest first.

    None if it cannot be read, or the caller is not an operator.

    Args:
        project: Only the lines of this project; "" means all.
    """
    path = dashboard.settings.audit_log
    if path is None or not is_operator(await caller.info()):
        return None
    try:
        lines = await asyncio.to_thread(_tail, path)
    except OSError:
        return None
    found = [line for line in map(_audit_line, lines) if line]
    if project:
        found = [line for line in found if line.get("project") == project]
    return found[::-1][:_AUDIT_LINES]


def _tail(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - _TAIL_BYTES, 0))
        return file.read(_TAIL_BYTES).splitlines()


def _audit_line(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def _run_doctor(base: Path) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        str(BINARY),
        "doctor",
        "--base",
        str(base),
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_DOCTOR_S):
            out, failure = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return {"problem": "The examination takes too long.", "findings": []}
    # Without a report, standard error has the reason.
    try:
        report = json.loads(out)
    except ValueError:
        return {"problem": failure.decode(errors="replace"), "findings": []}
    return {"problem": "", "findings": report.get("findings", [])}
