"""A workspaced that clients cannot tell from one on another machine."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from support.server import BINARY, Server

# Runs the server with the new root as `/`, so that it reports paths inside that root.
# The shell's arguments are: root, base, then the three words that Server adds.
_ENTER = 'base=$1; shift 4; exec chroot "$0" /workspaced --base "$base" "$@"'


class RemoteServer(Server):
    """Serves the base directory `path` inside the root directory `root`.

    No other process sees the base at `path`, so clients cannot access it directly. The
    test finds it at `base`. Needs permission for chroot(2), and skips the test without
    it.
    """

    def __init__(
        self, root: Path, path: Path = Path("/srv/workspaces"), *args: str
    ) -> None:
        assert not (root / "workspaced").exists()
        _copy_program(root)
        wrapper = [*_leave_to_chroot(), "sh", "-c", _ENTER, root, path]
        super().__init__(
            root / path.relative_to("/"),
            "--listen",
            "127.0.0.1:0",
            *args,
            wrapper=wrapper,
        )
        self.path = path

    @property
    def address(self) -> str:
        """The address of the Unix socket, which only the test can reach."""
        return f"unix:{self.base}/.workspaced/socket"

    @property
    def tcp(self) -> str:
        """The TCP address, which is the one for clients."""
        return next(
            address for address in self.addresses if not address.startswith("unix:")
        )


def _copy_program(root: Path) -> None:
    # Inside the chroot, the loader finds only libraries that are in the new root.
    libraries = subprocess.run(
        ["ldd", BINARY], capture_output=True, text=True, check=True
    ).stdout
    for library in re.findall(r"(/\S+) \(", libraries):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    (root / "tmp").mkdir(exist_ok=True)
    shutil.copy(BINARY, root / "workspaced")


@cache
def _leave_to_chroot() -> list[str]:
    user = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    probe = subprocess.run(
        [*user, "chroot", "/", "true"], capture_output=True, text=True
    )
    if probe.returncode != 0:
        pytest.skip(f"needs permission for chroot(2): {probe.stderr.strip()}")
    return user
