"""Builds the sdist from the wheel without the server.

The stubs are generated from ../proto, which is not part of this package, so the sdist
contains them instead. Installing it needs no compiler and gives the same package as
that wheel.

Usage: make_sdist.py WHEEL DIRECTORY
"""

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

_PROJECT = Path(__file__).parent
# What replaces the parts of pyproject.toml that refer to the rest of the repository.
_REPLACEMENTS = [
    (', "grpcio-tools==1.71.2", "mypy-protobuf==3.6.0"]', "]"),
    ('dynamic = ["version"]', 'version = "{version}"'),
    ('install.components = ["python"]', "wheel.cmake = false"),
]
_VERSION_SECTION = "# The root CMakeLists.txt defines the one version"
_NEXT_SECTION = "[tool.ruff]"


def _pyproject(version: str) -> str:
    text = (_PROJECT / "pyproject.toml").read_text()
    for old, new in _REPLACEMENTS:
        assert old in text, f"pyproject.toml has no {old}"
        text = text.replace(old, new.format(version=version))
    before, _, rest = text.partition(_VERSION_SECTION)
    return before + rest[rest.index(_NEXT_SECTION) :]


def _contents(wheel: zipfile.ZipFile, version: str) -> dict[str, bytes]:
    """Return the files of the sdist by their paths below its directory."""
    files = {}
    for name in wheel.namelist():
        if name.endswith(".dist-info/METADATA"):
            files["PKG-INFO"] = wheel.read(name)
        elif ".dist-info/" not in name:
            files[f"src/{name}"] = wheel.read(name)
    assert "src/mlops/_bin/workspaced" not in files, "the wheel has the server in it"
    for name in ("README.md", "LICENSE"):
        files[name] = (_PROJECT / name).read_bytes()
    files["pyproject.toml"] = _pyproject(version).encode()
    return files


def main() -> None:
    """Write the sdist into the directory and print its path."""
    wheel, directory = map(Path, sys.argv[1:])
    mtime = int(os.environ.get("SOURCE_DATE_EPOCH", wheel.stat().st_mtime))
    name = "-".join(wheel.name.split("-")[:2])
    with zipfile.ZipFile(wheel) as source:
        contents = _contents(source, name.partition("-")[2])
    path = directory / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as sdist:
        for file, data in sorted(contents.items()):
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size = len(data)
            entry.mtime = mtime
            sdist.addfile(entry, io.BytesIO(data))
    print(path)


if __name__ == "__main__":
    main()
