"""One client for a project's MLflow, DVC, BentoML and Evidently."""

from mlops._toolkits.errors import MLOpsClientError
from mlops.client.mlops_client import MLOpsClient, create_client

__all__ = ["MLOpsClient", "MLOpsClientError", "create_client"]
