"""Values of Python to messages and back."""

import hashlib
import math
import os
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, TypedDict, Unpack

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from mlops._rpc import errors
from mlops.workspace.v1 import workspace_service_pb2 as pb

SETTINGS = ("mlflow_experiment_id", "mlflow_tracking_uri", "dvc_remote_path", "bentoml_tag_prefix")
_MAX_INTEGER = 2**53 - 1
_MAX_DEPTH = 16
_EPOCH = datetime.fromtimestamp(0, UTC)


class Settings(TypedDict, total=False):
    """What the user may set; None is as good as left out."""

    mlflow_experiment_id: str | None
    mlflow_tracking_uri: str | None
    dvc_remote_path: str | None
    bentoml_tag_prefix: str | None
    metadata: dict[str, Any] | None


def to_workspace(project: str, **settings: Unpack[Settings]) -> pb.Workspace:
    """The message with what the user sets. Raises WorkspaceError FIELD_INVALID if it cannot be sent as it is."""
    if unknown := settings.keys() - Settings.__annotations__:
        raise TypeError(f"there is no setting of the name {', '.join(sorted(unknown))}")
    message = pb.Workspace(project=check_text("project", project))
    for name in SETTINGS:
        if (value := settings.get(name)) is not None:
            setattr(message, name, check_text(name, value))
    if (metadata := settings.get("metadata")) is not None:
        message.metadata.CopyFrom(to_struct(metadata))
    return message


def settings_of(message: pb.Workspace) -> dict[str, Any]:
    """The settings that are present; the others are None to whoever takes them."""
    return {field.name: value for field, value in message.ListFields() if field.name in SETTINGS}


def check_text(field: str, value: object) -> str:
    """Returns `value`. Raises WorkspaceError FIELD_INVALID if it is no text that can be sent."""
    if not isinstance(value, str):
        raise errors.field_invalid(field, f"must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise errors.field_invalid(field, "is no Unicode text: it has a lone surrogate") from None
    return value


def to_struct(metadata: dict[str, Any]) -> Struct:
    """The message of a dict. Raises WorkspaceError FIELD_INVALID, naming the place, if it would not come back equal."""
    check_metadata(metadata)
    struct = Struct()
    struct.update(metadata)
    return struct


def from_struct(struct: Struct) -> dict[str, Any]:
    """The inverse, in order of the keys. Numbers are doubles on the wire: integral ones come back as int, so 1.0 comes
    back as 1.
    """
    return {key: _from_value(value) for key, value in sorted(struct.items(), key=itemgetter(0))}


def etag_of(stat: os.stat_result) -> str:
    """The etag that the server gives to such a file.

    Nobody can set the time of the last change that it is made of: a file of another file system, or a copy, has another
    one.
    """
    facts = f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def check_metadata(metadata: object) -> None:
    """Raises WorkspaceError FIELD_INVALID if `metadata` is no dict that a workspace can hold."""
    if not isinstance(metadata, dict):
        raise errors.field_invalid("metadata", f"must be a dict, not {type(metadata).__name__}")
    _check(metadata, "metadata", 1)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """An aware datetime. Times of files may be out of its range: then the first or the last one there is."""
    try:
        return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)
    except OverflowError:
        return (datetime.max if timestamp.seconds > 0 else datetime.min).replace(tzinfo=UTC)


def _check(value: object, field: str, depth: int) -> None:
    match value:
        case None | bool():
            return
        case str():
            check_text(field, value)
        case int() | float():
            _check_number(value, field)
        case dict() | list() if depth > _MAX_DEPTH:
            raise errors.field_invalid(field, f"is nested deeper than {_MAX_DEPTH} levels")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise errors.field_invalid(field, f"has a key that is no text: {key!r:.100}")
                _check(item, f"{field}.{check_text(field, key)}", depth + 1)
        case list():
            for i, item in enumerate(value):
                _check(item, f"{field}[{i}]", depth + 1)
        case _:
            raise errors.field_invalid(field, f"must be JSON's kind of value, not {type(value).__name__}")


def _check_number(value: float, field: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise errors.field_invalid(field, "is not a finite number")
    if abs(value) > _MAX_INTEGER and (isinstance(value, int) or value.is_integer()):
        raise errors.field_invalid(
            field, "is an integer beyond 2^53 - 1, where doubles are not exact: send it as a string"
        )


def _from_value(value: Any) -> Any:
    """What Struct's own items() gives for a value: messages for maps and lists."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Struct):
        return from_struct(value)
    if value is None or isinstance(value, str | bool | float):
        return value
    return [_from_value(item) for item in value]
