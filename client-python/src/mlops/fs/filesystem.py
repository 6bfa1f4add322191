"""WorkspaceFileSystem: the files of all workspaces of one server, for fsspec."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import isfilelike, stringify_path

from mlops._rpc import convert
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops.fs.download import Download, read
from mlops.fs.errors import lookup_errors, os_error, os_errors
from mlops.fs.file import ReadableFile, WritableFile
from mlops.fs.literal import LiteralFirst, LocalFiles
from mlops.fs.local import SameFile, Target, check_copyable, open_source
from mlops.fs.staged import MIN_BYTES, StagedUpload
from mlops.fs.transfer import (
    THREADS,
    copy_all,
    plan,
    real_directory,
    refuse_into_itself,
)
from mlops.fs.upload import CHUNK_BYTES, Upload
from mlops.local_server import choose_server
from mlops.workspace.v1 import workspace_service_pb2 as pb

_log = logging.getLogger(__name__)
_PAGE_SIZE = 1000
# How often a whole file is read again because it was replaced during the read.
_MAX_READS = 3
_ABSENT = (FileNotFoundError, NotADirectoryError)
Result = TypeVar("Result")


class WorkspaceFileSystem(LiteralFirst):
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
        """
        super().__init__(
            base_path=base_path,
            repo_root=repo_root,
            address=address,
            by_path=by_path,
            connection=connection,
            **options,
        )
        self._by_path, self._base = (
            by_path,
            Path(base_path) if base_path is not None else None,
        )
        if connection is not None:
            self._connection = connection
            return
        with os_errors(""):
            server, self._base = choose_server(base_path, repo_root, address)
        # fsspec creates a file system for each thread; those of one server share a
        # connection.
        self._connection = _connections.setdefault(
            self._base or server.find(), Connection(server)
        )

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
        path = self._strip_protocol(path)
        project, inner = _split(path)
        if not project:
            return _directory("")
        with lookup_errors(path):
            if inner:
                get = pb.GetArtifactRequest(project=_text(project), path=_text(inner))
                return _artifact_info(project, self._connection.call(get))
            request = pb.GetWorkspaceRequest(project=_text(project))
            return _project_info(self._connection.call(request))

    def exists(self, path: str, **options: Any) -> bool:
        """Return whether the file or directory exists."""
        return self._find(path) is not None

    def isfile(self, path: str) -> bool:
        """Return whether the path is a file."""
        return (self._find(path) or {}).get("type") == "file"

    def isdir(self, path: str) -> bool:
        """Return whether the path is a directory."""
        return (self._find(path) or {}).get("type") == "directory"

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """Return the paths in a directory in lexicographic order.

        For a file, returns its own path. With `detail`, returns info() of each path
        instead.

        Raises:
            FileNotFoundError: There is no such entry.
        """
        path = self._strip_protocol(path)
        project, inner = _split(path)
        if not project:
            found = list(self._projects())
        else:
            try:
                found = list(self._list(project, inner, recursive=False))
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
        project, inner = _split(path)
        # The server lists one project at a time, without a limit of depth.
        if maxdepth is not None or not project:
            return super().find(path, maxdepth, withdirs, detail, **options)
        info = self._find(path)
        found = [info] if info and (withdirs or info["type"] == "file") else []
        if info and info["type"] == "directory":
            found += [
                i
                for i in self._list(project, inner, recursive=True)
                if withdirs or i["type"] == "file"
            ]
        by_name = {i["name"]: i for i in found}
        return dict(sorted(by_name.items())) if detail else sorted(by_name)

    def checksum(self, path: str) -> str:
        """Return the SHA-256 of a file as hexadecimal digits.

        The server may have to read the whole file.
        """
        path = self._strip_protocol(path)
        project, inner = self._file_of(path)
        with lookup_errors(path):
            request = pb.GetArtifactRequest(project=project, path=inner, checksum=True)
            return str(self._connection.call(request).sha256)

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
        same = self._open_same(path, self._file_info(path)["etag"])
        if same is None:
            return None
        same.close()
        return str(same.path)

    def _open_same(self, path: str, etag: str) -> SameFile | None:
        base = self._local_base(path)
        return None if base is None else SameFile.open(base / path, etag)

    def _local_base(self, path: str) -> Path | None:
        """Return the server's base directory if files may be accessed by path.

        See _base_here().
        """
        return self._base_here(path) if self._by_path else None

    def _base_here(self, path: str) -> Path | None:
        """Return the server's base directory if that path is a directory here.

        It may be another directory of the same name.
        """
        if self._base is None:
            with os_errors(path):
                info = self._connection.call(pb.GetServerInfoRequest())
            self._base = Path(info.base_path)
        return self._base if os.path.isdir(self._base) else None

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> ReadableFile | WritableFile:
        """Open a file; called by open().

        Modes are r, w and x. With r, an `etag` option may be given: raises OSError
        ESTALE if the file has another etag.
        """
        common = {
            "block_size": block_size,
            "autocommit": autocommit,
            "cache_options": cache_options,
        }
        if mode == "rb":
            # A pickled file passes its size; the info has it, too.
            options.pop("size", None)
            return ReadableFile(
                self,
                path,
                self._file_info(path, options.get("etag")),
                **common,
                **options,
            )
        if mode not in ("wb", "xb"):
            raise NotImplementedError(
                f"Files cannot be opened with mode {mode!r}: "
                "only r, w and x are supported"
            )
        exclusive = mode == "xb"
        self._check_writable(path, exclusive)
        return WritableFile(
            self, path, mode, self._upload(path, exclusive), **common, **options
        )

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
            return _again_if_replaced(lambda: self._read(path, start or 0, end, ""))
        # Negative offsets need the size, and then the version of that size.
        info = self._file_info(path)
        first, last, _ = slice(start, end).indices(info["size"])
        return self._read(path, first, last, info["etag"])

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
            self._download(rpath, lambda piece: outfile.write(bytes(piece)), callback)
            return

        self._refuse_same(rpath, lpath)

        def fill() -> None:
            with Target(lpath) as target:
                if not self._copy_same(rpath, target, callback):
                    self._download(rpath, target.write, callback)
                # Creates the file even if no data was written.
                target.file()

        try:
            _again_if_replaced(fill)
        except IsADirectoryError:
            if not self.isdir(rpath):
                raise
            os.makedirs(lpath, exist_ok=True)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **options: Any,
    ) -> None:
        """Copy files to this machine, several at a time.

        fsspec's rules determine the destinations. With `assume_literal`, `rpath` is
        never a pattern.

        Raises:
            OSError: EINVAL if a directory would be copied into itself.
        """
        steps = plan(
            self, LocalFiles(), rpath, lpath, recursive, maxdepth, assume_literal
        )
        refuse_into_itself(steps, self._real_directory, real_directory)
        copy_all(
            steps,
            lambda one, to, child: self.get_file(one, to, callback=child, **options),
            callback,
        )

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        assume_literal: bool = False,
        **options: Any,
    ) -> None:
        """Copy files from this machine, several at a time, as get() does.

        Raises:
            OSError: EINVAL if a directory would be copied into itself, or, before
                anything is sent, if an entry is neither a file nor a directory, such as
                a named pipe.
        """
        steps = plan(
            LocalFiles(), self, lpath, rpath, recursive, maxdepth, assume_literal
        )
        refuse_into_itself(steps, real_directory, self._real_directory)
        for local, _ in steps:
            check_copyable(local)
        copy_all(
            steps,
            lambda one, to, child: self.put_file(one, to, callback=child, **options),
            callback,
        )

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **options: Any,
    ) -> None:
        """Copy files and, with `recursive`, directories, one after the other.

        on_error="ignore", the default with `recursive`, skips files that vanish
        meanwhile.

        Raises:
            OSError: EINVAL if a directory would be copied into itself.
        """
        ignores = on_error == "ignore" or (on_error is None and recursive)
        steps = plan(self, self, path1, path2, recursive, maxdepth)
        refuse_into_itself(steps, self._strip_protocol, self._strip_protocol)
        for one, to in steps:
            try:
                self.cp_file(one, to, **options)
            except FileNotFoundError:
                if not ignores:
                    raise

    def _refuse_same(self, path: str, local: Any) -> None:
        """Check that `path` and `local` are not the same file.

        Opening that file for writing would empty it.

        Raises:
            OSError: EINVAL if they are.
        """
        base, is_same = self._base_here(path), False
        # One of them does not exist.
        with suppress(OSError):
            is_same = base is not None and os.path.samefile(base / path, local)
        if is_same and os.path.isfile(local):
            raise os_error(
                errno.EINVAL,
                path,
                f"The source and the destination are the same file, {local}",
            )

    def _real_directory(self, path: str) -> str | None:
        base = self._base_here(path)
        return (
            None if base is None else real_directory(base / self._strip_protocol(path))
        )

    def _copy_same(self, path: str, target: Target, callback: Callback) -> bool:
        """Copy a file through the file system; return False if that is impossible."""
        if self._local_base(path) is None:
            return False
        info = self._file_info(path)
        same = self._open_same(path, info["etag"])
        if same is None:
            return False
        callback.set_size(info["size"])
        try:
            same.copy(target.file(), callback.relative_update)
        finally:
            same.close()
        return True

    def _download(
        self, path: str, write: Callable[[memoryview], object], callback: Callback
    ) -> None:
        project, inner = self._file_of(path)
        with (
            lookup_errors(path),
            closing(Download(self._connection, project, inner)) as download,
        ):
            for piece in download:
                assert download.artifact is not None
                if callback.size != download.artifact.size_bytes:
                    callback.set_size(download.artifact.size_bytes)
                write(piece)
                callback.relative_update(len(piece))

    def _start_download(self, path: str, start: int, end: int, etag: str) -> Download:
        return Download(self._connection, *self._file_of(path), start, end, etag)

    def _read(self, path: str, start: int, end: int | None, etag: str) -> bytes:
        project, inner = self._file_of(path)
        with lookup_errors(path):
            try:
                return read(self._connection, project, inner, start, end, etag)
            except WorkspaceError as error:
                # A range that begins after the end of the file is empty.
                if error.details["reason"] == "OFFSET_OUT_OF_RANGE":
                    return b""
                raise

    # --- Writing ---

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **options: Any
    ) -> None:
        """Write a whole file atomically.

        With mode="create", raises FileExistsError if the name is taken.
        """
        self._write(
            self._strip_protocol(path), lambda upload: upload.write(value), mode
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
        the server's staging file if possible, and the server hashes it; this module's
        logger reports such a copy at DEBUG.

        Raises:
            OSError: EINVAL, without blocking, for an entry that is neither a file nor a
                directory, such as a named pipe.
        """
        rpath = self._strip_protocol(rpath)
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return

        def send(upload: Upload) -> None:
            while data := file.read(CHUNK_BYTES):
                upload.write(data)
                callback.relative_update(len(data))

        with open_source(lpath) as file:
            callback.set_size(os.fstat(file.fileno()).st_size)
            if not self._put_by_path(file, rpath, callback, mode):
                self._write(rpath, send, mode)

    def _put_by_path(
        self, file: IO[bytes], path: str, callback: Callback, mode: str
    ) -> bool:
        """Copy through the file system; return False, without effect, if impossible."""
        base = self._local_base(path) if callback.size >= MIN_BYTES else None
        if base is None:
            return False
        upload = StagedUpload(
            self._connection, *self._file_of(path), _is_exclusive(mode)
        )
        with os_errors(path):
            done = upload.put(file, base, callback.relative_update)
        if done:
            _log.debug("%s: copied by its path", path)
        else:
            callback.absolute_update(0)
        return done

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
        (project, source), (other, destination) = _split(path1), _split(path2)
        if not source or not destination:
            self._copy_directory(path1, path2)
            return
        try:
            # The server copies within one project only; otherwise the data passes
            # through here.
            if project != other:
                with self.open(path1) as reading, self.open(path2, "wb") as writing:
                    shutil.copyfileobj(reading, writing, CHUNK_BYTES)
                return
            with lookup_errors(path1):
                request = pb.CopyArtifactRequest(
                    project=_text(project),
                    path=_text(source),
                    destination_path=_text(destination),
                )
                self._connection.call(request)
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
        if (
            not isinstance(path1, str)
            or not isinstance(path2, str)
            or maxdepth is not None
        ):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth)
            return
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target:
            return
        # Like mv(1), move into an existing directory.
        if path2.endswith("/") or self.isdir(target):
            target = f"{target}/{source.rpartition('/')[2]}"
        (project, path), (other, destination) = _split(source), _split(target)
        # The server moves within one project only.
        if project != other or self.is_pattern(source):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth)
            return
        with os_errors(source):
            request = pb.MoveArtifactRequest(
                project=_text(project),
                path=_text(path),
                destination_path=_text(destination),
            )
            self._connection.call(request)

    def rm(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        assume_literal: bool = False,
    ) -> None:
        """Delete files, and directories that are empty or, with `recursive`, any.

        Each deletion is atomic. With `assume_literal`, `path` is never a pattern, even
        if nothing has that name.
        """
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for found in reversed(self.expand_path(path, assume_literal=assume_literal)):
            self._delete(found, force=recursive)

    def rm_file(self, path: str) -> None:
        """Delete a file or an empty directory."""
        self._delete(self._strip_protocol(path), force=False)

    def rmdir(self, path: str) -> None:
        """Delete an empty directory."""
        path = self._strip_protocol(path)
        if self.info(path)["type"] != "directory":
            raise os_error(errno.ENOTDIR, path)
        self._delete(path, force=False)

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
        project, inner = _split(path)
        # MakeDirectory also succeeds for an existing directory, so look first.
        if not inner or not exist_ok:
            info = self._find(path)
            if info is None and not inner:
                raise os_error(
                    errno.ENOENT, path, f"Workspace does not exist: {project}"
                )
            if info is not None and not (exist_ok and info["type"] == "directory"):
                raise os_error(errno.EEXIST, path)
        if not inner:
            return
        try:
            with os_errors(path):
                request = pb.MakeDirectoryRequest(
                    project=_text(project), path=_text(inner)
                )
                self._connection.call(request)
        except NotADirectoryError as error:
            # Otherwise one of its parents is a file.
            if not self.isfile(path):
                raise
            raise os_error(errno.EEXIST, path) from error.__cause__

    # --- Internal ---

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            return self.info(path)
        except _ABSENT:
            return None

    def _file_info(self, path: str, etag: str | None = None) -> dict[str, Any]:
        info = self.info(path)
        if info["type"] != "file":
            raise os_error(errno.EISDIR, path)
        if etag and info["etag"] != etag:
            raise os_error(
                errno.ESTALE, path, f"The file was replaced: its etag is not {etag}"
            )
        return info

    def _file_of(self, path: str) -> tuple[str, str]:
        """Return the project and the path in it for a path that must be a file."""
        project, inner = _split(path)
        if not inner:
            self.info(path)
            raise os_error(errno.EISDIR, path)
        with os_errors(path):
            return _text(project), _text(inner)

    def _check_writable(self, path: str, exclusive: bool) -> None:
        """Raise early what the server would report only after all data is sent."""
        try:
            info = self.info(path)
        except FileNotFoundError as error:
            if (
                isinstance(error.__cause__, WorkspaceError)
                and error.__cause__.details["reason"] == "ARTIFACT_NOT_FOUND"
            ):
                return
            raise
        if info["type"] == "directory":
            raise os_error(errno.EISDIR, path)
        if exclusive:
            raise os_error(errno.EEXIST, path)

    def _upload(self, path: str, create_only: bool) -> Upload:
        return Upload(self._connection, *self._file_of(path), create_only)

    def _write(self, path: str, send: Callable[[Upload], None], mode: str) -> None:
        upload = self._upload(path, _is_exclusive(mode))
        try:
            with os_errors(path):
                send(upload)
                upload.finish()
        except BaseException:
            upload.abort()
            raise

    def _copy_directory(self, path1: str, path2: str) -> None:
        if self.info(path1)["type"] != "directory":
            raise os_error(errno.EISDIR, path2)
        self.makedirs(path2, exist_ok=True)

    def _delete(self, path: str, force: bool) -> None:
        project, inner = _split(path)
        if not inner:
            raise os_error(
                errno.EPERM,
                path,
                "Only WorkspaceManager.delete_workspace() can delete a workspace",
            )
        with os_errors(path):
            request = pb.DeleteArtifactRequest(
                project=_text(project), path=_text(inner), force=force
            )
            self._connection.call(request)

    def _projects(self) -> Iterator[dict[str, Any]]:
        with os_errors(""):
            for page in self._connection.pages(
                pb.ListWorkspacesRequest(page_size=_PAGE_SIZE)
            ):
                yield from map(_project_info, page.workspaces)

    def _list(
        self, project: str, path: str, recursive: bool
    ) -> Iterator[dict[str, Any]]:
        with os_errors(project):
            request = pb.ListArtifactsRequest(
                project=_text(project),
                path=_text(path),
                recursive=recursive,
                page_size=_PAGE_SIZE,
            )
        with lookup_errors(f"{project}/{path}".rstrip("/")):
            for page in self._connection.pages(request):
                yield from (
                    _artifact_info(project, artifact) for artifact in page.artifacts
                )


_connections: dict[Path | str, Connection] = {}


def _again_if_replaced(read: Callable[[], Result]) -> Result:
    for reads_left in reversed(range(_MAX_READS)):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE or not reads_left:
                raise
    raise AssertionError


def _is_exclusive(mode: str) -> bool:
    if mode not in ("overwrite", "create"):
        raise ValueError(f'mode must be "overwrite" or "create", not {mode!r}')
    return mode == "create"


def _split(path: str) -> tuple[str, str]:
    project, _, inner = path.partition("/")
    return project, inner


def _text(value: str) -> str:
    return convert.check_text("path", value)


def _directory(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory", **more}


def _project_info(message: pb.Workspace) -> dict[str, Any]:
    return _directory(
        message.project,
        created=convert.from_timestamp(message.create_time),
        modified=convert.from_timestamp(message.update_time),
    )


def _artifact_info(project: str, artifact: pb.Artifact) -> dict[str, Any]:
    name, modified = (
        f"{project}/{artifact.path}",
        convert.from_timestamp(artifact.modify_time),
    )
    if artifact.directory:
        return _directory(name, modified=modified)
    return {
        "name": name,
        "size": artifact.size_bytes,
        "type": "file",
        "modified": modified,
        "etag": artifact.etag,
    }
