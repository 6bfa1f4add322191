"""The `workspaced` command, which runs the server in this package.

It loads neither gRPC nor its environment variables, which the server would inherit.
"""

import os
import sys
from pathlib import Path

BINARY = Path(__file__).with_name("_bin") / "workspaced"


def main() -> None:
    """Replace this process with the server."""
    os.execv(BINARY, [str(BINARY), *sys.argv[1:]])
