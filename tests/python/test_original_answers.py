"""The results of the original Python code, on which its users' scripts rely."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace import ProjectWorkspace, WorkspaceError, WorkspaceManager

_KEYS = [
    "project_name",
    "root_path",
    "mlflow_path",
    "dvc_path",
    "monitoring_path",
    "models_path",
    "outputs_path",
    "mlflow_experiment_id",
    "mlflow_tracking_uri",
    "dvc_remote_path",
    "bentoml_tag_prefix",
    "metadata",
    "created_at",
    "updated_at",
]
_PATHS = _KEYS[1:7]


def test_a_workspace_as_a_dict_has_these_keys_in_this_order(
    manager: WorkspaceManager,
) -> None:
    made = manager.create_workspace("fraud", "17", metadata={"a": 1})
    for workspace in (
        made,
        ProjectWorkspace("fraud", made.root_path),
        ProjectWorkspace.load_metadata(made.root_path),
    ):
        assert list(workspace.to_dict()) == _KEYS
    as_dict = made.to_dict()
    assert {name: as_dict[name] for name in _PATHS} == {
        name: str(getattr(made, name)) for name in _PATHS
    }
    assert as_dict["created_at"] == made.created_at.isoformat()


def test_a_status_begins_with_them(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", "17", metadata={"a": 1})
    for status in (
        manager.get_workspace_status("fraud"),
        *manager.get_all_workspaces_status(),
    ):
        assert list(status)[: len(_KEYS) + 1] == [*_KEYS, "directory_stats"]
        assert {name: status[name] for name in _KEYS} == made.to_dict()
        names = [
            f"{path.removesuffix('_path')}_{what}"
            for path in _PATHS[1:]
            for what in ("exists", "files")
        ]
        assert [
            name for name in status["directory_stats"] if not name.endswith("_bytes")
        ] == names


def _fraud(manager: WorkspaceManager) -> ProjectWorkspace:
    return manager.create_workspace(
        "fraud", mlflow_experiment_id="7", metadata={"a": 1, "b": {"x": 1}}
    )


# Each entry: a call to make after _fraud(), a view of its result, the expected view.
_ANSWERS: dict[
    str, tuple[Callable[[WorkspaceManager], Any], Callable[[Any], Any], Any]
] = {
    "the id of an experiment may be an integer": (
        lambda m: m.create_workspace("x", mlflow_experiment_id=17),
        lambda w: w.mlflow_experiment_id,
        "17",
    ),
    "also in an update": (
        lambda m: m.update_workspace_metadata("fraud", mlflow_experiment_id=17),
        lambda w: w.mlflow_experiment_id,
        "17",
    ),
    "and when one is made if missing": (
        lambda m: m.get_or_create_workspace("x", mlflow_experiment_id=17),
        lambda w: w.mlflow_experiment_id,
        "17",
    ),
    "settings may be given by position": (
        lambda m: m.create_workspace(
            "x", "7", "http://mlflow", "/data", "pre:", {"a": 1}, True
        ),
        lambda w: (
            w.mlflow_tracking_uri,
            w.dvc_remote_path,
            w.bentoml_tag_prefix,
            w.metadata,
        ),
        ("http://mlflow", "/data", "pre:", {"a": 1}),
    ),
    "the remote may be a path": (
        lambda m: m.create_workspace("x", dvc_remote_path=Path("/data/dvc")),
        lambda w: w.dvc_remote_path,
        "/data/dvc",
    ),
    "an update merges metadata, not deeply": (
        lambda m: m.update_workspace_metadata("fraud", metadata={"b": {"y": 2}}),
        lambda w: w.metadata,
        {"a": 1, "b": {"y": 2}},
    ),
    "an existing one comes back untouched": (
        lambda m: m.get_or_create_workspace("fraud", metadata={"c": 3}),
        lambda w: w.metadata,
        {"a": 1, "b": {"x": 1}},
    ),
    "force resets settings": (
        lambda m: m.create_workspace("fraud", force=True),
        lambda w: (w.mlflow_experiment_id, w.bentoml_tag_prefix, w.metadata),
        (None, "fraud:", {}),
    ),
    "deleting returns nothing": (
        lambda m: m.delete_workspace("fraud", force=True),
        lambda done: done,
        None,
    ),
    "all are listed": (
        lambda m: m.list_workspaces(),
        lambda found: [w.project_name for w in found],
        ["fraud"],
    ),
    "counts are exact": (
        lambda m: (
            m.get_workspace_status("fraud"),
            (m.get_workspace("fraud").models_path / "weights").write_text("w"),
            m.get_workspace_status("fraud"),
        )[2],
        lambda status: status["directory_stats"]["models_files"],
        1,
    ),
}


@pytest.mark.parametrize(("call", "said", "expected"), _ANSWERS.values(), ids=_ANSWERS)
def test_answer(
    call: Callable[[WorkspaceManager], Any],
    said: Callable[[Any], Any],
    expected: object,
    manager: WorkspaceManager,
) -> None:
    _fraud(manager)
    assert said(call(manager)) == expected


# Each entry: a call to make after _fraud(), and the original's message, operation and
# workspace for its error.
_ERRORS: dict[str, tuple[Callable[[WorkspaceManager], Any], str, str, str]] = {
    "create": (
        lambda m: m.create_workspace("fraud"),
        "Workspace already exists: fraud",
        "create_workspace",
        "fraud",
    ),
    "get": (
        lambda m: m.get_workspace("x"),
        "Workspace does not exist: x",
        "get_workspace",
        "x",
    ),
    "update": (
        lambda m: m.update_workspace_metadata("x", metadata={}),
        "Workspace does not exist: x",
        "update_workspace_metadata",
        "x",
    ),
    "delete": (
        lambda m: m.delete_workspace("x", force=True),
        "Workspace does not exist: x",
        "delete_workspace",
        "x",
    ),
    "delete without force": (
        lambda m: m.delete_workspace("fraud"),
        "Workspace deletion requires force=True for safety",
        "delete_workspace",
        "fraud",
    ),
    "status": (
        lambda m: m.get_workspace_status("x"),
        "Workspace does not exist: x",
        "get_workspace_status",
        "x",
    ),
}


@pytest.mark.parametrize(
    ("call", "message", "operation", "workspace"), _ERRORS.values(), ids=_ERRORS
)
def test_error(
    call: Callable[[WorkspaceManager], Any],
    message: str,
    operation: str,
    workspace: str,
    manager: WorkspaceManager,
) -> None:
    _fraud(manager)
    with pytest.raises(WorkspaceError) as caught:
        call(manager)
    assert (str(caught.value), caught.value.message) == (message, message)
    assert (caught.value.operation, caught.value.workspace) == (operation, workspace)


def test_what_is_exported_makes_another_one(manager: WorkspaceManager) -> None:
    exported = _fraud(manager).to_dict()
    names = ("mlflow_experiment_id", "mlflow_tracking_uri", "metadata")
    made = manager.create_workspace("new", **{name: exported[name] for name in names})
    assert {name: made.to_dict()[name] for name in names} == {
        name: exported[name] for name in names
    }
