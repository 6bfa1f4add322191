"""Progress bars for get and put."""

from __future__ import annotations

import html
import importlib.util
import sys
import time
from typing import Any

from fsspec.callbacks import Callback, NoOpCallback


def progress() -> Callback:
    """Return a callback that shows progress bars, for `fs.get` and `fs.put`.

    Use it as a context manager and pass it as `callback`. At a terminal, it shows a bar
    for all files and one for each current file, if rich is installed. In a notebook, it
    shows a bar for all files. Elsewhere it shows nothing.
    """
    if _in_notebook():
        return _NotebookBar()
    if sys.stderr.isatty() and importlib.util.find_spec("rich"):
        return _Bars()
    return NoOpCallback()


def _in_notebook() -> bool:
    """Return whether the output of this process is a notebook's."""
    # Every notebook kernel has imported IPython.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class _NotebookBar(Callback):  # type: ignore[misc]
    """The bar that counts files in a notebook. Needs no widgets."""

    _PAUSE_S = 0.2

    def __init__(self) -> None:
        super().__init__()
        from IPython.display import HTML, display

        self._html = HTML
        self._handle = display(HTML(""), display_id=True)
        self._shown_at = 0.0
        self._bytes = 0

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Update the bar, a few times a second."""
        now = time.monotonic()
        done = self.size is not None and self.value >= self.size
        if done or now - self._shown_at >= self._PAUSE_S:
            self._show(now)

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
        """Return the callback of one file, which only adds its bytes to the text."""
        return _NotebookFile(self)

    def add_bytes(self, count: int) -> None:
        """Count bytes that were copied. Called by several threads."""
        self._bytes += count
        self.call()

    def close(self) -> None:
        """Show the final state."""
        self._show(time.monotonic())

    def _show(self, now: float) -> None:
        self._shown_at = now
        total = "" if self.size is None else f' max="{int(self.size)}"'
        text = html.escape(
            f"{self.value} of {'?' if self.size is None else self.size}, "
            f"{self._bytes / (1 << 20):.1f} MiB"
        )
        bar = f'<progress value="{int(self.value)}"{total}></progress> {text}'
        self._handle.update(self._html(bar))


class _NotebookFile(Callback):  # type: ignore[misc]
    """The progress of one file."""

    def __init__(self, bar: _NotebookBar) -> None:
        super().__init__()
        self._bar = bar
        self._reported = 0

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Pass the bytes on."""
        new = int(self.value) - self._reported
        if new > 0:
            self._reported += new
            self._bar.add_bytes(new)


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
