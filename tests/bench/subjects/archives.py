"""Measures exports, imports and clones beside `tar` and `cp`, on the same disk."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from subjects.figures import Row, grouped, median, ratio, speed, table
from subjects.harness import NO_CLIENT, Bench, workspaced

_FILES_PER_DIRECTORY = 100


def run_archives(bench: Bench) -> tuple[str, list[Row]]:
    """Runs each with one large file, and with many small ones."""
    if NO_CLIENT:
        return NO_CLIENT, []
    from mlops.workspace import WorkspaceManager

    base = bench.work / "base"
    sizes = bench.sizes
    rows: list[Row] = []
    with (
        workspaced(bench, base) as server,
        WorkspaceManager(address=server.address) as manager,
    ):
        for project in ("large", "small"):
            manager.create_workspace(project)
        _write_large(base / "large/models/weights", sizes.archive_bytes)
        _write_small(base / "small/models", sizes.archive_files)
        for project in ("large", "small"):
            archive = bench.work / f"{project}.tar"
            plain = bench.work / f"{project}-plain.tar"
            copy = bench.work / "copy"
            clone = bench.work / "clone"
            works: dict[str, dict[str, Callable[[], object]]] = {
                "export": {
                    "tar": lambda p=project, a=plain: _pack(base / p, a),
                    "workspaced": (
                        lambda p=project, a=archive: manager.export_workspace(p, a)
                    ),
                },
                "import": {
                    "tar": lambda a=plain, c=copy: _unpack(a, c),
                    "workspaced": (
                        lambda a=archive: manager.import_workspace(a, "copy")
                    ),
                },
                "clone": {
                    "cp": lambda p=project, c=clone: _copy(base / p, c),
                    "workspaced": (
                        lambda p=project: manager.clone_workspace(p, "clone")
                    ),
                },
            }
            # The sides take turns. The first round only warms up.
            for number in range(sizes.archive_rounds + 1):
                for work, sides in works.items():
                    for target, run in sides.items():
                        row: Row = {
                            "work": f"{work}, {project}",
                            "target": target,
                            "round": number,
                            "seconds": _seconds(run),
                        }
                        if number > 0:
                            rows.append(row)
                    # At once, because each may have 10 GiB.
                    for made in (copy, clone):
                        if made.exists():
                            shutil.rmtree(made)
                            manager.delete_workspace(
                                made.name, force=True, permanent=True
                            )
            archive.unlink()
            plain.unlink()
    return _text(bench, rows), rows


def _write_large(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())


def _write_small(directory: Path, count: int) -> None:
    content = os.urandom(4096)
    for at in range(count):
        below = directory / f"{at // _FILES_PER_DIRECTORY:04}"
        below.mkdir(exist_ok=True)
        (below / f"{at:06}").write_bytes(content)


def _pack(directory: Path, archive: Path) -> None:
    subprocess.run(
        ["tar", "--format=pax", "-C", directory, "-cf", archive, "."], check=True
    )
    _sync(archive)


def _unpack(archive: Path, directory: Path) -> None:
    directory.mkdir()
    subprocess.run(["tar", "-C", directory, "-xf", archive], check=True)
    # As fast as possible: one sync of the file system.
    subprocess.run(["sync", "-f", directory], check=True)


def _copy(directory: Path, copy: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", directory, copy], check=True)
    subprocess.run(["sync", "-f", copy], check=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _text(bench: Bench, rows: list[Row]) -> str:
    lines = [
        [
            work,
            target,
            f"{median([row['seconds'] for row in group]):.2f}",
            ratio(
                speed,
                rows,
                target,
                "cp" if work.startswith("clone") else "tar",
                work=work,
            ),
        ]
        for (work, target), group in grouped(rows, "work", "target").items()
    ]
    about = (
        f"large: one file of {bench.sizes.archive_bytes >> 20:,} MiB; small: "
        f"{bench.sizes.archive_files:,} files of 4 KiB. Both sides sync what they "
        "write; for an archive, workspaced also computes and checks the SHA-256 of "
        "each file."
    )
    return (
        f"{about}\n\n{table(['work', 'with', 'seconds', 'speed of tar or cp'], lines)}"
    )
