"""Access to a workspace's rows in the database of an MLflow server."""

import os
from functools import lru_cache
from typing import Any

from mlflow.entities.workspace import WorkspaceDeletionMode
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.server import BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR
from mlflow.store.workspace.dbmodels import SqlWorkspace
from mlflow.store.workspace.sqlalchemy_store import SqlAlchemyStore


def delete(name: str, mode: WorkspaceDeletionMode) -> None:
    """Delete the rows of workspace `name` as MLflow's own provider does.

    With RESTRICT, deletes nothing, and any row is an error. With CASCADE, deletes all
    rows. Works only in the process of an MLflow server, which knows its databases.

    Raises:
        MlflowException: RESOURCE_CONFLICT if nothing was deleted because a row is in
            the way, or because this is not an MLflow server.
    """
    variables = (BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR)
    databases = list(
        dict.fromkeys(uri for name in variables if (uri := os.environ.get(name)))
    )
    if not databases:
        raise MlflowException(
            f"{name} is not deleted: only an MLflow server can delete a workspace, "
            "as it has the runs in its database",
            codes.RESOURCE_CONFLICT,
        )
    for uri in databases:
        try:
            _tables(uri).delete_workspace(name, mode)
        except MlflowException as error:
            if error.error_code != codes.ErrorCode.Name(codes.INVALID_STATE):
                raise
            # MLflow's client treats INVALID_STATE as a transient server error and
            # retries for minutes.
            raise MlflowException(error.message, codes.RESOURCE_CONFLICT) from error


class _Tables(SqlAlchemyStore):  # type: ignore[misc] # MLflow is untyped.
    """MLflow's own provider, for workspaces that are not in its workspace table.

    MLflow has no public API for the rows of everything that a workspace may contain.
    """

    def _get_workspace(self, session: Any, workspace_name: str) -> SqlWorkspace:
        """Insert a row for the duration of the transaction.

        delete_workspace() deletes it, or the transaction is rolled back.
        """
        row = session.merge(SqlWorkspace(name=workspace_name))
        session.flush()
        return row


@lru_cache(maxsize=8)
def _tables(uri: str) -> _Tables:
    return _Tables(uri)
