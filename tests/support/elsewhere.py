"""A workspaced that is to its clients as one of another machine."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from support.server import BINARY, Server

# In a directory of its own as root: the paths that it speaks of are those in there.
_ENTER = 'base=$1; shift 4; exec chroot "$0" /workspaced --base "$base" "$@"'


class RemoteServer(Server):
    """A server of the base directory `path`, which lies in `root` and which nobody else
    sees at that path.

    Its `base` is where the test can look. Skips the test where chroot(2) may not be
    used.
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
        """The Unix socket's, which the test may use, too."""
        return f"unix:{self.base}/.workspaced/socket"

    @property
    def tcp(self) -> str:
        """The address for clients."""
        return next(
            address for address in self.addresses if not address.startswith("unix:")
        )


def _copy_program(root: Path) -> None:
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
        pytest.skip(f"needs leave to chroot: {probe.stderr.strip()}")
    return user
