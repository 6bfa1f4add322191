"""Watches workspaces in the background, as an application does."""

import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from mlops.workspace import WorkspaceEvent, WorkspaceManager

_TIMEOUT_S = 60


class Watching:
    """Collects the events of a manager's watch, as a context manager.

    `state` maps each existing project to its uid, according to the events.
    """

    def __init__(
        self, manager: WorkspaceManager, projects: Iterable[str] = (), **options: Any
    ) -> None:
        self.state: dict[str, str] = {}
        self.events: list[WorkspaceEvent] = []
        self.error: BaseException | None = None
        self._iterator = manager.watch(list(projects), synced=True, **options)
        self._queue: queue.SimpleQueue[WorkspaceEvent | BaseException] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The thread ends with the next event, at the latest with the next "synced".
        self._stop.set()

    def next(self) -> WorkspaceEvent:
        """Returns the next event. Raises the watch's error."""
        event = self._queue.get(timeout=_TIMEOUT_S)
        if isinstance(event, BaseException):
            raise event
        self.events.append(event)
        if event.change == "deleted":
            self.state.pop(event.project, None)
        elif event.change != "synced":
            self.state[event.project] = event.uid
        return event

    def until(self, found: Callable[[WorkspaceEvent], Any]) -> WorkspaceEvent:
        """Returns the next event for which `found` is true."""
        while not found(event := self.next()):
            pass
        return event

    def until_change(self, change: str, project: str) -> WorkspaceEvent:
        return self.until(lambda e: (e.change, e.project) == (change, project))

    def until_synced(self) -> WorkspaceEvent:
        return self.until(lambda event: event.change == "synced")

    def _run(self) -> None:
        try:
            for event in self._iterator:
                self._queue.put(event)
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._queue.put(error)
