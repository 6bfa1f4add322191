"""Runs the steps of cases that change or check the base directory.

README.md describes the steps.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from conformance.matching import build, check


def do(base: Path, step: dict[str, Any], variables: dict[str, Any]) -> None:
    """Runs one step below `base`.

    Raises Mismatch if a check fails, and ValueError for an unknown step.
    """
    step = {
        key: value if key == "is" else build(value, variables)
        for key, value in step.items()
    }
    match step:
        case {"write": path}:
            target = base / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_content(step))
        case {"append": path}:
            with (base / path).open("ab") as file:
                file.write(_content(step))
        case {"edit": path, "replace": old, "with": new}:
            _edit(base / path, old, new)
        case {"mkdir": path}:
            (base / path).mkdir(parents=True)
        case {"fifo": path}:
            os.mkfifo(base / path)
        case {"symlink": path, "target": target}:
            (base / path).symlink_to(target)
        case {"copy": path, "to": to}:
            shutil.copytree(base / path, base / to, symlinks=True)
        case {"move": path, "to": to}:
            (base / path).rename(base / to)
        case {"remove": path}:
            target = base / path
            shutil.rmtree(
                target
            ) if target.is_dir() and not target.is_symlink() else target.unlink()
        case {"yaml": path, "is": expected}:
            check(expected, yaml.safe_load((base / path).read_text()), variables, path)
        case {"entries": path, "is": expected}:
            names = sorted(
                entry.name
                for entry in (base / path).iterdir()
                if not entry.name.startswith(".")
            )
            check(expected, names, variables, path)
        case {"exists": path, "is": expected}:
            check(expected, os.path.lexists(base / path), variables, path)
        case _:
            raise ValueError(f"no such step: {step}")


def _content(step: dict[str, Any]) -> bytes:
    if "hex" in step:
        return bytes.fromhex(step["hex"])
    text = step["text"]
    if isinstance(text, list):
        text = "".join(f"{line}\n" for line in text)
    return text.encode()


def _edit(path: Path, old: str, new: str) -> None:
    """Replaces text as an editor does: writes a new file, renames it over `path`."""
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}: {text}"
    draft = path.with_name(f"{path.name}~")
    draft.write_text(text.replace(old, new))
    draft.rename(path)
