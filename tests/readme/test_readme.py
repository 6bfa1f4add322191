"""Runs the marked code blocks of the READMEs.

Each runs in a fresh directory that holds the base of a live server.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from readme.blocks import Block, read_blocks
from support.server import REPO, Server

# The address of `make serve` in the README; the test's server takes any free port.
_ADDRESS = "127.0.0.1:50051"
_CMAKE = """\
cmake_minimum_required(VERSION 3.25)
project(readme CXX)
find_package(MlopsWorkspace REQUIRED)
add_executable(program program.cc)
target_link_libraries(program PRIVATE MlopsWorkspace::client)
"""


def _blocks() -> list[Block]:
    readmes = [
        REPO / directory / "README.md" for directory in ("", "client-cpp", "proto")
    ]
    return [block for readme in readmes for block in read_blocks(readme.read_text())]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A working directory that looks like the repository's root after `make serve`."""
    with tempfile.TemporaryDirectory(prefix="mlops-", dir="/tmp") as name:
        for entry in ("build", ".venv"):
            Path(name, entry).symlink_to(REPO / entry)
        yield Path(name)


@pytest.fixture
def environment(directory: Path) -> Iterator[dict[str, str]]:
    """Environment variables for a block; a server runs for the fixture's lifetime."""
    path = os.pathsep.join(
        [
            str(REPO / "build/tools"),
            str(Path(sys.executable).parent),
            os.environ["PATH"],
        ]
    )
    with Server(directory / "mlops/workspace", "--listen", "127.0.0.1:0") as server:
        yield {
            **os.environ,
            "PATH": path,
            "ADDRESS": next(a for a in server.addresses if not a.startswith("unix:")),
        }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", _blocks(), ids=lambda block: block.name)
def test_block_runs(block: Block, directory: Path, environment: dict[str, str]) -> None:
    code = block.code.replace(_ADDRESS, environment["ADDRESS"])
    command = {"python": _python, "sh": _shell, "cpp": _cpp}[block.language](
        code, directory
    )
    result = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert block.prints(result.stdout), result.stdout


def _python(code: str, directory: Path) -> list[str]:
    (directory / "program.py").write_text(code)
    return [sys.executable, "program.py"]


def _shell(code: str, directory: Path) -> list[str]:
    return ["sh", "-euc", code]


def _cpp(code: str, directory: Path) -> list[str]:
    """Builds the program as a user would, against the installed CMake package."""
    source, build = directory / "cpp", directory / "cpp/build"
    source.mkdir()
    (source / "program.cc").write_text(code)
    (source / "CMakeLists.txt").write_text(_CMAKE)
    prefix = directory / "prefix"
    for command in (
        [
            "cmake",
            "--install",
            REPO / "build",
            "--component",
            "client-cpp",
            "--prefix",
            prefix,
        ],
        [
            "cmake",
            "-G",
            "Ninja",
            "-S",
            source,
            "-B",
            build,
            f"-DCMAKE_PREFIX_PATH={prefix}",
        ],
        ["cmake", "--build", build],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    return [str(build / "program")]
