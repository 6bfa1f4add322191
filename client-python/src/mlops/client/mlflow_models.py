"""Saves models of other libraries as MLflow models."""

import inspect
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mlops._toolkits.errors import input_invalid

_REGISTER_WITHIN_S = 60
_log = logging.getLogger(__name__)
# The class that identifies each flavor, a module of mlflow. Class names, so that a
# library is imported only if the model has already imported it.
_FLAVORS = {
    "mlflow.pyfunc.model.PythonModel": "pyfunc",
    "sklearn.base.BaseEstimator": "sklearn",
    "xgboost.core.Booster": "xgboost",
    "xgboost.sklearn.XGBModel": "xgboost",
    "lightgbm.basic.Booster": "lightgbm",
    "lightgbm.sklearn.LGBMModel": "lightgbm",
    "torch.nn.modules.module.Module": "pytorch",
}


def flavor_of(model: object) -> str:
    """Return the name of the model's flavor.

    The nearest base class decides, because XGBoost's models are also scikit-learn's.

    Raises:
        MLOpsClientError: INPUT_INVALID if no flavor fits.
    """
    for kind in type(model).__mro__:
        if flavor := _FLAVORS.get(f"{kind.__module__}.{kind.__qualname__}"):
            return flavor
    known = ", ".join(dict.fromkeys(_FLAVORS.values()))
    kind = type(model)
    raise input_invalid(
        "model",
        f"is a {kind.__module__}.{kind.__qualname__}, no model of {known}; "
        "wrap it in a mlflow.pyfunc.PythonModel",
    )


def log_model(
    client: MlflowClient,
    run: Run,
    model: object,
    name: str,
    tags: Mapping[str, str],
    registered_name: str | None,
) -> LoggedModel:
    """Save a model as an output of a run.

    With `registered_name`, also registers it as a version of that model. Does the same
    as mlflow.<flavor>.log_model(), but in the store of `client` instead of the
    process-wide store. If it fails, removes what it created, best effort.
    """
    flavor = flavor_of(model)
    with ExitStack() as undo, tempfile.TemporaryDirectory() as directory:
        if registered_name is not None and _register(client, registered_name):
            undo.callback(_try, client.delete_registered_model, registered_name)
        run_id, experiment_id = run.info.run_id, run.info.experiment_id
        logged = client.create_logged_model(
            experiment_id, name, run_id, dict(tags), run.data.params
        )
        undo.callback(_try, client.delete_logged_model, logged.model_id)
        path = Path(directory) / "model"
        description = Model(
            logged.artifact_location,
            run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        )
        _save(flavor, model, path, description)
        client.log_model_artifacts(logged.model_id, str(path))
        logged = client.finalize_logged_model(logged.model_id, "READY")
        if registered_name is not None:
            # Pass the location, not a models:/… URI, which a local registry would look
            # up in the process-wide store.
            source = logged.artifact_location
            made = client.create_model_version(
                registered_name,
                source,
                run_id,
                await_creation_for=_REGISTER_WITHIN_S,
                model_id=logged.model_id,
            )
            undo.callback(
                _try, client.delete_model_version, registered_name, made.version
            )
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        # Everything succeeded, so keep it.
        undo.pop_all()
    return logged


def _try(undo: Callable[..., object], *args: object) -> None:
    """Call `undo`; log a failure, so that the caller sees the original exception."""
    try:
        undo(*args)
    except MlflowException as error:
        _log.warning("Part of a model that could not be logged remains: %s", error)


def _register(client: MlflowClient, name: str) -> bool:
    """Create the registered model if missing; return whether it was created."""
    try:
        client.create_registered_model(name)
        return True
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False


def _save(flavor: str, model: object, path: Path, description: Model) -> None:
    save = import_module(f"mlflow.{flavor}").save_model
    if flavor == "pyfunc":
        save(path, python_model=model, mlflow_model=description)
    else:
        options = {"sklearn": _sklearn_options, "pytorch": _pytorch_options}.get(
            flavor, _no_options
        )(model)
        known = inspect.signature(save).parameters
        save(
            model,
            path,
            mlflow_model=description,
            **{key: options[key] for key in options if key in known},
        )
    # MLflow loads the model to infer its requirements, which leaves caches.
    for cache in path.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)


def _no_options(model: object) -> dict[str, Any]:
    return {}


def _sklearn_options(model: object) -> dict[str, Any]:
    """Return options for MLflow's format skops, or for cloudpickle.

    skops loads only types that are known or listed as trusted. The model comes from the
    caller, so its types are listed. skops cannot load functions and classes that the
    script itself defines. For these, use cloudpickle, as MLflow advises.
    """
    try:
        from skops import io

        with tempfile.NamedTemporaryFile(suffix=".skops") as file:
            io.dump(model, file.name)
            types = io.get_untrusted_types(file=file.name)
            if any(name.partition(".")[0] == "__main__" for name in types):
                return {"serialization_format": "cloudpickle"}
            io.load(file.name, trusted=types)
    except Exception:
        return {"serialization_format": "cloudpickle"}
    return {"skops_trusted_types": types}


def _pytorch_options(model: object) -> dict[str, Any]:
    """Return the option for pickle; the other format needs an example of the input."""
    return {"serialization_format": "pickle"}
