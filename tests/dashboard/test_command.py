"""The command `mlops dashboard`: its examples, its end, and its mistakes."""

import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from mlops.commands import dashboard
from mlops.commands.texts import examples_of

from dashboard.conftest import DEADLINE_S
from support.processes import killed_at_end
from support.server import short_base, stop_server

_MLOPS = [sys.executable, str(Path(sys.executable).with_name("mlops"))]


def mlops(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*_MLOPS, *arguments], capture_output=True, text=True, timeout=DEADLINE_S
    )


@pytest.mark.parametrize("example", examples_of(dashboard.dashboard))
def test_examples_serve_until_ctrl_c(
    example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLOPS_WORKSPACE_IDLE_TIMEOUT", "10s")
    with short_base() as base:
        base.mkdir()
        # The default port may be in use.
        words = [*shlex.split(example)[1:], "--port", "0"]
        started = subprocess.Popen(
            [*_MLOPS, *words], cwd=base, stdout=subprocess.PIPE, text=True
        )
        with killed_at_end(started) as process:
            assert process.stdout is not None
            link = process.stdout.readline().strip()
            # The server of ./mlops/workspace is started when it is needed.
            page = httpx.get(link, follow_redirects=True, trust_env=False, timeout=30)
            assert page.status_code == 200 and "There are no projects yet" in page.text
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 130
        stop_server(base / "mlops/workspace")


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = mlops("--address", "a:1", "dashboard", "--port", port)
    assert result.returncode == 6
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr


def test_an_unknown_login_is_an_error() -> None:
    result = mlops("dashboard", "--login", "none")
    assert result.returncode == 2
    assert "--login must be one of link, token, proxy" in result.stderr


def test_tokens_of_users_need_encryption() -> None:
    result = mlops(
        "--address", "far.example:1", "dashboard", "--login", "token", "--port", "0"
    )
    assert result.returncode == 2
    assert "unencrypted" in result.stderr


def test_a_missing_library_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "sys.argv = ['mlops', '--address', 'a:1', 'dashboard']\n"
        "from mlops.commands.main import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "pip install 'mlops-workspace[cli,dashboard]'" in result.stderr


_NOTEBOOK = """
import sys
from mlops.workspace import WorkspaceManager

with WorkspaceManager(sys.argv[1]) as manager:
    manager.get_or_create_workspace("from-notebook")
    manager.dashboard()
    manager.dashboard()
    sys.stdout.flush()
    sys.stdin.readline()
"""


def test_a_notebook_serves_it_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLOPS_WORKSPACE_IDLE_TIMEOUT", "10s")
    with short_base() as base:
        started = subprocess.Popen(
            [sys.executable, "-c", _NOTEBOOK, str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with (
            killed_at_end(started) as process,
            httpx.Client(trust_env=False, timeout=30, follow_redirects=True) as client,
        ):
            assert process.stdout is not None
            link, again = process.stdout.readline(), process.stdout.readline()
            assert link == again
            page = client.get(link.strip())
            assert "from-notebook" in page.text
            with client.stream("GET", f"{link.partition('?')[0]}events"):
                _, errors = process.communicate("\n", timeout=DEADLINE_S)
        assert process.returncode == 0
        assert "Traceback" not in errors
        stop_server(base)
