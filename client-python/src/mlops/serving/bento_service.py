"""The service in a bento of a stored model.

Copied into the bento as service.py, so it imports nothing of this package.
"""

import json
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from bentoml.exceptions import InvalidArgument


@bentoml.service
class ModelService:
    """Serves a model that has a predict method, or an MLflow model."""

    def __init__(self) -> None:
        """Load the model that the bento was built with."""
        directory = Path(bentoml.models.get("model").path)
        pickle = json.loads(Path(__file__).with_name("model.json").read_text())[
            "pickle"
        ]
        if pickle is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            import mlflow.pyfunc

            self._model: Any = mlflow.pyfunc.load_model(str(directory))
            # Rows that are lists get column names only if the signature has names.
            schema = self._model.metadata.get_input_schema()
            self._columns = (
                schema.input_names()
                if schema is not None and schema.has_input_names()
                else None
            )
        else:
            # joblib also reads files that pickle wrote.
            import joblib

            self._model = joblib.load(directory / pickle)
            self._columns = getattr(self._model, "feature_names_in_", None)
        if not hasattr(self._model, "predict"):
            raise TypeError(
                f"{pickle} holds a {type(self._model).__name__}, "
                "which has no predict method"
            )

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, data: list[Any]) -> list[Any]:
        """Return the prediction for each row of `data`.

        A row is a list of values, or an object with values by column name.
        """
        try:
            predictions = self._model.predict(self._table(data))
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidArgument(str(error)) from error
        return list(np.asarray(predictions).tolist())

    def _table(self, data: list[Any]) -> Any:
        named = bool(data) and isinstance(data[0], dict)
        if not named and self._columns is None:
            return np.asarray(data)
        import pandas as pd

        return (
            pd.DataFrame(data) if named else pd.DataFrame(data, columns=self._columns)
        )
