"""MLOpsClient with all toolkits installed.

It imports no toolkit before it needs one, and reading a status creates nothing.
"""

import json
from importlib import metadata

from mlops.client import MLOpsClient

from python.conftest import Script

_TOOLKITS = ("mlflow", "dvc", "bentoml", "evidently")
_COUNTS = {"runs", "tracked", "models", "reports"}
_LIGHT = """
import sys, json
from mlops.client import MLOpsClient
client = MLOpsClient.from_project("fraud")
status = client.get_status()
print(json.dumps([sorted(sys.modules), status["components"]]))
"""


def test_opening_a_project_and_its_status_import_no_toolkit(script: Script) -> None:
    modules, components = json.loads(script(_LIGHT).stdout)
    assert not {*_TOOLKITS, "pandas", "numpy", "sklearn"} & set(modules)
    assert {name: component["version"] for name, component in components.items()} == {
        name: metadata.version(name) for name in _TOOLKITS
    }
    assert all(component["installed"] for component in components.values())


def test_a_deep_status_makes_nothing(client: MLOpsClient) -> None:
    components = client.get_status(deep=True)["components"]
    counts = {
        key: component[key]
        for component in components.values()
        for key in component.keys() & _COUNTS
    }
    assert counts == dict.fromkeys(_COUNTS, 0)
    assert client.get_status()["workspace"]["file_count"] == 0


def test_a_deep_status_counts(client: MLOpsClient) -> None:
    for _ in range(2):
        with client.start_run():
            pass
    components = client.get_status(deep=True)["components"]
    assert components["mlflow"]["runs"] == 2
    assert (
        components["mlflow"]["bytes"]
        == (client.workspace.mlflow_path / "mlflow.db").stat().st_size
    )
