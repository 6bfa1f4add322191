"""MLOpsClient.clean() in an environment without any of the toolkits."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlops._toolkits import toolkit
from mlops._toolkits.locks import locked
from mlops.client import MLOpsClient, MLOpsClientError, garbage
from mlops.client.garbage import Cleaned, Freed, Kept, Others
from mlops.workspace import WorkspaceManager

_DAY_S = 86400


@pytest.fixture(autouse=True)
def without_toolkits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "_version", lambda _package: None)


@pytest.fixture
def client(manager: WorkspaceManager) -> MLOpsClient:
    return MLOpsClient("fraud", workspace_manager=manager)


def reports_of(client: MLOpsClient) -> list[str]:
    directory = client.workspace.monitoring_path / "reports"
    return sorted(file.name for file in directory.iterdir())


def write_report(client: MLOpsClient, days_old: float, size: int = 10) -> Path:
    """Writes a report as the monitor does, as long ago as given."""
    at = datetime.now(UTC) - timedelta(days=days_old)
    directory = client.workspace.monitoring_path / "reports"
    directory.mkdir(exist_ok=True)
    for kind in ("json", "html"):
        file = directory / f"drift-{at:%Y%m%dT%H%M%S.%fZ}-abc123.{kind}"
        file.write_bytes(b"x" * size)
        os.utime(file, (at.timestamp(), at.timestamp()))
    return file


def write_model(client: MLOpsClient, tag: str, days_old: float, whole: bool) -> Path:
    directory = client.workspace.models_path / "models" / tag.replace(":", "/")
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(b"x" * 100)
    if whole:
        (directory / "model.yaml").write_text("name: m\n")
    at = time.time() - days_old * _DAY_S
    for path in (directory / "weights", directory):
        os.utime(path, (at, at))
    return directory


def test_a_new_workspace_has_no_garbage(client: MLOpsClient) -> None:
    before = sorted(client.workspace_path.rglob("*"))
    assert client.clean() == Cleaned(dry_run=True)
    assert sorted(client.workspace_path.rglob("*")) == before


def test_what_a_missing_toolkit_is_needed_for_is_kept(client: MLOpsClient) -> None:
    (client.workspace.dvc_path / ".dvc").mkdir()
    store = client.workspace.mlflow_path / "mlflow.db"
    store.write_bytes(b"")
    kept = client.clean(dry_run=False).kept
    assert [(each.kind, each.name) for each in kept] == [
        ("dvc", str(client.workspace.dvc_path)),
        ("mlflow", str(store)),
    ]
    assert store.exists()


# --- Reports ---


def keep_for(client: MLOpsClient, days: object) -> None:
    client._manager.update_workspace_metadata(
        "fraud", metadata={"report_retention_days": days}
    )


def test_reports_stay_without_a_retention(client: MLOpsClient) -> None:
    write_report(client, days_old=1000)
    write_report(client, days_old=999)
    assert client.clean(dry_run=False).reports == Freed()
    assert len(reports_of(client)) == 4


def test_reports_beyond_the_retention_are_freed(client: MLOpsClient) -> None:
    old, new = write_report(client, days_old=31), write_report(client, days_old=29)
    keep_for(client, 30)
    before = reports_of(client)
    assert client.clean().reports == Freed(2, 20)
    assert reports_of(client) == before
    cleaned = client.clean(dry_run=False)
    assert (cleaned.reports, cleaned.total) == (Freed(2, 20), Freed(2, 20))
    assert not old.exists() and new.exists()
    assert client.clean(dry_run=False).reports == Freed()


def test_the_newest_report_stays(client: MLOpsClient) -> None:
    write_report(client, days_old=100)
    newest = write_report(client, days_old=50)
    keep_for(client, 0.5)
    assert client.clean(dry_run=False).reports.count == 2
    assert newest.exists()


def test_a_file_that_is_not_a_report_stays(client: MLOpsClient) -> None:
    write_report(client, days_old=1)
    keep_for(client, 0)
    mine = client.workspace.monitoring_path / "reports/drift-mine.json"
    mine.write_text("{}")
    os.utime(mine, (0, 0))
    edited = write_report(client, days_old=100)
    os.utime(edited)
    client.clean(dry_run=False)
    assert mine.exists() and edited.exists()


@pytest.mark.parametrize("days", ["30", -1, True, [1]])
def test_an_invalid_retention_is_refused(client: MLOpsClient, days: object) -> None:
    write_report(client, days_old=1000)
    write_report(client, days_old=999)
    keep_for(client, days)
    with pytest.raises(MLOpsClientError) as caught:
        client.clean(dry_run=False)
    assert caught.value.details["reason"] == "INPUT_INVALID"
    assert "report_retention_days" in caught.value.message
    assert len(reports_of(client)) == 4


# --- Models ---


def test_directories_that_are_no_models_are_freed(client: MLOpsClient) -> None:
    gone = write_model(client, "m:1", days_old=2, whole=False)
    whole = write_model(client, "m:2", days_old=2000, whole=True)
    being_stored = write_model(client, "m:3", days_old=0.5, whole=False)
    assert client.clean().models == Freed(1, 100)
    assert gone.exists()
    cleaned = client.clean(dry_run=False)
    assert cleaned.models == Freed(1, 100)
    assert [each.name for each in cleaned.kept] == ["m:3"]
    assert not gone.exists() and whole.exists() and being_stored.exists()


def test_a_model_that_a_bento_refers_to_stays(client: MLOpsClient) -> None:
    named = write_model(client, "m:1", days_old=2, whole=False)
    bento = client.workspace.models_path / "bentos/m/1"
    bento.mkdir(parents=True)
    (bento / "bento.yaml").write_text("models:\n- tag: m:1\n")
    [kept] = client.clean(dry_run=False).kept
    assert kept == Kept("models", "m:1", "has no model.yaml, but a bento refers to it")
    assert named.exists()


def test_links_are_not_followed(client: MLOpsClient, tmp_path: Path) -> None:
    (tmp_path / "version").mkdir()
    os.utime(tmp_path / "version", (0, 0))
    models = client.workspace.models_path / "models"
    models.mkdir()
    (models / "m").symlink_to(tmp_path)
    client.clean(dry_run=False)
    assert (tmp_path / "version").exists()


# --- Exclusion ---


def test_one_process_cleans_at_a_time(
    client: MLOpsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_WAIT_SECONDS", 0.1)
    with locked(client.workspace_path / ".clean.lock", 1):
        with pytest.raises(MLOpsClientError) as caught:
            client.clean(dry_run=False)
        assert caught.value.details["reason"] == "REPOSITORY_BUSY"
        client.clean()


# --- Places ---


@pytest.mark.parametrize(
    ("theirs", "ours", "shared"),
    [
        ("/srv/a", "/srv/a", True),
        ("/srv/a/", "/srv/a", True),
        ("/srv/a/b", "/srv/a", True),
        ("/srv", "/srv/a", True),
        ("file:///srv/a", "/srv/a", True),
        ("/srv/ab", "/srv/a", False),
        ("s3://bucket/a", "s3://bucket/a/", True),
        ("s3://bucket/ab", "s3://bucket/a", False),
    ],
)
def test_places_that_overlap_are_shared(theirs: str, ours: str, shared: bool) -> None:
    others = Others({"churn": {garbage._place(theirs, Path("/"))}})
    assert others.naming(ours) == (["churn"] if shared else [])
