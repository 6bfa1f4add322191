"""Exit codes, and the message that each failure prints."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
CONFLICT = 5
UNAVAILABLE = 6
INTERRUPTED = 128 + signal.SIGINT
CLOSED_PIPE = 128 + signal.SIGPIPE

MEANINGS = {
    OK: "success",
    FAILED: "any other failure",
    USAGE: "wrong command line, filter, value or configuration",
    NOT_FOUND: "no such project, file or deleted project",
    REFUSED: "not allowed, or the present state forbids it (such as a full disk)",
    CONFLICT: "exists already, or was changed by somebody else meanwhile",
    UNAVAILABLE: "the server cannot be reached, or did not answer in time",
    INTERRUPTED: "stopped by Ctrl-C",
    CLOSED_PIPE: "the program that reads the output ended",
}

_BY_CODE = {
    "INVALID_ARGUMENT": USAGE,
    "NOT_FOUND": NOT_FOUND,
    "PERMISSION_DENIED": REFUSED,
    "UNAUTHENTICATED": REFUSED,
    "FAILED_PRECONDITION": REFUSED,
    "RESOURCE_EXHAUSTED": REFUSED,
    "ALREADY_EXISTS": CONFLICT,
    "ABORTED": CONFLICT,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
}
_BY_ERRNO = {
    errno.EINVAL: USAGE,
    errno.EISDIR: USAGE,
    errno.ENOTDIR: USAGE,
    errno.ENOENT: NOT_FOUND,
    errno.EACCES: REFUSED,
    errno.EPERM: REFUSED,
    errno.EROFS: REFUSED,
    errno.ENOSPC: REFUSED,
    errno.ENOTEMPTY: REFUSED,
    errno.EEXIST: CONFLICT,
    errno.ESTALE: CONFLICT,
    errno.EBUSY: CONFLICT,
    errno.ECONNREFUSED: UNAVAILABLE,
    errno.ETIMEDOUT: UNAVAILABLE,
}
# Reasons of MLOpsClientError that have no gRPC code.
_BY_REASON = {
    "INPUT_INVALID": USAGE,
    "FILE_NOT_FOUND": NOT_FOUND,
    "EXPERIMENT_DELETED": NOT_FOUND,
    "SERVER_UNAVAILABLE": UNAVAILABLE,
    "WORKSPACE_NOT_LOCAL": REFUSED,
    "STORE_READ_ONLY": REFUSED,
}


_TOO_OLD = (
    "the server does not know this call: it is older than this client "
    "(see mlops server info and mlops --version)"
)
_AGAIN_S = 0.02
# Set when the command must stop; threads that transfer files check it.
stopping = threading.Event()


class CommandError(Exception):
    """A failure of the command itself, with its exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def usage(message: str) -> CommandError:
    """Return the error for a wrong command line."""
    return CommandError(message, USAGE)


class TimedOut(Exception):
    """The command took longer than --timeout."""


class ClosedPipe(Exception):
    """The reader of standard output has closed the pipe."""


class Terminated(BaseException):
    """The process received SIGTERM."""


def reporting(do: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that reports a closed pipe as ClosedPipe.

    Typer would handle a BrokenPipeError itself.
    """

    @functools.wraps(do)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return do(*arguments, **options)
        except BrokenPipeError as error:
            raise ClosedPipe from error

    return run


def _imports(frame: FrameType | None) -> bool:
    """Return whether a module is being imported."""
    while frame is not None:
        if "importlib._bootstrap" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def handle_signals() -> None:
    """Make signals raise exceptions, so that the command can clean up."""

    pending: list[BaseException] = []

    def handler(error: BaseException) -> Callable[[int, FrameType | None], None]:
        def stop(number: int, frame: FrameType | None) -> None:
            stopping.set()
            pending.append(error)
            if not _imports(frame):
                raise pending[0]
            # An import may swallow an exception, so try again later.
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)

        return stop

    # A shell starts jobs in the background with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler(KeyboardInterrupt()))
    signal.signal(signal.SIGTERM, handler(Terminated()))
    signal.signal(signal.SIGALRM, handler(TimedOut()))


def guarded(do: Callable[[], int | None]) -> int:
    """Run `do`, print a message if it fails, and return the exit code."""
    try:
        code = do() or OK
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return 128 + signal.SIGTERM
    except (BrokenPipeError, ClosedPipe):
        # Python flushes standard output again at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:
        code, sentence, details = describe(error)
        report(sentence, details)
        return code


def describe(error: Exception) -> tuple[int, str, dict[str, Any]]:
    """Return the exit code, the message and the details of a failure."""
    from mlops.commands.context import options

    if isinstance(error, CommandError):
        return error.code, str(error), {}
    if isinstance(error, TimedOut):
        return UNAVAILABLE, f"no result within --timeout {options.timeout} s", {}
    # Recognize Typer's own errors by attributes: their class differs between releases.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return USAGE, str(error.format_message()), {}
    details = getattr(error, "details", None)
    if isinstance(details, dict):
        reason, code = details.get("reason", ""), details.get("code", "")
        if code == "UNIMPLEMENTED":
            return REFUSED, _TOO_OLD, details
        known = _BY_CODE.get(code) or _BY_REASON.get(reason) or FAILED
        return known, str(error), {"operation": _operation(error), **details}
    if isinstance(error, OSError):
        return _describe_os_error(error)
    if isinstance(error, ModuleNotFoundError):
        return FAILED, str(error), {}
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return FAILED, f"{kind}: {error}", {}


def _describe_os_error(error: OSError) -> tuple[int, str, dict[str, Any]]:
    # Errors of mlops.fs have the server's error as their cause.
    cause = error.__cause__
    if isinstance(getattr(cause, "details", None), dict):
        assert isinstance(cause, Exception)
        return describe(cause)
    code = _BY_ERRNO.get(error.errno or 0, FAILED)
    sentence = error.strerror or str(error)
    # The system's message for an errno does not name the file.
    if error.filename and str(error.filename) not in sentence:
        sentence = f"{error.filename}: {sentence}"
    return code, sentence, {}


def _operation(error: Exception) -> str:
    return str(getattr(error, "operation", "") or "")


def report(sentence: str, details: dict[str, Any]) -> None:
    """Print the message of a failure, and with -v its details."""
    from mlops.commands.context import options
    from mlops.commands.output import clean

    lines = [f"mlops: {clean(sentence)}"]
    if options.verbose:
        lines += [f"  {key}: {clean(str(value))}" for key, value in details.items()]
    elif details.get("reason"):
        lines[0] += f" ({details['reason']})"
    print("\n".join(lines), file=sys.stderr)
