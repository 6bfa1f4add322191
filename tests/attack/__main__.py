"""Attacks a real server and measures the effect on it and on another client.

    make attack                                    # all attacks
    .venv/bin/python tests/attack list reset-get   # some attacks

Each attack does what any connected client could do. It runs against a fresh server, in
a separate process, and is bounded in count and time. The table shows, for each attack,
the server's resident memory before it, at its peak and ten seconds after its end; the
latency of another client's GetWorkspace without and during the attack; and, in the last
column, what the attack itself reports.

With `--elsewhere`, the attack runs against a second server, on the same machine. The
latency of the first one then shows what the attack costs others merely by its use of
the processors.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import grpc  # noqa: E402
from mlops.workspace.v1 import workspace_service_pb2 as pb  # noqa: E402
from mlops.workspace.v1 import workspace_service_pb2_grpc as pb_grpc  # noqa: E402

from attack.http2 import Connection, message, send_until_closed  # noqa: E402
from support.server import Server, short_base  # noqa: E402

_MIB = 1 << 20
_SETTLE_S = 10
_ATTACK_TIMEOUT_S = 120
# A zero takes 2 bytes in JSON and 11 on the wire, so this is the largest message that
# the limit of 64 KiB of JSON metadata allows.
_ZEROS = 32_000
_LARGE_WORKSPACES = 200
_MANY_FILES = 500


# --- The attackers, each in a separate process --------------------------------


def unread_lists(address: str, count: int, hold_s: float) -> str:
    """Requests pages of the largest workspaces and reads none of them."""
    data = message(pb.ListWorkspacesRequest(page_size=1000).SerializeToString())
    return _send_and_hold(
        address, count, lambda c: c.open("ListWorkspaces", data), hold_s
    )


def unread_gets(address: str, count: int, hold_s: float) -> str:
    """Requests one of the largest workspaces many times and reads no response."""
    data = message(pb.GetWorkspaceRequest(project="large-0").SerializeToString())
    return _send_and_hold(
        address, count, lambda c: c.open("GetWorkspace", data), hold_s
    )


def unread_statuses(address: str, count: int, hold_s: float) -> str:
    """Opens streams of statuses and reads none of them."""
    return _send_and_hold(
        address,
        count,
        lambda c: c.open("StreamWorkspaceStatuses", message(b"")),
        hold_s,
    )


def _send_and_hold(
    address: str, count: int, frames: Callable[[Connection], bytes], hold_s: float
) -> str:
    """Sends `count` calls and holds them for `hold_s` seconds without reading.

    Each connection carries at most 1,000 calls. Returns how many connections the server
    closed.
    """
    closed = 0
    with contextlib.ExitStack() as stack:
        connections = []
        for begin in range(0, count, 1000):
            connection = stack.enter_context(Connection(address))
            wanted = min(1000, count - begin)
            closed += (
                send_until_closed(connection, wanted, lambda c=connection: frames(c))
                < wanted
            )
            connections.append(connection)
        time.sleep(hold_s)
    return f"{closed} of {len(connections)} connections closed"


def many_nulls(address: str, count: int) -> str:
    """Concurrently creates workspaces with two million nulls in their metadata."""
    # Encode the ListValue by hand, because protobuf would take seconds for it.
    nulls = b"\x0a\x00" * 2_000_000
    value = b"\x32" + _varint(len(nulls)) + nulls
    entry = b"\x0a\x01n\x12" + _varint(len(value)) + value
    struct = b"\x0a" + _varint(len(entry)) + entry
    workspace = b"\x42" + _varint(len(struct)) + struct
    data = b"\x0a\x05nulls\x12" + _varint(len(workspace)) + workspace
    codes = []
    with contextlib.ExitStack() as stack:
        calls = []
        for i in range(count):
            # Distinct options, so that each channel has its own connection.
            channel = stack.enter_context(
                grpc.insecure_channel(
                    address, [("grpc.enable_http_proxy", 0), ("n", i)]
                )
            )
            create = channel.unary_unary(
                "/mlops.workspace.v1.WorkspaceService/CreateWorkspace"
            )
            calls.append(create.future(data, timeout=60, wait_for_ready=True))
        codes = [call.code().name for call in calls]
    return ", ".join(f"{codes.count(code)} {code}" for code in sorted(set(codes)))


def _varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def unfinished_requests(address: str, count: int, hold_s: float) -> str:
    """Sends most of many large requests, as far as the server lets it, but no ends.

    Returns how much it sent and how many connections the server closed.
    """
    # Only the last bytes are missing, so the server must buffer each request.
    part = message(bytes(4 * _MIB))[: 4 * _MIB - 1000]
    sent = closed = 0
    with contextlib.ExitStack() as stack:
        for _ in range(0, count, 100):
            connection = stack.enter_context(Connection(address, timeout_s=10))
            try:
                sent += connection.send_as_allowed(
                    "CreateWorkspace", part, min(100, count), hold_s / 5
                )
            except (ConnectionError, TimeoutError):
                closed += 1
        time.sleep(hold_s)
    return f"{sent >> 20} MiB sent, {closed} connections closed"


def idle_uploads(address: str, count: int, hold_s: float) -> str:
    """Opens uploads, sends only their headers, and measures another client's upload."""
    return _hold_up_artifacts(address, count, hold_s, lambda c: c.open("WriteArtifact"))


def idle_begun_uploads(address: str, count: int, hold_s: float) -> str:
    """Starts uploads, each with a path and a byte of data, and sends no more."""
    numbers = iter(range(count))

    def frames(connection: Connection) -> bytes:
        request = pb.WriteArtifactRequest(
            project="p", path=f"outputs/{next(numbers)}", data=b"x"
        )
        return connection.open(
            "WriteArtifact", message(request.SerializeToString()), end=False
        )

    return _hold_up_artifacts(address, count, hold_s, frames)


def unread_reads(address: str, count: int, hold_s: float) -> str:
    """Requests a large file many times without receiving it."""
    data = message(
        pb.ReadArtifactRequest(project="p", path="outputs/large").SerializeToString()
    )
    return _hold_up_artifacts(
        address, count, hold_s, lambda c: c.open("ReadArtifact", data)
    )


def _hold_up_artifacts(
    address: str, count: int, hold_s: float, frames: Callable[[Connection], bytes]
) -> str:
    """Opens `count` calls, and measures when another client's upload succeeds."""

    def upload(stub: pb_grpc.WorkspaceServiceStub) -> None:
        request = pb.WriteArtifactRequest(
            project="p", path="outputs/mine", data=b"x", finish=True
        )
        for _ in stub.WriteArtifact(iter([request]), timeout=10):
            pass

    return _hold_up(address, count, hold_s, frames, upload)


def _hold_up(
    address: str,
    count: int,
    hold_s: float,
    frames: Callable[[Connection], bytes],
    attempt: Callable[[pb_grpc.WorkspaceServiceStub], None],
) -> str:
    """Opens `count` calls, and measures when another client's `attempt` succeeds.

    It tries for `hold_s` seconds at most.
    """
    with (
        Connection(address) as connection,
        grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel,
    ):
        connection.socket.sendall(b"".join(frames(connection) for _ in range(count)))
        # Give the server time to start all of them.
        time.sleep(1)
        began = time.monotonic()
        while time.monotonic() < began + hold_s:
            with contextlib.suppress(grpc.RpcError):
                attempt(pb_grpc.WorkspaceServiceStub(channel))
                seconds = time.monotonic() - began
                return f"another client succeeded after {seconds:.1f} s"
            time.sleep(0.5)
    return f"another client refused for {hold_s:.0f} s"


def unread_watches(address: str, count: int, hold_s: float) -> str:
    """Opens watches and reads none of them, while another client changes a workspace.

    Returns how many connections the server closed, and how many changes succeeded.
    """
    changes, done = 0, threading.Event()

    def change() -> None:
        nonlocal changes
        with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            stub = pb_grpc.WorkspaceServiceStub(channel)
            workspace = pb.Workspace(project="large-0")
            while not done.is_set():
                workspace.metadata["change"] = changes
                with contextlib.suppress(grpc.RpcError):
                    stub.UpdateWorkspace(
                        pb.UpdateWorkspaceRequest(workspace=workspace), timeout=10
                    )
                    changes += 1

    changing = threading.Thread(target=change)
    changing.start()
    try:
        held = _send_and_hold(
            address, count, lambda c: c.open("WatchWorkspaces", message(b"")), hold_s
        )
    finally:
        done.set()
        changing.join()
    return f"{held}, {changes / hold_s:.0f} changes/s"


def short_watches(address: str, count: int, at_once: int) -> str:
    """Opens watches, reads each until its list is complete, and cancels it."""
    results: list[str] = []

    def watch(number: int) -> None:
        options = [("grpc.enable_http_proxy", 0), ("n", number)]
        with grpc.insecure_channel(address, options) as channel:
            stub = pb_grpc.WorkspaceServiceStub(channel)
            for _ in range(count // at_once):
                responses = stub.WatchWorkspaces(pb.WatchWorkspacesRequest())
                try:
                    while next(responses).change != pb.CHANGE_SYNCED:
                        pass
                    results.append("SYNCED")
                except grpc.RpcError as error:
                    results.append(_outcome(error))
                responses.cancel()

    _in_threads(watch, at_once)
    return _counted(results)


def unread_exports(address: str, count: int, hold_s: float) -> str:
    """Requests many exports and reads none; measures when another client's succeeds."""
    data = message(pb.ExportWorkspaceRequest(project="p").SerializeToString())
    return _hold_up(
        address, count, hold_s, lambda c: c.open("ExportWorkspace", data), _export
    )


def stalled_imports(address: str, count: int, hold_s: float) -> str:
    """Begins imports and sends no more; measures when another client's succeeds."""
    numbers = iter(range(count))

    def frames(connection: Connection) -> bytes:
        request = pb.ImportWorkspaceRequest(project=f"stalled-{next(numbers)}")
        return connection.open(
            "ImportWorkspace", message(request.SerializeToString()), end=False
        )

    return _hold_up(address, count, hold_s, frames, _import)


def garbage_imports(address: str, count: int, at_once: int) -> str:
    """Imports noise, and archives of which one byte is wrong."""
    results: list[str] = []
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = pb_grpc.WorkspaceServiceStub(channel)
        export = stub.ExportWorkspace(pb.ExportWorkspaceRequest(project="many"))
        archive = b"".join(piece.data for piece in export)

    def spoil(number: int) -> None:
        random = Random(number)
        with grpc.insecure_channel(
            address, [("grpc.enable_http_proxy", 0), ("n", number)]
        ) as channel:
            stub = pb_grpc.WorkspaceServiceStub(channel)
            for i in range(count // at_once):
                data = bytearray(archive if i % 2 else random.randbytes(4 * _MIB))
                data[random.randrange(len(data))] ^= 1
                try:
                    project = f"spoiled-{number}-{i}"
                    for _ in stub.ImportWorkspace(_pieces(bytes(data), project)):
                        pass
                    results.append("OK")
                except grpc.RpcError as error:
                    results.append(_outcome(error))

    _in_threads(spoil, at_once)
    return _counted(results)


def many_clones(address: str, count: int) -> str:
    """Requests many clones at once, and cancels every other one after a second."""
    results: list[str] = []

    def clone(number: int) -> None:
        with grpc.insecure_channel(
            address, [("grpc.enable_http_proxy", 0), ("n", number)]
        ) as channel:
            request = pb.CloneWorkspaceRequest(
                project="many", destination_project=f"clone-{number}"
            )
            responses = pb_grpc.WorkspaceServiceStub(channel).CloneWorkspace(
                request, timeout=1 if number % 2 else 100
            )
            try:
                for _ in responses:
                    pass
                results.append("OK")
            except grpc.RpcError as error:
                results.append(_outcome(error))

    _in_threads(clone, count)
    return _counted(results)


def _export(stub: pb_grpc.WorkspaceServiceStub) -> None:
    for _ in stub.ExportWorkspace(pb.ExportWorkspaceRequest(project="few")):
        pass


def _import(stub: pb_grpc.WorkspaceServiceStub) -> None:
    export = stub.ExportWorkspace(pb.ExportWorkspaceRequest(project="few"))
    archive = b"".join(piece.data for piece in export)
    for _ in stub.ImportWorkspace(_pieces(archive, "imported")):
        pass


def _pieces(archive: bytes, project: str) -> Iterator[pb.ImportWorkspaceRequest]:
    for at in range(0, len(archive), _MIB):
        yield pb.ImportWorkspaceRequest(
            project="" if at else project, data=archive[at : at + _MIB]
        )


def _in_threads(run: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _outcome(error: grpc.RpcError) -> str:
    """Returns the code of an error, with its text if no attack should cause it."""
    code: str = error.code().name
    unexpected = code in ("INTERNAL", "UNKNOWN", "DATA_LOSS")
    return f"{code} ({error.details()})" if unexpected else code


def _counted(results: list[str]) -> str:
    return ", ".join(f"{results.count(one)} {one}" for one in sorted(set(results)))


def resets(address: str, count: int, method: str, *, indexed: bool = False) -> str:
    """Performs a rapid reset: opens calls and resets each at once.

    Connects again whenever the server has closed the connection. With `indexed`, many
    more calls fit into the buffer of a socket.
    """
    data = message(
        pb.GetWorkspaceRequest(project="p").SerializeToString()
        if method == "GetWorkspace"
        else b""
    )
    sent = connections = closed = 0
    while sent < count:
        with Connection(address, indexed=indexed) as connection:
            sent += send_until_closed(
                connection,
                count - sent,
                lambda c=connection: c.open(method, data, end=False, reset=True),
            )
            connections += 1
            closed += connection.is_closed_within(2)
    return f"{sent} sent, {closed} of {connections} connections closed"


def calls(address: str, count: int) -> str:
    """Makes very many ordinary Gets, after which the server must release memory."""
    data = message(pb.GetWorkspaceRequest(project="p").SerializeToString())
    window = 200
    with Connection(address) as connection:
        # Never let flow control stop the responses.
        connection.grant(1 << 30)
        for _ in range(0, count, window):
            connection.socket.sendall(
                b"".join(connection.open("GetWorkspace", data) for _ in range(window))
            )
            connection.ended(window, grant_bytes=1 << 29)
    return f"{count} calls"


@dataclass(frozen=True)
class Attack:
    name: str
    run: Callable[[str], str]
    # Whether it needs a base with the largest workspaces.
    large: bool = False
    # Over TCP, whose buffers are larger than those of a Unix socket.
    tcp: bool = False


ATTACKS = [
    Attack("list", lambda address: unread_lists(address, 30, 5), large=True),
    Attack("list-many", lambda address: unread_lists(address, 500, 5), large=True),
    Attack("get-unread", lambda address: unread_gets(address, 3000, 5), large=True),
    Attack("statuses", lambda address: unread_statuses(address, 2000, 5), large=True),
    Attack("nulls", lambda address: many_nulls(address, 60)),
    Attack("unfinished", lambda address: unfinished_requests(address, 600, 5)),
    Attack("idle-uploads", lambda address: idle_uploads(address, 128, 60)),
    Attack("idle-begun", lambda address: idle_begun_uploads(address, 128, 60)),
    Attack("refused-reads", lambda address: unread_reads(address, 900, 60)),
    Attack("reset-get", lambda address: resets(address, 20_000, "GetWorkspace")),
    Attack(
        "reset-get-small",
        lambda address: resets(address, 60_000, "GetWorkspace", indexed=True),
    ),
    Attack(
        "reset-get-tcp",
        lambda address: resets(address, 400_000, "GetWorkspace"),
        tcp=True,
    ),
    Attack(
        "reset-statuses",
        lambda address: resets(
            address, 100_000, "StreamWorkspaceStatuses", indexed=True
        ),
    ),
    Attack("watches", lambda address: unread_watches(address, 2000, 10), large=True),
    Attack("watches-short", lambda address: short_watches(address, 4000, 40)),
    Attack("reset-watches", lambda address: resets(address, 20_000, "WatchWorkspaces")),
    Attack("exports", lambda address: unread_exports(address, 500, 60)),
    Attack("imports-stalled", lambda address: stalled_imports(address, 500, 60)),
    Attack("imports-garbage", lambda address: garbage_imports(address, 100, 20)),
    Attack("clones", lambda address: many_clones(address, 200)),
    Attack("calls", lambda address: calls(address, 450_000)),
]


# --- The measurement ----------------------------------------------------------


def memory_mib(pid: int, what: str = "VmRSS") -> float:
    """Returns a process's resident memory, or its peak with `what` "VmHWM"."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def forget_peak(pid: int) -> None:
    """Resets VmHWM to the current resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Probe(threading.Thread):
    """Another client, which calls GetWorkspace every 5 ms and measures the latency."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.milliseconds: list[float] = []
        self.failures = 0
        self._server = server
        self._connected = threading.Event()
        self._stop_it = threading.Event()

    def start(self) -> None:
        """Returns once the client is connected, which is not measured."""
        super().start()
        self._connected.wait()

    def run(self) -> None:
        with self._server.connect() as channel:
            grpc.channel_ready_future(channel).result(10)
            self._connected.set()
            stub = pb_grpc.WorkspaceServiceStub(channel)
            while not self._stop_it.wait(0.005):
                began = time.monotonic()
                try:
                    stub.GetWorkspace(pb.GetWorkspaceRequest(project="p"), timeout=10)
                except grpc.RpcError:
                    self.failures += 1
                self.milliseconds.append((time.monotonic() - began) * 1000)

    def stop(self) -> "Probe":
        self._stop_it.set()
        self.join()
        return self

    def latency(self) -> str:
        """Returns the median, 99th percentile and maximum, in milliseconds."""
        ordered = sorted(self.milliseconds)
        p99 = ordered[int(len(ordered) * 0.99)]
        failed = f" ({self.failures} failed)" if self.failures else ""
        return (
            f"{statistics.median(ordered):.1f} / {p99:.1f} / {ordered[-1]:.1f}{failed}"
        )


def prepare(server: Server, large: bool) -> None:
    """Creates the workspaces and the file that the attacks need."""
    with server.connect() as channel:
        stub = pb_grpc.WorkspaceServiceStub(channel)
        stub.EnsureWorkspace(pb.EnsureWorkspaceRequest(project="p"))
        # A sparse file: large to read, but quick to create.
        with (server.base / "p/outputs/large").open("wb") as file:
            file.truncate(1 << 30)
        for project, count in (("few", 1), ("many", _MANY_FILES)):
            stub.EnsureWorkspace(pb.EnsureWorkspaceRequest(project=project))
            for i in range(count):
                file_i = server.base / project / f"outputs/{i}"
                file_i.write_bytes(i.to_bytes(2) * 5000)
        if not large:
            return
        workspace = pb.Workspace()
        workspace.metadata["zeros"] = [0] * _ZEROS
        for i in range(_LARGE_WORKSPACES):
            stub.EnsureWorkspace(
                pb.EnsureWorkspaceRequest(project=f"large-{i}", workspace=workspace)
            )


@contextlib.contextmanager
def _prepared(attack: Attack, flags: list[str]) -> Iterator[Server]:
    """Runs a server that the attack can run against."""
    if attack.tcp:
        flags = [*flags, "--listen", "127.0.0.1:0"]
    with short_base() as base, Server(base, "--log-calls", "off", *flags) as server:
        prepare(server, attack.large)
        yield server


@contextlib.contextmanager
def _attacker(attack: Attack, target: Server) -> Iterator[subprocess.Popen[str]]:
    """Starts a process that attacks once it gets a line.

    It has imported everything before, which takes longer than some attacks.
    """
    address = target.addresses[-1] if attack.tcp else target.address
    command = [sys.executable, str(Path(__file__).parent), "--attacker"]
    with subprocess.Popen(
        [*command, attack.name, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def measure(attack: Attack, flags: list[str], elsewhere: bool) -> None:
    """Runs one attack and prints its row of the table."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_prepared(attack, flags))
        target = stack.enter_context(_prepared(attack, flags)) if elsewhere else server
        # The latency without the attack, for comparison.
        calm = Probe(server)
        calm.start()
        time.sleep(2)
        calm.stop()
        with _attacker(attack, target) as attacker:
            forget_peak(target.pid)
            before = memory_mib(target.pid)
            probe = Probe(server)
            probe.start()
            try:
                output, error = attacker.communicate("go\n", _ATTACK_TIMEOUT_S)
                note = output.strip() or (error.strip().splitlines() or ["?"])[-1]
            except subprocess.TimeoutExpired:
                note = f"not finished after {_ATTACK_TIMEOUT_S} s"
            probe.stop()
        peak = memory_mib(target.pid, "VmHWM")
        # Let the server release what the attack's connections held.
        time.sleep(_SETTLE_S)
        after = memory_mib(target.pid)
    memory = f"{before:.0f} / {peak:.0f} / {after:.0f} (+{peak - before:.0f})"
    print(
        f"| {attack.name} | {memory} | {calm.latency()} | {probe.latency()} | {note} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [attack.name for attack in ATTACKS]
    parser.add_argument("names", nargs="*", metavar="ATTACK", help=", ".join(names))
    parser.add_argument(
        "--flag",
        action="append",
        default=[],
        help="a flag for the server; can be repeated",
    )
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="attack a second server on this machine",
    )
    parser.add_argument(
        "--attacker", nargs=2, metavar=("ATTACK", "ADDRESS"), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    if args.attacker:
        name, address = args.attacker
        print("ready", flush=True)
        sys.stdin.readline()
        print(next(attack for attack in ATTACKS if attack.name == name).run(address))
        return
    print(
        "| attack | RSS before / peak / after, MiB"
        " | Get alone: median / p99 / max, ms | Get meanwhile | |"
    )
    print("| --- | --- | --- | --- | --- |")
    for attack in ATTACKS:
        if not args.names or attack.name in args.names:
            measure(attack, args.flag, args.elsewhere)
    print(f"\nload average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
