"""A value that is created on first use."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Calls `make` once, on the first call, and returns the same value for every call.

    Thread-safe. If `make` raises, so does the call, and the next call tries again.
    functools.cached_property is not enough: from Python 3.12 on, several threads may
    each compute the value.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: T | None = None
        _all.add(self)

    @property
    def made(self) -> T | None:
        """The value if it was created, else None."""
        return self._value

    def __call__(self) -> T:
        if self._value is None:
            with self._lock:
                if self._value is None:
                    self._value = self._make()
        return self._value

    def unlock(self) -> None:
        """Replace the lock, in a forked child.

        Another thread of the parent may have held it; no thread of the child will
        release it.
        """
        self._lock = threading.Lock()


_all: weakref.WeakSet[Lazy[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lazy in list(_all):
        lazy.unlock()


os.register_at_fork(after_in_child=_after_fork_in_child)
