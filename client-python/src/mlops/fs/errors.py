"""Converts WorkspaceErrors to OSErrors."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mlops._rpc.errors import WorkspaceError

Result = TypeVar("Result")
# Maximum number of attempts to read a whole file that is replaced meanwhile.
_MAX_READS = 3

_BY_REASON = {
    "WORKSPACE_NOT_FOUND": errno.ENOENT,
    "ARTIFACT_NOT_FOUND": errno.ENOENT,
    "ARTIFACT_EXISTS": errno.EEXIST,
    "FORCE_REQUIRED": errno.ENOTEMPTY,
    "PATH_INVALID": errno.EINVAL,
    "PATH_UNSUITABLE": errno.EINVAL,
    "FIELD_INVALID": errno.EINVAL,
    "ETAG_MISMATCH": errno.ESTALE,
    "UPLOAD_NOT_FOUND": errno.ESTALE,
    "UPLOAD_OFFSET_MISMATCH": errno.ESTALE,
    "WORKSPACE_BUSY": errno.EBUSY,
    "OVERLOADED": errno.EBUSY,
    "NO_SPACE": errno.ENOSPC,
}
_BY_CODE = {
    "UNAVAILABLE": errno.ECONNREFUSED,
    "DEADLINE_EXCEEDED": errno.ETIMEDOUT,
    "UNAUTHENTICATED": errno.EACCES,
    "PERMISSION_DENIED": errno.EACCES,
    "UNIMPLEMENTED": errno.EOPNOTSUPP,
}


def to_os_error(error: WorkspaceError, path: str) -> OSError:
    """Return the OSError, of the matching subclass, with the server's message."""
    return OSError(_errno_of(error), error.message, path)


@contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Convert WorkspaceErrors that leave the block to OSErrors about `path`.

    The `__cause__` is the WorkspaceError.
    """
    try:
        yield
    except WorkspaceError as error:
        raise to_os_error(error, path) from error


@contextmanager
def lookup_errors(path: str) -> Iterator[None]:
    """Convert errors as os_errors() does, for lookups.

    An entry whose name is invalid does not exist, so this is FileNotFoundError.
    """
    try:
        yield
    except WorkspaceError as error:
        if error.details["reason"] in ("PATH_INVALID", "FIELD_INVALID"):
            raise OSError(errno.ENOENT, error.message, path) from error
        raise to_os_error(error, path) from error


def _errno_of(error: WorkspaceError) -> int:
    reason, problem = error.details["reason"], error.details.get("problem", "")
    if reason == "PATH_UNSUITABLE" and problem == "is a directory":
        return errno.EISDIR
    if reason == "PATH_UNSUITABLE" and problem.endswith("not a directory"):
        return errno.ENOTDIR
    if reason == "IO_ERROR":
        return _number(error.details.get("errno", ""))
    return _BY_REASON.get(reason) or _BY_CODE.get(error.details["code"], errno.EIO)


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    return number if number in errno.errorcode else errno.EIO


def os_error(number: int, path: str, sentence: str | None = None) -> OSError:
    """Return an OSError without a cause from the server."""
    return OSError(number, sentence or os.strerror(number), path)


def again_if_replaced(read: Callable[[], Result]) -> Result:
    """Call `read`; repeat it a few times if the file was replaced meanwhile."""
    for reads_left in reversed(range(_MAX_READS)):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE or not reads_left:
                raise
    raise AssertionError
