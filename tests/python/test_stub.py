"""Messages with large data, which the stub parses and builds without protobuf."""

import pytest
from mlops._rpc.stub import build_data, parse_data
from mlops.workspace.v1 import workspace_service_pb2 as pb

ARTIFACT = pb.Artifact(path="outputs/a", size_bytes=7)


@pytest.mark.parametrize("size", [1, 127, 128, 16383, 16384, 1 << 20, (1 << 21) + 5])
def test_data_alone_comes_as_it_is(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    parsed = parse_data(pb.ReadArtifactResponse(data=data[:size]).SerializeToString())
    assert isinstance(parsed, memoryview) and parsed == data[:size]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        pb.ReadArtifactResponse(artifact=ARTIFACT).SerializeToString(),
        pb.ReadArtifactResponse(artifact=ARTIFACT, data=b"x").SerializeToString(),
        # Legal encodings that this server never produces: the data before the artifact,
        # the data twice, and an unknown field.
        b"\x12\x01x" + pb.ReadArtifactResponse(artifact=ARTIFACT).SerializeToString(),
        b"\x12\x01x\x12\x01y",
        b"\x12\x01x\x98\x06\x01",
    ],
)
def test_all_else_is_parsed(message: bytes) -> None:
    assert parse_data(message) == pb.ReadArtifactResponse.FromString(message)


@pytest.mark.parametrize(
    "message",
    [b"\x12", b"\x12\x05abc", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"],
)
def test_nonsense_is_an_error(message: bytes) -> None:
    with pytest.raises(Exception, match="Error parsing"):
        parse_data(message)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 1 << 20, (1 << 21) + 5])
@pytest.mark.parametrize(
    "head",
    [
        pb.WriteArtifactRequest(),
        pb.WriteArtifactRequest(project="p", offset=3, finish=True),
        pb.ImportWorkspaceRequest(),
        pb.ImportWorkspaceRequest(project="p", request_id="id"),
    ],
)
def test_data_is_put_behind_what_else_a_message_says(
    head: pb.WriteArtifactRequest | pb.ImportWorkspaceRequest, size: int
) -> None:
    whole = type(head)(data=bytes(size))
    whole.MergeFrom(head)
    assert type(head).FromString(build_data(head, bytes(size))) == whole
