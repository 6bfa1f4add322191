"""Cuts the power at the writes of a disk, and kills servers under load; looks for
acknowledged changes that are lost.

Run by `make crash`. The disk is a file below a loop device that logs every write and
flush (disk_log.cc), with ext4, xfs and btrfs on it in turn. A state is the disk after
one flush with none, a random half or all of the writes that followed before the next
one. Each is mounted and served by a fresh workspaced, which must serve what had been
acknowledged, whole and under one name.
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
# States checked between two looks at the clock.
_BATCH = 10
# Set in the process that has a mount namespace of its own.
_INSIDE = "MLOPS_CRASH_INSIDE"


@dataclass(frozen=True)
class Cut:
    """Where the power is cut: what had reached the disk for sure, and which writes were
    under way.
    """

    end: int  # Of the records before the cut.
    flushed: int  # Of those before the last flush.
    mode: str


def cuts_of(records: list[Record]) -> list[Cut]:
    """Every crash state: between each two flushes, and after the last."""
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
    """The writes under way that reached the disk all the same, in their order."""
    under_way = [
        record for record in records[cut.flushed : cut.end] if record.kind == "W"
    ]
    if cut.mode == "none":
        return []
    if cut.mode == "all":
        return under_way
    return [record for record in under_way if choices.random() < 0.5]


def marks_before(records: list[Record], end: int) -> list[str]:
    """The marks that were set before the cut."""
    return [record.data.decode() for record in records[:end] if record.kind == "M"]


def record_workload(
    file_system: str, scratch: Path, args: argparse.Namespace
) -> list[workload.Client]:
    """Serves clients from a logged disk; leaves `start.img`, the disk before, and
    `log`.
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
    """Mounts `image` and serves it; returns what is wrong."""
    with (
        disk.mounted(image, scratch / "m"),
        Server(scratch / "m/base", "--log-calls", "off") as server,
    ):
        return workload.problems_of(server, clients, marks)


def cut_power(file_system: str, args: argparse.Namespace) -> bool:
    """Replays crash states of one file system; returns whether all were good."""
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
            f"{file_system}: {args.clients * args.changes} changes, {kinds['W']} writes, {kinds['F']} flushes, "
            f"{len(cuts)} states, of which {len(chosen)} are to be checked",
            flush=True,
        )
        if not _notices_loss(scratch, clients, records):
            print(
                f"{file_system}: the check accepts an empty disk after the last acknowledgement",
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
        f"{file_system}: {checked} states in {time.monotonic() - begun:.0f} s, {bad} bad",
        flush=True,
    )
    return bad == 0


def _notices_loss(
    scratch: Path, clients: list[workload.Client], records: list[Record]
) -> bool:
    """Whether the check refuses a disk on which everything is lost, so that one that
    accepts all is noticed.
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
    # The disk grows from flush to flush, so the states of a batch are made in their
    # order.
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
                f"{file_system}: record {cut.end} of {len(records)}, {cut.mode} of the rest: {problem}",
                flush=True,
            )
    return bad


def kill(args: argparse.Namespace) -> bool:
    """Kills servers under load; returns whether everything acknowledged was there."""
    print(f"kill -9 under load, {args.kills} times", flush=True)
    environment = {**os.environ, "MLOPS_KILL_ROUNDS": str(args.kills)}
    command = [sys.executable, "-m", "pytest", "-q", REPO / "tests/server/test_kill.py"]
    return subprocess.run(command, env=environment, cwd=REPO).returncode == 0


def cut_power_on_all(args: argparse.Namespace) -> bool:
    """Replays crash states on each file system that this machine has; says which are
    skipped.
    """
    good = True
    for file_system in args.file_systems:
        try:
            good = cut_power(file_system, args) and good
        except Missing as problem:
            print(f"{file_system}: skipped: {problem}", flush=True)
    return good


def main() -> int:
    """Prints what was found; returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--states",
        type=int,
        default=60,
        help="crash states of each file system; 0 means every one",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=120,
        help="for each file system, about; 0 means no limit",
    )
    parser.add_argument(
        "--changes", type=int, default=40, help="changes that each client makes"
    )
    parser.add_argument(
        "--clients", type=int, default=3, help="clients that make changes at once"
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=100,
        help="how often to kill a server; 0 means never",
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
    """Runs this script in a mount namespace of its own, so that no mount is left
    whatever happens.
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
