"""Figures of projects, for notebooks, by matplotlib or plotly.

Each function returns a figure, which a notebook shows. It uses the library that is
installed; if both are, the one that the program has imported, else matplotlib.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mlops.client import MLOpsClient
    from mlops.workspace import WorkspaceManager

__all__ = ["plot_drift", "plot_runs", "plot_sizes"]

Library = Literal["matplotlib", "plotly"]
_LIBRARIES: tuple[Library, ...] = ("matplotlib", "plotly")
_DIRECTORIES = ("mlflow", "dvc", "monitoring", "models", "outputs")
_MIB = 1 << 20


def plot_sizes(
    manager: WorkspaceManager,
    filter: str = "",
    limit: int = 20,
    library: Library | None = None,
) -> Any:
    """Return a figure of the sizes of projects by directory, the largest first.

    Args:
        filter: Which projects; see WorkspaceManager.list_workspaces().
        limit: The number of projects to show.

    Raises:
        ModuleNotFoundError: Neither library is installed.
        WorkspaceError: FILTER_INVALID, or the server does not answer.
    """
    chosen = _library(library)
    found = [
        status
        for status in manager.get_all_workspaces_status(filter)
        if not status["error"]
    ]
    found.sort(key=lambda status: status["size_bytes"], reverse=True)
    found = found[:limit]
    names = [status["project_name"] for status in found]
    parts = {
        name: [status["directory_stats"][f"{name}_bytes"] / _MIB for status in found]
        for name in _DIRECTORIES
    }
    draw = _bars_matplotlib if chosen == "matplotlib" else _bars_plotly
    return draw("Sizes of projects", "MiB", names, parts)


def plot_runs(
    clients: MLOpsClient | Iterable[MLOpsClient],
    metric: str,
    limit: int = 100,
    library: Library | None = None,
) -> Any:
    """Return a figure of a metric of runs over time, with a line for each project.

    Args:
        clients: The client of a project, or those of several.
        limit: The number of runs of each project, the latest.

    Raises:
        ModuleNotFoundError: Neither library is installed.
        MLOpsClientError: The runs cannot be read.
    """
    chosen = _library(library)
    lines = [
        _line(
            client.project_name,
            [
                (run["started_at"], run["metrics"][metric], str(run["name"]))
                for run in client.list_runs(limit=limit)
                if metric in run["metrics"] and run["started_at"]
            ],
        )
        for client in _several(clients)
    ]
    return _draw_lines(chosen, f"{metric} of runs", metric, lines)


def plot_drift(
    clients: MLOpsClient | Iterable[MLOpsClient],
    limit: int = 100,
    library: Library | None = None,
) -> Any:
    """Return a figure of the share of drifted columns over time; see plot_runs()."""
    chosen = _library(library)
    lines = [
        _line(
            client.project_name,
            [
                (
                    report["created_at"],
                    report["drift_share"],
                    ", ".join(report["drifted_columns"]),
                )
                for report in client.list_reports(limit)
            ],
        )
        for client in _several(clients)
    ]
    return _draw_lines(chosen, "Drift", "share of drifted columns", lines)


@dataclass(frozen=True)
class _Line:
    """Points of one project, in the order of time."""

    name: str
    times: list[datetime]
    values: list[float]
    texts: list[str]


def _line(name: str, points: list[tuple[str, float, str]]) -> _Line:
    points = sorted(points, key=lambda point: point[0])
    return _Line(
        name,
        [datetime.fromisoformat(time) for time, _, _ in points],
        [value for _, value, _ in points],
        [text for _, _, text in points],
    )


def _several(clients: Any) -> Sequence[MLOpsClient]:
    return list(clients) if isinstance(clients, Iterable) else [clients]


def _library(wanted: Library | None) -> Library:
    """Return the library to use.

    Raises:
        ModuleNotFoundError: It is not installed.
        ValueError: There is no such library.
    """
    if wanted is not None and wanted not in _LIBRARIES:
        raise ValueError(f"library must be one of {', '.join(_LIBRARIES)}")
    known = (
        [wanted]
        if wanted
        else sorted(_LIBRARIES, key=lambda one: one not in sys.modules)
    )
    for name in known:
        if sys.modules.get(name, name) is not None and importlib.util.find_spec(name):
            return name
    missing = wanted or "Neither matplotlib nor plotly"
    raise ModuleNotFoundError(
        f"{missing} is {'not ' if wanted else ''}installed; "
        f"install it by: pip install {wanted or 'matplotlib'}",
        name=wanted or "matplotlib",
    )


# --- matplotlib ---


def _figure(rows: int = 0) -> tuple[Any, Any]:
    """Return a figure and its axes, without pyplot's state of the whole process."""
    from matplotlib.figure import Figure

    class Shown(Figure):  # type: ignore[misc]
        """Is shown by a notebook that has not imported pyplot."""

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", bbox_inches="tight")
            return content.getvalue()

    figure = Shown(figsize=(8, max(4.0, 0.3 * rows)), layout="constrained")
    return figure, figure.add_subplot()


def _literal(texts: Iterable[Any]) -> None:
    """Show text as it is: matplotlib would read `$` as the beginning of a formula."""
    for text in texts:
        text.set_parse_math(False)


def _bars_matplotlib(
    title: str, unit: str, names: list[str], parts: Mapping[str, list[float]]
) -> Any:
    figure, axes = _figure(len(names))
    positions = range(len(names))
    begun = [0.0] * len(names)
    for part, values in parts.items():
        axes.barh(positions, values, left=begun, label=part)
        begun = [one + value for one, value in zip(begun, values, strict=True)]
    axes.set_yticks(positions, labels=names)
    _literal(axes.get_yticklabels())
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.legend()
    return figure


def _draw_lines(library: Library, title: str, axis: str, lines: list[_Line]) -> Any:
    if library == "plotly":
        return _lines_plotly(title, axis, lines)
    figure, axes = _figure()
    # Lines whose labels begin with "_" would be left out of a legend made from labels.
    drawn = [axes.plot(line.times, line.values, marker="o")[0] for line in lines]
    legend = axes.legend(drawn, [line.name for line in lines])
    _literal([*legend.get_texts(), axes.set_ylabel(axis), axes.set_title(title)])
    figure.autofmt_xdate()
    return figure


# --- plotly, which reads text as HTML ---


def _bars_plotly(
    title: str, unit: str, names: list[str], parts: Mapping[str, list[float]]
) -> Any:
    from plotly import graph_objects

    bars = [
        graph_objects.Bar(
            name=part, x=values, y=[escape(name) for name in names], orientation="h"
        )
        for part, values in parts.items()
    ]
    figure = graph_objects.Figure(bars)
    figure.update_layout(barmode="stack", title=title, xaxis_title=unit)
    # Names such as 2024 are no numbers.
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def _lines_plotly(title: str, axis: str, lines: list[_Line]) -> Any:
    from plotly import graph_objects

    drawn = [
        graph_objects.Scatter(
            name=escape(line.name),
            x=line.times,
            y=line.values,
            text=[escape(text) for text in line.texts],
            mode="lines+markers",
        )
        for line in lines
    ]
    figure = graph_objects.Figure(drawn)
    figure.update_layout(title=escape(title), yaxis_title=escape(axis), showlegend=True)
    return figure
