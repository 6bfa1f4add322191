"""Base directories whose names have a special meaning in a URI.

gRPC parses its addresses as URIs, so clients and server must escape such names.
"""

from pathlib import Path

import pytest

from conformance.players import Cpp
from support.server import Server


@pytest.mark.parametrize(
    "name", ["a b", "é", "a#b", "a?b", "a%41b", "%", "a:b", "-x", "a\\b", "'\"$x"]
)
def test_a_base_of_any_name_is_served(name: str, base: Path) -> None:
    with Server(base / name) as server, Cpp(server) as client:
        assert client.call("EnsureWorkspace", {"project": "fraud"}).error is None
    assert (base / name / "fraud/mlflow").is_dir()
