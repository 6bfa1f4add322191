"""Commands on files: ls of a path, cp, mv, cat, rm and sync."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, Run, Terminal, wait_until
from support.elsewhere import RemoteServer


@pytest.fixture
def outputs(manager: WorkspaceManager) -> Path:
    return manager.get_workspace("fraud").outputs_path


def test_copies_both_ways_and_lists(mlops: Run, directory: Path, outputs: Path) -> None:
    (directory / "a").write_text("hello")
    assert mlops("cp", "a", "fraud:outputs/").returncode == 0
    assert (outputs / "a").read_text() == "hello"
    assert mlops("ls", "fraud:outputs").stdout == "a\n"
    row = json.loads(mlops("ls", "-l", "fraud:outputs", "-o", "json").stdout)[0]
    assert (row["path"], row["size"]) == ("a", 5)
    assert "outputs/" in mlops("ls", "fraud:").stdout
    mlops("cp", "fraud:outputs/a", "b")
    assert (directory / "b").read_text() == "hello"
    mlops("cp", "workspace://fraud/outputs/a", "fraud:models/c")
    assert mlops("cat", "fraud:models/c").stdout == "hello"
    assert mlops("mv", "fraud:models/c", "fraud:models/d").returncode == 0
    assert mlops("ls", "fraud:models").stdout == "d\n"


def test_copies_directories_and_patterns(
    mlops: Run, directory: Path, outputs: Path
) -> None:
    (directory / "dir/sub").mkdir(parents=True)
    (directory / "dir/sub/x.txt").write_text("x")
    (directory / "dir/y.txt").write_text("y")
    assert mlops("cp", "dir", "fraud:outputs").returncode == 2
    assert mlops("cp", "-r", "dir", "fraud:outputs").returncode == 0
    assert (outputs / "dir/sub/x.txt").read_text() == "x"
    assert mlops("cp", "-r", "fraud:outputs/dir", "back").returncode == 0
    assert (directory / "back/sub/x.txt").read_text() == "x"
    (directory / "flat").mkdir()
    assert mlops("cp", "fraud:outputs/dir/*.txt", "flat").returncode == 0
    assert os.listdir(directory / "flat") == ["y.txt"]
    several = mlops("cp", "dir/y.txt", "dir/sub/x.txt", "fraud:outputs/new/")
    assert several.returncode == 0
    assert mlops("ls", "-R", "fraud:outputs/new").stdout == "x.txt\ny.txt\n"
    assert mlops("cp", "a", "b", "fraud:outputs/none").returncode == 2


def test_standard_streams(mlops: Run, outputs: Path) -> None:
    assert mlops("cp", "-", "fraud:outputs/note", input="text").returncode == 0
    assert mlops("cp", "fraud:outputs/note", "-").stdout == "text"


def test_errors_of_files(mlops: Run, directory: Path, outputs: Path) -> None:
    (directory / "a").write_text("a")
    assert mlops("cp", "fraud:outputs/none", ".").returncode == 3
    assert mlops("cp", "none", "fraud:outputs/").returncode == 3
    assert mlops("cat", "nope:outputs/x").returncode == 3
    assert mlops("cp", "a", "fraud:elsewhere/a").returncode == 2
    assert mlops("cp", "a", "b").returncode == 2
    assert mlops("cat", "a").returncode == 2
    assert mlops("cat", "fraud:outputs").returncode == 4


def test_rm_of_files(mlops: Run, outputs: Path) -> None:
    (outputs / "run").mkdir()
    (outputs / "run/a").write_text("a")
    assert mlops("rm", "fraud:outputs/run/a").returncode == 2
    assert mlops("rm", "fraud:outputs/run", "--yes").returncode == 4
    assert mlops("rm", "-r", "fraud:outputs/run", "--yes").returncode == 0
    assert os.listdir(outputs) == []


def test_a_failed_copy_keeps_the_old_file(
    mlops: Run, directory: Path, outputs: Path
) -> None:
    (directory / "kept").write_text("old")
    assert mlops("cp", "fraud:outputs/none", "kept").returncode == 3
    assert (directory / "kept").read_text() == "old"
    (outputs / "new").write_text("new")
    (directory / "kept").chmod(0o600)
    (directory / "link").symlink_to("kept")
    assert mlops("cp", "fraud:outputs/new", "link").returncode == 0
    assert (directory / "kept").read_text() == "new"
    assert (directory / "kept").stat().st_mode & 0o777 == 0o600
    assert (directory / "link").is_symlink()
    assert mlops("cp", "fraud:outputs/new", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_a_terminal_of_40_columns_keeps_names_whole(
    manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    name = "n" * 63
    manager.create_workspace(name, metadata={"stage": "x" * 50})
    manager.create_workspace("short", metadata={"stage": "x" * 50})
    screen = terminal("ls", columns=40)
    assert screen.code() == 0
    assert name in screen.output.replace("\r\n", "\n").splitlines()[1:][1]
    short = terminal("ls", "short", columns=40)
    assert short.code() == 0
    lines = short.output.splitlines()
    assert "\x1b[1mNAME" in lines[0]
    assert all(len(line) <= 40 for line in lines[1:]), lines
    assert "…" in lines[1]


def test_no_colour_if_told_so_or_piped(
    mlops: Run, manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    assert "\x1b" not in mlops("ls").stdout
    screen = terminal("ls", NO_COLOR="1")
    assert screen.code() == 0
    assert "\x1b" not in screen.output


def test_hostile_values_are_escaped(mlops: Run, manager: WorkspaceManager) -> None:
    manager.update_workspace_metadata("fraud", metadata={"stage": "\x1b[2J\nx"})
    assert "\\x1b[2J\\nx" in mlops("ls").stdout
    assert json.loads(mlops("ls", "-ojson").stdout)[0]["metadata"]["stage"] == (
        "\x1b[2J\nx"
    )


# --- Ctrl-C ---


@pytest.fixture
def slow(remote: RemoteServer, directory: Path) -> RemoteServer:
    """A server elsewhere with a large file, so that a copy goes over the connection."""
    with WorkspaceManager(address=remote.tcp) as manager:
        manager.create_workspace("fraud")
    with (directory / "large").open("wb") as file:
        file.truncate(3 << 30)
    return remote


def test_ctrl_c_leaves_no_part_of_an_upload(
    slow: RemoteServer, terminal: Callable[..., Terminal], directory: Path
) -> None:
    screen = terminal("--address", slow.tcp, "cp", "large", "fraud:outputs/")
    uploads = slow.base / "fraud"
    wait_until(lambda: any(f.stat().st_size > 1 << 20 for f in _files(uploads)))
    screen.interrupt()
    assert screen.code() == 130
    assert [f.name for f in _files(uploads)] == ["workspace.yaml"]


def test_ctrl_c_leaves_no_part_of_a_download(
    slow: RemoteServer, terminal: Callable[..., Terminal], directory: Path
) -> None:
    with (slow.base / "fraud/outputs/large").open("wb") as file:
        file.truncate(3 << 30)
    (directory / "large").write_text("old")
    screen = terminal("--address", slow.tcp, "cp", "fraud:outputs/large", ".")
    wait_until(lambda: any(f.stat().st_size > 1 << 20 for f in directory.glob(".l*~")))
    screen.interrupt()
    assert screen.code() == 130
    assert (directory / "large").read_text() == "old"
    assert not list(directory.glob(".large*"))


def _files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file()]


# --- Sync ---


def test_sync_copies_only_what_differs(
    mlops: Run, directory: Path, outputs: Path
) -> None:
    (directory / "d/sub").mkdir(parents=True)
    for name in ("same", "sub/changed", "sub/resized"):
        (directory / "d" / name).write_text("v1")
    first = mlops("sync", "d", "fraud:outputs/d")
    assert first.stderr == "3 new, 0 changed, 0 the same, 0 deleted.\n"
    same = (outputs / "d/same").stat().st_ino
    (directory / "d/sub/changed").write_text("v2")
    (directory / "d/sub/resized").write_text("longer")
    (outputs / "d/extra").write_text("x")
    plan = mlops("sync", "d", "fraud:outputs/d", "--delete", "--dry-run", "-o", "json")
    assert json.loads(plan.stdout) == [
        {"action": "replace", "path": "sub/changed"},
        {"action": "replace", "path": "sub/resized"},
        {"action": "delete", "path": "extra"},
    ]
    assert (outputs / "d/sub/changed").read_text() == "v1"
    assert mlops("sync", "d", "fraud:outputs/d").returncode == 0
    assert (outputs / "d/sub/changed").read_text() == "v2"
    assert (outputs / "d/extra").exists()
    last = mlops("sync", "d", "fraud:outputs/d", "--delete")
    assert last.stderr == "0 new, 0 changed, 3 the same, 1 deleted.\n"
    assert not (outputs / "d/extra").exists()
    assert (outputs / "d/same").stat().st_ino == same


def test_sync_from_a_project(mlops: Run, directory: Path, outputs: Path) -> None:
    (outputs / "sub").mkdir()
    (outputs / "sub/a").write_text("a")
    (directory / "here").mkdir()
    (directory / "here/extra").write_text("x")
    assert mlops("sync", "fraud:outputs", "here", "--delete").returncode == 0
    assert (directory / "here/sub/a").read_text() == "a"
    assert not (directory / "here/extra").exists()


def test_sync_refuses_what_it_cannot_do(
    mlops: Run, directory: Path, outputs: Path
) -> None:
    (directory / "d").mkdir()
    assert mlops("sync", "d", "e").returncode == 2
    assert mlops("sync", "none", "fraud:outputs").returncode == 3
    assert mlops("sync", "fraud:outputs/none", "d").returncode == 3
    assert mlops("sync", "d", "nope:outputs").returncode == 3
    os.mkfifo(directory / "d/pipe")
    assert mlops("sync", "d", "fraud:outputs").returncode == 2


def test_a_closed_pipe_ends_quietly(manager: WorkspaceManager, directory: Path) -> None:
    for number in range(5):
        manager.create_workspace(f"p{number}", metadata={"k": "x" * 60000})
    script = 'set -o pipefail; "$@" ls -o json | head -c 1; exit ${PIPESTATUS[0]}'
    result = subprocess.run(
        ["bash", "-c", script, "bash", *COMMAND],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (141, "[", "")
