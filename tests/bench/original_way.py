"""Measures the original's operations: directories and PyYAML, one process, no fsync.

The figures only show the scale.

Usage: original_way.py DIR COUNT ROUNDS. Fills DIR and prints one JSON object per line,
with the operations per second.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import yaml

DIRECTORIES = ("mlflow", "dvc", "monitoring", "models", "outputs")


def create(base: Path, number: int) -> None:
    root = base / f"project-{number:06}"
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    now = datetime.now(UTC).isoformat()
    record = {
        "project_name": root.name,
        "root_path": str(root),
        "mlflow_experiment_id": None,
        "mlflow_tracking_uri": f"sqlite:///{root}/mlflow/mlflow.db",
        "dvc_remote_path": f"{root}/dvc/remote",
        "bentoml_tag_prefix": f"{root.name}:",
        "metadata": {
            "team": "risk",
            "stage": "production",
            "epoch": number,
            "tags": ["fraud", "daily"],
        },
        "created_at": now,
        "updated_at": now,
    }
    save(root, record)


def save(root: Path, record: dict[str, object]) -> None:
    with (root / "workspace.yaml").open("w") as file:
        yaml.safe_dump(record, file, sort_keys=False)


def get(base: Path, number: int) -> dict[str, object]:
    return load(base / f"project-{number:06}")


def load(root: Path) -> dict[str, object]:
    with (root / "workspace.yaml").open() as file:
        return yaml.safe_load(file)


def update(base: Path, number: int) -> None:
    record = get(base, number)
    record["metadata"]["epoch"] += 1
    save(base / f"project-{number:06}", record)


def list_all(base: Path) -> list[dict[str, object]]:
    return [load(path) for path in base.iterdir() if (path / "workspace.yaml").exists()]


def measure(what: str, count: int, work: Callable[[int], object]) -> None:
    start = time.perf_counter()
    for number in range(count):
        work(number)
    print(
        json.dumps(
            {"method": what, "per_second": count / (time.perf_counter() - start)}
        )
    )


def main() -> None:
    base, count, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for number in range(rounds):
        below = base / f"round-{number}"
        measure("create", count, lambda i, below=below: create(below, i))
        measure("get", count, lambda i, below=below: get(below, i))
        measure("update", count, lambda i, below=below: update(below, i))
        measure(f"list of {count}", 1, lambda _, below=below: list_all(below))


if __name__ == "__main__":
    main()
