"""The base directory of a server, seen from this machine."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from mlops._rpc.connection import Connection
from mlops.fs.errors import os_error, os_errors
from mlops.fs.local import SameFile, real_directory
from mlops.workspace.v1 import workspace_service_pb2 as pb


class LocalBase:
    """The base directory of a server, if that path is a directory on this machine.

    It may be another directory of the same name: only etags prove that a file is the
    server's. Thread-safe.
    """

    def __init__(
        self, connection: Connection, directory: Path | None, by_path: bool
    ) -> None:
        """Use `directory`; if it is None, ask the server at the first use.

        Args:
            by_path: Whether files may be accessed by their path.
        """
        self.directory = directory
        self._connection = connection
        self._by_path = by_path

    def to_access(self, path: str) -> Path | None:
        """Return the base directory if files may be accessed by their path.

        `path` is named in errors.
        """
        return self._find(path) if self._by_path else None

    def open(self, path: str, etag: str) -> SameFile | None:
        """Open a file if it is proved to be the server's; else return None."""
        base = self.to_access(path)
        return None if base is None else SameFile.open(base / path, etag)

    def real_directory(self, path: str) -> str | None:
        """Return the real path of a directory, or of a path that may become one.

        Returns None for a file, and if the base is not on this machine.
        """
        base = self._find(path)
        return None if base is None else real_directory(base / path)

    def refuse_same(self, path: str, local: str | os.PathLike[str]) -> None:
        """Check that `path` and `local` are not the same file.

        Opening that file for writing would empty it.

        Raises:
            OSError: EINVAL if they are.
        """
        base, is_same = self._find(path), False
        # One of them does not exist.
        with suppress(OSError):
            is_same = base is not None and os.path.samefile(base / path, local)
        if is_same and os.path.isfile(local):
            raise os_error(
                errno.EINVAL,
                path,
                f"The source and the destination are the same file, {local}",
            )

    def _find(self, path: str) -> Path | None:
        if self.directory is None:
            with os_errors(path):
                info = self._connection.call(pb.GetServerInfoRequest())
            self.directory = Path(info.base_path)
        return self.directory if os.path.isdir(self.directory) else None
