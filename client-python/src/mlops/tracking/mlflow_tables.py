"""What an MLflow server keeps of a workspace in its own database."""

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
    """Does to the rows of workspace `name` what MLflow's own provider does to them:
    with RESTRICT nothing, but that any is an error; with CASCADE they are deleted.

    Only in the process of an MLflow server, which knows its databases.

    Raises MlflowException RESOURCE_CONFLICT if nothing was deleted since something is
    in the way.
    """
    variables = (BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR)
    databases = list(
        dict.fromkeys(uri for name in variables if (uri := os.environ.get(name)))
    )
    if not databases:
        raise MlflowException(
            f"{name} is not deleted: only an MLflow server can delete a workspace, as it has the runs in its database",
            codes.RESOURCE_CONFLICT,
        )
    for uri in databases:
        try:
            _tables(uri).delete_workspace(name, mode)
        except MlflowException as error:
            if error.error_code != codes.ErrorCode.Name(codes.INVALID_STATE):
                raise
            # A client takes INVALID_STATE for a passing weakness of the server, and
            # repeats the call for minutes.
            raise MlflowException(error.message, codes.RESOURCE_CONFLICT) from error


class _Tables(SqlAlchemyStore):  # type: ignore[misc] # MLflow is not where types are checked.
    """MLflow's own provider, for workspaces that are not in its table of them.

    There is no public way to the rows of all the things that may be in a workspace.
    """

    def _get_workspace(self, session: Any, workspace_name: str) -> SqlWorkspace:
        """A row that lives as long as the transaction: delete_workspace() deletes it,
        or else it is rolled back.
        """
        row = session.merge(SqlWorkspace(name=workspace_name))
        session.flush()
        return row


@lru_cache(maxsize=8)
def _tables(uri: str) -> _Tables:
    return _Tables(uri)
