"""Computes medians, ratios and tables of measurements."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator

Row = dict[str, object]


def median(values: Iterator[float] | list[float]) -> float:
    return statistics.median(values)


def per_second(row: Row) -> float:
    return row["calls"] / row["seconds"]


def seconds(row: Row) -> float:
    return row["seconds"]


def speed(row: Row) -> float:
    return 1 / row["seconds"]


def grouped(rows: list[Row], *keys: str) -> dict[tuple[object, ...], list[Row]]:
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def cpu_us(row: Row) -> float:
    return 1e6 * row["server_cpu_seconds"] / row["calls"]


def ratio(
    figure: Callable[[Row], float],
    rows: list[Row],
    target: str,
    yardstick: str,
    **where: object,
) -> str:
    """Returns the median of the ratios within each round, with quartiles in brackets.

    The sides of a round were measured shortly after each other, so a change of the
    machine's load cancels out.
    """
    if target == yardstick:
        return "1"
    rounds = grouped(
        [row for row in rows if all(row[key] == value for key, value in where.items())],
        "round",
    )
    ratios = []
    for group in rounds.values():
        figures = {row["target"]: figure(row) for row in group}
        ratios.append(figures[target] / figures[yardstick])
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{median(ratios):.2f} ({low:.2f} to {high:.2f})"


def table(head: list[str], lines: list[list[object]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def per_call(row: Row) -> float:
    return row["seconds"] / row["calls"]
