"""Copies files and directories into a DVC repository: all of them or none."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops._toolkits.errors import input_invalid
from mlops._toolkits.stamps import ATTEMPTS, Stamps, changing, stamps

# On the repository's file system, but not part of its data.
STAGING = Path(".dvc", "tmp", "mlops")
OWN_NAMES = frozenset(
    {".dvc", ".dvcignore", "dvc.yaml", "dvc.lock", ".git", ".gitignore"}
)


def is_own(name: str) -> bool:
    """Return whether a file of that name belongs to DVC or Git and is not data."""
    return name in OWN_NAMES or name.endswith(".dvc")


# Identifies a directory, whatever its path.
Identity = tuple[int, int]


def identity(directory: Path) -> Identity:
    """Return the device and inode of a directory."""
    status = directory.stat()
    return status.st_dev, status.st_ino


def stamps_of(path: Path) -> Stamps:
    """Return the stamps of the files that copy() would copy."""
    return stamps(lambda: files_below(path) if path.is_dir() else [path])


def copy_unchanged(source: Path, place: Path, above: frozenset[Identity]) -> None:
    """Copy like copy(), and repeat if other processes write to the source meanwhile.

    Raises:
        MLOpsClientError: FILE_CHANGING if it changed during each of ATTEMPTS copies.
    """
    for _ in range(ATTEMPTS):
        before = stamps_of(source)
        with suppress(FileNotFoundError):
            copy(source, place, above)
            if stamps_of(source) == before:
                return
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    raise changing(source)


def copy(source: Path, place: Path, above: frozenset[Identity] = frozenset()) -> None:
    """Copy a file or a directory tree, following links, without DVC's own files.

    Args:
        above: Directories that a link must not lead to.

    Raises:
        MLOpsClientError: INPUT_INVALID for an entry that is neither a file nor a
            directory, and for links that lead to a directory in `above` or form a
            cycle.
    """
    if source.is_file():
        shutil.copy2(source, place)
        return
    if not os.path.lexists(source):
        raise FileNotFoundError(source)
    if not source.is_dir():
        raise input_invalid("path", f"{source} is neither a file nor a directory")
    entries, above = _entries(source, above)
    place.mkdir()
    for entry in entries:
        copy(entry, place / entry.name, above)


def files_below(
    directory: Path, above: frozenset[Identity] = frozenset()
) -> Iterator[Path]:
    """Yield every file below a directory that copy() would copy.

    Raises:
        MLOpsClientError: INPUT_INVALID for links, as copy() does.
    """
    entries, above = _entries(directory, above)
    for entry in entries:
        if entry.is_dir():
            yield from files_below(entry, above)
        else:
            yield entry


def _entries(
    directory: Path, above: frozenset[Identity]
) -> tuple[list[Path], frozenset[Identity]]:
    """Return the entries of a directory, and `above` with this directory added."""
    here = identity(directory)
    if here in above:
        raise input_invalid(
            "path",
            f"{directory} leads to a directory that it is in, "
            "or to the repository itself",
        )
    return sorted(
        entry for entry in directory.iterdir() if not is_own(entry.name)
    ), above | {here}


class Change:
    """Replaces several files of a repository together: all of them or none.

    The data to undo the change is in `directory`, below the repository's `root`. If the
    process is killed, recover() undoes the change. The caller holds the repository's
    lock.
    """

    def __init__(self, root: Path, directory: Path) -> None:
        self._root, self._directory, self._plan = root, directory, directory / "plan"
        self._new, self._old = directory / "new", directory / "old"

    @classmethod
    def prepare(
        cls, root: Path, copies: Sequence[tuple[Path, Path]], written: Sequence[Path]
    ) -> "Change":
        """Stage a copy of every source in `copies`.

        Args:
            copies: Pairs of source and destination.
            written: Files that others will write during the change; they are backed up.
        """
        change = cls(root, root / STAGING / uuid.uuid4().hex)
        change._new.mkdir(parents=True)
        change._old.mkdir()
        try:
            for number, (source, _) in enumerate(copies):
                copy_unchanged(
                    source, change._new / str(number), frozenset({identity(root)})
                )
            for number, file in enumerate(written):
                if file.exists():
                    shutil.copy2(file, change._directory / f"written{number}")
            # The plan appears by a rename, so recover() never sees part of one.
            draft = change._directory / "draft"
            # Relative paths, so that recovery in a copied workspace does not touch the
            # original.
            places = [str(place.relative_to(root)) for _, place in copies]
            draft.write_text(
                json.dumps([places, [str(file.relative_to(root)) for file in written]])
            )
            draft.rename(change._plan)
        except BaseException:
            shutil.rmtree(change._directory)
            raise
        return change

    def apply(self) -> None:
        """Put the copies in place.

        A file is replaced atomically, a directory in two steps.
        """
        places, _ = self._read_plan()
        for number, place in enumerate(places):
            place.parent.mkdir(parents=True, exist_ok=True)
            new, old = self._new / str(number), self._old / str(number)
            if os.path.lexists(place):
                _set_aside(place, old, by_link=not new.is_dir())
            new.rename(place)

    def undo(self) -> None:
        """Restore the previous state. Idempotent: it can be repeated after a crash."""
        places, written = self._read_plan()
        for number, place in enumerate(places):
            new, old = self._new / str(number), self._old / str(number)
            # Skip steps that apply() did not reach or an earlier undo() has done.
            if not os.path.lexists(new) and os.path.lexists(place):
                place.rename(new)
            if os.path.lexists(old):
                old.rename(place)
        for number, file in enumerate(written):
            before = self._directory / f"written{number}"
            if before.exists():
                shutil.copy2(before, file)
            else:
                file.unlink(missing_ok=True)
        for place in places:
            # apply() may have created these directories.
            _remove_empty(place.parent)
        self._forget()

    def keep(self) -> None:
        """Make the change final."""
        self._forget()

    def _forget(self) -> None:
        with suppress(FileNotFoundError):
            # Remove the plan first: without it, recover() does not undo the change.
            self._plan.unlink()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _read_plan(self) -> tuple[list[Path], list[Path]]:
        places, written = json.loads(self._plan.read_text())
        return [self._root / place for place in places], [
            self._root / file for file in written
        ]


def recover(root: Path) -> None:
    """Undo the changes of killed processes. The caller holds the repository's lock."""
    if not (root / STAGING).is_dir():
        return
    for directory in (root / STAGING).iterdir():
        change = Change(root, directory)
        if change._plan.exists():
            change.undo()
        else:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def changed(
    root: Path, copies: Sequence[tuple[Path, Path]], written: Sequence[Path]
) -> Iterator[None]:
    """Put copies in place for the block, and undo that if the block raises.

    The files in `written` are then restored, too.
    """
    change = Change.prepare(root, copies, written)
    try:
        change.apply()
        yield
    except BaseException:
        change.undo()
        raise
    change.keep()


def _set_aside(place: Path, old: Path, by_link: bool) -> None:
    """Move `place` to `old`.

    A file gets a second name first, by a hard link, so that it can be replaced
    atomically. Where hard links are impossible, it is renamed.
    """
    try:
        if by_link:
            return os.link(place, old, follow_symlinks=False)
    except OSError:
        pass
    place.rename(old)


def _remove_empty(directory: Path) -> None:
    """Remove a directory and its parents as long as they are empty.

    A repository's root is never empty.
    """
    with suppress(OSError):
        while True:
            directory.rmdir()
            directory = directory.parent
