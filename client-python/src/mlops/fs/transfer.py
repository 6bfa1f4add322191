"""Bulk copies: plans the destinations, and copies several files at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from fsspec.callbacks import Callback
from fsspec.utils import other_paths, stringify_path

from mlops.fs.errors import os_error
from mlops.fs.literal import LiteralFirst

THREADS = 8
Step = tuple[Any, Any]


def plan(
    source: LiteralFirst,
    target: LiteralFirst,
    paths: Any,
    to: Any,
    recursive: bool,
    maxdepth: int | None,
    assume_literal: bool = False,
) -> list[Step]:
    """Return pairs of source and destination.

    fsspec's rules apply, except that existing names are not patterns.

    Raises:
        FileNotFoundError: There is no such source.
        OSError: EINVAL if a name would lead out of the target.
    """
    if isinstance(paths, list) and isinstance(to, list):
        return list(zip(paths, to, strict=True))
    paths, to = stringify_path(paths), stringify_path(to)
    is_one = isinstance(paths, str)
    is_pattern = is_one and not assume_literal and source.is_pattern(paths)
    is_name = assume_literal or (is_one and not is_pattern)
    found = source.expand_path(paths, recursive, maxdepth, assume_literal=is_name)
    # Only recursive copies include directories.
    if is_one and (not recursive or maxdepth is not None):
        found = [path for path in found if not source.isdir(path)]
    if not found:
        return []
    if not isinstance(to, str):
        return list(zip(found, map(target._strip_protocol, to), strict=True))
    # A source keeps its name in an existing directory, unless it ends with a slash.
    into_it = to.endswith("/") or target.isdir(to)
    keeps_name = is_one and (
        len(found) == 1 if is_pattern else into_it and not paths.endswith("/")
    )
    to = target._strip_protocol(to)
    targets = other_paths(found, to, exists=keeps_name, flatten=not is_one)
    # A malicious server must not make this process write elsewhere.
    for path in targets:
        if ".." in path.removeprefix(to).split("/"):
            raise os_error(errno.EINVAL, path, f"The name leads out of {to}")
    return list(zip(found, targets, strict=True))


def refuse_into_itself(
    steps: Iterable[Step],
    source_place: Callable[[Any], str | None],
    target_place: Callable[[Any], str | None],
) -> None:
    """Check that no directory would be copied into itself.

    Args:
        source_place: Returns the place of a source, None if unknown.
        target_place: Returns the place of a target on the same file system, None if
            unknown.

    Raises:
        OSError: EINVAL if a target lies within its source.
    """
    for source, target in steps:
        # Look at the source first: most sources are files, which contain nothing.
        if (outside := source_place(source)) is None or (
            inside := target_place(target)
        ) is None:
            continue
        if inside.startswith(outside.rstrip("/") + "/"):
            raise os_error(
                errno.EINVAL,
                source,
                f"{source} contains the destination of the copy, {target}",
            )


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


def real_directory(path: Any) -> str | None:
    """Return the real path of a directory, or of a path that may become one.

    Returns None for a file.
    """
    return None if os.path.isfile(path) else os.path.realpath(path)
