"""Checks that the tables of the documents name all of the contract."""

import re

from support.server import REPO

_PROTO = REPO / "proto/mlops/workspace/v1"
_RPCS = set(
    re.findall(r"^  rpc (\w+)", (_PROTO / "workspace_service.proto").read_text(), re.M)
)
_REASONS = set(
    re.findall(r"^  (\w+) = [1-9]", (_PROTO / "error_reason.proto").read_text(), re.M)
)


def _first_cells(text: str) -> set[str]:
    """The names in code style in the first cells of tables."""
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def test_the_contract_describes_every_rpc_and_reason() -> None:
    assert len(_RPCS) > 20 and len(_REASONS) > 20
    found = _first_cells((REPO / "proto/README.md").read_text())
    missing = (_RPCS | _REASONS) - found
    assert not missing, f"proto/README.md lacks {sorted(missing)}"


def test_the_roles_include_every_rpc_once() -> None:
    text = (REPO / "service/OPERATIONS.md").read_text()
    rows = re.findall(r"^\| (?:viewer|editor|admin) \| (.*) \|$", text, re.M)
    assert len(rows) == 3
    named = [name for row in rows for name in re.findall(r"\b[A-Z]\w+\b", row)]
    needs_none = {"GetServerInfo", "ListTemplates"}
    assert set(named) | needs_none == _RPCS
    # ReleaseLease is there twice: with `force`, it needs more.
    assert sorted(named) == sorted([*(_RPCS - needs_none), "ReleaseLease"])
