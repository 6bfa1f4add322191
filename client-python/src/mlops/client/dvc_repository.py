"""One DVC repository, opened for one operation: the only importer of dvc."""

import json
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mlops.client import dvc_config
from mlops.client.file_lock import busy, locked

_LOGGERS = ("dvc", "dvc_data", "dvc_objects")


@contextmanager
def _console_kept() -> Iterator[None]:
    """The first import of dvc lets its log write to the console, and wraps sys.stdout:
    not in our users' programs.

    Its log then goes where that of the program goes.
    """
    first = "dvc" not in sys.modules
    streams = sys.stdout, sys.stderr
    yield
    if first:
        sys.stdout, sys.stderr = streams
        for name in _LOGGERS:
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]


with _console_kept():
    from dvc.exceptions import DownloadError, DvcException, UploadError
    from dvc.fs import RemoteMissingDepsError
    from dvc.lock import LockError, make_lock
    from dvc.output import Output
    from dvc.repo import Repo, lock_repo
    from dvc.repo.stage import StageInfo, StageLoad
    from dvc.stage import Stage
    from dvc_data.hashfile import _progress

__all__ = [
    "REMOTE",
    "DownloadError",
    "DvcException",
    "Output",
    "RemoteMissingDepsError",
    "Repository",
    "Stage",
    "UploadError",
    "causes",
    "opened",
    "peeked",
]

REMOTE = dvc_config.REMOTE


class _QueryingProgress(_progress.QueryingProgress):  # type: ignore[misc]
    """DVC takes the path of a cache or remote for a format string, so that braces in it
    fail.
    """

    def __init__(
        self,
        iterable: Any = None,
        total: int | None = None,
        name: str = "",
        phase: str = "Querying",
    ) -> None:
        super().__init__(
            iterable, total, name.replace("{", "{{").replace("}", "}}"), phase
        )


_progress.QueryingProgress = _QueryingProgress


class _ExactTargets(StageLoad):  # type: ignore[misc]
    """Takes targets for paths:

    DVC also looks for names of stages in them, after a ":", and for globs.
    """

    def collect_granular(
        self, target: str | None = None, **named: Any
    ) -> list[StageInfo]:
        """What a .dvc file or a path in a tracked directory means; everything without a
        target.
        """
        if not target:
            return list(super().collect_granular(**named))
        whole = [
            StageInfo(stage) for stage in self.repo.index.stages if stage.path == target
        ]
        return whole or [
            StageInfo(out.stage, target)
            for out in self.repo.find_outs_by_path(target, strict=False)
        ]


class Repository(Repo):  # type: ignore[misc]
    """A repository whose site cache is in its own .dvc; DVC's own way there changes the
    umask of the whole process.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.stage = _ExactTargets(self)

    @property
    def site_cache_dir(self) -> str:
        """Where indexes and known hashes are kept."""
        return os.path.join(self.dvc_dir, dvc_config.SITE_CACHE)

    def refresh(self) -> None:
        """Forgets what was read of files that have been written since."""
        self._reset()

    def tracked(self) -> list[Output]:
        """Every file or directory that is tracked by itself."""
        return list(self.index.outs)

    def contents(self, targets: Sequence[str] | None) -> Iterator[tuple[Path, Any]]:
        """The files, and lists of directories, of `targets`, by default all, and their
        hashes.
        """
        data = self.index.targets_view(targets).data["repo"]
        # A directory whose list is lost is then an entry without files.
        data.onerror = lambda _entry, _error: None
        for key, entry in data.iteritems():
            if entry.hash_info:
                yield Path(self.root_dir, *key), entry.hash_info

    def missing(self, targets: Sequence[str] | None) -> list[tuple[Path, Any]]:
        """Those of contents() that are not in the cache."""
        return [
            (path, identity)
            for path, identity in self.contents(targets)
            if not self._cached(identity.value)
        ]

    def add_verified(self, paths: Sequence[str], link: bool) -> list[Stage]:
        """Adds files and directories in place: each stays the file that it is, so that
        a process can go on writing it.

        DVC hashes a file first and copies it to the cache later. A copy that does not
        match its hash is not kept, and has_content() is then False. With `link`, files
        become links to the cache where `cache.type` asks for that.
        """
        cache = self.cache.local
        add = cache.add
        cache.add = lambda *args, **named: add(*args, **{**named, "verify": True})
        try:
            return list(
                self.add(
                    paths,
                    relink=link
                    and not {"hardlink", "symlink"}.isdisjoint(cache.cache_types),
                )
            )
        finally:
            cache.add = add

    def has_content(self, out: Output, path: Path) -> bool:
        """Whether the content that was just added as `out` is in the cache, as far as
        it is at or below `path`.
        """
        own = Path(out.fs_path)
        below = path.relative_to(own).parts if path.is_relative_to(own) else ()
        entries = (
            [identity for key, _, identity in out.obj if key[: len(below)] == below]
            if out.hash_info.isdir
            else []
        )
        return all(
            self._cached(identity.value) for identity in [out.hash_info, *entries]
        )

    def measure(self, part: Any) -> tuple[int, int]:
        """How many files a part of a tracked directory has in the cache, and bytes."""
        identities = (
            [identity for _, _, identity in part]
            if part.hash_info.isdir
            else [part.hash_info]
        )
        sizes = [
            os.path.getsize(self.cache.local.oid_to_path(identity.value))
            for identity in identities
        ]
        return len(sizes), sum(sizes)

    def _cached(self, value: str) -> bool:
        return bool(self.cache.local.exists(value))


@contextmanager
def opened(
    root: Path, remote_url: str, default_url: str, remote: str, wait_seconds: float
) -> Iterator[Repository]:
    """The repository in `root`, made if there is none, for this thread alone, for
    transfers from and to `remote`.

    REMOTE is at `remote_url`, in the configuration for users of DVC's command line at
    `default_url`. Raises MLOpsClientError REPOSITORY_BUSY if others are at work in it
    for `wait_seconds`.
    """
    _make(root)
    deadline = time.monotonic() + wait_seconds
    temporary = root / ".dvc" / "tmp"
    temporary.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(temporary / "mlops.lock", wait_seconds))
        dvc_config.update(root, default_url)
        repo = stack.enter_context(peeked(root, remote_url, remote))
        # Others may use DVC's command line, whose lock is tried for 3 seconds.
        while True:
            try:
                stack.enter_context(lock_repo(repo))
                break
            except LockError:
                if time.monotonic() >= deadline:
                    raise busy(temporary / "lock", wait_seconds) from None
        _mend(temporary)
        yield repo


def peeked(root: Path, remote_url: str, remote: str = REMOTE) -> Repository:
    """The repository in `root`, which must be there, without any lock."""
    return Repository(
        str(root),
        config={
            "core": {"no_scm": True, "analytics": False, "check_update": False},
            "remote": {REMOTE: {"url": remote_url}},
        },
        remote=remote,
    )


def _make(root: Path) -> None:
    """What Repo.init(no_scm=True) does, but in one step for all who do it at once, and
    without a cache elsewhere.
    """
    if (root / ".dvc").is_dir():
        return
    draft = root / f".dvc~{uuid.uuid4().hex}"
    try:
        (draft / "tmp").mkdir(parents=True)
        (draft / "config").write_text("[core]\n    no_scm = True\n")
        draft.rename(root / ".dvc")
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not (root / ".dvc").is_dir():  # Nobody else made it meanwhile.
            raise


def _mend(temporary: Path) -> None:
    """Removes DVC's list of readers and writers if a killed process left half of it:

    DVC refuses to go on with that.
    """
    file = temporary / "rwlock"
    with make_lock(str(temporary / "rwlock.lock")), suppress(FileNotFoundError):
        try:
            json.loads(file.read_bytes())
        except ValueError:
            file.unlink()


@contextmanager
def causes() -> Iterator[dict[str, BaseException]]:
    """Collects why objects could not be transferred, by hash; DVC says it in its log
    alone.
    """
    found: dict[str, BaseException] = {}

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (
                record.exc_info
                and record.exc_info[1]
                and isinstance(record.args, tuple)
                and record.args
            ):
                found[str(record.args[0])] = record.exc_info[1]

    collector = Collector(logging.ERROR)
    logger = logging.getLogger("dvc_data")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
