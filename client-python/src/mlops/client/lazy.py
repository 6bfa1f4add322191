"""What is made at its first use."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Calls `make` at its own first call, once for any number of threads, and gives the same at every call.

    If `make` raises, so does the call, and the next one makes it anew. With functools.cached_property, from Python 3.12
    on, several threads may make one each.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: T | None = None

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
