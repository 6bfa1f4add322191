"""Keeps the locations in a workspace's MLflow store correct after a copy or a move.

MLflow stores absolute locations of artifacts. The workspace's store also records, in a
table that MLflow ignores, the workspace directory for which they were written. If the
store is opened in another directory, the workspace was copied or moved. Then every
location below the old directory is rewritten to the new one, in one transaction.
"""

import json
import logging
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from mlops._toolkits.errors import MLOpsClientError
from mlops._toolkits.locks import busy
from mlops._toolkits.paths import is_here, require_utf8
from mlops.workspace import ProjectWorkspace

_WAIT_SECONDS = 60.0  # For other writers of the store.
_SHORT_WAIT_SECONDS = 1.0
_TABLE = "mlops_workspace"
# Where MLflow 3.10 to 3.17 stores locations: table, column, and a condition on the
# rows. Columns that a version lacks are skipped.
_LOCATIONS = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    (
        "trace_tags",
        "value",
        "AND key IN ('mlflow.artifactLocation', 'mlflow.trace.archiveLocation')",
    ),
    ("workspaces", "default_artifact_root", ""),
    ("workspaces", "trace_archival_location", ""),
)
# Columns with JSON that may contain locations.
_JSON = (
    ("datasets", "dataset_source", ""),
    ("tags", "value", "AND key = 'mlflow.log-model.history'"),
)
_FILE_URI = re.compile(r"(file:(?://(?:localhost)?)?)(/.*)", re.DOTALL)
_DEFAULT_EXPERIMENT = "/mlflow/artifacts/0"
_log = logging.getLogger(__name__)


def settle_if_possible(workspace: ProjectWorkspace) -> None:
    """Settle the workspace's existing store now, best effort.

    Lets MLflow's own tools find the artifacts of a copy. Does not import MLflow. If it
    fails, the next run settles the store, or raises the error.
    """
    if not is_here(workspace):
        return
    file = workspace.mlflow_path.absolute() / "mlflow.db"
    try:
        settle(file, workspace.root_path.absolute(), _SHORT_WAIT_SECONDS)
    except (MLOpsClientError, sqlite3.Error, UnicodeError) as error:
        shown = os.fsencode(file).decode(errors="backslashreplace")
        _log.warning("The locations in %s cannot be updated now: %s", shown, error)


def settle(
    file: Path, root: Path, wait_seconds: float = _WAIT_SECONDS
) -> tuple[Path, bool]:
    """Rewrite the locations in the store `file` to lie below `root`.

    `root` is the workspace's directory. Any number of processes may do this at the same
    time.

    Returns:
        The directory that the locations are below, and whether they were rewritten. The
            directory is `root`, or another path of the same directory.

    Raises:
        MLOpsClientError: STORE_READ_ONLY if the locations must be rewritten but the
            store is not writable, REPOSITORY_BUSY if other processes write to the store
            for too long, INPUT_INVALID if `root` is not UTF-8. The locations then
            stay, and are rewritten when the store is opened below a path that is.
    """
    try:
        with closing(_open(file, wait_seconds)) as store:
            recorded = _recorded_root(store)
            # The common case, which writes nothing.
            if recorded is not None and _is_same(recorded, root):
                return Path(recorded), False
            require_utf8(root)
            old = recorded or _root_of_default_experiment(store)
            try:
                return _move(store, root)
            except sqlite3.OperationalError as error:
                if not _is_read_only(error):
                    raise
                # The locations are correct, and only the record of the root is missing.
                if old is None or _is_same(old, root):
                    return Path(old or root), False
                raise _read_only(file, old, root) from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):
            raise busy(file, wait_seconds) from error
        raise


def _open(file: Path, wait_seconds: float) -> sqlite3.Connection:
    # mode=rw does not create the file if it was removed meanwhile.
    uri = f"file:{quote(os.fsencode(file))}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=wait_seconds, isolation_level=None)


def _move(store: sqlite3.Connection, root: Path) -> tuple[Path, bool]:
    store.execute("BEGIN IMMEDIATE")
    try:
        # Read again inside the transaction: another process may have rewritten them.
        recorded = _recorded_root(store)
        old = recorded or _root_of_default_experiment(store)
        # If the old path leads to the same directory, nothing moved: keep that path.
        kept = Path(old) if old is not None and _is_same(old, root) else root
        moves = old is not None and kept == root and old != str(root)
        if moves:
            _log.info("The locations in MLflow's store move from %s to %s", old, root)
            _rewrite(store, str(old), str(root))
        if recorded != str(kept):
            store.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (root TEXT NOT NULL)")
            store.execute(f"DELETE FROM {_TABLE}")
            store.execute(f"INSERT INTO {_TABLE} VALUES (?)", (str(kept),))
        store.execute("COMMIT")
    except BaseException:
        # SQLite ends the transaction itself on some errors.
        if store.in_transaction:
            store.execute("ROLLBACK")
        raise
    return kept, moves


def _recorded_root(store: sqlite3.Connection) -> str | None:
    if not _columns(store, _TABLE):
        return None
    row = store.execute(f"SELECT root FROM {_TABLE}").fetchone()
    return None if row is None else str(row[0])


def _root_of_default_experiment(store: sqlite3.Connection) -> str | None:
    """Return the root of a store that is older than the record of roots, or None.

    MLflow creates the default experiment with a store, at the location given then.
    """
    if "artifact_location" not in _columns(store, "experiments"):
        return None
    row = store.execute(
        "SELECT artifact_location FROM experiments WHERE experiment_id = 0"
    ).fetchone()
    location = row[0] if row is not None and isinstance(row[0], str) else ""
    uri = _FILE_URI.fullmatch(location)
    path = unquote(uri[2]) if uri else location
    root = path.removesuffix(_DEFAULT_EXPERIMENT)
    return root if root != path and root.startswith("/") else None


def _columns(store: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in store.execute(f"PRAGMA table_info({table})")}


def _rewrite(store: sqlite3.Connection, old: str, new: str) -> None:
    store.create_function(
        "moved", 1, lambda text: moved(text, old, new), deterministic=True
    )
    store.create_function(
        "moved_json", 1, lambda text: _moved_json(text, old, new), deterministic=True
    )
    places = [("moved", *place) for place in _LOCATIONS] + [
        ("moved_json", *place) for place in _JSON
    ]
    for function, table, column, condition in places:
        if column in _columns(store, table):
            value = f"{function}({column})"
            store.execute(
                f"UPDATE {table} SET {column} = {value} "
                f"WHERE {value} IS NOT NULL {condition}"
            )


def moved(location: object, old: str, new: str) -> str | None:
    """Return the location below `new` for a location at or below `old`, else None.

    Locations are paths, file: URIs, and workspace:// URIs of this workspace.
    """
    if not isinstance(location, str):
        return None
    project, new_project = (
        f"workspace://{os.path.basename(old)}",
        f"workspace://{os.path.basename(new)}",
    )
    # These locations name the project, which is also the directory's name.
    if location == project or location.startswith(project + "/"):
        return (
            None
            if project == new_project
            else new_project + location.removeprefix(project)
        )
    uri = _FILE_URI.fullmatch(location)
    prefix, path = (uri[1], uri[2]) if uri else ("", location)
    parts, old_parts = path.split("/"), old.split("/")
    root = parts[: len(old_parts)]
    # Compare part by part: /a/fraud2 is not below /a/fraud. Parts below the root keep
    # their spelling.
    if ([unquote(part) for part in root] if uri else root) != old_parts:
        return None
    return prefix + "/".join([quote(new) if uri else new, *parts[len(old_parts) :]])


def _moved_json(text: object, old: str, new: str) -> str | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    changed = _map_text(value, lambda leaf: moved(leaf, old, new) or leaf)
    return None if changed == value else json.dumps(changed)


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _is_same(path: str, root: Path) -> bool:
    """Return whether both are the same directory, so neither moved nor copied."""
    if path == str(root):
        return True
    try:
        return os.path.samefile(path, root)
    except OSError:
        return False


def _is_read_only(error: sqlite3.OperationalError) -> bool:
    """Return whether the store cannot be written.

    The file or file system is read-only, or the directory cannot hold the journal.
    """
    return error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    )


def _read_only(file: Path, old: str, root: Path) -> MLOpsClientError:
    return MLOpsClientError(
        f"{file} locates artifacts below {old} and must be updated to {root}, "
        "but is not writable: make it and its directory writable, "
        "or copy the workspace to a writable place",
        component="mlflow",
        details={"reason": "STORE_READ_ONLY", "path": str(file), "root": old},
    )
