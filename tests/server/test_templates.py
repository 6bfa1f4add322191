"""Creates workspaces from templates with a real server."""

import os
import subprocess
import threading
from pathlib import Path

from server.run import answer, call, log_lines
from support.server import BINARY, Server


def _template(base: Path, name: str = "tabular", text: str = "") -> Path:
    directory = base / ".templates" / name
    (directory / "files/models").mkdir(parents=True)
    (directory / "template.yaml").write_text(
        text
        or "metadata: {of: '${project}', since: '${date}', at: '${root}'}\n"
        "directories: ['outputs/${project}']\n"
    )
    return directory


def _staged(base: Path) -> list[str]:
    return os.listdir(base / ".staging")


def test_variables_are_replaced_in_values_and_names_only(base: Path) -> None:
    directory = _template(base)
    (directory / "files/models/${project}.md").write_text("${project}")
    with Server(base) as server:
        made = answer(server, "CreateWorkspace", project="churn", template="tabular")
    metadata = made["metadata"]
    assert (metadata["of"], metadata["at"]) == ("churn", str(base / "churn"))
    assert len(metadata["since"]) == len("2026-01-31")
    assert (base / "churn/models/churn.md").read_text() == "${project}"
    assert (base / "churn/outputs/churn").is_dir()
    assert _staged(base) == []


def test_edits_by_hand_take_effect_at_once(base: Path) -> None:
    directory = _template(base, text="metadata: {version: 1}\n")
    with Server(base) as server:
        for version in (1, 2):
            (directory / "template.yaml").write_text(f"metadata: {{v: {version}}}\n")
            made = answer(
                server, "CreateWorkspace", project=f"p{version}", template="tabular"
            )
            assert made["metadata"] == {"v": version}


def test_the_default_template_and_another_one(base: Path) -> None:
    _template(base, "standard", "metadata: {from: standard}\n")
    _template(base, "other", "metadata: {from: other}\n")
    with Server(base, "--default-template", "standard") as server:
        assert answer(server, "CreateWorkspace", project="a")["metadata"] == {
            "from": "standard"
        }
        ensured = answer(server, "EnsureWorkspace", project="b")
        assert ensured["workspace"]["metadata"] == {"from": "standard"}
        assert answer(server, "CreateWorkspace", project="c", template="other")[
            "metadata"
        ] == {"from": "other"}
        updated = answer(
            server,
            "UpdateWorkspace",
            workspace={"project": "d", "metadata": {"x": 1}},
            allow_missing=True,
        )
        assert updated["metadata"] == {"from": "standard", "x": 1}
        assert not any("template" in line["msg"] for line in log_lines(server))


def test_a_missing_default_template_is_reported_at_start(base: Path) -> None:
    with Server(base, "--default-template", "none") as server:
        outcome = call(server, "CreateWorkspace", project="a")
        assert outcome.error is not None
        assert outcome.error["reason"] == "TEMPLATE_NOT_FOUND"
        assert "--default-template" in server.output


def test_the_setting_has_a_variable_and_a_key(base: Path, tmp_path: Path) -> None:
    _template(base, "standard", "metadata: {from: standard}\n")
    config = tmp_path / "c.toml"
    config.write_text(f'base = "{base}"\ndefault-template = "standard"\n')
    printed = subprocess.run(
        [BINARY, "config", "check", "--config", config],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 'default-template = "standard"' in printed


def test_of_many_callers_one_creates_the_workspace(base: Path) -> None:
    _template(base)
    created = []

    def ensure() -> None:
        result = answer(server, "EnsureWorkspace", project="p", template="tabular")
        created.append(result.get("created", False))

    with Server(base) as server:
        threads = [threading.Thread(target=ensure) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(created) == [False] * 7 + [True]
    assert _staged(base) == []


def test_a_kill_leaves_a_complete_workspace_or_none(base: Path) -> None:
    directory = _template(base)
    for i in range(500):
        (directory / f"files/models/{i}").write_text("x")
    names = [f"p{i}" for i in range(20)]
    with Server(base) as server:
        threads = [
            threading.Thread(
                target=call,
                args=(server, "CreateWorkspace"),
                kwargs={"project": name, "template": "tabular"},
            )
            for name in names
        ]
        for thread in threads:
            thread.start()
        while not any((base / name).exists() for name in names):
            pass
        server.kill()
        for thread in threads:
            thread.join()
    with Server(base):
        assert _staged(base) == []
        for name in names:
            if (base / name).exists():
                assert (base / name / "workspace.yaml").exists()
                assert len(os.listdir(base / name / "models")) == 500
