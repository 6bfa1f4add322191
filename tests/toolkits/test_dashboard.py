"""The dashboard on what the real libraries stored."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from mlops.client import MLOpsClient
from mlops.workspace import WorkspaceManager
from playwright.sync_api import Browser, expect

from dashboard.conftest import Client, Dashboard, wait_until
from dashboard.test_browser import (
    CHROMIUM,
    browser,
    opening,
    problems,
    settle,
    wide,
)
from dashboard.test_security import HOSTILE

__all__ = ["browser"]


@pytest.fixture
def pages(base: Path, client: MLOpsClient) -> Iterator[Client]:
    """The dashboard of the base, which has the project fraud."""
    with (
        Dashboard("--base", str(base), "--login", "proxy") as dashboard,
        dashboard.stranger() as pages,
    ):
        yield pages


def log_run(client: MLOpsClient, name: str, auc: float) -> None:
    with client.start_run(name):
        client.log_params({"depth": 3})
        client.log_metrics({"auc": auc})


def test_runs_of_a_project(pages: Client, client: MLOpsClient) -> None:
    log_run(client, "<b>first</b>", 0.7)
    log_run(client, "second", 0.9)
    page = pages.get("/p/fraud/runs").text
    assert "&lt;b&gt;first&lt;/b&gt;" in page and "<b>first" not in page
    assert "best: <strong>0.9</strong> in second" in page
    assert page.count("<circle") == 2
    lowest = pages.get("/p/fraud/runs", params={"metric": "auc", "lowest": "1"}).text
    assert "best: <strong>0.7</strong>" in lowest


def test_a_run_and_the_history_of_its_metrics(
    pages: Client, client: MLOpsClient
) -> None:
    with client.start_run("<i>long</i>") as run:
        client.log_params({"depth": "<b>3"})
        for step in range(400):
            client.log_metrics({"loss": 1 / (step + 1)}, step=step)
        client.log_metrics({"auc": 0.9})
    run_id = run.info.run_id
    runs = pages.get("/p/fraud/runs").text
    assert f'href="/p/fraud/runs/{run_id}"' in runs
    page = pages.get(f"/p/fraud/runs/{run_id}").text
    assert "&lt;i&gt;long&lt;/i&gt;" in page and "<i>long" not in page
    assert "&lt;b&gt;3" in page and 'class="error"' not in page
    # Evenly spread points, with the first and the last.
    assert 100 <= page.count("<circle") <= 400
    assert "loss 0: 1<" in page and "loss 399: 0.0025<" in page
    # A metric with one value has no line.
    assert page.count("<polyline") == 1 and ">auc: 0.9<" in page


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is missing")
def test_pages_of_runs_are_accessible_and_fit(
    base: Path, browser: Browser, manager: WorkspaceManager, client: MLOpsClient
) -> None:
    churn = MLOpsClient("churn", workspace_manager=manager)
    for one in (client, churn):
        with one.start_run(HOSTILE) as run:
            one.log_params({"depth": HOSTILE})
            for step in range(3):
                one.log_metrics({"loss": 1 / (step + 1), "auc": 0.9}, step=step)
    with (
        Dashboard("--base", str(base)) as dashboard,
        opening(browser, dashboard) as open_page,
    ):
        for path in (
            "/p/churn/runs",
            f"/p/churn/runs/{run.info.run_id}",
            "/compare?p=fraud&p=churn&metric=loss",
        ):
            page = open_page(path)
            settle(page)
            expect(page.locator("svg.lines").first).to_be_visible()
            assert problems(page) == "", path
            assert page.locator("main script, main b").count() == 0
            for width in (375, 2560):
                page.set_viewport_size({"width": width, "height": 800})
                assert wide(page) <= 0, (path, width)


def test_a_run_of_another_project_is_not_shown(
    pages: Client, manager: WorkspaceManager, client: MLOpsClient
) -> None:
    log_run(client, "own", 0.5)
    log_run(MLOpsClient("churn", workspace_manager=manager), "secret", 0.6)
    other = MLOpsClient("churn", workspace_manager=manager).list_runs()[0]["run_id"]
    for run_id in (other, "absent", "../../churn"):
        page = pages.get(f"/p/fraud/runs/{run_id}").text
        assert "secret" not in page and "0.6" not in page
    assert "no such run" in pages.get(f"/p/fraud/runs/{other}").text


def test_looking_creates_no_store(
    pages: Client, manager: WorkspaceManager, client: MLOpsClient
) -> None:
    assert "There are no runs." in pages.get("/p/fraud/runs").text
    assert list(client.get_workspace_path("mlflow").iterdir()) == []
    assert "Workspace does not exist" in pages.get("/p/absent/runs").text
    assert [one.project_name for one in manager.list_workspaces()] == ["fraud"]


def test_projects_are_compared_by_a_metric(
    pages: Client, manager: WorkspaceManager, client: MLOpsClient
) -> None:
    log_run(client, "a", 0.8)
    log_run(MLOpsClient("churn", workspace_manager=manager), "b", 0.6)
    page = pages.get("/compare?p=fraud&p=churn&metric=auc").text
    assert ">0.8</td>" in page and ">0.6</td>" in page
    assert page.count("<circle") == 2
    # Another metric is one click away.
    with client.start_run("c"):
        client.log_metrics({"loss": 0.25})
    wait_until(lambda: "0.25" in pages.get("/compare?p=fraud&p=churn").text)
    page = pages.get("/compare?p=fraud&p=churn").text
    assert 'href="/compare?p=fraud%20churn&amp;metric=loss"' in page


def test_a_parquet_file_is_previewed(pages: Client, client: MLOpsClient) -> None:
    path = client.get_workspace_path("outputs") / "t.parquet"
    pd.DataFrame({"<i>": range(200), "b": ["x"] * 200}).to_parquet(path)
    page = pages.get("/p/fraud/file", params={"path": "outputs/t.parquet"}).text
    assert "200 rows, 2 columns" in page
    assert '<th scope="col">&lt;i&gt;</th>' in page
    path.write_bytes(b"PAR1 not really")
    page = pages.get("/p/fraud/file", params={"path": "outputs/t.parquet"}).text
    assert "cannot be read" in page


def test_a_parquet_file_that_expands_is_refused(
    pages: Client, client: MLOpsClient
) -> None:
    path = client.get_workspace_path("outputs") / "bomb.parquet"
    column = pa.DictionaryArray.from_arrays([0] * 50, ["x" * (64 << 20)])
    # Without the schema of Arrow, each row is read as a text of its own.
    parquet.write_table(
        pa.table({"a": column}), path, compression="zstd", store_schema=False
    )
    assert path.stat().st_size < 1 << 20
    page = pages.get("/p/fraud/file", params={"path": "outputs/bomb.parquet"}).text
    assert "cannot be read" in page


def test_runs_in_a_linked_store_are_not_read(
    pages: Client, manager: WorkspaceManager, client: MLOpsClient
) -> None:
    log_run(MLOpsClient("linked-to", workspace_manager=manager), "secret-run", 0.8)
    manager.create_workspace("linking", mlflow_experiment_id="1")
    stores = [
        manager.get_workspace(name).mlflow_path / "mlflow.db"
        for name in ("linking", "linked-to")
    ]
    stores[0].symlink_to(stores[1])
    page = pages.get("/p/linking/runs").text
    assert "another store" in page and "secret-run" not in page


def test_versions_and_drift(pages: Client, client: MLOpsClient, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    client.dvc_add(tmp_path / "train.csv")
    (tmp_path / "model.bin").write_bytes(b"weights")
    client.deploy_model(tmp_path / "model.bin", "clf", "v1")
    client.set_reference_data(pd.DataFrame({"age": range(100)}))
    client.monitor_predictions(pd.DataFrame({"age": range(1000, 1100)}))
    assert "train.csv" in pages.get("/p/fraud/data").text
    models = pages.get("/p/fraud/models").text
    assert "clf" in models and "v1" in models
    drift = pages.get("/p/fraud/drift").text
    assert "100 %" in drift and "/p/fraud/drift?report=" in drift
