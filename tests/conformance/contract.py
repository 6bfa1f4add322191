"""The promises in the comments of the .proto files, for tests to check."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2

from conformance.matching import Mismatch
from conformance.players import Error
from support.server import REPO

_DESCRIPTOR_SET = REPO / "build/proto/mlops-workspace.binpb"
_PACKAGE = "mlops/workspace/v1/"
_DOMAIN = "mlops.workspace"


@functools.cache
def _comments() -> dict[str, str]:
    """Returns the leading comment of each service, method, enum and enum value.

    Keys are names within the package, for example "WorkspaceService.GetWorkspace".
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(
        _DESCRIPTOR_SET.read_bytes()
    ).file
    return {
        name: text
        for file in files
        if file.name.startswith(_PACKAGE)
        for name, text in _comments_of(file)
    }


def _comments_of(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        match list(location.path):
            case [6, service]:
                yield file.service[service].name, location.leading_comments
            case [6, service, 2, method]:
                name = (
                    f"{file.service[service].name}."
                    f"{file.service[service].method[method].name}"
                )
                yield name, location.leading_comments
            case [5, enum]:
                yield file.enum_type[enum].name, location.leading_comments
            case [5, enum, 2, value]:
                yield (
                    f"{file.enum_type[enum].name}."
                    f"{file.enum_type[enum].value[value].name}",
                    location.leading_comments,
                )


def comment(name: str) -> str:
    """Returns the comment before `name`, such as "WorkspaceService.GetWorkspace"."""
    return _comments()[name]


def reason_names() -> set[str]:
    """Returns the names of ErrorReason's values."""
    return {
        name.removeprefix("ErrorReason.")
        for name in _comments()
        if name.startswith("ErrorReason.")
    }


@dataclass(frozen=True)
class Promise:
    """What an error must carry: its code, and its metadata's keys besides `project`.

    It has the keys of one of the `alternatives`.
    """

    code: str
    alternatives: tuple[frozenset[str], ...]


@functools.cache
def promises() -> dict[str, Promise]:
    """Returns what each reason promises, parsed from its comment.

    The comment begins with `CODE {keys}: `; `or {keys}: ` is an alternative.
    """
    found_promises = {}
    for reason in reason_names():
        text = comment(f"ErrorReason.{reason}")
        if found := re.match(r"\s*([A-Z_]+)(?: \{([a-z0-9_, ]*)\})?: ", text):
            keys = [found[2] or "", *re.findall(r"\bor \{([a-z0-9_, ]*)\}:", text)]
            found_promises[reason] = Promise(
                found[1], tuple(frozenset(re.findall(r"\w+", some)) for some in keys)
            )
    return found_promises


def check_error(error: Error, request: dict[str, Any]) -> None:
    """Raises Mismatch unless `error` keeps the promises in error_reason.proto.

    `request` is the request that failed with it; if it names a project, so must the
    error's metadata.
    """
    shown = f"{error.code} {error.message!r} {error.infos}"
    _require(len(error.infos) == 1, f"an error needs one ErrorInfo: {shown}")
    info = error.infos[0]
    promise = promises().get(info.reason)
    _require(promise is not None, f"error_reason.proto knows no such reason: {shown}")
    assert promise is not None
    _require(info.domain == _DOMAIN, f"the domain is not {_DOMAIN}: {shown}")
    _require(
        error.code == promise.code,
        f"{info.reason} should come with {promise.code}: {shown}",
    )
    also = {"project"} if _project(request) else set()
    missing = min(
        ((keys | also) - set(info.metadata) for keys in promise.alternatives), key=len
    )
    _require(not missing, f"{info.reason} lacks {sorted(missing)}: {shown}")
    if info.reason == "FIELD_INVALID":
        _require(
            error.invalid_fields == [info.metadata["field"]],
            f"no BadRequest of that field: {shown}",
        )


def _project(request: dict[str, Any]) -> str:
    return str(
        request.get("project") or request.get("workspace", {}).get("project", "")
    )


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise Mismatch(problem)
