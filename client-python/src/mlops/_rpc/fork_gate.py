"""Lets no process fork in the middle of a call.

gRPC gives up in a child that was forked while a thread of the parent was in a call:
calls there would never return. A lock that such a thread held would never be free again
either.
"""

import os
import threading
import weakref
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from mlops._rpc import WORKS_AFTER_FORK, errors

# How long a fork waits for the calls of other threads.
_MAX_WAIT_S = 5.0
_MANY_DESCRIPTORS = 65536
_FORKED_IN_CALL = "This process was forked in the middle of a call of another thread: fork when none runs"
_GRPC_NOT_TOLD = "gRPC was loaded without support of forked processes: set GRPC_ENABLE_FORK_SUPPORT=1, or import mlops before grpc"
_CLOSED = (
    "This process has closed file descriptors that gRPC uses, as daemons do when they close all they inherited: "
    "close them before the first call, or make calls from a process that is started anew (subprocess, spawn)"
)


class Pausable(Protocol):
    """A call that lasts beyond the function that began it."""

    def pause(self) -> None:
        """Ends it, within seconds, in such a way that another call can resume it."""


class _Canary:
    """A descriptor that is closed only by someone who closes all of them, gRPC's own
    included.
    """

    def __init__(self) -> None:
        self._fd, writing = os.pipe()
        os.close(writing)
        self._inode = os.fstat(self._fd).st_ino  # A later file may get the same number.

    def lives(self) -> bool:
        try:
            return os.fstat(self._fd).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        if self.lives():
            os.close(self._fd)


class ForkGate:
    """Entered by every call; closed while the process forks. Thread-safe."""

    def __init__(self) -> None:
        # How many forks this process is away from the one that made the gate.
        self.generation = 0
        # One fork at a time: gRPC's own handlers know of one only, too.
        self._forking = threading.RLock()
        self._free = threading.Condition()
        self._running = 0
        self._closed = False
        self._used = False
        self._broken = ""
        self._lasting: weakref.WeakSet[Pausable] = weakref.WeakSet()
        self._armed = False
        self._canary: _Canary | None = None

    def arm(self) -> None:
        """Watches for forks, from now on. Call it when a channel is opened: gRPC
        registers its own handlers with its first channel, and its threads, which
        streams need to end, stand still in a fork from then on. Handlers that are
        registered later run earlier.
        """
        with self._free:
            armed, self._armed = self._armed, True
            if self._canary is None:
                self._canary = _Canary()
        if not armed:
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork_in_child,
            )

    def watch(self, call: Pausable) -> None:
        """Pauses `call`, begun inside the gate, before a fork. Keeps only a weak
        reference.
        """
        with self._free:
            self._lasting.add(call)

    def __enter__(self) -> None:
        with self._free:
            if self._canary is not None and not self._canary.lives():
                self._broken = self._broken or _CLOSED
            if self._broken:
                raise errors.unavailable(self._broken)
            self._free.wait_for(lambda: not self._closed)
            self._running += 1
            self._used = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._free:
            self._running -= 1
            self._free.notify_all()

    def before_fork(self) -> None:
        """Waits until no other thread forks and no call runs, and lets none begin."""
        self._forking.acquire()
        with self._free:
            self._closed = True
        self._pause_lasting()
        with self._free:
            self._free.wait_for(lambda: self._running == 0, _MAX_WAIT_S)
        self._pause_lasting()  # Those that were just being begun.

    def _pause_lasting(self) -> None:
        with self._free:
            lasting = list(self._lasting)
        for call in lasting:
            call.pause()

    def after_fork_in_parent(self) -> None:
        """Lets calls begin again, and the next fork."""
        with self._free:
            self._closed = False
            self._free.notify_all()
        # before_fork() was interrupted before it had the lock.
        with suppress(RuntimeError):
            self._forking.release()

    def after_fork_in_child(self) -> None:
        """Starts afresh, or remembers why that cannot be."""
        self._forking = threading.RLock()
        self._free = threading.Condition()
        self._lasting = weakref.WeakSet()
        self._closed = False
        self.generation += 1
        if self._running:
            self._broken = _FORKED_IN_CALL
        elif self._used and not WORKS_AFTER_FORK:
            self._broken = _GRPC_NOT_TOLD
        self._running = 0
        # Where gRPC has given up its descriptors, as it does up to version 1.80, the
        # child may close what it likes.
        if self._canary is not None and not _has_event_poll():
            self._canary.close()
            self._canary = None


def _has_event_poll() -> bool:
    """Whether this process has a descriptor of the kind by which gRPC waits."""
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return True
    for descriptor in descriptors[:_MANY_DESCRIPTORS]:
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[eventpoll]":
                return True
    return False


GATE = ForkGate()
