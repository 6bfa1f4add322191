"""MLOpsClientError, and the mapping from the libraries' exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlops._rpc.errors import WorkspaceError


class MLOpsClientError(Exception):
    """An operation of MLOpsClient failed and left the workspace as it was.

    `operation` is the method, or "open" for the constructor. `component` is the part
    that failed: "workspace", "mlflow", "dvc", "bentoml" or "evidently". `details` holds
    facts for programs. `details["reason"]` is always set. It is the reason of a
    WorkspaceError, or one of:

        TOOLKIT_MISSING: The library is not installed; `extra` names what to install.
        INPUT_INVALID: An argument is unusable; `field` names it if it is an argument of
            this package.
        FILE_NOT_FOUND: The file exists at none of the `places`.
        WORKSPACE_NOT_LOCAL: The workspace's directory, `path`, is not on this machine;
            the message says what to do.
        NO_ACTIVE_RUN: A method that logs to a run was called outside start_run().
        RUN_ACTIVE: start_run() was called within the run `run_id` without `nested`.
        EXPERIMENT_DELETED: The project's experiment, `experiment_id`, was deleted in
            MLflow.
        SERVER_UNAVAILABLE: The MLflow server at `tracking_uri` does not answer.
        STORE_READ_ONLY: The workspace was copied or moved from `root`, and its MLflow
            store, `path`, is not writable.
        FILE_CHANGING: Another process kept writing to `path` while it was copied.
        LOCAL_CHANGES: The operation would destroy data that is in no version.
        DATA_MISSING: Neither the cache nor the remote has the data.
        REPOSITORY_BUSY: Another process held the lock of the repository or the store
            for too long.
        MODEL_EXISTS: A model of that name and version exists.
        REFERENCE_MISSING: There is no reference data, or its file is damaged.
        TOOLKIT_FAILED: The library raised an exception, the `__cause__`; `type` is its
            class.
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


# Users import it from there, so tracebacks and pickles name that module.
MLOpsClientError.__module__ = "mlops.client"


@contextmanager
def operation(name: str, component: str) -> Iterator[None]:
    """Convert errors that leave the block, and add the operation and the component."""
    try:
        yield
    except MLOpsClientError as error:
        error.operation = error.operation or name
        error.component = error.component or component
        raise
    except WorkspaceError as error:
        raise _workspace_failed(error, name) from error
    except Exception as error:
        # mlops.fs raises OSErrors with the server's error as their cause.
        if isinstance(error, OSError) and isinstance(error.__cause__, WorkspaceError):
            raise _workspace_failed(error.__cause__, name) from error
        raise toolkit_failed(error, str(error), name, component) from error


def _workspace_failed(error: WorkspaceError, name: str) -> MLOpsClientError:
    return MLOpsClientError(error.message, name, "workspace", dict(error.details))


def input_invalid(field: str, problem: str) -> MLOpsClientError:
    """Return the error for an unusable argument; `problem` says how to correct it."""
    return MLOpsClientError(
        f"{field}: {problem}", details={"reason": "INPUT_INVALID", "field": field}
    )


def toolkit_failed(
    error: Exception, message: str, operation: str | None, component: str
) -> MLOpsClientError:
    """Return the error for an exception of a library that has no specific reason."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    details = {"reason": "TOOLKIT_FAILED", "type": kind}
    return MLOpsClientError(
        f"{component}: {message or kind}", operation, component, details
    )
