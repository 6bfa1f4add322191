"""Commands on records: ls, show, create, ensure, set, edit, rm and trash."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlops.workspace import WorkspaceError, WorkspaceManager

from python.commands.conftest import Run, Terminal


def test_ls_shows_a_table_and_filters(mlops: Run, manager: WorkspaceManager) -> None:
    manager.create_workspace("churn")
    result = mlops("ls")
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "NAME",
        "churn",
        "fraud",
    ]
    assert mlops("ls", "-o", "name", "metadata.runs", ">", "3").stdout == "fraud\n"
    assert mlops("ls", "--no-headers", "churn").stdout.split()[0] == "churn"
    assert mlops("ls", "-oname", "--sort", "created").stdout == "churn\nfraud\n"


def test_ls_prints_documents(mlops: Run, manager: WorkspaceManager) -> None:
    expected = manager.get_workspace("fraud").to_dict()
    for kind, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        (row,) = load(mlops("ls", "-o", kind).stdout)
        assert expected.items() <= row.items()
        assert row["etag"] == manager.get_workspace("fraud").etag


def test_ls_of_changes_since(mlops: Run, manager: WorkspaceManager) -> None:
    assert mlops("ls", "--since", "today", "-o", "name").stdout == "fraud\n"
    assert mlops("ls", "fraud", "OR", "x", "--since", "2h", "-o", "name").stdout
    later = mlops("ls", "--since", "2999-01-01", "-o", "name")
    assert (later.stdout, later.stderr) == ("", "No project matches.\n")
    assert mlops("ls", "--since", "soon").returncode == 2


def test_an_empty_list_is_no_failure(mlops: Run) -> None:
    result = mlops("ls")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "There are no projects.\n"
    assert json.loads(mlops("ls", "-q", "-o", "json").stdout) == []


def test_create_show_and_set(mlops: Run, manager: WorkspaceManager) -> None:
    made = mlops("create", "churn", "--set", "runs=3", "--set", "stage=test")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "Created churn.\n")
    assert mlops("create", "churn").returncode == 5
    assert mlops("ensure", "churn", "-o", "name").stdout == "churn\n"
    changed = mlops("set", "churn", "runs=4", 'v="3"', "--remove", "stage", "-q")
    assert (changed.stdout, changed.stderr) == ("", "")
    assert manager.get_workspace("churn").metadata == {"runs": 4, "v": "3"}
    mlops("set", "churn", "mlflow_experiment_id=17", "metadata.a=x=y")
    churn = manager.get_workspace("churn")
    assert churn.mlflow_experiment_id == "17"
    assert churn.metadata["a"] == "x=y"
    shown = mlops("show", "churn").stdout
    assert "mlflow_experiment_id:" in shown


@pytest.mark.parametrize(
    "arguments", [["novalue"], ["=x"], ["a.b=1"], [], ["--remove", "a.b"]]
)
def test_set_refuses_malformed_words(
    arguments: list[str], mlops: Run, manager: WorkspaceManager
) -> None:
    assert mlops("set", "fraud", *arguments).returncode == 2


def test_set_with_an_old_etag_is_a_conflict(
    mlops: Run, manager: WorkspaceManager
) -> None:
    etag = manager.get_workspace("fraud").etag
    assert mlops("set", "fraud", "a=1", "--if-match", etag).returncode == 0
    assert mlops("set", "fraud", "a=2", "--if-match", etag).returncode == 5
    assert manager.get_workspace("fraud").metadata["a"] == 1


def test_edit_stores_what_the_editor_wrote(
    mlops: Run, manager: WorkspaceManager
) -> None:
    result = mlops("edit", "fraud", EDITOR="sed -i -e s/production/test/ -e /runs/d")
    assert result.returncode == 0, result.stderr
    assert manager.get_workspace("fraud").metadata == {"stage": "test"}
    unchanged = mlops("edit", "fraud", EDITOR="true")
    assert unchanged.stderr == "Nothing changed.\n"
    assert mlops("edit", "fraud", EDITOR="false").returncode == 1


def test_edit_keeps_the_text_that_cannot_be_stored(
    mlops: Run, manager: WorkspaceManager, directory: Path
) -> None:
    # Another change, made while the editor is open, is not overwritten.
    editor = directory / "editor"
    editor.write_text(
        "#!/bin/sh\n"
        f"cd {directory} && PATH=/usr/bin:/bin\n"
        "sed -i s/production/mine/ $1\n"
        "sed -i s/production/theirs/ mlops/workspace/fraud/workspace.yaml\n"
    )
    editor.chmod(0o755)
    result = mlops("edit", "fraud", EDITOR=str(editor))
    assert result.returncode == 5
    assert manager.get_workspace("fraud").metadata["stage"] == "theirs"
    kept = Path(result.stderr.splitlines()[0].removesuffix(".").split()[-1])
    assert "stage: mine" in kept.read_text()
    kept.unlink()
    broken = mlops("edit", "fraud", EDITOR="sed -i s/metadata:/metadata/")
    assert broken.returncode == 2
    assert "is not YAML" in broken.stderr


def test_edit_without_terminal_or_editor(mlops: Run, manager: WorkspaceManager) -> None:
    result = mlops("edit", "fraud", EDITOR="", VISUAL="")
    assert result.returncode == 2
    assert "no terminal" in result.stderr


def test_rm_and_the_trash(mlops: Run, manager: WorkspaceManager) -> None:
    (manager.get_workspace("fraud").outputs_path / "x").write_text("12345")
    preview = mlops("rm", "fraud", "--dry-run", "-o", "json")
    assert json.loads(preview.stdout)[0]["file_count"] == 2
    asked = mlops("rm", "fraud")
    assert asked.returncode == 2
    assert "give --yes" in asked.stderr
    assert manager.get_workspace("fraud")
    assert mlops("rm", "fraud", "--yes").returncode == 0
    assert mlops("trash", "ls", "-o", "name").stdout == "fraud\n"
    assert mlops("rm", "fraud", "--yes").returncode == 3
    assert mlops("trash", "restore", "fraud").stderr == "Restored fraud.\n"
    assert mlops("trash", "restore", "fraud").returncode == 3
    assert mlops("rm", "fraud", "--yes", "--permanent").returncode == 0
    assert mlops("trash", "ls").stderr == "The trash is empty.\n"


def test_rm_deletes_all_or_nothing_of_what_is_named(
    mlops: Run, manager: WorkspaceManager
) -> None:
    assert mlops("rm", "fraud", "nope", "--yes").returncode == 3
    assert manager.get_workspace("fraud")


def test_purge_removes_only_what_it_names(
    mlops: Run, manager: WorkspaceManager
) -> None:
    for name in ("a", "b", "a"):
        manager.create_workspace(name)
        manager.delete_workspace(name, force=True)
    assert mlops("trash", "purge").returncode == 2
    assert mlops("trash", "purge", "c", "--yes").returncode == 3
    uids = [row["uid"] for row in json.loads(mlops("trash", "ls", "-ojson").stdout)]
    mlops("trash", "purge", "a", "--uid", uids[0], "--yes")
    left = json.loads(mlops("trash", "ls", "-o", "json").stdout)
    assert [row["uid"] for row in left] == uids[1:]
    assert mlops("trash", "purge", "--all", "--yes").returncode == 0
    assert mlops("trash", "ls", "-o", "name").stdout == ""


@pytest.mark.parametrize(("typed", "code"), [("fraud", 0), ("frau", 1), ("", 1)])
def test_rm_asks_for_the_name_at_a_terminal(
    typed: str,
    code: int,
    manager: WorkspaceManager,
    terminal: Callable[..., Terminal],
) -> None:
    screen = terminal("rm", "fraud")
    screen.wait_for("Type fraud to confirm: ")
    screen.type(f"{typed}\n")
    assert screen.code() == code
    try:
        manager.get_workspace("fraud")
        assert code
    except WorkspaceError:
        assert not code


def test_a_signal_to_another_thread_ends_the_question() -> None:
    code = (
        "import signal, threading, time\n"
        "from mlops.commands.asking import confirm\n"
        "def interrupt():\n"
        "    time.sleep(1)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt).start()\n"
        "confirm(['fraud'], yes=False)\n"
    )
    main, inner = pty.openpty()
    result = subprocess.run(
        [sys.executable, "-c", code], stdin=inner, stderr=inner, timeout=60
    )
    assert result.returncode == -signal.SIGINT
    os.close(main)
    os.close(inner)


def test_ctrl_c_at_the_question_deletes_nothing(
    manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("rm", "fraud")
    screen.wait_for("confirm: ")
    screen.type("\x03")
    assert screen.code() == 130
    assert manager.get_workspace("fraud")
