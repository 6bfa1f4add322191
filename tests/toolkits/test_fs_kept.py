"""The bytes that an upload keeps until the server has acknowledged them."""

import pytest
from mlops.fs.kept import CHUNK_BYTES, Kept, cut


def kept(*sizes: int) -> Kept:
    """Returns chunks of these sizes, each of another byte."""
    result = Kept()
    for byte, size in enumerate(sizes):
        result.append(bytes([byte]) * size)
    return result


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_of_any_size_is_cut_into_full_chunks(kind: type) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 32)
    rest, chunks, at = bytearray(), [], 0
    for size in (0, 5, CHUNK_BYTES - 6, 1, 2 * CHUNK_BYTES, CHUNK_BYTES - 1, 3):
        chunks += cut(kind(content[at : at + size]), rest)
        at += size
    assert b"".join(chunks) + rest == content[:at]
    assert {len(chunk) for chunk in chunks} == {CHUNK_BYTES}
    assert len(rest) == at % CHUNK_BYTES


def test_a_full_chunk_is_not_copied() -> None:
    chunk = bytes(CHUNK_BYTES)
    assert next(cut(chunk, bytearray())) is chunk


def test_what_follows_an_offset() -> None:
    chunks = kept(3, 2, 4)
    assert list(chunks.after(0)) == [b"\0\0\0", b"\1\1", b"\2\2\2\2"]
    assert list(chunks.after(3)) == [b"\1\1", b"\2\2\2\2"]
    assert list(chunks.after(6)) == [b"\2\2\2"]
    assert list(chunks.after(9)) == []


def test_only_whole_chunks_are_released() -> None:
    chunks = kept(3, 2, 4)
    chunks.acknowledge(4)
    assert list(chunks.after(4)) == [b"\1", b"\2\2\2\2"]
    chunks.acknowledge(3)
    assert chunks.acknowledged == 4 and not chunks.is_one_chunk()
    chunks.acknowledge(5)
    assert chunks.is_one_chunk() and list(chunks.after(5)) == [b"\2\2\2\2"]


def test_a_server_that_lost_released_bytes_cannot_continue() -> None:
    chunks = kept(3, 2, 4)
    chunks.acknowledge(6)
    assert chunks.restart(5) and chunks.acknowledged == 5
    assert list(chunks.after(5)) == [b"\2\2\2\2"]
    assert not chunks.restart(4)
