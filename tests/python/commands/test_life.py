"""The commands clone, export, import, templates, lease and doctor."""

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, MLOPS, Run, Terminal, wait_until


@pytest.fixture(autouse=True)
def content(manager: WorkspaceManager) -> None:
    fraud = manager.get_workspace("fraud")
    (fraud.models_path / "net.pt").write_text("weights")
    (fraud.outputs_path / "log").write_text("log")


def test_clone(mlops: Run, manager: WorkspaceManager) -> None:
    assert mlops("clone", "fraud", "copy").stderr == "Cloned fraud as copy.\n"
    assert mlops("cat", "copy:models/net.pt").stdout == "weights"
    assert mlops("clone", "fraud", "copy").returncode == 5
    assert mlops("clone", "nope", "other").returncode == 3
    assert mlops("clone", "fraud", "x", "--only", "data").returncode == 2
    part = mlops("clone", "fraud", "part", "--only", "models", "-o", "name")
    assert part.stdout == "part\n"
    assert not list(manager.get_workspace("part").outputs_path.iterdir())


def test_export_and_import(
    mlops: Run, manager: WorkspaceManager, directory: Path
) -> None:
    assert mlops("export", "fraud").returncode == 0
    assert mlops("export", "fraud").returncode == 5
    assert mlops("export", "fraud", "--force", "--only", "models").returncode == 0
    with tarfile.open(directory / "fraud.tar") as archive:
        names = archive.getnames()
    assert any(name.endswith("models/net.pt") for name in names)
    assert not any(name.endswith("outputs/log") for name in names)
    assert mlops("import", "fraud.tar").returncode == 5
    assert mlops("import", "fraud.tar", "back").stderr == "Imported back.\n"
    assert mlops("cat", "back:models/net.pt").stdout == "weights"
    assert mlops("import", "none.tar").returncode == 3
    (directory / "broken.tar").write_bytes(b"x" * 2000)
    assert mlops("import", "broken.tar", "other").returncode == 2


def test_export_through_a_pipe(directory: Path, mlops: Run) -> None:
    script = '"$@" export fraud - | "$@" import - piped'
    subprocess.run(["sh", "-c", script, "sh", *COMMAND], cwd=directory, check=True)
    assert mlops("cat", "piped:outputs/log").stdout == "log"


def test_templates(mlops: Run, manager: WorkspaceManager) -> None:
    assert mlops("templates").stderr == "There are no templates.\n"
    template = manager.base_path / ".templates/images"
    template.mkdir(parents=True)
    (template / "template.yaml").write_text("metadata: {kind: images}\n")
    assert mlops("templates", "-o", "name").stdout == "images\n"
    made = mlops("create", "vision", "--template", "images", "--set", "a=1")
    assert made.returncode == 0, made.stderr
    assert manager.get_workspace("vision").metadata == {"kind": "images", "a": 1}
    assert mlops("create", "other", "--template", "none").returncode == 3
    words = mlops("__complete", "zsh", "create", "x", "--template", "im")
    assert words.stdout == "images\n"


def test_quotas(mlops: Run, manager: WorkspaceManager) -> None:
    mlops("set", "fraud", "max_size_bytes=1G", "max_file_count=5")
    shown = json.loads(mlops("show", "fraud", "-o", "json").stdout)
    assert (shown["max_size_bytes"], shown["max_file_count"]) == (1 << 30, 5)
    mlops("set", "fraud", "max_file_count=2")
    refused = mlops("cp", "-", "fraud:outputs/x", input="x")
    assert refused.returncode == 4, refused.stderr
    mlops("set", "fraud", "max_file_count=none")
    assert mlops("cp", "-", "fraud:outputs/x", input="x").returncode == 0
    assert mlops("set", "fraud", "max_file_count=many").returncode == 2


def test_lease_run(mlops: Run, manager: WorkspaceManager, directory: Path) -> None:
    shell = ["lease", "run", "fraud", "--holder", "me", "--", "sh", "-c"]
    result = mlops(*shell, "echo $MLOPS_LEASE_HOLDER; exit 7")
    assert (result.returncode, result.stdout) == (7, "me\n")
    inner = " ".join(COMMAND)
    # Without the variables, a command is any other client.
    refused = mlops(*shell, f"env -u MLOPS_LEASE_PROJECT {inner} set fraud a=1")
    assert refused.returncode == 4
    assert "LEASE_HELD" in refused.stderr
    assert mlops("set", "fraud", "a=1").returncode == 0
    missing = mlops("lease", "run", "fraud", "--", "/no/such/command")
    assert missing.returncode == 127
    assert mlops("lease", "run", "nope", "--", "true").returncode == 3
    assert mlops("lease", "release", "fraud", "--force").returncode == 0
    assert mlops("lease", "release", "fraud").returncode == 2


def test_what_lease_run_runs_may_change_the_project(
    mlops: Run, manager: WorkspaceManager, directory: Path
) -> None:
    (directory / "model.pt").write_text("weights")
    code = (
        f"{MLOPS} set fraud stage=test && {MLOPS} cp model.pt fraud:models/ && "
        f"{sys.executable} -c 'from mlops.workspace import WorkspaceManager as M; "
        'M().update_workspace_metadata("fraud", metadata={"by": "Python"})\''
    )
    result = mlops("lease", "run", "fraud", "--", "sh", "-c", code)
    assert result.returncode == 0, result.stderr
    fraud = manager.get_workspace("fraud")
    assert (fraud.metadata["stage"], fraud.metadata["by"]) == ("test", "Python")
    assert (fraud.models_path / "model.pt").exists()
    # Another project needs another lease.
    code = f"{MLOPS} create churn && {MLOPS} set churn stage=test"
    assert mlops("lease", "run", "fraud", "--", "sh", "-c", code).returncode == 0
    code = f"{MLOPS} lease release fraud --force; {MLOPS} set fraud stage=no"
    lost = mlops("lease", "run", "fraud", "--", "sh", "-c", code)
    assert "LEASE_LOST" in lost.stderr


def test_lease_acquire(mlops: Run, manager: WorkspaceManager) -> None:
    acquire = ("lease", "acquire", "fraud", "--holder", "nightly", "--ttl", "600")
    lease = json.loads(mlops(*acquire, "-o", "json").stdout)
    assert (lease["project_name"], lease["holder"]) == ("fraud", "nightly")
    held = manager.get_workspace("fraud").held_by
    assert held is not None and held.fence == lease["fence"]
    refused = mlops("set", "fraud", "stage=test")
    assert (refused.returncode, "LEASE_HELD" in refused.stderr) == (4, True)
    # The same holder renews it, and another one waits in vain.
    exported = mlops(*acquire, "--export").stdout
    variables = dict(line.split("=", 1) for line in exported.splitlines())
    assert variables["export MLOPS_LEASE_FENCE"] == str(lease["fence"])
    other = mlops("lease", "acquire", "fraud", "--wait", "0.2")
    assert (other.returncode, other.stdout) == (4, "")
    code = f'eval "$({MLOPS} {" ".join(acquire)} --export)"; {MLOPS} set fraud a=1'
    shell = subprocess.run(["sh", "-c", code], cwd=manager.base_path.parents[1])
    assert shell.returncode == 0
    assert mlops("lease", "release", "fraud", "--holder", "nightly").returncode == 0
    assert mlops("set", "fraud", "stage=test").returncode == 0
    assert mlops("lease", "acquire", "nope").returncode == 3
    assert mlops("lease", "acquire", "fraud", "--ttl", "0").returncode == 2


def test_ctrl_c_while_waiting_for_a_lease_leaves_none(
    manager: WorkspaceManager, terminal: Callable[..., Terminal], mlops: Run
) -> None:
    with manager.lease("fraud", "me"):
        screen = terminal("lease", "acquire", "fraud", "--wait", "60", "-v")
        time.sleep(2)
        screen.interrupt()
        assert screen.code() == 130
    assert manager.get_workspace("fraud").held_by is None


def test_ctrl_c_ends_the_command_and_the_lease(
    manager: WorkspaceManager, terminal: Callable[..., Terminal], directory: Path
) -> None:
    code = "touch begun; sleep 1000"
    screen = terminal("lease", "run", "fraud", "--", "sh", "-c", code)
    wait_until((directory / "begun").exists)
    assert manager.get_workspace("fraud").held_by is not None
    screen.type("\x03")
    assert screen.code() == 130
    assert manager.get_workspace("fraud").held_by is None


def test_doctor(mlops: Run, manager: WorkspaceManager) -> None:
    assert mlops("doctor").returncode == 0
    manager.get_workspace("fraud").metadata_file.write_text("a: [")
    result = mlops("doctor", "-o", "json")
    assert result.returncode == 1
    assert "fraud" in json.dumps(json.loads(result.stdout))
    assert mlops("doctor", "--base", "none").returncode == 3


# --- Ctrl-C ---


@pytest.fixture
def large(manager: WorkspaceManager) -> WorkspaceManager:
    """A manager whose project fraud takes long to copy."""
    with (manager.get_workspace("fraud").outputs_path / "large").open("wb") as file:
        # Not sparse: a copy of a sparse file is one, too.
        for _ in range(512):
            file.write(os.urandom(1 << 20))
    return manager


def test_ctrl_c_leaves_no_part_of_an_export(
    large: WorkspaceManager, terminal: Callable[..., Terminal], directory: Path
) -> None:
    (directory / "fraud.tar").write_text("old")
    before = sorted(directory.iterdir())
    screen = terminal("export", "fraud", "--force")
    screen.wait_for("MB")
    screen.interrupt()
    assert screen.code() == 130
    assert sorted(directory.iterdir()) == before
    assert (directory / "fraud.tar").read_text() == "old"


def test_ctrl_c_leaves_no_part_of_an_import(
    large: WorkspaceManager, terminal: Callable[..., Terminal], directory: Path
) -> None:
    large.export_workspace("fraud", directory / "fraud.tar")
    screen = terminal("import", "fraud.tar", "again")
    screen.wait_for("MB")
    screen.interrupt()
    assert screen.code() == 130
    assert [one.project_name for one in large.list_workspaces()] == ["fraud"]
    # The server notices the broken call a moment later.
    staging = large.base_path / ".staging"
    wait_until(lambda: not staging.exists() or not list(staging.iterdir()))


def test_ctrl_c_during_a_clone_leaves_all_or_nothing(
    large: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal("clone", "fraud", "copy")
    screen.wait_for("clone fraud")
    screen.interrupt()
    assert screen.code() == 130
    staging = large.base_path / ".staging"
    wait_until(lambda: not staging.exists() or not list(staging.iterdir()))
    for one in large.list_workspaces("copy"):
        assert (one.outputs_path / "large").stat().st_size == 512 << 20
