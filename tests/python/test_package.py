"""The contents of the wheel, and what importing it loads."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mlops
import pytest
from mlops._rpc import channel
from mlops.cli import BINARY
from mlops.workspace.v1 import workspace_service_pb2 as pb

from python.conftest import Script
from support.server import REPO

_IMPORTS = """
import json, sys
before = set(sys.modules)
from mlops.workspace import WorkspaceManager
print(json.dumps(sorted({name.partition(".")[0] \
for name in set(sys.modules) - before})))
"""


def test_importing_takes_only_grpc_and_protobuf(script: Script) -> None:
    loaded = set(json.loads(script(_IMPORTS).stdout)) - sys.stdlib_module_names
    loaded = {name for name in loaded if not name.startswith(("_", "cython"))}
    # grpc loads grpc_tools if installed, which it is here, and newer versions load
    # typing_extensions.
    assert loaded - {"grpc_tools", "typing_extensions"} == {
        "mlops",
        "grpc",
        "google",
    }


@pytest.mark.parametrize(
    "module",
    [
        "mlops",
        "mlops.workspace.v1.workspace_service_pb2_grpc",
        "mlops.local_server",
        "mlops._rpc.channel",
    ],
)
def test_any_module_may_be_imported_first(module: str, script: Script) -> None:
    assert script(f"import {module}").stderr == ""


def test_files_without_fsspec_name_the_extra(script: Script) -> None:
    result = script("import sys; sys.modules['fsspec'] = None; import mlops.fs")
    assert result.stderr.endswith(
        "ModuleNotFoundError: fsspec is not installed; install it by: "
        "pip install 'mlops-workspace[fs]'\n"
    )


def test_the_package_is_regular_and_typed() -> None:
    assert mlops.__file__ is not None
    assert (Path(mlops.__file__).with_name("py.typed")).is_file()


def test_types_are_consistent() -> None:
    config = REPO / "client-python/pyproject.toml"
    command = [sys.executable, "-m", "mypy", "-p", "mlops"]
    # By default mypy writes a cache into the working directory.
    command += ["--config-file", str(config), "--cache-dir", os.devnull]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_command_is_the_server() -> None:
    command = Path(sys.executable).with_name("workspaced")
    version = subprocess.run(
        [command, "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert version.strip() == metadata.version("mlops-workspace")


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems have no static libraries"
)
def test_the_server_needs_only_the_c_library() -> None:
    needed = subprocess.run(
        ["ldd", BINARY], capture_output=True, text=True, check=True
    ).stdout
    names = {
        line.split()[0].rpartition("/")[2].partition(".")[0]
        for line in needed.splitlines()
    }
    assert names <= {
        "linux-vdso",
        "libc",
        "libm",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }


def test_what_may_be_repeated_is_what_the_contract_says() -> None:
    config = json.loads(channel.service_config())
    (method_config,) = config["methodConfig"]
    assert {name["method"] for name in method_config["name"]} == {
        "GetWorkspace",
        "ListWorkspaces",
        "UpdateWorkspace",
        "EnsureWorkspace",
        "GetWorkspaceStatus",
        "GetServerInfo",
        "GetArtifact",
        "ListArtifacts",
        "GetUpload",
        "MakeDirectory",
        "ListTemplates",
        "AcquireLease",
        "ReleaseLease",
    }
    assert method_config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize(
    ("request_class", "seconds"),
    [
        (pb.GetWorkspaceRequest, 10),
        (pb.UpdateWorkspaceRequest, 10),
        (pb.CreateWorkspaceRequest, 30),
        (pb.DeleteWorkspaceRequest, 30),
        (pb.GetWorkspaceStatusRequest, 60),
        (pb.StreamWorkspaceStatusesRequest, 600),
    ],
)
def test_deadlines(request_class: type, seconds: float) -> None:
    assert channel.policy_of(request_class.DESCRIPTOR).timeout_s == seconds  # type: ignore[attr-defined]
