"""Files of this machine, on the other side of a copy."""

import os
from types import TracebackType
from typing import IO, Any, Self


class Target:
    """A local file to be filled: made when its content begins to come, and removed if the block is left by an error.

    Directories on the way are made. What there was stays as long as nothing comes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes) -> Any:
        """Appends to it."""
        return self.file().write(data)

    def file(self) -> IO[bytes]:
        """The file itself."""
        if self._file is None:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            if kind is not None and os.path.isfile(self._path):
                os.unlink(self._path)
