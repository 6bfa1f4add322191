"""set_reference_data and monitor_predictions with a real Evidently."""

import datetime
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evidently import Run
from mlflow.utils.validation import _validate_metric_name
from mlops.client import MLOpsClient, MLOpsClientError
from mlops.monitoring import evidently
from mlops.monitoring.evidently import DriftMonitor
from mlops.workspace import ProjectWorkspace, WorkspaceManager

from python.conftest import Script


def table(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "amount": random.normal(100, 10, rows),
            "age": random.integers(18, 90, rows),
            "country": random.choice(["CH", "DE", "FR"], rows),
            "fraud": random.random(rows) > 0.5,
        }
    )


def refused(client: MLOpsClient, df: Any, **roles: Any) -> MLOpsClientError:
    with pytest.raises(MLOpsClientError) as raised:
        client.monitor_predictions(df, **roles)
    assert (raised.value.operation, raised.value.component) == (
        "monitor_predictions",
        "evidently",
    )
    assert DriftMonitor(client.workspace).count() == {"reports": 0}
    return raised.value


def test_data_as_before_has_not_drifted(client: MLOpsClient) -> None:
    client.set_reference_data(table())
    results = client.monitor_predictions(table())
    assert results["dataset_drift"] is False
    assert (results["drift_share"], results["drifted_columns"]) == (0.0, [])
    assert list(results["columns"]) == ["amount", "age", "country", "fraud"]


def test_drift_is_told_column_by_column(client: MLOpsClient) -> None:
    client.set_reference_data(table())
    results = client.monitor_predictions(
        table(seed=1).assign(amount=lambda df: df["amount"] + 30, country="AT")
    )
    assert (results["dataset_drift"], results["drift_share"]) == (True, 0.5)
    assert (results["number_of_drifted_columns"], results["number_of_columns"]) == (
        2,
        4,
    )
    assert sorted(results["drifted_columns"]) == ["amount", "country"]
    amount = results["columns"]["amount"]
    assert amount["drifted"] and amount["drift_score"] < amount["threshold"] == 0.05
    assert amount["method"] == "K-S p_value"
    # The results hold only plain Python values.
    json.dumps(results)


def test_the_report_is_evidentlys_and_agrees(client: MLOpsClient) -> None:
    client.set_reference_data(table())
    results = client.monitor_predictions(table().assign(amount=0.0))
    report = json.loads(Path(results["report_json"]).read_text())
    [count] = [
        metric["value"]
        for metric in report["metrics"]
        if metric["metric_name"].startswith("DriftedColumns")
    ]
    assert count == {
        "count": results["number_of_drifted_columns"],
        "share": results["drift_share"],
    }
    assert "<html" in Path(results["report_html"]).read_text()[:1000]
    assert (
        Path(results["report_html"]).parent
        == client.workspace.monitoring_path / "reports"
    )
    assert DriftMonitor(client.workspace).count() == {"reports": 1}


def test_the_metrics_are_those_mlflow_takes(client: MLOpsClient) -> None:
    odd = table().assign(
        **{"": 1.5, "a/../b": 1.5, "é %": 2.5, "a_.._b": 3.5, "x" * 500: 1.5, "../": 2}
    )
    client.set_reference_data(odd)
    metrics = client.monitor_predictions(odd.assign(amount=0.0))["metrics"]
    for name in metrics:
        _validate_metric_name(name)
    assert len(metrics) == 3 + 10
    assert (metrics["drift_share"], metrics["dataset_drift"]) == (0.1, 0.0)
    assert metrics["drift_score.amount"] < 0.05
    assert all(type(value) is float for value in metrics.values())


COMPARE = """
import socket, sys, warnings
warnings.simplefilter("ignore")
def audit(event, args):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and \
args[0].family != socket.AF_UNIX):
        print(event, args[1:])
sys.addaudithook(audit)
import pandas as pd
from mlops.client import MLOpsClient
from mlops.workspace import ProjectWorkspace, WorkspaceManager
client = MLOpsClient("fraud", workspace_manager=WorkspaceManager(sys.argv[1]))
print(client.monitor_predictions(pd.read_parquet(sys.argv[2]))["target_column"])
from evidently.telemetry import event_logger
print(event_logger.is_enabled())
"""


def test_another_process_knows_the_reference_and_reports_to_nobody(
    client: MLOpsClient,
    base: Path,
    script: Script,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    client.set_reference_data(table(), target_column="fraud")
    table().to_parquet(directory / "current.parquet")
    done = script(COMPARE, base, directory / "current.parquet", HOME=str(directory))
    assert done.stdout == "fraud\nFalse\n", done.stderr
    assert DriftMonitor(client.workspace).count() == {"reports": 1}


def test_the_reference_is_replaced_as_a_whole(client: MLOpsClient) -> None:
    client.set_reference_data(table(), target_column="fraud")
    with pytest.raises(MLOpsClientError):
        client.set_reference_data(table(), target_column="none")
    assert client.monitor_predictions(table())["target_column"] == "fraud"
    client.set_reference_data(table()[["amount"]])
    assert client.monitor_predictions(table()[["amount"]])["target_column"] is None
    assert pd.read_parquet(
        client.workspace.monitoring_path / "reference.parquet"
    ).columns.to_list() == ["amount"]


def test_projects_have_references_of_their_own(manager: WorkspaceManager) -> None:
    first, second = (
        MLOpsClient(name, workspace_manager=manager) for name in ("first", "second")
    )
    first.set_reference_data(table())
    assert refused(second, table()).details["reason"] == "REFERENCE_MISSING"


def test_without_a_reference_one_is_asked_for(client: MLOpsClient) -> None:
    error = refused(client, table())
    assert error.details["reason"] == "REFERENCE_MISSING"
    assert "set_reference_data()" in error.message
    (client.workspace.monitoring_path / "reference.parquet").write_bytes(
        b"PAR1 no more"
    )
    assert refused(client, table()).details["reason"] == "REFERENCE_MISSING"


def test_other_columns_than_the_reference_are_named(client: MLOpsClient) -> None:
    client.set_reference_data(table())
    error = refused(client, table().rename(columns={"age": "years"}).assign(more=1))
    assert (error.details["missing"], error.details["extra"]) == (
        ["age"],
        ["years", "more"],
    )
    assert error.message == (
        "df: has other columns than the reference: "
        "it lacks 'age' and adds 'years', 'more'"
    )


def test_the_target_may_not_be_known_yet(client: MLOpsClient) -> None:
    client.set_reference_data(table(), target_column="fraud", prediction_column="age")
    results = client.monitor_predictions(table().drop(columns="fraud"))
    assert (results["target_column"], results["prediction_column"]) == (None, "age")
    assert list(results["columns"]) == ["amount", "age", "country"]
    with pytest.raises(MLOpsClientError, match="lacks 'age'"):
        client.monitor_predictions(table().drop(columns="age"))


def test_columns_named_must_be_there(client: MLOpsClient) -> None:
    with pytest.raises(MLOpsClientError) as raised:
        client.set_reference_data(table(), target_column="label")
    assert raised.value.details == {"reason": "INPUT_INVALID", "field": "target_column"}
    client.set_reference_data(table())
    assert (
        refused(client, table(), prediction_column="label").details["field"]
        == "prediction_column"
    )
    assert (
        client.monitor_predictions(table(), prediction_column="age")[
            "prediction_column"
        ]
        == "age"
    )


NO_TABLES = [
    None,
    {"a": [1]},
    [1, 2],
    np.zeros((2, 2)),
    pd.Series([1]),
    pd.DataFrame(),
    table().head(0),
]
BAD_TABLES = [
    pd.concat([table(), table()], axis=1),
    pd.DataFrame([[1, 2]], columns=[1, "1"]),
]


@pytest.mark.parametrize("df", NO_TABLES + BAD_TABLES, ids=lambda df: type(df).__name__)
def test_what_is_no_table_is_refused(client: MLOpsClient, df: Any) -> None:
    with pytest.raises(MLOpsClientError) as raised:
        client.set_reference_data(df)
    assert raised.value.details == {"reason": "INPUT_INVALID", "field": "df"}
    assert [
        entry.name for entry in client.workspace.monitoring_path.glob("*.parquet")
    ] == []


@pytest.mark.parametrize("df", NO_TABLES, ids=lambda df: type(df).__name__)
def test_what_is_no_table_is_not_compared(client: MLOpsClient, df: Any) -> None:
    client.set_reference_data(table())
    assert refused(client, df).details == {"reason": "INPUT_INVALID", "field": "df"}


def arrow(values: list[Any], of: pa.DataType) -> pd.Series:
    return pd.Series(values, dtype=pd.ArrowDtype(of))


ROWS = 20
COUNT = np.arange(ROWS)
DAYS = pd.date_range("2026-01-01", periods=ROWS)
DAY = datetime.date(2026, 1, 1)


def halves(*pair: Any) -> list[Any]:
    return [*pair] * (ROWS // 2)


NUMERIC = [
    "int8",
    "int64",
    "uint8",
    "uint64",
    "float16",
    "float32",
    "float64",
    "longdouble",
    "Int8",
    "UInt64",
    "Float64",
]
COMPARED: dict[str, Any] = {
    **{name: pd.Series(COUNT, dtype=name) for name in NUMERIC},
    "whole": pd.array([*COUNT[:-1], None], dtype="Int64"),
    "large": pd.Series(COUNT.astype("uint64") << np.uint64(59)),
    "half gone": halves(1.5, np.nan),
    "constant": 1.0,
    "bool": halves(True, False),
    "boolean": pd.array(halves(True, None), dtype="boolean"),
    "objects: bool": pd.Series(halves(True, None), dtype=object),
    "objects: numbers": pd.Series(halves(1, 2.5), dtype=object),
    "objects: decimals": halves(Decimal("1.5"), None),
    "objects: beyond 64 bits": halves(2**70, 1),
    "objects: text": halves("a", None),
    "objects: mixed": halves(1, "x"),
    "objects: no Unicode": halves("\udcff", "b"),
    "letters": [chr(ord("a") + number) for number in COUNT],
    "frequent words": [f"the {chr(ord('a') + number)} of" for number in COUNT],
    "string": pd.array(halves("ab", None), dtype="string"),
    "string[pyarrow]": pd.array(halves("ab", None), dtype="string[pyarrow]"),
    "category: text": pd.Categorical(halves("u", None)),
    "category: integers": pd.Categorical(COUNT),
    "category: floats": pd.Categorical(halves(1.5, 2)),
    "category: bool": pd.Categorical(halves(True, False)),
    "category: times": pd.Categorical(DAYS),
    "category: dates": pd.Categorical([DAY] * ROWS),
    "category: intervals": pd.cut(COUNT, 3),
    "category: tuples": pd.Categorical(halves((1, 2), (3, 4))),
    "interval": pd.arrays.IntervalArray.from_breaks(range(ROWS + 1)),
    "sparse": pd.arrays.SparseArray(halves(0, 1)),
    "sparse: floats": pd.arrays.SparseArray(halves(np.nan, 1.0)),
    "sparse: bool": pd.arrays.SparseArray(halves(True, False)),
    "arrow: int": arrow(halves(1, None), pa.int32()),
    "arrow: float": arrow(halves(1.5, None), pa.float32()),
    "arrow: half": arrow([*np.float16(COUNT)], pa.float16()),
    "arrow: decimal": arrow(halves(Decimal("1.5"), None), pa.decimal128(5, 2)),
    "arrow: bool": arrow(halves(True, None), pa.bool_()),
    "arrow: text": arrow(halves("ab", None), pa.string()),
    "arrow: long text": arrow(halves("ab", None), pa.large_string()),
    "arrow: dictionary": arrow(
        halves("ab", None), pa.dictionary(pa.int32(), pa.string())
    ),
    "arrow: dictionary of numbers": arrow(
        halves(1, None), pa.dictionary(pa.int32(), pa.int64())
    ),
}
SKIPPED: dict[str, Any] = {
    "complex64": (COUNT * 1j).astype("complex64"),
    "complex128": COUNT * 1j,
    "time": DAYS,
    "time in a zone": DAYS.tz_localize("UTC"),
    "duration": DAYS - DAYS[0],
    "period": pd.period_range("2026-01", periods=ROWS, freq="M"),
    "objects: dates": [DAY] * ROWS,
    "objects: bytes": halves(b"a", b"\xff"),
    "objects: lists": [[1]] * ROWS,
    "objects: dicts": [{"a": 1}] * ROWS,
    "objects: tuples": [(1, 2)] * ROWS,
    "objects: anything": [object()] * ROWS,
    "objects: beyond all floats": pd.Series(halves(2**2000, 1), dtype=object),
    "arrow: date": arrow([DAY] * ROWS, pa.date32()),
    "arrow: time": arrow([datetime.time(1)] * ROWS, pa.time32("s")),
    "arrow: timestamp": arrow([*DAYS], pa.timestamp("us", "UTC")),
    "arrow: duration": arrow([datetime.timedelta(1)] * ROWS, pa.duration("s")),
    "arrow: list": arrow([[1]] * ROWS, pa.list_(pa.int8())),
    "arrow: struct": arrow([{"a": 1}] * ROWS, pa.struct([("a", pa.int8())])),
    "arrow: map": arrow([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int8())),
    "arrow: bytes": arrow([b"a"] * ROWS, pa.binary()),
}
WITHOUT_VALUES: dict[str, Any] = {
    "no number": np.nan,
    "no object": None,
    "no time": pd.NaT,
    "nothing finite": np.inf,
    "arrow: null": arrow([None] * ROWS, pa.null()),
}


def test_every_type_of_pandas_is_compared_or_named(
    client: MLOpsClient, capfd: pytest.CaptureFixture[str]
) -> None:
    df = pd.DataFrame({**COMPARED, **SKIPPED, **WITHOUT_VALUES})
    random = np.random.get_state()[1].tolist()
    client.set_reference_data(df)
    results = client.monitor_predictions(df)
    assert list(results["columns"]) == [*COMPARED] and results["drifted_columns"] == []
    types = {
        name: f"is of a type that is not compared, {df[name].dtype}" for name in SKIPPED
    }
    skipped = {
        **types,
        **dict.fromkeys(WITHOUT_VALUES, "has no value in the reference"),
    }
    assert results["skipped_columns"] == skipped
    assert (
        json.loads(Path(results["report_json"]).read_text())["skipped_columns"]
        == skipped
    )
    page = Path(results["report_html"]).read_text()
    assert "<li>complex64: is of a type" in page and page.rstrip().endswith("</html>")
    assert capfd.readouterr().err == "" and np.random.get_state()[1].tolist() == random
    gone = df.assign(**dict.fromkeys(COMPARED, np.nan))
    assert client.monitor_predictions(gone)["drifted_columns"] == [*COMPARED]


def test_a_single_row(client: MLOpsClient, capfd: pytest.CaptureFixture[str]) -> None:
    row = pd.DataFrame(
        {
            "number": [1.5],
            "text": ["some words"],
            "letter": ["a"],
            "flag": [True],
            "time": DAYS[:1],
        }
    )
    client.set_reference_data(row)
    assert [*client.monitor_predictions(row)["columns"]] == [
        "number",
        "text",
        "letter",
        "flag",
    ]
    assert client.monitor_predictions(row.assign(number=np.nan))["drifted_columns"] == [
        "number"
    ]
    assert capfd.readouterr().err == ""


NUMBERS = halves(1, 0)
FLAGS = halves(True, False)
PAIRS: list[tuple[Any, Any, str | None]] = [
    (FLAGS, NUMBERS, None),
    (NUMBERS, FLAGS, None),
    (halves(1.0, 0.0), pd.array(FLAGS, dtype="boolean"), None),
    (halves("True", "False"), FLAGS, None),
    (pd.Categorical(halves(1, 2)), halves(1, 2), None),
    (pd.Categorical(halves(1, 2)), halves(1.0, 2.0), None),
    (halves(1, 2), pd.Categorical(halves(1, 2)), None),
    (halves("a", "b"), pd.Categorical(halves("a", "b")), None),
    (halves(1, 2), FLAGS, "holds booleans, and numbers in the reference"),
    (FLAGS, halves(1, 2), "holds numbers, and booleans in the reference"),
    (halves(1, 2), halves("a", "b"), "holds text, and numbers in the reference"),
    (halves("a", "b"), halves(1, 2), "holds numbers, and text in the reference"),
    (
        halves(1, 2),
        pd.Categorical(halves("a", "b")),
        "holds categories, and numbers in the reference",
    ),
    (halves(1, 2), DAYS, "is of a type that is not compared, datetime64[ns]"),
]


def test_the_same_values_in_another_type(client: MLOpsClient) -> None:
    names = [str(number) for number in range(len(PAIRS))]
    client.set_reference_data(
        pd.DataFrame(
            {name: before for name, (before, _, _) in zip(names, PAIRS, strict=True)}
        )
    )
    results = client.monitor_predictions(
        pd.DataFrame(
            {name: now for name, (_, now, _) in zip(names, PAIRS, strict=True)}
        )
    )
    problems = {
        name: problem
        for name, (_, _, problem) in zip(names, PAIRS, strict=True)
        if problem
    }
    assert results["skipped_columns"] == problems and results["drifted_columns"] == []
    assert list(results["columns"]) == [name for name in names if name not in problems]


def test_nothing_to_compare(client: MLOpsClient) -> None:
    df = pd.DataFrame({"time": DAYS})
    client.set_reference_data(df)
    assert "no column that can be compared" in refused(client, df).message


def test_a_column_that_evidently_fails_at_is_named(
    client: MLOpsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(pairs: dict[str, Any], types: dict[str, Any]) -> Any:
        if "age" in types:
            raise ZeroDivisionError("division by zero")
        return real(pairs, types)

    real = evidently._report
    monkeypatch.setattr(evidently, "_report", report)
    client.set_reference_data(table())
    results = client.monitor_predictions(table())
    assert results["skipped_columns"] == {
        "age": "Evidently cannot compare it: division by zero"
    }
    assert list(results["columns"]) == ["amount", "country", "fraud"]


def test_a_reference_of_the_first_release(client: MLOpsClient) -> None:
    client.set_reference_data(table())
    file = client.workspace.monitoring_path / "reference.parquet"
    old = pq.read_table(file)
    pq.write_table(
        old.replace_schema_metadata(
            {b"mlops.roles": old.schema.metadata[b"mlops.roles"]}
        ),
        file,
    )
    assert client.monitor_predictions(table())["drifted_columns"] == []


def test_names_that_are_no_text(client: MLOpsClient) -> None:
    df = pd.DataFrame(
        np.random.default_rng(0).normal(size=(100, 3)), columns=[0, 1, ("a", "b")]
    )
    client.set_reference_data(df, target_column=1)  # type: ignore[arg-type]
    results = client.monitor_predictions(df)
    assert (list(results["columns"]), results["target_column"]) == (
        ["0", "1", "('a', 'b')"],
        "1",
    )


@pytest.mark.parametrize(
    "name", ["jürgen #%(x)s?=&${y}{z}{ ,;'\"[a]*~\n ", os.fsdecode(b"\xff")], ids=ascii
)
def test_any_path_and_no_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    workspace = ProjectWorkspace("fraud", tmp_path / name / "fraud")
    workspace.root_path.mkdir(parents=True)
    monitor = DriftMonitor(workspace)
    monitor.set_reference(table()[["age"]], None, None)
    assert monitor.compare(table()[["age"]], None, None)["drifted_columns"] == []
    assert monitor.count() == {"reports": 1} and os.listdir(tmp_path) == [name]


def test_rows_in_another_index_and_columns_in_another_order(
    client: MLOpsClient,
) -> None:
    client.set_reference_data(table())
    shuffled = table()[["fraud", "country", "age", "amount"]].set_axis(range(5, 205))
    assert client.monitor_predictions(shuffled)["drifted_columns"] == []


def test_a_wide_table(client: MLOpsClient) -> None:
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 60))).add_prefix(
        "feature "
    )
    client.set_reference_data(wide)
    results = client.monitor_predictions(wide + 5)
    assert (results["number_of_columns"], results["drift_share"]) == (60, 1.0)


def test_threads_write_reports_of_their_own(client: MLOpsClient) -> None:
    client.set_reference_data(table())
    shifts = [0, 50] * 3

    def compare(shift: int) -> tuple[str, list[str]]:
        results = client.monitor_predictions(
            table().assign(amount=lambda df: df["amount"] + shift)
        )
        return results["report_json"], results["drifted_columns"]

    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(compare, shifts))
    assert [drifted for _, drifted in outcomes] == [[], ["amount"]] * 3
    assert (
        len({path for path, _ in outcomes})
        == 6
        == DriftMonitor(client.workspace).count()["reports"]
    )


def test_a_report_that_cannot_be_written_leaves_nothing(
    client: MLOpsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Run, path: str) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    client.set_reference_data(table())
    monkeypatch.setattr(Run, "save_json", full)
    assert refused(client, table()).details["reason"] == "TOOLKIT_FAILED"
    monitoring = client.workspace.monitoring_path
    left = [
        str(path.relative_to(monitoring))
        for path in monitoring.rglob("*")
        if path.is_file()
    ]
    assert sorted(left) == [".staging/users.lock", "reference.parquet"]


def test_a_deleted_workspace_does_not_come_back(
    client: MLOpsClient, manager: WorkspaceManager
) -> None:
    manager.delete_workspace("fraud", force=True)
    with pytest.raises(MLOpsClientError) as raised:
        client.set_reference_data(table())
    assert raised.value.details["reason"] == "WORKSPACE_NOT_LOCAL"
    assert not client.workspace_path.exists()
