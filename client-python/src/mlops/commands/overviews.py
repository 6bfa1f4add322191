"""Commands across projects that read the toolkits' stores: runs, compare, models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from mlops.commands import output
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
    found: list[dict[str, Any]] = []
    for project in _with_runs(projects):
        with _client(project) as client:
            found += (
                {"project_name": project, **run}
                for run in client.list_runs(order_by=order, limit=top)
                if not metric or metric in run["metrics"]
            )
    if metric:
        found.sort(key=lambda run: run["metrics"][metric], reverse=not lowest)
    else:
        found.sort(key=lambda run: str(run["started_at"]), reverse=True)
    output.rows(found[:top], _run_columns(metric), "run_id", "There are no such runs.")


def _checked(metric: str) -> str:
    if '"' in metric or "`" in metric:
        raise usage("--metric cannot have quotes")
    return metric


def _run_columns(metric: str) -> tuple[Column, ...]:
    shown = (
        Column(metric.upper(), lambda row: f"{row['metrics'][metric]:.6g}", right=True)
        if metric
        else Column("METRICS", lambda row: output.pairs(_rounded(row["metrics"])))
    )
    return (
        Column("PROJECT", lambda row: row["project_name"]),
        Column("RUN", lambda row: row["name"] or row["run_id"]),
        Column("STATUS", lambda row: row["status"]),
        Column("STARTED", lambda row: output.age(row["started_at"])),
        shown,
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


def compare(
    projects: Annotated[list[str], typer.Argument(metavar="PROJECT PROJECT...")],
    metric: Metric = "",
    lowest: Lowest = False,
) -> None:
    """Compare projects: sizes, numbers of files, runs and their best metrics.

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
                choose = min if lowest else max
                best[name] = choose(best.get(name, value), value)
    return {**facts, "runs": len(found), "best_metrics": best}


def _all_runs(project: str) -> list[dict[str, Any]]:
    with _client(project) as client:
        result: list[dict[str, Any]] = client.list_runs(limit=_MAX_RUNS)
        return result


def _lines(compared: list[dict[str, Any]]) -> Iterable[Row]:
    """Yield the rows of the table, a fact with the value of each project."""

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


COMMANDS = {"runs": runs, "compare": compare, "models": models}
