"""What notebooks show, without the libraries of notebooks."""

import sys
from pathlib import Path

import pytest
from mlops import plots
from mlops.workspace import WorkspaceManager

_EVIL = "<script>alert('&')</script>"


def test_a_manager_shows_its_projects_escaped(manager: WorkspaceManager) -> None:
    manager.create_workspace("fraud", metadata={"stage": _EVIL, _EVIL: _EVIL})
    manager.create_workspace("churn")
    shown = manager._repr_html_()
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 3
    assert "2 projects" in shown
    assert shown.index("churn") < shown.index("fraud")


def test_a_manager_shows_only_the_first_of_many(manager: WorkspaceManager) -> None:
    for number in range(51):
        manager.create_workspace(f"p{number:02}")
    shown = manager._repr_html_()
    assert shown.count("<tr>") == 51  # With that of the titles.
    assert "and 1 more" in shown


def test_long_values_are_cut(manager: WorkspaceManager) -> None:
    workspace = manager.create_workspace("fraud", metadata={"text": "x" * 60000})
    assert len(manager._repr_html_()) < 3000
    assert len(workspace._repr_html_()) < 5000


def test_a_manager_without_a_server_shows_where_it_would_be(tmp_path: Path) -> None:
    missing = WorkspaceManager(tmp_path / "missing")
    assert "missing" in missing._repr_html_()
    assert not (tmp_path / "missing/.workspaced").exists()
    # Nothing is connected to just to be shown.
    assert "127.0.0.1:1" in WorkspaceManager(address="127.0.0.1:1")._repr_html_()


def test_a_missing_dashboard_names_the_extra(
    manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlops.dashboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"'mlops-workspace\[dashboard\]'"):
        manager.dashboard()


def test_plots_name_what_is_missing(
    manager: WorkspaceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "plotly"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match="Neither matplotlib nor plotly is"):
        plots.plot_sizes(manager)
    with pytest.raises(ModuleNotFoundError, match="plotly is not installed"):
        plots.plot_sizes(manager, library="plotly")
    with pytest.raises(ValueError, match="must be one of"):
        plots.plot_sizes(manager, library="excel")  # type: ignore[arg-type]
