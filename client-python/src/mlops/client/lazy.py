"""What is made at its first use."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Calls `make` at its own first call, once for any number of threads, and gives the
    same at every call.

    If `make` raises, so does the call, and the next one makes it anew. With
    functools.cached_property, from Python 3.12 on, several threads may make one each.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: T | None = None
        _all.add(self)

    @property
    def made(self) -> T | None:
        """What was made, without making it."""
        return self._value

    def __call__(self) -> T:
        if self._value is None:
            with self._lock:
                if self._value is None:
                    self._value = self._make()
        return self._value

    def unlock(self) -> None:
        """In a child that was forked while another thread made it: nobody there will
        ever have done so.
        """
        self._lock = threading.Lock()


_all: weakref.WeakSet[Lazy[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lazy in list(_all):
        lazy.unlock()


os.register_at_fork(after_in_child=_after_fork_in_child)
