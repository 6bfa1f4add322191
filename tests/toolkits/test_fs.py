"""Files of workspaces through fsspec, with a real server that tests interrupt."""

import asyncio
import errno
import hashlib
import multiprocessing
import os
import pickle
import pty
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from fsspec.callbacks import Callback
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from mlops.cli import BINARY
from mlops.fs import WorkspaceFileSystem
from mlops.fs.by_wire import ByWire
from mlops.fs.download import Download
from mlops.workspace import WorkspaceError, WorkspaceManager
from pyarrow import dataset

from support import server
from support.server import Server
from toolkits.conftest import kill_server, killing

MIB = 1 << 20


def staged(base: Path) -> list[Path]:
    return list((base / "fraud/.uploads").glob("*.part"))


# --- Listing ------------------------------------------------------------------


def test_the_root_lists_projects_and_a_project_its_five_directories(
    fs: WorkspaceFileSystem, manager: WorkspaceManager
) -> None:
    manager.create_workspace("churn")
    assert fs.ls("workspace://", detail=False) == ["churn", "fraud"]
    assert [path.split("/")[1] for path in fs.ls("fraud", detail=False)] == [
        "dvc", "mlflow", "models", "monitoring", "outputs",
    ]  # fmt: skip
    assert (
        fs.isdir("")
        and fs.isdir("fraud")
        and not fs.isfile("fraud")
        and fs.created("fraud") <= fs.modified("fraud")
    )


def test_a_file_is_told_with_its_facts(fs: WorkspaceFileSystem) -> None:
    fs.pipe("workspace://fraud/outputs/run/a.txt", b"abc")
    info = fs.info("workspace://fraud/outputs/run/a.txt")
    assert (info["name"], info["size"], info["type"]) == (
        "fraud/outputs/run/a.txt",
        3,
        "file",
    )
    assert fs.checksum(info["name"]) == hashlib.sha256(b"abc").hexdigest()
    assert fs.modified(info["name"]) == fs.created(info["name"]) == info["modified"]
    before = fs.ukey(info["name"])
    fs.pipe("fraud/outputs/run/a.txt", b"abd")
    assert fs.ukey(info["name"]) != before


def test_find_glob_and_walk(fs: WorkspaceFileSystem) -> None:
    fs.pipe(
        {
            f"fraud/outputs/{name}": b"x"
            for name in ("a.csv", "d/b.csv", "d/e/c.csv", "d/e/c.txt")
        }
    )
    assert fs.find("fraud/outputs/d") == [
        "fraud/outputs/d/b.csv",
        "fraud/outputs/d/e/c.csv",
        "fraud/outputs/d/e/c.txt",
    ]
    assert fs.glob("fraud/outputs/**/*.csv") == [
        f"fraud/outputs/{n}" for n in ("a.csv", "d/b.csv", "d/e/c.csv")
    ]
    assert [(path, dirs) for path, dirs, _ in fs.walk("fraud/outputs/d")] == [
        ("fraud/outputs/d", ["e"]),
        ("fraud/outputs/d/e", []),
    ]
    assert (
        fs.find("fraud/outputs/d/b.csv") == ["fraud/outputs/d/b.csv"]
        and fs.find("fraud/outputs/none") == []
    )
    assert fs.find("fraud/outputs", withdirs=True, detail=True).keys() >= {
        "fraud/outputs",
        "fraud/outputs/d/e",
    }


def test_more_than_a_page_is_listed(fs: WorkspaceFileSystem, base: Path) -> None:
    directory = base / "fraud/outputs/many"
    directory.mkdir()
    for i in range(1001):
        (directory / f"{i:04}").touch()
    assert (
        len(fs.ls("fraud/outputs/many")) == len(fs.find("fraud/outputs/many")) == 1001
    )


def test_a_name_that_is_not_utf8_is_listed_read_and_deleted(
    fs: WorkspaceFileSystem, base: Path
) -> None:
    Path(os.fsdecode(os.fsencode(base / "fraud/outputs") + b"/caf\xe9")).write_bytes(
        b"au lait"
    )
    assert fs.ls("fraud/outputs", detail=False) == ["fraud/outputs/caf\\xe9"]
    assert fs.cat_file("fraud/outputs/caf\\xe9") == b"au lait"
    fs.rm("fraud/outputs/caf\\xe9")
    assert os.listdir(base / "fraud/outputs") == []


# --- Reading and writing ------------------------------------------------------


def test_pandas_reads_and_writes_by_url(fs: WorkspaceFileSystem, base: Path) -> None:
    frame = pd.DataFrame(
        {"amount": range(1000), "fraud": [i % 7 == 0 for i in range(1000)]}
    )
    frame.to_parquet(
        "workspace://fraud/dvc/train.parquet", storage_options={"base_path": base}
    )
    back = pd.read_parquet(
        "workspace://fraud/dvc/train.parquet", storage_options={"base_path": base}
    )
    pd.testing.assert_frame_equal(back, frame)
    pd.testing.assert_frame_equal(
        pd.read_parquet(base / "fraud/dvc/train.parquet"), frame
    )
    frame.to_csv(
        "workspace://fraud/dvc/train.csv.gz",
        index=False,
        storage_options={"base_path": str(base)},
    )
    assert (
        len(
            pd.read_csv(
                "workspace://fraud/dvc/train.csv.gz",
                storage_options={"base_path": base},
            )
        )
        == 1000
    )


def test_arrow_and_caches_of_fsspec_take_it(
    fs: WorkspaceFileSystem, base: Path
) -> None:
    for part in range(2):
        pd.DataFrame({"a": range(10)}).to_parquet(
            f"workspace://fraud/dvc/parts/{part}.parquet",
            storage_options={"base_path": base},
        )
    assert dataset.dataset("fraud/dvc/parts", filesystem=fs).to_table().num_rows == 20
    with fsspec.open(
        "simplecache::workspace://fraud/dvc/parts/0.parquet",
        workspace={"base_path": base},
    ) as file:
        assert file.read() == fs.cat_file("fraud/dvc/parts/0.parquet")
    mapper = fs.get_mapper("fraud/outputs/map")
    mapper["a/b"] = b"1"
    assert dict(mapper) == {"a/b": b"1"}


def test_without_options_the_server_is_found_as_the_manager_finds_it(
    fs: WorkspaceFileSystem, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_ADDRESS", f"unix:{base}/.workspaced/socket")
    with fsspec.open(
        "workspace://fraud/outputs/note.txt", "w", encoding="utf-8"
    ) as file:
        file.write("grüße\n")
    with fsspec.open(
        "workspace://fraud/outputs/note.txt", "r", encoding="utf-8"
    ) as file:
        assert file.read() == "grüße\n"


def test_reading_seeks(fs: WorkspaceFileSystem) -> None:
    content = os.urandom(5 * MIB + 17)
    fs.pipe_file("fraud/models/m", content)
    with fs.open("fraud/models/m", block_size=MIB) as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == content[-10:] and file.read() == b""
        file.seek(MIB - 5)
        assert file.read(10) == content[MIB - 5 : MIB + 5] and file.tell() == MIB + 5
        assert pickle.loads(pickle.dumps(file)).read(3) == content[MIB + 5 : MIB + 8]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (2, 5),
        (5, 2),
        (3, 3),
        (-4, None),
        (None, -4),
        (-4, -2),
        (90, 200),
        (200, 300),
    ],
)
def test_ranges_are_those_of_a_slice(
    fs: WorkspaceFileSystem, start: int | None, end: int | None
) -> None:
    content = bytes(range(100))
    fs.pipe_file("fraud/outputs/a", content)
    assert fs.cat_file("fraud/outputs/a", start, end) == content[start:end]


def test_several_ranges_at_once(fs: WorkspaceFileSystem) -> None:
    fs.pipe({"fraud/outputs/a": b"abcdef", "fraud/outputs/b": b"ghijkl"})
    paths = ["fraud/outputs/a", "fraud/outputs/none", "fraud/outputs/b"]
    first, absent, last = fs.cat_ranges(paths, [1, 0, 2], 4)
    assert (first, last) == (b"bcd", b"ij") and isinstance(absent, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")


def test_nothing_is_visible_before_close(fs: WorkspaceFileSystem, base: Path) -> None:
    fs.pipe_file("fraud/models/m", b"old")
    with fs.open("fraud/models/m", "wb") as file:
        for _ in range(5):
            file.write(b"n" * MIB)
        assert (base / "fraud/models/m").read_bytes() == b"old" and staged(base)
    assert (base / "fraud/models/m").stat().st_size == 5 * MIB and not staged(base)


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("chunks", [1, 40])
def test_an_exception_leaves_the_old_file(
    fs: WorkspaceFileSystem, base: Path, mode: str, chunks: int
) -> None:
    fs.pipe_file("fraud/models/m", b"old")
    url, chunk = (
        "workspace://fraud/models/m",
        "n" * 100_000 if mode == "w" else b"n" * 100_000,
    )
    for opened in (
        fs.open(url, mode),
        fsspec.open(url, mode, base_path=base),
        fsspec.open(url, mode, base_path=base),
    ):
        with pytest.raises(KeyError), opened as file:
            for _ in range(chunks):
                file.write(chunk)
            raise KeyError
    assert fs.cat_file("fraud/models/m") == b"old" and not staged(base)


def test_a_file_written_while_an_older_exception_is_handled_is_kept(
    fs: WorkspaceFileSystem,
) -> None:
    try:
        raise KeyError
    except KeyError:
        with fs.open("fraud/outputs/report", "wb") as file:
            file.write(b"failed")
    assert fs.cat_file("fraud/outputs/report") == b"failed"


def test_a_file_that_is_never_closed_is_not_written(fs: WorkspaceFileSystem) -> None:
    file = fs.open("fraud/outputs/a", "wb")
    file.write(b"half")
    with pytest.warns(ResourceWarning, match="never closed"):
        del file
    assert not fs.exists("fraud/outputs/a")


def test_a_transaction_commits_all_or_none(fs: WorkspaceFileSystem) -> None:
    with fs.transaction:
        for name in "ab":
            with fs.open(f"fraud/outputs/{name}", "wb") as file:
                file.write(b"x" * 3 * MIB)
        assert fs.ls("fraud/outputs") == []
    assert fs.du("fraud/outputs") == 6 * MIB
    with pytest.raises(KeyError), fs.transaction:
        fs.open("fraud/outputs/c", "wb").close()
        raise KeyError
    assert not fs.exists("fraud/outputs/c")


def test_a_file_that_is_replaced_while_it_is_read_is_an_error_not_a_mixture(
    fs: WorkspaceFileSystem,
) -> None:
    fs.pipe_file("fraud/models/m", b"a" * 3 * MIB)
    with fs.open("fraud/models/m", block_size=MIB, cache_type="none") as file:
        assert file.read(5) == b"aaaaa"
        fs.pipe_file("fraud/models/m", b"b" * 3 * MIB)
        with pytest.raises(OSError) as caught:
            file.read(5)
    assert caught.value.errno == errno.ESTALE and isinstance(
        caught.value.__cause__, WorkspaceError
    )


# --- Moving, deleting and errors ----------------------------------------------


def test_move_copy_and_delete(
    fs: WorkspaceFileSystem, manager: WorkspaceManager
) -> None:
    manager.create_workspace("churn")
    fs.pipe({"fraud/outputs/d/a": b"a", "fraud/outputs/d/e/b": b"b"})
    fs.mv("fraud/outputs/d", "fraud/outputs/moved")
    fs.mv("fraud/outputs/moved/a", "fraud/models/")
    fs.cp("fraud/models/a", "churn/models/a")
    fs.cp("fraud/outputs/moved", "churn/outputs/copy", recursive=True)
    assert fs.find("fraud") == ["fraud/models/a", "fraud/outputs/moved/e/b"]
    assert fs.find("churn") == ["churn/models/a", "churn/outputs/copy/e/b"]
    fs.mv("churn/outputs/copy", "fraud/outputs/back", recursive=True)
    fs.rm(["fraud/outputs/moved", "fraud/models/a"], recursive=True)
    assert fs.find("") == ["churn/models/a", "fraud/outputs/back/e/b"]


def test_directories(fs: WorkspaceFileSystem) -> None:
    fs.mkdir("fraud/outputs/a/b")
    fs.makedirs("fraud/outputs/a/b", exist_ok=True)
    for make in (fs.mkdir, fs.makedirs):
        with pytest.raises(FileExistsError):
            make("fraud/outputs/a/b")
    with pytest.raises(FileNotFoundError):
        fs.mkdir("fraud/outputs/x/y", create_parents=False)
    with pytest.raises(OSError, match="force"):
        fs.rmdir("fraud/outputs/a")
    fs.rmdir("fraud/outputs/a/b")
    assert fs.ls("fraud/outputs/a") == []


def test_errors_are_those_of_files(fs: WorkspaceFileSystem) -> None:
    fs.pipe_file("fraud/outputs/file", b"x")
    for path in (
        "none/outputs/a",
        "fraud/outputs/none",
        "fraud/other/a",
        "fraud/outputs/../../x",
        "bad name/a",
    ):
        assert not fs.exists(path)
        for call in (fs.info, fs.ls, fs.cat_file, fs.open, fs.checksum):
            with pytest.raises(FileNotFoundError) as caught:
                call(path)
            assert isinstance(caught.value.__cause__, WorkspaceError)
    for directory in ("", "fraud", "fraud/outputs"):
        for mode in ("rb", "wb"):
            with pytest.raises(IsADirectoryError):
                fs.open(directory, mode)
        with pytest.raises(IsADirectoryError):
            fs.cat_file(directory)
    with pytest.raises(FileNotFoundError, match="none"):
        fs.open("none/outputs/a", "wb")
    with pytest.raises(NotADirectoryError):
        fs.pipe_file("fraud/outputs/file/a", b"x")
    with pytest.raises(PermissionError):
        fs.rm("fraud", recursive=True)
    with pytest.raises(OSError, match="directories"):
        fs.rm("fraud/outputs", recursive=True)
    with pytest.raises(FileExistsError):
        fs.makedirs("fraud/outputs/file", exist_ok=True)
    with pytest.raises(NotImplementedError, match="'ab'"):
        fs.open("fraud/outputs/file", "ab")


def test_a_server_that_is_not_there_is_no_answer(base: Path) -> None:
    fs = WorkspaceFileSystem(address=f"unix:{base}/none")
    for call in (fs.exists, fs.cat_file):
        with pytest.raises(ConnectionError, match="is it running"):
            call("fraud/outputs/a")
    with pytest.raises(OSError, match="HOST:PORT"):
        WorkspaceFileSystem(address="nonsense")


# --- Copying files in and out -------------------------------------------------


def test_put_and_get_tell_their_progress(
    fs: WorkspaceFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in ("a", "sub/b", "sub/empty"):
        (tmp_path / "in" / name).write_bytes(
            b"" if name == "sub/empty" else os.urandom(2 * MIB + 5)
        )
    up, down = Callback(), Callback()
    fs.put(f"{tmp_path}/in", "fraud/outputs/in", recursive=True, callback=up)
    fs.get("fraud/outputs/in", f"{tmp_path}/out", recursive=True, callback=down)
    assert up.size == up.value >= 4 and down.size == down.value >= 4
    one = Callback()
    fs.get_file("fraud/outputs/in/a", tmp_path / "a", callback=one)
    assert one.size == one.value == 2 * MIB + 5
    for name in ("a", "sub/b", "sub/empty"):
        assert (tmp_path / "in" / name).read_bytes() == (
            tmp_path / "out" / name
        ).read_bytes()


def test_a_copy_that_fails_leaves_no_half(
    fs: WorkspaceFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(FileNotFoundError):
        fs.get_file("fraud/outputs/none", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"mine"
    with pytest.raises(FileNotFoundError):
        fs.get("fraud/outputs/none", str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


def test_of_many_copies_one_that_fails_is_told_and_the_others_are_whole_or_not_there(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(200):
        (tmp_path / f"in/{i}").write_bytes(b"x" * 10_000)
    fs.mkdir("fraud/outputs/many/50")
    with pytest.raises(IsADirectoryError):
        fs.put(f"{tmp_path}/in/", "fraud/outputs/many/", recursive=True)
    assert {fs.size(path) for path in fs.find("fraud/outputs/many")} <= {
        10_000
    } and not staged(base)
    fs.rm("fraud/outputs/many/50")
    fs.put(f"{tmp_path}/in/", "fraud/outputs/many/", recursive=True)
    (tmp_path / "out/50").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        fs.get("fraud/outputs/many/", f"{tmp_path}/out/", recursive=True)
    assert {
        path.stat().st_size for path in (tmp_path / "out").iterdir() if path.is_file()
    } <= {10_000}
    (tmp_path / "out/50").rmdir()
    fs.get("fraud/outputs/many/", f"{tmp_path}/out/", recursive=True)
    assert (
        len(os.listdir(tmp_path / "out")) == len(fs.find("fraud/outputs/many")) == 200
    )


def test_a_bar_is_shown_on_a_terminal_alone() -> None:
    code = """
from mlops.fs import progress
with progress() as bars:
    bars.set_size(1)
    with bars.branched("in/one", "out/one") as bar:
        bar.set_size(10)
        bar.relative_update(10)
    bars.relative_update()
"""
    ours, its = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=its, check=True, timeout=60)
    os.close(its)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert b"files" in shown and b"100%" in shown
    silent = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=60
    )
    assert not silent.stdout + silent.stderr


# --- Access by path -----------------------------------------------------------


@pytest.mark.parametrize("by_address", [False, True])
def test_a_file_on_this_machine_is_read_by_its_path(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path, by_address: bool
) -> None:
    address = f"unix:{base}/.workspaced/socket" if by_address else None
    near = WorkspaceFileSystem(base_path=base, address=address)
    content = os.urandom(3 * MIB)
    near.pipe_file("fraud/models/m", content)
    assert (
        near.local_path("fraud/models/m") == str(base / "fraud/models/m")
        and fs.local_path("fraud/models/m") is None
    )
    bar = Callback()
    near.get_file("fraud/models/m", tmp_path / "m", callback=bar)
    assert (tmp_path / "m").read_bytes() == content and bar.value == bar.size == len(
        content
    )
    with near.open("fraud/models/m", cache_type="none") as file:
        near.pipe_file("fraud/models/m", b"another")
        file.seek(MIB)
        assert file.read(MIB) == content[MIB : 2 * MIB]
    (base / "fraud/outputs/link").symlink_to(base / "fraud/models/m")
    near.pipe_file("fraud/outputs/empty", b"")
    near.get_file("fraud/outputs/empty", tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


def test_another_file_of_the_same_name_is_not_taken_for_it(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path
) -> None:
    """The same path may exist on another machine, even as a copy with equal times."""
    fs.pipe_file("fraud/models/m", b"theirs")
    (tmp_path / "fraud/models").mkdir(parents=True)
    shutil.copy2(base / "fraud/models/m", tmp_path / "fraud/models/m")
    near = WorkspaceFileSystem(base_path=base)
    near._base.directory = tmp_path
    assert near.local_path("fraud/models/m") is None
    assert near.open("fraud/models/m").read() == b"theirs"


def test_a_file_written_over_in_place_is_an_error_not_a_mixture(
    fs: WorkspaceFileSystem, base: Path
) -> None:
    fs.pipe_file("fraud/models/m", b"a" * MIB)
    near = WorkspaceFileSystem(base_path=base)
    with near.open("fraud/models/m", cache_type="none") as file:
        assert file.read(5) == b"aaaaa"
        (base / "fraud/models/m").write_bytes(b"b" * MIB)
        with pytest.raises(OSError) as caught:
            file.read(5)
    assert caught.value.errno == errno.ESTALE


# --- Crashes and concurrency --------------------------------------------------


def test_kill_9_in_the_middle_of_an_upload(fs: WorkspaceFileSystem, base: Path) -> None:
    content = os.urandom(50 * MIB + 3)
    with fs.open("fraud/models/m", "wb") as file:
        for i in range(0, len(content), 7 * MIB):
            if i // (7 * MIB) in (2, 5):
                kill_server(base)
            file.write(content[i : i + 7 * MIB])
    assert (base / "fraud/models/m").read_bytes() == content and not staged(base)


def test_kill_9_in_the_middle_of_a_read(fs: WorkspaceFileSystem, base: Path) -> None:
    content = os.urandom(40 * MIB)
    (base / "fraud/models/m").write_bytes(content)
    pieces = []
    for piece in Download(fs._artifacts.connection, "fraud", "models/m"):
        pieces.append(piece)
        if len(pieces) in (3, 17):
            kill_server(base)
    assert b"".join(pieces) == content


def test_kill_9_between_reads_of_an_open_file(
    fs: WorkspaceFileSystem, base: Path
) -> None:
    fs.pipe_file("fraud/models/m", b"0123456789")
    with fs.open("fraud/models/m", cache_type="none") as file:
        assert file.read(5) == b"01234"
        kill_server(base)
        assert file.read(5) == b"56789"


def test_kill_9_of_a_server_at_an_address_that_is_back_later(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BINARY", BINARY)
    with Server(base, "--listen", "127.0.0.1:0") as first:
        address = next(
            address for address in first.addresses if address.startswith("127.")
        )
        WorkspaceManager(address=address).create_workspace("fraud")
        fs = WorkspaceFileSystem(address=address, by_path=False)
        fs.pipe_file("fraud/models/old", b"0123456789")
        old, new = (
            fs.open("fraud/models/old", cache_type="none"),
            fs.open("fraud/models/new", "wb"),
        )
        assert old.read(5) == b"01234"
        new.write(b"x" * 20 * MIB)
        first.kill()

    def go_on() -> bytes:
        new.write(b"x" * 20 * MIB)
        new.close()
        return old.read(5)

    with ThreadPoolExecutor(1) as threads:
        going_on = threads.submit(go_on)
        with Server(base, "--listen", address):
            assert (
                going_on.result(60) == b"56789"
                and fs.size("fraud/models/new") == 40 * MIB
            )


def test_kill_9_while_many_small_files_are_written(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(300):
        (tmp_path / f"in/{i}").write_bytes(b"x" * 1000)
    put = threading.Thread(
        target=fs.put, args=(f"{tmp_path}/in/", "fraud/outputs/in/", True)
    )
    put.start()
    while put.is_alive() and len(list((base / "fraud/outputs").glob("in/*"))) < 100:
        time.sleep(0.005)
    kill_server(base)
    put.join()
    assert {fs.cat_file(path) for path in fs.find("fraud/outputs/in")} == {b"x" * 1000}
    assert len(fs.find("fraud/outputs/in")) == 300


def test_kill_9_again_and_again_while_files_come_and_go(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path
) -> None:
    content = os.urandom(20 * MIB)
    (tmp_path / "in").write_bytes(content)

    with killing(base):
        for i in range(5):
            fs.put_file(tmp_path / "in", f"fraud/outputs/{i}")
            fs.get_file(f"fraud/outputs/{i}", tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == content


def test_kill_9_of_the_client_leaves_the_old_file(
    fs: WorkspaceFileSystem, base: Path
) -> None:
    fs.pipe_file("fraud/models/m", b"old")
    code = """
import sys, fsspec
file = fsspec.filesystem("workspace", base_path=sys.argv[1]).open(\
"fraud/models/m", "wb")
while True:
    file.write(bytes(5 << 20))
    print("more", flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, base], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    for _ in range(4):
        assert writer.stdout.readline() == b"more\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    assert fs.cat_file("fraud/models/m") == b"old" and fs.find("fraud") == [
        "fraud/models/m"
    ]


def test_a_create_that_was_done_before_the_connection_broke_is_not_taken_for_anothers(
    fs: WorkspaceFileSystem, base: Path
) -> None:
    """The response is lost, and the retry finds the upload that the first one finished.

    A server that had forgotten the upload would report that the file exists.
    """
    upload = fs._artifacts.upload("fraud/outputs/a", create_only=True)
    writer = ByWire(upload)
    writer.write(b"x")
    writer.finish()
    upload.artifact = None
    assert writer.finish().size_bytes == 1


def _in_child(
    fs: WorkspaceFileSystem, answers: "multiprocessing.Queue[object]"
) -> None:
    fs.pipe_file("fraud/outputs/child", b"from the child")
    answers.put(fs.cat_file("fraud/outputs/parent"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_processes(fs: WorkspaceFileSystem, base: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    fs.pipe_file("fraud/outputs/parent", b"from the parent")
    answers = context.Queue()
    # The process forks while a stream is open.
    with fs.open("fraud/models/m", "wb") as file:
        file.write(b"m" * 5 * MIB)
        process = context.Process(target=_in_child, args=(fs, answers))
        process.start()
        assert answers.get(timeout=60) == b"from the parent"
        process.join(10)
        file.write(b"m" * 5 * MIB)
    assert (
        process.exitcode == 0
        and fs.cat_file("fraud/outputs/child") == b"from the child"
    )
    assert fs.size("fraud/models/m") == 10 * MIB


def test_a_fork_while_another_thread_reads(fs: WorkspaceFileSystem) -> None:
    fs.pipe_file("fraud/models/m", bytes(100 * MIB))
    stop = threading.Event()

    def read() -> int:
        count = 0
        while not stop.is_set():
            count += len(fs.cat_file("fraud/models/m")) == 100 * MIB
        return count

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        for i in range(5):
            if not (pid := os.fork()):
                try:
                    fs.pipe_file(f"fraud/outputs/{i}", b"x")
                finally:
                    os._exit(0 if fs.exists(f"fraud/outputs/{i}") else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        stop.set()
        assert reading.result() > 0


def test_a_forked_process_cannot_go_on_with_the_parents_file(
    fs: WorkspaceFileSystem,
) -> None:
    file = fs.open("fraud/outputs/a", "wb")
    file.write(b"a")
    if not (pid := os.fork()):
        try:
            file.close()
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert not fs.exists("fraud/outputs/a")
    file.close()
    assert fs.cat_file("fraud/outputs/a") == b"a"


def test_threads_share_one_connection(fs: WorkspaceFileSystem, base: Path) -> None:
    def work(i: int) -> bytes:
        mine = fsspec.filesystem("workspace", base_path=base)
        assert mine._artifacts.connection is fs._artifacts.connection
        with mine.open(f"fraud/outputs/{i}", "wb") as file:
            file.write(bytes([i]) * 3 * MIB)
        return mine.cat_file(f"fraud/outputs/{i}", 0, 1)

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(32))) == [bytes([i]) for i in range(32)]


def test_it_can_be_pickled_and_named_in_json(fs: WorkspaceFileSystem) -> None:
    fs.pipe_file("fraud/outputs/a", b"x")
    assert pickle.loads(pickle.dumps(fs)).cat_file("fraud/outputs/a") == b"x"
    assert (
        WorkspaceFileSystem.from_json(fs.to_json()).cat_file("fraud/outputs/a") == b"x"
    )


def test_memory_stays_small_while_a_large_file_is_written(
    fs: WorkspaceFileSystem,
) -> None:
    writer = ByWire(fs._artifacts.upload("fraud/outputs/large", create_only=False))
    for _ in range(200):
        writer.write(b"x" * MIB)
        assert sum(map(len, writer._kept._chunks)) <= 17 * MIB
    assert writer.finish().size_bytes == 200 * MIB


# --- Names that look like patterns --------------------------------------------

# Names that look like patterns, each with another name that the pattern would match.
MAGIC = {
    "preds[1].csv": "preds1.csv",
    "a*b": "axb",
    "v?": "v1",
    "[x]": "x",
    "[!a]*": "bc",
}


@pytest.mark.parametrize("name", MAGIC)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_name_that_exists_is_no_pattern(
    fs: WorkspaceFileSystem, tmp_path: Path, name: str, kind: str
) -> None:
    top, other = "fraud/outputs", MAGIC[name]
    inner = "" if kind == "file" else "/in"
    is_tree = kind == "directory"
    fs.pipe({f"{top}/{name}{inner}": b"mine", f"{top}/{other}{inner}": b"other"})

    assert fs.expand_path(f"{top}/{name}") == [f"{top}/{name}"]
    assert (
        fs.expand_path(f"{top}/{name}", recursive=is_tree)[-1] == f"{top}/{name}{inner}"
    )
    assert fs.find(f"{top}/{name}") == [f"{top}/{name}{inner}"]
    assert fs.cat(f"{top}/{name}{inner}") == b"mine"

    fs.get(f"{top}/{name}", f"{tmp_path}/here", recursive=is_tree)
    assert Path(f"{tmp_path}/here{inner}").read_bytes() == b"mine"
    (tmp_path / "into").mkdir()
    fs.get(f"{top}/{name}", f"{tmp_path}/into", recursive=is_tree)
    assert [
        str(path.relative_to(tmp_path / "into"))
        for path in (tmp_path / "into").rglob("*")
        if path.is_file()
    ] == [f"{name}{inner}"]

    local = tmp_path / "local"
    for one, content in ((name, b"mine"), (other, b"other")):
        (local / f"{one}{inner}").parent.mkdir(parents=True, exist_ok=True)
        (local / f"{one}{inner}").write_bytes(content)
    fs.put(f"{local}/{name}", f"{top}/put", recursive=is_tree)
    assert fs.cat_file(f"{top}/put{inner}") == b"mine"
    fs.cp(f"{top}/{name}", f"{top}/copied", recursive=is_tree)
    assert (
        fs.find(f"{top}/copied") == [f"{top}/copied{inner}"]
        and fs.cat_file(f"{top}/copied{inner}") == b"mine"
    )
    fs.mv(f"{top}/copied", f"{top}/to {name}", recursive=is_tree)
    fs.mv(f"{top}/to {name}", f"{top}/moved", recursive=is_tree)
    assert fs.cat_file(f"{top}/moved{inner}") == b"mine"

    fs.rm(f"{top}/{name}", recursive=is_tree)
    assert (
        not fs.exists(f"{top}/{name}")
        and fs.cat_file(f"{top}/{other}{inner}") == b"other"
    )
    # Without a file of that name, the argument is a pattern.
    fs.rm(f"{top}/{name}", recursive=True)
    assert not fs.exists(f"{top}/{other}")
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{top}/{name}", recursive=True)


def test_a_pattern_below_a_directory_that_looks_like_one(
    fs: WorkspaceFileSystem, tmp_path: Path
) -> None:
    fs.pipe(
        {
            f"fraud/outputs/{name}": b""
            for name in ("v?/a.csv", "v?/b.txt", "v1/c.csv", "w1/d.csv")
        }
    )
    assert fs.expand_path("fraud/outputs/v?/*.csv") == ["fraud/outputs/v?/a.csv"]
    assert fs.expand_path("fraud/outputs/w?/*.csv") == ["fraud/outputs/w1/d.csv"]
    assert fs.glob("fraud/outputs/v?/*.csv") == [
        "fraud/outputs/v1/c.csv",
        "fraud/outputs/v?/a.csv",
    ]
    assert fs.expand_path(["fraud/outputs/none*", "fraud/outputs/*/d.csv"]) == [
        "fraud/outputs/w1/d.csv"
    ]
    fs.rm("fraud/outputs/v?/*", recursive=True)
    assert fs.find("fraud/outputs") == [
        "fraud/outputs/v1/c.csv",
        "fraud/outputs/w1/d.csv",
    ]
    with pytest.raises(FileNotFoundError):
        fs.rm("fraud/outputs/w?", recursive=True, assume_literal=True)


def test_the_asynchronous_and_the_projects_view_are_alike(
    fs: WorkspaceFileSystem, manager: WorkspaceManager, tmp_path: Path
) -> None:
    fs.pipe({"fraud/outputs/p[1]": b"mine", "fraud/outputs/p1": b"other"})
    wrapped = AsyncFileSystemWrapper(fs, asynchronous=True)
    assert asyncio.run(wrapped._cat("fraud/outputs/p[1]")) == b"mine"
    files = manager.get_workspace("fraud").files
    files.get("outputs/p[1]", f"{tmp_path}/p")
    assert (tmp_path / "p").read_bytes() == b"mine"
    asyncio.run(wrapped._rm("fraud/outputs/p[1]"))
    assert files.find("") == ["outputs/p1"]
    files.pipe({"outputs/p[1]": b"mine"})
    files.rm("outputs/p[1]")
    assert files.find("") == ["outputs/p1"]


# --- Rejected copies ----------------------------------------------------------


@pytest.mark.parametrize("by_path", [False, True])
def test_what_is_no_file_is_refused_before_anything_is_sent(
    base: Path, tmp_path: Path, by_path: bool
) -> None:
    WorkspaceManager(base).create_workspace("fraud")
    fs = WorkspaceFileSystem(base_path=base, by_path=by_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"x" * 3 * MIB)
    os.mkfifo(tmp_path / "in/pipe")
    (tmp_path / "link").symlink_to(tmp_path / "in/pipe")
    for source in ("in/pipe", "link"):
        with pytest.raises(OSError, match="is a named pipe") as caught:
            fs.put_file(tmp_path / source, "fraud/outputs/b")
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="is a named pipe"):
        fs.put(f"{tmp_path}/in/", "fraud/outputs/in/", recursive=True)
    (tmp_path / "in/pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "in/socket"))
        with pytest.raises(OSError, match="is a socket"):
            fs.put(f"{tmp_path}/in/", "fraud/outputs/in/", recursive=True)
    with pytest.raises(OSError, match="is a device"):
        fs.put_file("/dev/zero", "fraud/outputs/b")
    (tmp_path / "in/socket").unlink()
    (tmp_path / "in/broken").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        fs.put(f"{tmp_path}/in/", "fraud/outputs/in/", recursive=True)
    assert fs.find("fraud") == []
    fs.pipe_file("fraud/outputs/a", b"a")
    os.mkfifo(tmp_path / "nobody reads")
    with pytest.raises(OSError) as caught:
        fs.get_file("fraud/outputs/a", tmp_path / "nobody reads")
    assert caught.value.errno == errno.ENXIO


def test_a_tree_is_not_copied_into_itself(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path
) -> None:
    fs.pipe({"fraud/outputs/a": b"a", "fraud/outputs/d/b": b"b"})
    (tmp_path / "link").symlink_to(base.parent)
    before = fs.find("fraud")
    local = base / "fraud/outputs"
    for call in (
        lambda: fs.put(f"{base.parent}", "fraud/outputs/all", recursive=True),
        lambda: fs.put(f"{tmp_path}/link/", "fraud/outputs/all/", recursive=True),
        lambda: fs.put(f"{local}", "fraud/outputs", recursive=True),
        lambda: fs.get("fraud/outputs", f"{local}/d", recursive=True),
        lambda: fs.get(
            "fraud/outputs/",
            f"{tmp_path}/link/{base.name}/fraud/outputs/new/",
            recursive=True,
        ),
        lambda: fs.cp("fraud/outputs", "fraud/outputs/d", recursive=True),
    ):
        with pytest.raises(
            OSError, match="contains the destination of the copy"
        ) as caught:
            call()
        assert caught.value.errno == errno.EINVAL and fs.find("fraud") == before
    # A name that shares only a prefix is not inside the tree.
    fs.cp("fraud/outputs/d", "fraud/outputs/d2", recursive=True)
    assert fs.find("fraud/outputs/d2") == ["fraud/outputs/d2/b"]


def test_a_file_is_not_emptied_by_a_copy_onto_itself(
    fs: WorkspaceFileSystem, base: Path, tmp_path: Path
) -> None:
    fs.pipe_file("fraud/outputs/a", b"precious")
    (tmp_path / "link").symlink_to(base / "fraud/outputs/a")
    for place in (base / "fraud/outputs/a", tmp_path / "link"):
        with pytest.raises(OSError, match="are the same file"):
            fs.get_file("fraud/outputs/a", place)
    assert fs.cat_file("fraud/outputs/a") == b"precious"


def test_a_small_file_has_an_id_by_which_it_is_not_sent_twice(
    fs: WorkspaceFileSystem,
) -> None:
    """The response to the first attempt is lost, so the client sends it again."""
    upload = fs._artifacts.upload("fraud/outputs/a", create_only=False)
    writer = ByWire(upload)
    writer.write(b"x")
    finished = writer.finish()
    assert upload.head.upload_id
    upload.artifact = None
    assert writer.finish().etag == finished.etag == fs.info("fraud/outputs/a")["etag"]
