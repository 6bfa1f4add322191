"""MLflow's stores: opened safely by many at once, and never waited for without end."""

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

from mlops.client.errors import MLOpsClientError
from mlops.client.file_lock import locked

_ANSWER_WITHIN_S = 5
_MAKE_WITHIN_S = 60
_GATEWAY_ERRORS = (502, 503, 504)
# SQLAlchemy decodes the path of a database since 2.1.
_DECODES = make_url("sqlite:///%25").database == "%"


def open_store(
    uri: str, registry_uri: str | None, locate_artifacts: Callable[[], str | None]
) -> MlflowClient:
    """A client of the store at `uri`, which is made if it is a SQLite database that
    does not exist; `locate_artifacts` then says where its artifacts go, if no
    experiment says so.

    Raises MLOpsClientError SERVER_UNAVAILABLE within seconds if it is a server's and
    that does not answer.
    """
    check_answers(uri)
    file = sqlite_file(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_database(file, locate_artifacts)
        _close_connections(file)
        forget_locations()
    # Said explicitly, as MLflow would take a registry that was set for the whole
    # process.
    return MlflowClient(uri, registry_uri or uri)


def check_answers(uri: str) -> None:
    """Raises MLOpsClientError SERVER_UNAVAILABLE if `uri` is a server's that does not
    answer.

    MLflow itself repeats a call for four minutes, which is good in the middle of a
    training and bad before it.
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
    """Whether `uri` names a database that MLflow writes to from this process."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None if `uri` names another store."""
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
    """The URI by which MLflow opens the SQLite database `file`, and makes no other
    directory.

    MLflow takes what follows sqlite:/// for a path as it stands, and makes that path's
    directory. Where SQLAlchemy takes it for another path, the name of the driver keeps
    MLflow from making any.
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
    """The URI by which MLflow opens the same store, and makes no other directory; see
    database_uri().
    """
    file = sqlite_file(uri)
    return uri if file is None or "?" in uri else database_uri(file)


def is_of(uri: str, file: Path) -> bool:
    """Whether `uri` names the SQLite database `file`."""
    named = sqlite_file(uri)
    if named is None:
        return False
    # Servers encode what SQLAlchemy may not decode.
    return _real(file) in (_real(named), _real(Path(unquote(str(named)))))


def _real(file: Path) -> Path:
    return file.parent.resolve() / file.name


def forget_locations() -> None:
    """Has MLflow ask its stores for the locations of artifacts again: it keeps those of
    runs for as long as the process lives.
    """
    cache = getattr(utils, "_artifact_repos_cache", None)
    if cache is not None:
        cache.clear()


def find_experiment(
    client: MlflowClient, name: str, experiment_id: str | None
) -> Experiment | None:
    """The experiment of that id; if there is none, the one of that name; None if there
    is neither.

    Raises MLOpsClientError EXPERIMENT_DELETED if it is there, but deleted.
    """
    found = _experiment_of_id(client, experiment_id) if experiment_id else None
    found = found or client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise MLOpsClientError(
            f"The experiment {found.name} ({found.experiment_id}) has been deleted; restore it by: mlflow experiments "
            f"restore --experiment-id {found.experiment_id}",
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
    """As find_experiment(), but makes it if there is none; of any number of callers one
    does.

    `locate_artifacts` says where the artifacts of one that is made go; None leaves it
    to the store.
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
        # The latter for what is no number.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _make_database(file: Path, locate_artifacts: Callable[[], str | None]) -> None:
    """Makes the database if there is none: by one process at a time, as the migrations
    that make it cannot run twice at once, and beside its place, so that nobody finds
    half of one, whoever is killed.
    """
    if file.exists():
        return
    # Takes long, and servers need it not.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    lock = file.with_name(f".{file.name}.lock")
    with locked(lock, _MAKE_WITHIN_S):
        if not file.exists():
            draft = file.with_name(f".{file.name}.new")
            shutil.rmtree(draft, ignore_errors=True)  # Of a process that was killed.
            draft.mkdir()
            store = SqlAlchemyStore(database_uri(draft / file.name), locate_artifacts())
            store.engine.dispose()
            (draft / file.name).rename(file)
            draft.rmdir()
        # Whoever still waits for this file finds the database there.
        lock.unlink(missing_ok=True)


def _close_connections(file: Path) -> None:
    """MLflow keeps connections for as long as the process runs. Those to the database
    of a workspace that was deleted and made anew, or moved away, would go on writing
    into that one.
    """
    for kind in ("tracking", "model_registry"):
        # What has not been imported has no connections.
        module = sys.modules.get(f"mlflow.store.{kind}.sqlalchemy_store")
        for uri, engine in (
            list(module.SqlAlchemyStore._engine_map.items())
            if module is not None
            else []
        ):
            if sqlite_file(uri) == file:
                engine.dispose()
