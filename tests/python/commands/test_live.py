"""The commands top and status --watch."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, Run, Terminal
from support.processes import killed_at_end
from support.server import stop_server

_SCREEN, _NO_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
_LONG = "n" * 63


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A command whose output is a pipe."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_at_end(process):
        yield process


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def grow(manager: WorkspaceManager, project: str, size: int) -> None:
    (manager.get_workspace(project).outputs_path / "grown").write_bytes(b"x" * size)


def test_top_shows_what_grows_and_what_changes(
    manager: WorkspaceManager, directory: Path
) -> None:
    manager.create_workspace("churn")
    with running(directory, "top", "--interval", "0.1", "-o", "json") as top:
        first = [json.loads(line(top)) for _ in range(2)]
        assert {row["project_name"] for row in first} == {"churn", "fraud"}
        assert all(row["growth_bytes"] == row["changes"] == 0 for row in first)
        grow(manager, "fraud", 5000)
        while (row := json.loads(line(top)))["growth_bytes"] != 5000:
            assert row["project_name"] == "fraud"
        assert row["bytes_per_s"] > 0
        manager.update_workspace_metadata("churn", metadata={"stage": "test"})
        while (row := json.loads(line(top)))["project_name"] != "churn":
            pass
        assert row["changes"] == 1
        manager.delete_workspace("churn", force=True)
        while not (row := json.loads(line(top))).get("deleted"):
            pass
        assert row == {"project_name": "churn", "deleted": True}


def test_top_prints_plain_lines_into_a_pipe(
    mlops: Run, manager: WorkspaceManager
) -> None:
    grow(manager, "fraud", 10)
    result = mlops("top", "--count", "1")
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert [row.split()[0] for row in result.stdout.splitlines()] == ["NAME", "fraud"]
    assert mlops("top", "--count", "1", "-o", "name").stdout == "fraud\n"
    headless = mlops("top", "--count", "1", "--no-headers").stdout
    assert headless.split()[:3] == ["fraud", "10", "B"]


@pytest.mark.parametrize(
    "arguments",
    [["--sort", "x"], ["--interval", "0"], ["--interval", "nan"], ["--count", "-1"]],
)
def test_wrong_options(arguments: list[str], mlops: Run) -> None:
    result = mlops("top", *arguments)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_status_prints_the_lines_that_changed(
    manager: WorkspaceManager, directory: Path
) -> None:
    manager.create_workspace("churn")
    arguments = ("status", "--watch", "--interval", "0.1")
    with running(directory, *arguments) as status:
        shown = [line(status).split()[0] for _ in range(3)]
        assert shown == ["NAME", "churn", "fraud"]
        grow(manager, "fraud", 20)
        assert line(status).split()[:4] == ["fraud", "1", "20", "B"]


def test_a_restarted_server_is_used_again(
    manager: WorkspaceManager, directory: Path
) -> None:
    arguments = ("status", "--watch", "--interval", "0.1", "--no-headers")
    with running(directory, *arguments) as status:
        assert line(status).split()[0] == "fraud"
        stop_server(manager.base_path)
        grow(manager, "fraud", 20)
        assert line(status).split()[:4] == ["fraud", "1", "20", "B"]


@pytest.mark.parametrize("command", [["top"], ["status", "--watch"]])
def test_a_terminal_shows_frames_until_ctrl_c_and_is_restored(
    command: list[str], manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    manager.create_workspace(_LONG)
    screen = terminal(*command, "--interval", "0.1", columns=40)
    screen.wait_for(_LONG[:30])
    manager.create_workspace("later")
    screen.wait_for("later")
    assert "ICANON" not in screen.modes()
    screen.interrupt()
    assert screen.code() == 130
    assert screen.output.count(_SCREEN) == screen.output.count(_NO_SCREEN) == 1
    assert screen.output.endswith(_NO_SCREEN)


def test_q_ends_top(
    manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("top")
    screen.wait_for("fraud")
    screen.type("xq")
    assert screen.code() == 0
    assert screen.output.endswith(_NO_SCREEN)


def test_a_frame_has_no_more_lines_than_the_terminal(
    manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    for number in range(40):
        manager.create_workspace(f"p{number:02}")
    screen = terminal("top", "--count", "1", columns=40)
    assert screen.code() == 0
    frame = screen.output.partition(_SCREEN)[2].partition(_NO_SCREEN)[0]
    assert frame.count("\n") < 24
    assert "and 21 more" in frame


def test_a_dumb_terminal_gets_lines(
    manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("top", "--count", "1", columns=40, TERM="dumb")
    assert screen.code() == 0
    assert "\x1b" not in screen.output
    assert max(map(len, screen.output.splitlines())) <= 40


def test_a_failure_leaves_the_normal_screen(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("top", "--address", "127.0.0.1:1", "--timeout", "20")
    assert screen.code() == 6
    assert _SCREEN not in screen.output


def test_a_closed_pipe_ends_top_at_once(
    manager: WorkspaceManager, directory: Path
) -> None:
    with running(directory, "top", "--interval", "1000") as top:
        assert line(top)
        assert top.stdout is not None
        top.stdout.close()
        assert top.wait(20) == 141
        assert top.stderr is not None and top.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_piped_top(
    number: signal.Signals, manager: WorkspaceManager, directory: Path
) -> None:
    with running(directory, "top", "--interval", "1000") as top:
        assert line(top)
        os.kill(top.pid, number)
        assert top.wait(20) == 128 + number
