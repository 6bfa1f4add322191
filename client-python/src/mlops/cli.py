"""The command `workspaced`: the server that comes with this package."""

import os
import sys
from pathlib import Path

BINARY = Path(__file__).with_name("_bin") / "workspaced"


def main() -> None:
    """Becomes the server."""
    os.execv(BINARY, [str(BINARY), *sys.argv[1:]])
