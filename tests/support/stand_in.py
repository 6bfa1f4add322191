"""A server that shows what clients send, for tests of the wire only.

It speaks TLS, and answers health checks and GetServerInfo. The `features` of the
answer are the caller's authorization and the number of calls so far. It refuses the
token "wrong".
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from mlops.workspace.v1 import workspace_service_pb2 as pb

from support.certificates import Identity

_TESTS = Path(__file__).parents[1]


class StandIn:
    """Runs the stand-in in a process of its own, as a context manager.

    Args:
        identity: The certificate to serve with; without one there is no TLS.
        ca: The authority of required client certificates.
        serving: Whether health checks are answered with SERVING.
        port: The port on 127.0.0.1; 0 chooses one.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        *,
        ca: Path | None = None,
        serving: bool = True,
        port: int = 0,
    ) -> None:
        files = (identity.cert, identity.key) if identity else ("", "")
        self._args = [str(x) for x in (*files, ca or "", int(serving), port)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.stand_in", *self._args],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_TESTS,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def kill(self) -> None:
        """Sends SIGKILL and waits."""
        self._process.kill()
        self._process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, serving: bool) -> None:
        self._serving = serving
        self._calls = 0

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        if call.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: b"\x08\x01" if self._serving else b"\x08\x02"
            )
        return grpc.unary_unary_rpc_method_handler(
            self._info, response_serializer=pb.ServerInfo.SerializeToString
        )

    def _info(self, request: bytes, context: grpc.ServicerContext) -> pb.ServerInfo:
        self._calls += 1
        metadata = dict(context.invocation_metadata())
        authorization = str(metadata.get("authorization", ""))
        if authorization == "Bearer wrong":
            _refuse(context)
        return pb.ServerInfo(features=[authorization, str(self._calls)])


def _refuse(context: grpc.ServicerContext) -> None:
    detail = AnyMessage()
    detail.Pack(
        error_details_pb2.ErrorInfo(
            reason="CREDENTIALS_INVALID", domain="mlops.workspace"
        )
    )
    status = status_pb2.Status(code=16, message="The token is unknown")
    status.details.append(detail)
    context.set_trailing_metadata(
        (("grpc-status-details-bin", status.SerializeToString()),)
    )
    context.abort(grpc.StatusCode.UNAUTHENTICATED, status.message)


def _main(cert: str, key: str, ca: str, serving: str, port: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Handlers(serving == "1"),))
    address = f"127.0.0.1:{port}"
    if cert:
        pair = (Path(key).read_bytes(), Path(cert).read_bytes())
        credentials = grpc.ssl_server_credentials(
            [pair], Path(ca).read_bytes() if ca else None, bool(ca)
        )
        bound = server.add_secure_port(address, credentials)
    else:
        bound = server.add_insecure_port(address)
    server.start()
    print(bound, flush=True)
    signal.pause()


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    _main(*sys.argv[1:])
