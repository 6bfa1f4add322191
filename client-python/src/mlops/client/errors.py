"""The one exception of the client, and the one place where what the toolkits raise
becomes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlops._rpc.errors import WorkspaceError


class MLOpsClientError(Exception):
    """An operation of MLOpsClient failed; the workspace is as whole as it was before.

    `operation` is the method ("open" while a client is made), `component` what failed
    in it: "workspace", "mlflow", "dvc", "bentoml" or "evidently". `details` are facts
    for programs. `details["reason"]` is always there: of an error of the workspaces'
    server its reason, or one of

    | TOOLKIT_MISSING     | the library is not installed; `extra` says what to install |
    | INPUT_INVALID       | an argument that nothing can be done with; where it is one
    of ours, `field` names it | | FILE_NOT_FOUND      | `places` were looked at | |
    WORKSPACE_NOT_LOCAL | the workspace's directory, `path`, is not on this machine; the
    message says what to do | | NO_ACTIVE_RUN       | what logs to a run was called
    outside of start_run() | | RUN_ACTIVE          | start_run() within the run
    `run_id`, and not nested | | EXPERIMENT_DELETED  | the project's experiment,
    `experiment_id`, has been deleted in MLflow | | SERVER_UNAVAILABLE  | the MLflow
    server at `tracking_uri` does not answer | | STORE_READ_ONLY     | the workspace was
    copied or moved from `root`, and its MLflow store, `path`, is read-only | |
    FILE_CHANGING       | what was to be copied is written to all the time, at `path` |
    | LOCAL_CHANGES       | data would be lost that is in no version | | DATA_MISSING
    | neither cache nor remote has it | | REPOSITORY_BUSY     | another process has kept
    the repository or the store locked for too long | | MODEL_EXISTS        | there is a
    model of that name and version | | REFERENCE_MISSING   | there is no reference data
    yet, or its file is damaged | | TOOLKIT_FAILED      | the library raised something,
    which is the `__cause__`; `type` is its class |
    """

    def __init__(
        self,
        message: str,
        operation: str | None = None,
        component: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.component = component
        self.details = details if details is not None else {}


@contextmanager
def operation(name: str, component: str) -> Iterator[None]:
    """Names the operation and the component in the errors that leave the block,
    whatever raised them.
    """
    try:
        yield
    except MLOpsClientError as error:
        error.operation = error.operation or name
        error.component = error.component or component
        raise
    except WorkspaceError as error:
        raise _workspace_failed(error, name) from error
    except Exception as error:
        # Of mlops.fs.
        if isinstance(error, OSError) and isinstance(error.__cause__, WorkspaceError):
            raise _workspace_failed(error.__cause__, name) from error
        raise toolkit_failed(error, str(error), name, component) from error


def _workspace_failed(error: WorkspaceError, name: str) -> MLOpsClientError:
    return MLOpsClientError(error.message, name, "workspace", dict(error.details))


def input_invalid(field: str, problem: str) -> MLOpsClientError:
    """An argument that nothing can be done with; `problem` says how to mend it."""
    return MLOpsClientError(
        f"{field}: {problem}", details={"reason": "INPUT_INVALID", "field": field}
    )


def toolkit_failed(
    error: Exception, message: str, operation: str | None, component: str
) -> MLOpsClientError:
    """What a library raised, of which nothing more is known than what it says."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    details = {"reason": "TOOLKIT_FAILED", "type": kind}
    return MLOpsClientError(
        f"{component}: {message or kind}", operation, component, details
    )
