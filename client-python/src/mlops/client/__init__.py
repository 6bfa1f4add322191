"""One client for the toolkits of a project:

MLflow, DVC, BentoML and Evidently, each inside the project's workspace.
"""

from mlops.client.errors import MLOpsClientError
from mlops.client.mlops_client import MLOpsClient, create_client

__all__ = ["MLOpsClient", "MLOpsClientError", "create_client"]
