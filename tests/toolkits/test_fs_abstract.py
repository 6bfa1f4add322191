"""Runs fsspec's own tests of file systems against a live server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)
from mlops.fs import WorkspaceFileSystem
from mlops.workspace import WorkspaceManager

from support.server import short_base, stop_server


@pytest.fixture(scope="module")
def shared_base() -> Iterator[Path]:
    # The tests write thousands of files, and the server syncs each. In memory, a sync
    # takes no time.
    with short_base("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") as path:
        yield path
        stop_server(path)


class Fixtures(AbstractFixtures):
    @pytest.fixture(params=["of all workspaces", "of one"])
    def fs(
        self, request: pytest.FixtureRequest, shared_base: Path
    ) -> AbstractFileSystem:
        workspace = WorkspaceManager(shared_base).get_or_create_workspace("fraud")
        if request.param == "of one":
            return workspace.files
        return WorkspaceFileSystem(base_path=shared_base, by_path=False)

    @pytest.fixture
    def fs_path(self, fs: AbstractFileSystem) -> Iterator[str]:
        path = (
            "outputs/suite" if isinstance(fs, DirFileSystem) else "fraud/outputs/suite"
        )
        fs.makedirs(path, exist_ok=True)
        yield path
        fs.rm(path, recursive=True)

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)


class TestCopy(Fixtures, AbstractCopyTests):
    pass


class TestGet(Fixtures, AbstractGetTests):
    pass


class TestPut(Fixtures, AbstractPutTests):
    pass


class TestOpen(Fixtures, AbstractOpenTests):
    pass


class TestPipe(Fixtures, AbstractPipeTests):
    pass
