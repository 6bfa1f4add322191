"""The blocks of the Python README that need the toolkits."""

import subprocess
import sys
from pathlib import Path

import pytest

from readme.blocks import Block, read_blocks
from support.server import REPO


@pytest.mark.parametrize(
    "block", read_blocks((REPO / "client-python/README.md").read_text()), ids=lambda block: block.name
)
def test_block_runs(block: Block, directory: Path) -> None:
    (directory / "program.py").write_text(block.code)
    result = subprocess.run([sys.executable, "program.py"], cwd=directory, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert block.prints(result.stdout), result.stdout
