"""Commands across projects that read the toolkits' stores.

They are runs, compare, models, data and drift.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from mlops.commands import output, plots
from mlops.commands.context import manager, options
from mlops.commands.errors import usage
from mlops.commands.output import Column, Row
from mlops.commands.remote_path import DIRECTORIES

Projects = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROJECT]...", help="By default all that have some"),
]
Metric = Annotated[str, typer.Option(metavar="NAME", help="A metric of the runs")]
Lowest = Annotated[bool, typer.Option("--lowest", help="The lowest value is the best")]
_MAX_RUNS = 1000
_BAR = 12


def runs(
    projects: Projects = None,
    metric: Metric = "",
    top: Annotated[
        int, typer.Option(metavar="N", min=1, max=_MAX_RUNS, help="Show the first N")
    ] = 20,
    lowest: Lowest = False,
) -> None:
    """List MLflow's runs, the latest first or, with --metric, the best first.

    Examples:
      mlops runs fraud
      mlops runs --metric accuracy --top 3
      mlops runs fraud churn --metric loss --lowest -o json
    """
    order = (
        f'metrics."{_checked(metric)}" {"ASC" if lowest else "DESC"}' if metric else ""
    )
    # The best runs overall are among the best runs of each project.
    found: list[dict[str, Any]] = []
    for project in _with_runs(projects):
        with _client(project) as client:
            found += (
                {"project_name": project, **run}
                for run in client.list_runs(order_by=order, limit=top)
                if not metric or metric in run["metrics"]
            )
    if metric:
        found.sort(key=lambda run: _rank(run["metrics"][metric], lowest))
    else:
        found.sort(key=lambda run: str(run["started_at"]), reverse=True)
    found = found[:top]
    values = [run["metrics"][metric] for run in found] if metric else []
    columns = _run_columns(metric, values)
    output.rows(found, columns, "run_id", "There are no such runs.")


def _rank(value: float, lowest: bool) -> tuple[bool, float]:
    """Return the sort key that puts the best value first, and NaN last."""
    return math.isnan(value), value if lowest else -value


def _checked(metric: str) -> str:
    if '"' in metric or "`" in metric:
        raise usage("--metric cannot have quotes")
    return metric


def _run_columns(metric: str, values: list[float]) -> tuple[Column, ...]:
    if metric:
        finite = [value for value in values if math.isfinite(value)]
        # Begin the bars at 0, unless that would hide the differences between values.
        lowest, highest = min(finite, default=0.0), max(finite, default=0.0)
        lowest = 0.0 if 0 <= lowest <= highest / 2 else lowest

        def plot(row: Row) -> str:
            return plots.bar(row["metrics"][metric], highest, _BAR, lowest)

        title = metric.upper()
        shown: tuple[Column, ...] = (
            Column(title, lambda row: f"{row['metrics'][metric]:.6g}", right=True),
            Column("", plot),
        )
    else:
        shown = (Column("METRICS", lambda row: output.pairs(_rounded(row["metrics"]))),)
    return (
        Column("PROJECT", lambda row: row["project_name"]),
        Column("RUN", lambda row: row["name"] or row["run_id"]),
        Column("STATUS", lambda row: row["status"]),
        Column("STARTED", lambda row: output.age(row["started_at"])),
        *shown,
        Column("ID", lambda row: row["run_id"], wide=True),
        Column("PARAMETERS", lambda row: output.pairs(row["params"]), wide=True),
    )


def _rounded(metrics: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in metrics.items()}


def models(projects: Projects = None) -> None:
    """List the models in BentoML's stores, the latest of each project first.

    Examples:
      mlops models
      mlops models fraud -o json
    """
    found: list[dict[str, Any]] = []
    for project in projects or _names(
        lambda row: row["directory_stats"]["models_files"]
    ):
        with _client(project) as client:
            found += ({"project_name": project, **one} for one in client.list_models())
    columns = (
        Column("PROJECT", lambda row: row["project_name"]),
        Column("TAG", lambda row: row["tag"]),
        Column("CREATED", lambda row: output.age(row["created_at"])),
        Column("SIZE", lambda row: output.size(row["size_bytes"]), right=True),
        Column("PATH", lambda row: row["path"], wide=True),
    )
    output.rows(found, columns, "tag", "There are no models.")


def data(
    projects: Projects = None,
    history: Annotated[
        bool, typer.Option("--history", help="Also the versions in Git's history")
    ] = False,
) -> None:
    """List the data that DVC tracks, with the version of each.

    A version is the MD5 that DVC computes. REMOTE says whether the project's remote has
    it, if that is in this file system. Without Git, DVC knows only present versions.

    Examples:
      mlops data
      mlops data fraud -o wide
      mlops data fraud --history -o json
    """
    found: list[dict[str, Any]] = []
    for project in projects or _names(lambda row: row["directory_stats"]["dvc_files"]):
        with _client(project) as client:
            versions = client.list_data(history)
            found += ({"project_name": project, **one} for one in versions)
    columns = (
        Column("PROJECT", lambda row: row["project_name"]),
        Column("PATH", lambda row: row["path"]),
        Column("VERSION", lambda row: (row["md5"] or "")[:8]),
        Column("FILES", lambda row: row["files"], right=True),
        Column("SIZE", lambda row: output.size(row["size_bytes"]), right=True),
        Column("CHANGED", lambda row: output.age(row["changed_at"])),
        Column("REMOTE", lambda row: _yes_or_no(row["in_remote"])),
        Column("COMMIT", lambda row: (row["commit"] or "")[:8], wide=not history),
        Column("MD5", lambda row: row["md5"], wide=True),
    )
    output.rows(found, columns, "path", "DVC tracks nothing.")


def _yes_or_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def drift(
    projects: Projects = None,
    last: Annotated[
        int, typer.Option(metavar="N", min=1, max=_MAX_RUNS, help="Reports per project")
    ] = 20,
) -> None:
    """Show the share of drifted columns over time, from Evidently's reports.

    Without a project, shows a line for each project that has reports: the latest share,
    and a plot of the last shares, from left to right. With projects, shows each report,
    the latest first.

    Examples:
      mlops drift
      mlops drift fraud --last 5
      mlops drift fraud -o json
    """
    chosen = projects or _names(lambda row: row["directory_stats"]["monitoring_files"])
    reports = {project: _reports(project, last) for project in chosen}
    if projects:
        found = [one for project in projects for one in reports[project]]
    else:
        found = [_drift_of(*item) for item in reports.items() if item[1]]
    columns: tuple[Column, ...] = _REPORT_COLUMNS if projects else _DRIFT_COLUMNS
    output.rows(found, columns, "project_name", "There are no drift reports.")


def _reports(project: str, last: int) -> list[dict[str, Any]]:
    with _client(project) as client:
        found = client.list_reports(last)
    return [{"project_name": project, **report} for report in found]


def _drift_of(project: str, reports: list[dict[str, Any]]) -> dict[str, Any]:
    latest = reports[0]
    shares = [report["drift_share"] for report in reversed(reports)]
    return {**latest, "project_name": project, "drift_shares": shares}


def _percent(row: Row) -> str:
    return f"{row['drift_share']:.0%}"


def _drifted(row: Row) -> str:
    return f"{row['number_of_drifted_columns']} of {row['number_of_columns']}"


_DRIFT_COLUMNS = (
    Column("PROJECT", lambda row: row["project_name"]),
    Column("REPORTED", lambda row: output.age(row["created_at"])),
    Column("DRIFT", _percent, right=True),
    Column("DRIFTED", _drifted, right=True),
    Column("OVER TIME", lambda row: plots.line(row["drift_shares"])),
    Column("COLUMNS", lambda row: ", ".join(row["drifted_columns"]), wide=True),
)
_REPORT_COLUMNS = (
    Column("PROJECT", lambda row: row["project_name"]),
    Column("REPORTED", lambda row: output.age(row["created_at"])),
    Column("DRIFT", _percent, right=True),
    Column("", lambda row: f"{plots.bar(row['drift_share'], 1.0, _BAR):{_BAR}}"),
    Column("DRIFTED", _drifted, right=True),
    Column("COLUMNS", lambda row: ", ".join(row["drifted_columns"])),
    Column("REPORT", lambda row: row["report_html"], wide=True),
)


def compare(
    projects: Annotated[list[str], typer.Argument(metavar="PROJECT PROJECT...")],
    metric: Metric = "",
    lowest: Lowest = False,
) -> None:
    """Compare projects: sizes, numbers of files, runs and their best metrics.

    A terminal also shows the sizes and the metric as bars.

    Examples:
      mlops compare fraud churn
      mlops compare fraud churn --metric accuracy
    """
    if len(projects) < 2:
        raise usage("compare needs two projects or more")
    compared = [_facts(project, metric, lowest) for project in projects]
    if (options.output or "") in ("json", "yaml", "name"):
        output.rows(compared, (), "project_name")
        return
    output.rows(list(_lines(compared)), _compare_columns(projects), "fact")
    if output.is_terminal(sys.stdout):
        _plot(compared, "size", lambda one: one["size_bytes"], output.size)
        if metric:
            _plot(compared, f"best {metric}", lambda one: _best(one, metric), _short)


def _best(one: dict[str, Any], metric: str) -> float | None:
    value: float | None = one["best_metrics"].get(metric)
    return value


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _plot(
    compared: list[dict[str, Any]],
    title: str,
    value: Callable[[dict[str, Any]], float | None],
    shown: Callable[[Any], str],
) -> None:
    """Print a bar for each project."""
    values = [value(one) for one in compared]
    known = (one for one in values if one is not None and math.isfinite(one))
    highest = max(known, default=0.0)
    rows = [
        {"name": one["project_name"], "value": number}
        for one, number in zip(compared, values, strict=True)
    ]
    columns = (
        Column(title.upper(), lambda row: row["name"]),
        Column("", lambda row: shown(row["value"]), right=True),
        Column("", lambda row: plots.bar(row["value"], highest, 2 * _BAR)),
    )
    output.write("\n")
    output.rows(rows, columns, "name")


def _facts(project: str, metric: str, lowest: bool) -> dict[str, Any]:
    status = manager().get_workspace_status(project)
    facts: dict[str, Any] = {
        "project_name": project,
        "stage": status["metadata"].get("stage"),
        "files": status["file_count"],
        "size_bytes": status["size_bytes"],
        **{
            f"{name}_bytes": status["directory_stats"][f"{name}_bytes"]
            for name in DIRECTORIES
        },
    }
    best: dict[str, float] = {}
    found = _all_runs(project) if _may_have_runs(status) else []
    for run in found:
        for name, value in run["metrics"].items():
            if metric in ("", name):
                candidates = (best.get(name, value), value)
                best[name] = min(candidates, key=lambda one: _rank(one, lowest))
    return {**facts, "runs": len(found), "best_metrics": best}


def _all_runs(project: str) -> list[dict[str, Any]]:
    with _client(project) as client:
        result: list[dict[str, Any]] = client.list_runs(limit=_MAX_RUNS)
        return result


def _lines(compared: list[dict[str, Any]]) -> Iterable[Row]:
    """Yield the rows of the table: one row per fact, with each project's value."""

    def line(fact: str, values: Iterable[object]) -> Row:
        return {"fact": fact, "values": list(values)}

    yield line("stage", (one["stage"] for one in compared))
    yield line("files", (one["files"] for one in compared))
    yield line("size", (output.size(one["size_bytes"]) for one in compared))
    for name in DIRECTORIES:
        yield line(name, (output.size(one[f"{name}_bytes"]) for one in compared))
    yield line("runs", (one["runs"] for one in compared))
    for name in sorted({name for one in compared for name in one["best_metrics"]}):
        values = (one["best_metrics"].get(name) for one in compared)
        yield line(
            f"best {name}",
            ("" if value is None else f"{value:.6g}" for value in values),
        )


def _compare_columns(projects: list[str]) -> tuple[Column, ...]:
    def of(number: int) -> Column:
        return Column(projects[number], lambda row: row["values"][number], right=True)

    return (Column("", lambda row: row["fact"]), *map(of, range(len(projects))))


def _with_runs(projects: list[str] | None) -> list[str]:
    return projects or _names(_may_have_runs)


def _may_have_runs(status: Row) -> bool:
    # The first run stores the experiment's id.
    return bool(
        status["mlflow_experiment_id"] or status["directory_stats"]["mlflow_files"]
    )


def _names(wanted: Any) -> list[str]:
    """Return the names of the projects whose status is `wanted`."""
    statuses = manager().get_all_workspaces_status(counts_only=True)
    return [row["project_name"] for row in statuses if not row["error"] and wanted(row)]


def _client(project: str) -> Any:
    """Return the MLOpsClient of an existing project."""
    # The client would create a missing one.
    manager().get_workspace(project)
    from mlops.client import MLOpsClient

    return MLOpsClient(project, workspace_manager=manager())


COMMANDS = {
    "runs": runs,
    "compare": compare,
    "models": models,
    "data": data,
    "drift": drift,
}
