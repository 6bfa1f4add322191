"""Directories that rename(2) cannot move: lower layers of overlays, mount points."""

import subprocess
from pathlib import Path

import pytest

from server.run import MountedServer, answer, call
from support.server import Server

# Mounts an overlay over the base, with the base's content as its lower layer. All
# layers are on a tmpfs, because an overlay cannot serve as the upper layer of another
# one, and a container's root often is an overlay.
_OVERLAY = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/lower /mnt/upper /mnt/work
cp -a "$1"/. /mnt/lower
mount -t overlay -o "lowerdir=/mnt/lower,upperdir=/mnt/upper,\
workdir=/mnt/work$2" overlay "$1"
shift 2
exec "$@"
"""


class Overlaid(MountedServer):
    """A server whose base is an overlay with the base's old content as lower layer."""

    def __init__(self, base: Path, *args: str, options: str = "") -> None:
        wrapper = ["unshare", "-m", "sh", "-c", _OVERLAY, "sh", str(base), options]
        probe = subprocess.run([*wrapper, "true"], capture_output=True, text=True)
        if probe.returncode != 0:
            pytest.skip(f"needs overlays in mount namespaces: {probe.stderr.strip()}")
        Server.__init__(self, base, *args, wrapper=wrapper)


class Mounted(MountedServer):
    """A server for which a separate file system is mounted at `place` in its base."""

    def __init__(self, base: Path, place: str) -> None:
        script = 'mount -t tmpfs tmpfs "$1" && shift && exec "$@"'
        wrapper = ["unshare", "-m", "sh", "-c", script, "sh", str(base / place)]
        probe = subprocess.run([*wrapper, "true"], capture_output=True, text=True)
        if probe.returncode != 0:
            pytest.skip(f"needs mount namespaces: {probe.stderr.strip()}")
        Server.__init__(self, base, wrapper=wrapper)


@pytest.fixture
def filled(base: Path) -> Path:
    """A base as a container image may ship it.

    It has a workspace with files, links and empty directories, and one in the trash.
    """
    with Server(base) as server:
        answer(
            server, "EnsureWorkspace", project="a", workspace={"dvc_remote_path": "x"}
        )
        sub = base / "a/models/deep/er"
        sub.mkdir(parents=True)
        (sub / "m.bin").write_bytes(b"1234")
        (sub / "m.bin").chmod(0o640)
        (sub / "link").symlink_to("m.bin")
        (base / "a/models/empty").mkdir(mode=0o700)
        answer(
            server,
            "EnsureWorkspace",
            project="gone",
            workspace={"dvc_remote_path": "y"},
        )
        answer(server, "DeleteWorkspace", project="gone", force=True)
    return base


def _check_whole(root: Path) -> None:
    assert sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and path.name != ".uploads"
    ) == [
        "dvc",
        "mlflow",
        "models",
        "monitoring",
        "outputs",
    ]
    sub = root / "models/deep/er"
    assert (sub / "m.bin").read_bytes() == b"1234" and (
        sub / "m.bin"
    ).stat().st_mode & 0o777 == 0o640
    assert (sub / "link").readlink() == Path("m.bin")
    assert (root / "models/empty").stat().st_mode & 0o777 == 0o700


def test_a_workspace_in_a_lower_layer_is_deleted_and_brought_back(filled: Path) -> None:
    with Overlaid(filled) as server:
        deleted = answer(server, "DeleteWorkspace", project="a", force=True)[
            "workspace"
        ]
        assert not (server.seen_base / "a").exists()
        [trashed] = (server.seen_base / ".trash").glob("*.a")
        _check_whole(trashed)
        assert deleted["root_path"].endswith(trashed.name)
        assert (
            answer(server, "UndeleteWorkspace", project="a")["dvc_remote_path"] == "x"
        )
        _check_whole(server.seen_base / "a")
        assert list((server.seen_base / ".staging").iterdir()) == []


def test_what_lies_in_the_trash_of_a_lower_layer_is_brought_back_or_purged(
    filled: Path,
) -> None:
    with Overlaid(filled) as server:
        assert (
            answer(server, "UndeleteWorkspace", project="gone")["dvc_remote_path"]
            == "y"
        )
        freed = answer(
            server, "DeleteWorkspace", project="gone", force=True, permanent=True
        )
        assert freed["purged"]
        assert list((server.seen_base / ".trash").iterdir()) == []


def test_a_workspace_in_a_lower_layer_is_purged(filled: Path) -> None:
    with Overlaid(filled, "--purge-delay", "0") as server:
        freed = answer(
            server, "DeleteWorkspace", project="a", force=True, permanent=True
        )
        assert int(freed["size_bytes"]) >= 4
        assert not (server.seen_base / "a").exists()
        assert answer(server, "EnsureWorkspace", project="a")["created"]
        assert not (server.seen_base / "a/models/deep").exists()


def test_a_directory_in_a_lower_layer_is_moved_and_deleted(filled: Path) -> None:
    with Overlaid(filled) as server:
        answer(
            server,
            "MoveArtifact",
            project="a",
            path="models/deep",
            destination_path="outputs/there",
        )
        assert (server.seen_base / "a/outputs/there/er/m.bin").read_bytes() == b"1234"
        assert not (server.seen_base / "a/models/deep").exists()
        deleted = answer(
            server, "DeleteArtifact", project="a", path="outputs/there", force=True
        )
        assert int(deleted["file_count"]) == 1
        answer(server, "DeleteArtifact", project="a", path="models/empty", force=True)
        assert list((server.seen_base / "a/models").iterdir()) == []


def test_a_directory_in_a_lower_layer_is_deleted_where_it_is(filled: Path) -> None:
    with Overlaid(filled) as server:
        deleted = answer(
            server, "DeleteArtifact", project="a", path="models/deep", force=True
        )
        assert int(deleted["file_count"]) == 1 and int(deleted["size_bytes"]) == 4
        assert not (server.seen_base / "a/models/deep").exists()


def test_a_file_open_in_the_old_place_is_written_in_the_new_one(filled: Path) -> None:
    with Overlaid(filled) as server:
        with (server.seen_base / "a/models/deep/er/m.bin").open("ab") as file:
            answer(server, "DeleteWorkspace", project="a", force=True)
            file.write(b"5678")
        [trashed] = (server.seen_base / ".trash").glob("*.a")
        assert (trashed / "models/deep/er/m.bin").read_bytes() == b"12345678"


def test_a_workspace_that_is_a_mount_point_says_so(filled: Path) -> None:
    with Mounted(filled, "a") as server:
        (server.seen_base / "a/workspace.yaml").write_bytes(
            (filled / "a/workspace.yaml").read_bytes()
        )
        error = call(server, "DeleteWorkspace", project="a", force=True).error
        assert error is not None
        assert (error.code, error.infos[0].reason) == (
            "FAILED_PRECONDITION",
            "PATH_UNSUITABLE",
        ), error
        assert (
            "mount point" in error.infos[0].metadata["problem"]
            and "unmount" in error.message
        )


@pytest.mark.parametrize("directory", [False, True])
def test_what_lies_on_a_mount_of_its_own_is_deleted_and_not_moved(
    filled: Path, directory: bool
) -> None:
    with Mounted(filled, "a/outputs") as server:
        place = server.seen_base / "a/outputs/d"
        place.mkdir()
        (place / "f").write_text("x")
        path = "outputs/d" if directory else "outputs/d/f"
        error = call(
            server,
            "MoveArtifact",
            project="a",
            path=path,
            destination_path="models/new",
        ).error
        assert error is not None
        assert (error.code, error.infos[0].reason) == (
            "FAILED_PRECONDITION",
            "PATH_UNSUITABLE",
        ), error
        assert "another mount" in error.infos[0].metadata["problem"]
        assert (place / "f").read_text() == "x"
        assert not (server.seen_base / "a/models/new").exists()
        answer(server, "DeleteArtifact", project="a", path=path, force=True)
        assert not (server.seen_base / "a" / path).exists()
