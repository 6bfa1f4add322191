"""What may go wrong around the commands: servers, terminals, names, pipes."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlops.commands import errors
from mlops.workspace import WorkspaceManager

from python.commands.conftest import COMMAND, Run, Terminal
from support.other_version import other_version
from support.processes import killed_at_end
from support.server import BINARY

_LONGEST = "n" * 63
# Commands that only read, by the words that call them.
_READING = (
    "ls",
    "ls -l fraud:outputs",
    "show fraud",
    "status",
    "du fraud",
    "top --count 1",
    "events",
    "trash ls",
    "templates",
    "watch --all --count 1",
    "server info",
    "cat fraud:outputs/a",
    "export fraud -",
)
_CHANGING = (
    "create new",
    "ensure new",
    "set fraud a=1",
    "rm fraud --yes",
    "rm fraud:outputs/a --yes",
    "cp fraud:outputs/a fraud:outputs/b",
    "mv fraud:outputs/a fraud:outputs/b",
    "clone fraud copy",
    "lease acquire fraud",
    "trash restore fraud",
)


@pytest.fixture(autouse=True)
def file(manager: WorkspaceManager) -> None:
    (manager.get_workspace("fraud").outputs_path / "a").write_text("a")


def one_sentence(result: "subprocess.CompletedProcess[str]") -> str:
    """Returns the only line on standard error."""
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("mlops: ")
    return sentence


# --- Servers ---


@pytest.mark.parametrize("command", [*_READING, *_CHANGING])
def test_a_server_that_is_down(command: str, mlops: Run) -> None:
    result = mlops("--address", "127.0.0.1:1", "--timeout", "60", *command.split())
    assert result.returncode == 6, result.stderr
    assert result.stdout == ""
    assert "127.0.0.1:1" in one_sentence(result)


@pytest.mark.parametrize("command", ["ls", "watch", "status --watch", "events -f"])
def test_a_slow_server_is_given_up(command: str, mlops: Run) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        result = mlops("--address", address, "--timeout", "1", *command.split())
    assert result.returncode == 6
    assert one_sentence(result) == "mlops: no result within --timeout 1 s"


@pytest.fixture
def address(manager: WorkspaceManager) -> str:
    manager.list_workspaces()
    return f"unix:{manager.base_path}/.workspaced/socket"


@pytest.mark.parametrize("command", _READING)
def test_a_later_server_with_unknown_fields(
    command: str, mlops: Run, address: str
) -> None:
    with other_version(address) as later:
        result = mlops("--address", later, *command.split())
        assert result.returncode == 0, result.stderr
        assert result.stdout or command in ("trash ls", "templates")


def test_a_later_server_with_an_unknown_reason(mlops: Run, address: str) -> None:
    with other_version(address) as later:
        result = mlops("--address", later, "show", "nope")
        assert result.returncode == 3
        assert one_sentence(result).endswith("(NEW_REASON)")
        details = mlops("--address", later, "show", "nope", "-v").stderr
        assert "  new: fact" in details.splitlines()


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("AcquireLease", "lease acquire fraud"),
        ("WatchWorkspaces", "watch"),
        ("StreamWorkspaceStatuses", "status"),
        ("ListTemplates", "templates"),
    ],
)
def test_an_earlier_server_without_a_method(
    method: str, command: str, mlops: Run, address: str
) -> None:
    with other_version(address, method) as earlier:
        result = mlops("--address", earlier, *command.split())
    assert result.returncode == 4
    assert "older than this client" in one_sentence(result)


def test_top_without_a_watch_says_so(
    address: str, terminal: Callable[..., Terminal]
) -> None:
    with other_version(address, "WatchWorkspaces") as earlier:
        screen = terminal("top", "--address", earlier, "--interval", "0.1", columns=200)
        screen.wait_for("changes are not counted")
        screen.type("q")
        assert screen.code() == 0


@pytest.fixture
def read_only(manager: WorkspaceManager, mlops: Run) -> Iterator[str]:
    """The address of a server that refuses changes."""
    base = manager.base_path
    assert mlops("server", "stop").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [BINARY, "--base", base, "--read-only", "--listen", address],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while mlops("ls", "--address", address).returncode:
            assert process.poll() is None
        yield address
    finally:
        process.terminate()
        process.wait()


def test_a_server_that_refuses(mlops: Run, read_only: str) -> None:
    for command in _CHANGING:
        if command.startswith(("ensure", "trash")):
            continue
        result = mlops("--address", read_only, *command.split())
        assert result.returncode == 4, f"{command}: {result.stderr}"
        assert "READ_ONLY" in result.stderr.splitlines()[-1], command
    for command in _READING:
        result = mlops("--address", read_only, *command.split())
        assert result.returncode == 0, f"{command}: {result.stderr}"


# --- Names ---


def test_the_longest_name(mlops: Run, terminal: Callable[..., Terminal]) -> None:
    assert mlops("create", _LONGEST).returncode == 0
    for command in ("ls", "status", "show", "du", "events", "top --count 1", "rm"):
        words = [*command.split(), _LONGEST]
        result = mlops(*words, *["--yes"] * (command == "rm"))
        assert result.returncode == 0, result.stderr
        assert _LONGEST in result.stdout, command
    too_long = mlops("create", "n" * 64)
    assert too_long.returncode == 2
    one_sentence(too_long)


# --- Terminals and pipes ---


@pytest.mark.parametrize("command", ["rm fraud", "trash purge --all", "edit fraud"])
def test_no_question_without_a_terminal(command: str, mlops: Run) -> None:
    mlops("create", "old")
    mlops("rm", "old", "--yes")
    result = mlops(*command.split(), input="fraud\nold\n", EDITOR="", VISUAL="")
    assert result.returncode == 2
    assert "no terminal" in result.stderr.splitlines()[-1]
    assert mlops("show", "fraud").returncode == 0
    assert mlops("trash", "ls", "-o", "name").stdout == "old\n"


@pytest.mark.parametrize("command", [c for c in _READING if not c.startswith("cat")])
def test_a_closed_pipe(command: str, directory: Path, mlops: Run) -> None:
    mlops("create", "old")
    mlops("rm", "old", "--yes")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as closed:
        result = subprocess.run(
            [*COMMAND, *command.split()],
            cwd=directory,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    if command != "templates":  # Which prints nothing.
        assert (result.returncode, result.stderr) == (141, ""), command


@pytest.mark.parametrize(
    "command", ["ls", "status", "events", "top --count 1", "du fraud", "trash ls"]
)
def test_40_columns(
    command: str, manager: WorkspaceManager, terminal: Callable[..., Terminal]
) -> None:
    manager.update_workspace_metadata("fraud", metadata={"stage": "x" * 60})
    manager.create_workspace("old")
    manager.delete_workspace("old", force=True)
    # Not drawn on the whole terminal.
    screen = terminal(*command.split(), columns=40, TERM="dumb")
    assert screen.code() == 0
    lines = screen.output.splitlines()
    assert len(lines) >= 2
    assert all(len(line) <= 40 for line in lines), lines


@pytest.mark.parametrize(
    "command", ["ls", "status", "events", "trash ls", "ls -l fraud:"]
)
def test_formats_and_headers(command: str, mlops: Run) -> None:
    mlops("create", "old")
    mlops("rm", "old", "--yes")
    words = command.split()
    table = mlops(*words).stdout.splitlines()
    headless = mlops(*words, "--no-headers").stdout.splitlines()
    assert len(headless) == len(table) - 1
    names = mlops(*words, "-o", "name").stdout.splitlines()
    assert len(names) == len(table) - 1
    for kind in ("wide", "json", "yaml"):
        shown = mlops(*words, "-o", kind)
        assert (shown.returncode, bool(shown.stdout)) == (0, True)


@pytest.mark.parametrize(
    "command",
    ["ls", "status", "events", "top --count 1", "watch --all --count 1", "help output"],
)
def test_no_colour(command: str, terminal: Callable[..., Terminal]) -> None:
    screen = terminal(*command.split(), NO_COLOR="1", TERM="xterm")
    assert screen.code() == 0
    # Drawing on the whole terminal needs control sequences, but no colours or bold.
    assert "m" not in {
        part.lstrip("0123456789;?")[:1] for part in screen.output.split("\x1b[")[1:]
    }


def test_no_locale(mlops: Run, manager: WorkspaceManager) -> None:
    manager.update_workspace_metadata("fraud", metadata={"stage": "größer"})
    for command in ("ls", "show fraud", "events", "watch --all --count 1"):
        result = mlops(
            *command.split(), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
        )
        assert result.returncode == 0, result.stderr
        assert "gr\\xf6\\xdfer" in result.stdout, command


def test_quiet_and_verbose(mlops: Run) -> None:
    assert mlops("set", "fraud", "a=1", "-q").stderr == ""
    assert mlops("set", "fraud", "a=1").stderr == "Changed fraud.\n"
    assert len(mlops("show", "nope", "-q").stderr.splitlines()) == 1
    verbose = mlops("show", "nope", "-v").stderr.splitlines()
    assert "  code: NOT_FOUND" in verbose


# --- Ctrl-C ---


@pytest.mark.parametrize(
    "command",
    [
        "watch",
        "events --follow",
        "top",
        "status --watch",
        "lease acquire fraud --wait 100",
        "lease run fraud -- sleep 100",
    ],
)
def test_ctrl_c_ends_every_long_command(
    command: str, manager: WorkspaceManager, directory: Path
) -> None:
    held = "acquire" in command
    if held:
        manager.acquire_lease("fraud", "me", 600)
    # A terminal sends SIGINT to the whole group of processes in the foreground.
    started = subprocess.Popen(
        [*COMMAND, *command.split()],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with killed_at_end(started) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        os.killpg(process.pid, signal.SIGINT)
        _, shown = process.communicate(timeout=30)
    assert (process.returncode, shown) == (130, "")
    lease = manager.get_workspace("fraud").held_by
    assert (lease is not None) == held


# --- Exit codes ---


def test_exit_codes_are_distinct_and_documented(mlops: Run) -> None:
    codes = list(errors.MEANINGS)
    assert len(set(codes)) == len(codes)
    shown = mlops("help", "exit-codes").stdout.splitlines()
    assert [int(line.split()[0]) for line in shown] == codes
    readme = (Path(__file__).parents[3] / "client-python/README.md").read_text()
    paragraph = readme.partition("**Exit codes**")[2].partition("\n- ")[0]
    words = paragraph.replace(":", " ").split()
    assert all(str(code) in words for code in codes)
