"""The libraries that the client stands on: which are there, without importing them."""

import os
from dataclasses import dataclass
from importlib import metadata

from mlops.client.errors import MLOpsClientError


@dataclass(frozen=True)
class Toolkit:
    """A library that is a component of the client, installed by the extra of the same name."""

    component: str
    directory: str  # Of the workspace, where its data is.
    no_telemetry: str | None = None  # The variable that, set to "true", stops it from telling of its use.

    @property
    def version(self) -> str | None:
        """Of what is installed; None if it is not. Read from package metadata: nothing is imported."""
        try:
            return metadata.version(self.component)
        except metadata.PackageNotFoundError:
            return None

    def require(self) -> None:
        """Raises MLOpsClientError TOOLKIT_MISSING unless it is installed. To be called before it is imported: turns its
        telemetry off, unless the user has set the variable.
        """
        if self.version is not None:
            if self.no_telemetry is not None:
                os.environ.setdefault(self.no_telemetry, "true")
            return
        extra = f"mlops-workspace[{self.component}]"
        raise MLOpsClientError(
            f"{self.component} is not installed; install it by: pip install '{extra}'",
            component=self.component,
            details={"reason": "TOOLKIT_MISSING", "extra": extra},
        )


MLFLOW = Toolkit("mlflow", "mlflow", "MLFLOW_DISABLE_TELEMETRY")
DVC = Toolkit("dvc", "dvc")
BENTOML = Toolkit("bentoml", "models")
EVIDENTLY = Toolkit("evidently", "monitoring")
TOOLKITS = (MLFLOW, DVC, BENTOML, EVIDENTLY)
