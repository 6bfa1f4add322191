"""The commands server and token."""

import json
import os
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from python.commands.conftest import Run


def test_start_info_log_and_stop(mlops: Run, directory: Path) -> None:
    started = mlops("server", "start", "--listen", "127.0.0.1:0")
    assert started.returncode == 0, started.stderr
    address = next(a for a in started.stdout.split() if a.startswith("127.0.0.1:"))
    info = json.loads(mlops("server", "info", "-ojson", "--address", address).stdout)
    assert info["base_path"] == str(directory / "mlops/workspace")
    assert mlops("server", "start").returncode == 5
    assert mlops("server", "log", "-n", "5").returncode == 0
    assert mlops("server", "stop", "--address", address).returncode == 4
    assert mlops("server", "stop").returncode == 0
    assert mlops("server", "stop").returncode == 3


def test_a_server_that_cannot_start_says_why(mlops: Run) -> None:
    result = mlops("server", "start", "--listen", "0.0.0.0:1")
    assert result.returncode == 1
    assert "--insecure" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_info_needs_no_running_server(mlops: Run, manager: WorkspaceManager) -> None:
    assert "workspace_count:" in mlops("server", "info").stdout
    assert mlops("server", "log", "--base", "elsewhere").returncode == 3


def test_a_number_of_another_process_is_no_server(mlops: Run, directory: Path) -> None:
    lock = directory / "mlops/workspace/.workspaced/lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"pid": os.getpid(), "addresses": ["unix:x"]}))
    assert mlops("server", "stop").returncode == 3


def test_token(mlops: Run, directory: Path) -> None:
    made = mlops("token", "ann", "--tokens", "tokens.txt", "--expires", "90d")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("mlw_")
    assert made.stdout.strip() not in (directory / "tokens.txt").read_text()
    assert mlops("token", "ann").returncode == 2


@pytest.mark.parametrize("lines", ["0", "1"])
def test_log_has_as_many_lines(lines: str, mlops: Run, directory: Path) -> None:
    log = directory / "mlops/workspace/.workspaced/log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    assert mlops("server", "log", "-n", lines).stdout == {"0": "", "1": "two\n"}[lines]
