"""What `pip install 'mlops-workspace[all]'` gave."""

import importlib
from importlib import metadata

import pytest


@pytest.mark.parametrize("library", ["mlflow", "dvc", "bentoml", "evidently"])
def test_each_toolkit_can_be_imported_beside_the_others(library: str) -> None:
    assert library in metadata.metadata("mlops-workspace").get_all("Provides-Extra", [])
    importlib.import_module(library)
