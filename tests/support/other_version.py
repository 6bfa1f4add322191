"""A proxy that makes a server look like a later or an earlier version of itself.

A later one: every message that it sends has a field that this client does not know,
watches report a change that it does not know, and errors a reason. An earlier one
does not know the methods named.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

_TESTS = Path(__file__).parents[1]
# Field 15000, with the text "new"; change 99 of WatchWorkspacesResponse.
_UNKNOWN = b"\xc2\xa9\x07\x03new"
_UNKNOWN_CHANGE = b"\x08\x63" + _UNKNOWN


@contextmanager
def other_version(server: str, *unknown: str) -> Iterator[str]:
    """Runs the proxy in front of the server at an address, and yields its address.

    With the names of methods, it is an earlier version; otherwise a later one.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "support.other_version", server, *unknown],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_TESTS,
    )
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Proxy(grpc.GenericRpcHandler):
    """Passes messages on as bytes, as streams in both directions."""

    def __init__(self, server: str, unknown: list[str]) -> None:
        self._channel = grpc.insecure_channel(server)
        self._unknown = unknown

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        name = call.method.rpartition("/")[2]
        if name in self._unknown:
            return None
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._pass(call.method, requests, context)
        )

    def _pass(
        self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        onward = self._channel.stream_stream(method)(requests)
        context.add_callback(onward.cancel)
        later = not self._unknown
        if later and method.endswith("WatchWorkspaces"):
            yield _UNKNOWN_CHANGE
        try:
            for message in onward:
                yield message + _UNKNOWN if later else message
        except grpc.RpcError as error:
            if later:
                _abort_newly(context, error)
            context.set_trailing_metadata(error.trailing_metadata())
            context.abort(error.code(), error.details())


def _abort_newly(context: grpc.ServicerContext, error: grpc.RpcError) -> None:
    detail = AnyMessage()
    detail.Pack(
        error_details_pb2.ErrorInfo(
            reason="NEW_REASON", domain="mlops.workspace", metadata={"new": "fact"}
        )
    )
    status = status_pb2.Status(code=error.code().value[0], message=error.details())
    status.details.append(detail)
    context.set_trailing_metadata(
        (("grpc-status-details-bin", status.SerializeToString()),)
    )
    context.abort(error.code(), error.details())


def _main(server: str, *unknown: str) -> None:
    proxy = grpc.server(ThreadPoolExecutor(8))
    proxy.add_generic_rpc_handlers((_Proxy(server, list(unknown)),))
    bound = proxy.add_insecure_port("127.0.0.1:0")
    proxy.start()
    print(bound, flush=True)
    signal.pause()


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    _main(*sys.argv[1:])
