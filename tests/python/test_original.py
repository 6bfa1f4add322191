"""Runs the code blocks of the original README, each as a script in a new directory.

The directory holds only the projects that the block refers to.
"""

from pathlib import Path

import pytest

from python.conftest import Script
from readme.blocks import Block, read_blocks

_BLOCKS = {
    block.name: block
    for block in read_blocks((Path(__file__).parent / "original/blocks.md").read_text())
}
# The definitions that a block which does not import them takes for granted.
_BEFORE = (
    "from mlops.workspace import ProjectWorkspace, WorkspaceManager\n"
    "mgr = WorkspaceManager()\n"
)
_MAKE = _BEFORE + "import sys\nfor name in sys.argv[1:]: mgr.create_workspace(name)\n"

# For each block, the projects to create before it and the end of its output.
_CASES = {
    "using-workspacemanager": ([], "'outputs_bytes': 0}"),
    "automatic-configuration": ([], ""),
    "project-isolation": ([], ""),
    "metadata-persistence": ([], ""),
    "status-and-analytics": (["lora-finetuning-mlx", "zz"], "zz: None"),
    "workspace-lifecycle": ([], ""),
    "dashboard-style-analytics": (
        ["one"],
        "one:\n  Experiments: None\n  Models: 0\n  Data files: 0",
    ),
    "project-comparison": (["one", "two"], "one: 0 files\ntwo: 0 files"),
    "error-handling": (
        [],
        "Error: Workspace does not exist: nonexistent\n"
        "Operation: get_workspace\nWorkspace: nonexistent\n"
        "Details: {'project': 'nonexistent', 'reason': 'WORKSPACE_NOT_FOUND', "
        "'code': 'NOT_FOUND'}",
    ),
    "custom-base-path": ([], ""),
    "workspace-templates": ([], ""),
    "workspace-migration": (["old-project"], ""),
}


def test_every_block_has_a_case() -> None:
    assert _CASES.keys() == _BLOCKS.keys()


@pytest.mark.parametrize("block", _BLOCKS.values(), ids=lambda block: block.name)
def test_block_runs_word_for_word(block: Block, script: Script) -> None:
    projects, output = _CASES[block.name]
    if projects:
        assert script(_MAKE, *projects).returncode == 0
    result = script(
        ("" if "import WorkspaceManager" in block.code else _BEFORE) + block.code
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip().endswith(output)


def test_a_template_makes_workspaces(script: Script) -> None:
    use = "print(create_workspace_with_defaults('fraud').metadata)"
    result = script(_BEFORE + _BLOCKS["workspace-templates"].code + use)
    assert (
        result.stdout == "{'created_by': 'automation', 'environment': 'production'}\n"
    ), result.stderr


def test_the_default_base_does_not_shadow_the_package(
    script: Script, directory: Path
) -> None:
    (directory / "mlops/workspace").mkdir(parents=True)
    result = script(
        "import mlops.workspace, mlops.workspace.manager as m;"
        " print(m.WorkspaceManager().base_path)"
    )
    assert result.stdout == f"{directory}/mlops/workspace\n", result.stderr
