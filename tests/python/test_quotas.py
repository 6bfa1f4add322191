"""Quotas and the trash in the Python client."""

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager
from mlops.workspace.project import ProjectWorkspace


def _reason(error: pytest.ExceptionInfo[WorkspaceError]) -> tuple[str, str]:
    return error.value.details["reason"], error.value.details.get("field", "")


def test_a_quota_is_set_kept_and_removed(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", max_size_bytes=50 << 30)
    assert (made.max_size_bytes, made.max_file_count) == (50 << 30, None)
    updated = manager.update_workspace_metadata(
        "fraud", metadata={"a": 1}, max_file_count=0
    )
    assert (updated.max_size_bytes, updated.max_file_count) == (50 << 30, 0)
    kept = manager.update_workspace_metadata("fraud", mlflow_experiment_id=7)
    assert (kept.max_size_bytes, kept.max_file_count) == (50 << 30, 0)
    removed = manager.update_workspace_metadata(
        "fraud", max_size_bytes=None, dvc_remote_path="s3://b", remove_metadata=["a"]
    )
    assert (removed.max_size_bytes, removed.max_file_count) == (None, 0)
    assert (removed.dvc_remote_path, removed.metadata) == ("s3://b", {})
    assert removed.mlflow_experiment_id == "7"
    assert manager.get_workspace("fraud").max_file_count == 0
    ensured = manager.get_or_create_workspace("churn", max_file_count=1)
    assert ensured.max_file_count == 1


def test_metadata_cannot_be_merged_by_the_call_that_removes_a_quota(
    manager: WorkspaceManager,
) -> None:
    manager.create_workspace("fraud", max_size_bytes=1)
    with pytest.raises(WorkspaceError) as error:
        manager.update_workspace_metadata(
            "fraud", metadata={"a": 1}, max_size_bytes=None
        )
    assert _reason(error) == ("FIELD_INVALID", "metadata")
    assert manager.get_workspace("fraud").max_size_bytes == 1


@pytest.mark.parametrize("value", [-1, 2**53, 2**70, 1.5, True, "5"], ids=repr)
def test_a_quota_that_is_no_quota_is_refused(
    value: Any, manager: WorkspaceManager
) -> None:
    with pytest.raises(WorkspaceError) as error:
        manager.create_workspace("fraud", max_size_bytes=value)
    assert _reason(error) == ("FIELD_INVALID", "max_size_bytes")


def test_what_exceeds_a_quota_is_refused_and_shown(
    manager: WorkspaceManager,
) -> None:
    workspace = manager.create_workspace("fraud", max_size_bytes=10)
    status = manager.get_workspace_status("fraud")
    assert (status["max_size_bytes"], status["max_file_count"]) == (10, None)
    assert status["over_quota"] is False
    (workspace.models_path / "x").write_bytes(b"x" * 11)
    assert manager.get_workspace_status("fraud")["over_quota"] is True
    [listed] = manager.get_all_workspaces_status()
    assert listed["over_quota"] is True


def test_a_record_saved_or_loaded_by_path_keeps_its_quota(
    base: Path, manager: WorkspaceManager
) -> None:
    workspace = manager.create_workspace("fraud", max_size_bytes=10, max_file_count=2)
    loaded = ProjectWorkspace.load_metadata(workspace.root_path)
    assert (loaded.max_size_bytes, loaded.max_file_count) == (10, 2)
    loaded.metadata["a"] = 1
    loaded.save_metadata()
    served = manager.get_workspace("fraud")
    assert (served.metadata, served.max_size_bytes, served.max_file_count) == (
        {"a": 1},
        10,
        2,
    )


def test_the_original_arguments_come_first() -> None:
    names = list(inspect.signature(WorkspaceManager.create_workspace).parameters)
    assert names[1:8] == [
        "project_name",
        "mlflow_experiment_id",
        "mlflow_tracking_uri",
        "dvc_remote_path",
        "bentoml_tag_prefix",
        "metadata",
        "force",
    ]


def test_force_resets_the_quota_too(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud", max_size_bytes=10)
    assert manager.create_workspace("fraud", force=True).max_size_bytes is None


def test_the_trash_is_listed_and_purged(base: Path, manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud")
    (made.models_path / "x").write_bytes(b"12345")
    manager.delete_workspace("fraud", force=True)
    [deleted] = manager.list_deleted()
    assert (deleted.project_name, deleted.uid) == ("fraud", made.uid)
    assert (deleted.file_count, deleted.size_bytes) == (1, 5)
    assert manager.purge_deleted(older_than=timedelta(days=1)) == []
    for uid in ("", "unknown"):
        with pytest.raises(WorkspaceError):
            manager.purge("fraud", uid)
    assert manager.purge("fraud", made.uid).purged
    assert manager.list_deleted() == []
