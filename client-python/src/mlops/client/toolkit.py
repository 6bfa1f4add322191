"""The libraries that the client stands on: which are there, without importing them."""

import os
from dataclasses import dataclass
from importlib import metadata

from mlops.client.errors import MLOpsClientError


@dataclass(frozen=True)
class Toolkit:
    """A library that is a component of the client, installed by the extra of the same
    name.
    """

    component: str
    directory: str  # Of the workspace, where its data is.
    counts: tuple[str, ...]  # What its adapter counts.
    # The variable that, set to "true", stops it from telling of its use.
    no_telemetry: str | None = None

    @property
    def version(self) -> str | None:
        """Of what is installed; None if it is not.

        Read from package metadata: nothing is imported.
        """
        return _version(self.component)

    def require(self) -> None:
        """Raises MLOpsClientError TOOLKIT_MISSING unless it is installed. To be called
        before it is imported: turns its telemetry off, unless the user has set the
        variable.
        """
        _require(self.component, self.component, extra=self.component)
        if self.no_telemetry is not None:
            os.environ.setdefault(self.no_telemetry, "true")


def require_fsspec(component: str) -> None:
    """Raises MLOpsClientError TOOLKIT_MISSING, of the `component` that needs it, unless
    fsspec is installed.
    """
    _require("fsspec", component, extra="fs")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _require(package: str, component: str, extra: str) -> None:
    if _version(package) is None:
        extra = f"mlops-workspace[{extra}]"
        raise MLOpsClientError(
            f"{package} is not installed; install it by: pip install '{extra}'",
            component=component,
            details={"reason": "TOOLKIT_MISSING", "extra": extra},
        )


MLFLOW = Toolkit("mlflow", "mlflow", ("runs",), "MLFLOW_DISABLE_TELEMETRY")
DVC = Toolkit("dvc", "dvc", ("tracked",))
BENTOML = Toolkit("bentoml", "models", ("models", "bentos"))
EVIDENTLY = Toolkit("evidently", "monitoring", ("reports",))
TOOLKITS = (MLFLOW, DVC, BENTOML, EVIDENTLY)
