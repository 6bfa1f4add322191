"""The one exception of the client, and the one place where what the toolkits raise becomes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlops._rpc.errors import WorkspaceError


class MLOpsClientError(Exception):
    """An operation of MLOpsClient failed; the workspace is as whole as it was before.

    `operation` is the method, `component` what failed in it: "workspace", "mlflow", "dvc", "bentoml" or "evidently".
    `details` are facts for programs. `details["reason"]` is always there: of an error of the server its reason; one of
    X
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
    """Names the operation and the component in the errors that leave the block, whatever raised them."""
    try:
        yield
    except MLOpsClientError as error:
        error.operation = error.operation or name
        error.component = error.component or component
        raise
    except WorkspaceError as error:
        raise MLOpsClientError(error.message, name, "workspace", dict(error.details)) from error
    except Exception as error:
        text = str(error) or type(error).__name__
        details = {"reason": "TOOLKIT_FAILED", "type": f"{type(error).__module__}.{type(error).__qualname__}"}
        raise MLOpsClientError(f"{component}: {text}", name, component, details) from error


def input_invalid(field: str, problem: str) -> MLOpsClientError:
    """An argument that nothing can be done with; `problem` says how to mend it."""
    return MLOpsClientError(f"{field}: {problem}", details={"reason": "INPUT_INVALID", "field": field})
