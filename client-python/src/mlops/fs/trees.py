"""Copies of directories and of many files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from mlops.fs.literal import LiteralFirst, LocalFiles
from mlops.fs.local import check_copyable, real_directory
from mlops.fs.plan import Step, plan, refuse_into_itself

THREADS = 8


class TreeCopies(LiteralFirst):
    """A file system that copies several files at a time.

    It refuses to copy a directory into itself. The subclass copies the single files.
    """

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **options: Any,
    ) -> None:
        """Copy files to this machine, several at a time.

        fsspec's rules determine the destinations. With `assume_literal`, `rpath` is
        never a pattern.

        Raises:
            OSError: EINVAL if a directory would be copied into itself.
        """
        steps = plan(
            self, LocalFiles(), rpath, lpath, recursive, maxdepth, assume_literal
        )
        refuse_into_itself(steps, self._real_directory, real_directory)
        copy_all(
            steps,
            lambda one, to, child: self.get_file(one, to, callback=child, **options),
            callback,
        )

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **options: Any,
    ) -> None:
        """Copy files from this machine, several at a time, as get() does.

        Raises:
            OSError: EINVAL if a directory would be copied into itself, or, before
                anything is sent, if an entry is neither a file nor a directory, such as
                a named pipe.
        """
        steps = plan(
            LocalFiles(), self, lpath, rpath, recursive, maxdepth, assume_literal
        )
        refuse_into_itself(steps, real_directory, self._real_directory)
        for local, _ in steps:
            check_copyable(local)
        copy_all(
            steps,
            lambda one, to, child: self.put_file(one, to, callback=child, **options),
            callback,
        )

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **options: Any,
    ) -> None:
        """Copy files and, with `recursive`, directories, one after the other.

        on_error="ignore", the default with `recursive`, skips files that vanish
        meanwhile.

        Raises:
            OSError: EINVAL if a directory would be copied into itself.
        """
        ignores = on_error == "ignore" or (on_error is None and recursive)
        steps = plan(self, self, path1, path2, recursive, maxdepth)
        refuse_into_itself(steps, self._strip_protocol, self._strip_protocol)
        for one, to in steps:
            try:
                self.cp_file(one, to, **options)
            except FileNotFoundError:
                if not ignores:
                    raise

    def _real_directory(self, path: str) -> str | None:
        """Return the local path of a directory, or of a path that may become one.

        Returns None for a file, and if the path is not on this machine.
        """
        raise NotImplementedError


def copy_all(
    steps: Sequence[Step],
    copy_one: Callable[[Any, Any, Callback], None],
    callback: Callback,
) -> None:
    """Copy all steps, several at a time. Stop at the first error and raise it."""

    def take(source: Any, target: Any) -> None:
        with callback.branched(source, target) as child:
            copy_one(source, target, child)

    callback.set_size(len(steps))
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            for done in as_completed([threads.submit(take, *step) for step in steps]):
                done.result()
                callback.relative_update()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
