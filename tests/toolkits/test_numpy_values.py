"""NumPy's types in metadata and settings, which become the equal JSON values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager


def test_scalars_of_numpy(tmp_path: Path) -> None:
    manager = WorkspaceManager(tmp_path / "base")
    metadata = {
        "int": [np.int8(3), np.uint64(7), np.array(3), np.intp(-1)],
        "float": [
            np.float16(0.5),
            np.float32(0.25),
            np.float64(1.5),
            np.longdouble(2.5),
        ],
        "others": [
            np.bool_(True),
            np.str_("text"),
            np.array("text")[()],
            pd.Series([4]).sum(),
        ],
        np.str_("key"): None,
    }
    made = manager.create_workspace(
        "fraud", mlflow_experiment_id=np.int64(17), metadata=metadata
    )
    assert made.mlflow_experiment_id == "17"
    expected = {
        "int": [3, 7, 3, -1],
        "float": [0.5, 0.25, 1.5, 2.5],
        "others": [True, "text", "text", 4],
        "key": None,
    }
    assert made.metadata == expected
    assert [type(value) for value in made.metadata["int"]] == [int] * 4


@pytest.mark.parametrize(
    "value",
    [
        np.datetime64("2026-01-01", "ns"),
        np.timedelta64(1, "s"),
        np.array([1]),
        np.complex64(1),
        np.float64("nan"),
        np.int64(2**60),
        np.void(b"x"),
        pd.Timestamp("2026-01-01"),
        pd.Series([1]),
        pd.NaT,
        pd.NA,
    ],
    ids=repr,
)
def test_what_json_has_not_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"^metadata.a: ") as caught:
        WorkspaceManager(tmp_path / "base").create_workspace(
            "fraud", metadata={"a": value}
        )
    assert caught.value.details["reason"] == "FIELD_INVALID"
