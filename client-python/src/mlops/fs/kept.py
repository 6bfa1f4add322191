"""The bytes of an upload that the server may still lack."""

from collections import deque
from collections.abc import Iterator

CHUNK_BYTES = 1 << 20


def cut(data: bytes | bytearray | memoryview, rest: bytearray) -> Iterator[bytes]:
    """Yield the full chunks of `rest` and then `data`.

    Leaves the remainder in `rest`.
    """
    if isinstance(data, bytes) and len(data) == CHUNK_BYTES and not rest:
        yield data  # Without a copy.
        return
    view = memoryview(data).cast("B")
    if rest:
        taken = CHUNK_BYTES - len(rest)
        rest += view[:taken]
        view = view[taken:]
        if len(rest) < CHUNK_BYTES:
            return
        yield bytes(rest)
        rest.clear()
    while len(view) >= CHUNK_BYTES:
        yield bytes(view[:CHUNK_BYTES])
        view = view[CHUNK_BYTES:]
    rest += view


class Kept:
    """The end of a file, in chunks, from the first that is not acknowledged."""

    def __init__(self) -> None:
        self.end = 0  # Offset of the end of the file.
        self.acknowledged = 0
        self._chunks: deque[bytes] = deque()
        self._begin = 0  # Offset of the first chunk.

    def append(self, chunk: bytes) -> None:
        """Add a chunk at the end of the file."""
        self._chunks.append(chunk)
        self.end += len(chunk)

    def is_one_chunk(self) -> bool:
        """Return whether at most one chunk is kept."""
        return len(self._chunks) <= 1

    def after(self, offset: int) -> Iterator[bytes]:
        """Yield the bytes from `offset`, which is not before the first chunk."""
        begin = self._begin
        for chunk in tuple(self._chunks):
            skipped = max(0, offset - begin)
            begin += len(chunk)
            if begin > offset:
                yield chunk[skipped:]

    def acknowledge(self, offset: int) -> None:
        """Release the chunks that end before `offset`, which the server has."""
        self.acknowledged = max(self.acknowledged, offset)
        while self._chunks and self._begin + len(self._chunks[0]) <= self.acknowledged:
            self._begin += len(self._chunks.popleft())

    def restart(self, offset: int) -> bool:
        """Continue at the server's `offset`, which may be lower than before.

        Returns False if the bytes from there were released.
        """
        self.acknowledged = offset
        return offset >= self._begin

    def clear(self) -> None:
        """Release all chunks."""
        self._chunks.clear()
