"""Whole workspaces as tar archives: sent, received, and kept in files."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import IO, Any, Self, TypeAlias, cast

import grpc

from mlops._rpc import errors
from mlops._rpc.channel import STREAM_S
from mlops._rpc.connection import Connection
from mlops._rpc.errors import WorkspaceError
from mlops._rpc.fork_gate import GATE, PAUSE_S
from mlops._rpc.stub import Stub, build_data
from mlops.workspace.v1 import workspace_service_pb2 as pb

Pathlike: TypeAlias = str | os.PathLike[str]
# A path, a binary file, bytes, or pieces of bytes.
ArchiveSource: TypeAlias = (
    Pathlike | IO[bytes] | bytes | bytearray | memoryview | Iterable[bytes]
)
ArchiveTarget: TypeAlias = Pathlike | IO[bytes]
# Receives the number of bytes so far.
Progress: TypeAlias = Callable[[int], object]

_CHUNK_BYTES = 1 << 20
_QUEUED_MESSAGES = 2
# Limit of the bytes kept of pieces that cannot be read twice, to send them again.
_REPLAYED_BYTES = 4 << 20
# The first entry of an archive; its size stands at a fixed place.
_MANIFEST = b"manifest.json\0"
_BLOCK_BYTES = 512
_SIZE = slice(124, 135)
_MAX_MANIFEST_BYTES = 1 << 20


class Export:
    """The archive of a workspace, as an iterator of pieces of up to 1 MiB.

    The call begins with the first piece. It cannot be resumed: after a lost connection,
    or a fork, the next piece raises an error. close() ends it early, as does leaving a
    `with` block. Only one thread at a time may use it.
    """

    def __init__(
        self, connection: Connection, project: str, directories: Iterable[str]
    ) -> None:
        """Prepare the call."""
        self._connection = connection
        self._project = project
        self._request = pb.ExportWorkspaceRequest(
            project=project, directories=directories
        )
        self._call: Any = None
        self._begun = False  # Whether a piece was returned.
        self._complete = False
        self._ended = threading.Event()  # Set when the call has ended.

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Return the next piece.

        Raises:
            WorkspaceError: The export failed; what was received cannot be imported.
        """
        if self._complete:
            raise StopIteration
        with errors.operation("export_workspace", self._project):
            if self._begun:
                data = self._connection.once(self._receive)
            else:
                data = self._connection.resume(self._receive, lambda: 0)
        if data is None:
            self._complete = True
            raise StopIteration
        self._begun = True
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the call without waiting."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def pause(self) -> None:
        """End the call before a fork."""
        if self._call is not None:
            self.close()
            self._ended.wait(PAUSE_S)

    def _receive(self, stub: Stub) -> bytes | None:
        if self._call is None:
            if self._begun:
                raise WorkspaceError(
                    "The export was ended before it was complete; export again",
                    details={"reason": "", "code": "CANCELLED"},
                )
            call = stub.ExportWorkspace(self._request, timeout=STREAM_S)
            ended = self._ended = threading.Event()
            # A call that has already ended accepts no callback.
            if not call.add_callback(ended.set):
                ended.set()
            self._call = call
            GATE.watch(self)
        message = None
        try:
            message = next(self._call, None)
        finally:
            if message is None:
                self.close()
        return None if message is None else bytes(message.data)


def save(export: Export, target: ArchiveTarget, progress: Progress | None) -> None:
    """Write an archive to a binary file, or to a path.

    A file at the path appears, or is replaced, once the archive is complete and on
    disk. A failure leaves no partial file there.

    Raises:
        WorkspaceError: FIELD_INVALID if `target` is neither.
    """
    with export:
        if not isinstance(target, str | os.PathLike):
            _check_binary(target)
            _write(export, target, progress)
            return
        directory, name = os.path.split(os.path.abspath(target))
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
        try:
            with open(descriptor, "wb") as file:
                # mkstemp() creates private files; use the permissions of a new file.
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                _write(export, file, progress)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_directory(directory)


def _check_binary(target: IO[bytes]) -> None:
    try:
        target.write(b"")
    except (AttributeError, TypeError):
        raise errors.field_invalid(
            "target",
            f"must be a path or a file opened in binary mode, not "
            f"{type(target).__name__}",
        ) from None


def _write(export: Export, file: IO[bytes], progress: Progress | None) -> None:
    size = 0
    for piece in export:
        view = memoryview(piece)
        # Raw files may write less.
        while view:
            view = view[file.write(view) :]
        size += len(piece)
        if progress is not None:
            progress(size)


def _umask() -> int:
    """Return the umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Source:
    """The bytes of an archive, which can be read again if they are in a file."""

    def __init__(self, source: ArchiveSource) -> None:
        """Prepare to read `source`; opens a path.

        Raises:
            WorkspaceError: FIELD_INVALID if it is none of these.
        """
        self._opened: IO[bytes] | None = None
        self._file: IO[bytes] | None = None
        self._start = 0
        # The chunks read so far; None once they are too many to be kept.
        self._replay: list[bytes] | None = []
        self._replay_bytes = 0
        self._chunks: Iterator[bytes] = iter(())
        if isinstance(source, bytes | bytearray | memoryview):
            self._chunks = _cut([source])
        elif isinstance(source, str | os.PathLike):
            self._opened = open(source, "rb")  # noqa: SIM115
            self._read_from(self._opened)
        elif hasattr(source, "read"):
            self._read_from(cast(IO[bytes], source))
        elif isinstance(source, Iterable):
            self._chunks = _cut(source)
        else:
            raise errors.field_invalid(
                "source",
                "must be a path, a binary file, bytes, or an iterable of bytes, not "
                f"{type(source).__name__}",
            )

    def _read_from(self, file: IO[bytes]) -> None:
        self._chunks = _chunks_of(file)
        if hasattr(file, "seekable") and file.seekable():
            self._file, self._start = file, file.tell()

    def close(self) -> None:
        """Close the file if this object opened it."""
        if self._opened is not None:
            self._opened.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield the archive from its beginning, in pieces that fit a message.

        Raises:
            WorkspaceError: It was read before, and cannot be read again; or
                FIELD_INVALID if it does not consist of bytes.
        """
        if self._file is not None:
            self._file.seek(self._start)
            yield from _chunks_of(self._file)
            return
        if self._replay is None:
            raise WorkspaceError(
                "The connection was lost, and these pieces of the archive cannot be "
                "read again; import it from a file, or export it again",
                details={"reason": "", "code": "ABORTED"},
            )
        yield from list(self._replay)
        for chunk in self._chunks:
            self._keep(chunk)
            yield chunk

    def project(self) -> str:
        """Return the name of the workspace that was exported.

        Raises:
            WorkspaceError: ARCHIVE_INVALID if this is not such an archive.
        """
        head = b""
        size = 0
        for piece in self.pieces():
            head += piece
            if len(head) < _BLOCK_BYTES:
                continue
            size = _manifest_size(head)
            if len(head) >= _BLOCK_BYTES + size:
                break
        try:
            manifest = json.loads(head[_BLOCK_BYTES : _BLOCK_BYTES + size])
            project = manifest["project"]
        except (ValueError, TypeError, KeyError):
            raise _invalid("does not begin with a manifest") from None
        if not isinstance(project, str):
            raise _invalid("has no project")
        return project

    def _keep(self, chunk: bytes) -> None:
        if self._replay is None:
            return
        self._replay.append(chunk)
        self._replay_bytes += len(chunk)
        if self._replay_bytes > _REPLAYED_BYTES:
            self._replay = None


def _chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: bytes(_checked(file.read(_CHUNK_BYTES))), b"")


def _cut(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    for piece in pieces:
        # The items of a memoryview may be larger than a byte.
        view = memoryview(_checked(piece)).cast("B")
        for begin in range(0, len(view), _CHUNK_BYTES):
            yield bytes(view[begin : begin + _CHUNK_BYTES])


def _checked(piece: object) -> bytes | bytearray | memoryview:
    """Return what a caller's file or iterable has produced."""
    if isinstance(piece, bytes | bytearray | memoryview):
        return piece
    raise errors.field_invalid(
        "source",
        f"must consist of bytes, not {type(piece).__name__}: open files in binary mode",
    )


def _manifest_size(head: bytes) -> int:
    try:
        size = int(head[_SIZE].rstrip(b"\0 "), 8)
    except ValueError:
        size = -1
    if not head.startswith(_MANIFEST) or not 0 < size <= _MAX_MANIFEST_BYTES:
        raise _invalid("does not begin with a manifest")
    return size


def _invalid(problem: str) -> WorkspaceError:
    details = {
        "entry": "manifest.json",
        "problem": problem,
        "reason": "ARCHIVE_INVALID",
        "code": "INVALID_ARGUMENT",
    }
    return WorkspaceError(f"The archive {problem}", details=details)


class Import:
    """One import, repeated from the beginning if the connection is lost."""

    def __init__(
        self,
        connection: Connection,
        head: pb.ImportWorkspaceRequest,
        source: Source,
        progress: Progress | None,
    ) -> None:
        """Prepare the call; `head` must have a request_id."""
        self._connection = connection
        self._head = head
        self._source = source
        self._progress = progress
        self._acknowledged = 0

    def run(self) -> pb.Workspace:
        """Send the archive and return the new workspace.

        Raises:
            WorkspaceError: The import failed, and left nothing.
        """
        return self._connection.resume(self._send, lambda: self._acknowledged)

    def _send(self, stub: Stub) -> pb.Workspace:
        stream = _ImportStream(stub)
        GATE.watch(stream)
        try:
            head = self._head
            for piece in self._source.pieces():
                # If the call has ended early, result() reports why.
                if not stream.put(build_data(head, piece)):
                    break
                head = pb.ImportWorkspaceRequest()
                self._report(stream.last.offset)
            else:
                # Even an empty archive names the workspace.
                if head is self._head:
                    stream.put(head.SerializeToString())
                stream.close()
            response = stream.result()
        finally:
            stream.cancel()
        self._report(response.offset)
        workspace: pb.Workspace = response.workspace
        return workspace

    def _report(self, offset: int) -> None:
        if offset > self._acknowledged:
            self._acknowledged = offset
            if self._progress is not None:
                self._progress(offset)


class _ImportStream:
    """One call: gRPC's thread takes the messages, a thread of this class the responses.

    Thread-safe.
    """

    def __init__(self, stub: Stub) -> None:
        self._changed = threading.Condition()
        self._messages: deque[bytes] = deque()
        self._closed = False
        self._ended = False
        self._error: grpc.RpcError | None = None
        self.last = pb.ImportWorkspaceResponse()
        self._call: Any = stub.import_data(iter(self), timeout=STREAM_S)
        threading.Thread(target=self._read, name="mlops-import", daemon=True).start()

    def put(self, message: bytes) -> bool:
        """Queue a message, waiting for room; return False if the call has ended."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or len(self._messages) < _QUEUED_MESSAGES
            )
            if self._ended:
                return False
            self._messages.append(message)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """End the stream after the queued messages, without waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """End the call; no-op if it has ended."""
        self._call.cancel()
        self.close()

    def pause(self) -> None:
        """End the call before a fork."""
        self.cancel()
        with self._changed:
            self._changed.wait_for(lambda: self._ended, PAUSE_S)

    def result(self) -> pb.ImportWorkspaceResponse:
        """Wait for the end of the call; return its last response.

        Raises:
            grpc.RpcError: The call failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
        if self._error is not None:
            raise self._error
        return self.last

    def _read(self) -> None:
        """Take every response: gRPC ends a call only once all of them are read."""
        error = None
        try:
            for response in self._call:
                with self._changed:
                    self.last = response
                    self._changed.notify_all()
        except grpc.RpcError as raised:
            error = raised
        with self._changed:
            self._error, self._closed, self._ended = error, True, True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._ended or bool(self._messages)
                )
                if not self._messages or self._ended:
                    return
                message = self._messages.popleft()
                self._changed.notify_all()
            yield message
