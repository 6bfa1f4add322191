"""Opens MLflow stores, safely by many processes at once, and with bounded waits."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking._tracking_service import utils
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.engine import make_url

from mlops._toolkits.errors import MLOpsClientError
from mlops._toolkits.locks import locked

_ANSWER_WITHIN_S = 5
_MAKE_WITHIN_S = 60
_GATEWAY_ERRORS = (502, 503, 504)
# SQLAlchemy decodes the path of a database since version 2.1.
_DECODES = make_url("sqlite:///%25").database == "%"


def open_store(
    uri: str, registry_uri: str | None, locate_artifacts: Callable[[], str | None]
) -> MlflowClient:
    """Return a client of the store at `uri`.

    Creates a missing SQLite database. `locate_artifacts` then returns the location of
    artifacts of experiments that name no location.

    Raises:
        MLOpsClientError: SERVER_UNAVAILABLE, within seconds, if `uri` is a server that
            does not answer.
    """
    check_answers(uri)
    file = sqlite_file(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_database(file, locate_artifacts)
        _close_connections(file)
        forget_locations()
    # Name the registry explicitly: MLflow would otherwise use one that was set for the
    # whole process.
    return MlflowClient(uri, registry_uri or uri)


def check_answers(uri: str) -> None:
    """Check that the server at `uri`, if it is one, answers.

    MLflow retries a call for four minutes, which is good during a training and bad
    before it.

    Raises:
        MLOpsClientError: SERVER_UNAVAILABLE if it does not answer.
    """
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        creds = get_default_host_creds(uri)
        answer = http_request(
            creds,
            "/health",
            "GET",
            max_retries=0,
            timeout=_ANSWER_WITHIN_S,
            raise_on_status=False,
        )
        # A gateway error comes from a proxy, any other status from a running server.
        problem = (
            f"HTTP {answer.status_code}"
            if answer.status_code in _GATEWAY_ERRORS
            else None
        )
    except MlflowException as error:
        problem = error.message
    if problem is not None:
        raise MLOpsClientError(
            f"The MLflow server at {uri} does not answer; is it running? {problem}",
            component="mlflow",
            details={"reason": "SERVER_UNAVAILABLE", "tracking_uri": uri},
        )


def is_database(uri: str) -> bool:
    """Return whether `uri` names a database that this process accesses directly."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite database; None if `uri` names another store."""
    if not urlsplit(uri).scheme.startswith("sqlite"):
        return None
    database = make_url(uri).database
    if not database or database == ":memory:":
        return None
    return Path(
        unquote(database.removeprefix("file:"))
        if database.startswith("file:")
        else database
    ).absolute()


def database_uri(file: Path) -> str:
    """Return the URI by which MLflow opens the SQLite database `file`.

    MLflow takes the text after sqlite:/// as a path and creates its parent directory.
    Where SQLAlchemy reads another path from the same text, this URI names the driver,
    which prevents MLflow from creating a wrong directory.
    """
    path = str(file)
    if not _DECODES:
        return (
            f"sqlite+pysqlite:///file:{quote(path)}?uri=true"
            if "?" in path
            else f"sqlite:///{path}"
        )
    encoded = path.replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}" if encoded == path else f"sqlite+pysqlite:///{encoded}"


def normalize(uri: str) -> str:
    """Return a URI of the same store by which MLflow creates no wrong directory.

    See database_uri().
    """
    file = sqlite_file(uri)
    return uri if file is None or "?" in uri else database_uri(file)


def is_of(uri: str, file: Path) -> bool:
    """Return whether `uri` names the SQLite database `file`."""
    named = sqlite_file(uri)
    if named is None:
        return False
    # The server encodes paths that some versions of SQLAlchemy do not decode.
    return _real(file) in (_real(named), _real(Path(unquote(str(named)))))


def _real(file: Path) -> Path:
    return file.parent.resolve() / file.name


def forget_locations() -> None:
    """Clear MLflow's process-wide cache of runs' artifact locations."""
    cache = getattr(utils, "_artifact_repos_cache", None)
    if cache is not None:
        cache.clear()


def find_experiment(
    client: MlflowClient, name: str, experiment_id: str | None
) -> Experiment | None:
    """Return the experiment with that id, else the one with that name, else None.

    Raises:
        MLOpsClientError: EXPERIMENT_DELETED if the experiment is deleted.
    """
    found = _experiment_of_id(client, experiment_id) if experiment_id else None
    found = found or client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise MLOpsClientError(
            f"The experiment {found.name} ({found.experiment_id}) has been deleted; "
            "restore it by: mlflow experiments restore "
            f"--experiment-id {found.experiment_id}",
            component="mlflow",
            details={
                "reason": "EXPERIMENT_DELETED",
                "experiment_id": found.experiment_id,
                "name": found.name,
            },
        )
    return found


def find_or_create_experiment(
    client: MlflowClient,
    name: str,
    experiment_id: str | None,
    locate_artifacts: Callable[[], str | None],
) -> Experiment:
    """Return the experiment as find_experiment() does; create it if missing.

    Any number of callers may do this at the same time; one of them creates it.

    Args:
        locate_artifacts: Returns the artifact location for a new experiment; None lets
            the store choose.
    """
    found = find_experiment(client, name, experiment_id)
    if found is None:
        try:
            client.create_experiment(name, locate_artifacts())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = find_experiment(client, name, None)
    assert found is not None
    return found


def _experiment_of_id(client: MlflowClient, experiment_id: str) -> Experiment | None:
    try:
        return client.get_experiment(experiment_id)
    except MlflowException as error:
        # MLflow reports the latter for an id that is not a number.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _make_database(file: Path, locate_artifacts: Callable[[], str | None]) -> None:
    """Create the database if it is missing.

    One process at a time creates it, because the migrations cannot run concurrently. It
    is created under another name and renamed, so that a killed process leaves no
    partial database.
    """
    if file.exists():
        return
    # A slow import, which MLflow servers do not need.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    lock = file.with_name(f".{file.name}.lock")
    with locked(lock, _MAKE_WITHIN_S):
        if not file.exists():
            draft = file.with_name(f".{file.name}.new")
            # Remove the draft of a process that was killed.
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            store = SqlAlchemyStore(database_uri(draft / file.name), locate_artifacts())
            store.engine.dispose()
            (draft / file.name).rename(file)
            draft.rmdir()
        # Processes that wait for the lock file find the database when they get the
        # lock.
        lock.unlink(missing_ok=True)


def _close_connections(file: Path) -> None:
    """Close MLflow's connections to `file`.

    MLflow keeps connections until the process exits. After the workspace was deleted
    and recreated, or moved, they would still write to the old database.
    """
    for kind in ("tracking", "model_registry"):
        # A module that was not imported has no connections.
        module = sys.modules.get(f"mlflow.store.{kind}.sqlalchemy_store")
        for uri, engine in (
            list(module.SqlAlchemyStore._engine_map.items())
            if module is not None
            else []
        ):
            if sqlite_file(uri) == file:
                engine.dispose()
