"""Errors reach users with a message, the operation, the workspace and details."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager

from server.run import MountedServer

Operation = Callable[[WorkspaceManager], object]


def _error(operation: Operation, manager: WorkspaceManager) -> WorkspaceError:
    with pytest.raises(WorkspaceError) as caught:
        operation(manager)
    return caught.value


@pytest.mark.parametrize(
    ("operation", "message", "name", "details"),
    [
        (
            lambda m: m.create_workspace("there"),
            "Workspace already exists: there",
            "create_workspace",
            {"reason": "WORKSPACE_EXISTS", "code": "ALREADY_EXISTS"},
        ),
        (
            lambda m: m.get_workspace("there-not"),
            "Workspace does not exist: there-not",
            "get_workspace",
            {"reason": "WORKSPACE_NOT_FOUND", "code": "NOT_FOUND"},
        ),
        (
            lambda m: m.get_workspace_status("there-not"),
            "Workspace does not exist: there-not",
            "get_workspace_status",
            {"reason": "WORKSPACE_NOT_FOUND", "code": "NOT_FOUND"},
        ),
        (
            lambda m: m.update_workspace_metadata("there-not", metadata={"a": 1}),
            "Workspace does not exist: there-not",
            "update_workspace_metadata",
            {"reason": "WORKSPACE_NOT_FOUND", "code": "NOT_FOUND"},
        ),
        (
            lambda m: m.delete_workspace("there-not", force=True),
            "Workspace does not exist: there-not",
            "delete_workspace",
            {"reason": "WORKSPACE_NOT_FOUND", "code": "NOT_FOUND"},
        ),
        (
            lambda m: m.delete_workspace("there"),
            "Workspace deletion requires force=True for safety",
            "delete_workspace",
            {"reason": "FORCE_REQUIRED", "code": "FAILED_PRECONDITION"},
        ),
    ],
)
def test_the_original_words(
    operation: Operation,
    message: str,
    name: str,
    details: dict[str, str],
    manager: WorkspaceManager,
) -> None:
    manager.create_workspace("there")
    error = _error(operation, manager)
    project = (
        "there"
        if "-not" not in message and error.operation != "get_workspace"
        else "there-not"
    )
    assert (str(error), error.message) == (message, message)
    assert (error.operation, error.workspace) == (name, project)
    assert error.details.items() >= {**details, "project": project}.items()


@pytest.mark.parametrize(
    "operation",
    [
        "create_workspace",
        "get_workspace",
        "get_or_create_workspace",
        "get_workspace_status",
        "delete_workspace",
    ],
)
def test_a_bad_name_is_refused(operation: str, manager: WorkspaceManager) -> None:
    for name in ("../x", "a/b", ".hidden", "", "x" * 64, "a\n", "a b", "é", "-a", "a."):
        error = _error(lambda m, name=name: getattr(m, operation)(name), manager)
        assert error.operation == operation
        assert (error.details["reason"], error.details["code"]) == (
            "FIELD_INVALID",
            "INVALID_ARGUMENT",
        )
        assert error.details["field"] == "project"


@pytest.mark.parametrize("name", [None, 3, b"fraud", Path("fraud"), "\ud800"])
def test_a_name_that_is_no_text_is_refused(
    name: object, manager: WorkspaceManager
) -> None:
    for operation in (
        manager.create_workspace,
        manager.get_workspace,
        manager.delete_workspace,
    ):
        with pytest.raises(WorkspaceError, match="project: ") as caught:
            operation(name)  # type: ignore[arg-type]
        assert caught.value.details["reason"] == "FIELD_INVALID"


def test_settings_that_cannot_be(manager: WorkspaceManager) -> None:
    assert (
        _error(lambda m: m.create_workspace("a", dvc_remote_path="a\nb"), manager)
        .details["field"]
        .endswith("dvc_remote_path")
    )
    error = _error(lambda m: m.create_workspace("a", mlflow_experiment_id=7.5), manager)
    assert str(error) == "mlflow_experiment_id: must be text, not float"


def test_metadata_that_is_too_big(manager: WorkspaceManager) -> None:
    error = _error(
        lambda m: m.create_workspace("a", metadata={"a": "x" * 70_000}), manager
    )
    assert (error.details["reason"], error.details["field"]) == (
        "FIELD_INVALID",
        "metadata",
    )


def test_a_workspace_that_is_a_link(base: Path, manager: WorkspaceManager) -> None:
    manager.create_workspace("there")
    (base / "link").symlink_to("there")
    error = _error(lambda m: m.get_workspace("link"), manager)
    assert (error.details["reason"], error.workspace) == ("PATH_UNSUITABLE", "link")


def test_a_broken_record_is_named_with_its_line(
    base: Path, manager: WorkspaceManager
) -> None:
    manager.create_workspace("there")
    file = base / "there/workspace.yaml"
    file.write_text("a: 1\nb: [\n")
    error = _error(lambda m: m.update_workspace_metadata("there", metadata={}), manager)
    assert error.details["reason"] == "WORKSPACE_CORRUPT"
    assert error.details["file"] == str(file)
    assert int(error.details["line"]) > 1


def test_a_full_disk(base: Path) -> None:
    with MountedServer(base, "size=300k") as server:
        manager = WorkspaceManager(address=server.address)
        error = _error(
            lambda m: [
                m.create_workspace(f"p{i}", metadata={"a": "x" * 60_000})
                for i in range(9)
            ],
            manager,
        )
    assert (error.details["reason"], error.operation) == (
        "NO_SPACE",
        "create_workspace",
    )


def test_a_call_without_a_server_names_its_address(base: Path) -> None:
    error = _error(lambda m: m.base_path, WorkspaceManager(address=f"unix:{base}"))
    assert (error.operation, error.workspace, error.details["reason"]) == (
        "base_path",
        None,
        "",
    )


def test_an_error_survives_pickling(manager: WorkspaceManager) -> None:
    error = _error(lambda m: m.get_workspace("none"), manager)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_an_error_may_be_made_by_hand() -> None:
    error = WorkspaceError("words", operation="op", workspace="w", details={"a": 1})
    assert (str(error), error.operation, error.workspace, error.details) == (
        "words",
        "op",
        "w",
        {"a": 1},
    )
    assert WorkspaceError("words").details == {}
