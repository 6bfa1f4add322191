"""Features of the server, as offered by the manager and the client."""

import inspect
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlops.client import MLOpsClient, MLOpsClientError, create_client
from mlops.workspace import (
    CloneProgress,
    Deletion,
    ProjectWorkspace,
    WorkspaceError,
    WorkspaceManager,
    WorkspaceTemplate,
)

from support.server import Server


def _reason(call: Callable[[], object]) -> str:
    with pytest.raises(WorkspaceError) as caught:
        call()
    return str(caught.value.details["reason"])


# --- Templates and clones -----------------------------------------------------


def _make_template(base: Path, name: str, text: str) -> Path:
    directory = base / ".templates" / name
    (directory / "files/models").mkdir(parents=True)
    (directory / "template.yaml").write_text(text)
    return directory


def test_a_workspace_is_created_from_a_template(
    base: Path, manager: WorkspaceManager
) -> None:
    _make_template(
        base, "tabular", "metadata: {a: 1, b: 1}\nquota: {max_file_count: 9}\n"
    )
    _make_template(base, "broken", "settings: 3\n")
    (base / ".templates/tabular/files/models/note").write_text("text")
    made = manager.create_workspace("churn", template="tabular", metadata={"b": 2})
    assert made.metadata == {"a": 1, "b": 2}
    assert (made.models_path / "note").read_text() == "text"
    found = manager.get_or_create_workspace("churn", template="tabular")
    assert found == made
    assert (
        _reason(partial(manager.create_workspace, "x", template="none"))
        == "TEMPLATE_NOT_FOUND"
    )
    assert (
        _reason(partial(manager.create_workspace, "x", force=True, template="tabular"))
        == "FIELD_INVALID"
    )
    broken, tabular = manager.list_templates()
    assert broken.error is not None and broken.error["line"] == "1"
    assert tabular == WorkspaceTemplate(
        name="tabular",
        description="",
        settings={},
        metadata={"a": 1, "b": 1},
        max_size_bytes=None,
        max_file_count=9,
        paths=("models", "models/note"),
    )


def test_a_workspace_is_cloned(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", metadata={"a": 1})
    (made.models_path / "m").write_text("model")
    (made.outputs_path / "o").write_text("output")
    seen: list[CloneProgress] = []
    clone = manager.clone_workspace("fraud", "fraud-eu", ["models"], seen.append)
    assert (clone.project_name, clone.metadata) == ("fraud-eu", {"a": 1})
    assert clone.uid != made.uid
    assert clone.bentoml_tag_prefix == "fraud-eu:"
    assert (clone.models_path / "m").read_text() == "model"
    assert list(clone.outputs_path.iterdir()) == []
    assert seen[-1] == CloneProgress(file_count=1, size_bytes=5)
    assert manager.workspaces["fraud-eu"] == clone
    assert (
        _reason(partial(manager.clone_workspace, "fraud", "fraud-eu"))
        == "WORKSPACE_EXISTS"
    )
    assert (
        _reason(partial(manager.clone_workspace, "fraud", "x", "models"))
        == "FIELD_INVALID"
    )


def test_a_clone_ends_with_the_error_of_its_callback(
    manager: WorkspaceManager,
) -> None:
    manager.create_workspace("fraud")

    def stop(progress: CloneProgress) -> None:
        raise KeyError(progress)

    with pytest.raises(KeyError):
        manager.clone_workspace("fraud", "copy", progress=stop)
    manager.clone_workspace("fraud", "other")


# --- Deleting and undeleting --------------------------------------------------


def test_a_deleted_workspace_is_listed_and_brought_back(
    manager: WorkspaceManager,
) -> None:
    made = manager.create_workspace("fraud", metadata={"a": 1})
    (made.outputs_path / "f").write_text("kept")
    assert manager.delete_workspace("fraud", force=True) is None
    assert manager.list_workspaces() == []
    (deleted,) = manager.list_workspaces(show_deleted=True)
    assert (deleted.project_name, deleted.uid, deleted.metadata) == (
        "fraud",
        made.uid,
        {"a": 1},
    )
    assert deleted.deleted_at is not None and deleted.purged_at is not None
    assert deleted.purged_at - deleted.deleted_at == manager.server_info().purge_delay
    assert (deleted.root_path / "outputs/f").read_text() == "kept"
    assert manager.workspaces == {}
    # By its name, the server would find the live workspace instead of the deleted one.
    with pytest.raises(WorkspaceError, match="has no server"):
        _ = deleted.files
    restored = manager.undelete_workspace("fraud")
    assert restored == made == manager.workspaces["fraud"]
    assert (
        restored.outputs_path / "f"
    ).read_text() == "kept" and restored.deleted_at is None


def test_one_of_several_deleted_ones_is_brought_back_by_its_uid(
    manager: WorkspaceManager,
) -> None:
    uids = []
    for i in range(3):
        uids.append(manager.create_workspace("fraud", metadata={"i": i}).uid)
        manager.delete_workspace("fraud", force=True)
    assert {
        workspace.uid for workspace in manager.list_workspaces(show_deleted=True)
    } == set(uids)
    assert manager.undelete_workspace("fraud", uid=uids[1]).metadata == {"i": 1}
    assert _reason(lambda: manager.undelete_workspace("fraud")) == "WORKSPACE_EXISTS"
    assert _reason(lambda: manager.undelete_workspace("none")) == "WORKSPACE_NOT_FOUND"


def test_a_deletion_says_what_it_frees(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud")
    (made.outputs_path / "f").write_bytes(b"x" * 1000)
    would = manager.delete_workspace("fraud", force=True, validate_only=True)
    assert isinstance(would, Deletion)
    assert (would.project_name, would.uid, would.purged) == ("fraud", made.uid, False)
    # The second file is workspace.yaml.
    assert would.file_count == 2 and would.size_bytes >= 1000
    assert made.root_path.is_dir() and manager.workspaces["fraud"] == made
    freed = manager.delete_workspace("fraud", force=True, permanent=True)
    assert freed == Deletion(
        "fraud", made.uid, would.file_count, would.size_bytes, purged=True
    )
    assert manager.list_workspaces(show_deleted=True) == []


def test_one_in_the_trash_is_removed_by_its_uid(manager: WorkspaceManager) -> None:
    uid = manager.create_workspace("fraud").uid
    manager.delete_workspace("fraud", force=True)
    again = manager.create_workspace("fraud")
    freed = manager.delete_workspace("fraud", force=True, permanent=True, uid=uid)
    assert freed is not None and freed.uid == uid
    assert manager.list_workspaces(show_deleted=True) == [again]
    assert manager.workspaces["fraud"] == again


def test_deleting_needs_force_in_the_words_of_python(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud")
    with pytest.raises(WorkspaceError) as caught:
        manager.delete_workspace("fraud")
    assert (
        str(caught.value)
        == caught.value.message
        == "Workspace deletion requires force=True for safety"
    )
    assert caught.value.details["reason"] == "FORCE_REQUIRED"


# --- Conditional changes ------------------------------------------------------


def test_an_update_takes_place_only_if_the_etag_matches(
    manager: WorkspaceManager,
) -> None:
    first = manager.create_workspace("fraud", metadata={"a": 1})
    assert first.etag == manager.get_workspace("fraud").etag != ""
    second = manager.update_workspace_metadata(
        "fraud", metadata={"a": 2}, if_match=first.etag
    )
    assert second.etag != first.etag
    changes = {"metadata": {"a": 3}, "if_match": first.etag}
    stale = partial(manager.update_workspace_metadata, "fraud", **changes)
    assert _reason(stale) == "ETAG_MISMATCH"
    assert (
        _reason(
            lambda: manager.delete_workspace("fraud", force=True, if_match=first.etag)
        )
        == "ETAG_MISMATCH"
    )
    assert manager.get_workspace("fraud").metadata == {"a": 2}
    manager.delete_workspace("fraud", force=True, if_match=second.etag)


def test_keys_of_metadata_are_removed(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud", metadata={"a": 1, "b": 2, "c": 3})
    updated = manager.update_workspace_metadata(
        "fraud", metadata={"d": 4}, remove_metadata=["a", "none"]
    )
    assert updated.metadata == {"b": 2, "c": 3, "d": 4}
    assert manager.update_workspace_metadata(
        "fraud", remove_metadata={"b": 0}.keys()
    ).metadata == {"c": 3, "d": 4}
    update = partial(manager.update_workspace_metadata, "fraud")
    for wrong in ("ab", 7, [7]):
        assert _reason(partial(update, remove_metadata=wrong)) == "FIELD_INVALID"
    both = partial(update, metadata={"c": 1}, remove_metadata=["c"])
    assert _reason(both) == "FIELD_INVALID"


def test_a_create_with_a_request_id_may_be_repeated(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud", request_id="job-7")
    assert manager.create_workspace("fraud", request_id="job-7") == made
    assert (
        _reason(lambda: manager.create_workspace("fraud", request_id="job-8"))
        == "WORKSPACE_EXISTS"
    )
    assert _reason(lambda: manager.create_workspace("fraud")) == "WORKSPACE_EXISTS"


def test_only_a_workspace_from_a_server_has_an_etag(manager: WorkspaceManager) -> None:
    made = manager.create_workspace("fraud")
    loaded = ProjectWorkspace.load_metadata(made.root_path)
    assert (loaded.etag, loaded.uid, loaded.deleted_at, loaded.purged_at) == (
        "",
        "",
        None,
        None,
    )
    # These attributes are no dataclass fields, so they do not count for equality.
    assert loaded == made


# --- The server and the connection --------------------------------------------


def test_the_server_tells_of_itself(base: Path) -> None:
    with Server(base, "--purge-delay", "2h") as server:
        info = WorkspaceManager(address=server.address).server_info()
    assert (info.base_path, info.purge_delay, info.workspace_count) == (
        str(base),
        timedelta(hours=2),
        0,
    )
    assert (
        info.started_at.utcoffset() == timedelta(0)
        and info.max_page_size == 1000
        and info.features == ()
    )


def test_a_closed_manager_opens_another_connection(manager: WorkspaceManager) -> None:
    with manager as same:
        assert same is manager
        workspace = manager.create_workspace("fraud")
    manager.close()
    assert workspace.is_local
    assert manager.get_workspace("fraud") == workspace
    manager.close()
    manager.close()


def test_a_client_closes_only_its_own_connection(
    manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[WorkspaceManager] = []
    monkeypatch.setattr(WorkspaceManager, "close", lambda self: closed.append(self))
    with MLOpsClient("fraud", workspace_manager=manager):
        pass
    assert closed == []
    with MLOpsClient("fraud", base_path=manager.base_path) as client:
        assert client.workspace.project_name == "fraud"
    assert len(closed) == 1


# --- Clients by base or address -----------------------------------------------


@pytest.mark.parametrize("make", [MLOpsClient, MLOpsClient.from_project, create_client])
def test_a_client_takes_what_a_manager_takes(
    make: Callable[..., MLOpsClient], base: Path
) -> None:
    with Server(base) as server:
        by_base, by_address = (
            make("fraud", base_path=base),
            make("fraud", address=server.address),
        )
        assert by_base.workspace == by_address.workspace
        assert by_base.workspace_path == base / "fraud"


@pytest.mark.parametrize("more", [{"base_path": "/b"}, {"address": "unix:/a"}])
def test_a_client_has_one_place(
    more: dict[str, Any], manager: WorkspaceManager
) -> None:
    with pytest.raises(
        MLOpsClientError,
        match=f"{next(iter(more))}: cannot be combined with workspace_manager",
    ) as caught:
        MLOpsClient("fraud", workspace_manager=manager, **more)
    assert caught.value.details == {
        "reason": "INPUT_INVALID",
        "field": next(iter(more)),
    }
    with pytest.raises(
        MLOpsClientError, match="base_path: cannot be combined with workspace_path"
    ):
        MLOpsClient("fraud", workspace_path="/b/fraud", base_path="/b")


# --- Signatures and representations -------------------------------------------


@pytest.mark.parametrize(
    "of", [WorkspaceManager, MLOpsClient, ProjectWorkspace], ids=lambda of: of.__name__
)
def test_every_argument_has_a_name_and_a_type(of: type) -> None:
    methods = {
        name: value
        for name, value in vars(of).items()
        if inspect.isfunction(value) and name[0] != "_"
    }
    assert methods
    for name, method in methods.items():
        assert method.__doc__, name
        for parameter in list(inspect.signature(method).parameters.values())[1:]:
            assert parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ), f"{name}({parameter})"
            assert parameter.annotation is not parameter.empty, f"{name}({parameter})"


def test_notebooks_show_everything_escaped(manager: WorkspaceManager) -> None:
    evil = "<script>alert('&')</script>"
    workspace = manager.create_workspace(
        "fraud", mlflow_tracking_uri=evil, metadata={evil: evil}
    )
    client = MLOpsClient("fraud", workspace_manager=manager)
    for shown in (workspace._repr_html_(), client._repr_html_()):
        assert (
            "<script" not in shown
            and "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in shown
        )
        assert "fraud" in shown and shown.count("<tr>") == len(workspace.to_dict())
    assert "<table>" in manager.server_info()._repr_html_()
    assert "&lt;b&gt;" in WorkspaceManager("/tmp/<b>")._repr_html_()
    assert "\\udcff" in ProjectWorkspace("x", Path("/\udcff"))._repr_html_()


def test_a_manager_and_a_client_say_what_they_are(manager: WorkspaceManager) -> None:
    assert repr(manager) == f"WorkspaceManager({manager.base_path})"
    assert repr(WorkspaceManager(address="host:1")) == "WorkspaceManager(host:1)"
    client = MLOpsClient("fraud", workspace_manager=manager)
    assert (
        repr(client)
        == f"MLOpsClient('fraud', workspace_path='{manager.base_path}/fraud')"
    )


def test_a_status_is_ready_for_json(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud")
    assert (
        json.loads(json.dumps(manager.get_workspace_status("fraud")))["project_name"]
        == "fraud"
    )


def test_a_list_has_a_limit(manager: WorkspaceManager) -> None:
    for name in ("a", "b", "c"):
        manager.create_workspace(name)
    listed = manager.list_workspaces(order_by="create_time desc", limit=2)
    assert [workspace.project_name for workspace in listed] == ["c", "b"]
    assert len(manager.list_workspaces(limit=9)) == 3
    assert len(manager.workspaces) == 3
