"""Checks the layers of the Python package: no room imports a higher one, no circles."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.server import REPO

_SOURCES = REPO / "client-python/src"
# The rooms, from the lowest up. A room may import itself and those before it when it is
# loaded. Imports within functions are free.
_ROOMS = (
    "mlops.workspace.v1",
    "mlops._rpc",
    "mlops.cli",
    "mlops.local_server",
    "mlops.workspace",
    "mlops.fs",
    "mlops._toolkits",
    "mlops.tracking",
    "mlops.serving",
    "mlops.monitoring",
    "mlops.client",
    "mlops.plots",
    "mlops.dashboard",
    "mlops.commands",
)


def _imported(text: str, modules: set[str]) -> Iterator[str]:
    """Yields those of `modules` that a source imports when it is loaded."""
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Import):
            yield from (name.name for name in statement.names if name.name in modules)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            for name in statement.names:
                full = f"{statement.module}.{name.name}"
                yield full if full in modules else statement.module


def _room(module: str) -> str:
    # "mlops.workspace.v1" is in no other room, although it begins with one's name.
    for room in sorted(_ROOMS, key=len, reverse=True):
        if module == room or module.startswith(f"{room}."):
            return room
    raise AssertionError(f"{module} is in no room: add it to _ROOMS")


def _problems(module: str, imported: list[str]) -> list[str]:
    """Returns the imports of higher rooms."""
    height = _ROOMS.index(_room(module))
    return [
        f"{module} imports {other}"
        for other in imported
        if other.startswith("mlops.") and _ROOMS.index(_room(other)) > height
    ]


def _sources() -> dict[str, Path]:
    def name(path: Path) -> str:
        parts = path.relative_to(_SOURCES).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    return {name(path): path for path in sorted(_SOURCES.rglob("*.py"))}


def _imports() -> dict[str, list[str]]:
    sources = _sources()
    return {
        module: list(_imported(path.read_text(), set(sources)))
        for module, path in sources.items()
        if module != "mlops"
    }


def test_no_module_imports_a_higher_room() -> None:
    problems = [
        problem
        for module, imported in _imports().items()
        for problem in _problems(module, imported)
    ]
    assert problems == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(_imports()).prepare()


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("mlops._rpc.stub", "mlops.workspace.project"),
        ("mlops.fs.file", "mlops._toolkits.errors"),
        ("mlops.serving.bentoml", "mlops.client.mlops_client"),
        ("mlops._toolkits.paths", "mlops.client"),
    ],
)
def test_an_arrow_upwards_is_found(module: str, imported: str) -> None:
    assert len(_problems(module, [imported])) == 1


def test_an_arrow_downwards_is_allowed() -> None:
    assert _problems("mlops.client.x", ["mlops.fs", "mlops.client.y", "os.path"]) == []
