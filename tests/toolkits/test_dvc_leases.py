"""DVC operations hold the lease on their workspace: hosts exclude each other."""

import threading
import time
from pathlib import Path

import pytest
from mlops.client import MLOpsClient, MLOpsClientError, dvc_client
from mlops.workspace import ProjectWorkspace, WorkspaceError, WorkspaceManager

from server.run import AnnouncedServer
from support.server import Server


def _write(client: MLOpsClient, name: str = "data", text: str = "1") -> Path:
    file = client.workspace.dvc_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The holders of the lease, as another client sees them during DVC operations."""
    holders: list[str] = []
    opened = dvc_client.opened

    def spy(root: Path, *args: object) -> object:
        with WorkspaceManager(root.parent.parent) as other:
            held = other.get_workspace(root.parent.name).held_by
        holders.append(held.holder if held else "")
        return opened(root, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(dvc_client, "opened", spy)
    return holders


def test_an_operation_holds_the_lease(client: MLOpsClient, seen: list[str]) -> None:
    client.dvc_add(_write(client))
    client.dvc_push()
    assert len(seen) == 2 and all(seen)
    assert (
        WorkspaceManager(client.workspace_path.parent).get_workspace("fraud").held_by
        is None
    )


def test_within_a_lease_of_the_manager_the_operation_uses_that(
    client: MLOpsClient, manager: WorkspaceManager, seen: list[str]
) -> None:
    with manager.lease("fraud", holder="trainer-7"):
        client.dvc_add(_write(client))
        held = manager.get_workspace("fraud").held_by
        assert held is not None and held.holder == "trainer-7"
    assert seen == ["trainer-7"]


def test_a_lost_lease_of_the_manager_stops_the_operation(
    client: MLOpsClient, manager: WorkspaceManager, base: Path
) -> None:
    file = _write(client)
    with manager.lease("fraud"), WorkspaceManager(base) as other:
        other.release_lease("fraud", force=True)
        with pytest.raises(WorkspaceError):
            manager.update_workspace_metadata("fraud", metadata={"a": 1})
        with pytest.raises(MLOpsClientError) as stopped:
            client.dvc_add(file)
    assert stopped.value.details["reason"] == "LEASE_LOST"
    assert not file.with_name("data.dvc").exists()


def test_an_operation_waits_for_the_lease_of_others(
    client: MLOpsClient, base: Path
) -> None:
    file = _write(client)
    adding = threading.Thread(target=client.dvc_add, args=(file,))
    with WorkspaceManager(base) as other, other.lease("fraud"):
        adding.start()
        time.sleep(0.5)
        assert not file.with_name("data.dvc").exists()
    adding.join(30)
    assert file.with_name("data.dvc").exists()


def test_an_operation_does_not_wait_for_ever(
    client: MLOpsClient, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_client, "WAIT_SECONDS", 0.2)
    with (
        WorkspaceManager(base) as other,
        other.lease("fraud", holder="trainer-7"),
        pytest.raises(MLOpsClientError) as busy,
    ):
        client.dvc_add(_write(client))
    assert busy.value.details["reason"] == "REPOSITORY_BUSY"
    assert busy.value.details["holder"] == "trainer-7"


def test_threads_of_one_client_share_the_lease(client: MLOpsClient) -> None:
    failures: list[BaseException] = []

    def add(number: int) -> None:
        try:
            client.dvc_add(_write(client, f"d{number}/data", str(number)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    held = WorkspaceManager(client.workspace_path.parent).get_workspace("fraud").held_by
    assert held is None


def test_an_experiment_is_kept_under_the_lease_of_an_operation(
    client: MLOpsClient, base: Path
) -> None:
    # Somebody pushes a version while this client creates its experiment.
    with WorkspaceManager(base) as other:
        lease = other.lease("fraud")
        lease.__enter__()
        threading.Timer(0.5, lease.__exit__, (None, None, None)).start()
        with client.start_run("first"):
            pass
    assert client.workspace.mlflow_experiment_id is not None


def test_without_leases_the_lock_file_protects(base: Path, tmp_path: Path) -> None:
    with Server(base), WorkspaceManager(base) as manager:
        manager.create_workspace("fraud")
    socket = tmp_path / "socket"
    with (
        AnnouncedServer(base, "--read-only", "--listen", f"unix:{socket}") as server,
        MLOpsClient("fraud", address=server.addresses[-1]) as client,
    ):
        assert client.dvc_add(_write(client))["success"]
    plain = dvc_client.DVCClient(ProjectWorkspace.load_metadata(base / "fraud"), {})
    assert plain.count() == {"tracked": 1}
