"""Charts as SVG. Colours are classes, because pages have no inline styles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from mlops.dashboard import shown
from mlops.dashboard.rows import Usage
from mlops.workspace.project import DIRECTORIES

# Width of a letter of the labels in a tree map.
_LETTER = 6.6
_COLOURS = 8
_SHARE = 120
# The size of a chart, and its margins.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 64, 12, 10, 24
# Values beyond the largest are not drawn. A range that is smaller than the smallest, or
# than this share of its values, is drawn as one value.
_LARGEST, _SMALLEST, _SAME = 1e300, 1e-300, 1e-12


@dataclass(frozen=True)
class Tile:
    """A rectangle of a tree map."""

    x: float
    y: float
    width: float
    height: float
    item: Any
    value: float


def squarify(
    items: Sequence[tuple[Any, float]], width: float, height: float
) -> list[Tile]:
    """Lay out items in a rectangle, by area, with sides as equal as possible.

    The algorithm of Bruls, Huizing and van Wijk. Items with the value 0 are left out.
    """
    rest = sorted(
        ((item, value) for item, value in items if value > 0), key=lambda one: -one[1]
    )
    total = sum(value for _, value in rest)
    if not total or width <= 0 or height <= 0:
        return []
    scale = width * height / total
    x = y = 0.0
    tiles: list[Tile] = []
    while rest:
        # Fill the remaining rectangle row by row, each along the shorter side.
        side = min(width - x, height - y)
        if side <= 0:
            break
        row = _row(rest, side, scale)
        rest = rest[len(row) :]
        area = sum(value for _, value in row) * scale
        depth, at = area / side, 0.0
        for item, value in row:
            length = value * scale / depth
            if width - x >= height - y:
                tiles.append(Tile(x, y + at, depth, length, item, value))
            else:
                tiles.append(Tile(x + at, y, length, depth, item, value))
            at += length
        if width - x >= height - y:
            x += depth
        else:
            y += depth
    return tiles


def _row(
    rest: list[tuple[Any, float]], side: float, scale: float
) -> list[tuple[Any, float]]:
    """Return as many of the first items as make the best row along `side`."""
    row, best = [rest[0]], _worst([rest[0][1] * scale], side)
    areas = [rest[0][1] * scale]
    for one in rest[1:]:
        areas.append(one[1] * scale)
        worst = _worst(areas, side)
        if worst > best:
            break
        row.append(one)
        best = worst
    return row


def _worst(areas: list[float], side: float) -> float:
    """Return the worst ratio of the sides of a row's rectangles."""
    total = sum(areas)
    largest, smallest = areas[0], areas[-1]
    return max(
        side * side * largest / (total * total),
        total * total / (side * side * smallest),
    )


def fits(text: str, width: float) -> str:
    """Return text cut to a width in a tree map; "" if nothing useful fits."""
    letters = int((width - 8) / _LETTER)
    if letters < 3:
        return ""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def share(usage: Usage) -> Markup:
    """Return how a project's bytes and files are spread over its directories."""
    parts = [
        (name, files, size)
        for name, (files, size) in zip(DIRECTORIES, usage.directories, strict=True)
    ]
    label = ", ".join(
        f"{name} {shown.size(size)} in {shown.count(files)} files"
        for name, files, size in parts
        if files
    )
    if not label:
        return Markup("")
    out = [
        f'<svg class="share" viewBox="0 0 {_SHARE} 14" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}"><title>{label}</title>'
    ]
    out += _stack([size for _, _, size in parts], 0, 9)
    out += _stack([files for _, files, _ in parts], 10.5, 3.5)
    return Markup("".join([*out, "</svg>"]))


def _stack(parts: Sequence[float], y: float, height: float) -> list[str]:
    """Return rectangles side by side."""
    total, x, out = sum(parts), 0.0, []
    for number, part in enumerate(parts):
        width = part / total * _SHARE if total else 0
        if width >= 0.1:
            out.append(
                f'<rect class="c{number}" x="{x:.1f}" y="{y}" '
                f'width="{width:.1f}" height="{height}"/>'
            )
        x += width
    return out


def bar(value: float, largest: float, colour: int = 0) -> Markup:
    """Return a bar of one value."""
    length = 200 * value / largest if largest else 0
    return Markup(
        '<svg class="bar" viewBox="0 0 200 12" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="c{colour}" x="0" y="0" '
        f'width="{max(length, 0.5 if value else 0):.1f}" height="12"/></svg>'
    )


@dataclass(frozen=True)
class Series:
    """Points of one line: positions and values."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Axes:
    """Where the values of a chart are on the page."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float
    height: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point."""
        right = (x - self.low_x) / (self.high_x - self.low_x)
        down = (self.high_y - y) / (self.high_y - self.low_y)
        return (
            _LEFT + right * (_WIDTH - _LEFT - _RIGHT),
            _TOP + down * (self.height - _TOP - _BOTTOM),
        )


def lines(
    series: Sequence[Series], label: str, time_axis: bool = True, height: int = 180
) -> Markup:
    """Return a chart of lines on common axes."""
    found = [
        (number, one.name, sorted((x, y) for x, y in one.points if _finite(x, y)))
        for number, one in enumerate(series)
    ]
    points = [point for _, _, some in found for point in some]
    if not points:
        return Markup("")
    ticks = _ticks(*_range([y for _, y in points]))
    axes = _Axes(*_range([x for x, _ in points]), ticks[0], ticks[-1], height)
    show = shown.moment if time_axis else shown.number
    out = [
        f'<svg class="lines" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    out += _grid(axes, ticks, show)
    for number, name, some in found:
        out += _line(axes, f"s{number % _COLOURS}", name, some, show)
    return Markup("".join([*out, "</svg>"]))


def _grid(axes: _Axes, ticks: list[float], show: Callable[[float], str]) -> list[str]:
    """Return the lines and labels of the axes."""
    out = []
    for tick in ticks:
        y = axes.at(axes.low_x, tick)[1]
        out.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" '
            f'text-anchor="end">{shown.number(tick)}</text>'
        )
    for x, anchor in ((axes.low_x, "start"), (axes.high_x, "end")):
        out.append(
            f'<text class="axis" x="{axes.at(x, axes.low_y)[0]:.1f}" '
            f'y="{axes.height - 6}" text-anchor="{anchor}">{show(x)[:16]}</text>'
        )
    return out


def _line(
    axes: _Axes,
    colour: str,
    name: str,
    points: list[tuple[float, float]],
    show: Callable[[float], str],
) -> list[str]:
    """Return a line, and a circle with a title at each of its points."""
    out = []
    places = [axes.at(x, y) for x, y in points]
    if len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline class="{colour}" points="{path}"/>')
    for (x, y), (when, value) in zip(places, points, strict=True):
        out.append(
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
            f"<title>{escape(name)} {show(when)}: {shown.number(value)}</title>"
            "</circle>"
        )
    return out


def _finite(*numbers: float) -> bool:
    # MLflow stores an infinity as the largest double.
    return all(abs(number) <= _LARGEST for number in numbers)


def _range(values: list[float]) -> tuple[float, float]:
    """Return the ends of an axis, which are far enough apart for arithmetic."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if high - low <= max(size * _SAME, _SMALLEST):
        margin = size * 0.1 if size > _SMALLEST else 1.0
        return low - margin, high + margin
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    """Return about four round values that cover a range."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 4:
            step *= factor
            break
    first = math.floor(low / step)
    last = math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]
