"""WorkspaceFileSystem: the files of all workspaces of one server, for fsspec."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import isfilelike, stringify_path

from mlops._rpc.connection import Connection
from mlops._rpc.credentials import (
    CredentialOptions,
    Credentials,
    refuse_to_pickle,
)
from mlops.fs.artifacts import Artifacts
from mlops.fs.by_wire import ByWire
from mlops.fs.entries import Info, split
from mlops.fs.errors import again_if_replaced, os_error, os_errors
from mlops.fs.file import ReadableFile, WritableFile
from mlops.fs.kept import CHUNK_BYTES
from mlops.fs.local_base import LocalBase
from mlops.fs.transfer import Transfer
from mlops.fs.trees import THREADS, TreeCopies
from mlops.local_server import choose_server


class WorkspaceFileSystem(TreeCopies):
    """The files of all workspaces, as `workspace://<project>/<directory>/<path>`.

    The directory is one of mlflow, dvc, monitoring, models, outputs. The root lists the
    projects. WorkspaceManager alone creates and deletes workspaces.

    Files appear, change and disappear atomically: a new file becomes visible when it is
    closed. A reader gets the file as it was when it was opened; if the file is replaced
    meanwhile, reading fails with ESTALE. Reads and writes resume after a lost
    connection or a server restart. Appending is not supported.

    Where fsspec treats `[ ] * ?` as a pattern, an existing file or directory with
    exactly that name takes precedence. Only glob() always treats its argument as a
    pattern.

    Failures are OSErrors with the server's message; the `__cause__` is a
    WorkspaceError. If the server cannot be reached, exists(), isfile() and isdir()
    raise ConnectionError instead of returning False.

    Thread-safe, picklable, and usable in forked processes. Only one thread at a time
    may use an open file. A file open for writing must not be used in a process forked
    since.
    """

    protocol = "workspace"
    # fsspec's cache of instances would be wrong, because the server also depends on the
    # environment and the working directory. Instances share the connection instead.
    cachable = False

    def __init__(
        self,
        base_path: str | os.PathLike[str] | None = None,
        repo_root: str | os.PathLike[str] | None = None,
        address: str | None = None,
        by_path: bool = True,
        connection: Connection | None = None,
        **options: Any,
    ) -> None:
        """Choose the server as WorkspaceManager does; the first call connects to it.

        Args:
            base_path: As for WorkspaceManager.
            repo_root: As for WorkspaceManager.
            address: As for WorkspaceManager.
            by_path: Access files directly through the file system if they are proved to
                be on a disk of this machine, for reads and put().
            connection: A connection to use, to the server of `base_path`; see
                ProjectWorkspace.files.
            options: `token`, `token_file`, `ca`, `cert` and `key`, as for
                WorkspaceManager; the rest is for fsspec.
        """
        credentials = CredentialOptions(
            **{name: options.pop(name) for name in _CREDENTIALS & options.keys()}  # type: ignore[typeddict-item]
        )
        super().__init__(
            base_path=base_path,
            repo_root=repo_root,
            address=address,
            by_path=by_path,
            connection=connection,
            **options,
        )
        base = Path(base_path) if base_path is not None else None
        if connection is None:
            connection, base = _connect(base_path, repo_root, address, credentials)
        self._artifacts = Artifacts(connection)
        self._base = LocalBase(connection, base, by_path)
        self._transfer = Transfer(self._artifacts, self._base)

    def __reduce__(self) -> Any:
        """Refuse to pickle a token argument; see CredentialOptions."""
        if self.storage_options.get("token") is not None:
            refuse_to_pickle()
        return super().__reduce__()

    def to_dict(self, **options: Any) -> dict[str, Any]:
        """Return what fsspec needs to create this file system, without the token."""
        described: dict[str, Any] = super().to_dict(**options)
        described.pop("token", None)
        return described

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        return (
            stringify_path(path)
            .removeprefix("workspace://")
            .removeprefix("workspace::")
            .strip("/")
        )

    # --- Listing ---

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return the properties of a file or directory.

        Returns:
            `name`, `type`, `size` and `modified`; for a file also `etag`, for a project
                also `created`.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        return self._artifacts.info(self._strip_protocol(path))

    def exists(self, path: str, **options: Any) -> bool:
        """Return whether the file or directory exists."""
        return self._kind(path) is not None

    def isfile(self, path: str) -> bool:
        """Return whether the path is a file."""
        return self._kind(path) == "file"

    def isdir(self, path: str) -> bool:
        """Return whether the path is a directory."""
        return self._kind(path) == "directory"

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """Return the paths in a directory in lexicographic order.

        For a file, returns its own path. With `detail`, returns info() of each path
        instead.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        path = self._strip_protocol(path)
        try:
            found = list(self._entries(path))
        except NotADirectoryError:
            found = [self.info(path)]
        return found if detail else [info["name"] for info in found]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **options: Any,
    ) -> Any:
        """Return the files below a directory in lexicographic order.

        With `withdirs`, also returns the directories, including the directory itself.
        """
        path = self._strip_protocol(path)
        # The server lists one project at a time, without a limit of depth.
        if maxdepth is not None or not path:
            return super().find(path, maxdepth, withdirs, detail, **options)
        top = self._artifacts.find(path)
        found = [] if top is None else [top]
        if top is not None and top["type"] == "directory":
            found += self._artifacts.entries(path, recursive=True)
        by_name = {i["name"]: i for i in found if withdirs or i["type"] == "file"}
        return dict(sorted(by_name.items())) if detail else sorted(by_name)

    def checksum(self, path: str) -> str:
        """Return the SHA-256 of a file as hexadecimal digits.

        The server may have to read the whole file.
        """
        return self._artifacts.sha256(self._strip_protocol(path))

    def ukey(self, path: str) -> str:
        """Return the etag of a file.

        The etag changes whenever the content changes or the file is replaced.
        """
        info = self.info(path)
        return str(info["etag"]) if info["type"] == "file" else super().ukey(path)

    def created(self, path: str) -> datetime:
        """Return when a project or a file was created.

        Every write creates a new file, so this is when the file was written.
        """
        info = self.info(path)
        if "created" in info or info["type"] == "file":
            return info.get("created") or self.modified(path)
        raise NotImplementedError("The creation time of a directory is unknown")

    def modified(self, path: str) -> datetime:
        """Return when a file, a directory's entries or a project's record changed."""
        info = self.info(path)
        if "modified" not in info:
            raise NotImplementedError("The root has no time")
        time: datetime = info["modified"]
        return time

    # --- Reading ---

    def local_path(self, path: str) -> str | None:
        """Return the path of this file on this machine; None if there is none.

        The caller must not write to the path.
        """
        path = self._strip_protocol(path)
        same = self._base.open(path, self._artifacts.file_info(path)["etag"])
        if same is None:
            return None
        same.close()
        return str(same.path)

    def _open(
        self, path: str, mode: str = "rb", **options: Any
    ) -> ReadableFile | WritableFile:
        """Open a file; called by open().

        Modes are r, w and x. With r, an `etag` option may be given: raises OSError
        ESTALE if the file has another etag.
        """
        if mode == "rb":
            return self._open_to_read(path, **options)
        if mode in ("wb", "xb"):
            return self._open_to_write(path, mode, **options)
        raise NotImplementedError(
            f"Files cannot be opened with mode {mode!r}: only r, w and x are supported"
        )

    def _open_to_read(self, path: str, **options: Any) -> ReadableFile:
        # A pickled file passes its size, which the info also has.
        options.pop("size", None)
        info = self._artifacts.file_info(path, options.get("etag"))
        same = self._base.open(path, info["etag"])
        return ReadableFile(self, path, info, self._artifacts, same, **options)

    def _open_to_write(self, path: str, mode: str, **options: Any) -> WritableFile:
        create_only = mode == "xb"
        self._artifacts.check_writable(path, create_only)
        writer = ByWire(self._artifacts.upload(path, create_only))
        return WritableFile(self, path, mode, writer, **options)

    def cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        **options: Any,
    ) -> bytes:
        """Return the bytes `start` to `end` of a file, by default all of them.

        Negative values count from the end, as in a slice.
        """
        path = self._strip_protocol(path)
        if (start or 0) >= 0 and (end is None or end >= 0):
            return again_if_replaced(
                lambda: self._artifacts.read(path, start or 0, end)
            )
        # Negative offsets need the size, and then the version of that size.
        info = self._artifacts.file_info(path)
        first, last, _ = slice(start, end).indices(info["size"])
        return self._artifacts.read(path, first, last, info["etag"])

    def cat_ranges(
        self,
        paths: list[str],
        starts: int | list[int] | None,
        ends: int | list[int] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Return ranges of several files, reading several at a time.

        With on_error="return", a failed range yields its exception.
        """
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        begin = starts if isinstance(starts, list) else [starts] * len(paths)
        stop = ends if isinstance(ends, list) else [ends] * len(paths)
        if len(begin) != len(paths) or len(stop) != len(paths):
            raise ValueError("there must be as many starts and ends as paths")

        def one(path: str, start: int | None, end: int | None) -> Any:
            try:
                return self.cat_file(path, start, end)
            except Exception as error:
                if on_error != "return":
                    raise
                return error

        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(one, paths, begin, stop))

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        outfile: Any = None,
        **options: Any,
    ) -> None:
        """Copy a file to the local path `lpath`, or into the file object `outfile`.

        If `rpath` is a directory, creates the directory `lpath`. A failure leaves no
        partial file at `lpath`.
        """
        rpath = self._strip_protocol(rpath)
        outfile = lpath if outfile is None and isfilelike(lpath) else outfile
        if outfile is not None:
            self._transfer.get_by_wire(
                rpath, lambda piece: outfile.write(bytes(piece)), callback
            )
            return
        try:
            self._transfer.get(rpath, lpath, callback)
        except IsADirectoryError:
            if not self.isdir(rpath):
                raise
            os.makedirs(lpath, exist_ok=True)

    # --- Writing ---

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **options: Any
    ) -> None:
        """Write a whole file atomically.

        With mode="create", raises FileExistsError if the name is taken.
        """
        self._artifacts.write(
            self._strip_protocol(path),
            lambda writer: writer.write(value),
            _is_exclusive(mode),
        )

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **options: Any,
    ) -> None:
        """Copy a local file; if `lpath` is a directory, create the directory `rpath`.

        `mode` is as for pipe_file(). A file of 2 MiB or more is copied directly into
        the server's staging file if possible, and the server hashes it; the logger
        `mlops.fs.filesystem` reports such a copy at DEBUG.

        Raises:
            OSError: EINVAL, without blocking, for an entry that is neither a file nor a
                directory, such as a named pipe.
        """
        rpath = self._strip_protocol(rpath)
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        self._transfer.put(lpath, rpath, callback, _is_exclusive(mode))

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        """Create an empty file; without `truncate`, keep an existing one."""
        try:
            self.pipe_file(path, b"", mode="overwrite" if truncate else "create")
        except FileExistsError:
            if truncate:
                raise

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file; if it is a directory, create the destination directory.

        Within a project, the server copies the file.
        """
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        (project, source), (other, target) = split(path1), split(path2)
        if not source or not target:
            self._copy_directory(path1, path2)
            return
        try:
            # The server copies within one project only; otherwise the data passes
            # through here.
            if project == other:
                self._artifacts.copy(path1, path2)
                return
            with self.open(path1) as reading, self.open(path2, "wb") as writing:
                shutil.copyfileobj(reading, writing, CHUNK_BYTES)
        except IsADirectoryError:
            self._copy_directory(path1, path2)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **options: Any,
    ) -> None:
        """Move a file or directory; into `path2` if that is a directory.

        The move is atomic within a project. Between projects, and for lists, patterns
        and `maxdepth`, the entries are copied and then deleted.
        """
        if isinstance(path1, str) and isinstance(path2, str) and maxdepth is None:
            source, target = self._strip_protocol(path1), self._strip_protocol(path2)
            if source == target:
                return
            # Like mv(1), move into an existing directory.
            if path2.endswith("/") or self.isdir(target):
                target = f"{target}/{source.rpartition('/')[2]}"
            # The server moves within one project only.
            if split(source)[0] == split(target)[0] and not self.is_pattern(source):
                self._artifacts.move(source, target)
                return
        super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth)

    def rm(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = False,
    ) -> None:
        """Delete files and empty directories; with `recursive`, also other directories.

        Each deletion is atomic. With `assume_literal`, `path` is never a pattern, even
        if nothing has that name.
        """
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for found in reversed(self.expand_path(path, assume_literal=assume_literal)):
            self._artifacts.delete(found, force=recursive)

    def rm_file(self, path: str) -> None:
        """Delete a file or an empty directory."""
        self._artifacts.delete(self._strip_protocol(path), force=False)

    def rmdir(self, path: str) -> None:
        """Delete an empty directory."""
        path = self._strip_protocol(path)
        if self.info(path)["type"] != "directory":
            raise os_error(errno.ENOTDIR, path)
        self._artifacts.delete(path, force=False)

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Create a directory.

        Raises:
            FileExistsError: The name is taken.
        """
        path = self._strip_protocol(path)
        if not create_parents and not self.isdir(self._parent(path)):
            raise os_error(errno.ENOENT, self._parent(path))
        self.makedirs(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Create a directory and its missing parents, except the project.

        Raises:
            FileExistsError: The name is taken, unless by a directory and `exist_ok` is
                set.
        """
        path = self._strip_protocol(path)
        is_project = "/" not in path
        # MakeDirectory also succeeds for an existing directory, so look first.
        if is_project or not exist_ok:
            kind = self._artifacts.kind(path)
            if kind is None and is_project:
                raise os_error(errno.ENOENT, path, f"Workspace does not exist: {path}")
            if kind is not None and not (exist_ok and kind == "directory"):
                raise os_error(errno.EEXIST, path)
        if is_project:
            return
        try:
            self._artifacts.make_directory(path)
        except NotADirectoryError as error:
            # Otherwise one of its parents is a file.
            if not self.isfile(path):
                raise
            raise os_error(errno.EEXIST, path) from error.__cause__

    # --- Internal ---

    def _real_directory(self, path: str) -> str | None:
        return self._base.real_directory(self._strip_protocol(path))

    def _kind(self, path: str) -> str | None:
        return self._artifacts.kind(self._strip_protocol(path))

    def _entries(self, path: str) -> Iterator[Info]:
        if not path:
            return self._artifacts.projects()
        return self._artifacts.entries(path, recursive=False)

    def _copy_directory(self, path1: str, path2: str) -> None:
        if self.info(path1)["type"] != "directory":
            raise os_error(errno.EISDIR, path2)
        self.makedirs(path2, exist_ok=True)


_CREDENTIALS = CredentialOptions.__annotations__.keys()
_connections: dict[tuple[Path | str, Credentials], Connection] = {}


def _connect(
    base_path: str | os.PathLike[str] | None,
    repo_root: str | os.PathLike[str] | None,
    address: str | None,
    credentials: CredentialOptions,
) -> tuple[Connection, Path | None]:
    """Return the connection to a server, and its base directory if known.

    fsspec creates a file system for each thread; those of one server share a
    connection.
    """
    with os_errors(""):
        server, base = choose_server(base_path, repo_root, address, **credentials)
    key = (base or server.given, server.credentials)
    return _connections.setdefault(key, Connection(server)), base


def _is_exclusive(mode: str) -> bool:
    if mode not in ("overwrite", "create"):
        raise ValueError(f'mode must be "overwrite" or "create", not {mode!r}')
    return mode == "create"
