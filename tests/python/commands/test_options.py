"""Options of every command, contexts, failures and start-up."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, Run
from support.elsewhere import RemoteServer
from support.processes import killed_at_end


def test_options_stand_before_or_after_the_command(
    mlops: Run, manager: WorkspaceManager, directory: Path
) -> None:
    base = str(directory / "mlops/workspace")
    for arguments in (
        ["--base", base, "ls", "-oname"],
        ["ls", f"--base={base}", "--output", "name"],
        ["ls", "-q", "-o=name", "--base", base],
    ):
        assert mlops(*arguments).stdout == "fraud\n"
    assert mlops("ls", "-o", "name", MLOPS_WORKSPACE_BASE=base).stdout == "fraud\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ls", "--base"], "--base needs a value"),
        (["ls", "-o", "xml"], "--output must be one of"),
        (["lss"], "no command lss; did you mean ls?"),
        (["ls", "--foo"], "No such option"),
        (["ls", "--timeout", "soon"], "--timeout must be"),
        (["ls", "--address", "a:1", "--base", "b"], "exclude each other"),
        (["ls", "--address", "nonsense"], "must be unix:PATH or HOST:PORT"),
        (["ls", "a and b"], "expected AND"),
        (["show"], "Missing argument"),
        (["trash", "empty"], "No such command"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], sentence: str, mlops: Run
) -> None:
    result = mlops(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_verbose_errors_have_details(mlops: Run) -> None:
    result = mlops("show", "nope", "-v")
    assert result.returncode == 3
    assert "  reason: WORKSPACE_NOT_FOUND" in result.stderr.splitlines()
    assert len(mlops("show", "nope").stderr.splitlines()) == 1


def test_a_server_that_is_down_or_silent_is_unavailable(mlops: Run) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        down = mlops("ls", "--address", address, "--timeout", "20")
        assert down.returncode == 6, down.stderr
        # It accepts connections and says nothing.
        listener.listen()
        silent = mlops(
            "ls", MLOPS_WORKSPACE_ADDRESS=address, MLOPS_WORKSPACE_TIMEOUT="1"
        )
    assert silent.returncode == 6
    assert silent.stderr == "mlops: no result within --timeout 1 s\n"


# --- Contexts ---


def test_contexts(mlops: Run, manager: WorkspaceManager, remote: RemoteServer) -> None:
    with WorkspaceManager(address=remote.tcp) as there:
        there.create_workspace("remote")
    assert mlops("context", "set", "team", "--address", remote.tcp).returncode == 0
    assert mlops("context", "set", "here", "--base", "mlops/workspace").returncode == 0
    assert mlops("context", "ls", "-o", "name").stdout == "here\nteam\n"
    assert mlops("ls", "-o", "name").stdout == "fraud\n"
    assert mlops("ls", "--context", "team", "-o", "name").stdout == "remote\n"
    mlops("context", "use", "team")
    assert mlops("ls", "-o", "name").stdout == "remote\n"
    assert mlops("context", "ls", "--no-headers").stdout.splitlines()[1][0] == "*"
    # A chosen base takes precedence over the environment's address.
    by_base = mlops(
        *("ls", "-o", "name", "--context", "here"), MLOPS_WORKSPACE_ADDRESS=remote.tcp
    )
    assert by_base.stdout == "fraud\n"
    assert mlops("ls", "-oname", MLOPS_WORKSPACE_CONTEXT="here").stdout == "fraud\n"
    assert mlops("context", "use", "tem").returncode == 3
    assert mlops("context", "rm", "team").returncode == 0
    assert mlops("ls", "-o", "name").stdout == "fraud\n"


def test_a_context_stores_no_token(mlops: Run) -> None:
    refused = mlops("context", "set", "a", "--address", "h:1", "--token", "t")
    assert refused.returncode == 2
    assert mlops("context", "set", "a").returncode == 2
    assert mlops("context", "set", "a", "--address", "nonsense").returncode == 2


def test_the_config_may_have_windows_line_ends(
    mlops: Run, manager: WorkspaceManager, config: Path, directory: Path
) -> None:
    base = directory / "mlops/workspace"
    text = f'\ufeffcurrent = "c"\r\n[contexts.c]\r\nbase = "{base}"\r\n'
    config.write_bytes(text.encode())
    assert mlops("ls", "-o", "name", "--context", "c").stdout == "fraud\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('curent = "a"', "did you mean current?"),
        ('[contexts.a]\nadress = "x:1"', "did you mean address?"),
        ('[contexts.a]\naddress = "x:1"\nbase = "y"', "not both"),
        ("[contexts.a]\naddress = 1", "must be text"),
        ('current = "b"\n[contexts.a]\nbase = "x"', "current names 'b'"),
        ("current = [1]", "must be the name"),
        ("contexts = 1", "must be tables"),
        ("[contexts", "is not TOML"),
        ("\xff", "is not UTF-8"),
    ],
)
def test_a_malformed_config_is_one_sentence(
    text: str, sentence: str, mlops: Run, config: Path
) -> None:
    config.write_bytes(text.encode("latin-1"))
    result = mlops("ls")
    assert result.returncode == 2
    assert sentence in result.stderr
    assert str(config) in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def config(directory: Path) -> Path:
    path = directory / "config/mlops/config.toml"
    path.parent.mkdir(parents=True)
    return path


# --- Start-up ---

_HEAVY = {"grpc", "google.protobuf", "typer", "rich", "fsspec", "yaml", "pydantic"}


def _imports(directory: Path, *arguments: str) -> set[str]:
    """Returns the heavy modules that a command loads."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND[1], *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    return loaded & _HEAVY


def test_start_up_loads_only_what_is_needed(
    directory: Path, manager: WorkspaceManager
) -> None:
    assert _imports(directory, "--version") == set()
    assert _imports(directory, "__complete", "bash", "mlops sh") == set()
    assert _imports(directory, "__complete", "bash", "mlops show fr") == set()
    assert _imports(directory, "help", "filters") == {"typer"}
    needed = {"typer", "grpc", "google.protobuf", "yaml"}
    assert _imports(directory, "ls", "-o", "name") <= needed


@pytest.mark.parametrize("missing", ["typer", "fsspec"])
def test_a_missing_extra_is_named(
    missing: str, directory: Path, manager: WorkspaceManager
) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from mlops.commands.main import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "ls", "fraud:"],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "pip install 'mlops-workspace[" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_a_locale(mlops: Run, manager: WorkspaceManager) -> None:
    manager.update_workspace_metadata("fraud", metadata={"stage": "größer"})
    shown = mlops("ls", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert shown.returncode == 0
    assert "gr\\xf6\\xdfer" in shown.stdout
    assert "größer" in mlops("ls", LC_ALL="C.UTF-8").stdout


def test_ctrl_c_before_a_command_is_quiet(directory: Path) -> None:
    assert os.path.exists(directory)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        started = subprocess.Popen(
            [*COMMAND, "ls", "--address", address], stderr=subprocess.PIPE
        )
        with killed_at_end(started) as process:
            listener.accept()[0].close()
            process.send_signal(2)
            assert process.communicate()[1] == b""
    assert process.returncode == 130
