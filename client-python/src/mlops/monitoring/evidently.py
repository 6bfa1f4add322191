"""Drift of a workspace's data: the only importer of evidently."""

import json
import logging
import math
import os
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Evidently's own switch; it has none that says yes.
os.environ.setdefault("DO_NOT_TRACK", "1")

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from pandas.api.types import is_bool_dtype, is_extension_array_dtype, is_integer_dtype, is_numeric_dtype

from mlops.client.errors import MLOpsClientError, input_invalid
from mlops.client.paths import require_local
from mlops.client.staging import staging
from mlops.workspace import ProjectWorkspace

_log = logging.getLogger(__name__)
# From this share of drifted columns on the dataset has drifted; Evidently's own default.
_DRIFT_SHARE = 0.5
_ROLES_KEY = b"mlops.roles"
# MLflow takes 1000 metrics in a request; those of the columns of a wider table are in the report alone.
_MAX_COLUMN_METRICS = 900
_MAX_METRIC_NAME = 200


@dataclass(frozen=True)
class _Reference:
    df: pd.DataFrame
    target: str | None
    prediction: str | None


class DriftMonitor:
    """Reference data and reports in one workspace's monitoring/.

    Both are made aside and put in place by a rename: other threads and processes see them as a whole. Thread-safe.
    """

    def __init__(self, workspace: ProjectWorkspace) -> None:
        self._workspace = workspace
        self._directory = workspace.monitoring_path
        self._staging_area = self._directory / ".staging"
        self._reference_file = self._directory / "reference.parquet"
        self._reports = self._directory / "reports"

    def set_reference(self, df: pd.DataFrame, target_column: str | None, prediction_column: str | None) -> None:
        """Keeps `df` in monitoring/reference.parquet, in place of the one before. Names of columns become text.

        Raises MLOpsClientError INPUT_INVALID unless `df` is a DataFrame with rows, with columns of different names and
        of types that Parquet knows, and with the target and prediction columns named; WORKSPACE_NOT_LOCAL.
        """
        df = _checked(df)
        roles = _roles(df, target_column, prediction_column)
        try:
            table = pa.Table.from_pandas(df, preserve_index=False)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise input_invalid("df", f"cannot be kept as Parquet: {error}") from error
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _ROLES_KEY: json.dumps(roles)})
        with self._staged() as directory:
            draft = directory / "reference.parquet"
            pq.write_table(table, draft)
            _put(draft, self._reference_file)

    def compare(self, df: pd.DataFrame, target_column: str | None, prediction_column: str | None) -> dict[str, Any]:
        """Compares `df` with the reference, column by column, by the method that Evidently chooses for each.

        The columns must be those of the reference, but the reference's target may be missing, where it is not known
        yet. The target and prediction are those named with the reference, if not named here.

        Returns
        - `dataset_drift`: whether at least half of the columns drifted; `drift_share`, `number_of_columns`,
          `number_of_drifted_columns`, `drifted_columns`: their names;
        - `columns`: for each `drift_score` (None if Evidently found no number), `drifted`, `method`, `threshold`;
        - `skipped_columns`: why others were not compared: times, lists, no value in the reference;
        - `target_column`, `prediction_column`;
        - `report_json`, `report_html`: paths of Evidently's report, in monitoring/reports/ and named by UTC time;
        - `metrics`: `drift_share`, `dataset_drift` (0 or 1), `number_of_drifted_columns` and `drift_score.<column>`,
          with "_" for what MLflow allows in no name, of at most 900 columns.

        Raises MLOpsClientError REFERENCE_MISSING if set_reference() was never called; INPUT_INVALID unless `df` is a
        DataFrame with rows, the right columns, each of the reference's kind and with any value where it has one;
        WORKSPACE_NOT_LOCAL.
        """
        reference = self._read_reference()
        df = _checked(df)
        roles = _roles(df, target_column, prediction_column)
        columns = _expected_columns(df, reference)
        current, before = df[columns], reference.df[columns]
        definition = Dataset.from_pandas(before, DataDefinition()).data_definition
        skipped = _skipped(before, definition)
        _check_values(current, before, skipped)
        preset = DataDriftPreset(columns=[name for name in columns if name not in skipped], drift_share=_DRIFT_SHARE)
        snapshot = Report([preset], include_tests=True).run(
            Dataset.from_pandas(current, definition), Dataset.from_pandas(before, definition)
        )
        target = roles["target"] or reference.target
        results = {
            **_results(snapshot.dict()),
            "skipped_columns": skipped,
            "target_column": target if target in df.columns else None,
            "prediction_column": roles["prediction"] or reference.prediction,
        }
        return {**results, **self._write_report(snapshot), "metrics": _metrics(results)}

    def count(self) -> dict[str, int]:
        """How many `reports` there are."""
        return {"reports": sum(1 for _ in self._reports.glob("*.json"))}

    def _staged(self) -> Any:
        require_local(self._workspace)
        self._directory.mkdir(exist_ok=True)
        return staging(self._staging_area)

    def _read_reference(self) -> _Reference:
        try:
            table = pq.ParquetFile(self._reference_file).read()  # read_table() would look for partitions in the path.
            roles = json.loads(table.schema.metadata[_ROLES_KEY])
            return _Reference(table.to_pandas(), roles["target"], roles["prediction"])
        except FileNotFoundError:
            require_local(self._workspace)
            raise MLOpsClientError(
                f"{self._workspace.project_name} has no reference data to compare with: call set_reference_data() once",
                details={"reason": "REFERENCE_MISSING", "path": str(self._reference_file)},
            ) from None
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise MLOpsClientError(
                f"{self._reference_file} is not what set_reference_data() wrote: call it again; {error}",
                details={"reason": "REFERENCE_MISSING", "path": str(self._reference_file)},
            ) from error

    def _write_report(self, snapshot: Any) -> dict[str, str]:
        name = f"drift-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:6]}"
        paths = {}
        with self._staged() as directory:
            self._reports.mkdir(exist_ok=True)
            snapshot.save_html(str(directory / "html"))
            snapshot.save_json(str(directory / "json"))
            for kind in ("html", "json"):
                path = self._reports / f"{name}.{kind}"
                _put(directory / kind, path)
                paths[f"report_{kind}"] = str(path)
        return paths


def _put(draft: Path, path: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def _checked(df: Any) -> pd.DataFrame:
    """The table with text for names, since Evidently knows no other, and in types that it compares."""
    if not isinstance(df, pd.DataFrame):
        raise input_invalid("df", f"must be a pandas DataFrame, not {type(df).__name__}")
    if df.empty:
        raise input_invalid("df", f"has {len(df)} rows and {len(df.columns)} columns: there is nothing to compare")
    df = df.set_axis(df.columns.map(str), axis="columns").reset_index(drop=True)
    if not df.columns.is_unique:
        doubles = sorted(set(df.columns[df.columns.duplicated()]))
        raise input_invalid("df", f"has several columns of one name: {_names(doubles)}")
    return df.apply(_plain)


def _plain(series: pd.Series) -> pd.Series:
    """The same values in a type that Evidently compares: it leaves out those that know a missing value."""
    if series.dtype == object:
        series = series.convert_dtypes()
    if is_bool_dtype(series):
        return series.map({True: "True", False: "False"}).astype(object)
    if is_numeric_dtype(series) and (is_extension_array_dtype(series) or series.dtype.kind == "u"):
        fits = is_integer_dtype(series) and series.notna().all() and series.max() <= np.iinfo(np.int64).max
        return series.astype("int64" if fits else "float64")
    return series


def _roles(df: pd.DataFrame, target: str | None, prediction: str | None) -> dict[str, str | None]:
    roles = {"target": target, "prediction": prediction}
    for role, column in roles.items():
        if column is not None and str(column) not in df.columns:
            raise input_invalid(f"{role}_column", f"is {column!r}, which is no column of df")
    return {role: None if column is None else str(column) for role, column in roles.items()}


def _expected_columns(df: pd.DataFrame, reference: _Reference) -> list[str]:
    missing = [column for column in reference.df.columns if column not in df.columns and column != reference.target]
    extra = [column for column in df.columns if column not in reference.df.columns]
    if not missing and not extra:
        return [column for column in reference.df.columns if column in df.columns]
    problems = [f"{what} {_names(columns)}" for what, columns in (("lacks", missing), ("adds", extra)) if columns]
    error = input_invalid("df", f"has other columns than the reference: it {' and '.join(problems)}")
    error.details |= {"missing": missing, "extra": extra}
    raise error


def _names(columns: list[str]) -> str:
    """Some of them, if there are many."""
    more = len(columns) - 20
    return ", ".join(map(repr, columns[:20])) + (f" and {more} more" if more > 0 else "")


def _has_values(series: pd.Series) -> bool:
    """As Evidently sees it, to which infinity is none."""
    if series.dtype.kind == "f":
        return bool(np.isfinite(series.to_numpy(dtype=float, na_value=np.nan)).any())
    return bool(series.notna().any())


def _skipped(before: pd.DataFrame, definition: DataDefinition) -> dict[str, str]:
    comparable = {
        *definition.get_numerical_columns(),
        *definition.get_categorical_columns(),
        *definition.get_text_columns(),
    }
    skipped = {}
    for column in before.columns:
        if not _has_values(before[column]):
            skipped[column] = "has no value in the reference"
        elif column not in comparable:
            skipped[column] = f"is of a type that is not compared, {before[column].dtype}"
    return skipped


def _check_values(current: pd.DataFrame, before: pd.DataFrame, skipped: dict[str, str]) -> None:
    compared = [column for column in before.columns if column not in skipped]
    if not compared:
        raise input_invalid("df", f"has no column that can be compared: {skipped}")
    empty = [column for column in compared if not _has_values(current[column])]
    if empty:
        raise input_invalid("df", f"has no value in columns that have some in the reference: {_names(empty)}")
    for column in compared:
        is_number = is_numeric_dtype(current[column])
        if is_number != is_numeric_dtype(before[column]):
            words = ("numbers", "no numbers") if is_number else ("no numbers", "numbers")
            raise input_invalid("df", f"column {column!r} holds {words[0]}, and {words[1]} in the reference")
    if skipped:
        _log.warning("Columns that are not compared: %s", skipped)


def _results(report: dict[str, Any]) -> dict[str, Any]:
    """What the tests of Evidently's preset say of each column."""
    scores = {
        metric["config"]["column"]: metric["value"] for metric in report["metrics"] if "column" in metric["config"]
    }
    columns = {}
    for test in report["tests"]:
        if test["id"] == "drift":
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
    metrics = {name: float(results[name]) for name in ("drift_share", "dataset_drift", "number_of_drifted_columns")}
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
