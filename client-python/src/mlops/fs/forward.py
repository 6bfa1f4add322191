"""Reading a file forward, in reads of any size."""

from mlops.fs.download import Download

_NOTHING = memoryview(b"")


class Forward:
    """A download, and the piece of it that is being read. Not thread-safe."""

    def __init__(self, download: Download, start: int) -> None:
        """Of a download from `start`, of which nothing was read."""
        self._download = download
        self._piece = _NOTHING
        self._piece_from = start

    def take(self, position: int, most: int) -> memoryview:
        """Some bytes from `position`, at most `most`, not copied; none at the end. It
        must be possible to go there. Raises WorkspaceError.
        """
        at = position - self._piece_from
        if at == len(self._piece):
            self._piece_from, self._piece, at = (
                position,
                next(self._download, _NOTHING),
                0,
            )
        return self._piece[at : at + most]

    def can_go_to(self, position: int) -> bool:
        """Whether it lies in the piece that is held, or at its end."""
        return 0 <= position - self._piece_from <= len(self._piece)

    def close(self) -> None:
        """Ends it."""
        self._download.close()
