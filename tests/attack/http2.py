"""A minimal HTTP/2 client that can misbehave.

It opens gRPC calls frame by frame and reads only on request. Real gRPC clients obey
flow control, reset few streams and read their responses; an attacker need not.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = (
    0,
    1,
    3,
    4,
    6,
    7,
    8,
)
_INITIAL_WINDOW_SIZE = 4
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_CANCEL = 8
_MAX_FRAME_BYTES = 16384
# HPACK (RFC 7541, section 6): a field of the table, and a literal that enters it.
_INDEXED, _ADD_TO_TABLE, _FIRST_DYNAMIC_INDEX = 0x80, 0x40, 62
SERVICE = "mlops.workspace.v1.WorkspaceService"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + struct.pack(">BBI", kind, flags, stream)
        + payload
    )


def _literal(name: str, value: str) -> bytes:
    """Returns a header field in HPACK's literal form.

    `name` and `value` must be shorter than 127 bytes.
    """
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _request_fields(method: str) -> list[bytes]:
    """Returns the literal header fields of a call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{SERVICE}/{method}"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    return [_literal(name, value) for name, value in fields]


def message(body: bytes) -> bytes:
    """Returns `body` with gRPC's five-byte prefix."""
    return b"\0" + struct.pack(">I", len(body)) + body


class Connection:
    """A connection to `address`, which is "unix:PATH" or "HOST:PORT".

    Usable as a context manager. `timeout_s` bounds each socket operation. If `indexed`,
    the headers of a method are sent once, and later calls refer to HPACK's dynamic
    table, so that a call takes few bytes; the connection then serves one method. Not
    thread-safe.
    """

    def __init__(
        self, address: str, timeout_s: float = 60, *, indexed: bool = False
    ) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout_s)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host, int(port)), timeout_s)
        self._next_stream = 1
        self._indexed = indexed
        self._initial_window = 65_535
        self._unread = b""
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(
        self,
        method: str,
        data: bytes | None = None,
        *,
        end: bool = True,
        reset: bool = False,
    ) -> bytes:
        """Returns the frames that open a new call; the caller sends them.

        Without `data` the call consists of its headers. `end` half-closes the call
        after `data`, and `reset` cancels it.
        """
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        frames = [_frame(_HEADERS, _END_HEADERS, stream, self._headers(method))]
        if data is not None:
            pieces = [
                data[at : at + _MAX_FRAME_BYTES]
                for at in range(0, len(data), _MAX_FRAME_BYTES)
            ] or [b""]
            flags = [0] * (len(pieces) - 1) + [_END_STREAM if end else 0]
            frames += [
                _frame(_DATA, flag, stream, piece)
                for flag, piece in zip(flags, pieces, strict=True)
            ]
        if reset:
            frames.append(_frame(_RST_STREAM, 0, stream, struct.pack(">I", _CANCEL)))
        return b"".join(frames)

    def _headers(self, method: str) -> bytes:
        fields = _request_fields(method)
        if not self._indexed:
            return b"".join(fields)
        # The opened call is not the first one, so the table has its fields.
        if self._next_stream > 3:
            first = _FIRST_DYNAMIC_INDEX
            return bytes(_INDEXED | first + i for i in range(len(fields)))
        return b"".join(bytes([_ADD_TO_TABLE]) + field[1:] for field in fields)

    def grant(self, size: int) -> None:
        """Allows the server to send `size` more bytes on this connection."""
        self.socket.sendall(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", size)))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yields the server's frames as (kind, flags, stream, payload).

        Acknowledges its settings and pings on the way.
        """
        while True:
            header = self._read(9)
            size = int.from_bytes(header[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", header[3:])
            payload = self._read(size)
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                self.socket.sendall(
                    _frame(kind, _ACK, 0, payload if kind == _PING else b"")
                )
            yield kind, flags, stream, payload

    def send_as_allowed(
        self, method: str, data: bytes, count: int, patience_s: float
    ) -> int:
        """Opens `count` calls and sends `data` on each, as flow control allows.

        Stops once the server has sent nothing for `patience_s` seconds. Returns the
        number of bytes sent.
        """
        rest: dict[int, memoryview] = {}
        windows: dict[int, int] = {}
        window = 65_535
        for _ in range(count):
            rest[self._next_stream], windows[self._next_stream] = (
                memoryview(data),
                65_535,
            )
            self.socket.sendall(self.open(method))
        sent, frames = 0, self.frames()
        self.socket.settimeout(patience_s)
        while True:
            for stream in [
                stream
                for stream in rest
                if rest[stream] and windows[stream] > 0 and window > 0
            ]:
                size = min(len(rest[stream]), windows[stream], window)
                for at in range(0, size, _MAX_FRAME_BYTES):
                    piece = rest[stream][at : min(at + _MAX_FRAME_BYTES, size)]
                    self.socket.sendall(_frame(_DATA, 0, stream, bytes(piece)))
                rest[stream], window, sent = (
                    rest[stream][size:],
                    window - size,
                    sent + size,
                )
                windows[stream] -= size
            try:
                kind, flags, stream, payload = next(frames)
            except TimeoutError:
                return sent
            # Credit for the connection, then for one stream, then a new initial window,
            # which RFC 9113 also applies to open streams.
            if kind == _WINDOW_UPDATE and stream == 0:
                window += int.from_bytes(payload, "big")
            elif kind == _WINDOW_UPDATE and stream in windows:
                windows[stream] += int.from_bytes(payload, "big")
            elif kind == _SETTINGS and not flags & _ACK:
                for at in range(0, len(payload), 6):
                    key, value = struct.unpack(">HI", payload[at : at + 6])
                    if key == _INITIAL_WINDOW_SIZE:
                        grown = value - self._initial_window
                        windows = {
                            stream: size + grown for stream, size in windows.items()
                        }
                        self._initial_window = value
            elif kind in (_RST_STREAM, _HEADERS):
                rest.pop(stream, None)

    def ended(self, count: int, *, grant_bytes: int = 0) -> None:
        """Reads until `count` more calls have ended.

        With `grant_bytes`, returns flow-control credit for every half of it received.
        """
        received = 0
        for kind, flags, _, payload in self.frames():
            if kind == _DATA:
                received += len(payload)
            if received > grant_bytes // 2 > 0:
                self.grant(received)
                received = 0
            if kind == _RST_STREAM or (
                kind in (_DATA, _HEADERS) and flags & _END_STREAM
            ):
                count -= 1
            if count == 0:
                return

    def is_closed_within(self, timeout_s: float) -> bool:
        """Reads and discards data; returns whether the server closes the connection."""
        self.socket.settimeout(timeout_s)
        with contextlib.suppress(ConnectionError):
            try:
                while self.socket.recv(1 << 20):
                    pass
            except TimeoutError:
                return False
        return True

    def _read(self, size: int) -> bytes:
        parts, missing = [self._unread[:size]], size - len(self._unread)
        self._unread = self._unread[size:]
        while missing > 0:
            some = self.socket.recv(1 << 18)
            if not some:
                raise ConnectionResetError("the server closed the connection")
            parts.append(some[:missing])
            self._unread = some[missing:]
            missing -= len(some)
        return b"".join(parts)


def send_until_closed(
    connection: Connection,
    count: int,
    frames: Callable[[], bytes],
    per_write: int = 100,
) -> int:
    """Sends `frames()` up to `count` times; returns how many were sent.

    Stops early when the server closes the connection or a write times out.
    """
    for sent in range(0, count, per_write):
        try:
            connection.socket.sendall(
                b"".join(frames() for _ in range(min(per_write, count - sent)))
            )
        except (ConnectionError, TimeoutError):
            return sent
    return count
