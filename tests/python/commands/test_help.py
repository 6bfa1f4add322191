"""Help texts, and the examples in them, which all run."""

import os
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from mlops.commands import main, topics
from mlops.commands.texts import examples_of
from mlops.workspace import WorkspaceManager

from python.commands.conftest import MLOPS, Run
from readme.blocks import read_blocks
from support.server import REPO

# Those of the toolkits run in tests/toolkits.
_TOOLKITS = ("runs", "compare", "models", "data", "drift")
# Those that serve until Ctrl-C run in tests/dashboard.
_SERVING = ("dashboard",)


def commands() -> dict[str, list[str]]:
    """Returns the examples of each command."""
    found = {}
    for name, module in main.MODULES.items():
        for inner, command in import_module(
            f"mlops.commands.{module}"
        ).COMMANDS.items():
            if name in main.GROUPS:
                found[f"{name} {inner}"] = examples_of(command)
            elif inner == name:
                found[name] = examples_of(command)
    return found


_EXAMPLES = commands()
# What runs before each example of a command.
_BEFORE = {
    "server start": ["server stop"],
    "context use": ["context set team --address a:1"],
    "context rm": ["context set team --address a:1"],
    "create": [],
}


@pytest.fixture
def project(manager: WorkspaceManager, directory: Path) -> None:
    """What the examples are about."""
    fraud = manager.get_workspace("fraud")
    (fraud.models_path / "net.pt").write_text("weights")
    (fraud.outputs_path / "run-1").mkdir()
    for name in ("log.txt", "old.txt", "run-1/a.txt"):
        (fraud.outputs_path / name).write_text(name)
    manager.create_workspace("churn")
    manager.create_workspace("saved")
    manager.export_workspace("saved", directory / "saved.tar")
    manager.delete_workspace("saved", force=True)
    template = manager.base_path / ".templates/images"
    template.mkdir(parents=True)
    (template / "template.yaml").write_text("metadata: {kind: images}\n")
    manager.create_workspace("old")
    manager.delete_workspace("old", force=True)
    (directory / "model.pt").write_text("weights")
    (directory / "reports").mkdir()
    (directory / "reports/r.html").write_text("<p>")


@pytest.mark.parametrize(
    "command", [c for c in _EXAMPLES if c not in _TOOLKITS + _SERVING]
)
def test_examples_run(command: str, mlops: Run, project: None) -> None:
    assert _EXAMPLES[command], "a command without an example"
    for example in _EXAMPLES[command]:
        for before in _BEFORE.get(command, ()):
            mlops(*before.split())
        words = shlex.split(example)
        assert words[0] == "mlops"
        result = mlops(*words[1:], EDITOR="sed -i s/production/test/")
        assert result.returncode == 0, f"{example}: {result.stderr}"


@pytest.mark.parametrize("command", _EXAMPLES)
def test_help_fits_and_shows_examples(command: str, mlops: Run) -> None:
    result = mlops(*command.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert all(f"  {example}\n" in result.stdout for example in _EXAMPLES[command])
    assert max(map(len, result.stdout.splitlines())) <= 88
    assert "\x1b" not in result.stdout


def test_help_lists_all_commands(mlops: Run) -> None:
    result = mlops("--help")
    assert all(f"\n  {name} " in result.stdout for name in main.MODULES)
    assert "--address" in result.stdout
    assert mlops().stdout == result.stdout == mlops("help").stdout
    assert mlops("trash").stdout == mlops("trash", "--help").stdout != ""


def test_help_on_topics(mlops: Run) -> None:
    for topic in topics.TOPICS:
        text = mlops("help", topic).stdout
        assert text
        assert max(map(len, text.splitlines())) <= 88
    assert mlops("help", "trash", "ls").stdout == mlops("trash", "ls", "-h").stdout
    assert mlops("help", "nothing").returncode == 2


def test_commands_in_topics_run(mlops: Run, project: None) -> None:
    for topic in topics.TOPICS:
        for line in topics.TOPICS[topic]().splitlines():
            if line.startswith("  mlops "):
                result = mlops(*shlex.split(line)[1:])
                assert result.returncode == 0, f"{line}: {result.stderr}"


def test_the_commands_in_the_readme_run(directory: Path) -> None:
    blocks = read_blocks((REPO / "client-python/README.md").read_text())
    (code,) = [block.code for block in blocks if block.name == "commands"]
    result = subprocess.run(
        ["sh", "-euc", code],
        cwd=directory,
        env={**os.environ, "PATH": f"{MLOPS.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (directory / "copy/model.pt").read_text() == "weights\n"


def test_each_filter_in_the_topic_is_accepted(
    mlops: Run, manager: WorkspaceManager
) -> None:
    lines = topics.TOPICS["filters"]().splitlines()[2:]
    for line in lines[: lines.index("")]:
        filter = line.strip().partition("  ")[0].strip()
        manager.list_workspaces(filter)
