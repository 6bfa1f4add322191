"""ProjectWorkspace: its paths, and its workspace.yaml, which need no server."""

import json
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlops.workspace import ProjectWorkspace, WorkspaceError, WorkspaceManager
from mlops.workspace import manager as manager_module
from mlops.workspace.project import DIRECTORIES


@pytest.fixture
def workspace(base: Path) -> ProjectWorkspace:
    return ProjectWorkspace(
        "fraud",
        base / "fraud",
        mlflow_experiment_id="7",
        metadata={"a": [1, None, {"é": 0.5}]},
    )


def test_the_module_paths_of_the_original() -> None:
    assert manager_module.WorkspaceManager is WorkspaceManager
    assert manager_module.ProjectWorkspace is ProjectWorkspace
    assert manager_module.WorkspaceError is WorkspaceError


def test_paths() -> None:
    workspace = ProjectWorkspace(project_name="a", root_path="/x/a")  # type: ignore[arg-type]
    assert workspace.root_path == Path("/x/a")
    assert workspace.mlflow_path == Path("/x/a/mlflow")
    assert workspace.dvc_path == Path("/x/a/dvc")
    assert workspace.monitoring_path == Path("/x/a/monitoring")
    assert workspace.models_path == Path("/x/a/models")
    assert workspace.outputs_path == Path("/x/a/outputs")
    assert workspace.metadata_file == Path("/x/a/workspace.yaml")


def test_defaults_are_the_workspaces_own() -> None:
    one, two = ProjectWorkspace("a", Path("a")), ProjectWorkspace("b", Path("b"))
    assert one.metadata == {} and one.metadata is not two.metadata
    assert one.created_at.tzinfo is UTC and one.updated_at.tzinfo is UTC


def test_ensure_directories(workspace: ProjectWorkspace) -> None:
    for _ in range(2):
        workspace.ensure_directories()
    made = {path.name for path in workspace.root_path.iterdir()}
    assert made == {"mlflow", "dvc", "monitoring", "models", "outputs"}


def test_to_dict(workspace: ProjectWorkspace) -> None:
    assert workspace.to_dict() == {
        "project_name": "fraud",
        "root_path": str(workspace.root_path),
        **{f"{name}_path": str(workspace.root_path / name) for name in DIRECTORIES},
        "mlflow_experiment_id": "7",
        "mlflow_tracking_uri": None,
        "dvc_remote_path": None,
        "bentoml_tag_prefix": None,
        "metadata": {"a": [1, None, {"é": 0.5}]},
        "created_at": workspace.created_at.isoformat(),
        "updated_at": workspace.updated_at.isoformat(),
    }


def test_what_is_saved_is_loaded(workspace: ProjectWorkspace) -> None:
    workspace.save_metadata()
    assert ProjectWorkspace.load_metadata(workspace.root_path) == workspace
    assert ProjectWorkspace.load_metadata(str(workspace.root_path)) == workspace
    assert [path.name for path in workspace.root_path.iterdir()] == ["workspace.yaml"]


def test_the_manager_finds_what_was_saved(
    workspace: ProjectWorkspace, manager: WorkspaceManager
) -> None:
    workspace.save_metadata()
    assert manager.get_workspace("fraud") == workspace
    # The same object twice, which YAML would write as an alias, and the server rejects.
    workspace.metadata["more"] = workspace.metadata["a"]
    workspace.save_metadata()
    assert manager.get_workspace("fraud") == workspace
    assert manager.list_workspaces() == [workspace]


def test_what_the_manager_made_is_loaded(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", metadata={"a": 1})
    assert ProjectWorkspace.load_metadata(made.root_path) == made


def test_saving_keeps_what_it_does_not_know(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud")
    with made.metadata_file.open("a") as file:
        file.write("owner: {team: risk}\n")
    uid = yaml.safe_load(made.metadata_file.read_text())["uid"]
    made.mlflow_experiment_id = "9"
    made.save_metadata()
    manager.update_workspace_metadata("fraud", metadata={"a": 1})
    record = yaml.safe_load(made.metadata_file.read_text())
    assert (record["owner"], record["uid"], record["mlflow_experiment_id"]) == (
        {"team": "risk"},
        uid,
        "9",
    )


def test_a_copy_is_loaded_as_the_server_reads_it(
    base: Path, manager: WorkspaceManager
) -> None:
    root = manager.create_workspace("fraud").root_path
    for project, remote in (
        ("fraud2", None),
        ("fraud3", f"{root}/outputs/store"),
        ("fraud4", f"{root}5/dvc/remote"),
    ):
        if remote:
            manager.update_workspace_metadata("fraud", dvc_remote_path=remote)
        shutil.copytree(root, base / project)
        loaded, served = (
            ProjectWorkspace.load_metadata(base / project),
            manager.get_or_create_workspace(project),
        )
        assert loaded.dvc_remote_path == served.dvc_remote_path
        assert (
            loaded.mlflow_tracking_uri
            == served.mlflow_tracking_uri
            == f"sqlite:///{base}/{project}/mlflow/mlflow.db"
        )
        assert loaded.bentoml_tag_prefix == served.bentoml_tag_prefix == f"{project}:"
    # This path is outside the workspace, so it stays.
    assert loaded.dvc_remote_path == f"{root}5/dvc/remote"
    assert (
        ProjectWorkspace.load_metadata(base / "fraud3").dvc_remote_path
        == f"{base}/fraud3/outputs/store"
    )


def test_a_moved_base_is_loaded_with_its_locations(
    base: Path, tmp_path: Path, manager: WorkspaceManager
) -> None:
    manager.create_workspace("fraud")
    (tmp_path / "linked").symlink_to(base)
    loaded = ProjectWorkspace.load_metadata(tmp_path / "linked/fraud")
    # The link leads to the same directory, so the recorded path stays.
    assert loaded.dvc_remote_path == f"{base}/fraud/dvc/remote"
    shutil.copytree(base / "fraud", tmp_path / "a%b?c/fraud")
    loaded = ProjectWorkspace.load_metadata(tmp_path / "a%b?c/fraud")
    assert (
        loaded.mlflow_tracking_uri
        == f"sqlite:///{tmp_path}/a%25b%3Fc/fraud/mlflow/mlflow.db"
    )


def test_a_record_made_by_hand_is_loaded(base: Path) -> None:
    base.mkdir()
    (base / "workspace.yaml").write_text(
        "mlflow_experiment_id: 7\ncreated_at: 2026-01-31 12:00:00\n"
        "metadata: {day: 2026-01-31}\n"
    )
    loaded = ProjectWorkspace.load_metadata(base)
    assert (loaded.project_name, loaded.root_path) == ("base", base)
    assert (loaded.mlflow_experiment_id, loaded.metadata) == (
        "7",
        {"day": "2026-01-31"},
    )
    assert (
        loaded.created_at == loaded.updated_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    )


def test_offsets_are_kept(workspace: ProjectWorkspace) -> None:
    workspace.created_at = datetime(
        2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=-5))
    )
    workspace.save_metadata()
    assert ProjectWorkspace.load_metadata(workspace.root_path).created_at == datetime(
        2026, 1, 31, 17, tzinfo=UTC
    )


def test_no_record_is_no_workspace(base: Path) -> None:
    with pytest.raises(
        WorkspaceError, match=r"^Workspace metadata not found: .*base/workspace\.yaml$"
    ) as caught:
        ProjectWorkspace.load_metadata(base)
    assert (caught.value.operation, caught.value.workspace) == ("load_metadata", "base")
    assert caught.value.details["reason"] == "WORKSPACE_NOT_FOUND"


_RECORDS = json.loads((Path(__file__).parents[1] / "data" / "records.json").read_text())


def _text(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()


def _same(actual: object, expected: object) -> bool:
    """Returns whether the values are equal and have the same types."""
    return json.dumps(actual, sort_keys=True) == json.dumps(expected, sort_keys=True)


@pytest.mark.parametrize("case", _RECORDS, ids=lambda case: case["name"])
def test_a_record_is_loaded_as_the_table_says(case: dict[str, Any], base: Path) -> None:
    file = base / "fraud" / "workspace.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(_text(case))
    if "problem" in case:
        with pytest.raises(WorkspaceError) as caught:
            ProjectWorkspace.load_metadata(file.parent)
        details = caught.value.details
        assert (caught.value.operation, caught.value.workspace) == (
            "load_metadata",
            "fraud",
        )
        assert caught.value.message.startswith(
            f"Failed to load workspace metadata: {file}"
        )
        assert (details["reason"], details["file"]) == ("WORKSPACE_CORRUPT", str(file))
        assert case["problem"] in details["problem"] and details["line"] == str(
            case.get("line", details["line"])
        )
        return
    loaded = ProjectWorkspace.load_metadata(file.parent)
    for name, expected in case["record"].items():
        actual = getattr(loaded, name)
        if isinstance(actual, datetime):
            assert actual == datetime.fromisoformat(expected)
        else:
            assert _same(actual, expected), name


def test_the_server_reads_every_record_as_load_metadata_does(
    base: Path, manager: WorkspaceManager
) -> None:
    for number, case in enumerate(_RECORDS):
        file = base / f"r{number}" / "workspace.yaml"
        file.parent.mkdir(parents=True)
        file.write_bytes(_text(case))
    for number, case in enumerate(_RECORDS):
        directory = base / f"r{number}"
        try:
            loaded, loaded_problem = ProjectWorkspace.load_metadata(directory), None
        except WorkspaceError as error:
            loaded, loaded_problem = None, error.details
        try:
            served, served_problem = manager.get_workspace(f"r{number}"), None
        except WorkspaceError as error:
            served, served_problem = None, error.details
        assert loaded == served, case["name"]
        for name in ("reason", "file", "line", "problem") if served_problem else ():
            assert loaded_problem and loaded_problem[name] == served_problem[name], (
                case["name"]
            )
    assert len(manager.list_workspaces()) == sum("record" in case for case in _RECORDS)


def test_a_copied_workspace_has_settings_of_its_own(
    base: Path, manager: WorkspaceManager
) -> None:
    made = manager.create_workspace("fraud", bentoml_tag_prefix="mine:")
    shutil.copytree(made.root_path, base / "copy")
    copy = ProjectWorkspace.load_metadata(base / "copy")
    assert copy == manager.get_workspace("copy")
    assert (copy.dvc_remote_path, copy.bentoml_tag_prefix) == (
        str(base / "copy/dvc/remote"),
        "mine:",
    )


def test_a_directory_of_any_name_can_be_loaded(
    manager: WorkspaceManager, tmp_path: Path
) -> None:
    made = manager.create_workspace("fraud")
    backup = tmp_path / "a backup é"
    shutil.copytree(made.root_path, backup)
    loaded = ProjectWorkspace.load_metadata(backup)
    assert (loaded.project_name, loaded.dvc_remote_path) == (
        "fraud",
        made.dvc_remote_path,
    )


def test_a_record_that_may_not_be_read_says_so(
    workspace: ProjectWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.save_metadata()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(workspace.metadata_file))

    with (
        monkeypatch.context() as patched,
        pytest.raises(
            WorkspaceError,
            match=r"^Failed to load workspace metadata: .*: Permission denied$",
        ) as caught,
    ):
        patched.setattr(Path, "open", refuse)
        ProjectWorkspace.load_metadata(workspace.root_path)
    assert (caught.value.operation, caught.value.details["errno"]) == (
        "load_metadata",
        "13",
    )


def test_what_would_not_be_read_back_is_not_saved(workspace: ProjectWorkspace) -> None:
    deep: Any = [0] * 32_600
    for _ in range(15):
        deep = {"a": deep}
    workspace.metadata = deep
    with pytest.raises(WorkspaceError) as caught:
        workspace.save_metadata()
    assert caught.value.details["reason"] == "FIELD_INVALID"
    assert not workspace.metadata_file.exists()


def test_every_character_can_be_saved(
    workspace: ProjectWorkspace, manager: WorkspaceManager
) -> None:
    odd = "".join(map(chr, range(0x100))) + "\u2028\u2029\ufeff\ufffe🚀"
    workspace.metadata = {odd[:120]: odd, "lines": "a\n b\r\n\tc \n"}
    workspace.save_metadata()
    assert (
        ProjectWorkspace.load_metadata(workspace.root_path)
        == workspace
        == manager.get_workspace("fraud")
    )


def test_a_saved_record_that_is_cut_off_is_noticed(workspace: ProjectWorkspace) -> None:
    workspace.save_metadata()
    text = workspace.metadata_file.read_bytes()
    for size in (0, 5, len(text) // 3, len(text) // 2, len(text) - 2):
        workspace.metadata_file.write_bytes(text[:size])
        with pytest.raises(WorkspaceError, match="Failed to load workspace metadata"):
            ProjectWorkspace.load_metadata(workspace.root_path)


def test_a_file_that_cannot_be_understood_is_not_overwritten(
    workspace: ProjectWorkspace,
) -> None:
    workspace.root_path.mkdir(parents=True)
    workspace.metadata_file.write_text("a: [")
    with pytest.raises(WorkspaceError):
        workspace.save_metadata()
    assert workspace.metadata_file.read_text() == "a: ["


@pytest.mark.parametrize(
    "value", [(1,), {1: 2}, float("nan"), 2**53, datetime.now(UTC)]
)
def test_metadata_that_no_workspace_can_hold_are_not_saved(
    value: Any, workspace: ProjectWorkspace
) -> None:
    workspace.metadata["b"] = value
    with pytest.raises(WorkspaceError, match=r"metadata\.b: ") as caught:
        workspace.save_metadata()
    assert (caught.value.operation, caught.value.workspace) == (
        "save_metadata",
        "fraud",
    )
    assert not workspace.root_path.exists()


def test_where_no_file_can_be_is_an_error_of_the_file(base: Path) -> None:
    base.write_text("")
    with pytest.raises(WorkspaceError) as caught:
        ProjectWorkspace("fraud", base / "fraud").save_metadata()
    assert (caught.value.details["reason"], caught.value.workspace) == (
        "IO_ERROR",
        "fraud",
    )
