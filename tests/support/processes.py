"""Processes that tests start."""

import contextlib
import subprocess
from collections.abc import Iterator
from typing import AnyStr


@contextlib.contextmanager
def killed_at_end(
    process: "subprocess.Popen[AnyStr]",
) -> Iterator["subprocess.Popen[AnyStr]"]:
    """Yields a process, and kills it at the end unless the block has ended it."""
    with process:
        try:
            yield process
        finally:
            process.kill()
