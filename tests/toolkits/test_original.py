"""Runs the code blocks of the original README with the real libraries.

Each runs as a script in a new directory.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from readme.blocks import Block, read_blocks

_BLOCKS = {
    block.name: block
    for block in read_blocks((Path(__file__).parent / "original/blocks.md").read_text())
}
_IMPORT = "from mlops.client import MLOpsClient\n"
_FRAMES = """
import pandas as pd
reference_df = pd.DataFrame({"amount": range(200), \
"age": [20 + i % 50 for i in range(200)]})
current_df = pd.DataFrame({"amount": range(1000, 1200), \
"age": [20 + i % 50 for i in range(200)]})
"""
# For each block, the code that its README takes for granted and checks that run after
# it.
_CASES = {
    "integration-with-mlopsclient": (
        "",
        """
import sys
assert client.workspace.mlflow_path.is_dir()
assert status["workspace"]["project_name"] == "lora-finetuning-mlx"
assert not {"mlflow", "dvc", "bentoml", "evidently", "pandas"} & sys.modules.keys()
""",
    ),
    "with-mlflow": (
        _IMPORT + "open('model.pth', 'w').write('weights')\n",
        """
from mlflow import MlflowClient
[run] = MlflowClient(client.workspace.mlflow_tracking_uri).search_runs(\
[client.workspace.mlflow_experiment_id])
assert (run.info.run_name, run.info.status) == ("experiment-001", "FINISHED")
assert (run.data.params, run.data.metrics) == ({"lr": "0.001"}, {"loss": 0.5})
[artifact] = client.workspace.mlflow_path.rglob("model.pth")
assert artifact.read_text() == "weights"
""",
    ),
    "with-dvc": (
        _IMPORT + "import os\nos.mkdir('datasets')\n"
        "open('datasets/train.csv', 'w').write('a,b')\n",
        """
assert (client.workspace.dvc_path / "datasets/train.csv").read_text() == "a,b"
assert (client.workspace.dvc_path / "datasets/train.csv.dvc").is_file()
from pathlib import Path
assert any(file.is_file() for file in Path(client.workspace.dvc_remote_path).rglob("*"))
""",
    ),
    "with-bentoml": (
        _IMPORT + "import os\nos.makedirs('outputs/model')\n"
        "open('outputs/model/weights.bin', 'w').write('w')\n",
        """
assert result["success"] is True
assert result["tag"] == "lora-finetuning-mlx:lora_adapter:v1.0"
[weights] = client.workspace.models_path.rglob("weights.bin")
""",
    ),
    "with-evidently": (
        _IMPORT + _FRAMES,
        """
assert any(client.workspace.monitoring_path.rglob("*.html"))
""",
    ),
}


def test_every_block_has_a_case() -> None:
    assert _CASES.keys() == _BLOCKS.keys()


@pytest.mark.parametrize("block", _BLOCKS.values(), ids=lambda block: block.name)
def test_block_runs_word_for_word(block: Block, directory: Path) -> None:
    before, after = _CASES[block.name]
    (directory / "script.py").write_text(before + block.code + after)
    result = subprocess.run(
        [sys.executable, "script.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    made = {path.name for path in directory.iterdir()}
    assert made <= {"script.py", "mlops", "model.pth", "datasets", "outputs"}, (
        "the block created files outside of its workspace"
    )
