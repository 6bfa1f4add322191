"""Values survive the round trip to the server: metadata, settings and statuses."""

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import types
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from mlops._rpc import convert
from mlops.workspace import ProjectWorkspace, WorkspaceError, WorkspaceManager

_METADATA: dict[str, Any] = {
    "integers": [0, 1, -1, 2**53 - 1, -(2**53 - 1)],
    "floats": [0.5, -2.5, 1e-300, 4503599627370495.5],
    "others": [None, True, False, "", "text", "1", "2024-01-01", "null", "yes"],
    "unicode": {"é": "日本", "😀": "\u2028\n\t\u0000\x85"},
    "nested": {"a": [{"b": [[], {}, {"": [None]}]}]},
    "empty": {},
}


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    return [_types(item) for item in value] if isinstance(value, list) else type(value)


def test_metadata_come_back_equal_and_of_the_same_types(
    manager: WorkspaceManager,
) -> None:
    for metadata in (
        manager.create_workspace("fraud", metadata=_METADATA).metadata,
        manager.get_workspace("fraud").metadata,
        manager.list_workspaces()[0].metadata,
        manager.get_workspace_status("fraud")["metadata"],
        ProjectWorkspace.load_metadata(manager.base_path / "fraud").metadata,
    ):
        assert metadata == _METADATA
        assert _types(metadata) == _types(_METADATA)


def test_an_integral_float_comes_back_as_an_integer(manager: WorkspaceManager) -> None:
    value = manager.create_workspace("fraud", metadata={"a": 1.0}).metadata["a"]
    assert (value, type(value)) == (1, int)


class _Scalar:
    """Behaves like a NumPy scalar or zero-dimensional array, without NumPy."""

    shape = ()

    def __init__(self, kind: str, item: object) -> None:
        self.dtype = types.SimpleNamespace(kind=kind)
        self._item = item

    def item(self) -> object:
        return self._item


class _LongDouble(float):
    """Returns itself as its item, like numpy.longdouble."""

    shape = ()
    dtype = types.SimpleNamespace(kind="f")

    def item(self) -> object:
        return self


class _Text(str):
    """A subclass of str, like numpy.str_ and those of many libraries."""


class _Word(enum.StrEnum):
    STAGE = "stage"


class _Number(enum.IntEnum):
    SEVENTEEN = 17


class _Plain(enum.Enum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_Scalar("i", 3), 3),
        (_Scalar("u", 2**53 - 1), 2**53 - 1),
        (_Scalar("f", 0.5), 0.5),
        (_Scalar("b", True), True),
        (_Scalar("U", "text"), "text"),
        (_LongDouble(0.5), 0.5),
        (decimal.Decimal("0.5"), 0.5),
        (decimal.Decimal("7"), 7),
        (decimal.Decimal("-0"), 0),
        (_Word.STAGE, "stage"),
        (_Text("text"), "text"),
        (collections.OrderedDict(a=[_Scalar("i", 3)]), {"a": [3]}),
        (collections.defaultdict(list, {_Text("a"): [_Text("b")]}), {"a": ["b"]}),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_equals_a_value_of_json_is_taken_as_it(
    value: object, expected: object, manager: WorkspaceManager
) -> None:
    made = manager.create_workspace("fraud", metadata={"a": value})
    assert (made.metadata, _types(made.metadata)) == (
        {"a": expected},
        _types({"a": expected}),
    )
    # Values are converted the same way when the client writes the file directly.
    made.metadata = {"b": value}
    made.save_metadata()
    assert manager.get_workspace("fraud").metadata == {"b": expected}


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (
            decimal.Decimal("0.1"),
            "not Decimal, which no double equals: send it as str()",
        ),
        (decimal.Decimal("NaN"), "is not a finite number"),
        (decimal.Decimal("1e400"), "is an integer beyond 2^53 - 1"),
        (_Scalar("f", math.nan), "is not a finite number"),
        (_Scalar("i", 2**60), "is an integer beyond 2^53 - 1"),
        (_Scalar("M", 1_700_000_000_000_000_000), "not _Scalar"),
        (_Scalar("c", 1j), "not complex"),
        (_Plain.ONE, "not _Plain: send its value"),
        (datetime.datetime.now(datetime.UTC), "not datetime: send its isoformat()"),
        (datetime.date.today(), "not date: send its isoformat()"),
        (datetime.timedelta(1), "not timedelta: send its total_seconds()"),
        (Path("a"), "not PosixPath: send it as str()"),
        (uuid.uuid4(), "not UUID: send it as str()"),
        ((1, 2), "not tuple: send it as list()"),
        ({1}, "not set: send it as sorted()"),
        (1j, "not complex"),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_equals_none_is_refused_with_a_way_out(
    value: object, hint: str, manager: WorkspaceManager
) -> None:
    with pytest.raises(WorkspaceError) as caught:
        manager.create_workspace("fraud", metadata={"a": value})
    assert hint in str(caught.value)
    assert (caught.value.details["reason"], caught.value.details["field"]) == (
        "FIELD_INVALID",
        "metadata.a",
    )


def test_metadata_are_not_changed_where_they_are(manager: WorkspaceManager) -> None:
    metadata: dict[str, Any] = {"a": [decimal.Decimal(7)]}
    manager.create_workspace("fraud", metadata=metadata)
    assert type(metadata["a"][0]) is decimal.Decimal


@pytest.mark.parametrize(
    ("value", "text"),
    [(17, "17"), (_Scalar("i", 17), "17"), (_Number.SEVENTEEN, "17"), ("17", "17")],
    ids=lambda value: f"{value!r:.30}",
)
def test_the_id_of_an_experiment_may_be_a_number(
    value: Any, text: str, manager: WorkspaceManager
) -> None:
    made = manager.create_workspace("fraud", mlflow_experiment_id=value)
    assert made.mlflow_experiment_id == text
    made.mlflow_experiment_id = value
    made.save_metadata()
    assert manager.get_workspace("fraud").mlflow_experiment_id == text


@pytest.mark.parametrize(
    "value", [True, 1.0, b"7", [7], _Scalar("b", True), _Scalar("f", 7.0), object()]
)
def test_a_setting_without_a_meaning_is_refused(
    value: Any, manager: WorkspaceManager
) -> None:
    for name in ("mlflow_experiment_id", "dvc_remote_path"):
        with pytest.raises(
            WorkspaceError, match=f"{name}: must be text, not "
        ) as caught:
            manager.create_workspace("fraud", **{name: value})
        assert caught.value.details["field"] == name


class _Kind(enum.IntEnum):
    ONE = 1


_CYCLE: list[Any] = []
_CYCLE.append(_CYCLE)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (math.nan, "metadata.a"),
        (-math.inf, "metadata.a"),
        (2**53, "metadata.a"),
        (10**400, "metadata.a"),
        (1e300, "metadata.a"),
        ((1, 2), "metadata.a"),
        ({1, 2}, "metadata.a"),
        (b"bytes", "metadata.a"),
        (datetime.datetime.now(), "metadata.a"),
        (object(), "metadata.a"),
        ({1: 2}, "metadata.a"),
        ({None: 2}, "metadata.a"),
        ("\ud800", "metadata.a"),
        ({"\ud800": 1}, "metadata.a"),
        ([0, {"b": [math.nan]}], "metadata.a[1].b[0]"),
        (_CYCLE, "metadata.a" + "[0]" * 15),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_what_would_not_come_back_is_refused(
    value: object, field: str, manager: WorkspaceManager
) -> None:
    with pytest.raises(WorkspaceError) as caught:
        manager.create_workspace("fraud", metadata={"a": value})
    assert caught.value.operation == "create_workspace"
    assert caught.value.workspace == "fraud"
    assert (caught.value.details["reason"], caught.value.details["field"]) == (
        "FIELD_INVALID",
        field,
    )
    # The client has rejected the value without sending it.
    assert list(manager.base_path.iterdir()) == []


@pytest.mark.parametrize("depth", [16, 17])
def test_client_and_server_agree_on_depth(
    depth: int, manager: WorkspaceManager
) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(depth - 1):
        metadata = {"a": metadata}
    if depth == 16:
        assert manager.create_workspace("fraud", metadata=metadata).metadata == metadata
    else:
        with pytest.raises(WorkspaceError, match="nested deeper than 16 levels"):
            manager.create_workspace("fraud", metadata=metadata)


def test_enumerations_and_their_like_are_what_they_equal(
    manager: WorkspaceManager,
) -> None:
    assert manager.create_workspace("fraud", metadata={"a": _Kind.ONE}).metadata == {
        "a": 1
    }


@pytest.mark.parametrize("metadata", [[], "text", [("a", 1)], 3])
def test_metadata_must_be_a_dict(metadata: Any, manager: WorkspaceManager) -> None:
    with pytest.raises(WorkspaceError, match="metadata: must be a dict"):
        manager.create_workspace("fraud", metadata=metadata)


def test_every_field_is_kept(manager: WorkspaceManager) -> None:
    made = manager.create_workspace(
        "fraud", "7", "http://mlflow", "/data", "pre:", {"a": 1}
    )
    assert (made.mlflow_experiment_id, made.mlflow_tracking_uri) == (
        "7",
        "http://mlflow",
    )
    assert (made.dvc_remote_path, made.bentoml_tag_prefix) == ("/data", "pre:")
    assert made.root_path == manager.base_path / "fraud"
    assert (
        made.created_at.utcoffset()
        == made.updated_at.utcoffset()
        == datetime.timedelta(0)
    )
    assert manager.get_workspace("fraud") == made == manager.workspaces["fraud"]


def test_an_empty_setting_is_not_a_missing_one(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", mlflow_tracking_uri="")
    assert (made.mlflow_tracking_uri, made.mlflow_experiment_id) == ("", None)
    assert made.bentoml_tag_prefix == "fraud:"


def test_update_merges_metadata_and_keeps_the_rest(manager: WorkspaceManager) -> None:
    manager.create_workspace(
        "fraud", dvc_remote_path="/data", metadata={"a": {"x": 1}, "b": 2}
    )
    updated = manager.update_workspace_metadata(
        "fraud", mlflow_experiment_id="9", metadata={"a": {"y": 1}, "c": None}
    )
    assert updated.metadata == {"a": {"y": 1}, "b": 2, "c": None}
    assert (updated.mlflow_experiment_id, updated.dvc_remote_path) == ("9", "/data")
    assert updated.updated_at > updated.created_at


def test_force_resets_settings_and_keeps_files(manager: WorkspaceManager) -> None:
    made = manager.create_workspace(
        "fraud", mlflow_experiment_id="7", metadata={"a": 1}
    )
    (made.models_path / "weights").write_text("w")
    again = manager.create_workspace("fraud", metadata={"b": 2}, force=True)
    assert (again.mlflow_experiment_id, again.metadata, again.created_at) == (
        None,
        {"b": 2},
        made.created_at,
    )
    assert again.bentoml_tag_prefix == "fraud:"
    assert (again.models_path / "weights").read_text() == "w"


def test_force_makes_what_is_missing(manager: WorkspaceManager) -> None:
    assert manager.create_workspace("fraud", force=True).mlflow_path.is_dir()


def test_get_or_create_changes_nothing_that_exists(manager: WorkspaceManager) -> None:
    made = manager.get_or_create_workspace("fraud", metadata={"a": 1})
    assert (
        manager.get_or_create_workspace("fraud", metadata={"b": 2}, force=True) == made
    )


def test_a_setting_that_is_none_is_an_error(manager: WorkspaceManager) -> None:
    with pytest.raises(TypeError, match="mlflow_uri"):
        manager.update_workspace_metadata("fraud", mlflow_uri="x")  # type: ignore[call-arg]


def test_delete_frees_the_name(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud", metadata={"a": 1})
    manager.delete_workspace("fraud", force=True)
    assert (manager.workspaces, manager.list_workspaces()) == ({}, [])
    assert manager.create_workspace("fraud").metadata == {}


def test_a_long_list_comes_whole(manager: WorkspaceManager) -> None:
    manager.create_workspace("first")
    for i in range(1100):
        directory = manager.base_path / f"p{i:04}"
        directory.mkdir()
        (directory / "workspace.yaml").write_text("metadata: {}\n")
    _wait_until_listed(manager, 1101)
    assert [workspace.project_name for workspace in manager.list_workspaces()][1:] == [
        f"p{i:04}" for i in range(1100)
    ]
    assert len(manager.workspaces) == 1101


def _wait_until_listed(manager: WorkspaceManager, count: int) -> None:
    while len(manager.list_workspaces()) < count:
        pass


def test_status_counts_files_and_bytes(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud")
    (made.models_path / "deep").mkdir()
    (made.models_path / "deep/weights").write_bytes(b"12345")
    made.outputs_path.rmdir()
    status = manager.get_workspace_status("fraud")
    assert {key: status[key] for key in made.to_dict()} == made.to_dict()
    stats = status["directory_stats"]
    assert (stats["models_exists"], stats["models_files"], stats["models_bytes"]) == (
        True,
        1,
        5,
    )
    assert (
        stats["outputs_exists"],
        stats["outputs_files"],
        stats["outputs_bytes"],
    ) == (False, 0, 0)
    assert len(stats) == 15
    assert (status["file_count"], status["size_bytes"], status["error"]) == (1, 5, None)


def test_a_status_may_be_of_counts_only(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud")
    (made.models_path / "weights").write_bytes(b"12345")
    for status in (
        manager.get_workspace_status("fraud", counts_only=True),
        *manager.get_all_workspaces_status(counts_only=True),
    ):
        assert (status["file_count"], status["size_bytes"]) == (1, None)
        stats = status["directory_stats"]
        assert (
            stats["models_exists"],
            stats["models_files"],
            stats["models_bytes"],
        ) == (True, 1, None)


def test_a_broken_workspace_hides_no_other(
    manager: WorkspaceManager, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "broken", "c"):
        manager.create_workspace(name)
    (manager.base_path / "broken/workspace.yaml").write_text("metadata: [")
    with pytest.raises(WorkspaceError, match="broken"):
        manager.get_workspace("broken")
    assert [workspace.project_name for workspace in manager.list_workspaces()] == [
        "a",
        "c",
    ]
    assert "broken" in caplog.text
    statuses = {
        status["project_name"]: status for status in manager.get_all_workspaces_status()
    }
    assert statuses["broken"]["error"]["reason"] == "WORKSPACE_CORRUPT"
    assert (statuses["broken"]["created_at"], statuses["a"]["error"]) == (None, None)


def test_pyyaml_reads_what_the_server_writes(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", metadata=_METADATA)
    record = yaml.safe_load(made.metadata_file.read_text())
    fields = [field.name for field in dataclasses.fields(made)]
    assert {name: record[name] for name in fields} == {
        name: made.to_dict()[name] for name in fields
    }


_MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (0, 0, "1970-01-01T00:00:00+00:00"),
        (-1, 500_000_000, "1969-12-31T23:59:59.500000+00:00"),
        (253402300799, 999_999_999, "9999-12-31T23:59:59.999999+00:00"),
        (-62135596800, 0, "0001-01-01T00:00:00+00:00"),
        (253402300800, 0, "9999-12-31T23:59:59.999999+00:00"),
        (-62135596801, 0, "0001-01-01T00:00:00+00:00"),
        (1_780_000_000_000, 0, "9999-12-31T23:59:59.999999+00:00"),
        (_MAX, 2**31 - 1, "9999-12-31T23:59:59.999999+00:00"),
        (-_MAX - 1, -(2**31), "0001-01-01T00:00:00+00:00"),
        (253402300799, 2**31 - 1, "9999-12-31T23:59:59.999999+00:00"),
        (-62135596800, -1_000_000, "0001-01-01T00:00:00+00:00"),
    ],
)
def test_any_time_is_one_that_python_can_hold(
    seconds: int, nanos: int, expected: str
) -> None:
    assert (
        convert.from_timestamp(Timestamp(seconds=seconds, nanos=nanos)).isoformat()
        == expected
    )
