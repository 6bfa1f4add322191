"""Checks the layers of the C++ sources: no directory includes a higher one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.server import REPO

_BASE = {"proto/cpp/base", "service/base"}
_RECORDS = {*_BASE, "service/fs", "service/core"}
_WIRE = {"proto/cpp", "generated"}
# The directories that each directory may include besides itself. Add new directories in
# their place, from the lowest layer up.
_MAY_INCLUDE = {
    "proto/cpp/base": set(),
    "proto/cpp": {"proto/cpp/base", "generated"},
    "service/base": {"proto/cpp/base"},
    "service/fs": _BASE,
    "service/core": {*_BASE, "service/fs"},
    "service/artifacts": _RECORDS,
    "service/archive": {*_RECORDS, "service/artifacts"},
    "service/catalog": _RECORDS,
    "service/auth": _RECORDS,
    "service/doctor": {*_RECORDS, "service/artifacts", "service/catalog"},
    "service/observe": _BASE,
    "service/rpc": {
        *_RECORDS,
        *_WIRE,
        "service/archive",
        "service/artifacts",
        "service/auth",
        "service/observe",
    },
    "service/server": {
        *_RECORDS,
        *_WIRE,
        "service/archive",
        "service/artifacts",
        "service/auth",
        "service/catalog",
        "service/doctor",
        "service/observe",
        "service/rpc",
    },
    "service": {*_RECORDS, "service/observe", "service/server"},
    # Installed headers may include only each other and the generated headers, which are
    # installed beside them.
    "client-cpp/include/mlops": {"generated"},
    "client-cpp/include/mlops/testing": {"client-cpp/include/mlops", "generated"},
    "client-cpp/src": {
        "client-cpp/include/mlops",
        "proto/cpp",
        "proto/cpp/base",
        "generated",
    },
    "client-cpp/testing": {
        *{
            "client-cpp/include/mlops",
            "client-cpp/include/mlops/testing",
            "client-cpp/src",
        },
        *{"proto/cpp", "proto/cpp/base", "generated"},
    },
    "client-cpp/examples": {
        "client-cpp/include/mlops",
        "client-cpp/include/mlops/testing",
    },
}


def _included(text: str) -> Iterator[str]:
    """Yields the directories of this project that a source with `text` includes.

    Yields "generated" for headers that are generated from .proto files.
    """
    for header in re.findall(r'^\s*#\s*include\s*["<]([^">]+)[">]', text, re.MULTILINE):
        directory = str(Path(header).parent)
        if re.match(r"mlops/workspace/v\d+$|google/rpc$|grpc/health/v\d+$", directory):
            yield "generated"
        elif directory.split("/")[0] == "mlops":
            yield f"client-cpp/include/{directory}"
        elif directory.split("/")[0] in ("service", "proto", "client-cpp", "tests"):
            yield directory


def _problems(directory: str, text: str) -> list[str]:
    allowed = {directory, *_MAY_INCLUDE[directory]}
    return [
        f"{directory} includes {other}"
        for other in _included(text)
        if other not in allowed
    ]


def _sources() -> list[Path]:
    sources = [
        path
        for top in ("service", "proto", "client-cpp")
        for path in (REPO / top).rglob("*.*")
    ]
    return sorted(
        path.relative_to(REPO) for path in sources if path.suffix in (".h", ".cc")
    )


def test_no_source_includes_a_higher_layer() -> None:
    sources = _sources()
    assert {str(source.parent) for source in sources} == set(_MAY_INCLUDE)
    problems = [
        f"{source}: {problem}"
        for source in sources
        for problem in _problems(str(source.parent), (REPO / source).read_text())
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("directory", "header"),
    [
        ("service/fs", "service/core/usage.h"),
        ("service/core", "service/catalog/checkpoint.h"),
        ("service/core", "mlops/workspace/v1/workspace_service.pb.h"),
        ("service/catalog", "service/artifacts/tree.h"),
        ("service/rpc", "service/catalog/file_catalog.h"),
        ("proto/cpp/base", "service/base/clock.h"),
        ("client-cpp/src", "service/base/clock.h"),
        ("client-cpp/include/mlops", "proto/cpp/base/error.h"),
        ("service/server", "tests/support/temp_dir.h"),
    ],
)
def test_an_arrow_upwards_is_found(directory: str, header: str) -> None:
    assert len(_problems(directory, f'#include <string>\n\n#include "{header}"\n')) == 1


def test_an_arrow_downwards_is_allowed() -> None:
    assert (
        _problems(
            "service/rpc",
            '#include "service/rpc/call.h"\n# include "service/core/usage.h"\n',
        )
        == []
    )
