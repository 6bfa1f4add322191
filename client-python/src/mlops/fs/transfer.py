"""Copies of one file between a workspace and this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing
from typing import IO

from fsspec.callbacks import Callback

from mlops.fs.artifacts import Artifacts
from mlops.fs.by_path import MIN_BYTES, put_by_path
from mlops.fs.by_wire import ByWire
from mlops.fs.errors import again_if_replaced, lookup_errors, os_errors
from mlops.fs.kept import CHUNK_BYTES
from mlops.fs.local import Target, open_source
from mlops.fs.local_base import LocalBase

# The README names this logger.
_log = logging.getLogger("mlops.fs.filesystem")
Pathlike = str | os.PathLike[str]


class Transfer:
    """Copies files by their path where possible, else over the connection.

    Thread-safe.
    """

    def __init__(self, artifacts: Artifacts, base: LocalBase) -> None:
        self._artifacts = artifacts
        self._base = base

    def get(self, path: str, local: Pathlike, callback: Callback) -> None:
        """Copy a file to this machine. A failure leaves no partial file.

        Raises:
            IsADirectoryError: One of the two is a directory.
            OSError: EINVAL if both are the same file.
        """
        self._base.refuse_same(path, local)
        again_if_replaced(lambda: self._get(path, local, callback))

    def _get(self, path: str, local: Pathlike, callback: Callback) -> None:
        with Target(local) as target:
            if not self._get_by_path(path, target, callback):
                self.get_by_wire(path, target.write, callback)
            # Creates the file even if no data was written.
            target.file()

    def _get_by_path(self, path: str, target: Target, callback: Callback) -> bool:
        """Copy through the file system; return False if that is impossible."""
        if self._base.to_access(path) is None:
            return False
        info = self._artifacts.file_info(path)
        same = self._base.open(path, info["etag"])
        if same is None:
            return False
        callback.set_size(info["size"])
        with closing(same):
            same.copy(target.file(), callback.relative_update)
        return True

    def get_by_wire(
        self, path: str, write: Callable[[memoryview], object], callback: Callback
    ) -> None:
        """Pass the pieces of a file to `write`."""
        download = self._artifacts.download(path)
        with lookup_errors(path), closing(download):
            for piece in download:
                assert download.artifact is not None
                if callback.size != download.artifact.size_bytes:
                    callback.set_size(download.artifact.size_bytes)
                write(piece)
                callback.relative_update(len(piece))

    def put(
        self, local: Pathlike, path: str, callback: Callback, create_only: bool
    ) -> None:
        """Copy a file from this machine.

        Raises:
            FileExistsError: With `create_only`, the name is taken.
            OSError: EINVAL, without blocking, if `local` is not a file.
        """
        with open_source(local) as file:
            callback.set_size(os.fstat(file.fileno()).st_size)
            if not self._put_by_path(file, path, callback, create_only):
                self._put_by_wire(file, path, callback, create_only)

    def _put_by_path(
        self, file: IO[bytes], path: str, callback: Callback, create_only: bool
    ) -> bool:
        """Copy through the file system; return False, without effect, if impossible."""
        base = self._base.to_access(path) if callback.size >= MIN_BYTES else None
        if base is None:
            return False
        upload = self._artifacts.upload(path, create_only)
        with os_errors(path):
            done = put_by_path(upload, file, base, callback.relative_update)
        if done:
            _log.debug("%s: copied by its path", path)
        else:
            callback.absolute_update(0)
        return done

    def _put_by_wire(
        self, file: IO[bytes], path: str, callback: Callback, create_only: bool
    ) -> None:
        def send(writer: ByWire) -> None:
            while data := file.read(CHUNK_BYTES):
                writer.write(data)
                callback.relative_update(len(data))

        self._artifacts.write(path, send, create_only)
