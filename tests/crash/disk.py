"""A disk that can be rebuilt in any state that a power cut could leave it in.

disk_log.cc records what is written to it.
"""

import contextlib
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.server import REPO

DISK_LOG = REPO / "build/tools/disk_log"
# The command that makes each file system and the minimum size of its image in MiB.
# Discards are turned off, because the log does not record them.
FILE_SYSTEMS = {
    "ext4": (
        ["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
        64,
    ),
    "xfs": (["mkfs.xfs", "-q", "-K"], 320),
    "btrfs": (["mkfs.btrfs", "-q", "-K"], 128),
}
_HEADER = struct.Struct("=cQQ")
_DEADLINE_S = 30
_MEMORY = "/dev/shm"
# Room for three sparse images and the log.
_IMAGES_BYTES = 1 << 30


class Missing(Exception):
    """This machine lacks a prerequisite; the text says which."""


@dataclass(frozen=True)
class Record:
    """One record of the log."""

    # W for a write, F for a flush, M for a mark.
    kind: str
    offset: int
    data: bytes


def run(*command: object) -> None:
    """Runs a command; raises Missing if it is not installed or fails."""
    words = [str(word) for word in command]
    try:
        result = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Missing(f"{words[0]} is not installed") from error
    if result.returncode:
        raise Missing(
            f"{' '.join(words)}: {result.stderr.strip() or result.stdout.strip()}"
        )


def place_for_images() -> str | None:
    """Returns a directory in memory, or None if memory has too little room.

    A loop device syncs the file below it, which takes seconds on a busy disk.
    """
    with contextlib.suppress(OSError):
        memory = os.statvfs(_MEMORY)
        if memory.f_bavail * memory.f_frsize > _IMAGES_BYTES:
            return _MEMORY
    return None


def make_image(file_system: str, image: Path) -> None:
    """Creates the file `image` with an empty file system."""
    command, size_mib = FILE_SYSTEMS[file_system]
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    run(*command, image)


@contextlib.contextmanager
def mounted(image: Path, directory: Path) -> Iterator[None]:
    """Mounts the file system in `image` for the length of the block.

    Mounting recovers the file system from the power cut. Raises Missing if the mount
    fails.
    """
    directory.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, directory)
    try:
        yield
    finally:
        # If a process still uses the mount, the test has failed already. Unmount lazily
        # then, so that no failure leaves a mount behind.
        if subprocess.run(["umount", directory], capture_output=True).returncode:
            subprocess.run(["umount", "-l", directory], check=True)


@contextlib.contextmanager
def logged(image: Path, log: Path, directory: Path) -> Iterator[None]:
    """Mounts disk_log on `directory` for the length of the block.

    The directory then contains the files `disk`, which is `image`, and `mark`. All
    writes to them go to `log`. Raises Missing if FUSE does not mount within 30 seconds.
    """
    directory.mkdir()
    process = subprocess.Popen([DISK_LOG, image, log, directory])
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while not os.path.ismount(directory):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Missing("FUSE does not mount here")
            time.sleep(0.01)
        yield
    finally:
        subprocess.run(["umount", directory], check=False, capture_output=True)
        # The loop device closes the file shortly after its own file system has been
        # unmounted.
        try:
            process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read_log(path: Path) -> list[Record]:
    """Reads all records of the log."""
    content = path.read_bytes()
    records, at = [], 0
    while at < len(content):
        kind, offset, size = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        records.append(Record(kind.decode(), offset, content[at : at + size]))
        at += size
    return records


def write_records(image: Path, records: list[Record]) -> None:
    """Applies the writes among `records` to `image`."""
    with image.open("r+b") as file:
        for record in records:
            if record.kind == "W":
                file.seek(record.offset)
                file.write(record.data)


def copy_image(source: Path, destination: Path) -> None:
    """Copies an image and keeps its holes."""
    run("cp", "--sparse=always", "--reflink=auto", source, destination)


def require_root_and_loop() -> None:
    """Raises Missing unless this process can use FUSE and loop mounts."""
    if os.geteuid() != 0:
        raise Missing("needs root, in order to mount")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            raise Missing(f"needs {device}")
    if not DISK_LOG.exists():
        raise Missing(
            f"{DISK_LOG} is missing: install libfuse3-dev and run .ci/setup crash"
        )
