"""What generic tools learn from the server's reflection, shown with grpcurl."""

import subprocess
from collections.abc import Iterator

import pytest
from google.rpc import error_details_pb2
from mlops.workspace.v1 import error_reason_pb2

from conformance.players import GRPCURL, SERVICE
from support.server import Server, short_base


def grpcurl(server: Server, *verbs: str, flags: tuple[str, ...] = ()) -> str:
    """Runs grpcurl and returns its output, whether or not the call succeeds."""
    command = [GRPCURL, "-plaintext", "-unix", *flags, server.socket, *verbs]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for all tests, as none of them changes anything."""
    with short_base() as base, Server(base) as served:
        yield served


def test_the_reasons_are_described(server: Server) -> None:
    described = grpcurl(server, "describe", "mlops.workspace.v1.ErrorReason")
    for name, number in error_reason_pb2.ErrorReason.items():
        assert f"  {name} = {number};" in described


_DETAILS = [
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
]


@pytest.mark.parametrize("detail", _DETAILS)
def test_the_details_of_errors_are_described(server: Server, detail: type) -> None:
    name = detail.DESCRIPTOR.full_name
    described = grpcurl(server, "describe", name)
    assert f"{name} is a message" in described
    assert all(field.name in described for field in detail.DESCRIPTOR.fields)


def test_every_message_of_the_contract_is_described(server: Server) -> None:
    for method in SERVICE.methods:
        for message in (method.input_type, method.output_type):
            assert f"{message.full_name} is a message" in grpcurl(
                server, "describe", message.full_name
            )


def test_an_error_is_shown_with_its_details(server: Server) -> None:
    shown = grpcurl(
        server, f"{SERVICE.full_name}/GetWorkspace", flags=("-d", '{"project": "-"}')
    )
    assert '"reason": "FIELD_INVALID"' in shown and '"field_violations"' in shown


def test_the_services_are_listed(server: Server) -> None:
    assert set(grpcurl(server, "list").split()) >= {
        SERVICE.full_name,
        "grpc.health.v1.Health",
    }
