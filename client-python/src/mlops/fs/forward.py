"""Sequential reads of any size from a download."""

from mlops.fs.download import Download

_NOTHING = memoryview(b"")


class Forward:
    """A download and its current piece. Not thread-safe."""

    def __init__(self, download: Download, start: int) -> None:
        """Wrap a download that begins at `start` and of which nothing was read."""
        self._download = download
        self._piece = _NOTHING
        self._piece_from = start

    def take(self, position: int, most: int) -> memoryview:
        """Return up to `most` bytes at `position`, without copying; none at the end.

        can_go_to(position) must be True.

        Raises:
            WorkspaceError: The download failed.
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
        """Return whether `position` is in the current piece or at its end."""
        return 0 <= position - self._piece_from <= len(self._piece)

    def close(self) -> None:
        """End the download."""
        self._download.close()
