"""Completion in shells."""

import shutil
import subprocess
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest
from mlops.commands import main
from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, MLOPS, Run
from support.elsewhere import RemoteServer


@pytest.fixture(autouse=True)
def files(manager: WorkspaceManager) -> None:
    outputs = manager.get_workspace("fraud").outputs_path
    (outputs / "run").mkdir()
    (outputs / "a b").touch()
    (outputs / "$(reboot)").touch()
    manager.create_workspace("friday")
    template = manager.base_path / ".templates/images"
    template.mkdir(parents=True)
    (template / "template.yaml").write_text("metadata: {kind: images}\n")


def complete(mlops: Run, *words: str, shell: str = "zsh") -> list[str]:
    return mlops("__complete", shell, *words).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], ["trash"]),
        (["trash", ""], ["ls", "restore", "purge"]),
        (["show", "fr"], ["fraud", "friday"]),
        (["--base", "mlops/workspace", "show", "fra"], ["fraud"]),
        (["--base", "elsewhere", "show", "fra"], []),
        (["cp", "fr"], ["fraud:", "friday:"]),
        (["cat", "fraud:m"], ["fraud:mlflow/", "fraud:monitoring/", "fraud:models/"]),
        (["cat", "fraud:outputs/r"], ["fraud:outputs/run/"]),
        (["cat", "fraud:outputs/../../x"], []),
        (["help", "fil"], ["filters"]),
        (["completion", "z"], ["zsh"]),
        (["ls", "-o", "j"], ["json"]),
        (["create", "new", "--template", "im"], ["images"]),
        (["drift", "fra"], ["fraud"]),
        (["events", "--cursor", ""], []),
        (["rm", "--perm"], ["--permanent"]),
        (["trash", "purge", "--al"], ["--all"]),
    ],
)
def test_completes(words: list[str], expected: list[str], mlops: Run) -> None:
    assert complete(mlops, *words) == expected


def test_completes_what_the_server_knows(
    mlops: Run, manager: WorkspaceManager, remote: RemoteServer
) -> None:
    manager.delete_workspace("friday", force=True)
    assert complete(mlops, "trash", "restore", "") == ["friday"]
    with WorkspaceManager(address=remote.tcp) as there:
        there.create_workspace("elsewhere")
        there.create_workspace("other")
    (remote.base / "elsewhere/outputs/run").mkdir()
    template = remote.base / ".templates/images"
    template.mkdir(parents=True)
    (template / "template.yaml").write_text("metadata: {kind: images}\n")
    mlops("context", "set", "team", "--address", remote.tcp)
    assert complete(mlops, "--context", "t") == ["team"]
    made = complete(mlops, "--context", "team", "create", "new", "--template", "")
    assert made == ["images"]
    where = ["--context", "team"]
    assert complete(mlops, *where, "show", "else") == ["elsewhere"]
    found = complete(mlops, *where, "cat", "elsewhere:outputs/")
    assert found == ["elsewhere:outputs/run/"]


def test_a_failure_completes_nothing(mlops: Run) -> None:
    result = mlops("__complete", "zsh", "--address", "127.0.0.1:1", "show", "x")
    assert (result.stdout, result.stderr) == ("", "")


def test_bash_gets_the_rest_of_the_word_with_escapes(mlops: Run) -> None:
    assert complete(mlops, "mlops cat fraud:outputs/", shell="bash") == [
        "outputs/\\$\\(reboot\\)",
        "outputs/a\\ b",
        "outputs/run/",
    ]
    assert complete(mlops, "mlops cat 'fraud:outputs/r", shell="bash") == [
        "outputs/run/"
    ]
    assert complete(mlops, "mlops ", shell="bash")[0] == "ls"


def test_the_script_works_in_bash(mlops: Run, directory: Path) -> None:
    code = (
        f"PATH={MLOPS.parent}:$PATH; source <(mlops completion bash); "
        "COMP_LINE='mlops show fr'; COMP_POINT=13; _mlops 2>/dev/null; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    result = subprocess.run(
        ["bash", "-c", code], cwd=directory, capture_output=True, text=True
    )
    assert result.stdout == "fraud\nfriday\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_valid(shell: str, mlops: Run) -> None:
    script = mlops("completion", shell).stdout
    assert "__complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
    assert mlops("completion", "csh").returncode == 2


def test_the_tables_name_every_command() -> None:
    def commands(module: str) -> Iterable[str]:
        return import_module(f"mlops.commands.{module}").COMMANDS

    for name, module in main.MODULES.items():
        if name in main.GROUPS:
            assert tuple(commands(module)) == main.GROUPS[name]
        else:
            assert name in commands(module)
    assert COMMAND
