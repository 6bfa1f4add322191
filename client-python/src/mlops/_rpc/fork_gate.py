"""Lets no process fork in the middle of a call.

gRPC gives up in a child that was forked while a thread of the parent was in a call: calls there would never return. And
a lock that such a thread held would never be free again.
"""

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol

from mlops._rpc import WORKS_AFTER_FORK, errors

# A fork waits so long for calls in other threads.
_MAX_WAIT_S = 5.0


class Pausable(Protocol):
    """A call that lasts beyond the function that began it."""

    def pause(self) -> None:
        """Ends it, within seconds, in such a way that it can be gone on with by another call."""


class ForkGate:
    """Entered by every call; closed while the process forks. Thread-safe."""

    def __init__(self) -> None:
        self.generation = 0  # How many forks this process is away from the one that made the gate.
        self._free = threading.Condition()
        self._running = 0
        self._closed = False
        self._used = False
        self._broken = ""
        self._lasting: weakref.WeakSet[Pausable] = weakref.WeakSet()
        self._armed = False

    def arm(self) -> None:
        """Has it watch out for forks, from now on. To be called when there is a channel: gRPC does the same with its
        first one, and its threads, which calls that stream need to come to an end, stand still in a fork from then on.
        Who does so later is told earlier.
        """
        with self._free:
            armed, self._armed = self._armed, True
        if not armed:
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork_in_child,
            )

    def watch(self, call: Pausable) -> None:
        """Has `call`, begun inside the gate, paused before a fork. Only a weak reference is kept."""
        with self._free:
            self._lasting.add(call)

    def __enter__(self) -> None:
        with self._free:
            if self._broken:
                raise errors.unavailable(self._broken)
            self._free.wait_for(lambda: not self._closed)
            self._running += 1
            self._used = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._free:
            self._running -= 1
            self._free.notify_all()

    def before_fork(self) -> None:
        """Waits until no call runs, and lets none begin."""
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
        """Lets calls begin again."""
        with self._free:
            self._closed = False
            self._free.notify_all()

    def after_fork_in_child(self) -> None:
        """Starts afresh, or remembers why that cannot be."""
        self._free = threading.Condition()
        self._lasting = weakref.WeakSet()
        self._closed = False
        self.generation += 1
        if self._running:
            self._broken = "This process was forked in the middle of a call of another thread: fork when none runs"
        elif self._used and not WORKS_AFTER_FORK:
            self._broken = (
                "gRPC was loaded without support of forked processes: "
                "set GRPC_ENABLE_FORK_SUPPORT=1, or import mlops before grpc"
            )
        self._running = 0


GATE = ForkGate()
