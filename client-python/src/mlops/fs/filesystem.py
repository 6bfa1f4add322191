"""The file system of all workspaces of one server."""

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
# A file that is replaced while it is read as a whole is read again so often.
_MAX_READS = 3
_ABSENT = (FileNotFoundError, NotADirectoryError)
Result = TypeVar("Result")


class WorkspaceFileSystem(LiteralFirst):
    """The files of all workspaces as `workspace://<project>/<directory>/<path>`, where
    the directory is one of mlflow, dvc, monitoring, models, outputs. The root lists the
    projects.

    Whole files appear and vanish at once: what is being written is there only when it
    was closed. A file is read as it was when it was opened; if another takes its place
    meanwhile, reading on is an error. When a connection breaks, or the server restarts,
    reading and writing go on where they were.

    Where fsspec takes `[ ] * ?` for a pattern, a name that exists is taken for that
    name; glob() alone always takes a pattern.

    Errors are OSError and its subclasses, with the server's sentence; their `__cause__`
    is a WorkspaceError. Where the server cannot be reached, exists(), isfile() and
    isdir() raise ConnectionError rather than answer False.

    Thread-safe, may be pickled, and used in forked processes; an open file by one
    thread at a time, and one open for writing not in a process forked since. Appending
    is not supported. Workspaces themselves are made and deleted by WorkspaceManager
    alone.
    """

    protocol = "workspace"
    # What it stands for depends on the environment and the working directory, too. The
    # connection is what is shared.
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
        """Takes what WorkspaceManager takes, and finds the server as it does, by the
        first call. With `by_path`, files that can be proved to lie on a disk of this
        machine are read, and put, there rather than over the connection.

        A `connection` is another's, whose server has its base at `base_path`; see
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
        # One for all that mean the same server: fsspec makes a file system for each
        # thread.
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

    # --- What there is ---

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """What a file or directory is: `name`, `type`, `size`, `modified` and, of a
        file, `etag`; of a project also `created`. Raises FileNotFoundError.
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
        """Whether there is such a file or directory."""
        return self._find(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether there is such a file."""
        return (self._find(path) or {}).get("type") == "file"

    def isdir(self, path: str) -> bool:
        """Whether there is such a directory."""
        return (self._find(path) or {}).get("type") == "directory"

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """The paths in a directory, in order, or with `detail` what info() tells of
        each; of a file itself.

        Raises FileNotFoundError.
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
        """The files below a directory, in order; with `withdirs` also the directories,
        itself included.
        """
        path = self._strip_protocol(path)
        project, inner = _split(path)
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
        """The SHA-256 of a file's content, in hexadecimal digits.

        The server may have to read all of it.
        """
        path = self._strip_protocol(path)
        project, inner = self._file_of(path)
        with lookup_errors(path):
            request = pb.GetArtifactRequest(project=project, path=inner, checksum=True)
            return str(self._connection.call(request).sha256)

    def ukey(self, path: str) -> str:
        """The etag of a file: another one whenever its content, or the file itself, is
        another one.
        """
        info = self.info(path)
        return str(info["etag"]) if info["type"] == "file" else super().ukey(path)

    def created(self, path: str) -> datetime:
        """When a project was made, or a file was written, which is when it was made:
        each write makes a new one.
        """
        info = self.info(path)
        if "created" in info or info["type"] == "file":
            return info.get("created") or self.modified(path)
        raise NotImplementedError("When a directory was made is not known")

    def modified(self, path: str) -> datetime:
        """When a file was written, the entries of a directory changed, or the record of
        a project did.
        """
        info = self.info(path)
        if "modified" not in info:
            raise NotImplementedError("The root has no time")
        time: datetime = info["modified"]
        return time

    # --- Reading ---

    def local_path(self, path: str) -> str | None:
        """The path by which this very file can be read here; None if there is none.

        Not to be written to.
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
        """The server's base directory, if files may be taken by their path; see
        _base_here().
        """
        return self._base_here(path) if self._by_path else None

    def _base_here(self, path: str) -> Path | None:
        """The server's base directory, if this machine has a directory of that name,
        which may be another one.
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
        """For open().

        Modes are r, w, x; `etag` may be given with r: OSError ESTALE if the file has
        another one.
        """
        common = {
            "block_size": block_size,
            "autocommit": autocommit,
            "cache_options": cache_options,
        }
        if mode == "rb":
            options.pop("size", None)  # Of a file that was pickled; the info has it.
            return ReadableFile(
                self,
                path,
                self._file_info(path, options.get("etag")),
                **common,
                **options,
            )
        if mode not in ("wb", "xb"):
            raise NotImplementedError(
                f"Files cannot be opened with mode {mode!r}: only r, w and x are supported"
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
        """The content of a file, or bytes `start` to `end` of it, which may be
        negative, as of a slice.
        """
        path = self._strip_protocol(path)
        if (start or 0) >= 0 and (end is None or end >= 0):
            return _again_if_replaced(lambda: self._read(path, start or 0, end, ""))
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
        """The content of ranges of files, several at a time; with on_error="return" an
        exception where one failed.
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
        """Copies a file to the local `lpath`, or into the file object `outfile`; makes
        the directory if it is one. Where that fails, no half of it stays at `lpath`.
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
                target.file()  # Which may be empty.

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
        """Copies files here, several at a time, by fsspec's rules of what goes where.
        With `assume_literal`, `rpath` is never a pattern. Raises OSError EINVAL if a
        directory would be copied into itself.
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
        """Copies files from here, as get() does there. What is neither file nor
        directory, such as a named pipe, is an OSError EINVAL before anything is sent.
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
        """Copies files and, with `recursive`, directories, one after the other;
        on_error="ignore", the default with `recursive`, leaves out what vanished
        meanwhile. Raises OSError EINVAL if a directory would be copied into itself.
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
        """Raises OSError EINVAL if both are one file: to open it for writing empties
        it.
        """
        base, is_same = self._base_here(path), False
        with suppress(OSError):  # One of them does not exist.
            is_same = base is not None and os.path.samefile(base / path, local)
        if is_same and os.path.isfile(local):
            raise os_error(
                errno.EINVAL,
                path,
                f"{local} is the very file that would be copied there",
            )

    def _real_directory(self, path: str) -> str | None:
        base = self._base_here(path)
        return (
            None if base is None else real_directory(base / self._strip_protocol(path))
        )

    def _copy_same(self, path: str, target: Target, callback: Callback) -> bool:
        """Whether it could be done by the path."""
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
                if error.details["reason"] == "OFFSET_OUT_OF_RANGE":
                    return b""
                raise

    # --- Writing ---

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **options: Any
    ) -> None:
        """Writes a file, at once. With mode="create" raises FileExistsError if the name
        is taken.
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
        """Copies a local file; makes the directory if it is one. mode="create" as of
        pipe_file(). One of 2 MiB or more is copied by the path if it can be, of which
        the logger of this module tells at DEBUG; the server hashes it.

        Raises OSError EINVAL for what is neither file nor directory, such as a named
        pipe, without waiting for it.
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
        """Whether it could be done by the path; if not, nothing has changed."""
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
        """Makes an empty file; without `truncate` only if there is none."""
        try:
            self.pipe_file(path, b"", mode="overwrite" if truncate else "create")
        except FileExistsError:
            if truncate:
                raise

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copies a file, within a project on the server; makes the directory if it is
        one.
        """
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        (project, source), (other, destination) = _split(path1), _split(path2)
        if not source or not destination:
            self._copy_directory(path1, path2)
            return
        try:
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
        """Gives a file or directory another name; into `path2` if that is a directory.
        Within a project that is one step; between projects, with lists, patterns or
        `maxdepth`, it is copied and then deleted.
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
        if path2.endswith("/") or self.isdir(target):
            target = f"{target}/{source.rpartition('/')[2]}"
        (project, path), (other, destination) = _split(source), _split(target)
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
        """Deletes files and, if they are empty or with `recursive`, directories, each
        at once. With `assume_literal`, `path` is never a pattern, not even if nothing
        has that name any more.
        """
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for found in reversed(self.expand_path(path, assume_literal=assume_literal)):
            self._delete(found, force=recursive)

    def rm_file(self, path: str) -> None:
        """Deletes a file, or a directory that is empty."""
        self._delete(self._strip_protocol(path), force=False)

    def rmdir(self, path: str) -> None:
        """Deletes a directory that is empty."""
        path = self._strip_protocol(path)
        if self.info(path)["type"] != "directory":
            raise os_error(errno.ENOTDIR, path)
        self._delete(path, force=False)

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Makes a directory. Raises FileExistsError if the name is taken."""
        path = self._strip_protocol(path)
        if not create_parents and not self.isdir(self._parent(path)):
            raise os_error(errno.ENOENT, self._parent(path))
        self.makedirs(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Makes a directory and those on the way to it, but no project.

        Raises FileExistsError if the name is taken, unless by a directory and with
        `exist_ok`.
        """
        path = self._strip_protocol(path)
        project, inner = _split(path)
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
            if not self.isfile(path):  # One on the way to it.
                raise
            raise os_error(errno.EEXIST, path) from error.__cause__

    # --- Inside ---

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
            raise os_error(errno.ESTALE, path, "The file is another one meanwhile")
        return info

    def _file_of(self, path: str) -> tuple[str, str]:
        """The project, and the path in it, of what can only be a file."""
        project, inner = _split(path)
        if not inner:
            self.info(path)
            raise os_error(errno.EISDIR, path)
        with os_errors(path):
            return _text(project), _text(inner)

    def _check_writable(self, path: str, exclusive: bool) -> None:
        """Raises now what would be found out when all was sent."""
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
                "Workspaces are deleted by WorkspaceManager.delete_workspace() alone",
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
