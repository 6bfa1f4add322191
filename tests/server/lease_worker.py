"""A process that takes turns with others: acquires a lease, makes changes, releases.

Arguments: the address of the server, a directory for its log, and a seed. It writes one
JSON line per event, and flushes it: what it acquired, and each change that the server
acknowledged or refused. It runs until it is killed.
"""

import json
import os
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc

PROJECT = "p"
_CALL_S = 5


def _reason(error: grpc.RpcError) -> str:
    for item in error.trailing_metadata() or ():
        if item.key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(item.value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return str(error.code().name)


class _Worker:
    def __init__(self, address: str, logs: Path, seed: str) -> None:
        self._random = random.Random(seed)
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        channel = grpc.insecure_channel(address, options)
        self._stub = pb_grpc.WorkspaceServiceStub(channel)
        self._log = (logs / f"{os.getpid()}-{seed}.log").open("a", buffering=1)

    def run(self) -> None:
        while True:
            holder = uuid.uuid4().hex
            try:
                lease = self._stub.AcquireLease(
                    pb.AcquireLeaseRequest(
                        project=PROJECT, holder=holder, ttl={"seconds": 1}
                    ),
                    timeout=_CALL_S,
                )
            except grpc.RpcError:
                time.sleep(self._random.uniform(0.01, 0.05))
                continue
            self._note("acquired", holder, lease.fence)
            self._work(holder, lease.fence)

    def _work(self, holder: str, fence: int) -> None:
        """Makes some changes, perhaps after a pause in which the lease expires."""
        for step in range(self._random.randrange(1, 8)):
            if self._random.random() < 0.05:
                time.sleep(1.2)
            try:
                self._note(*self._change(step, holder, fence))
            except grpc.RpcError as error:
                self._note("refused", holder, fence, reason=_reason(error))
                if _reason(error) == "LEASE_LOST":
                    return
        # Sometimes nobody releases it, as after a crash.
        if self._random.random() < 0.9:
            try:
                self._stub.ReleaseLease(
                    pb.ReleaseLeaseRequest(project=PROJECT, holder=holder),
                    timeout=_CALL_S,
                )
            except grpc.RpcError:
                return

    def _change(self, step: int, holder: str, fence: int) -> tuple[Any, ...]:
        if step % 3 == 2:
            message = pb.WriteArtifactRequest(
                project=PROJECT,
                path="outputs/last",
                data=f"{fence} {holder}".encode(),
                fence=fence,
                finish=True,
            )
            responses = list(self._stub.WriteArtifact(iter([message]), timeout=_CALL_S))
            modified = responses[-1].artifact.modify_time.ToNanoseconds()
            return "written", holder, fence, modified
        workspace = pb.Workspace(project=PROJECT)
        workspace.metadata.update({"fence": fence, "holder": holder, "step": step})
        stored = self._stub.UpdateWorkspace(
            pb.UpdateWorkspaceRequest(workspace=workspace, fence=fence),
            timeout=_CALL_S,
        )
        return "updated", holder, fence, stored.update_time.ToNanoseconds()

    def _note(
        self, event: str, holder: str, fence: int, time_ns: int = 0, **more: str
    ) -> None:
        line = {"event": event, "holder": holder, "fence": fence, "time_ns": time_ns}
        self._log.write(json.dumps(line | more) + "\n")


if __name__ == "__main__":
    _Worker(sys.argv[1], Path(sys.argv[2]), sys.argv[3]).run()
