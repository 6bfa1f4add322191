"""Runs the quickstart example as a new user would."""

import os
import re
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

EXAMPLE = Path(__file__).parents[2] / "client-python" / "examples" / "quickstart.py"


def run_example(directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        cwd=directory,
        env={**os.environ, "HOME": str(directory / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def logged_drift(database: Path) -> dict[str, float]:
    """Returns the metrics of the last run."""
    client = MlflowClient(f"sqlite:///{database}")
    [experiment] = client.search_experiments(filter_string="name = 'wine-quickstart'")
    metrics: dict[str, float] = client.search_runs([experiment.experiment_id])[
        0
    ].data.metrics
    return metrics


def test_the_quickstart_runs(directory: Path) -> None:
    printed = run_example(directory)
    assert re.search(r"^data:   wine.csv, version [0-9a-f]{32}$", printed, re.M)
    assert re.search(r"^run:    accuracy (0\.9\d+|1\.000), model runs:/", printed, re.M)
    assert re.search(r"^model:  wine-quickstart:wine_classifier:\w{16}$", printed, re.M)
    assert re.search(r"^drift:  stronger: alcohol, proline$", printed, re.M)
    assert "status: 2 runs, 1 tracked files, 1 models, 2 reports\n" in printed
    assert (
        logged_drift(directory / "mlops/workspace/wine-quickstart/mlflow/mlflow.db")[
            "drift_score.alcohol"
        ]
        < 0.05
    )
    [report] = re.findall(r"^report: (.*)$", printed, re.M)
    assert Path(report).is_relative_to(
        directory / "mlops/workspace/wine-quickstart/monitoring"
    )
    assert not (directory / "home").exists()
