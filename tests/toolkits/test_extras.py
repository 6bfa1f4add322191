"""What `pip install 'mlops-workspace[all]'` installs."""

import importlib
from importlib import metadata

import pytest


@pytest.mark.parametrize("library", ["mlflow", "dvc", "bentoml", "evidently"])
def test_each_toolkit_can_be_imported_beside_the_others(library: str) -> None:
    assert library in metadata.metadata("mlops-workspace").get_all("Provides-Extra", [])
    importlib.import_module(library)


def test_the_extra_of_files_is_there() -> None:
    assert "fs" in metadata.metadata("mlops-workspace").get_all("Provides-Extra", [])
    (entry,) = metadata.entry_points(group="fsspec.specs", name="workspace")
    assert entry.load().protocol == "workspace"
