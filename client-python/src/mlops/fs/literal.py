"""Names before patterns: a file system whose bulk operations take a name that exists
for that name.
"""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem


class LiteralFirst(AbstractFileSystem):  # type: ignore[misc]
    """fsspec expands `[ ] * ?` in every path that it is given, so that rm("a[1]")
    deletes "a1". Here a path is a pattern only where nothing has that very name. glob()
    always takes a pattern, find() never does.
    """

    def is_pattern(self, path: Any) -> bool:
        """Whether a path has to be expanded: it holds `[ ] * ?`, and nothing has that
        name.
        """
        name = self._strip_protocol(path)
        return has_magic(name) and not self.exists(name)

    def expand_path(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **options: Any,
    ) -> list[str]:
        """Returns the paths that one or several names or patterns stand for, in order;
        with `recursive` also what is below them. With `assume_literal` nothing is a
        pattern.

        Raises FileNotFoundError if there are none.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        found: set[str] = set()
        for one in [path] if isinstance(path, str | os.PathLike) else path:
            if not assume_literal and self.is_pattern(one):
                # One of several patterns may match nothing.
                with suppress(FileNotFoundError):
                    pattern = self._escape_directory(self._strip_protocol(one))
                    found.update(
                        super().expand_path([pattern], recursive, maxdepth, **options)
                    )
                continue
            name = self._strip_protocol(one)
            if recursive:
                found.update(
                    self.find(
                        name, maxdepth=maxdepth, withdirs=True, detail=False, **options
                    )
                )
            if not recursive or self.exists(name):
                found.add(name)
        if not found:
            raise FileNotFoundError(path)
        return sorted(found)

    def _escape_directory(self, pattern: str) -> str:
        """Has the directory that a pattern begins with stand for itself, if there is
        one of that name: `v?/*.csv` are the files in `v?`, and those of `v1` only if
        there is no `v?`.
        """
        directory, slash, rest = pattern.rpartition("/")
        while has_magic(directory):
            if self.isdir(directory):
                return glob.escape(directory) + slash + rest
            directory, slash, last = directory.rpartition("/")
            rest = f"{last}/{rest}"
        return pattern


class LocalFiles(LiteralFirst, LocalFileSystem):  # type: ignore[misc]
    """The files of this machine."""

    protocol = "mlops-local"
    cachable = False
