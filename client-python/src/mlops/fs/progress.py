"""Progress bars for get and put."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from fsspec.callbacks import Callback, NoOpCallback


def progress() -> Callback:
    """Return a callback that shows progress bars, for `fs.get` and `fs.put`.

    Use it as a context manager and pass it as `callback`. It shows a bar for all files
    and one for each current file. It shows nothing unless standard error is a terminal
    and rich is installed.
    """
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):
        return _Bars()
    return NoOpCallback()


class _Bar(Callback):  # type: ignore[misc]
    """One progress bar."""

    def __init__(self, bars: Any, text: str) -> None:
        super().__init__()
        self._bars = bars
        self._task = bars.add_task(text, total=None)

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Update the bar."""
        self._bars.update(self._task, total=self.size, completed=self.value)

    def close(self) -> None:
        """Remove the bar."""
        self._bars.remove_task(self._task)


class _Bars(_Bar):
    """The bar that counts files, with a bar for each current file below it."""

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
        """Return the bar of one file."""
        return _Bar(self._bars, path_1.rsplit("/", 1)[-1])

    def close(self) -> None:
        """Restore the terminal."""
        self._bars.stop()
