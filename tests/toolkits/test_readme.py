"""Runs the code blocks of the Python README that need the toolkits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from readme.blocks import Block, read_blocks
from support.elsewhere import RemoteServer
from support.server import REPO
from toolkits.mlflow_server import running

# Placeholders in the README, which the tests replace by addresses of real servers.
_WORKSPACES, _MLFLOW = "workspaces.example:50051", "http://mlflow.example:5000"
_BLOCKS = read_blocks((REPO / "client-python/README.md").read_text())


def check_runs(block: Block, code: str, directory: Path) -> None:
    (directory / "program.py").write_text(code)
    tools = Path(sys.executable).parent
    result = subprocess.run(
        [sys.executable if block.language == "python" else "sh", "program.py"],
        cwd=directory,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert block.prints(result.stdout), result.stdout


@pytest.mark.parametrize(
    "block",
    [b for b in _BLOCKS if _WORKSPACES not in b.code],
    ids=lambda block: block.name,
)
def test_block_runs(block: Block, directory: Path) -> None:
    check_runs(block, block.code, directory)


@pytest.mark.parametrize(
    "block", [b for b in _BLOCKS if _WORKSPACES in b.code], ids=lambda block: block.name
)
def test_block_runs_against_servers_on_other_machines(
    block: Block, directory: Path, remote: RemoteServer, tmp_path: Path
) -> None:
    command = [
        "server",
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--workers",
        "1",
    ]
    with running(command, tmp_path, "/health") as mlflow:
        check_runs(
            block,
            block.code.replace(_WORKSPACES, remote.tcp).replace(_MLFLOW, mlflow.url),
            directory,
        )
    assert sorted(path.name for path in directory.iterdir()) == ["here", "program.py"]
