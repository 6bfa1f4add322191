"""One DVC repository, opened for one operation. Only this module imports dvc."""

import json
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops._toolkits.locks import busy, locked
from mlops.client import dvc_config

_LOGGERS = ("dvc", "dvc_data", "dvc_objects")


@contextmanager
def _console_kept() -> Iterator[None]:
    """Undo what the first import of dvc does to the program's console.

    The import adds log handlers that write to the console, and wraps sys.stdout. After
    the block, DVC's log records go where the program's records go.
    """
    first = "dvc" not in sys.modules
    streams = sys.stdout, sys.stderr
    yield
    if first:
        sys.stdout, sys.stderr = streams
        for name in _LOGGERS:
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]


with _console_kept():
    from dvc import prompt
    from dvc.exceptions import DownloadError, DvcException, UploadError
    from dvc.fs import RemoteMissingDepsError
    from dvc.lock import LockError, make_lock
    from dvc.output import Output
    from dvc.repo import Repo, lock_repo
    from dvc.repo.stage import StageInfo, StageLoad
    from dvc.scm import SCM
    from dvc.stage import Stage
    from dvc_data.hashfile import _progress
    from dvc_data.hashfile.db import get_index
    from dvc_data.hashfile.gc import gc

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
    "remove_unused",
    "unused",
]

REMOTE = dvc_config.REMOTE


class _QueryingProgress(_progress.QueryingProgress):  # type: ignore[misc]
    """Escapes braces in paths.

    DVC uses the path of a cache or remote as a format string.
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
    """Treats targets as paths only.

    DVC would also search them for stage names, after a ":", and for globs.
    """

    def collect_granular(
        self, target: str | None = None, **named: Any
    ) -> list[StageInfo]:
        """Return the stages of a .dvc file or of a path in a tracked directory.

        Without a target, returns all stages.
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
    """A repository whose site cache is in its own .dvc directory.

    DVC's own way to set up a shared site cache changes the umask of the process.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.stage = _ExactTargets(self)

    @property
    def site_cache_dir(self) -> str:
        """The directory for indexes and known hashes."""
        return os.path.join(self.dvc_dir, dvc_config.SITE_CACHE)

    def refresh(self) -> None:
        """Discard cached data from files that may have changed since."""
        self._reset()

    def tracked(self) -> list[Output]:
        """Return every file or directory with its own .dvc file."""
        return list(self.index.outs)

    def versions(self, git: bool) -> list[dict[str, Any]]:
        """Return the present version of each tracked path and, with `git`, all others.

        Ordered by path, then the latest first.
        """
        present = [self._version(out, None, _modified(out)) for out in self.tracked()]
        if git:
            present += self._committed({(one["path"], one["md5"]) for one in present})
        # Sorts are stable.
        present.sort(key=lambda one: str(one["changed_at"]), reverse=True)
        present.sort(key=lambda one: (str(one["path"]), one["commit"] is not None))
        return present

    def _version(
        self, out: Output, commit: str | None, seconds: float | None
    ) -> dict[str, Any]:
        md5 = out.hash_info.value
        return {
            "path": "/".join(self.fs.relparts(out.fs_path, self.root_dir)),
            "md5": md5,
            "size_bytes": out.meta.size if out.meta else None,
            "files": (out.meta.nfiles if out.meta else None) or 1,
            "changed_at": None
            if seconds is None
            else datetime.fromtimestamp(seconds, UTC).isoformat(),
            "commit": commit,
            "in_cache": bool(md5) and self._cached(md5),
        }

    def _committed(self, seen: set[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return the versions in Git's history other than `seen`."""
        # Attach Git for this scan only: a repository with Git writes .gitignore files.
        without = self.scm
        scm = SCM(self.root_dir)
        self.__dict__["scm"] = scm
        found: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            for commit in self.brancher(
                all_branches=True,
                all_tags=True,
                all_commits=True,
                workspace=False,
                sha_only=True,
            ):
                seconds = scm.resolve_commit(commit).commit_time
                for out in self.index.outs:
                    version = self._version(out, commit, seconds)
                    key = version["path"], version["md5"]
                    # Many commits have the same version: report its earliest commit.
                    first = found.get(key, version)
                    if key not in seen and version["changed_at"] <= first["changed_at"]:
                        found[key] = version
        finally:
            self.__dict__["scm"] = without
            self.refresh()
        return list(found.values())

    def in_remote(self, md5: str | None, local: bool) -> bool | None:
        """Return whether the remote in this file system has a version."""
        if not md5 or not local:
            return None
        return any(store.exists(md5) for store in self.remote_stores(REMOTE))

    def contents(self, targets: Sequence[str] | None) -> Iterator[tuple[Path, Any]]:
        """Yield the files and directory lists of `targets`, with their hashes.

        The default is everything.
        """
        data = self.index.targets_view(targets).data["repo"]
        # Treat a directory whose list is missing as an entry without files.
        data.onerror = lambda _entry, _error: None
        for key, entry in data.iteritems():
            if entry.hash_info:
                yield Path(self.root_dir, *key), entry.hash_info

    def missing(self, targets: Sequence[str] | None) -> list[tuple[Path, Any]]:
        """Return the entries of contents() that are not in the cache."""
        return [
            (path, identity)
            for path, identity in self.contents(targets)
            if not self._cached(identity.value)
        ]

    def add_verified(self, paths: Sequence[str], link: bool) -> list[Stage]:
        """Add files and directories in place.

        Every file stays the same inode, so that other processes can continue writing to
        it. DVC hashes a file first and copies it to the cache later. A copy that does
        not match its hash is dropped, and has_content() then returns False.

        Args:
            link: Replace files by links to the cache if `cache.type` asks for that.
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
        """Return whether the cache has the content of `out` at or below `path`."""
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
        """Return the number of files and bytes in the cache for part of a directory."""
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

    def used(self, git: bool) -> set[Any]:
        """Return the hashes that the tracked files have, now and in Git's history.

        Git's history comprises the commits of all branches and tags, experiments, and
        stashes.

        Args:
            git: Whether the repository is in a Git repository.

        Raises:
            DvcException: A version cannot be read, or the list of the files in a
                tracked directory is neither in the cache nor in the remote.
        """
        # A repository opened with Git writes a .gitignore, so this one is opened
        # without Git.
        without = self.scm
        scm = SCM(self.root_dir) if git else without
        self.__dict__["scm"] = scm
        try:
            with _no_questions():
                found = self.used_objs(
                    all_branches=git,
                    all_tags=git,
                    all_commits=git,
                    all_experiments=git,
                    revs=["refs/stash"] if git and scm.get_ref("refs/stash") else None,
                )
        finally:
            self.__dict__["scm"] = without
            self.refresh()
        return set().union(*found.values())

    def caches(self) -> list[Any]:
        """Return the databases of the cache that exist."""
        found = {odb.path: odb for _, odb in self.cache.by_scheme() if odb}
        return [odb for path, odb in found.items() if os.path.isdir(path)]

    def remote_stores(self, name: str) -> list[Any]:
        """Return the databases of a remote in this file system that exist."""
        stores = [
            self.cloud.get_remote_odb(name, hash_name=kind)
            for kind in ("md5", "md5-dos2unix")
        ]
        found = {odb.path: odb for odb in stores}
        return [odb for path, odb in found.items() if os.path.isdir(path)]

    def _cached(self, value: str) -> bool:
        return bool(self.cache.local.exists(value))


def _modified(out: Output) -> float | None:
    """Return when the .dvc file of an output was written."""
    try:
        return os.stat(out.stage.path).st_mtime
    except OSError:
        return None


def unused(store: Any, used: Iterable[Any]) -> list[Path]:
    """Return the files of a database in this file system that `used` does not name."""
    values = {each.value for each in used if each.name == store.hash_name}
    return [
        Path(store.oid_to_path(value)) for value in store.all() if value not in values
    ]


def remove_unused(store: Any, used: Iterable[Any]) -> None:
    """Remove the files of unused(), as `dvc gc` does."""
    if gc(store, used):
        get_index(store).clear()


@contextmanager
def _no_questions() -> Iterator[None]:
    """Answer DVC's prompts with no, instead of asking the user at the terminal."""
    confirm = prompt.confirm
    prompt.confirm = lambda _statement: False
    try:
        yield
    finally:
        prompt.confirm = confirm


@contextmanager
def opened(
    root: Path, remote_url: str, default_url: str, remote: str, wait_seconds: float
) -> Iterator[Repository]:
    """Open the repository in `root` exclusively, for transfers with `remote`.

    Creates the repository if missing. In this process, REMOTE is at `remote_url`. The
    configuration, which DVC's command line reads, names `default_url`.

    Raises:
        MLOpsClientError: REPOSITORY_BUSY if others use the repository for
            `wait_seconds`.
    """
    _make(root)
    deadline = time.monotonic() + wait_seconds
    temporary = root / ".dvc" / "tmp"
    temporary.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(temporary / "mlops.lock", wait_seconds))
        dvc_config.update(root, default_url)
        repo = stack.enter_context(peeked(root, remote_url, remote))
        # DVC's command line uses DVC's own lock, which DVC tries for 3 seconds.
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
    """Return the existing repository in `root`, without any lock."""
    return Repository(
        str(root),
        config={
            "core": {"no_scm": True, "analytics": False, "check_update": False},
            "remote": {REMOTE: {"url": remote_url}},
        },
        remote=remote,
    )


def _make(root: Path) -> None:
    """Create the repository as Repo.init(no_scm=True) does, but atomically.

    Concurrent callers are safe, and no cache is created elsewhere.
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
        if not (root / ".dvc").is_dir():  # No other process created it.
            raise


def _mend(temporary: Path) -> None:
    """Remove DVC's list of readers and writers if a killed process truncated it.

    DVC refuses to work with a truncated list.
    """
    file = temporary / "rwlock"
    with make_lock(str(temporary / "rwlock.lock")), suppress(FileNotFoundError):
        try:
            json.loads(file.read_bytes())
        except ValueError:
            file.unlink()


@contextmanager
def causes() -> Iterator[dict[str, BaseException]]:
    """Collect the exceptions of failed transfers by hash; DVC only logs them."""
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
