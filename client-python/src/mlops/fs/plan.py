"""Plans of copies: which source goes to which destination."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any

from fsspec.utils import other_paths, stringify_path

from mlops.fs.errors import os_error
from mlops.fs.literal import LiteralFirst

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
    targets = other_paths(
        found, target._strip_protocol(to), exists=keeps_name, flatten=not is_one
    )
    _check_within(targets, target._strip_protocol(to))
    return list(zip(found, targets, strict=True))


def _check_within(paths: list[str], top: str) -> None:
    """Check that no path leads out of `top`.

    A malicious server must not make this process write elsewhere.
    """
    for path in paths:
        if ".." in path.removeprefix(top).split("/"):
            raise os_error(errno.EINVAL, path, f"The name leads out of {top}")


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
