"""A progress bar for get and put."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from fsspec.callbacks import Callback, NoOpCallback


def progress() -> Callback:
    """What `fs.get(…, callback=…)` and `fs.put(…, callback=…)` take to show a bar for
    all files and one for the current one, where standard error is a terminal and rich
    is installed; elsewhere one that shows nothing. To be used as a context manager.
    """
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):
        return _Bars()
    return NoOpCallback()


class _Bar(Callback):  # type: ignore[misc]
    """One bar."""

    def __init__(self, bars: Any, text: str) -> None:
        super().__init__()
        self._bars = bars
        self._task = bars.add_task(text, total=None)

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Shows where it stands."""
        self._bars.update(self._task, total=self.size, completed=self.value)

    def close(self) -> None:
        """Takes it away."""
        self._bars.remove_task(self._task)


class _Bars(_Bar):
    """The bar that counts files, with those of the files below it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        ]
        bars = Progress(*columns, console=Console(stderr=True))
        super().__init__(bars, "files")
        bars.start()

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
        """The bar of one file."""
        return _Bar(self._bars, path_1.rsplit("/", 1)[-1])

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._bars.stop()
