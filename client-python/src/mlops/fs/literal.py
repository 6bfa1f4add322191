"""File systems in which existing names take precedence over patterns."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem


class LiteralFirst(AbstractFileSystem):  # type: ignore[misc]
    """A file system that treats a path as a pattern only if no entry has that name.

    fsspec expands `[ ] * ?` in every path, so that rm("a[1]") deletes "a1". Here glob()
    alone always takes a pattern, and find() never does.
    """

    def is_pattern(self, path: Any) -> bool:
        """Return whether a path contains `[ ] * ?` and no entry has that name."""
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
        """Return the paths that names and patterns stand for, in lexicographic order.

        Args:
            recursive: Also return all entries below these paths.
            assume_literal: Treat nothing as a pattern.

        Raises:
            FileNotFoundError: There are no such paths.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        found: set[str] = set()
        for one in [path] if isinstance(path, str | os.PathLike) else path:
            if not assume_literal and self.is_pattern(one):
                # Of several patterns, some may match nothing.
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
        """Escape the longest existing directory at the beginning of a pattern.

        For example, `v?/*.csv` means the files in `v?`, and those in `v1` only if there
        is no directory `v?`.
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
