"""The files of a workspace under a lease of their manager."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager


@pytest.fixture
def managers(base: Path) -> Iterator[tuple[WorkspaceManager, WorkspaceManager]]:
    """Two clients of a base that has the workspace "fraud"."""
    with WorkspaceManager(base) as one, WorkspaceManager(base) as other:
        one.create_workspace("fraud")
        yield one, other


Managers = tuple[WorkspaceManager, WorkspaceManager]


def test_changes_of_files_carry_the_lease_and_others_are_refused(
    managers: Managers,
) -> None:
    one, other = managers
    files = one.get_workspace("fraud").files
    others_files = other.get_workspace("fraud").files
    with one.lease("fraud", holder="trainer-7"):
        with files.open("outputs/x", "wb") as file:
            file.write(b"x" * (3 << 20))
        files.pipe_file("outputs/a/y", b"y")
        files.mv("outputs/a/y", "outputs/z")
        files.rm("outputs/z")
        with pytest.raises(OSError, match="trainer-7"):
            others_files.pipe_file("outputs/b", b"b")
        with pytest.raises(OSError, match="trainer-7"):
            others_files.rm("outputs/x")
        assert others_files.info("outputs/x")["size"] == 3 << 20
    others_files.pipe_file("outputs/b", b"b")


def test_files_are_put_by_path_with_the_lease(
    managers: Managers, tmp_path: Path
) -> None:
    one, other = managers
    source = tmp_path / "large"
    source.write_bytes(b"x" * (5 << 20))
    with one.lease("fraud"):
        one.get_workspace("fraud").files.put_file(str(source), "outputs/x")
        with pytest.raises(OSError, match="lease"):
            other.get_workspace("fraud").files.put_file(str(source), "outputs/y")
    assert one.get_workspace("fraud").files.ls("outputs", detail=False) == ["outputs/x"]


def test_a_file_opened_before_the_lease_is_written_with_it(managers: Managers) -> None:
    files = managers[0].get_workspace("fraud").files
    with files.open("outputs/x", "wb") as file, managers[0].lease("fraud"):
        file.write(b"x")
        file.close()
    assert files.cat_file("outputs/x") == b"x"


def test_a_file_whose_lease_is_lost_is_not_written(managers: Managers) -> None:
    one, other = managers
    files = one.get_workspace("fraud").files
    with pytest.raises(OSError, match="lease"), one.lease("fraud"):
        file = files.open("outputs/x", "wb")
        file.write(b"x" * (3 << 20))
        other.release_lease("fraud", force=True)
        with other.lease("fraud"):
            file.close()
    assert not files.exists("outputs/x")
