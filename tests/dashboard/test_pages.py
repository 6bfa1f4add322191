"""The pages, without scripts: what they show, and how they show errors."""

import json
import struct
import zlib
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceManager

from dashboard.conftest import Client, wait_until
from support.server import Server


def png() -> bytes:
    """An image of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def root(server: Server, project: str) -> Path:
    """The directory of a project."""
    return server.base / project


def test_the_first_page_shows_projects_and_metadata(
    client: Client, project: str
) -> None:
    wait_until(lambda: project in client.get("/").text)
    page = client.get(f"/?filter={project}").text
    assert f'href="/p/{project}"' in page
    assert ">test</td>" in page


def test_sizes_by_directory_appear(client: Client, root: Path) -> None:
    (root / "models/weights.bin").write_bytes(bytes(5000))
    # Files are counted while a page is open.
    with client.stream("GET", "/events") as events:
        lines = events.iter_lines()
        wait_until(
            lambda: (
                next(lines) and "4.9 KiB" in client.get(f"/?filter={root.name}").text
            )
        )
    page = client.get(f"/?filter={root.name}").text
    assert "models 4.9 KiB in 1 files" in page


def test_columns_are_chosen_by_the_address(client: Client, project: str) -> None:
    query = {"filter": project, "cols": "absent,stage"}
    # The dashboard hears of the new project a moment later, and shows no table without
    # projects.
    wait_until(lambda: f"/p/{project}" in client.get("/", params=query).text)
    page = client.get("/", params=query).text
    assert page.index('id="sort-metadata.absent"') < page.index(
        'id="sort-metadata.stage"'
    )


@pytest.mark.parametrize("sort", ["size", "files", "changed", "metadata.stage", "?"])
def test_the_table_can_be_sorted(client: Client, sort: str) -> None:
    assert client.get("/", params={"sort": sort}).status_code == 200


def test_an_order_goes_both_ways(client: Client, manager: WorkspaceManager) -> None:
    for number, name in ((9, "order-b"), (10, "order-a"), (11, "order-c")):
        manager.create_workspace(name, metadata={"n": number})
    query = {"filter": "order-", "sort": "metadata.n"}

    def names(**more: str) -> list[str]:
        page = client.get("/", params={**query, **more}).text
        return sorted(("order-a", "order-b", "order-c"), key=page.index)

    wait_until(lambda: "order-c" in client.get("/", params=query).text)
    # As numbers, not as texts.
    assert names() == ["order-b", "order-a", "order-c"]
    assert names(desc="1") == ["order-c", "order-a", "order-b"]


def test_a_filter_error_is_shown_at_its_position(client: Client) -> None:
    page = client.get("/", params={"filter": 'metadata.é == "<b>"'})
    assert page.status_code == 200
    assert "metadata.é <mark>==</mark> &#34;&lt;b&gt;&#34;" in page.text
    assert "expected =, not ==" in page.text
    assert "at position 11" in page.text


def test_a_filter_is_the_servers(client: Client, project: str) -> None:
    query = {"filter": f"project = {project} AND metadata.stage = test"}
    # The dashboard hears of the new project a moment later.
    wait_until(lambda: f"/p/{project}" in client.get("/", params=query).text)
    query = {"filter": f"project = {project} AND metadata.stage = other"}
    assert "No project matches" in client.get("/", params=query).text


def test_htmx_gets_the_table_alone(client: Client) -> None:
    part = client.get("/", headers={"hx-request": "true"}).text
    assert part.startswith('<section id="table"')


def test_a_project_shows_settings_and_metadata(
    client: Client, manager: WorkspaceManager
) -> None:
    manager.create_workspace("deep", metadata={"a": {"b": [1, {"c": None}]}})
    page = client.get("/p/deep").text
    assert "mlflow_tracking_uri" in page
    assert "<dt>a.b</dt><dd>[1, {&#34;c&#34;: null}]</dd>" in page


def test_a_missing_project_is_an_error_page(client: Client) -> None:
    page = client.get("/p/absent")
    assert page.status_code == 404
    assert "Workspace does not exist: absent" in page.text
    assert client.get("/nowhere").status_code == 404


def test_the_tree_map_leads_down_to_files(client: Client, root: Path) -> None:
    (root / "outputs/run").mkdir()
    (root / "outputs/run/big file.bin").write_bytes(bytes(3000))
    (root / "outputs/run/small.bin").write_bytes(bytes(10))
    top = client.get(f"/p/{root.name}/map").text
    assert f'href="/p/{root.name}/map?path=outputs"' in top
    middle = client.get(f"/p/{root.name}/map", params={"path": "outputs"}).text
    assert "run: 2.9 KiB, 2 files" in middle
    bottom = client.get(f"/p/{root.name}/map", params={"path": "outputs/run"}).text
    assert f"/p/{root.name}/file?path=outputs/run/big%20file.bin" in bottom


def test_a_text_is_previewed(client: Client, root: Path) -> None:
    (root / "outputs/page.html").write_text("<script>alert(1)</script>")
    page = client.get(f"/p/{root.name}/file", params={"path": "outputs/page.html"})
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


def test_a_table_is_previewed(client: Client, root: Path) -> None:
    rows = "".join(f'{n},"<i>,{n}"\n' for n in range(1000))
    (root / "outputs/t.csv").write_text(f"number,text\n{rows}")
    page = client.get(f"/p/{root.name}/file", params={"path": "outputs/t.csv"}).text
    assert '<th scope="col">number</th>' in page
    assert "<td>7</td><td>&lt;i&gt;,7</td>" in page
    assert "The first 50 rows are shown." in page


def test_a_binary_file_is_not_shown(client: Client, root: Path) -> None:
    (root / "outputs/b.bin").write_bytes(b"a\0b")
    page = client.get(f"/p/{root.name}/file", params={"path": "outputs/b.bin"}).text
    assert "This is a binary file." in page


def test_an_image_is_shown(client: Client, root: Path) -> None:
    (root / "outputs/i.png").write_bytes(png())
    page = client.get(f"/p/{root.name}/file", params={"path": "outputs/i.png"}).text
    assert f'src="/p/{root.name}/raw?path=outputs/i.png"' in page


def test_a_download_has_all_bytes(client: Client, root: Path) -> None:
    content = bytes(range(256)) * 20_000
    (root / "outputs/big.bin").write_bytes(content)
    query = {"path": "outputs/big.bin"}
    assert client.get(f"/p/{root.name}/raw", params=query).content == content


def test_versions_of_data_and_models(client: Client, root: Path) -> None:
    (root / "dvc/train.csv.dvc").write_text(
        "outs:\n- md5: 0cc175b9c0f1b6a831c399e269772661\n"
        "  size: 2048\n  path: train.csv\n"
    )
    # An alias bomb, and a file that is not what it should be.
    (root / "dvc/bomb.dvc").write_text("outs: &a [x]\nb: [*a, *a]\n")
    (root / "dvc/odd.dvc").write_text("outs: 7")
    # DVC's own directory.
    (root / "dvc/.dvc").mkdir()
    home = root / "models/models/clf/v1"
    home.mkdir(parents=True)
    (home / "model.yaml").write_text("name: clf\n")
    (home / "weights").write_bytes(bytes(1014))
    data = client.get(f"/p/{root.name}/data").text
    assert "train.csv" in data and "2.0 KiB" in data and "bomb" not in data
    models = client.get(f"/p/{root.name}/models").text
    assert "clf" in models and "v1" in models and "1.0 KiB" in models


def write_report(root: Path, name: str, share: object) -> None:
    reports = root / "monitoring/reports"
    reports.mkdir(exist_ok=True)
    metric = {
        "metric_name": "DriftedColumnsCount(drift_share=0.5)",
        "value": {"share": share, "count": 1},
    }
    (reports / f"{name}.json").write_text(json.dumps({"metrics": [metric]}))
    (reports / f"{name}.html").write_text(
        "<!doctype html><title>drift</title><p id=out>not run</p>"
        "<script>document.getElementById('out').textContent = 'drawn'</script>"
    )


def test_drift_is_shown_over_time(client: Client, root: Path) -> None:
    write_report(root, "drift-20261101T000000.000000Z-aaaaaa", 0.25)
    write_report(root, "drift-20261102T000000.000000Z-bbbbbb", 0.5)
    write_report(root, "drift-odd", "many")
    page = client.get(f"/p/{root.name}/drift").text
    assert page.count("<circle") == 2
    assert "2026-11-01" in page and "25 %" in page
    path = "monitoring/reports/drift-20261101T000000.000000Z-aaaaaa.html"
    opened = client.get(f"/p/{root.name}/drift", params={"report": path}).text
    assert '<iframe class="report" sandbox="allow-scripts"' in opened


def test_events_of_a_project(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    manager.update_workspace_metadata(project, metadata={"stage": "changed"})
    wait_until(lambda: "updated" in client.get(f"/p/{project}/events").text)
    # The server writes its audit log a moment later.
    wait_until(lambda: "UpdateWorkspace" in client.get(f"/p/{project}/events").text)


def test_a_project_without_runs(client: Client, project: str) -> None:
    assert "There are no runs." in client.get(f"/p/{project}/runs").text


def test_projects_are_compared(client: Client, project: str, root: Path) -> None:
    (root / "models/w").write_bytes(bytes(2048))
    other = client.get("/compare", params={"p": f"{project} absent"}).text
    assert "Workspace does not exist: absent" in other
    client.submit("/create", project="compared", metadata="{}")
    page = client.get(f"/compare?p={project}&p=compared").text
    assert "2.0 KiB" in page and 'href="/p/compared"' in page


@pytest.mark.parametrize("names", ["one", " ".join(f"n{n}" for n in range(11))])
def test_a_comparison_needs_two_to_ten_projects(client: Client, names: str) -> None:
    assert "Name two to ten projects" in client.get(f"/compare?p={names}").text


def test_operations(client: Client, server: Server, project: str) -> None:
    page = client.get("/operations").text
    assert str(server.base) in page
    assert "operator on *" in page
    assert "CreateWorkspace" in page  # In the audit log.
    assert "server-running" in client.get("/operations/doctor").text


def test_an_unreadable_record_is_shown(
    client: Client, server: Server, project: str
) -> None:
    (server.base / project / "workspace.yaml").write_text("a: [")
    wait_until(lambda: "cannot be read" in client.get("/?sort=health").text)
