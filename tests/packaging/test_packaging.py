"""The Debian package, the systemd units and the Kubernetes manifest."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.server import BINARY, REPO

_PACKAGING = REPO / "service/packaging"
_UNIT = _PACKAGING / "mlops-workspace.service"
_USER_UNIT = _PACKAGING / "mlops-workspace-user.service"
_INVALID_SETTINGS = 2


def _run(*command: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True
    )


def _needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package."""
    _needs("dpkg-deb")
    directory = tmp_path_factory.mktemp("deb")
    made = _run(
        _PACKAGING / "make_deb.sh", BINARY, "0.1.0", directory, DEB_COMPRESSION="gzip"
    )
    assert made.returncode == 0, made.stderr
    return next(directory.glob("mlops-workspace_0.1.0_*.deb"))


def test_the_unit_is_hardened() -> None:
    _needs("systemd-analyze")
    result = _run(
        "systemd-analyze", "security", "--offline=true", "--threshold=15", _UNIT
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("unit", [_UNIT, _USER_UNIT], ids=["system", "user"])
def test_the_units_are_valid(unit: Path, tmp_path: Path) -> None:
    _needs("systemd-analyze")
    copy = tmp_path / "mlops-workspace.service"
    copy.write_text(unit.read_text().replace("/usr/bin/workspaced", str(BINARY)))
    scope = "--user" if unit == _USER_UNIT else "--system"
    result = _run(
        *("systemd-analyze", "verify", "--man=no", scope, copy),
        XDG_RUNTIME_DIR=str(tmp_path),
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_settings_are_valid_with_every_suggestion(tmp_path: Path) -> None:
    text = (_PACKAGING / "workspaced.toml").read_text()
    file = tmp_path / "workspaced.toml"
    file.write_text(re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.M))
    result = _run(BINARY, "config", "check", "--config", file)
    assert result.returncode != _INVALID_SETTINGS, result.stderr
    assert f'policy = "/etc/mlops-workspace/policy.yaml"  # {file}' in result.stdout
    # The files, the group and the directories exist only where the package is.
    problems = result.stderr.splitlines()
    assert all(re.search("cannot be|no such group", line) for line in problems)


def test_the_manifest_has_valid_settings(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((_PACKAGING / "kubernetes.yaml").read_text()))
    file = tmp_path / "workspaced.toml"
    file.write_text(documents[0]["data"]["workspaced.toml"])
    result = _run(BINARY, "config", "check", "--config", file)
    assert result.returncode != _INVALID_SETTINGS, result.stderr
    assert "needs" not in result.stderr
    pod = documents[2]["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    for setting in re.findall(r'= "(/[^"]+)"', file.read_text()):
        assert any(setting.startswith(mount + "/") for mount in mounts), setting


def test_the_manifest_matches_the_schema() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all((_PACKAGING / "kubernetes.yaml").read_text()):
        kubernetes_validate.validate(document, "1.29", strict=True)


def test_the_server_needs_no_newer_glibc_than_the_wheels_tag_says() -> None:
    symbols = _run("objdump", "-T", BINARY).stdout
    if "libgrpc" in _run("objdump", "-p", BINARY).stdout:
        pytest.skip("the server is not linked statically")
    versions = {
        tuple(map(int, version.split(".")))
        for version in re.findall(r"GLIBC_([0-9.]+)", symbols)
    }
    assert max(versions) <= (2, 34)


def test_the_package_has_the_service_and_its_settings(package: Path) -> None:
    listing = _run("dpkg-deb", "-c", package).stdout
    for line in (
        r"-rwxr-xr-x root/root .* \./usr/bin/workspaced$",
        r"-rw-r--r-- root/root .* \./lib/systemd/system/mlops-workspace\.service$",
        r"-rw-r--r-- root/root .* \./usr/lib/systemd/user/mlops-workspace\.service$",
        r"-rw-r--r-- root/root .* \./etc/mlops-workspace/workspaced\.toml$",
        r"-rw-r--r-- root/root .* \./usr/share/man/man1/workspaced\.1\.gz$",
    ):
        assert re.search(line, listing, re.M), line
    assert _run("dpkg-deb", "-I", package, "conffiles").stdout == (
        "/etc/mlops-workspace/workspaced.toml\n"
    )
    depends = _run("dpkg-deb", "-f", package, "Depends").stdout
    assert "libc6 (>= 2.34)" in depends and "libgrpc" not in depends


def test_lintian_finds_no_error(package: Path) -> None:
    _needs("lintian")
    result = _run(
        *("lintian", "--fail-on", "error,warning", "--allow-root", package),
    )
    assert result.returncode == 0, result.stdout
