"""A workspace's data, versioned with DVC."""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zc.lockfile
from dvc.config import Config
from dvc_data.hashfile.db.local import LocalHashFileDB
from mlops._toolkits.locks import locked
from mlops.client import (
    MLOpsClient,
    MLOpsClientError,
    dvc_client,
    dvc_config,
    dvc_files,
)
from mlops.client.dvc_client import DVCClient
from mlops.client.dvc_repository import Repository
from mlops.workspace import ProjectWorkspace, WorkspaceManager

from support.server import stop_server


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that contains a data set of three files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    write(tmp_path / "datasets/train.csv", "a,b\n1,2\n")
    write(tmp_path / "datasets/test.csv", "a,b\n3,4\n")
    write(tmp_path / "datasets/more/extra.csv", "a,b\n5,6\n")
    return tmp_path


@pytest.fixture
def dvc(client: MLOpsClient) -> Path:
    return client.workspace.dvc_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def data(directory: Path) -> dict[str, str]:
    """Returns the text of all files below `directory`, except DVC's internal ones."""
    files = [
        file
        for file in directory.rglob("*")
        if file.is_file() and ".dvc" not in file.relative_to(directory).parts
    ]
    return {str(file.relative_to(directory)): file.read_text() for file in files}


def failed(
    call: Callable[..., Any], *args: Any, component: str = "dvc", **named: Any
) -> MLOpsClientError:
    with pytest.raises(MLOpsClientError) as caught:
        call(*args, **named)
    assert caught.value.component == component
    return caught.value


def reason(call: Callable[..., Any], *args: Any, **named: Any) -> str:
    return failed(call, *args, **named).details["reason"]


def site_caches() -> list[Path]:
    """Returns the caches that DVC creates outside of repositories by default."""
    return sorted(Path("/var/tmp/dvc/repo").glob("*"))


def lose_cache(dvc: Path) -> None:
    shutil.rmtree(dvc / ".dvc/cache")


# --- Add ----------------------------------------------------------------------


def run(code: str, *args: object, **environment: str) -> str:
    """Runs a script, which must print nothing on stderr, and returns its output."""
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stderr, done.returncode) == ("", 0), done.stderr
    return done.stdout


def test_the_block_of_the_original(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    write(directory / "datasets/train.csv", "a,b\n1,2\n")
    before = site_caches()
    dvc = directory / "mlops/workspace/lora-finetuning-mlx/dvc"
    assert run(BLOCK) == f"{dvc}/datasets/train.csv\n"
    assert (dvc / "datasets/train.csv").read_text() == "a,b\n1,2\n"
    assert len(list((dvc / "remote").rglob("*/??????????????????????????????"))) == 1
    assert site_caches() == before


BLOCK = """
import socket
def connect(self, address):  # gRPC has its own.
    assert self.family == socket.AF_UNIX, address
    return real(self, address)
real, socket.socket.connect, socket.getaddrinfo = socket.socket.connect, connect, None
from mlops.client import MLOpsClient
client = MLOpsClient.from_project("lora-finetuning-mlx")

# Data tracked in workspace.dvc_path
result = client.dvc_add("datasets/train.csv")
client.dvc_push()
print(result["path"])
"""


def test_a_relative_path_goes_to_the_same_place_and_says_what_became_of_it(
    client: MLOpsClient, dvc: Path
) -> None:
    result = client.dvc_add("datasets/train.csv")
    assert result == {
        "success": True,
        "path": str(dvc / "datasets/train.csv"),
        "dvc_file": str(dvc / "datasets/train.csv.dvc"),
        "md5": "e5ebd4c02cefbe7955977c67ada242b7",
        "size": 8,
        "files": 1,
        "changed": True,
    }
    assert data(dvc)["datasets/train.csv"] == "a,b\n1,2\n"
    assert not client.dvc_add("datasets/train.csv")["changed"]


def test_others_go_by_their_name(
    client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    write(tmp_path / "below/here", "")
    os.chdir(tmp_path / "below")
    assert client.dvc_add("../datasets/train.csv")["path"] == str(dvc / "train.csv")
    assert client.dvc_add(tmp_path / "datasets/test.csv")["path"] == str(
        dvc / "test.csv"
    )
    assert client.dvc_add("../datasets/more/..")["path"] == str(dvc / "datasets")


def test_what_is_inside_stays(
    client: MLOpsClient, dvc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(dvc / "raw/only.csv", "1")
    write(dvc / "raw/other.csv", "2")
    assert client.dvc_add("raw/only.csv")["path"] == str(dvc / "raw/only.csv")
    monkeypatch.chdir(dvc / "raw")
    assert client.dvc_add("other.csv")["path"] == str(dvc / "raw/other.csv")
    assert {name for name in data(dvc) if name.endswith("csv")} == {
        "raw/only.csv",
        "raw/other.csv",
    }


def test_a_directory_is_one_thing_with_all_its_files(
    client: MLOpsClient, dvc: Path
) -> None:
    write(Path("datasets/train.csv.dvc"), "of another repository")
    write(Path("datasets/.dvc/config"), "of another repository")
    result = client.dvc_add("datasets")
    assert (result["md5"][-4:], result["files"], result["size"]) == (".dir", 3, 24)
    assert sorted(data(dvc / "datasets")) == ["more/extra.csv", "test.csv", "train.csv"]


def test_a_recursive_add_tracks_each_file(client: MLOpsClient, dvc: Path) -> None:
    result = client.dvc_add("datasets", recursive=True)
    assert (
        result["files"],
        result["size"],
        result["dvc_file"],
        len(result["added"]),
    ) == (3, 24, None, 3)
    assert client.get_status()["components"]["dvc"]["installed"]
    assert client._dvc().count() == {"tracked": 3}
    write(dvc / "datasets/new.csv", "7")
    again = client.dvc_add(dvc / "datasets", recursive=True)
    assert [file["path"] for file in again["added"] if file["changed"]] == [
        str(dvc / "datasets/new.csv")
    ]


def test_nothing_is_tracked_twice(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets/train.csv")
    before = data(dvc)
    assert reason(client.dvc_add, "datasets") == "INPUT_INVALID"
    assert data(dvc) == before
    shutil.move("datasets", "whole")
    client.dvc_add("whole")
    assert reason(client.dvc_add, "whole", recursive=True) == "INPUT_INVALID"


def test_a_file_in_a_tracked_directory_makes_a_new_version_of_it(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets")
    write(Path("datasets/train.csv"), "new")
    result = client.dvc_add("datasets/train.csv")
    assert (result["dvc_file"], result["files"], result["size"]) == (
        str(dvc / "datasets.dvc"),
        1,
        3,
    )
    assert result["changed"] and client._dvc().count() == {"tracked": 3}
    assert data(dvc)["datasets/train.csv"] == "new"


def test_a_directory_in_a_tracked_directory_makes_a_new_version_of_it(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets")
    assert not client.dvc_add("datasets/more")["changed"]
    write(Path("datasets/more/extra.csv"), "new")
    write(Path("datasets/train.csv"), "not added")
    result = client.dvc_add("datasets/more")
    assert (result["dvc_file"], result["files"], result["size"]) == (
        str(dvc / "datasets.dvc"),
        1,
        3,
    )
    assert (
        result["changed"]
        and result["md5"].endswith(".dir")
        and client._dvc().count() == {"tracked": 3}
    )
    write(dvc / "datasets/more/inner/new.csv", "in place")
    assert client.dvc_add(dvc / "datasets/more/inner")["size"] == 8
    client.dvc_push()
    lose_cache(dvc)
    shutil.rmtree(dvc / "datasets")
    assert client.dvc_pull()["added"] == 4
    assert data(dvc / "datasets") == {
        "more/extra.csv": "new",
        "more/inner/new.csv": "in place",
        "test.csv": "a,b\n3,4\n",
        "train.csv": "a,b\n1,2\n",
    }


def test_a_file_that_became_a_directory_within_a_tracked_one(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets")
    before = data(dvc)
    (dvc / "datasets/test.csv").unlink()
    write(dvc / "datasets/test.csv/part", "1")
    assert reason(client.dvc_add, dvc / "datasets/test.csv/part") == "INPUT_INVALID"
    assert data(dvc)["datasets.dvc"] == before["datasets.dvc"]
    assert client.dvc_add(dvc / "datasets/test.csv")["files"] == 1


def test_a_new_version_replaces_the_former_which_is_kept(
    client: MLOpsClient, dvc: Path
) -> None:
    first = client.dvc_add("datasets/train.csv")
    client.dvc_push()
    write(Path("datasets/train.csv"), "new")
    second = client.dvc_add("datasets/train.csv")
    assert client.dvc_push()["pushed"] == 1
    former = dvc / "remote/files/md5" / first["md5"][:2] / first["md5"][2:]
    assert (
        former.read_text() == "a,b\n1,2\n"
        and second["changed"]
        and data(dvc)["datasets/train.csv"] == "new"
    )


def test_a_directory_may_become_a_file_and_a_file_a_directory(
    client: MLOpsClient, dvc: Path
) -> None:
    for _ in range(2):
        client.dvc_add("datasets")
        shutil.move("datasets", "kept")
        write(Path("datasets"), "a file")
        assert client.dvc_add("datasets")["files"] == 1 and (dvc / "datasets").is_file()
        Path("datasets").unlink()
        shutil.move("kept", "datasets")
    assert client.dvc_add("datasets")["files"] == 3


@pytest.mark.parametrize(
    "name",
    [
        "a@b.csv",
        "sp ace.csv",
        "ünï.csv",
        "a*[1]?.csv",
        "#!x",
        "-r",
        "{a}%(b)s",
        "a\nb",
        "a:b.csv",
        "a\\b",
    ],
)
def test_odd_names(client: MLOpsClient, dvc: Path, name: str) -> None:
    write(Path(name), "data")
    result = client.dvc_add(name)
    assert client.dvc_push([name])["pushed"] == 1
    (dvc / name).unlink()
    lose_cache(dvc)
    assert client.dvc_pull([result["dvc_file"]])["added"] == 1
    assert (dvc / name).read_text() == "data"


def test_a_name_that_is_no_text(client: MLOpsClient, dvc: Path) -> None:
    name = os.fsdecode(b"\xff.csv")
    write(Path(name), "data")
    client.dvc_add("datasets/train.csv")
    before = data(dvc)
    assert reason(client.dvc_add, name) == "TOOLKIT_FAILED"
    assert data(dvc) == before
    assert client.dvc_push()["pushed"] == 1


def test_the_working_directory_itself(client: MLOpsClient, dvc: Path) -> None:
    os.chdir("datasets")
    assert reason(client.dvc_add, "") == "INPUT_INVALID"
    assert client.dvc_add(".")["path"] == str(dvc / "datasets")


# --- Concurrent writes to the data --------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs actions that run between DVC's hashing and its copying of files.

    Each attempt of an add runs the next action; the last action repeats.
    """

    def install(*actions: Callable[[], object]) -> None:
        left = list(actions)

        def add(self: LocalHashFileDB, *args: Any, **named: Any) -> Any:
            (left.pop(0) if len(left) > 1 else left[0])()
            return real(self, *args, **named)

        monkeypatch.setattr(LocalHashFileDB, "add", add)

    real = LocalHashFileDB.add
    return install


def versions_are_whole(dvc: Path) -> bool:
    """Returns whether each object of the cache and the remote matches its hash."""
    objects = [
        file
        for store in (".dvc/cache", "remote")
        for file in (dvc / store).rglob("*")
        if file.is_file()
    ]
    return all(
        hashlib.md5(file.read_bytes()).hexdigest()
        == (file.parent.name + file.name).removesuffix(".dir")
        for file in objects
    )


def nothing() -> None:
    """The action that changes nothing, so that the attempt succeeds."""


def test_a_file_that_is_appended_to(
    client: MLOpsClient, dvc: Path, meanwhile: Callable[..., None]
) -> None:
    dvc.mkdir(exist_ok=True)
    with (dvc / "rows.csv").open("ab", 0) as rows:
        rows.write(b"first\n")
        meanwhile(lambda: rows.write(b"second\n"), nothing)
        result = client.dvc_add(dvc / "rows.csv")
        rows.write(b"third\n")
    assert (dvc / "rows.csv").read_bytes() == b"first\nsecond\nthird\n"
    assert (
        result["md5"] == hashlib.md5(b"first\nsecond\n").hexdigest()
        and result["size"] == 13
    )
    client.dvc_push()
    assert versions_are_whole(dvc)


def test_a_file_that_is_always_written(
    client: MLOpsClient, dvc: Path, meanwhile: Callable[..., None]
) -> None:
    rows = write(dvc / "rows.csv", "first\n")
    client.dvc_add(rows)
    record = (dvc / "rows.csv.dvc").read_text()
    with rows.open("ab", 0) as file:
        file.write(b"second\n")
        meanwhile(lambda: file.write(b"more\n"))
        assert reason(client.dvc_add, rows) == "FILE_CHANGING"
    assert (dvc / "rows.csv.dvc").read_text() == record and versions_are_whole(dvc)
    assert rows.read_text().startswith("first\nsecond\nmore\n")


def overwrite(directory: Path) -> None:
    with (directory / "a").open("r+b") as file:
        file.write(b"X")


def replace(directory: Path) -> None:
    write(directory.parent / "draft", "new").replace(directory / "a")


CHANGES = [
    overwrite,
    replace,
    lambda directory: write(directory / "new", "new"),
    lambda directory: (directory / "b").unlink(),
    lambda directory: (directory / "b").rename(directory / "c"),
    lambda directory: shutil.rmtree(directory / "sub"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_directory_that_changes(
    client: MLOpsClient,
    dvc: Path,
    meanwhile: Callable[..., None],
    change: Callable[[Path], object],
) -> None:
    for name in ("a", "b", "sub/d"):
        write(dvc / "raw" / name, name)
    meanwhile(lambda: change(dvc / "raw"), nothing)
    result = client.dvc_add(dvc / "raw")
    now = data(dvc / "raw")
    assert (result["files"], result["size"]) == (len(now), sum(map(len, now.values())))
    shutil.rmtree(dvc / "raw")
    client.dvc_push()
    client.dvc_pull()
    assert data(dvc / "raw") == now and versions_are_whole(dvc)


def test_a_directory_that_always_changes(
    client: MLOpsClient, dvc: Path, meanwhile: Callable[..., None]
) -> None:
    write(dvc / "raw/a", "a")
    client.dvc_add(dvc / "raw")
    record, count = (dvc / "raw.dvc").read_text(), itertools.count()
    write(dvc / "raw/b", "b")
    meanwhile(lambda: write(dvc / f"raw/{next(count)}", "new"))
    assert reason(client.dvc_add, dvc / "raw") == "FILE_CHANGING"
    assert (dvc / "raw.dvc").read_text() == record and (dvc / "raw/0").exists()


def test_a_source_that_changes_while_it_is_copied(
    client: MLOpsClient, dvc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: Path, place: Path, *above: Any) -> None:
        real(source, place, *above)
        if writers:
            writers.pop()()

    real = dvc_files.copy
    monkeypatch.setattr(dvc_files, "copy", copy)
    rows = Path("rows.csv").absolute()
    with rows.open("ab", 0) as file:
        writers: list[Callable[[], object]] = [lambda: file.write(b"1\n")]
        assert (
            client.dvc_add("rows.csv")["size"] == 2 == (dvc / "rows.csv").stat().st_size
        )
        writers[:] = [lambda: file.write(b"2\n")] * 3
        assert reason(client.dvc_add, "rows.csv") == "FILE_CHANGING"
    assert data(dvc)["rows.csv"] == "1\n" and not list(
        (dvc / ".dvc/tmp/mlops").iterdir()
    )


def test_a_file_keeps_its_mode_and_identity(client: MLOpsClient, dvc: Path) -> None:
    file = write(dvc / "run.sh", "true")
    file.chmod(0o750)
    before = file.stat()
    client.dvc_add(file)
    assert (file.stat().st_ino, file.stat().st_mode) == (before.st_ino, before.st_mode)


# --- Rejected paths and failures ----------------------------------------------


def test_a_file_that_is_nowhere(client: MLOpsClient, dvc: Path, tmp_path: Path) -> None:
    error = failed(client.dvc_add, "none.csv")
    assert error.details["reason"] == "FILE_NOT_FOUND"
    assert error.details["places"] == [
        str(tmp_path / "none.csv"),
        str(dvc / "none.csv"),
    ]
    # Not even a repository was created.
    assert list(dvc.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        ".",
        "..",
        ".dvc",
        ".dvc/config",
        "a.csv.dvc",
        ".dvcignore",
        "remote",
        "remote/files",
        "../mlflow/..",
    ],
)
def test_no_file_of_dvc_is_data(client: MLOpsClient, dvc: Path, path: str) -> None:
    client.dvc_add(write(dvc / "a.csv", "1"))
    client.dvc_push()
    before = data(dvc)
    assert reason(client.dvc_add, dvc / path) == "INPUT_INVALID"
    assert reason(client.dvc_add, dvc / path, recursive=True) == "INPUT_INVALID"
    assert data(dvc) == before


def test_a_file_from_elsewhere_with_such_a_name_is_none_either(
    client: MLOpsClient, dvc: Path
) -> None:
    write(Path("remote/x"), "")
    write(Path("a.dvc"), "")
    assert {
        reason(client.dvc_add, name) for name in ("remote", "remote/x", "a.dvc")
    } == {"INPUT_INVALID"}


def test_no_link_leads_out_of_the_workspace(
    client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    outside = write(tmp_path / "outside/x.csv", "outside")
    (dvc / "datasets").symlink_to(outside.parent)
    (dvc / "x.csv").symlink_to(outside)
    write(dvc / "raw/y.csv", "1")
    (dvc / "raw/x.csv").symlink_to(outside)
    assert reason(client.dvc_add, "datasets/train.csv") == "INPUT_INVALID"
    assert reason(client.dvc_add, dvc / "x.csv") == "INPUT_INVALID"
    for recursive in (False, True):
        assert (
            reason(client.dvc_add, dvc / "raw", recursive=recursive) == "INPUT_INVALID"
        )
    assert data(outside.parent) == {"x.csv": "outside"}


def test_links_into_dvcs_own_cache_are_data(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_push()
    with (dvc / ".dvc/config").open("a") as config:
        config.write("[cache]\n    type = symlink\n")
    client.dvc_add("datasets")
    assert (dvc / "datasets/train.csv").is_symlink()
    assert not client.dvc_add(dvc / "datasets")["changed"]
    write(Path("datasets/train.csv"), "new")
    client.dvc_add("datasets/train.csv")
    assert data(dvc / "datasets") == {
        "train.csv": "new",
        "test.csv": "a,b\n3,4\n",
        "more/extra.csv": "a,b\n5,6\n",
    }


def test_links_on_the_way_in_are_followed(
    client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    Path("datasets/linked.csv").symlink_to(write(tmp_path / "far/x.csv", "far"))
    Path("data").symlink_to("datasets")
    assert client.dvc_add("data")["files"] == 4
    assert (
        data(dvc / "data")["linked.csv"] == "far"
        and not (dvc / "data/linked.csv").is_symlink()
    )
    Path("datasets/circle").symlink_to(tmp_path / "datasets")
    assert reason(client.dvc_add, "datasets") == "INPUT_INVALID"
    assert reason(client.dvc_add, "datasets", recursive=True) == "INPUT_INVALID"


def test_no_link_leads_to_the_repository_itself(
    client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    client.dvc_add("datasets/train.csv")
    before = data(dvc)
    for name, target in (
        ("itself", dvc),
        ("workspace", dvc.parent),
        ("base", dvc.parent.parent),
    ):
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / name).symlink_to(target)
        for recursive in (False, True):
            assert (
                reason(client.dvc_add, "linked", recursive=recursive) == "INPUT_INVALID"
            )
            assert (
                reason(client.dvc_add, f"linked/{name}", recursive=recursive)
                == "INPUT_INVALID"
            )
        shutil.rmtree(tmp_path / "linked")
    assert data(dvc) == before


def test_what_is_no_file(client: MLOpsClient, tmp_path: Path) -> None:
    os.mkfifo("datasets/pipe")
    assert reason(client.dvc_add, "datasets/pipe") == "INPUT_INVALID"
    assert reason(client.dvc_add, "datasets") == "INPUT_INVALID"
    (tmp_path / "empty").mkdir()
    assert reason(client.dvc_add, "empty", recursive=True) == "INPUT_INVALID"


def test_changes_that_are_in_no_version_are_not_replaced(
    client: MLOpsClient, dvc: Path
) -> None:
    untracked = write(dvc / "datasets/train.csv", "mine")
    assert reason(client.dvc_add, "datasets/train.csv") == "LOCAL_CHANGES"
    assert reason(client.dvc_add, "datasets") == "LOCAL_CHANGES"
    client.dvc_add(untracked)
    client.dvc_add("datasets/train.csv")
    write(untracked, "changed")
    assert reason(client.dvc_add, "datasets", recursive=True) == "LOCAL_CHANGES"
    assert data(dvc)["datasets/train.csv"] == "changed"


def test_a_failed_add_leaves_all_as_it_was(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets/train.csv")
    before = data(dvc)
    write(Path("datasets/train.csv"), "new")
    Path("unreadable").symlink_to("/proc/self/mem")
    assert reason(client.dvc_add, "unreadable") == "TOOLKIT_FAILED"
    lose_cache(dvc)
    write(dvc / ".dvc/cache", "no directory")
    assert reason(client.dvc_add, "datasets/train.csv") == "TOOLKIT_FAILED"
    assert reason(client.dvc_add, "datasets/test.csv") == "TOOLKIT_FAILED"
    assert reason(client.dvc_add, "datasets/more", recursive=True) == "TOOLKIT_FAILED"
    assert data(dvc) == before and not (dvc / "datasets/more").exists()
    assert list((dvc / ".dvc/tmp/mlops").iterdir()) == []


def test_a_full_disk(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets/train.csv")
    before = data(dvc)
    Path("datasets/train.csv").write_bytes(b"0" * 3_000_000)
    code = """
import resource, sys
from mlops.client import MLOpsClient, MLOpsClientError
client = MLOpsClient("fraud", workspace_path=sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
try:
    client.dvc_add(sys.argv[2])
except MLOpsClientError as error:
    print(error.details["reason"], type(error.__cause__).__name__, "/", error)
"""
    assert run(code, dvc.parent, "datasets/train.csv").startswith(
        "TOOLKIT_FAILED OSError"
    )
    assert data(dvc) == before


def test_what_a_killed_process_left_is_undone(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets/train.csv")
    client.dvc_add("datasets/more")
    before = data(dvc)
    # The child dies in the middle of a change, with half-written records.
    pid = os.fork()
    if pid == 0:
        copies = [
            (Path("datasets/test.csv"), dvc / "datasets/train.csv"),
            (Path("datasets"), dvc / "datasets/more"),
        ]
        copies += [(Path("datasets"), dvc / "new/place")]
        with dvc_files.changed(
            dvc, copies, [dvc / "datasets/more.dvc", dvc / "new/place.dvc"]
        ):
            (dvc / "datasets/more.dvc").write_text("half")
            (dvc / "new/place.dvc").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert data(dvc) != before
    client.dvc_push([])
    assert data(dvc) == before and not (dvc / "new").exists()


def test_half_a_list_of_dvcs_readers_and_writers_stops_nobody(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets/train.csv")
    write(dvc / ".dvc/tmp/rwlock", '{"write": {')
    assert client.dvc_add("datasets/test.csv")["success"]


# --- Push and pull ------------------------------------------------------------


def test_data_comes_back_from_the_remote(
    manager: WorkspaceManager, client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets")
    client.dvc_add(write(Path("model.bin"), "weights"))
    before = data(dvc)
    pushed = client.dvc_push()
    assert pushed == {
        "success": True,
        "pushed": 5,
        "remote": "workspace",
        "url": str(dvc / "remote"),
    }
    assert client.dvc_push()["pushed"] == 0
    lose_cache(dvc)
    shutil.rmtree(dvc / "datasets")
    (dvc / "model.bin").unlink()
    pulled = MLOpsClient("fraud", workspace_manager=manager).dvc_pull()
    assert (
        pulled["fetched"],
        pulled["added"],
        pulled["modified"],
        pulled["deleted"],
    ) == (5, 4, 0, 0)
    assert data(dvc).items() >= before.items()
    lose_cache(dvc)
    # The older client, whose repository object is still open, also pulls.
    assert client.dvc_pull()["fetched"] == 5


def test_targets_by_all_their_names(
    client: MLOpsClient, dvc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.dvc_add("datasets")
    client.dvc_add(write(Path("raw/a.csv"), "a"))
    client.dvc_add(write(Path("raw/b.csv"), "b"))
    # DVC pushes the whole directory: three files and their list.
    assert client.dvc_push("datasets/train.csv")["pushed"] == 4
    assert client.dvc_push([dvc / "datasets.dvc"])["pushed"] == 0
    assert client.dvc_push(["raw/a.csv", "raw/a.csv.dvc"])["pushed"] == 1
    monkeypatch.chdir(dvc / "raw")
    assert client.dvc_push(Path("b.csv"))["pushed"] == 1
    for path in ("datasets/train.csv", "datasets/test.csv", "raw/a.csv", "raw/b.csv"):
        (dvc / path).unlink()
    lose_cache(dvc)
    assert client.dvc_pull(["datasets/train.csv", "raw/a.csv"])["added"] == 2
    assert not (dvc / "datasets/test.csv").exists()
    assert client.dvc_pull(["raw", "datasets"])["added"] == 2
    assert client.dvc_push([]) == client.dvc_push()


def test_a_target_takes_nothing_with_it(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets")
    client.dvc_add(write(Path("one"), "1"))
    client.dvc_push()
    (dvc / "datasets/train.csv").unlink()
    write(dvc / "datasets/test.csv", "mine")
    pulled = client.dvc_pull(["one", "datasets/train.csv"])
    assert (pulled["added"], pulled["modified"], pulled["deleted"]) == (1, 0, 0)
    assert (
        data(dvc / "datasets")["test.csv"] == "mine"
        and (dvc / "datasets/more/extra.csv").exists()
    )


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/etc/passwd", "outside"),
        ("../mlflow", "outside"),
        ("none.csv", "not tracked"),
        ("datasets/x", "not tracked"),
    ],
)
def test_a_target_that_is_none(
    client: MLOpsClient, dvc: Path, target: str, problem: str
) -> None:
    client.dvc_add("datasets")
    for call in (client.dvc_push, client.dvc_pull):
        error = failed(call, [dvc / "datasets", target])
        assert error.details == {"reason": "INPUT_INVALID", "field": "targets"}
        assert problem in str(error) and "tracked are datasets" in str(error)
    assert not (dvc / "remote").exists()


def test_changes_are_pulled_over_by_force_only(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets")
    client.dvc_push()
    write(dvc / "datasets/train.csv", "mine")
    write(dvc / "datasets/mine.csv", "mine")
    error = failed(client.dvc_pull)
    assert error.details["reason"] == "LOCAL_CHANGES" and error.details["count"] == 2
    assert data(dvc)["datasets/train.csv"] == data(dvc)["datasets/mine.csv"] == "mine"
    pulled = client.dvc_pull(force=True)
    assert (pulled["modified"], pulled["deleted"]) == (1, 1)
    assert data(dvc)["datasets/train.csv"] == "a,b\n1,2\n"


def test_a_pull_deletes_nothing_that_is_not_tracked_any_more(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets")
    client.dvc_add("datasets/train.csv")
    client.dvc_add(write(Path("old.csv"), "old"))
    # This is what `dvc remove` does.
    (dvc / "old.csv.dvc").unlink()
    before = data(dvc)
    client.dvc_push()
    pulled = client.dvc_pull(force=True)
    assert (pulled["added"], pulled["modified"], pulled["deleted"]) == (0, 0, 0)
    assert data(dvc).items() >= before.items()


def test_what_the_remote_has_lost_takes_nothing_with_it(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets")
    md5 = client.dvc_add("datasets/train.csv")["md5"]
    client.dvc_push()
    lose_cache(dvc)
    (dvc / "remote/files/md5" / md5[:2] / md5[2:]).unlink()
    (dvc / "datasets/test.csv").unlink()
    before = {
        name: text for name, text in data(dvc).items() if not name.startswith("remote")
    }
    for force in (False, True):
        error = failed(client.dvc_pull, force=force)
        assert (
            error.details["reason"] == "DATA_MISSING"
            and "datasets/train.csv" in error.details["files"]
        )
    assert data(dvc).items() >= before.items()
    shutil.rmtree(dvc / "remote")
    lose_cache(dvc)
    assert reason(client.dvc_pull) == "DATA_MISSING"
    assert reason(client.dvc_push) == "DATA_MISSING"
    assert data(dvc) == before


def test_a_push_needs_no_cache_where_the_remote_has_it(
    client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets/train.csv")
    client.dvc_push()
    lose_cache(dvc)
    assert client.dvc_push()["pushed"] == 0


def test_a_damaged_object_is_not_taken(client: MLOpsClient, dvc: Path) -> None:
    md5 = client.dvc_add("datasets/train.csv")["md5"]
    client.dvc_push()
    lose_cache(dvc)
    (dvc / "datasets/train.csv").unlink()
    stored = dvc / "remote/files/md5" / md5[:2] / md5[2:]
    stored.chmod(0o644)
    stored.write_text("damaged")
    assert reason(client.dvc_pull) == "DATA_MISSING"
    assert not (dvc / "datasets/train.csv").exists()


# --- Remotes ------------------------------------------------------------------


def test_a_remote_that_cannot_be_written(
    manager: WorkspaceManager, client: MLOpsClient, dvc: Path
) -> None:
    manager.update_workspace_metadata("fraud", dvc_remote_path="/proc/remote")
    client.dvc_add("datasets/train.csv")
    error = failed(client.dvc_push)
    assert error.details["reason"] == "TOOLKIT_FAILED" and "/proc/remote" in str(
        error
    ), error
    manager.update_workspace_metadata(
        "fraud", dvc_remote_path=str(write(Path("file").absolute(), "a file"))
    )
    assert "Not a directory" in str(failed(client.dvc_push))
    # A remote that contains the workspace is allowed.
    manager.update_workspace_metadata("fraud", dvc_remote_path=str(dvc.parent.parent))
    assert (
        client.dvc_push()["pushed"] == 1
        and client.dvc_add("datasets/test.csv")["success"]
    )
    manager.update_workspace_metadata("fraud", dvc_remote_path=str(dvc))
    assert "overlaps with the remote" in str(failed(client.dvc_add, "datasets/more"))


@pytest.mark.parametrize(
    ("url", "extra"), [("s3://bucket/p", "dvc[s3]"), ("gs://bucket/p", "dvc[gs]")]
)
def test_a_remote_in_a_cloud_is_needed_at_push_only(
    manager: WorkspaceManager, client: MLOpsClient, url: str, extra: str
) -> None:
    manager.update_workspace_metadata("fraud", dvc_remote_path=url)
    assert client.dvc_add("datasets/train.csv")["success"]
    for call in (client.dvc_push, client.dvc_pull):
        error = failed(call)
        assert error.details == {
            "reason": "TOOLKIT_MISSING",
            "extra": extra,
            "url": url,
        } and url in str(error)
    assert f"url = {url}\n" in (client.workspace.dvc_path / ".dvc/config").read_text()


def test_a_remote_path_of_one_client(
    manager: WorkspaceManager, client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    other = MLOpsClient(
        "fraud",
        workspace_manager=manager,
        dvc_config={"remote_path": tmp_path / "other"},
    )
    other.dvc_add("datasets/train.csv")
    assert (other.dvc_push()["url"], client.dvc_push()["url"]) == (
        str(tmp_path / "other"),
        str(dvc / "remote"),
    )
    assert (
        len(list((tmp_path / "other").rglob("*")))
        == len(list((dvc / "remote").rglob("*")))
        == 4
    )
    assert "other" not in (dvc / ".dvc/config").read_text()


def test_remotes_below_the_repository_are_ignored(
    manager: WorkspaceManager, client: MLOpsClient, dvc: Path
) -> None:
    client.dvc_add("datasets/train.csv")
    manager.update_workspace_metadata("fraud", dvc_remote_path="stores/a b#[1]")
    assert client.dvc_push()["url"] == str(dvc / "stores/a b#[1]")
    write(dvc / "stores/a b#[1]/x.dvc", "no DVC file")
    assert client.dvc_push()["pushed"] == 0
    assert (dvc / ".dvcignore").read_text() == "/remote/\n/stores/a\\ b\\#\\[1\\]/\n"
    assert reason(client.dvc_add, dvc / "stores") == "INPUT_INVALID"


def test_a_remote_of_the_users_own(
    client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    client.dvc_add("datasets/train.csv")
    with (dvc / ".dvc/config").open("a") as config:
        config.write(f"['remote \"backup\"']\n    url = {tmp_path}/backup\n")
    assert client.dvc_push(remote="Backup")["url"] == f"{tmp_path}/backup"
    lose_cache(dvc)
    assert client.dvc_pull(remote="backup")["fetched"] == 1
    error = failed(client.dvc_push, remote="elsewhere")
    assert error.details["reason"] == "INPUT_INVALID" and "backup, workspace" in str(
        error
    )


# --- Concurrency and locks ----------------------------------------------------


def test_threads_and_processes_wait_for_each_other(
    client: MLOpsClient, dvc: Path
) -> None:
    code = """
import sys
from mlops.client import MLOpsClient
client = MLOpsClient("fraud", workspace_path=sys.argv[1])
for i in range(3):
    client.dvc_add(f"{sys.argv[2]}/{i}.csv")
client.dvc_push()
"""
    for name in ("p", "q"):
        for i in range(3):
            write(Path(name, f"{i}.csv"), f"{name}{i}")
    command = [sys.executable, "-c", code, str(dvc.parent)]
    processes = [
        subprocess.Popen([*command, name], stderr=subprocess.PIPE)
        for name in ("p", "q")
    ]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(
                client.dvc_add, [write(Path(f"t{i}.csv"), f"t{i}") for i in range(8)]
            )
        )
    assert [
        (process.communicate(timeout=60)[1], process.returncode)
        for process in processes
    ] == [(b"", 0)] * 2
    assert all(result["changed"] for result in results) and client._dvc().count() == {
        "tracked": 14
    }
    client.dvc_push()
    assert client.dvc_push()["pushed"] == 0


def test_who_waits_too_long_is_told(
    client: MLOpsClient, dvc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.dvc_add("datasets/train.csv")
    monkeypatch.setattr(dvc_client, "WAIT_SECONDS", 0.2)
    with locked(dvc / ".dvc/tmp/mlops.lock", 1):
        error = failed(client.dvc_push)
        # Counting does not wait for the lock.
        assert client._dvc().count() == {"tracked": 1}
    assert error.details["reason"] == "REPOSITORY_BUSY" and error.details[
        "file"
    ] in str(error)
    assert client.dvc_push()["success"]


@pytest.fixture
def dvc_command(dvc: Path) -> Iterator[Callable[[], None]]:
    """Holds the lock of DVC's command line; calling the value releases it."""
    (dvc / ".dvc/tmp").mkdir(parents=True)
    lock = zc.lockfile.LockFile(str(dvc / ".dvc/tmp/lock"))
    yield lock.close
    lock.close()


def test_dvc_on_the_command_line_is_waited_for(
    client: MLOpsClient, dvc_command: Callable[[], None]
) -> None:
    # DVC itself gives up after 3 seconds.
    timer = threading.Timer(4, dvc_command)
    timer.start()
    assert client.dvc_add("datasets/train.csv")["success"]
    timer.join()


def test_a_killed_process_leaves_nothing_locked(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets/train.csv")
    code = """
import os, signal, sys
from mlops.client import MLOpsClient
client = MLOpsClient("fraud", workspace_path=sys.argv[1])
with client._dvc()._opened():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert (
        subprocess.run([sys.executable, "-c", code, str(dvc.parent)]).returncode
        == -signal.SIGKILL
    )
    assert client.dvc_push()["pushed"] == 1


def test_two_projects_in_one_process(
    manager: WorkspaceManager, client: MLOpsClient, dvc: Path
) -> None:
    other = MLOpsClient("churn", workspace_manager=manager)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.dvc_add("datasets"), (client, other)))
    other.dvc_push()
    assert other._dvc().count() == client._dvc().count() == {"tracked": 3}
    assert not (dvc / "remote").exists()


def test_many_make_the_repository_at_once(
    client: MLOpsClient, dvc: Path, manager: WorkspaceManager
) -> None:
    clients = [MLOpsClient("fraud", workspace_manager=manager) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda each: each.dvc_push(), clients))
    assert [result["pushed"] for result in results] == [0] * 6
    assert sorted(os.listdir(dvc)) == [".dvc", ".dvcignore"]


# --- Other repositories and tools ---------------------------------------------


def test_repositories_around_the_workspace_are_left_alone(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "."], check=True)
    quiet = {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "CI": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / ".dvc/tmp"),
    }
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True, env=quiet)
    before = subprocess.run(
        ["git", "status", "--porcelain"], check=True, capture_output=True
    ).stdout
    code = """
from mlops.client import MLOpsClient
client = MLOpsClient.from_project("inner")
client.dvc_add("datasets")
client.dvc_push()
print(client.workspace.dvc_path)
"""
    assert run(code) == f"{tmp_path}/mlops/workspace/inner/dvc\n"
    stop_server(tmp_path / "mlops/workspace")
    assert (
        not (tmp_path / ".dvc/cache").exists()
        and not (tmp_path / "datasets.dvc").exists()
    )
    after = subprocess.run(
        ["git", "status", "--porcelain"], check=True, capture_output=True
    ).stdout
    assert {*after.splitlines()} - {*before.splitlines()} == {b"?? mlops/"}
    written = [
        path
        for path in (tmp_path / "mlops").rglob(".gitignore")
        if path.parent.name != ".workspaced"
    ]
    # The only .gitignore is the server's, not one of DVC.
    assert not written


def test_dvcs_own_command_line_works_in_it(client: MLOpsClient, dvc: Path) -> None:
    client.dvc_add("datasets")
    before = site_caches()

    command = [sys.executable, "-m", "dvc", "push"]
    done = subprocess.run(command, cwd=dvc, check=True, capture_output=True, text=True)
    assert done.stdout == "4 files pushed\n"
    config = (dvc / ".dvc/config").read_text()
    assert "analytics = False\n" in config and "check_update = False\n" in config
    assert client.dvc_push()["pushed"] == 0 and site_caches() == before


def test_a_workspace_behind_a_link(
    base: Path, client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    (tmp_path / "linked").symlink_to(base)
    linked = MLOpsClient("fraud", workspace_path=tmp_path / "linked/fraud")
    path = tmp_path / "linked/fraud/dvc/datasets/train.csv"
    assert linked.dvc_add("datasets/train.csv")["path"] == str(path)
    assert (
        not linked.dvc_add(path)["changed"]
        and not client.dvc_add(dvc / "datasets/train.csv")["changed"]
    )
    assert linked.dvc_push([path])["pushed"] == 1


# --- Copied and moved workspaces ----------------------------------------------


def copied(base: Path, source: str, place: str) -> Path:
    """Copies a workspace as `cp -r` does; returns the dvc directory of the copy."""
    shutil.copytree(base / source, base / place, symlinks=True)
    return base / place / "dvc"


def without_site_cache(directory: Path) -> dict[str, bytes]:
    """Returns all files, except the hashes that DVC caches."""
    files = [
        file
        for file in directory.rglob("*")
        if file.is_file() and "site-cache" not in file.parts
    ]
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def test_copies_push_to_remotes_of_their_own(
    base: Path, client: MLOpsClient, dvc: Path, manager: WorkspaceManager
) -> None:
    client.dvc_add("datasets")
    client.dvc_push()
    copies = [copied(base, "fraud", "fraud2"), copied(base, "fraud", "fraud3")]
    # A copy of a copy.
    copies.append(copied(base, "fraud2", "fraud4"))
    before = without_site_cache(dvc)
    for place in copies:
        write(Path("new.csv"), place.parent.name)
        copy = MLOpsClient(place.parent.name, workspace_manager=manager)
        copy.dvc_add("new.csv")
        assert copy.dvc_push() == {
            "success": True,
            "pushed": 1,
            "remote": "workspace",
            "url": str(place / "remote"),
        }
        for file in (place / ".dvc").glob("config*"):
            assert f"{dvc}/" not in file.read_text()
        lose_cache(place)
        assert copy.dvc_pull()["fetched"] == 5
    assert without_site_cache(dvc) == before
    client.dvc_add("datasets/train.csv")
    assert client.dvc_push()["url"] == str(dvc / "remote")


def test_a_moved_base(
    base: Path, client: MLOpsClient, dvc: Path, tmp_path: Path
) -> None:
    client.dvc_add("datasets")
    base.rename(tmp_path / "moved")
    assert (
        failed(client.dvc_push, component="workspace").details["reason"]
        == "WORKSPACE_NOT_FOUND"
    )
    moved = DVCClient(ProjectWorkspace.load_metadata(tmp_path / "moved/fraud"), {})
    assert moved.push()["url"] == str(tmp_path / "moved/fraud/dvc/remote")
    assert moved.count() == {"tracked": 3} and not base.exists()
    # Move it back, so that the fixture finds its server.
    (tmp_path / "moved").rename(base)


def test_what_the_user_configured_follows_unless_it_is_elsewhere(
    base: Path,
    client: MLOpsClient,
    dvc: Path,
    manager: WorkspaceManager,
    tmp_path: Path,
) -> None:
    manager.update_workspace_metadata(
        "fraud", dvc_remote_path=str(base / "fraud/outputs/store")
    )
    client.dvc_add("datasets/train.csv")
    with (dvc / ".dvc/config").open("a") as config:
        config.write(
            f"[cache]\n    type = symlink\n    dir = {dvc}/.dvc/other\n# A comment\n"
        )
        config.write(f"['remote \"backup\"']\n    url = {base}/fraud/outputs/backup\n")
    local = (
        f"['remote \"far\"']\n    url = {tmp_path}/far\n"
        f"['remote \"near\"']\n    url = file://{base}/fraud/near\n"
    )
    write(dvc / ".dvc/config.local", local)
    client.dvc_add("datasets/test.csv")
    assert (dvc / "datasets/test.csv").is_symlink()
    place = copied(base, "fraud", "fraud2")
    copy = MLOpsClient("fraud2", workspace_manager=manager)
    assert copy.dvc_push(["datasets/test.csv"], remote="backup")["url"] == str(
        base / "fraud2/outputs/backup"
    )
    assert copy.dvc_push(["datasets/test.csv"], remote="far")["url"] == str(
        tmp_path / "far"
    )
    assert copy.dvc_push(["datasets/test.csv"])["url"] == str(
        base / "fraud2/outputs/store"
    )
    config, local = (
        (place / ".dvc/config").read_text(),
        (place / ".dvc/config.local").read_text(),
    )
    assert (
        f"dir = {place}/.dvc/other\n# A comment\n" in config
        and f"{base}/fraud/" not in config + local
    )
    assert f"url = file://{base}/fraud2/near\n" in local
    assert (place / "datasets/test.csv").resolve().is_relative_to(place)
    assert (
        not (base / "fraud/outputs/store").exists()
        and not (base / "fraud/outputs/backup").exists()
    )


# --- Odd paths ----------------------------------------------------------------

ODD = [
    "jürgen #%(x)s${y}{z}{ ,;'\"[a]*?!~\\\n ",
    "'''\"\"\"\u2028\x85\x01:",
    "~nobody",
    "file:",
]


def plain_workspace(root: Path) -> ProjectWorkspace:
    """Creates a workspace without a server."""
    root.mkdir(parents=True)
    write(root / "workspace.yaml", "project_name: fraud\n")
    return ProjectWorkspace("fraud", root)


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_any_path(tmp_path: Path, name: str) -> None:
    inside = DVCClient(plain_workspace(tmp_path / name / "fraud"), {})
    absolute = DVCClient(
        plain_workspace(tmp_path / "a/fraud"),
        {"remote_path": str(tmp_path / name / "remote")},
    )
    relative = DVCClient(
        plain_workspace(tmp_path / "r/fraud"), {"remote_path": f"stores/{name}"}
    )
    for client in (inside, absolute, relative):
        root = client._workspace.dvc_path
        client.add("datasets")
        assert client.push()["pushed"] == 4
        lose_cache(root)
        shutil.rmtree(root / "datasets")
        assert client.pull(["datasets/train.csv"])["added"] == 1
        assert client.pull()["added"] == 2
        assert client.push([root / "datasets.dvc"])["pushed"] == 0
        assert not client.add("datasets")["changed"] and client.push()["pushed"] == 0
    assert sorted(os.listdir(tmp_path)) == sorted({name, "a", "r", "datasets"})
    assert sorted(os.listdir(tmp_path / "r/fraud/dvc/stores")) == [name]


def test_a_copy_of_what_the_first_release_configured(tmp_path: Path) -> None:
    old, new = tmp_path / "old/dvc", tmp_path / "new/dvc"
    lines = [
        "[core]",
        f"site_cache_dir = {old}/.dvc/site-cache",
        "['remote \"workspace\"']",
        f"url = {old}/remote",
        "",
    ]
    write(new / ".dvc/config", "\n".join(lines))
    dvc_config.update(new, str(new / "remote"))
    assert Config(str(new / ".dvc"))["remote"]["workspace"]["url"] == str(
        new / "remote"
    )
    assert str(old) not in (new / ".dvc/config").read_text() and not old.exists()


def test_the_configuration_is_what_dvc_reads(tmp_path: Path) -> None:
    root = tmp_path / ODD[0].replace("%(x)s", "%") / "fraud/dvc"
    for remote in (tmp_path / "dönnées/remote", root / "remote"):
        write(
            root / ".dvc/config",
            "[core]\n    remote = Backup\n['remote \"backup\"']\n    url = /x\n",
        )
        dvc_config.update(root, str(remote))
        read = Config(str(root / ".dvc"))
        assert {name: of["url"] for name, of in read["remote"].items()} == {
            "backup": "/x",
            "workspace": str(remote),
        }
        assert (
            read["core"]["site_cache_dir"] == str(root / ".dvc/site-cache")
            and read["core"]["remote"] == "backup"
        )


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    workspace = plain_workspace(tmp_path / name / "fraud")
    with pytest.raises(MLOpsClientError, match="is not UTF-8"):
        DVCClient(workspace, {}).add("datasets")
    assert not workspace.dvc_path.exists()
    plain = DVCClient(
        plain_workspace(tmp_path / "a/fraud"), {"remote_path": str(tmp_path / name)}
    )
    with pytest.raises(MLOpsClientError) as caught:
        plain.push()
    assert caught.value.details == {
        "reason": "INPUT_INVALID",
        "field": "dvc_remote_path",
    }


def test_a_deleted_workspace_does_not_come_back(
    manager: WorkspaceManager, client: MLOpsClient, dvc: Path
) -> None:
    manager.delete_workspace("fraud", force=True)
    with pytest.raises(MLOpsClientError) as caught:
        client.dvc_add("datasets")
    assert caught.value.details["reason"] == "WORKSPACE_NOT_LOCAL" and not dvc.exists()


def test_counting_makes_no_repository(client: MLOpsClient, dvc: Path) -> None:
    assert client._dvc().count() == {"tracked": 0} and not list(dvc.iterdir())
    client.dvc_add("datasets")
    client.dvc_add(write(Path("one"), "1"))
    assert client._dvc().count() == {"tracked": 4}


def test_a_thousand_files(client: MLOpsClient, dvc: Path) -> None:
    for i in range(1000):
        write(Path("many", f"{i}.txt"), str(i))
    assert client.dvc_add("many")["files"] == 1000
    assert client.dvc_push()["pushed"] == 1001
    lose_cache(dvc)
    shutil.rmtree(dvc / "many")
    assert client.dvc_pull()["added"] == 1000
    assert len(data(dvc / "many")) == 1000


def test_the_umask_of_the_process_is_let_alone(
    dvc: Path, client: MLOpsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding and pushing never call os.umask.

    DVC's own site cache sets the umask to 0 for a moment, and two threads that do so at
    once can leave it at 0.
    """
    assert client.dvc_add("datasets/test.csv")["success"]
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("umask"))
    assert (
        client.dvc_add("datasets/train.csv")["success"]
        and client.dvc_push()["pushed"] == 2
    )
    assert isinstance(vars(Repository)["site_cache_dir"], property)
