"""DriftMonitor: drift of a workspace's data. Only this module imports evidently."""

import html
import json
import logging
import math
import os
import re
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Evidently's own switch; it has no switch that turns telemetry on.
os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from evidently import ColumnType, DataDefinition, Dataset, Report
from evidently.core.datasets import infer_column_type
from evidently.presets import DataDriftPreset

from mlops._toolkits.errors import MLOpsClientError, input_invalid
from mlops._toolkits.paths import require_local
from mlops._toolkits.staging import staging
from mlops.monitoring.columns import (
    BOOL,
    CATEGORY,
    EMPTY,
    Column,
    Pair,
    pair,
    plain,
    presence,
    unicode_text,
)
from mlops.workspace import ProjectWorkspace

_log = logging.getLogger(__name__)
# The share of drifted columns from which the dataset has drifted; Evidently's default.
_DRIFT_SHARE = 0.5
_ROLES_KEY = b"mlops.roles"
_KINDS_KEY = b"mlops.kinds"
# MLflow accepts 1000 metrics in a request. For wider tables, the metrics of the columns
# are only in the report.
_MAX_COLUMN_METRICS = 900
_MAX_METRIC_NAME = 200
_WORD = re.compile(r"\w\w")  # A single letter is not a word for Evidently.


@dataclass(frozen=True)
class _Reference:
    columns: dict[str, Column]
    target: str | None
    prediction: str | None


class DriftMonitor:
    """The reference data and the reports in one workspace's monitoring/ directory.

    Both are staged and then renamed into place, so other threads and processes see them
    atomically. Thread-safe.
    """

    def __init__(self, workspace: ProjectWorkspace) -> None:
        self._workspace = workspace
        self._directory = workspace.monitoring_path
        self._staging_area = self._directory / ".staging"
        self._reference_file = self._directory / "reference.parquet"
        self._reports = self._directory / "reports"

    def set_reference(
        self, df: pd.DataFrame, target_column: str | None, prediction_column: str | None
    ) -> None:
        """Store `df` in monitoring/reference.parquet, replacing the previous reference.

        Column names become text. Of columns whose type compare() does not compare, only
        the name and the type are stored.

        Raises:
            MLOpsClientError: INPUT_INVALID unless `df` is a DataFrame with rows, with
                columns of different names, and with the given target and prediction
                columns; WORKSPACE_NOT_LOCAL.
        """
        columns = _checked(df)
        roles = _roles(columns, target_column, prediction_column)
        table = pa.table(
            {
                name: pa.Array.from_pandas(column.values)
                for name, column in columns.items()
            }
        )
        kinds = {name: [column.kind, column.dtype] for name, column in columns.items()}
        table = table.replace_schema_metadata(
            {_ROLES_KEY: json.dumps(roles), _KINDS_KEY: json.dumps(kinds)}
        )
        with self._staged() as directory:
            draft = directory / "reference.parquet"
            # Arrow accepts only UTF-8 paths, so pass an open file.
            with draft.open("wb") as file:
                pq.write_table(table, file)
            _put(draft, self._reference_file)

    def compare(
        self, df: pd.DataFrame, target_column: str | None, prediction_column: str | None
    ) -> dict[str, Any]:
        """Compare `df` with the reference, column by column.

        Evidently chooses the method for each column. The columns must be those of the
        reference, except that the target may be missing if it is not known yet. The
        target and prediction columns default to those of the reference. A column
        without any value has drifted if it has one in the reference.

        Returns:
            dataset_drift: Whether at least half of the columns drifted.
            drift_share, number_of_columns, number_of_drifted_columns: The figures.
            drifted_columns: The names.
            columns: For each column `drift_score` (None if Evidently found no number),
                `drifted`, `method` and `threshold`.
            skipped_columns: Why other columns were not compared: times, lists, text
                where numbers were, no value in the reference, or an exception of
                Evidently. The report also names them.
            target_column, prediction_column: The columns used.
            report_json, report_html: The paths of Evidently's report in
                monitoring/reports/, named by UTC time.
            metrics: `drift_share`, `dataset_drift` (0 or 1),
                `number_of_drifted_columns` and `drift_score.<column>` of up to 900
                columns, with "_" for characters that MLflow does not allow in a name.

        Raises:
            MLOpsClientError: REFERENCE_MISSING if there is no reference; INPUT_INVALID
                unless `df` is a DataFrame with rows, with the right columns, and with a
                column that can be compared; WORKSPACE_NOT_LOCAL.
        """
        reference = self._read_reference()
        now = _checked(df)
        roles = _roles(now, target_column, prediction_column)
        pairs = {
            name: pair(reference.columns[name], now[name])
            for name in _expected_columns(now, reference)
        }
        skipped = {
            name: each.problem
            for name, each in pairs.items()
            if each.problem is not None
        }
        # _run() adds further columns to `skipped`, those at which Evidently fails.
        with _process_state_kept():
            snapshot = _run(
                {name: each for name, each in pairs.items() if name not in skipped},
                skipped,
            )
        if skipped:
            _log.warning("Columns that are not compared: %s", skipped)
        # The reference may name a target that is not known for `df` yet.
        target = roles["target"] or reference.target
        results = {
            **_results(snapshot.dict()),
            "skipped_columns": skipped,
            "target_column": target if target in now else None,
            "prediction_column": roles["prediction"] or reference.prediction,
        }
        return {
            **results,
            **self._write_report(snapshot, skipped),
            "metrics": _metrics(results),
        }

    def count(self) -> dict[str, int]:
        """Return the number of `reports`."""
        return {"reports": sum(1 for _ in self._reports.glob("*.json"))}

    def _staged(self) -> Any:
        require_local(self._workspace)
        self._directory.mkdir(exist_ok=True)
        return staging(self._staging_area)

    def _read_reference(self) -> _Reference:
        try:
            with self._reference_file.open("rb") as file:
                table = pq.ParquetFile(file).read()
            roles = json.loads(table.schema.metadata[_ROLES_KEY])
            # Files of the first release do not record the kinds of their columns.
            kinds = json.loads(table.schema.metadata.get(_KINDS_KEY, b"{}"))
            columns = {}
            for name, values in table.to_pandas().items():
                column = plain(values)
                columns[name] = (
                    Column(column.values, *kinds[name]) if name in kinds else column
                )
            return _Reference(columns, roles["target"], roles["prediction"])
        except FileNotFoundError:
            # The whole workspace may be missing on this machine.
            require_local(self._workspace)
            raise MLOpsClientError(
                f"{self._workspace.project_name} has no reference data "
                "to compare with: call set_reference_data() once",
                details={
                    "reason": "REFERENCE_MISSING",
                    "path": str(self._reference_file),
                },
            ) from None
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise MLOpsClientError(
                f"{self._reference_file} is damaged: {error}; "
                "call set_reference_data() again",
                details={
                    "reason": "REFERENCE_MISSING",
                    "path": str(self._reference_file),
                },
            ) from error

    def _write_report(self, snapshot: Any, skipped: dict[str, str]) -> dict[str, str]:
        name = f"drift-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:6]}"
        paths = {}
        with self._staged() as directory:
            self._reports.mkdir(exist_ok=True)
            snapshot.save_html(str(directory / "html"))
            snapshot.save_json(str(directory / "json"))
            if skipped:
                _name_skipped(directory, skipped)
            for kind in ("html", "json"):
                path = self._reports / f"{name}.{kind}"
                _put(directory / kind, path)
                paths[f"report_{kind}"] = str(path)
        return paths


def _put(draft: Path, path: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def _name_skipped(directory: Path, skipped: dict[str, str]) -> None:
    """Add the columns that were not compared to a report, which lacks them."""
    report = json.loads((directory / "json").read_text("utf-8"))
    (directory / "json").write_text(
        json.dumps({**report, "skipped_columns": skipped}), "utf-8"
    )
    items = "".join(
        f"<li>{html.escape(f'{name}: {problem}')}</li>"
        for name, problem in skipped.items()
    )
    section = (
        f"<section><h3>Columns that were not compared</h3><ul>{items}</ul></section>"
    )
    head, end, tail = (directory / "html").read_text("utf-8").rpartition("</body>")
    (directory / "html").write_text(f"{head}{section}{end}{tail}", "utf-8")


def _checked(df: Any) -> dict[str, Column]:
    """Return the columns of a table in types that Evidently compares, by name.

    Evidently supports only text as names.
    """
    if not isinstance(df, pd.DataFrame):
        raise input_invalid(
            "df", f"must be a pandas DataFrame, not {type(df).__name__}"
        )
    if df.empty:
        raise input_invalid(
            "df",
            f"has {len(df)} rows and {len(df.columns)} columns: "
            "there is nothing to compare",
        )
    df = df.set_axis(
        [unicode_text(name) for name in df.columns], axis="columns"
    ).reset_index(drop=True)
    if not df.columns.is_unique:
        doubles = sorted(set(df.columns[df.columns.duplicated()]))
        raise input_invalid("df", f"has several columns of one name: {_names(doubles)}")
    return {name: plain(values) for name, values in df.items()}


def _roles(
    columns: dict[str, Column], target: str | None, prediction: str | None
) -> dict[str, str | None]:
    roles = {"target": target, "prediction": prediction}
    for role, column in roles.items():
        if column is not None and unicode_text(column) not in columns:
            raise input_invalid(
                f"{role}_column", f"is {column!r}, which is no column of df"
            )
    return {
        role: None if column is None else unicode_text(column)
        for role, column in roles.items()
    }


def _expected_columns(now: dict[str, Column], reference: _Reference) -> list[str]:
    missing = [
        column
        for column in reference.columns
        if column not in now and column != reference.target
    ]
    extra = [column for column in now if column not in reference.columns]
    if not missing and not extra:
        return [column for column in reference.columns if column in now]
    problems = [
        f"{what} {_names(columns)}"
        for what, columns in (("lacks", missing), ("adds", extra))
        if columns
    ]
    error = input_invalid(
        "df", f"has other columns than the reference: it {' and '.join(problems)}"
    )
    error.details |= {"missing": missing, "extra": extra}
    raise error


def _names(columns: list[str]) -> str:
    """Return the names, abbreviated if there are many."""
    more = len(columns) - 20
    return ", ".join(map(repr, columns[:20])) + (
        f" and {more} more" if more > 0 else ""
    )


_one_at_a_time = threading.Lock()


def _unlock() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


# The thread that may have held the lock does not exist in the child.
os.register_at_fork(after_in_child=_unlock)


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restore what Evidently changes for the whole process.

    Evidently seeds numpy's random generator. It also warns thousands of times about
    columns with few values, which its results report, too.
    """
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = np.random.get_state()
        try:
            yield
        finally:
            np.random.set_state(state)


def _run(pairs: dict[str, Pair], skipped: dict[str, str]) -> Any:
    """Return Evidently's report of `pairs`.

    Omits the columns at which Evidently fails, and adds them to `skipped`.
    """
    types = {name: _column_type(each) for name, each in pairs.items()}
    # Usually one report of all columns succeeds.
    if types:
        try:
            return _report(pairs, types)
        except Exception as error:
            _log.debug(
                "Evidently failed; looking for the columns it fails at", exc_info=error
            )
    # Find the columns at which Evidently fails, one by one.
    compared = {}
    for name, of in types.items():
        try:
            compared[name] = _settled_type(pairs[name], name, of)
        except Exception as error:
            skipped[name] = f"Evidently cannot compare it: {error}"
    if not compared:
        raise input_invalid("df", f"has no column that can be compared: {skipped}")
    return _report(pairs, compared)


def _column_type(each: Pair) -> ColumnType:
    if each.kind in (BOOL, CATEGORY, EMPTY):
        return ColumnType.Categorical
    # Evidently treats few different numbers, or repeated texts, as categories. It
    # compares other texts by words.
    inferred = infer_column_type(each.before)
    if inferred == ColumnType.Text and not each.before.str.contains(_WORD).any():
        return ColumnType.Categorical
    return inferred


def _settled_type(each: Pair, name: str, of: ColumnType) -> ColumnType:
    """Return a type as which Evidently can compare the column.

    It fails at text in which all words are too frequent.
    """
    try:
        _report({name: each}, {name: of})
        return of
    except Exception:
        if of != ColumnType.Text:
            raise
    _report({name: each}, {name: ColumnType.Categorical})
    return ColumnType.Categorical


def _report(pairs: dict[str, Pair], types: dict[str, ColumnType]) -> Any:
    definition = DataDefinition(
        **{
            f"{word}_columns": [name for name, of in types.items() if of == kind]
            for word, kind in (
                ("numerical", ColumnType.Numerical),
                ("categorical", ColumnType.Categorical),
                ("text", ColumnType.Text),
            )
        },
        datetime_columns=[],
        unknown_columns=[],
        list_columns=[],
    )
    # Evidently refuses a column without values, so compare which rows have a value. Any
    # difference is drift.
    empty = [name for name in types if pairs[name].kind == EMPTY]
    before = {
        name: presence(pairs[name].before) if name in empty else pairs[name].before
        for name in types
    }
    now = {
        name: presence(pairs[name].now) if name in empty else pairs[name].now
        for name in types
    }
    preset = DataDriftPreset(
        columns=list(types),
        drift_share=_DRIFT_SHARE,
        per_column_method=dict.fromkeys(empty, "jensenshannon"),
        per_column_threshold=dict.fromkeys(empty, 1e-9),
    )
    return Report([preset], include_tests=True).run(
        Dataset.from_pandas(pd.DataFrame(now), definition),
        Dataset.from_pandas(pd.DataFrame(before), definition),
    )


def _results(report: dict[str, Any]) -> dict[str, Any]:
    """Return the results of the tests in Evidently's preset, by column."""
    scores = {
        metric["config"]["column"]: metric["value"]
        for metric in report["metrics"]
        if "column" in metric["config"]
    }
    columns = {}
    for test in report["tests"]:
        if test["id"] == "drift":
            # A score may be NaN, which JSON cannot represent.
            config = test["metric_config"]["params"]
            score = float(scores[config["column"]])
            columns[config["column"]] = {
                "drift_score": score if math.isfinite(score) else None,
                "drifted": test["status"].value == "FAIL",
                "method": config["method"],
                "threshold": float(config["threshold"]),
            }
    drifted = [name for name, column in columns.items() if column["drifted"]]
    share = len(drifted) / len(columns)
    return {
        "dataset_drift": share >= _DRIFT_SHARE,
        "drift_share": share,
        "number_of_columns": len(columns),
        "number_of_drifted_columns": len(drifted),
        "drifted_columns": drifted,
        "columns": columns,
    }


def _metrics(results: dict[str, Any]) -> dict[str, float]:
    metrics = {
        name: float(results[name])
        for name in ("drift_share", "dataset_drift", "number_of_drifted_columns")
    }
    if len(results["columns"]) <= _MAX_COLUMN_METRICS:
        for name, column in results["columns"].items():
            if column["drift_score"] is not None:
                metrics[_metric_name(name, metrics)] = column["drift_score"]
    return metrics


def _metric_name(column: str, taken: dict[str, float]) -> str:
    name = "drift_score." + re.sub(r"[^A-Za-z0-9_. -]", "_", column)[:_MAX_METRIC_NAME]
    number = 2
    unique = name
    while unique in taken:
        unique = f"{name}.{number}"
        number += 1
    return unique
