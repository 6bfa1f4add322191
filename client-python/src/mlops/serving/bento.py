"""Builds bentos that serve a stored model.

All bentos use the same service, bento_service.py, which is copied into each.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mlops._toolkits.errors import MLOpsClientError, input_invalid

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib")
_PICKLE_PACKAGES = ("scikit-learn", "joblib", "numpy", "pandas")
_BUILD = "import bentoml, json, sys; bentoml.build(**json.loads(sys.argv[1]))"
_BUILD_S = 300


@dataclass(frozen=True)
class Servable:
    """How the service loads a model, and the packages that a container needs for it."""

    # The file's name within the model; None for an MLflow model.
    pickle: str | None
    requirements: list[str]


def find_servable(model: Path) -> Servable:
    """Return how the service can load the model, judging by its file names.

    Loads nothing.

    Raises:
        MLOpsClientError: INPUT_INVALID if the service cannot load such a model.
    """
    if (model / "MLmodel").is_file():
        return Servable(None, _listed(model / "requirements.txt") or _pinned("mlflow"))
    files = (
        [model]
        if model.is_file()
        else sorted(path for path in model.glob("*") if path.is_file())
    )
    pickles = [file.name for file in files if file.suffix in _PICKLE_SUFFIXES]
    if len(pickles) == 1:
        return Servable(pickles[0], _pinned(*_PICKLE_PACKAGES))
    raise input_invalid(
        "model_path",
        "a bento can serve the directory of an MLflow model, "
        "or a model with a predict method in one file "
        f"({', '.join(_PICKLE_SUFFIXES)}), alone or in a directory; "
        f"{model} is neither. Deploy it without build_bento, "
        "and build a bento with a service of your own",
    )


def build(servable: Servable, name: str, version: str, home: Path) -> None:
    """Build the bento `name`:`version` of the model of the same tag in `home`.

    `home` is a BENTOML_HOME. The build uses no network. It runs in another process,
    because BentoML's locations of models and bentos are global to a process.

    Raises:
        MLOpsClientError: TOOLKIT_FAILED, with the end of BentoML's output.
    """
    # BentoML builds from the working directory, so create one with only these files.
    context, temporary = home / "context", home / "temporary"
    context.mkdir()
    temporary.mkdir()
    (context / "service.py").write_bytes(
        Path(__file__).with_name("bento_service.py").read_bytes()
    )
    (context / "model.json").write_text(json.dumps({"pickle": servable.pickle}))
    options = {
        "service": "service:ModelService",
        "name": name,
        "version": version,
        "models": [{"tag": f"{name}:{version}", "alias": "model"}],
        "include": ["service.py", "model.json"],
        # Locking the packages would contact the package index.
        "python": {"packages": servable.requirements, "lock_packages": False},
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _BUILD, json.dumps(options)],
            cwd=context,
            env={**os.environ, "BENTOML_HOME": str(home), "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_BUILD_S,
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"it did not end within {_BUILD_S} s") from None
    if done.returncode != 0:
        raise _failed(done.stdout.strip()[-2000:])


def _failed(problem: str) -> MLOpsClientError:
    return MLOpsClientError(
        f"The bento cannot be built: {problem}", details={"reason": "TOOLKIT_FAILED"}
    )


def _listed(file: Path) -> list[str]:
    """Return the packages without options such as `-c constraints.txt`.

    The files that such options name do not exist in a container.
    """
    lines = file.read_text().splitlines() if file.is_file() else []
    return [
        line
        for line in map(str.strip, lines)
        if line and not line.startswith(("#", "-"))
    ]


def _pinned(*packages: str) -> list[str]:
    """Return the installed packages among these, pinned to their versions."""
    pinned = []
    for package in packages:
        try:
            pinned.append(f"{package}=={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return pinned
