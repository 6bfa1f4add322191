"""Measures files through Python.

Compares the client's file system with a bare stream, `cp`, and MLflow's proxied
artifacts over HTTP. The sides of each comparison take turns.

Usage: files.py DIR EMPTY OURS BYTES SMALL ROUNDS. EMPTY and OURS are the addresses of
an empty_server and of a workspaced, whose project `files` it uses. Prints one JSON
object per line.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow_provider import mlflow_server
from mlops._rpc.channel import open_channel
from mlops.fs import WorkspaceFileSystem
from mlops.workspace import WorkspaceManager
from mlops.workspace.v1 import workspace_service_pb2 as pb
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

CHUNK = 1 << 20
SMALL_BYTES = 10 << 10
FOLDER = "files/outputs"


class Files:
    """The measured operations, which all use the same local files."""

    def __init__(
        self, directory: Path, empty: str, ours: str, size: int, small: int
    ) -> None:
        self.size = size
        self.stub = WorkspaceServiceStub(open_channel(empty))
        self.wire = WorkspaceFileSystem(address=ours, by_path=False)
        self.near = WorkspaceFileSystem(address=ours)
        self.local, self.target, self.many = (
            directory / name for name in ("local", "target", "many")
        )
        self.block = os.urandom(CHUNK)
        with self.local.open("wb") as file:
            for _ in range(size // CHUNK):
                file.write(self.block)
        self.many.mkdir()
        for number in range(small):
            (self.many / f"{number}").write_bytes(self.block[:SMALL_BYTES])

    def bare_down(self) -> None:
        request = pb.ReadArtifactRequest(
            project="project-000000", path=f"outputs/{self.size}.bin"
        )
        assert (
            sum(len(message.data) for message in self.stub.ReadArtifact(request))
            == self.size
        )

    def ours_down(self) -> None:
        with self.wire.open(f"{FOLDER}/local", block_size=CHUNK) as file:
            assert (
                sum(len(data) for data in iter(lambda: file.read(CHUNK), b""))
                == self.size
            )

    def bare_up(self) -> None:
        def messages() -> Iterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(project="project-000000", path="outputs/x")
            with self.local.open("rb") as file:
                while data := file.read(CHUNK):
                    yield pb.WriteArtifactRequest(data=data)
            yield pb.WriteArtifactRequest(finish=True)

        for _ in self.stub.WriteArtifact(messages()):
            pass

    def ours_up(self) -> None:
        self.wire.put_file(str(self.local), f"{FOLDER}/local")

    def cp(self) -> None:
        shutil.copyfile(self.local, self.target)
        self._sync()

    def by_path(self) -> None:
        self.near.get_file(f"{FOLDER}/local", str(self.target))
        self._sync()

    def up_by_path(self) -> None:
        self.near.put_file(str(self.local), f"{FOLDER}/local")

    def hash(self) -> None:
        with self.local.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    def ours_down_to_file(self) -> None:
        self.wire.get_file(f"{FOLDER}/local", str(self.target))

    def ours_small(self) -> None:
        self.wire.put(f"{self.many}/", f"{FOLDER}/many/", recursive=True)

    def _sync(self) -> None:
        with self.target.open("rb") as file:
            os.fsync(file.fileno())


class Mlflow:
    """The same operations through an MLflow server that proxies artifacts."""

    def __init__(self, files: Files, uri: str) -> None:
        self.files = files
        self.client = MlflowClient(uri)
        self.run = self.client.create_run("0").info.run_id

    def up(self) -> None:
        self.client.log_artifact(self.run, str(self.files.local))

    def down(self) -> None:
        self.client.download_artifacts(
            self.run, "local", str(self.files.target.parent / "downloads")
        )

    def small(self) -> None:
        self.client.log_artifacts(self.run, str(self.files.many), "many")


def measure(what: str, rounds: int, sides: dict[str, Callable[[], None]]) -> None:
    names = list(sides)
    # Round -1 is a warm-up.
    for number in range(-1, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            sides[name]()
            seconds = time.perf_counter() - start
            if number >= 0:
                row = {
                    "what": what,
                    "target": name,
                    "round": number,
                    "seconds": seconds,
                }
                print(json.dumps(row), flush=True)


def main() -> None:
    directory, (empty, ours), (size, small, rounds) = (
        Path(sys.argv[1]),
        sys.argv[2:4],
        map(int, sys.argv[4:7]),
    )
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "false"
    WorkspaceManager(address=ours).get_or_create_workspace("files")
    files = Files(directory, empty, ours, size, small)
    (directory / "downloads").mkdir()
    (directory / "server").mkdir()
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(
            mlflow_server(
                directory / "server",
                "--artifacts-destination",
                str(directory / "server/artifacts"),
            )
        )
        mlflow = Mlflow(files, f"http://127.0.0.1:{connection.port}")
        measure(
            "upload",
            rounds,
            {"bare": files.bare_up, "ours": files.ours_up, "mlflow": mlflow.up},
        )
        measure("read", rounds, {"bare": files.bare_down, "ours": files.ours_down})
        measure(
            "download", rounds, {"mlflow": mlflow.down, "ours": files.ours_down_to_file}
        )
        measure("same host", rounds, {"bare": files.cp, "ours": files.by_path})
        measure(
            "same host up",
            rounds,
            {"bare": files.cp, "hash": files.hash, "ours": files.up_by_path},
        )
        measure(
            "small", min(rounds, 3), {"mlflow": mlflow.small, "ours": files.ours_small}
        )


if __name__ == "__main__":
    main()
