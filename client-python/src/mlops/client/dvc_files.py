"""Files and directories on their way into a DVC repository: copied aside, put in place
in one step, or all undone.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops.client.errors import input_invalid
from mlops.client.stamps import ATTEMPTS, Stamps, changing, stamps

# On the file system of the repository, and none of its data.
STAGING = Path(".dvc", "tmp", "mlops")
OWN_NAMES = frozenset(
    {".dvc", ".dvcignore", "dvc.yaml", "dvc.lock", ".git", ".gitignore"}
)


def is_own(name: str) -> bool:
    """Whether files of that name are DVC's or Git's own, never data."""
    return name in OWN_NAMES or name.endswith(".dvc")


Identity = tuple[int, int]  # Of a directory, whatever the path to it.


def identity(directory: Path) -> Identity:
    """Tells a directory from all others."""
    status = directory.stat()
    return status.st_dev, status.st_ino


def stamps_of(path: Path) -> Stamps:
    """Those of the files that copy() would copy."""
    return stamps(lambda: files_below(path) if path.is_dir() else [path])


def copy_unchanged(source: Path, place: Path, above: frozenset[Identity]) -> None:
    """Copies as copy(); what somebody else writes to meanwhile is copied again.

    Raises MLOpsClientError FILE_CHANGING if it changed during each of ATTEMPTS copies.
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
    """Copies a file or directory with what is below it, what links lead to included,
    DVC's own files left out.

    Raises MLOpsClientError INPUT_INVALID for what is neither file nor directory, and
    for links that lead to one of the directories `above`, or in circles.
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
    """Every file below a directory that copy() would copy. Raises as copy() does of
    circles.
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
    """What is in a directory, and the directories above that: `above` and this one."""
    here = identity(directory)
    if here in above:
        raise input_invalid(
            "path",
            f"{directory} leads to a directory that it is in, or to the repository itself",
        )
    return sorted(
        entry for entry in directory.iterdir() if not is_own(entry.name)
    ), above | {here}


class Change:
    """Files of a repository that are replaced together: all of them, or in the end
    none.

    What it needs to undo itself lies in a `directory` of its own below the repository's
    `root`: should the process be killed, recover() undoes it. Callers hold the
    repository's lock.
    """

    def __init__(self, root: Path, directory: Path) -> None:
        self._root, self._directory, self._plan = root, directory, directory / "plan"
        self._new, self._old = directory / "new", directory / "old"

    @classmethod
    def prepare(
        cls, root: Path, copies: Sequence[tuple[Path, Path]], written: Sequence[Path]
    ) -> "Change":
        """Copies each source aside that `copies` has a place for.

        `written` are files that others will write.
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
            draft = change._directory / "draft"
            # Relative: a copy of the workspace must not put the original in order.
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
        """Puts the copies in place; a file is replaced at once, a directory in two
        steps.
        """
        places, _ = self._read_plan()
        for number, place in enumerate(places):
            place.parent.mkdir(parents=True, exist_ok=True)
            new, old = self._new / str(number), self._old / str(number)
            if os.path.lexists(place):
                _set_aside(place, old, by_link=not new.is_dir())
            new.rename(place)

    def undo(self) -> None:
        """Puts everything back as it was. May itself be broken off, and done again."""
        places, written = self._read_plan()
        for number, place in enumerate(places):
            new, old = self._new / str(number), self._old / str(number)
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
            _remove_empty(place.parent)
        self._forget()

    def keep(self) -> None:
        """Makes it final."""
        self._forget()

    def _forget(self) -> None:
        with suppress(FileNotFoundError):
            self._plan.unlink()  # First: without a plan nothing is undone any more.
        shutil.rmtree(self._directory, ignore_errors=True)

    def _read_plan(self) -> tuple[list[Path], list[Path]]:
        places, written = json.loads(self._plan.read_text())
        return [self._root / place for place in places], [
            self._root / file for file in written
        ]


def recover(root: Path) -> None:
    """Undoes what killed processes left half done. Callers hold the repository's lock."""
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
    """Copies files to their places for the block.

    If it raises, they and the files it has `written` are as before.
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
    """By a second name, so that a file can be replaced in one step; by renaming where
    there can be none.
    """
    try:
        if by_link:
            return os.link(place, old, follow_symlinks=False)
    except OSError:
        pass
    place.rename(old)


def _remove_empty(directory: Path) -> None:
    """Removes it, and then those above, as long as they are empty; a repository's root
    never is.
    """
    with suppress(OSError):
        while True:
            directory.rmdir()
            directory = directory.parent
