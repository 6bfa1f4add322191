"""Workspaces of a server on another machine, and how clients tell that they are remote.

A local directory at the same path is never mistaken for such a workspace.
"""

import copy
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlops.workspace import ProjectWorkspace, WorkspaceError, WorkspaceManager
from mlops.workspace.project import DIRECTORIES

from support.elsewhere import RemoteServer
from support.server import Server, locked, short_base


@pytest.fixture
def workspace(remote: RemoteServer) -> ProjectWorkspace:
    return WorkspaceManager(address=remote.tcp).create_workspace(
        "fraud", mlflow_experiment_id="7", metadata={"a": 1}
    )


def _record(server: Server) -> dict[str, Any]:
    record: dict[str, Any] = yaml.safe_load(
        (server.base / "fraud/workspace.yaml").read_text()
    )
    return record


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


# --- Detecting local workspaces -----------------------------------------------


def test_paths_are_the_servers(
    workspace: ProjectWorkspace, remote: RemoteServer
) -> None:
    assert workspace.root_path == remote.path / "fraud"
    assert workspace.models_path == remote.path / "fraud/models"
    assert not workspace.is_local
    assert not remote.path.exists()


def test_below_a_base_path_it_is_local_and_no_server_is_asked(
    base: Path, manager: WorkspaceManager
) -> None:
    workspace = manager.create_workspace("fraud")
    manager._connection = None  # type: ignore[assignment]
    # Without connections, any call to the server would fail.
    object.__setattr__(workspace._origin, "connection", None)
    workspace.mlflow_experiment_id = "9"
    workspace.save_metadata()
    workspace.ensure_directories()
    assert workspace.is_local
    assert ProjectWorkspace.load_metadata(base / "fraud").mlflow_experiment_id == "9"


def test_what_came_from_no_manager_is_of_this_machine(base: Path) -> None:
    assert ProjectWorkspace("fraud", base / "fraud").is_local


@pytest.mark.parametrize(
    "address", [lambda s: s.address, lambda s: s.addresses[-1]], ids=["unix", "tcp"]
)
def test_by_an_address_the_same_directory_is_proved(
    address: Callable[[Server], str], base: Path
) -> None:
    with Server(base, "--listen", "127.0.0.1:0", "--log-calls", "all") as server:
        workspace = WorkspaceManager(address=address(server)).create_workspace(
            "fraud", metadata={"a": 1}
        )
        assert workspace.is_local
        workspace.metadata = {"b": 2}
        workspace.save_metadata()
        workspace.ensure_directories()
        assert ProjectWorkspace.load_metadata(base / "fraud").metadata == {"b": 2}
        assert (
            "UpdateWorkspace" not in server.output
            and "EnsureWorkspace" not in server.output
        )
        assert [path.name for path in base.rglob(".is-this-here-*")] == []


def test_a_directory_that_was_replaced_is_not_it(base: Path) -> None:
    with Server(base) as server:
        workspace = WorkspaceManager(address=server.address).create_workspace("fraud")
        assert workspace.is_local
        for name in DIRECTORIES:
            (workspace.root_path / name).rename(workspace.root_path / f"{name}-meant")
            (workspace.root_path / name).symlink_to(f"{name}-meant")
        # The server follows no links here, so it cannot confirm the directory.
        assert not workspace.is_local
        shutil.rmtree(workspace.root_path)
        assert not workspace.is_local


def test_a_copy_at_the_same_path_is_not_it() -> None:
    with short_base() as here, short_base() as root, RemoteServer(root, here) as server:
        workspace = WorkspaceManager(address=server.tcp).create_workspace(
            "fraud", metadata={"a": 1}
        )
        subprocess.run(["cp", "-a", server.base, here], check=True)
        before = _files(here)
        assert workspace.root_path == here / "fraud" and workspace.root_path.is_dir()
        assert not workspace.is_local
        workspace.metadata = {"b": 2}
        workspace.save_metadata()
        workspace.ensure_directories()
        assert _record(server)["metadata"] == {"b": 2}
        assert _files(here) == before


def test_a_directory_without_a_record_is_left_alone(
    remote: RemoteServer, workspace: ProjectWorkspace, base: Path
) -> None:
    workspace.root_path = base / "fraud"
    (base / "fraud/mlflow").mkdir(parents=True)
    before = (base / "fraud/mlflow").stat()
    assert not workspace.is_local
    assert (base / "fraud/mlflow").stat().st_mtime_ns == before.st_mtime_ns


def test_a_base_path_whose_lock_names_another_machine_is_proved(
    remote: RemoteServer, base: Path
) -> None:
    WorkspaceManager(address=remote.tcp).create_workspace("fraud")
    subprocess.run(["cp", "-a", remote.base, base], check=True)
    port = remote.tcp.rpartition(":")[2]
    lock = {"pid": 1, "host": "localhost", "addresses": [f"0.0.0.0:{port}"]}
    (base / ".workspaced/lock").write_text(json.dumps(lock))
    with locked(base):
        workspace = WorkspaceManager(base).get_workspace("fraud")
        assert workspace.root_path == base / "fraud"
        assert not workspace.is_local
    (base / ".workspaced/lock").write_text("")


def test_a_server_that_does_not_answer_is_an_error(base: Path) -> None:
    with Server(base) as server:
        workspace = WorkspaceManager(address=server.address).create_workspace("fraud")
    before = _files(base / "fraud")
    for call in (
        lambda: workspace.is_local,
        workspace.save_metadata,
        workspace.ensure_directories,
    ):
        with pytest.raises(WorkspaceError) as caught:
            call()
        assert (caught.value.details["code"], caught.value.workspace) == (
            "UNAVAILABLE",
            "fraud",
        )
    assert _files(base / "fraud") == before


# --- The record and the directories -------------------------------------------


def test_save_metadata_writes_where_the_server_is(
    workspace: ProjectWorkspace, remote: RemoteServer
) -> None:
    with (remote.base / "fraud/workspace.yaml").open("a") as file:
        file.write("owner: {team: risk}\n")
    workspace.mlflow_experiment_id = "9"
    workspace.dvc_remote_path = None
    workspace.metadata = {"b": [1, None]}
    workspace.save_metadata()
    record = _record(remote)
    assert (record["mlflow_experiment_id"], record["metadata"]) == (
        "9",
        {"b": [1, None]},
    )
    assert record["owner"] == {"team": "risk"}
    seen = WorkspaceManager(address=remote.tcp).get_workspace("fraud")
    assert dataclasses.replace(seen, updated_at=workspace.updated_at) == workspace
    assert seen.dvc_remote_path is None and seen.updated_at > workspace.updated_at
    assert not remote.path.exists()


def test_save_metadata_makes_one_that_is_gone(
    workspace: ProjectWorkspace, remote: RemoteServer
) -> None:
    manager = WorkspaceManager(address=remote.tcp)
    manager.delete_workspace("fraud", force=True)
    workspace.save_metadata()
    assert manager.get_workspace("fraud").metadata == {"a": 1}


@pytest.mark.parametrize("value", [(1,), {1: 2}, float("nan"), 2**53])
def test_what_no_workspace_can_hold_is_not_sent(
    value: Any, workspace: ProjectWorkspace, remote: RemoteServer
) -> None:
    workspace.metadata["b"] = value
    with pytest.raises(WorkspaceError, match=r"metadata\.b: ") as caught:
        workspace.save_metadata()
    assert (caught.value.operation, caught.value.workspace) == (
        "save_metadata",
        "fraud",
    )
    assert _record(remote)["metadata"] == {"a": 1}


def test_what_the_server_refuses_is_told(
    workspace: ProjectWorkspace, remote: RemoteServer
) -> None:
    (remote.base / "fraud/workspace.yaml").write_text("a: [")
    for call in (workspace.save_metadata, workspace.ensure_directories):
        with pytest.raises(WorkspaceError) as caught:
            call()
        assert (caught.value.operation, caught.value.details["reason"]) == (
            call.__name__,
            "WORKSPACE_CORRUPT",
        )


def test_ensure_directories_makes_them_where_the_server_is(
    workspace: ProjectWorkspace, remote: RemoteServer
) -> None:
    for gone in (remote.base / "fraud/models", remote.base / "fraud/dvc"):
        gone.rmdir()
    workspace.ensure_directories()
    assert {
        path.name for path in (remote.base / "fraud").iterdir() if path.is_dir()
    } >= set(DIRECTORIES)
    shutil.rmtree(remote.base / "fraud")
    workspace.ensure_directories()
    assert _record(remote)["mlflow_experiment_id"] == "7"
    assert not remote.path.exists()


# --- Copies, equality and files -----------------------------------------------


@pytest.mark.parametrize(
    "copied", [lambda w: pickle.loads(pickle.dumps(w)), copy.copy, copy.deepcopy]
)
def test_copies_are_equal_and_know_their_server(
    copied: Callable[[ProjectWorkspace], ProjectWorkspace],
    workspace: ProjectWorkspace,
    remote: RemoteServer,
) -> None:
    other = copied(workspace)
    assert other == workspace and repr(other) == repr(workspace)
    other.metadata = {"c": 3}
    other.save_metadata()
    assert _record(remote)["metadata"] == {"c": 3} and not other.is_local


def test_it_has_nine_fields_and_is_equal_to_one_made_of_them(
    workspace: ProjectWorkspace,
) -> None:
    names = [field.name for field in dataclasses.fields(workspace)]
    assert len(names) == 9 and set(names) == set(dataclasses.asdict(workspace)) < set(
        workspace.to_dict()
    )
    assert (
        ProjectWorkspace(**{name: getattr(workspace, name) for name in names})
        == workspace
    )
    assert "origin" not in repr(workspace)


def test_files_need_fsspec_and_a_server(
    workspace: ProjectWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test of this process may have imported them.
    for name in [
        name for name in sys.modules if f"{name}.".startswith(("fsspec.", "mlops.fs."))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"pip install 'mlops-workspace\[fs\]'"
    ):
        _ = workspace.files
    with pytest.raises(WorkspaceError, match="fraud has no server") as caught:
        _ = ProjectWorkspace("fraud", workspace.root_path).files
    assert (caught.value.operation, caught.value.details["code"]) == (
        "files",
        "UNAVAILABLE",
    )
