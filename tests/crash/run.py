"""Cuts the power at the writes of a disk, and kills servers under load.

Run by `make crash`. Both look for acknowledged changes that are lost. The disk is a
file below a loop device, for which disk_log.cc logs every write and flush, with ext4,
xfs and btrfs on it in turn. A crash state is the disk as of one flush, plus none, a
random half or all of the writes between that flush and the next. Each state is mounted
and served by a fresh workspaced, which must serve every acknowledged change, whole and
under one name.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash import disk, workload
from crash.disk import Missing, Record
from support.server import REPO, Server

_MODES = ("none", "half", "all")
# How many states to check before looking at the clock again.
_BATCH = 10
# Set in the process that runs in the private mount namespace.
_INSIDE = "MLOPS_CRASH_INSIDE"


@dataclass(frozen=True)
class Cut:
    """A place in the log at which the power is cut.

    `end` counts the records before the cut, and `flushed` those before the last flush,
    which have reached the disk for certain. `mode` says which of the writes in between
    have reached it.
    """

    end: int
    flushed: int
    mode: str


def cuts_of(records: list[Record]) -> list[Cut]:
    """Returns every crash state: between each two flushes, and after the last one."""
    flushes = [i + 1 for i, record in enumerate(records) if record.kind == "F"]
    spans = list(
        zip([0, *flushes], [*(end - 1 for end in flushes), len(records)], strict=True)
    )
    return [
        Cut(end, start, mode)
        for start, end in spans
        for mode in _MODES
        if mode == "none" or any(record.kind == "W" for record in records[start:end])
    ]


def lost_at(cut: Cut, records: list[Record], choices: random.Random) -> list[Record]:
    """Returns the unflushed writes that reached the disk anyway, in order."""
    under_way = [
        record for record in records[cut.flushed : cut.end] if record.kind == "W"
    ]
    if cut.mode == "none":
        return []
    if cut.mode == "all":
        return under_way
    return [record for record in under_way if choices.random() < 0.5]


def marks_before(records: list[Record], end: int) -> list[str]:
    """Returns the marks before the cut."""
    return [record.data.decode() for record in records[:end] if record.kind == "M"]


def record_workload(
    file_system: str, scratch: Path, args: argparse.Namespace
) -> list[workload.Client]:
    """Runs clients on a server whose disk is logged.

    Leaves the log in `log` and the disk's initial state in `start.img`.
    """
    image, front = scratch / "disk.img", scratch / "front"
    disk.make_image(file_system, image)
    disk.copy_image(image, scratch / "start.img")
    clients = [
        workload.Client(i, random.Random(f"{args.seed} {i}"))
        for i in range(args.clients)
    ]
    with (
        disk.logged(image, scratch / "log", front),
        disk.mounted(front / "disk", scratch / "m"),
        workload.marking(front / "mark") as mark,
        Server(scratch / "m/base", "--log-calls", "off") as server,
    ):
        workload.run(server, clients, args.changes, mark)
    return clients


def check(
    image: Path, scratch: Path, clients: list[workload.Client], marks: list[str]
) -> list[str]:
    """Mounts and serves `image`; returns the problems found."""
    with (
        disk.mounted(image, scratch / "m"),
        Server(scratch / "m/base", "--log-calls", "off") as server,
    ):
        return workload.problems_of(server, clients, marks)


def cut_power(file_system: str, args: argparse.Namespace) -> bool:
    """Checks crash states of one file system; returns whether all were good."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(
        prefix="mlops-", dir=disk.place_for_images()
    ) as directory:
        scratch = Path(directory)
        clients = record_workload(file_system, scratch, args)
        records = disk.read_log(scratch / "log")
        cuts = cuts_of(records)
        choices = random.Random(f"{args.seed} {file_system}")
        chosen = choices.sample(cuts, min(args.states or len(cuts), len(cuts)))
        kinds = Counter(record.kind for record in records)
        print(
            f"{file_system}: {args.clients * args.changes} changes, {kinds['W']} writes"
            f", {kinds['F']} flushes, "
            f"{len(cuts)} states, of which {len(chosen)} are to be checked",
            flush=True,
        )
        # First make sure that the check can fail.
        if not _notices_loss(scratch, clients, records):
            print(
                f"{file_system}: the check accepts an empty disk "
                "after the last acknowledgement",
                flush=True,
            )
            return False
        checked, bad = 0, 0
        while checked < len(chosen) and (
            not args.seconds or time.monotonic() - begun < args.seconds
        ):
            batch = chosen[checked : checked + _BATCH]
            bad += _check_batch(file_system, scratch, clients, records, batch, choices)
            checked += len(batch)
    print(
        f"{file_system}: {checked} states in {time.monotonic() - begun:.0f} s, "
        f"{bad} bad",
        flush=True,
    )
    return bad == 0


def _notices_loss(
    scratch: Path, clients: list[workload.Client], records: list[Record]
) -> bool:
    """Returns whether the check rejects a disk that has lost everything.

    This guards against a check that accepts anything.
    """
    disk.copy_image(scratch / "start.img", scratch / "state.img")
    return bool(
        check(
            scratch / "state.img", scratch, clients, marks_before(records, len(records))
        )
    )


def _check_batch(
    file_system: str,
    scratch: Path,
    clients: list[workload.Client],
    records: list[Record],
    batch: list[Cut],
    choices: random.Random,
) -> int:
    # Sort the batch by flush, so that one image can accumulate the flushed writes.
    durable, state = scratch / "durable.img", scratch / "state.img"
    disk.copy_image(scratch / "start.img", durable)
    written, bad = 0, 0
    for cut in sorted(batch, key=lambda cut: cut.flushed):
        disk.write_records(durable, records[written : cut.flushed])
        written = cut.flushed
        disk.copy_image(durable, state)
        disk.write_records(state, lost_at(cut, records, choices))
        try:
            problems = check(state, scratch, clients, marks_before(records, cut.end))
        except Missing as problem:
            problems = [f"does not mount: {problem}"]
        except RuntimeError as problem:
            problems = [f"is not served: {problem}"]
        bad += bool(problems)
        for problem in problems:
            print(
                f"{file_system}: record {cut.end} of {len(records)}, "
                f"{cut.mode} of the rest: {problem}",
                flush=True,
            )
    return bad


def kill(args: argparse.Namespace) -> bool:
    """Kills servers under load; returns whether every acknowledged change survived."""
    print(f"kill -9 under load, {args.kills} times", flush=True)
    environment = {**os.environ, "MLOPS_KILL_ROUNDS": str(args.kills)}
    command = [sys.executable, "-m", "pytest", "-q", REPO / "tests/server/test_kill.py"]
    return subprocess.run(command, env=environment, cwd=REPO).returncode == 0


def cut_power_on_all(args: argparse.Namespace) -> bool:
    """Checks crash states on each file system, and prints which ones it skips.

    Returns whether all checked states were good.
    """
    good = True
    for file_system in args.file_systems:
        try:
            good = cut_power(file_system, args) and good
        except Missing as problem:
            print(f"{file_system}: skipped: {problem}", flush=True)
    return good


def main() -> int:
    """Prints the results; returns 1 if any acknowledged change was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--states",
        type=int,
        default=60,
        help="crash states to check for each file system; 0 means all",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=120,
        help="approximate time for each file system; 0 means no limit",
    )
    parser.add_argument(
        "--changes", type=int, default=40, help="changes that each client makes"
    )
    parser.add_argument("--clients", type=int, default=3, help="concurrent clients")
    parser.add_argument(
        "--kills",
        type=int,
        default=100,
        help="how many servers to kill; 0 means none",
    )
    parser.add_argument(
        "--file-systems",
        nargs="+",
        choices=disk.FILE_SYSTEMS,
        default=list(disk.FILE_SYSTEMS),
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    args = parser.parse_args()
    if _INSIDE in os.environ:
        return 0 if cut_power_on_all(args) else 1
    print(f"seed {args.seed}", flush=True)
    good = _cut_power_in_a_namespace(args.seed)
    if args.kills:
        good = kill(args) and good
    return 0 if good else 1


def _cut_power_in_a_namespace(seed: int) -> bool:
    """Runs this script again in a private mount namespace.

    So no mount is left behind, whatever happens. Returns whether all states were good.
    """
    try:
        disk.require_root_and_loop()
        disk.run("unshare", "-m", "true")
    except Missing as problem:
        print(f"power cuts: skipped: {problem}", flush=True)
        return True
    command = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        sys.executable,
        *sys.argv,
        "--seed",
        str(seed),
    ]
    return subprocess.run(command, env={**os.environ, _INSIDE: "1"}).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
