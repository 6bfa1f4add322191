"""Reads the drift reports of a workspace, without importing Evidently."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from mlops.workspace import ProjectWorkspace

_DIRECTORY = "monitoring/reports"
_NAME = re.compile(r"drift-(\d{8}T\d{6}\.\d{6})Z-[0-9a-f]+\.json")
# A report on 10,000 columns has 15 MB.
_MAX_BYTES = 64 << 20
_log = logging.getLogger(__name__)


def read_reports(workspace: ProjectWorkspace, limit: int) -> list[dict[str, Any]]:
    """Return the last `limit` reports, the latest first.

    Works wherever the server is. Reports that cannot be read are logged.

    Raises:
        WorkspaceError: The server does not answer.
        OSError: The reports cannot be listed.
    """
    source = _Local(workspace) if workspace.is_local else _Remote(workspace)
    found = sorted(source.reports(), reverse=True)
    result: list[dict[str, Any]] = []
    # Reports that cannot be read do not count, so that older ones take their place.
    for time, name in found:
        if len(result) == limit:
            break
        try:
            report = json.loads(source.read(name))
            figures = _figures(report)
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            _log.warning("%s cannot be read: %s", name, error)
            continue
        stem = name.removesuffix(".json")
        result.append(
            {
                "created_at": time.isoformat(),
                **figures,
                "report_json": f"{_DIRECTORY}/{name}",
                "report_html": f"{_DIRECTORY}/{stem}.html",
            }
        )
    return result


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    tests = {
        test["metric_config"]["params"]["column"]: test["status"] == "FAIL"
        for test in report["tests"]
        if test["id"] == "drift"
    }
    drifted = [column for column, failed in tests.items() if failed]
    return {
        "drift_share": len(drifted) / len(tests),
        "number_of_columns": len(tests),
        "number_of_drifted_columns": len(drifted),
        "drifted_columns": drifted,
        "skipped_columns": dict(report.get("skipped_columns", {})),
    }


def _time(name: str, modified: datetime) -> datetime:
    """Return when a report was made: by its name, which survives copies."""
    if match := _NAME.fullmatch(name):
        return datetime.strptime(match[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    return modified


class _Local:
    """The reports of a workspace on this machine."""

    def __init__(self, workspace: ProjectWorkspace) -> None:
        self._directory = workspace.root_path / _DIRECTORY

    def reports(self) -> Iterator[tuple[datetime, str]]:
        for path in self._directory.glob("*.json"):
            with suppress(FileNotFoundError):
                modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield _time(path.name, modified), path.name

    def read(self, name: str) -> bytes:
        with (self._directory / name).open("rb") as file:
            return file.read(_MAX_BYTES)


class _Remote:
    """The reports of a workspace on its server's machine."""

    def __init__(self, workspace: ProjectWorkspace) -> None:
        self._files = workspace.files

    def reports(self) -> Iterator[tuple[datetime, str]]:
        if not self._files.isdir(_DIRECTORY):
            return
        for entry in self._files.ls(_DIRECTORY, detail=True):
            name = entry["name"].rpartition("/")[2]
            if entry["type"] == "file" and name.endswith(".json"):
                yield _time(name, entry["modified"]), name

    def read(self, name: str) -> bytes:
        data: bytes = self._files.cat_file(f"{_DIRECTORY}/{name}", end=_MAX_BYTES)
        return data
