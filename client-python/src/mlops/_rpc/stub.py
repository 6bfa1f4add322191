"""The gRPC stub, with methods that move data without copying it in protobuf."""

# gRPC's stub types are generic for type checkers only.
from __future__ import annotations

from typing import Any

import grpc

from mlops._rpc.credentials import NONE, Credentials
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

_SERVICE = pb.DESCRIPTOR.services_by_name["WorkspaceService"].full_name
_LENGTH_DELIMITED = 2
_READ_TAG = pb.ReadArtifactResponse.DATA_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_MAX_VARINT_BYTES = 5  # Enough for a length below 2 GiB.


class _Authorized:
    """A method of a stub that sends the token with every call.

    gRPC's own call credentials refuse Unix sockets and loopback without TLS, and its
    interceptors slow down every call.
    """

    def __init__(self, method: Any, credentials: Credentials) -> None:
        self._method, self._credentials = method, credentials

    def __call__(self, request: Any, timeout: float | None = None) -> Any:
        return self._method(
            request, timeout=timeout, metadata=self._credentials.metadata()
        )

    def future(self, request: Any, timeout: float | None = None) -> Any:
        return self._method.future(
            request, timeout=timeout, metadata=self._credentials.metadata()
        )


class Stub(WorkspaceServiceStub):
    """The generated stub, with additional methods for calls that move data."""

    def __init__(self, channel: grpc.Channel, credentials: Credentials = NONE) -> None:
        super().__init__(channel)
        # ReadArtifact. A message that holds only data arrives as that data.
        self.read_data: grpc.UnaryStreamMultiCallable[
            pb.ReadArtifactRequest, memoryview | pb.ReadArtifactResponse
        ] = channel.unary_stream(
            f"/{_SERVICE}/ReadArtifact",
            request_serializer=pb.ReadArtifactRequest.SerializeToString,
            response_deserializer=parse_data,
        )
        # WriteArtifact with messages from build_data(): as a stream, and as a single
        # message, which gets one response and for which gRPC needs no extra thread.
        self.write_data: grpc.StreamStreamMultiCallable[
            bytes, pb.WriteArtifactResponse
        ] = channel.stream_stream(
            f"/{_SERVICE}/WriteArtifact",
            response_deserializer=pb.WriteArtifactResponse.FromString,
        )
        self.write_whole: grpc.UnaryUnaryMultiCallable[
            bytes, pb.WriteArtifactResponse
        ] = channel.unary_unary(
            f"/{_SERVICE}/WriteArtifact",
            response_deserializer=pb.WriteArtifactResponse.FromString,
        )
        # ImportWorkspace with messages from build_data().
        self.import_data: grpc.StreamStreamMultiCallable[
            bytes, pb.ImportWorkspaceResponse
        ] = channel.stream_stream(
            f"/{_SERVICE}/ImportWorkspace",
            response_deserializer=pb.ImportWorkspaceResponse.FromString,
        )
        if credentials.has_token:
            for name, method in list(vars(self).items()):
                setattr(self, name, _Authorized(method, credentials))


def parse_data(message: bytes) -> memoryview | pb.ReadArtifactResponse:
    """Parse a ReadArtifactResponse.

    If the message holds only data, as all but the first do, return a view of the data
    instead, without copying it.
    """
    if message and message[0] == _READ_TAG:
        size = 0
        for at, byte in enumerate(message[1 : 1 + _MAX_VARINT_BYTES]):
            size |= (byte & 0x7F) << 7 * at
            if byte < 0x80:
                data = memoryview(message)[2 + at :]
                if len(data) == size:
                    return data
                break
    return pb.ReadArtifactResponse.FromString(message)


def build_data(
    head: pb.WriteArtifactRequest | pb.ImportWorkspaceRequest, data: bytes | memoryview
) -> bytes:
    """Return the encoded message `head`, which has no data, with `data` added."""
    prefix = bytearray(head.SerializeToString())
    prefix.append(head.DATA_FIELD_NUMBER << 3 | _LENGTH_DELIMITED)
    size = len(data)
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return b"".join((prefix, data))
