"""Figures by matplotlib and plotly, and a notebook with a real kernel."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure
from mlops import plots
from mlops.client import MLOpsClient
from mlops.workspace import WorkspaceManager
from nbclient import NotebookClient

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def clients(manager: WorkspaceManager) -> list[MLOpsClient]:
    """Two projects with runs and files."""
    found = []
    for name, size in (("2024", 3 << 20), ("fraud.x", 1 << 20)):
        client = MLOpsClient(name, workspace_manager=manager)
        (client.get_workspace_path("outputs") / "a").write_bytes(b"x" * size)
        for accuracy in (0.5, 0.9):
            with client.start_run("<b>run</b> $x$"):
                client.log_metrics({"accuracy": accuracy})
        found.append(client)
    return found


def test_figures_of_matplotlib(
    manager: WorkspaceManager, clients: list[MLOpsClient]
) -> None:
    sizes = plots.plot_sizes(manager, library="matplotlib")
    assert isinstance(sizes, Figure)
    (axes,) = sizes.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["2024", "fraud.x"]
    outputs = axes.containers[-1]
    assert [round(bar.get_width(), 3) for bar in outputs] == [3.0, 1.0]
    runs = plots.plot_runs(clients, "accuracy", library="matplotlib")
    (axes,) = runs.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.9]] * 2
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["2024", "fraud.x"]
    for figure in (sizes, runs, plots.plot_runs(clients[0], "nothing")):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_figures_of_plotly(
    manager: WorkspaceManager, clients: list[MLOpsClient]
) -> None:
    sizes = plots.plot_sizes(manager, limit=1, library="plotly").to_dict()
    assert [list(bar["y"]) for bar in sizes["data"]] == [["2024"]] * 5
    runs: dict[str, Any] = plots.plot_runs(
        clients, "accuracy", library="plotly"
    ).to_dict()
    assert [list(line["y"]) for line in runs["data"]] == [[0.5, 0.9]] * 2
    assert "<b>" not in json.dumps(runs["data"], default=str)


def test_a_notebook(manager: WorkspaceManager, tmp_path: Path) -> None:
    manager.create_workspace("fraud", metadata={"stage": "<b>test"})
    (tmp_path / "here").mkdir()
    for number in range(5):
        (tmp_path / "here" / str(number)).write_bytes(b"x" * (1 << 20))
    cells = (
        "from mlops.workspace import WorkspaceManager\n"
        f"m = WorkspaceManager({str(manager.base_path)!r})",
        "m",
        "m.get_workspace('fraud')",
        "from mlops.fs import progress\n"
        "files = m.get_workspace('fraud').files\n"
        "with progress() as bar:\n"
        f"    files.put({str(tmp_path / 'here')!r}, 'outputs', True, bar)",
        "from mlops.plots import plot_sizes\nplot_sizes(m)",
    )
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]
    )
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [cell["outputs"] for cell in notebook["cells"]]
    for shown in outputs[1:3]:
        assert "&lt;b&gt;test" in shown[0]["data"]["text/html"]
    (bar,) = outputs[3]
    assert "<progress value=" in bar["data"]["text/html"]
    # With the directory itself.
    assert "6 of 6, 5.0 MiB" in bar["data"]["text/html"]
    assert "image/png" in outputs[4][0]["data"]
