"""What the comments of the .proto files promise, for tests to hold the server to."""

import re
from dataclasses import dataclass
from typing import Any

from conformance.matching import Mismatch
from conformance.players import Error
from support.server import REPO

PROTO_DIR = REPO / "proto/mlops/workspace/v1"
SERVICE_TEXT = (PROTO_DIR / "workspace_service.proto").read_text()
_DOMAIN = "mlops.workspace"


@dataclass(frozen=True)
class Promise:
    """The code that a reason comes with and the keys of its metadata, `project` aside."""

    code: str
    keys: frozenset[str]


def _read_promises() -> dict[str, Promise]:
    text = (PROTO_DIR / "error_reason.proto").read_text()
    found = re.findall(r"// ([A-Z_]+)(?: \{([a-z_, ]*)\})?: (?:[^\n]*\n\s*//)*[^\n]*\n\s*([A-Z_]+) = ", text)
    return {reason: Promise(code, frozenset(re.findall(r"\w+", keys))) for code, keys, reason in found}


PROMISES = _read_promises()


def check_error(error: Error, request: dict[str, Any]) -> None:
    """Raises Mismatch unless `error`, the answer to `request`, is what error_reason.proto says of its reason."""
    shown = f"{error.code} {error.message!r} {error.infos}"
    _require(len(error.infos) == 1, f"an error needs one ErrorInfo: {shown}")
    info = error.infos[0]
    promise = PROMISES.get(info.reason)
    _require(promise is not None, f"error_reason.proto knows no such reason: {shown}")
    assert promise is not None
    _require(info.domain == _DOMAIN, f"the domain is not {_DOMAIN}: {shown}")
    _require(error.code == promise.code, f"{info.reason} should come with {promise.code}: {shown}")
    missing = promise.keys | ({"project"} if _project(request) else set())
    missing -= set(info.metadata)
    _require(not missing, f"{info.reason} lacks {sorted(missing)}: {shown}")
    if info.reason == "FIELD_INVALID":
        _require(error.invalid_fields == [info.metadata["field"]], f"no BadRequest of that field: {shown}")


def _project(request: dict[str, Any]) -> str:
    return str(request.get("project") or request.get("workspace", {}).get("project", ""))


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise Mismatch(problem)
