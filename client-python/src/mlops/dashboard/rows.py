"""A project in the table of all projects, with bounded size."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from mlops._rpc import convert
from mlops.workspace.project import DIRECTORIES
from mlops.workspace.v1 import workspace_service_pb2 as pb

# Metadata may have 64 KiB; a row keeps only the part that a table can show.
_MAX_KEYS = 32
_MAX_TEXT = 100
DEFAULT_COLUMNS = ("stage", "owner")
MAX_COLUMNS = 8
_PREFERRED = 3


@dataclass(slots=True)
class Usage:
    """The files of a project when they were counted."""

    file_count: int
    size_bytes: int
    # Files and bytes of each directory, in the order of DIRECTORIES.
    directories: tuple[tuple[int, int], ...]
    modify_s: float
    over_quota: bool
    error: str

    @classmethod
    def of(cls, status: pb.WorkspaceStatus) -> Usage:
        """Return the usage in a status."""
        by_name = {one.name: one for one in status.directories}
        found = [by_name.get(name) for name in DIRECTORIES]
        times = (
            one.modify_time.seconds
            for one in status.directories
            if one.HasField("modify_time")
        )
        return cls(
            status.file_count,
            status.size_bytes,
            tuple((one.file_count, one.size_bytes) if one else (0, 0) for one in found),
            float(max(times, default=0)),
            status.over_quota,
            status.error.message[:300] if status.HasField("error") else "",
        )


@dataclass(slots=True)
class Row:
    """A project, without its files."""

    project: str
    uid: str = ""
    create_s: float = 0
    update_s: float = 0
    holder: str = ""
    expire_s: float = 0
    max_size_bytes: int | None = None
    max_file_count: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    # Whether its record can be read.
    readable: bool = True
    usage: Usage | None = None

    @classmethod
    def of(cls, workspace: pb.Workspace) -> Row:
        """Return the row of a workspace."""
        if not workspace.uid and not workspace.HasField("create_time"):
            return cls(workspace.project, readable=False)
        lease = workspace.lease
        quotas = convert.quotas_of(workspace)
        return cls(
            workspace.project,
            workspace.uid,
            float(workspace.create_time.seconds),
            float(workspace.update_time.seconds),
            lease.holder,
            float(lease.expire_time.seconds),
            quotas["max_size_bytes"],
            quotas["max_file_count"],
            short_metadata(workspace.metadata),
        )

    @property
    def changed_s(self) -> float:
        """When the record or a file last changed."""
        return max(self.update_s, self.usage.modify_s if self.usage else 0)

    @property
    def problem(self) -> str:
        """The problem with the project; "" if none is known."""
        if not self.readable:
            return "workspace.yaml cannot be read"
        if self.usage is None:
            return ""
        return "over quota" if self.usage.over_quota else self.usage.error


def short_metadata(metadata: Struct) -> dict[str, str]:
    """Return short texts of the values at the top level of metadata."""
    fields = metadata.fields
    keys = fields if len(fields) <= _MAX_KEYS else sorted(fields)[:_MAX_KEYS]
    return {key: _text(fields[key]) for key in keys}


def _text(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value
    elif kind == "number_value":
        number = value.number_value
        text = str(int(number) if number.is_integer() else number)
    elif kind == "bool_value":
        text = "true" if value.bool_value else "false"
    elif kind == "struct_value":
        text = _json(convert.from_struct(value.struct_value))
    elif kind == "list_value":
        wrapped = Struct(fields={"list": value})
        text = _json(convert.from_struct(wrapped)["list"])
    else:
        text = ""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def common_keys(rows: Iterable[Row]) -> list[str]:
    """Return the keys of metadata, the most common first."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.metadata.keys())
    return sorted(counts, key=lambda key: (-counts[key], key))


def chosen_columns(given: str | None, keys: list[str]) -> tuple[str, ...]:
    """Return the keys of metadata that the table shows.

    Args:
        given: Keys with commas between, from the page's address; None means default.
    """
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        return tuple(dict.fromkeys(name for name in names if name))[:MAX_COLUMNS]
    first = [key for key in DEFAULT_COLUMNS if key in keys]
    others = [key for key in keys if key not in first]
    return tuple((first + others)[:_PREFERRED])


def _usage_key(row: Row, name: str) -> tuple[Any, ...]:
    usage = row.usage
    return (getattr(usage, name) if usage else -1,)


def sorted_names(rows: Iterable[Row], key: str, descending: bool) -> list[str]:
    """Return the names of projects in an order."""
    # Sorts are stable, so rows with equal keys stay in the order of their names.
    by_name = sorted(rows, key=lambda row: row.project)
    orders: dict[str, Any] = {
        "size": lambda row: _usage_key(row, "size_bytes"),
        "files": lambda row: _usage_key(row, "file_count"),
        "changed": lambda row: row.changed_s,
        "created": lambda row: row.create_s,
        "lease": lambda row: row.holder,
        "health": lambda row: row.problem,
    }
    if key.startswith("metadata."):
        name = key.removeprefix("metadata.")
        by_name.sort(
            key=lambda row: _natural(row.metadata.get(name)), reverse=descending
        )
    elif key in orders:
        by_name.sort(key=orders[key], reverse=descending)
    elif descending:
        by_name.reverse()
    return [row.project for row in by_name]


def _natural(text: str | None) -> tuple[int, float, str]:
    """Order absent values first, then numbers, then texts."""
    if text is None:
        return (0, 0.0, "")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return (1, number, "")
    return (2, 0.0, text.casefold())
