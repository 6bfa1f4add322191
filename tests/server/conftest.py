from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server import short_base


@pytest.fixture
def base() -> Iterator[Path]:
    """A base directory that does not exist yet; its parent is removed afterwards."""
    with short_base() as path:
        yield path
