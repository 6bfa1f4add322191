"""DVCClient: the workspace's DVC repository."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mlops._toolkits.errors import MLOpsClientError, input_invalid
from mlops._toolkits.paths import expanded, find_input
from mlops._toolkits.stamps import ATTEMPTS, changing
from mlops.client import dvc_files
from mlops.client.dvc_repository import (
    REMOTE,
    DownloadError,
    DvcException,
    Output,
    RemoteMissingDepsError,
    Repository,
    Stage,
    UploadError,
    causes,
    opened,
    peeked,
    remove_unused,
    unused,
)
from mlops.client.garbage import Freed, Kept, Others, size_of
from mlops.workspace import ProjectWorkspace, WorkspaceError

Pathlike = str | os.PathLike[str]

WAIT_SECONDS = 600.0  # For other users of the repository.
_NAMES_SHOWN = 10


class DVCClient:
    """The DVC repository in a workspace's dvc/, without a source code manager.

    The first call that changes the repository creates it. Its remote is "remote_path"
    of `config`, or else the workspace's `dvc_remote_path` at the time of the call: a
    URL or a path. A relative path is below dvc/. In a copied or moved workspace, the
    remote and every location below the old workspace in DVC's configuration follow the
    copy. DVC needs paths in UTF-8.

    Thread-safe. Calls by several threads and processes wait for each other, for at most
    WAIT_SECONDS; then they raise REPOSITORY_BUSY. If the workspace has a server, each
    call holds the workspace's lease, so that calls on other hosts wait too. A call
    within a lease of the same manager uses that lease.
    """

    def __init__(self, workspace: ProjectWorkspace, config: Mapping[str, Any]) -> None:
        self._workspace = workspace
        self._remote_path = (
            os.fspath(config["remote_path"]) if "remote_path" in config else None
        )

    def add(self, path: Pathlike, recursive: bool = False) -> dict[str, Any]:
        """Track a file or directory as it is at one moment.

        The version tracked before becomes the previous version. Adding a part of a
        tracked directory makes a new version of that directory, whose other files stay
        as in the previous version.

        A file in dvc/ keeps its inode, so a process that has it open can continue
        writing to it. A path outside dvc/ is copied into it, following links and
        omitting DVC's and Git's own files. A relative path is copied to the same
        relative path below dvc/; an absolute path, or one that begins with "..", is
        copied to its name below dvc/.

        Args:
            path: A relative path names an entry of the working directory, else of dvc/.
            recursive: Track each file below a directory separately.

        Returns:
            `success`, `path` (in the workspace), `dvc_file`, `md5`, `size` in bytes,
                the number of `files`, and whether it `changed` since it was last added.
                With `recursive`, `dvc_file` and `md5` are None, and `added` lists the
                same keys for each file.

        Raises:
            MLOpsClientError: FILE_NOT_FOUND; INPUT_INVALID for a path that cannot be
                tracked; FILE_CHANGING if other processes keep writing to it;
                LOCAL_CHANGES if the copy would replace data that is in no version;
                REPOSITORY_BUSY; TOOLKIT_FAILED. The repository is then unchanged.
        """
        if not os.fspath(path):
            raise input_invalid("path", "is empty; name a file or directory")
        source = find_input(path, [self._workspace.dvc_path])
        with self._opened() as repo:
            root = Path(repo.root_dir)
            place = _place(path, source, root)
            _check_place(repo, place)
            # Data outside the repository is copied in; data inside stays where it is.
            copies = (
                _copies(source, place, recursive, root)
                if place != _real(source)
                else []
            )
            if not copies:
                _check_links(repo, place)
            # DVC tracks each file with `recursive`, else the place as a whole.
            paths = _targets_below(repo, place, copies) if recursive else [place]
            owners = _owners(repo, paths)
            _check_owners(repo, place, owners, recursive)
            # Check everything before the first change.
            for _, copied in copies:
                _check_saved(copied, owners.get(copied))
            _check_parts(owners)
            # The former hashes, to report what has changed.
            before = {str(out): out.hash_info.value for out in set(owners.values())}
            written = [_dvc_file(item, owners.get(item)) for item in paths]
            # If adding fails, the copies and the .dvc files are restored.
            with dvc_files.changed(root, copies, list(dict.fromkeys(written))):
                stages = _add_unchanged(repo, place, paths, copied=bool(copies))
            added = [
                self._added(repo, item, stage.outs[0], before)
                for item, stage in zip(paths, stages, strict=True)
            ]
        return {
            "success": True,
            **(_summary(self._shown(place, root), added) if recursive else added[0]),
        }

    def push(
        self, targets: Sequence[Pathlike] | None = None, remote: str | None = None
    ) -> dict[str, Any]:
        """Upload tracked data to a remote.

        Args:
            targets: Paths relative to dvc/ or the working directory: a tracked entry,
                its .dvc file, or a directory with tracked files. A file in a tracked
                directory stands for the whole directory. Default: everything.
            remote: A remote's name in DVC's configuration. Default: the workspace's
                remote.

        Returns:
            `success`, `pushed` (the number of files and directory lists that the remote
                did not have), `remote` and its `url`.

        Raises:
            MLOpsClientError: INPUT_INVALID for a target that is not tracked or an
                unknown remote; DATA_MISSING if neither the cache nor the remote has a
                file's content; TOOLKIT_MISSING if DVC needs another package for this
                remote; REPOSITORY_BUSY; TOOLKIT_FAILED.
        """
        with self._opened(remote) as repo:
            name, url = _remote(repo)
            # After an upload of one file, DVC would assume that the remote has the
            # whole directory.
            chosen = self._chosen(repo, targets, whole=True)
            if chosen == []:
                return {"success": True, "pushed": 0, "remote": name, "url": url}
            with _transfer(repo, chosen, url):
                # Content that is missing in the cache may already be at the remote.
                lost = repo.missing(chosen)
                absent = (
                    repo.cloud.status({identity for _, identity in lost}).missing
                    if lost
                    else set()
                )
                _require(
                    Path(repo.root_dir),
                    [file for file, identity in lost if identity in absent],
                    url,
                )
                pushed = repo.push(targets=chosen)
        return {"success": True, "pushed": pushed, "remote": name, "url": url}

    def pull(
        self,
        targets: Sequence[Pathlike] | None = None,
        remote: str | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Download tracked data from a remote and put it in place.

        Args:
            targets: As for push(), but a file in a tracked directory is downloaded
                alone.
            remote: As for push().
            force: Overwrite local changes. Without this they are an error.

        Returns:
            `success`, the number of entries `fetched` into the cache, the numbers of
                files `added`, `modified` and `deleted` in dvc/, `remote` and its `url`.

        Raises:
            MLOpsClientError: INPUT_INVALID as for push(); DATA_MISSING if the remote
                does not have the data; LOCAL_CHANGES; REPOSITORY_BUSY; TOOLKIT_FAILED.
                The files in dvc/ are then unchanged. An exception is a full disk: DVC
                removes a file that it cannot write. The file is then in the cache, and
                the next pull restores it.
        """
        with self._opened(remote) as repo:
            name, url = _remote(repo)
            chosen = self._chosen(repo, targets, whole=False)
            counts = {"fetched": 0, "added": 0, "modified": 0, "deleted": 0}
            if chosen != []:
                counts["fetched"] = _fetch(repo, chosen, url)
                # Checkout would remove the remains of entries that are not in the
                # cache.
                _require(
                    Path(repo.root_dir), [file for file, _ in repo.missing(chosen)], url
                )
                counts |= _checkout(repo, chosen, force)
        return {"success": True, **counts, "remote": name, "url": url}

    def clean(self, dry_run: bool, others: Others) -> tuple[Freed, Freed, list[Kept]]:
        """Free objects in the cache and the workspace's remote that no version needs.

        Versions are the current one and, if the repository is in a Git repository,
        those in Git's history. Nothing outside the workspace is freed, nor anything in
        places that `others` name.

        Returns:
            What was freed in the cache, and in the remote, and what was kept.

        Raises:
            MLOpsClientError: REPOSITORY_BUSY.
        """
        root = self._workspace.dvc_path.resolve()
        cache, remote, kept = Freed(), Freed(), list[Kept]()
        if not (root / ".dvc").is_dir():
            return cache, remote, kept
        with self._opened() as repo:
            # Free nothing unless every version can be read: it may refer to anything.
            try:
                used = repo.used(_is_in_git(root))
            except DvcException as error:
                reason = f"DVC cannot tell what all versions refer to: {error}"
                return cache, remote, [Kept("dvc", str(root), reason)]
            for store in repo.caches():
                cache += self._free(repo, store, used, dry_run, others, kept)
            for name, config in sorted(repo.config["remote"].items()):
                # Other repositories may use remotes that the workspace does not name.
                if name != REMOTE:
                    reason = "is a remote that only DVC's configuration names"
                    kept.append(Kept("dvc_remote", config["url"], reason))
                    continue
                if problem := self._why_not(config["url"], others):
                    kept.append(Kept("dvc_remote", config["url"], problem))
                    continue
                for store in repo.remote_stores(name):
                    remote += self._free(repo, store, used, dry_run, others, kept)
        return cache, remote, kept

    def _free(
        self,
        repo: Repository,
        store: Any,
        used: Iterable[Any],
        dry_run: bool,
        others: Others,
        kept: list[Kept],
    ) -> Freed:
        """Free objects not in `used`; add to `kept` if the store may not be cleaned."""
        if problem := self._why_not(store.path, others):
            kept.append(Kept("dvc_cache", store.path, problem))
            return Freed()
        files = unused(store, used)
        freed = Freed(len(files), sum(size_of(file) for file in files))
        if files and not dry_run:
            remove_unused(store, used)
            repo.refresh()
        return freed

    def _why_not(self, url: str, others: Others) -> str:
        """Return why the cache or remote at `url` must not be cleaned, or ""."""
        if names := others.naming(url):
            return f"is also used by {_shortened(names)}"
        if not Path(url).resolve().is_relative_to(self._workspace.root_path.resolve()):
            return "is outside of the workspace, so others may use it"
        return ""

    def count(self) -> dict[str, int]:
        """Return the number of `tracked` files, including those in tracked directories.

        Takes no lock and creates nothing.
        """
        root = self._workspace.dvc_path.resolve()
        if not (root / ".dvc").is_dir():
            return {"tracked": 0}
        with peeked(root, str(root / "remote")) as repo:
            return {"tracked": sum(_files(out) for out in repo.tracked())}

    def versions(self, history: bool) -> list[dict[str, Any]]:
        """Return the tracked files and directories; see MLOpsClient.list_data().

        Takes no lock and creates nothing.
        """
        root = self._workspace.dvc_path.resolve()
        if not (root / ".dvc").is_dir():
            return []
        remote = self._remote_path or self._workspace.dvc_remote_path
        url = _url(remote or str(root / "remote"), root)
        with peeked(root, url) as repo:
            found = repo.versions(history and _is_in_git(root))
            # Querying a remote elsewhere would be slow.
            local = "://" not in url
            return [
                {**version, "in_remote": repo.in_remote(version["md5"], local)}
                for version in found
            ]

    @contextmanager
    def _opened(self, remote: str | None = None) -> Iterator[Repository]:
        """Open the repository for transfers with `remote`.

        Uses the workspace's current settings, because other clients may have changed
        them.
        """
        workspace = ProjectWorkspace.load_metadata(self._workspace.root_path)
        root = workspace.dvc_path.resolve()
        default_url = _url(workspace.dvc_remote_path or str(root / "remote"), root)
        url = _url(self._remote_path, root) if self._remote_path else default_url
        _check_text("workspace", str(root))
        for own in (default_url, url):
            _check_text("dvc_remote_path", own)
        root.mkdir(exist_ok=True)
        # The lease excludes other hosts, whose file locks this host may not see.
        # Acquire it first: a caller that waits for the lease must not hold a lock that
        # the lease's holder needs.
        with (
            self._leased(),
            opened(
                root, url, default_url, (remote or REMOTE).lower(), WAIT_SECONDS
            ) as repo,
        ):
            # Undo a change that a killed process left incomplete.
            dvc_files.recover(root)
            for own in (default_url, url):
                # A remote inside the repository must not be tracked as data.
                _ignore(repo, Path(own))
            yield repo

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Hold the workspace's lease, if its server grants leases."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._workspace.exclusively(WAIT_SECONDS))
            except WorkspaceError as error:
                if error.details["reason"] != "LEASE_HELD":
                    raise
                raise MLOpsClientError(
                    f"{error.details['holder']} has held the lease on workspace "
                    f"{self._workspace.project_name} for {WAIT_SECONDS:.0f} s; "
                    "retry when it is released",
                    details={
                        "reason": "REPOSITORY_BUSY",
                        "holder": error.details["holder"],
                        "seconds": WAIT_SECONDS,
                    },
                ) from error
            yield

    def _shown(self, path: Path, root: Path) -> str:
        """Return a path in the repository as the user spells it.

        The user may reach the workspace by a symbolic link.
        """
        return str(self._workspace.dvc_path / path.relative_to(root))

    def _added(
        self, repo: Repository, path: Path, out: Output, before: Mapping[str, str]
    ) -> dict[str, Any]:
        root = Path(repo.root_dir)
        whole = Path(out.fs_path) == path
        # The part of the tracked directory that was added.
        part = None if whole else out.get_obj(filter_info=str(path))
        files, size = (_files(out), out.meta.size) if whole else repo.measure(part)
        return {
            "path": self._shown(path, root),
            "dvc_file": self._shown(Path(out.stage.path), root),
            "md5": (part or out).hash_info.value,
            "size": size,
            "files": files,
            "changed": before.get(str(out)) != out.hash_info.value,
        }

    def _chosen(
        self,
        repo: Repository,
        targets: Sequence[Pathlike] | Pathlike | None,
        whole: bool,
    ) -> list[str] | None:
        """Return the targets as DVC takes them; None means all.

        With `whole`, returns the entry that a target is part of.
        """
        if targets is None:
            return None
        root, tracked = (
            Path(repo.root_dir),
            {Path(out.fs_path): out for out in repo.tracked()},
        )
        given = [targets] if isinstance(targets, str | os.PathLike) else targets
        chosen: list[str] = []
        for target in given:
            path = expanded(target)
            # A target may be relative to dvc/ or to the working directory.
            places = [
                _real(base / path)
                for base in (root, Path.cwd(), self._workspace.dvc_path)
            ]
            inside = [place for place in places if place.is_relative_to(root)]
            # Use the first of these places at which data is tracked.
            found = next(
                (
                    match
                    for place in inside
                    if (match := _match(repo, place, tracked, whole))
                ),
                None,
            )
            if not found:
                names = sorted(str(place.relative_to(root)) for place in tracked)
                problem = (
                    "is not tracked"
                    if inside
                    else f"is outside {self._workspace.dvc_path}"
                )
                raise input_invalid(
                    "targets",
                    f"{target} {problem}; "
                    f"tracked are {_shortened(names) or 'no files'}",
                )
            chosen += found
        # Several targets may be parts of one entry.
        return list(dict.fromkeys(chosen))


def _is_in_git(root: Path) -> bool:
    return any((directory / ".git").exists() for directory in (root, *root.parents))


def _check_text(field: str, path: str) -> None:
    """Check that a path is UTF-8.

    DVC stores paths in databases that accept nothing else.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise input_invalid(
            field,
            f"is at {os.fsencode(path)!r}, which is not UTF-8: "
            "DVC needs a path that is; move or rename it",
        ) from None


def _url(remote_path: str, root: Path) -> str:
    """Return a URL as it is, and a path as an absolute path."""
    return (
        remote_path
        if re.match(r"\w+://", remote_path)
        else str((root / expanded(remote_path)).resolve())
    )


def _ignore(repo: Repository, remote: Path) -> None:
    """Exclude a remote below the repository from tracking.

    DVC then does not search it for .dvc files, either.
    """
    root = Path(repo.root_dir)
    if not remote.is_relative_to(root) or remote == root:
        return
    line = _ignore_pattern(remote.relative_to(root))
    file = root / ".dvcignore"
    text = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
    if line not in text.split("\n"):
        draft = file.with_name(".dvcignore~")
        separator = "\n" if text and not text.endswith("\n") else ""
        draft.write_text(f"{text}{separator}{line}\n", "utf-8", "surrogateescape")
        draft.rename(file)
        repo.refresh()


def _ignore_pattern(directory: Path) -> str:
    """Return the .dvcignore line for a directory.

    A character that no line can contain becomes a "?", which matches any character.
    """
    escaped = re.sub(r"([\\*?\[\]!# ])", r"\\\1", str(directory))
    return f"/{''.join(char if char.isprintable() else '?' for char in escaped)}/"


def _real(path: Path) -> Path:
    """Return the path of the entry itself, without following it if it is a link."""
    return (
        path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    )


def _place(path: Pathlike, source: Path, root: Path) -> Path:
    """Return the place below `root` where the data is, or will be copied to."""
    real = _real(source)
    if any(source.samefile(directory) for directory in (root, *root.parents)):
        raise input_invalid(
            "path", f"{source} contains the repository; name something in it"
        )
    if real.is_relative_to(root):
        return real
    # A relative path keeps its directories below dvc/; any other path keeps its name.
    relative = Path(os.path.normpath(expanded(path)))
    if relative.is_absolute() or relative.parts[:1] in ((), ("..",)):
        relative = Path(source.resolve().name if source.name == ".." else source.name)
    # A copy must not follow a link to a place that the caller did not name.
    if (
        not _real(root / relative).is_relative_to(root)
        or _real(root / relative) != root / relative
    ):
        raise input_invalid(
            "path",
            f"{root / relative}, where it belongs, is behind a symbolic link; "
            "remove the link",
        )
    return root / relative


def _check_place(repo: Repository, place: Path) -> None:
    """Check that data may be at `place`.

    Raises:
        MLOpsClientError: INPUT_INVALID for DVC's and Git's own files, and for overlaps
            with a remote.
    """
    root = Path(repo.root_dir)
    if any(dvc_files.is_own(part) for part in place.relative_to(root).parts):
        raise input_invalid(
            "path",
            f"{place} is one of DVC's or Git's own files, which cannot be tracked",
        )
    for name, remote in repo.config["remote"].items():
        there = Path(remote["url"])
        if there.is_relative_to(root) and (
            place == there or place in there.parents or there in place.parents
        ):
            raise input_invalid(
                "path",
                f"{place} overlaps with the remote {name!r}; "
                "give one of them another place",
            )


def _check_links(repo: Repository, place: Path) -> None:
    """Refuse symbolic links, because DVC would omit their targets.

    Links into DVC's cache are allowed: DVC creates them to save space.

    Raises:
        MLOpsClientError: INPUT_INVALID if there are other links.
    """
    cache = Path(repo.cache.local.path).resolve()
    below = [
        Path(top, name)
        for top, *names in os.walk(place)
        for name in [*names[0], *names[1]]
    ]
    links = [
        path
        for path in (place, *below)
        if path.is_symlink() and not path.resolve().is_relative_to(cache)
    ]
    if links:
        names = _shortened(sorted(map(str, links)))
        raise input_invalid(
            "path",
            f"symbolic links cannot be tracked: {names}; "
            "replace them by what they lead to",
        )


def _copies(
    source: Path, place: Path, recursive: bool, root: Path
) -> list[tuple[Path, Path]]:
    if not recursive or not source.is_dir():
        return [(source, place)]
    files = list(dvc_files.files_below(source, frozenset({dvc_files.identity(root)})))
    if not files:
        raise input_invalid("path", f"{source} has no files in it")
    return [(file, place / file.relative_to(source)) for file in files]


def _targets_below(
    repo: Repository, place: Path, copies: Sequence[tuple[Path, Path]]
) -> list[Path]:
    """Return the files to track separately."""
    if copies:
        return [copied for _, copied in copies]
    if not place.is_dir():
        return [place]
    found = [Path(file) for file in repo.dvcignore.find(repo.fs, str(place))]
    found = [
        file
        for file in found
        if not any(map(dvc_files.is_own, file.relative_to(place).parts))
    ]
    if not found:
        raise input_invalid("path", f"{place} has no files in it")
    return sorted(found)


def _add_unchanged(
    repo: Repository, place: Path, paths: Sequence[Path], copied: bool
) -> list[Stage]:
    """Add `paths`, all at or below `place`, as they are at one moment.

    Raises:
        MLOpsClientError: FILE_CHANGING if other processes keep writing to them.
    """
    for _ in range(ATTEMPTS):
        before = dvc_files.stamps_of(place)
        try:
            stages = repo.add_verified([str(path) for path in paths], link=copied)
        except FileNotFoundError:
            # Another process removed the file after it was listed.
            if not place.exists():
                raise
            continue
        finally:
            repo.refresh()
        cached = all(repo.has_content(stage.outs[0], place) for stage in stages)
        # No other process knows of a copy yet. Its stamps may differ, since DVC may
        # have replaced its files by links.
        if cached and (copied or dvc_files.stamps_of(place) == before):
            return stages
    raise changing(place)


def _owners(repo: Repository, paths: Sequence[Path]) -> dict[Path, Output]:
    """Return the tracked output for each of `paths` that is tracked.

    The output is the path itself or a directory that contains it.
    """
    tracked = {Path(out.fs_path): out for out in repo.tracked()}
    return {
        path: tracked[owner]
        for path in paths
        for owner in (path, *path.parents)
        if owner in tracked
    }


def _check_owners(
    repo: Repository, place: Path, owners: Mapping[Path, Output], recursive: bool
) -> None:
    """Check that nothing would be tracked twice, separately and in a directory.

    Raises:
        MLOpsClientError: INPUT_INVALID if so.
    """
    if recursive:
        if any(Path(out.fs_path) != path for path, out in owners.items()):
            raise input_invalid(
                "recursive",
                f"{place} is tracked as a whole; "
                "leave it out, or `dvc remove` that first",
            )
        return
    below = [
        path for out in repo.tracked() if place in (path := Path(out.fs_path)).parents
    ]
    if below:
        names = _shortened(sorted(str(path.relative_to(place)) for path in below))
        raise input_invalid(
            "path",
            f"{place} contains entries that are tracked separately: {names}; "
            "use recursive=True",
        )


def _check_parts(owners: Mapping[Path, Output]) -> None:
    """Check that no part is below a path that was a file in its tracked directory.

    DVC would keep both.

    Raises:
        MLOpsClientError: INPUT_INVALID if there is such a part.
    """
    for path, out in owners.items():
        between = [
            above for above in path.parents if Path(out.fs_path) in above.parents
        ]
        for above in between:
            former = out.get_obj(filter_info=str(above))
            if former is not None and not former.hash_info.isdir:
                raise input_invalid(
                    "path",
                    f"{above} was a file when {out.fs_path} was added; "
                    f"add all of {above}",
                )


def _check_saved(place: Path, owner: Output | None) -> None:
    """Check that a copy to `place` would not destroy data that is in no version.

    Raises:
        MLOpsClientError: LOCAL_CHANGES if it would.
    """
    if not os.path.lexists(place) or (owner is not None and not owner.status()):
        return
    raise MLOpsClientError(
        f"The copy would overwrite {place}, which is in no version; "
        "add that first by its full path, or move it away",
        details={"reason": "LOCAL_CHANGES", "path": str(place)},
    )


def _dvc_file(path: Path, owner: Output | None) -> Path:
    return (
        Path(owner.stage.path)
        if owner is not None
        else path.with_name(f"{path.name}.dvc")
    )


def _files(out: Output) -> int:
    return out.meta.nfiles if out.meta and out.meta.nfiles is not None else 1


def _summary(path: str, added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "path": path,
        "dvc_file": None,
        "md5": None,
        "size": sum(file["size"] for file in added),
        "files": len(added),
        "changed": any(file["changed"] for file in added),
        "added": list(added),
    }


def _remote(repo: Repository) -> tuple[str, str]:
    """Return the name and the URL of the chosen remote."""
    name, known = repo.config["core"]["remote"], repo.config["remote"]
    if name not in known:
        raise input_invalid(
            "remote",
            f"there is no remote {name!r}; known are {', '.join(sorted(known))}",
        )
    return name, known[name]["url"]


def _match(
    repo: Repository, place: Path, tracked: Mapping[Path, Output], whole: bool
) -> list[str]:
    """Return the DVC targets that a place in the repository stands for.

    That is a tracked entry, a file in a tracked directory, or all tracked entries below
    the place. The list is empty if there are none.
    """
    if place.suffix == ".dvc":
        place = place.with_suffix("")
    owner = next(
        (tracked[path] for path in (place, *place.parents) if path in tracked), None
    )
    if owner is None:
        found = [
            out.stage.path for path, out in tracked.items() if place in path.parents
        ]
    elif Path(owner.fs_path) == place:
        found = [owner.stage.path]
    else:
        # The directory's list shows whether it has this file, which may not be here.
        try:
            repo.get_data_index_entry(str(place))
        except DvcException:
            return []
        found = [owner.stage.path if whole else str(place)]
    return found


def _require(root: Path, missing: Sequence[Path], url: str) -> None:
    """Check that `missing` is empty.

    Raises:
        MLOpsClientError: DATA_MISSING if it is not.
    """
    if not missing:
        return
    names = sorted(str(file.relative_to(root)) for file in missing)
    raise MLOpsClientError(
        f"The content of {_shortened(names)} is neither in the cache nor at {url}; "
        "push it from where it still is",
        details={
            "reason": "DATA_MISSING",
            "files": names[:_NAMES_SHOWN],
            "count": len(names),
            "url": url,
        },
    )


@contextmanager
def _transfer(
    repo: Repository, targets: Sequence[str] | None, url: str
) -> Iterator[None]:
    """Add the cause to failed transfers; DVC reports only their number."""
    with causes() as found:
        try:
            yield
        except (UploadError, DownloadError) as error:
            # Other threads may transfer at the same time; consider only our hashes.
            ours = {identity.value for _, identity in repo.contents(targets)}
            cause = next((found[value] for value in found if value in ours), None)
            raise MLOpsClientError(
                f"{url}: {error}: {cause or 'no reason given'}",
                details={
                    "reason": "TOOLKIT_FAILED",
                    "type": f"{type(error).__module__}.{type(error).__qualname__}",
                }
                | {"files": error.amount, "url": url},
            ) from (cause or error)
        except (ImportError, RemoteMissingDepsError) as error:
            extra = f"dvc[{url.split(':')[0]}]"
            raise MLOpsClientError(
                f"{url}: {error}; install what it needs by: pip install '{extra}'",
                details={"reason": "TOOLKIT_MISSING", "extra": extra, "url": url},
            ) from error


def _fetch(repo: Repository, targets: Sequence[str] | None, url: str) -> int:
    try:
        with _transfer(repo, targets, url):
            return int(repo.fetch(targets=targets, with_deps=True))
    except MLOpsClientError as error:
        # DVC assumed that the remote still had the file.
        if isinstance(error.__cause__, FileNotFoundError):
            _require(
                Path(repo.root_dir), [file for file, _ in repo.missing(targets)], url
            )
        raise


def _checkout(
    repo: Repository, targets: Sequence[str] | None, force: bool
) -> dict[str, int]:
    # Without targets, checkout would also delete entries that are no longer tracked or
    # were added within a directory.
    everything = [None]
    try:
        # Data has no dependencies, but `with_deps` makes DVC check out each target
        # separately. Otherwise, among several targets, a file in a directory would
        # stand for the whole directory, and DVC would delete the other files in it.
        return dict(
            repo.checkout(targets=targets or everything, force=force, with_deps=True)[
                "stats"
            ]
        )
    except DvcException as error:
        if not str(error).startswith("Can't remove the following unsaved files"):
            raise
        files = str(error).splitlines()[1:]
        raise MLOpsClientError(
            f"Local changes that are in no version: {_shortened(files)}; "
            "add them, or discard them with force=True",
            details={
                "reason": "LOCAL_CHANGES",
                "files": files[:_NAMES_SHOWN],
                "count": len(files),
            },
        ) from error


def _shortened(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
