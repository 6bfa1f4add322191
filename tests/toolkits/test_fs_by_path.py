"""Local files that put_file writes to the server's staging directory by their path.

test_fs.py tests reading by path.
"""

import errno
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.callbacks import Callback
from mlops.cli import BINARY
from mlops.fs import WorkspaceFileSystem
from mlops.workspace import WorkspaceManager

from server.run import MountedServer
from support import server
from support.server import Server, stop_server
from toolkits.conftest import kill_server, killing

MIB = 1 << 20


class Halfway(Callback):
    """Runs an action once, after a part of the file has been copied."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__()
        self._do: Callable[[], object] | None = do

    def call(self, *args: object, **options: object) -> None:
        """fsspec calls this after each change of the value."""
        if self.value and self._do is not None:
            do, self._do = self._do, None
            do()


@pytest.fixture
def fs(
    base: Path, manager: WorkspaceManager, caplog: pytest.LogCaptureFixture
) -> WorkspaceFileSystem:
    manager.create_workspace("fraud")
    caplog.set_level(logging.DEBUG, "mlops.fs")
    return WorkspaceFileSystem(base_path=base)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(40 * MIB + 3))
    return path


def told(caplog: pytest.LogCaptureFixture) -> bool:
    """Returns whether a file was copied by its path since the previous call."""
    messages = [record.message for record in caplog.records]
    caplog.clear()
    return any("copied by its path" in message for message in messages)


def staged(base: Path) -> list[str]:
    return [path.name for path in (base / "fraud/.uploads").glob("*.part")]


@pytest.mark.parametrize("by_address", [False, True])
def test_a_file_is_put_by_the_path_and_hashed_by_the_server(
    fs: WorkspaceFileSystem,
    base: Path,
    source: Path,
    caplog: pytest.LogCaptureFixture,
    by_address: bool,
) -> None:
    near = (
        WorkspaceFileSystem(address=f"unix:{base}/.workspaced/socket")
        if by_address
        else fs
    )
    bar = Callback()
    near.put_file(source, "fraud/models/new/m", callback=bar)
    assert told(caplog) and bar.value == bar.size == source.stat().st_size
    assert (base / "fraud/models/new/m").read_bytes() == source.read_bytes()
    subprocess.run(
        ["sha256sum", "--check"],
        input=f"{near.checksum('fraud/models/new/m')}  {source}",
        text=True,
        check=True,
    )
    near.put(str(source), "fraud/outputs/")
    assert (
        told(caplog)
        and near.info("fraud/outputs/source")["size"] == source.stat().st_size
    )
    assert not staged(base)


def test_it_is_not_where_that_is_turned_off_or_not_worth_while(
    fs: WorkspaceFileSystem,
    base: Path,
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    WorkspaceFileSystem(base_path=base, by_path=False).put_file(
        source, "fraud/models/m"
    )
    assert not told(caplog)
    (tmp_path / "small").write_bytes(b"x" * MIB)
    fs.put_file(tmp_path / "small", "fraud/models/small")
    assert not told(caplog) and fs.size("fraud/models/small") == MIB


def test_conditions_hold(fs: WorkspaceFileSystem, base: Path, source: Path) -> None:
    fs.put_file(source, "fraud/models/m", mode="create")
    with pytest.raises(FileExistsError):
        fs.put_file(source, "fraud/models/m", mode="create")
    with pytest.raises(ValueError):
        fs.put_file(source, "fraud/models/m", mode="append")
    fs.mkdir("fraud/models/directory")
    with pytest.raises(IsADirectoryError):
        fs.put_file(source, "fraud/models/directory")
    with pytest.raises(FileNotFoundError):
        fs.put_file(source, "none/models/m")
    with pytest.raises(FileExistsError):
        late = Halfway(lambda: (base / "fraud/outputs/new").write_bytes(b"theirs"))
        fs.put_file(source, "fraud/outputs/new", mode="create", callback=late)
    assert (base / "fraud/outputs/new").read_bytes() == b"theirs" and not staged(base)


def test_where_the_base_is_another_one_it_goes_over_the_connection(
    fs: WorkspaceFileSystem,
    base: Path,
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "other/fraud/.uploads").mkdir(parents=True)
    fs._base.directory = tmp_path / "other"
    fs.put_file(source, "fraud/models/m")
    assert (
        not told(caplog)
        and (base / "fraud/models/m").read_bytes() == source.read_bytes()
    )
    assert not staged(base) and not list((tmp_path / "other/fraud/.uploads").iterdir())
    fs._base.directory = tmp_path / "none"
    fs.put_file(source, "fraud/models/m")
    assert not told(caplog)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_who_may_not_write_there_sends_it_over_the_connection(
    base: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BINARY", BINARY)
    # Let the other user read the source, but not write to the base.
    for path in (*source.parents, *base.parents):
        if path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | 0o055)
    # Changes the user only after all imports, because the other user may not be allowed
    # to read the package.
    code = (
        "import logging, os, sys; logging.basicConfig(level=logging.DEBUG)\n"
        "from mlops.fs import WorkspaceFileSystem\n"
        "fs, user = WorkspaceFileSystem(address=sys.argv[1]), int(sys.argv[3])\n"
        "if user: os.setgroups([]), os.setresgid(user, user, user), "
        "os.setresuid(user, user, user)\n"
        "fs.put_file(sys.argv[2], 'fraud/models/m')\n"
    )
    with Server(base, "--listen", "127.0.0.1:0") as running:
        address = next(
            address for address in running.addresses if address.startswith("127.")
        )
        WorkspaceManager(address=address).create_workspace("fraud")
        for user in (65534, 0):
            command = [sys.executable, "-c", code, address, str(source), str(user)]
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=60, cwd="/"
            )
            assert ran.returncode == 0, ran.stderr
            assert ("copied by its path" in ran.stderr) == (user == 0)
            assert (
                base / "fraud/models/m"
            ).read_bytes() == source.read_bytes() and not staged(base)


def test_kill_9_in_the_middle(
    fs: WorkspaceFileSystem, base: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bar = Halfway(lambda: kill_server(base))
    fs.put_file(source, "fraud/models/m", callback=bar)
    assert told(caplog) and bar.value == source.stat().st_size
    assert (base / "fraud/models/m").read_bytes() == source.read_bytes() and not staged(
        base
    )


def test_kill_9_again_and_again(
    fs: WorkspaceFileSystem, base: Path, source: Path
) -> None:
    with killing(base):
        for number in range(5):
            fs.put_file(source, f"fraud/outputs/{number}")
            assert (
                base / f"fraud/outputs/{number}"
            ).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("thing", ["nothing", "file", "link", "fifo"])
def test_what_is_staged_is_lost_in_the_middle(
    fs: WorkspaceFileSystem,
    base: Path,
    source: Path,
    caplog: pytest.LogCaptureFixture,
    thing: str,
) -> None:
    def lose() -> None:
        part = next((base / "fraud/.uploads").glob("*.part"))
        part.rename(source.with_name("moved"))
        if thing == "file":
            part.write_bytes(source.read_bytes())
        elif thing == "link":
            part.symlink_to(source)
        elif thing == "fifo":
            os.mkfifo(part)

    bar = Halfway(lose)
    fs.put_file(source, "fraud/models/m", callback=bar)
    assert not told(caplog) and bar.value == source.stat().st_size
    model = base / "fraud/models/m"
    assert (
        not model.is_symlink()
        and model.read_bytes() == source.read_bytes()
        and not staged(base)
    )


def test_a_full_disk_in_the_middle(
    base: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("support.server.BINARY", BINARY)
    monkeypatch.setattr("server.run.BINARY", BINARY)
    with MountedServer(base, "size=24m") as running:
        address = f"unix:{running.seen_base}/.workspaced/socket"
        WorkspaceManager(address=address).create_workspace("fraud")
        fs = WorkspaceFileSystem(address=address)
        fs.pipe_file("fraud/models/m", b"old")
        # The path at which this process sees the server's base.
        fs._base.directory = running.seen_base
        with pytest.raises(OSError) as caught:
            fs.put_file(source, "fraud/models/m")
        assert caught.value.errno == errno.ENOSPC
        assert fs.cat_file("fraud/models/m") == b"old" and not staged(running.seen_base)
        os.truncate(source, 10 * MIB)
        fs.put_file(source, "fraud/models/m")
        assert fs.size("fraud/models/m") == 10 * MIB


def test_forks_meanwhile_have_the_server_asked_again(
    fs: WorkspaceFileSystem, base: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.fs.by_path.PAUSE_S", 0.0)
    fs.info("fraud")
    putting = threading.Thread(target=fs.put_file, args=(source, "fraud/models/m"))
    putting.start()
    while putting.is_alive():
        child = os.fork()
        if child == 0:
            os._exit(0 if fs.info("fraud")["type"] == "directory" else 1)
        assert os.waitpid(child, 0)[1] == 0
        putting.join(0.3)
    assert (base / "fraud/models/m").read_bytes() == source.read_bytes() and not staged(
        base
    )


@pytest.mark.parametrize("name", ["jürgen #?;&%41 '\"{}$HOME[*]:@\\\n", "[x]"])
def test_a_base_may_have_any_name(base: Path, tmp_path: Path, name: str) -> None:
    odd = base.with_name(name)
    try:
        WorkspaceManager(odd).create_workspace("fraud")
        fs = WorkspaceFileSystem(base_path=odd)
        (tmp_path / "in").write_bytes(b"x" * (3 << 20))
        fs.put(f"{tmp_path}/in", "fraud/outputs/a")
        assert fs.local_path("fraud/outputs/a") == str(odd / "fraud/outputs/a")
        fs.get("fraud/outputs/a", f"{tmp_path}/out")
        assert (
            (tmp_path / "out").read_bytes()
            == fs.cat("fraud/outputs/a")
            == b"x" * (3 << 20)
        )
        assert os.listdir(odd.parent) == [name]
    finally:
        stop_server(odd)
