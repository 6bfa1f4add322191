"""A disk that can be rebuilt as a power cut at any moment would have left it: see
disk_log.cc.
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
# How to make each file system, and how large it must be at least. Without discards,
# which the log does not know.
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
# Three sparse images, and the log.
_IMAGES_BYTES = 1 << 30


class Missing(Exception):
    """This machine cannot do it; the text says what is missing."""


@dataclass(frozen=True)
class Record:
    """One record of the log."""

    kind: str  # W: a write, F: a flush, M: a mark
    offset: int
    data: bytes


def run(*command: object) -> None:
    """Runs a command that this machine may not have, or may refuse."""
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
    """A directory in memory if it has room: a loop device syncs its file, which on a
    busy disk takes seconds.
    """
    with contextlib.suppress(OSError):
        memory = os.statvfs(_MEMORY)
        if memory.f_bavail * memory.f_frsize > _IMAGES_BYTES:
            return _MEMORY
    return None


def make_image(file_system: str, image: Path) -> None:
    """Makes an empty file system in the file `image`."""
    command, size_mib = FILE_SYSTEMS[file_system]
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    run(*command, image)


@contextlib.contextmanager
def mounted(image: Path, directory: Path) -> Iterator[None]:
    """Mounts the file system in `image`, which recovers from what interrupted it, and
    unmounts it.
    """
    directory.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, directory)
    try:
        yield
    finally:
        # Lazily where somebody is still in it, who then failed already: no failure may
        # leave a mount behind.
        if subprocess.run(["umount", directory], capture_output=True).returncode:
            subprocess.run(["umount", "-l", directory], check=True)


@contextlib.contextmanager
def logged(image: Path, log: Path, directory: Path) -> Iterator[None]:
    """Has `directory` hold the files `disk`, which is `image`, and `mark`, and logs
    what is written to them.
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
        # The loop device lets go of the file a moment after the unmount of what is in
        # it.
        try:
            process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read_log(path: Path) -> list[Record]:
    """Reads the log whole."""
    content = path.read_bytes()
    records, at = [], 0
    while at < len(content):
        kind, offset, size = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        records.append(Record(kind.decode(), offset, content[at : at + size]))
        at += size
    return records


def write_records(image: Path, records: list[Record]) -> None:
    """Brings `image` up to date with these writes."""
    with image.open("r+b") as file:
        for record in records:
            if record.kind == "W":
                file.seek(record.offset)
                file.write(record.data)


def copy_image(source: Path, destination: Path) -> None:
    """Copies an image without filling its holes."""
    run("cp", "--sparse=always", "--reflink=auto", source, destination)


def require_root_and_loop() -> None:
    """Raises Missing where loop mounts cannot be had."""
    if os.geteuid() != 0:
        raise Missing("needs root, to mount")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            raise Missing(f"needs {device}")
    if not DISK_LOG.exists():
        raise Missing(f"{DISK_LOG} is not built, for want of libfuse")
