"""Settings and metadata on the command line, as `key=value`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops.commands.errors import usage

if TYPE_CHECKING:
    from mlops.workspace import ProjectWorkspace

SETTINGS = (
    "mlflow_experiment_id",
    "mlflow_tracking_uri",
    "dvc_remote_path",
    "bentoml_tag_prefix",
)
QUOTAS = ("max_size_bytes", "max_file_count")
_SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of WorkspaceManager for words like `key=value`.

    A key is one of the four settings, a quota, or else a key of the metadata, which may
    also be written as `metadata.key`. A quota is a number, such as 1000 or 5G, or
    "none". A metadata value that is JSON is stored as such, any other as text.

    Raises:
        CommandError: A word has no `=`, or an unusable key.
    """
    arguments: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise usage(f"{word!r} must have the form key=value")
        if key in SETTINGS:
            arguments[key] = value
        elif key in QUOTAS:
            arguments[key] = _quota(key, value)
        else:
            metadata[metadata_key(key)] = _value(value)
    return {**arguments, "metadata": metadata} if metadata else arguments


def _quota(key: str, text: str) -> int | None:
    if text == "none":
        return None
    unit = _UNITS.get(text[-1:].upper())
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.isdecimal()):
        raise usage(f"{key} must be a number such as 1000 or 5G, or none, not {text}")
    return int(digits) * (unit or 1)


def metadata_key(word: str) -> str:
    """Return the key of metadata that a word names.

    Raises:
        CommandError: It names a part of a value.
    """
    key = word.removeprefix("metadata.")
    if "." in key:
        outer = key.partition(".")[0]
        raise usage(
            f"{word}: only whole values can be set; set {outer} to a JSON object, "
            f"such as {outer}='{{\"key\": 1}}'"
        )
    return key


def _value(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        # NaN and Infinity are not JSON.
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        return text


def time_of(text: str) -> str:
    """Convert the value of --since to a time in ISO 8601."""
    now = datetime.now(UTC)
    if text == "today":
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0)
        return midnight.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        span = timedelta(**{_SPANS[match[2]]: int(match[1])})
        return (now - span).strftime("%Y-%m-%dT%H:%M:%SZ")
    if re.fullmatch(r"[\dT:.Z+-]+", text):
        return text
    raise usage(f"--since must be today, a span such as 24h, or a date, not {text}")


def described(workspace: ProjectWorkspace) -> dict[str, Any]:
    """Return a workspace as JSON values."""
    result = {**workspace.to_dict(), "uid": workspace.uid, "etag": workspace.etag}
    result |= {name: getattr(workspace, name) for name in QUOTAS}
    held_by = workspace.held_by
    result["held_by"] = held_by and {
        "holder": held_by.holder,
        "fence": held_by.fence,
        "expires_at": held_by.expires_at.isoformat(),
    }
    if workspace.deleted_at is not None:
        result["deleted_at"] = workspace.deleted_at.isoformat()
        result["purged_at"] = _iso(workspace.purged_at)
    return result


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
