"""Runs `workspaced doctor`, and describes trees so that changes can be detected."""

import json
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.server import BINARY

_TIMEOUT_S = 60
# What depends on the machine that runs the test.
OF_THE_MACHINE = ("file-system-", "space-low", "inodes-low")


@dataclass(frozen=True)
class Diagnosis:
    """What the command printed."""

    code: int
    report: dict[str, Any]

    @property
    def codes(self) -> list[str]:
        """The codes of all findings, except those that depend on the machine."""
        return [
            finding["code"]
            for finding in self.report["findings"]
            if not finding["code"].startswith(OF_THE_MACHINE)
        ]

    def of_severity(self, severity: str) -> list[dict[str, Any]]:
        return [
            finding
            for finding in self.report["findings"]
            if finding["severity"] == severity
            and not finding["code"].startswith(OF_THE_MACHINE)
        ]


def run_doctor(
    base: Path, *args: str, wrapper: tuple[object, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [str(a) for a in (*wrapper, BINARY, "doctor", "--base", base, *args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)


def diagnose(base: Path, *args: str) -> Diagnosis:
    """Runs the command with --json; it must print nothing on stderr."""
    result = run_doctor(base, "--json", *args)
    assert result.stderr == "", result
    return Diagnosis(result.returncode, json.loads(result.stdout))


def described(top: Path) -> dict[str, tuple[Any, ...]]:
    """Returns what can be known about each entry of a tree, but not access times."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, directories, files in os.walk(top):
        for path in [Path(directory), *(Path(directory, f) for f in files)] + [
            Path(directory, d) for d in directories
        ]:
            info = path.lstat()
            content: Any = None
            if stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            found[str(path)] = (
                info.st_mode,
                info.st_ino,
                info.st_size,
                info.st_mtime_ns,
                info.st_ctime_ns,
                content,
            )
    return found
