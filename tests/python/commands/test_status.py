"""The commands status and du."""

import json

import pytest
from mlops.workspace import WorkspaceManager

from python.commands.conftest import Run


@pytest.fixture(autouse=True)
def sizes(manager: WorkspaceManager) -> None:
    outputs = manager.get_workspace("fraud").outputs_path
    (outputs / "run/deep").mkdir(parents=True)
    (outputs / "run/deep/a").write_bytes(b"x" * 3000)
    (outputs / "b").write_bytes(b"x" * 10)
    manager.create_workspace("churn")


def test_status_finds_the_largest_project(mlops: Run) -> None:
    result = mlops("status", "--sort", "size", "--limit", "1", "-o", "name")
    assert result.stdout == "fraud\n"
    table = mlops("status", "--sort", "size").stdout.splitlines()
    assert table[1].split()[:4] == ["fraud", "2", "2.9", "KiB"]
    assert "OUTPUTS" in mlops("status", "-o", "wide").stdout
    assert mlops("status", "--sort", "colour").returncode == 2


def test_status_counts_only(mlops: Run) -> None:
    row = json.loads(mlops("status", "fraud", "--counts-only", "-o", "json").stdout)[0]
    assert (row["file_count"], row["size_bytes"]) == (2, None)


def test_status_names_what_it_cannot_count(
    mlops: Run, manager: WorkspaceManager
) -> None:
    manager.get_workspace("churn").metadata_file.write_text("a: [")
    result = mlops("status")
    assert result.returncode == 1
    assert "churn: " in result.stderr
    assert "fraud" in result.stdout


def test_du_shows_a_tree_the_largest_first(mlops: Run) -> None:
    lines = mlops("du", "fraud", "--no-headers").stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["fraud", "outputs", "run"]
    assert lines[0].split()[1:] == ["2", "2.9", "KiB"]
    found = json.loads(mlops("du", "fraud:outputs", "-a", "-o", "json").stdout)
    assert [row["path"] for row in found] == [
        "fraud/outputs",
        "fraud/outputs/run",
        "fraud/outputs/run/deep",
        "fraud/outputs/b",
    ]
    assert mlops("du", "nope").returncode == 3
    assert mlops("du", "fraud:nope").returncode != 0
