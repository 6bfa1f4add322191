"""Frees runs and logged models that were deleted in a workspace's MLflow store."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from mlops._toolkits.errors import MLOpsClientError
from mlops.client.garbage import Freed, Kept, size_of
from mlops.workspace import ProjectWorkspace

_PAGE = 1000


@dataclass(frozen=True)
class _Deleted:
    """A deleted run or logged model."""

    kind: str  # "run" or "logged model".
    id: str
    artifact_uri: str


def clean(
    client: MlflowClient, workspace: ProjectWorkspace, dry_run: bool
) -> tuple[Freed, list[Kept]]:
    """Free what `mlflow gc` would free, if its artifacts are in the workspace.

    Unlike `mlflow gc`, keeps artifacts that a version of a registered model refers to.

    Args:
        client: A client of the workspace's own database.
        workspace: The workspace, on this machine.
        dry_run: Change nothing.

    Returns:
        What was freed, and what was kept.
    """
    store = client._tracking_client.store
    versions = list(_model_versions(client))
    freed, kept = Freed(), list[Kept]()
    for deleted in _all_deleted(store):
        name = f"{deleted.kind} {deleted.id}"
        places = [
            deleted.artifact_uri.rstrip("/"),
            f"runs:/{deleted.id}",
            f"models:/{deleted.id}",
        ]
        # Without its artifacts, a registered version could not be loaded any more.
        user = next((v for v in versions if _refers(v, deleted.id, places)), None)
        if user is not None:
            reason = f"version {user.version} of the model {user.name} refers to it"
            kept.append(Kept("mlflow", name, reason))
            continue
        try:
            directory = _own_directory(deleted, workspace)
        except MLOpsClientError as error:
            kept.append(Kept("mlflow", name, error.message))
            continue
        # Do not count a run that was restored meanwhile.
        size = size_of(directory)
        if not dry_run and not _remove(store, deleted, directory):
            continue
        freed += Freed(1, size)
    return freed, kept


def _all_deleted(store: Any) -> Iterator[_Deleted]:
    for run_id in sorted(store._get_deleted_runs()):
        yield _Deleted("run", run_id, store.get_run(run_id).info.artifact_uri)
    for model_id in sorted(store._get_deleted_logged_models()):
        model = store.get_logged_model(model_id, allow_deleted=True)
        yield _Deleted("logged model", model_id, model.artifact_location)


def _model_versions(client: MlflowClient) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_model_versions(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _refers(version: Any, own_id: str, places: list[str]) -> bool:
    if own_id in (version.run_id, getattr(version, "model_id", None)):
        return True
    source = version.source or ""
    return any(source == place or source.startswith(f"{place}/") for place in places)


def _own_directory(deleted: _Deleted, workspace: ProjectWorkspace) -> Path:
    """Return the directory of the artifacts, after proving that nothing else uses it.

    Raises:
        MLOpsClientError: The artifacts are outside the workspace, or share a directory
            with other artifacts.
    """
    uri, root = deleted.artifact_uri, workspace.root_path.resolve()
    url = urlsplit(uri)
    if url.scheme == "workspace" and url.netloc == workspace.project_name:
        directory = root / url.path.lstrip("/")
    elif is_local_uri(uri):
        directory = Path(local_file_uri_to_path(uri))
    else:
        raise MLOpsClientError(f"its artifacts are at {uri}, outside of the workspace")
    # Resolve links in the path, which could lead out of the workspace.
    directory = directory.parent.resolve() / directory.name
    if not directory.is_relative_to(root / "mlflow") or directory.is_symlink():
        raise MLOpsClientError(f"its artifacts are at {uri}, outside of the workspace")
    if deleted.id not in directory.parts:
        raise MLOpsClientError(f"its artifacts, at {uri}, may be those of others too")
    return directory


def _remove(store: Any, deleted: _Deleted, directory: Path) -> bool:
    """Remove the artifacts and then the record, as `mlflow gc` does.

    A process that is killed in between leaves the record, which is then freed by the
    next call. Returns False if the run or model was restored meanwhile.
    """
    if deleted.kind == "run":
        if store.get_run(deleted.id).info.lifecycle_stage != LifecycleStage.DELETED:
            return False
    elif deleted.id not in store._get_deleted_logged_models():
        return False
    if directory.exists():
        shutil.rmtree(directory)
    # MLflow puts a run's artifacts one level below the run's own directory.
    own = directory.parent
    if own.name == deleted.id and own.is_dir() and not any(own.iterdir()):
        own.rmdir()
    if deleted.kind == "run":
        store._hard_delete_run(deleted.id)
    else:
        store._hard_delete_logged_model(deleted.id)
    return True
