"""The four libraries that the client uses, detected without importing them."""

import os
from dataclasses import dataclass
from importlib import metadata

from mlops._toolkits.errors import MLOpsClientError


@dataclass(frozen=True)
class Toolkit:
    """A library that is a component of the client.

    The extra of the same name installs it.
    """

    component: str
    directory: str  # The workspace's directory for its data.
    counts: tuple[str, ...]  # The counts that its adapter returns.
    # The variable that turns off the library's telemetry when set to "true".
    no_telemetry: str | None = None

    @property
    def version(self) -> str | None:
        """The installed version, or None.

        Read from the package metadata, without importing the library.
        """
        return _version(self.component)

    def require(self) -> None:
        """Check that the library is installed. Call this before importing it.

        Turns off the library's telemetry, unless the user has set the variable.

        Raises:
            MLOpsClientError: TOOLKIT_MISSING if it is not installed.
        """
        _require(self.component, self.component, extra=self.component)
        if self.no_telemetry is not None:
            os.environ.setdefault(self.no_telemetry, "true")


def require_fsspec(component: str) -> None:
    """Check that fsspec is installed, which `component` needs.

    Raises:
        MLOpsClientError: TOOLKIT_MISSING if it is not installed.
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
