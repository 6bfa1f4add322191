"""WriteArtifact through a stub, as a function and as a call in the background."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mlops.workspace.v1 import workspace_service_pb2 as pb

_TIMEOUT_S = 60


def write(
    stub: Any, messages: Iterable[pb.WriteArtifactRequest]
) -> pb.WriteArtifactResponse:
    """Sends the messages and returns the last response. Raises grpc.RpcError."""
    return list(stub.WriteArtifact(iter(messages), timeout=_TIMEOUT_S))[-1]


class Writing:
    """A WriteArtifact call that runs in the background."""

    def __init__(
        self,
        stub: Any,
        messages: Iterable[pb.WriteArtifactRequest],
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._call = stub.WriteArtifact(iter(messages), timeout=timeout_s)
        executor = ThreadPoolExecutor(1)
        self._responses: Future[list[pb.WriteArtifactResponse]] = executor.submit(
            list, self._call
        )
        executor.shutdown(wait=False)

    def cancel(self) -> None:
        """Cancels the call."""
        self._call.cancel()

    def result(self) -> pb.WriteArtifactResponse:
        """Waits for the last response. Raises grpc.RpcError."""
        return self._responses.result(_TIMEOUT_S)[-1]

    def exception(self) -> BaseException | None:
        """Waits for the end and returns its error, if any."""
        return self._responses.exception(_TIMEOUT_S)
