"""Servers that know their callers, and callers of every kind."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

from conformance.players import (
    SERVICE,
    Error,
    Outcome,
    Request,
    make_requests,
    rpc_error,
)
from support.certificates import Authority, Identity
from support.jwts import AUDIENCE, ISSUER, SigningKey, claims, write_jwks
from support.server import BINARY, Server

TIMEOUT_S = 20
UNAUTHENTICATED = ("UNAUTHENTICATED", "CREDENTIALS_INVALID")
DENIED = ("PERMISSION_DENIED", "PERMISSION_MISSING")


def wait_until(condition: Callable[[], Any], what: str = "") -> None:
    """Waits at most 20 seconds until `condition` returns a true value."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def new_token(file: Path, name: str, *args: str) -> str:
    """Adds a token to the file, as an operator does, and returns it."""
    command: list[str | Path] = [BINARY, "token", name, "--tokens", file, *args]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    return made.stdout.strip()


def replace(file: Path, text: str) -> None:
    """Replaces the file atomically."""
    draft = file.with_name(f"{file.name}~")
    draft.write_text(text)
    draft.rename(file)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


class Files:
    """Files of a server that accepts tokens, JWTs and certificates, in `directory`.

    There are no tokens until new_token() adds one.
    """

    def __init__(self, directory: Path, policy: str | None = None) -> None:
        self.tokens = directory / "tokens"
        self.tokens.touch(0o600)
        self.jwks = directory / "jwks.json"
        self.keys = {
            algorithm: SigningKey(directory, algorithm.lower(), algorithm)
            for algorithm in ("RS256", "ES256")
        }
        write_jwks(self.jwks, *self.keys.values())
        self.authority = Authority(directory)
        self.server = self.authority.issue("server")
        self.policy = directory / "policy.yaml"
        self.audit = directory / "audit.log"
        self._has_policy = policy is not None
        if policy is not None:
            self.policy.write_text(policy)

    @property
    def args(self) -> list[str]:
        """The flags of the server."""
        flags: list[object] = [
            *("--listen", "localhost:0", "--metrics", "127.0.0.1:0"),
            *("--tls-cert", self.server.cert, "--tls-key", self.server.key),
            *("--tls-client-ca", self.authority.cert, "--tls-client-auth", "optional"),
            *("--tokens", self.tokens, "--jwks", self.jwks),
            *("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE),
            *("--audit-log", self.audit),
        ]
        if self._has_policy:
            flags += ["--policy", self.policy]
        return [str(flag) for flag in flags]

    def token(self, name: str, *args: str) -> str:
        return new_token(self.tokens, name, *args)

    def jwt(self, name: str, algorithm: str = "RS256", **others: Any) -> str:
        return self.keys[algorithm].sign(claims(name, **others))

    def certificate(self, name: str) -> Identity:
        """Issues a client certificate whose DNS name is `name`."""
        return self.authority.issue(name, names=f"DNS:{name}")


def tcp_port(server: Server) -> int:
    return int(server.addresses[-1].rpartition(":")[2])


def tcp_address(server: Server) -> str:
    return f"localhost:{tcp_port(server)}"


def metrics_address(server: Server) -> str:
    """Returns the address of the metrics, which the log has."""
    marker = "metrics on http://"
    wait_until(lambda: marker in server.output, marker)
    return server.output.rpartition(marker)[2].partition("/metrics")[0]


def get(server: Server, path: str) -> tuple[int, str]:
    """Returns the status and the body of `path` on the address of the metrics."""
    url = f"http://{metrics_address(server)}{path}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(server: Server, name: str, **labels: str) -> float:
    """Returns the sum of the samples of `name` that have these labels.

    There must be one, except for counters of errors, which begin with the first.
    """
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = [
        float(line.rpartition(" ")[2])
        for line in get(server, "/metrics")[1].splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
        and all(label in line for label in wanted)
    ]
    if name != "workspaced_overloaded_total":
        assert found, f"there is no metric {name} with {labels}"
    return sum(found)


@dataclass(frozen=True)
class Caller:
    """Makes calls on one channel with the same metadata."""

    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def stub(self) -> Any:
        return pb_grpc.WorkspaceServiceStub(self.channel)

    def call(self, rpc: str, request: Request) -> Outcome:
        """Calls `rpc` and returns the outcome."""
        try:
            result = getattr(self.stub, rpc)(
                make_requests(rpc, request), metadata=self.metadata, timeout=TIMEOUT_S
            )
            streams = SERVICE.methods_by_name[rpc].server_streaming
            messages = list(result) if streams else [result]
        except grpc.RpcError as error:
            return Outcome([], rpc_error(error))
        return Outcome([_to_dict(message) for message in messages])

    def answer(self, rpc: str, **request: Any) -> dict[str, Any]:
        """Calls the unary `rpc`, which must succeed, and returns the response."""
        outcome = self.call(rpc, request)
        assert outcome.error is None, outcome.error
        return outcome.responses[0]

    def refusal(self, rpc: str, **request: Any) -> tuple[str, str]:
        """Calls `rpc`, which must fail, and returns the code and the reason."""
        outcome = self.call(rpc, request)
        assert outcome.error is not None, outcome.responses
        return code_and_reason(outcome.error)


def code_and_reason(error: Error) -> tuple[str, str]:
    return error.code, error.infos[0].reason if error.infos else ""


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


@contextmanager
def on_tcp(
    server: Server,
    authority: Authority,
    *,
    token: str | None = None,
    identity: Identity | None = None,
) -> Iterator[Caller]:
    """Yields a caller over TLS with a token or JWT, a certificate, both or neither."""
    credentials = grpc.ssl_channel_credentials(
        authority.cert.read_bytes(),
        identity.key.read_bytes() if identity else None,
        identity.cert.read_bytes() if identity else None,
    )
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(tcp_address(server), credentials, options) as channel:
        yield Caller(channel, bearer(token) if token is not None else ())


@contextmanager
def on_socket(server: Server, *, token: str | None = None) -> Iterator[Caller]:
    """Yields a caller on the Unix socket, with a token or without."""
    with server.connect() as channel:
        yield Caller(channel, bearer(token) if token is not None else ())
