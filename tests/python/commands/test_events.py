"""The command events."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, Run
from support.processes import killed_at_end
from support.server import stop_server


def events(mlops: Run, *arguments: str) -> list[tuple[str, str]]:
    result = mlops("events", "-o", "json", *arguments)
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    times = [event["time"] for event in found if event["time"]]
    assert arguments[:1] == ("--cursor",) or times == sorted(times)
    return [(event["project_name"], event["change"]) for event in found]


def test_shows_the_last_event_of_each_kind(
    mlops: Run, manager: WorkspaceManager
) -> None:
    manager.create_workspace("old")
    manager.delete_workspace("old", force=True)
    manager.update_workspace_metadata("fraud", metadata={"stage": "test"})
    manager.acquire_lease("fraud", "nightly", 600)
    assert events(mlops) == [
        ("fraud", "created"),
        ("old", "created"),
        ("old", "deleted"),
        ("fraud", "updated"),
        ("fraud", "leased"),
    ]
    assert events(mlops, "old", "--limit", "1") == [("old", "deleted")]
    assert events(mlops, "nope") == []
    table = mlops("events", "fraud").stdout.splitlines()
    assert table[0].split() == ["TIME", "CHANGE", "NAME", "DETAILS"]
    assert "by nightly" in table[-1]
    assert mlops("events", "old", "-o", "name").stdout == "old\nold\n"


def test_since(mlops: Run, manager: WorkspaceManager) -> None:
    tomorrow = str(datetime.now(UTC).year + 1)
    assert events(mlops, "--since", f"{tomorrow}-01-01") == []
    assert events(mlops, "--since", "7d") == [("fraud", "created")]
    for wrong in ("soon", "99", "2026-99-99"):
        result = mlops("events", "--since", wrong)
        assert result.returncode == 2, wrong
        assert len(result.stderr.splitlines()) == 1
    nothing = mlops("events", "--since", f"{tomorrow}-01-01")
    assert (nothing.stdout, nothing.stderr) == ("", "Nothing happened.\n")


def test_a_cursor_reports_each_change_once_across_restarts(
    mlops: Run, manager: WorkspaceManager, directory: Path
) -> None:
    cursor = ("--cursor", "seen")
    assert events(mlops, *cursor) == [("fraud", "created")]
    assert events(mlops, *cursor) == []
    manager.create_workspace("churn")
    manager.create_workspace("gone")
    assert ("churn", "created") in events(mlops, *cursor)
    manager.delete_workspace("gone", force=True)
    manager.update_workspace_metadata("fraud", metadata={"stage": "test"})
    stop_server(manager.base_path)
    found = events(mlops, *cursor)
    assert sorted(found) == [("fraud", "updated"), ("gone", "deleted")]
    assert events(mlops, *cursor) == []
    assert list(directory.glob("*~")) == []


def test_a_cursor_that_the_server_forgot(
    mlops: Run, manager: WorkspaceManager, directory: Path
) -> None:
    assert mlops("events", "--cursor", "seen").returncode == 0
    # Another server does not know the position.
    with WorkspaceManager(directory / "other") as other:
        other.create_workspace("elsewhere")
        result = mlops(*("events", "--cursor", "seen", "-o", "name", "--base", "other"))
        stop_server(other.base_path)
    assert (result.returncode, result.stdout) == (0, "elsewhere\n")
    assert "does not know what changed since seen" in result.stderr


def test_wrong_cursors(mlops: Run, manager: WorkspaceManager, directory: Path) -> None:
    (directory / "text").write_text("hello")
    (directory / "bytes").write_bytes(b"\xff\xfe")
    for name in ("text", "bytes"):
        result = mlops("events", "--cursor", name)
        assert result.returncode == 2, result.stderr
        assert f"{name} is not a file of --cursor" in result.stderr
    assert (directory / "text").read_text() == "hello"
    assert mlops("events", "--cursor", "no/such/seen").returncode == 3
    assert mlops("events", "--cursor", "seen", "--follow").returncode == 2


def test_a_closed_pipe_keeps_the_cursor(
    manager: WorkspaceManager, directory: Path, mlops: Run
) -> None:
    for number in range(20):
        manager.create_workspace(f"p{number}")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as closed:
        result = subprocess.run(
            [*COMMAND, "events", "--cursor", "seen"], cwd=directory, stdout=closed
        )
    assert result.returncode == 141
    assert not (directory / "seen").exists()


def test_follow_prints_the_past_and_then_each_change(
    manager: WorkspaceManager, directory: Path
) -> None:
    started = subprocess.Popen(
        [*COMMAND, "events", "--follow", "-o", "json"],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
    )

    def following() -> tuple[str, str]:
        assert started.stdout is not None
        event = json.loads(started.stdout.readline())
        return event["project_name"], event["change"]

    with killed_at_end(started) as process:
        assert following() == ("fraud", "created")
        manager.create_workspace("churn")
        assert following() == ("churn", "created")
        manager.acquire_lease("churn", "nightly", 600)
        assert following() == ("churn", "updated")
        process.send_signal(2)
        assert process.wait(20) == 130
