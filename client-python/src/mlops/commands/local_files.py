"""The files of workspaces, with additions to WorkspaceFileSystem for commands."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from contextlib import suppress
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback, NoOpCallback
from fsspec.utils import isfilelike

from mlops.commands.context import options
from mlops.commands.errors import stopping
from mlops.fs import WorkspaceFileSystem, progress


class Stopped(Exception):
    """A transfer ended because the command is being stopped."""


class CommandFiles(WorkspaceFileSystem):
    """A WorkspaceFileSystem that replaces local files atomically."""

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Any = None,
        **options: Any,
    ) -> None:
        """Copy a file as WorkspaceFileSystem does.

        Until the copy is complete, an existing file at `lpath` keeps its content.
        """
        if outfile is not None or isfilelike(lpath) or not _is_replaceable(lpath):
            super().get_file(rpath, lpath, callback, outfile, **options)
            return
        self._base.refuse_same(self._strip_protocol(rpath), lpath)
        # Keep a link, and replace its target.
        target = os.path.realpath(lpath)
        name = f".{os.path.basename(target)[:200]}.{uuid.uuid4().hex[:12]}~"
        draft = os.path.join(os.path.dirname(target), name)
        try:
            super().get_file(rpath, draft, callback, **options)
            if os.path.isdir(draft):
                os.rmdir(draft)
                os.makedirs(target, exist_ok=True)
                return
            with suppress(FileNotFoundError):
                shutil.copymode(target, draft)
            os.replace(draft, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise


def _is_replaceable(path: Any) -> bool:
    """Return whether a path is a file or missing, not a directory, device or pipe."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


class _Stoppable(Callback):  # type: ignore[misc]
    """Passes progress on to another callback, and ends the transfer when asked to."""

    def __init__(self, inner: Callback) -> None:
        super().__init__()
        self._inner = inner

    def set_size(self, size: int) -> None:
        super().set_size(size)
        self._inner.set_size(size)

    def absolute_update(self, value: int) -> None:
        self._check()
        super().absolute_update(value)
        self._inner.absolute_update(value)

    def relative_update(self, inc: int = 1) -> None:
        self._check()
        super().relative_update(inc)
        self._inner.relative_update(inc)

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
        self._check()
        return _Stoppable(self._inner.branched(path_1, path_2, **kwargs))

    def close(self) -> None:
        self._inner.close()

    def _check(self) -> None:
        if stopping.is_set():
            raise Stopped


def transfer() -> Callback:
    """Return the callback of a transfer, a context manager.

    It shows progress bars at a terminal, unless -q is given.
    """
    return _Stoppable(NoOpCallback() if options.quiet else progress())
