"""The `workspaced` command, which runs the server in this package.

It neither loads gRPC nor sets gRPC's environment variables, which the server would
inherit.
"""

import os
import sys
from pathlib import Path

BINARY = Path(__file__).with_name("_bin") / "workspaced"


def why_not_run(error: OSError) -> str:
    """Return why the server's program cannot be run, and how to fix that."""
    if not BINARY.exists():
        return (
            "workspaced is not in this installation of mlops-workspace, because "
            "there is no wheel with it for this platform, or the sdist was installed: "
            "set MLOPS_WORKSPACE_ADDRESS to the address of a server"
        )
    # execve(2) reports ENOENT also for a program whose loader is missing.
    no_loader = isinstance(error, FileNotFoundError)
    why = "this system has no GNU C library, which it needs"
    return f"{BINARY} cannot be run: {why if no_loader else error.strerror}"


def main() -> None:
    """Replace this process with the server."""
    try:
        os.execv(BINARY, [str(BINARY), *sys.argv[1:]])
    except OSError as error:
        sys.exit(why_not_run(error))
