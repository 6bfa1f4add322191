"""Conversion between Python values and protobuf messages."""

import enum
import hashlib
import math
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from mlops._rpc import errors
from mlops.workspace.v1 import workspace_service_pb2 as pb

SETTINGS = (
    "mlflow_experiment_id",
    "mlflow_tracking_uri",
    "dvc_remote_path",
    "bentoml_tag_prefix",
)
QUOTAS = ("max_size_bytes", "max_file_count")
_MAX_INTEGER = 2**53 - 1
_MAX_DEPTH = 16
_EPOCH = datetime.fromtimestamp(0, UTC)


def to_workspace(
    project: object, settings: Mapping[str, object], metadata: object = None
) -> pb.Workspace:
    """Return the message for a project, its settings and its metadata.

    None means the same as left out.

    Raises:
        WorkspaceError: FIELD_INVALID if a value cannot be represented exactly.
    """
    message = pb.Workspace(project=check_text("project", project))
    for name, value in settings.items():
        if value is not None:
            setattr(message, name, to_setting(name, value))
    if metadata is not None:
        message.metadata.CopyFrom(to_struct(metadata))
    return message


def set_quotas(message: pb.Workspace, quotas: Mapping[str, object]) -> None:
    """Set the quotas that are not None.

    Raises:
        WorkspaceError: FIELD_INVALID if a value is no integer, or out of range.
    """
    for name, value in quotas.items():
        value = _simple(value)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise errors.field_invalid(
                name, f"must be an integer, not {type(value).__name__}"
            )
        try:
            setattr(message, name, value)
        except ValueError:
            raise errors.field_invalid(name, f"is out of range: {value}") from None


def quotas_of(message: pb.Workspace) -> dict[str, int | None]:
    """Return the quotas; None stands for no limit."""
    present = {field.name: value for field, value in message.ListFields()}
    return {name: present.get(name) for name in QUOTAS}


def settings_of(message: pb.Workspace) -> dict[str, Any]:
    """Return the settings that are present; callers default the others to None."""
    return {
        field.name: value
        for field, value in message.ListFields()
        if field.name in SETTINGS
    }


def check_text(field: str, value: object) -> str:
    """Return `value` as a plain str.

    Raises:
        WorkspaceError: FIELD_INVALID if it is not text, or not valid Unicode.
    """
    value = _simple(value)
    if not isinstance(value, str):
        raise errors.field_invalid(field, f"must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise errors.field_invalid(
            field, "is no Unicode text: it has a lone surrogate"
        ) from None
    return value


def to_setting(field: str, value: object) -> str:
    """Return the text of a setting.

    Accepts paths and, because MLflow's ids are often written so, integers.

    Raises:
        WorkspaceError: FIELD_INVALID if it is neither text, path nor integer.
    """
    value = _simple(value.value if isinstance(value, enum.Enum) else value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return check_text(field, value)


def to_struct(metadata: object) -> Struct:
    """Return the Struct message of a dict.

    Raises:
        WorkspaceError: FIELD_INVALID, naming the key, if it would not read back equal.
    """
    struct = Struct()
    struct.update(to_metadata(metadata))
    return struct


def to_metadata(metadata: object) -> dict[str, Any]:
    """Return a copy of a dict in JSON types.

    A value that equals a JSON value, such as a NumPy scalar, becomes that value.

    Raises:
        WorkspaceError: FIELD_INVALID, naming the key, if a workspace cannot hold a
            value.
    """
    if not isinstance(metadata, dict):
        raise errors.field_invalid(
            "metadata", f"must be a dict, not {type(metadata).__name__}"
        )
    plain: dict[str, Any] = _plain(metadata, "metadata", 1)
    return plain


def from_struct(struct: Struct) -> dict[str, Any]:
    """Return the dict of a Struct, ordered by key.

    Numbers are doubles on the wire. Integral numbers become int, so 1.0 reads back as
    1.
    """
    return {
        key: _from_value(value)
        for key, value in sorted(struct.items(), key=itemgetter(0))
    }


def check_names(field: str, names: object) -> list[str]:
    """Return a collection of texts as a list.

    Refuses a single string, which would otherwise be taken as a list of its letters.

    Raises:
        WorkspaceError: FIELD_INVALID if it is something else.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise errors.field_invalid(
            field, f"must be a list of texts, not {type(names).__name__}"
        )
    return [check_text(field, name) for name in names]


def etag_of(stat: os.stat_result) -> str:
    """Return the etag that the server reports for this file.

    The etag depends on the inode and the ctime, which no program can set. So a copy, or
    a file of another file system, has another etag.
    """
    facts = f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def from_timestamp(timestamp: Timestamp) -> datetime:
    """Return an aware datetime, clamped to the range of datetime.

    File times may lie outside that range.
    """
    try:
        return _EPOCH + timedelta(
            seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000
        )
    except OverflowError:
        return (datetime.max if timestamp.seconds > 0 else datetime.min).replace(
            tzinfo=UTC
        )


def _plain(value: object, field: str, depth: int) -> Any:
    value = _simple(value)
    match value:
        case None | bool():
            return value
        case str():
            return check_text(field, value)
        case int() | float():
            return _check_number(value, field)
        # Check the depth before descending, which also ends cyclic values.
        case dict() | list() if depth > _MAX_DEPTH:
            raise errors.field_invalid(
                field, f"is nested deeper than {_MAX_DEPTH} levels"
            )
        case dict():
            return {
                _key(key, field): _plain(item, f"{field}.{key}", depth + 1)
                for key, item in value.items()
            }
        case list():
            return [
                _plain(item, f"{field}[{i}]", depth + 1) for i, item in enumerate(value)
            ]
    hint = next((hint for kind, hint in _HINTS.items() if _is_a(value, kind)), "")
    raise errors.field_invalid(
        field, f"must be JSON's kind of value, not {type(value).__name__}{hint}"
    )


def _key(key: object, field: str) -> str:
    if not isinstance(key, str):
        raise errors.field_invalid(field, f"has a key that is no text: {key!r:.100}")
    return check_text(field, key)


# Types without an equal in JSON, with the way to store their value.
_HINTS = {
    # Also matches datetime, a subclass.
    "datetime.date": ": send its isoformat()",
    "datetime.time": ": send its isoformat()",
    "datetime.timedelta": ": send its total_seconds()",
    "enum.Enum": ": send its value",
    "os.PathLike": ": send it as str()",
    "uuid.UUID": ": send it as str()",
    "builtins.tuple": ": send it as list()",
    "builtins.set": ": send it as sorted()",
    "builtins.frozenset": ": send it as sorted()",
    "decimal.Decimal": ", which no double equals: send it as str()",
    "numpy.ndarray": ": send its tolist()",
    "numpy.datetime64": ": send it as str()",
    "numpy.timedelta64": ": send it as a number of seconds",
    "pandas.core.series.Series": ": send its tolist()",
}


def _is_a(value: object, kind: str) -> bool:
    if kind == "os.PathLike":
        return isinstance(value, os.PathLike)
    return any(
        f"{base.__module__}.{base.__qualname__}" == kind for base in type(value).__mro__
    )


def _simple(value: object) -> object:
    """Return the built-in value that equals `value`, else `value` itself."""
    # StrEnum, IntEnum and similar.
    if isinstance(value, enum.Enum) and isinstance(value, str | int | float):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Decimal):
        return _equal_number(value)
    # NumPy scalars, and arrays or tensors without dimensions. Checked by attributes, so
    # that no library is imported.
    if (
        getattr(value, "shape", None) == ()
        and hasattr(value, "dtype")
        and callable(getattr(value, "item", None))
    ):
        return _simple_scalar(value)
    return value


def _simple_scalar(value: Any) -> object:
    # For times and durations, item() may return a number of nanoseconds.
    if getattr(value.dtype, "kind", "") in ("M", "m"):
        return value
    item = value.item()
    # item() of a long double returns a long double.
    if hasattr(item, "dtype"):
        return _equal_number(item)
    return _simple(item)


def _equal_number(value: Any) -> object:
    """Return the JSON number that equals `value`, else `value` itself."""
    try:
        number = float(value)
        if value != value or number == value:
            return int(number) if number.is_integer() else number
        return int(value) if value == int(value) else value
    except (ValueError, OverflowError, TypeError, ArithmeticError):
        return value


def _check_number(value: float, field: str) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise errors.field_invalid(field, "is not a finite number")
    if abs(value) > _MAX_INTEGER and (isinstance(value, int) or value.is_integer()):
        raise errors.field_invalid(
            field,
            "is an integer beyond 2^53 - 1, where doubles are not exact: "
            "send it as a string",
        )
    return value


def _from_value(value: Any) -> Any:
    """Convert a value as Struct.items() returns it; maps and lists are messages."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Struct):
        return from_struct(value)
    if value is None or isinstance(value, str | bool | float):
        return value
    return [_from_value(item) for item in value]
