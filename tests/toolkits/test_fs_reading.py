"""Files that are read forward through one stream.

The tests check when the stream begins and ends, and what may interrupt it.
"""

import errno
import gc
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlops.fs import WorkspaceFileSystem, download
from mlops.fs.file import ReadableFile
from mlops.workspace import WorkspaceError

from toolkits.conftest import kill_server

MIB = 1 << 20
PATH = "fraud/models/m"


@pytest.fixture
def content(fs: WorkspaceFileSystem, base: Path) -> bytes:
    """The content of a file of a little more than 40 MiB, with many lines."""
    content = b"".join(line + b"\n" for line in os.urandom(40 * MIB + 17).split(b"\n"))
    (base / PATH).write_bytes(content)
    return content


def streaming(fs: WorkspaceFileSystem) -> ReadableFile:
    """Opens the file and reads 2 MiB, which starts the stream."""
    file = fs.open(PATH, block_size=MIB)
    assert len(file.read(MIB)) == MIB and not has_call(file)
    assert len(file.read(MIB)) == MIB and has_call(file)
    return file


def has_call(file: ReadableFile) -> bool:
    return file._forward is not None and file._forward._download._call is not None


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.parametrize("size", [777, 64 << 10, MIB, 3 * MIB + 1, -1])
def test_reads_of_any_size(fs: WorkspaceFileSystem, content: bytes, size: int) -> None:
    with streaming(fs) as file:
        pieces = list(iter(lambda: file.read(size), b""))
        assert b"".join(pieces) == content[2 * MIB :] and file.tell() == len(content)
        assert all(len(piece) == size for piece in pieces[:-1])
        assert not has_call(file) and file.read(size) == b""


def test_reads_into_buffers(fs: WorkspaceFileSystem, content: bytes) -> None:
    got, buffer = bytearray(), bytearray(3 * MIB + 5)
    with streaming(fs) as file:
        while size := file.readinto(buffer):
            got += buffer[:size]
    assert got == content[2 * MIB :]


def test_lines(fs: WorkspaceFileSystem, content: bytes) -> None:
    with fs.open(PATH, block_size=MIB) as file:
        assert list(file) == [line + b"\n" for line in content.split(b"\n")[:-1]]
        file.seek(0)
        wanted = io.BytesIO(content)
        assert [file.readline(100) for _ in range(1000)] == [
            wanted.readline(100) for _ in range(1000)
        ]
        file.seek(0)
        assert content.startswith(file.read1()) and file.read1(0) == b""
    with fs.open(PATH, "r", encoding="latin-1", newline="") as file:
        assert "".join(file) == content.decode("latin-1")


def test_what_is_read_ahead_is_not_read_again_by_a_small_step_back(
    fs: WorkspaceFileSystem, content: bytes
) -> None:
    with streaming(fs) as file:
        before = file._forward
        file.seek(-10, os.SEEK_CUR)
        assert (
            file.read(20) == content[2 * MIB - 10 : 2 * MIB + 10]
            and file._forward is before
        )


def test_a_seek_ends_the_stream_and_another_begins_after_a_block(
    fs: WorkspaceFileSystem, content: bytes
) -> None:
    with streaming(fs) as file:
        file.seek(-100, os.SEEK_END)
        assert file.read(10) == content[-100:-90] and not has_call(file)
        file.seek(10 * MIB)
        for i in range(10, 14):
            assert file.read(MIB) == content[i * MIB :][:MIB] and has_call(file) == (
                i > 10
            )


def test_closing_ends_the_stream(fs: WorkspaceFileSystem, content: bytes) -> None:
    file = streaming(fs)
    call = file._forward._download._call
    file.close()
    assert not call.is_active()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    call = streaming(fs)._forward._download._call
    # The unclosed file was garbage-collected, which ends its stream.
    gc.collect()
    assert not call.is_active()


def test_a_stream_that_rests_is_given_back_and_gone_on_with(
    fs: WorkspaceFileSystem, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_IDLE_S", 0.2)
    with streaming(fs) as file:
        for i in range(2, 5):
            wait_for(lambda: not has_call(file))
            assert file.read(2 * MIB) == content[2 * i - 2 << 20 :][: 2 * MIB]
    wait_for(lambda: download._IDLE._runs_in == -1)


def test_more_readers_than_the_server_has_streams_for(
    fs: WorkspaceFileSystem, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_IDLE_S", 0.2)
    # More than the default of --max-artifact-streams: idle streams must be given back.
    files = [streaming(fs) for _ in range(150)]
    assert {file.read(MIB) for file in files} == {content[2 * MIB : 3 * MIB]}


def test_kill_9_in_the_middle(
    fs: WorkspaceFileSystem, base: Path, content: bytes
) -> None:
    got = b""
    with streaming(fs) as file:
        while piece := file.read(5 * MIB):
            got += piece
            kill_server(base)
    assert got == content[2 * MIB :]


def test_a_file_that_is_replaced_is_read_on_or_an_error_never_a_mixture(
    fs: WorkspaceFileSystem, content: bytes
) -> None:
    with streaming(fs) as file, streaming(fs) as other:
        fs.pipe_file(PATH, bytes(len(content)))
        assert file.read() == content[2 * MIB :]
        other._forward._download.pause()
        with pytest.raises(OSError) as caught:
            other.read(4 * MIB)
        assert caught.value.errno == errno.ESTALE and isinstance(
            caught.value.__cause__, WorkspaceError
        )
        assert other.tell() == 2 * MIB


def test_a_file_that_is_cut_off_is_an_error_at_its_end(
    fs: WorkspaceFileSystem, base: Path, content: bytes
) -> None:
    with streaming(fs) as file:
        os.truncate(base / PATH, 39 * MIB)
        with pytest.raises(OSError) as caught:
            file.read()
    assert caught.value.errno == errno.ESTALE


def test_an_interrupted_read_can_be_repeated(
    fs: WorkspaceFileSystem, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []

    def receive(self: download.Download) -> memoryview:
        received.append(next_piece(self))
        if len(received) == 3:
            raise KeyboardInterrupt
        return received[-1]

    next_piece = download.Download.__next__
    with streaming(fs) as file:
        monkeypatch.setattr(download.Download, "__next__", receive)
        with pytest.raises(KeyboardInterrupt):
            file.readinto(bytearray(5 * MIB))
        assert file.read(5 * MIB) == content[2 * MIB : 7 * MIB]


def test_a_fork(fs: WorkspaceFileSystem, content: bytes) -> None:
    with streaming(fs) as file:
        if not (pid := os.fork()):
            os._exit(0 if file.read() == content[2 * MIB :] else 1)
        assert file.read() == content[2 * MIB :]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_who_stops_reading_costs_little(fs: WorkspaceFileSystem, base: Path) -> None:
    with (base / PATH).open("wb") as file:
        file.truncate(500 * MIB)
    before = resident_bytes()
    with streaming(fs):
        time.sleep(0.5)
        assert resident_bytes() - before < 50 * MIB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
