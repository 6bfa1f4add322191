"""Keeps the process from forking during a call.

If a process forks while another thread is in a call, gRPC does not work in the child:
calls there never return. Also, a lock held by that thread stays locked forever in the
child.
"""

import os
import threading
import weakref
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from mlops._rpc import WORKS_AFTER_FORK, errors

# How long pause() waits for a call to end.
PAUSE_S = 2.0
# How long a fork waits for calls of other threads.
_MAX_WAIT_S = 5.0
_MANY_DESCRIPTORS = 65536
_FORKED_IN_CALL = (
    "This process was forked while another thread was in a call, "
    "so it cannot make calls: fork while no call is in flight"
)
_GRPC_NOT_TOLD = (
    "gRPC was loaded without support for forked processes: "
    "set GRPC_ENABLE_FORK_SUPPORT=1, or import mlops before grpc"
)
_CLOSED = (
    "This process has closed file descriptors that gRPC uses, "
    "as daemons do when they close all they inherited: "
    "close them before the first call, "
    "or make calls from a process that is started anew (subprocess, spawn)"
)


class Pausable(Protocol):
    """A call that outlives the function that began it."""

    def pause(self) -> None:
        """End the call within seconds, so that a later call can resume it."""


class _Canary:
    """Detects that this process closed all its descriptors, including gRPC's.

    Holds a descriptor that nothing else closes.
    """

    def __init__(self) -> None:
        self._fd, writing = os.pipe()
        os.close(writing)
        # A later file may reuse the number, so compare the inode.
        self._inode = os.fstat(self._fd).st_ino

    def lives(self) -> bool:
        try:
            return os.fstat(self._fd).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        if self.lives():
            os.close(self._fd)


class ForkGate:
    """A gate that every call enters, and that is closed while the process forks.

    Thread-safe.
    """

    def __init__(self) -> None:
        # The number of forks between this process and the one that created the gate.
        self.generation = 0
        # Serializes forks: gRPC's own fork handlers do not support two at the same
        # time.
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
        """Register the fork handlers, once.

        Call this after opening a channel. gRPC registers its own handlers with its
        first channel, and handlers registered later run earlier. gRPC's handlers stop
        the threads that are needed to end a stream, so this gate's handlers must run
        first.
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
        """Pause `call`, begun inside the gate, before a fork.

        Keeps only a weak reference.
        """
        with self._free:
            self._lasting.add(call)

    def __enter__(self) -> None:
        with self._free:
            # Fail immediately, because gRPC would never return.
            if self._canary is not None and not self._canary.lives():
                self._broken = self._broken or _CLOSED
            if self._broken:
                raise errors.unavailable(self._broken)
            # Another thread may be forking.
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
        """Close the gate and wait until no call is running.

        Waits for forks of other threads first. Waits at most 5 s for calls.
        """
        self._forking.acquire()
        with self._free:
            self._closed = True
        # End long-lived calls, which would delay the fork.
        self._pause_lasting()
        with self._free:
            self._free.wait_for(lambda: self._running == 0, _MAX_WAIT_S)
        # Pause also the calls that began while the gate was closing.
        self._pause_lasting()

    def _pause_lasting(self) -> None:
        with self._free:
            lasting = list(self._lasting)
        for call in lasting:
            call.pause()

    def after_fork_in_parent(self) -> None:
        """Open the gate, and let the next fork begin."""
        with self._free:
            self._closed = False
            self._free.notify_all()
        # A signal handler may have interrupted before_fork() before it acquired the
        # lock.
        with suppress(RuntimeError):
            self._forking.release()

    def after_fork_in_child(self) -> None:
        """Reset the gate, or record why calls cannot work in this process."""
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
        # gRPC up to 1.80 closes its descriptors in a child. Such a child may safely
        # close all inherited descriptors, so it needs no canary.
        if self._canary is not None and not _has_event_poll():
            self._canary.close()
            self._canary = None


def _has_event_poll() -> bool:
    """Return whether this process has an epoll descriptor, which gRPC would wait on."""
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
