"""Parts that need no server."""

import asyncio
import math

import pytest
from mlops._rpc.connection import FixedServer
from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import charts, previews, shown
from mlops.dashboard.actions import parse_metadata
from mlops.dashboard.callers import Callers
from mlops.dashboard.charts import Series
from mlops.dashboard.files import children
from mlops.dashboard.link import Link
from mlops.dashboard.live import Live, Subscription
from mlops.dashboard.operations import parse_metrics
from mlops.dashboard.rows import Row, chosen_columns
from mlops.dashboard.security import FormError
from mlops.dashboard.toolkits import Runs
from mlops.workspace.v1 import workspace_service_pb2 as pb


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB")],
)
def test_sizes(number: int, text: str) -> None:
    assert shown.size(number) == text


def test_text_cannot_change_the_direction_of_the_page() -> None:
    assert shown.clean("a\u202eb\x1bc") == "a\ufffdb\ufffdc"


def test_a_tree_map_fills_its_area() -> None:
    values = [600.0, 300.0, 50.0, 49.0, 1.0]
    tiles = charts.squarify([(value, value) for value in values], 960, 320)
    for tile in tiles:
        share = tile.width * tile.height / (960 * 320)
        assert share == pytest.approx(tile.value / sum(values))
        assert tile.x >= 0 and tile.x + tile.width <= 960.001
        assert tile.y >= 0 and tile.y + tile.height <= 320.001
    assert charts.squarify([("empty", 0)], 960, 320) == []


def test_a_chart_leaves_out_what_is_no_number() -> None:
    points = [(1.0, math.nan), (2.0, math.inf), (3.0, 0.5)]
    chart = charts.lines([Series("<b>", points)], "auc")
    assert chart.count("<circle") == 1
    assert "<b>" not in chart


@pytest.mark.parametrize(
    ("values", "circles"),
    [
        ([1.7976931348623157e308, -1.7976931348623157e308, 1.0], 1),
        ([1e300, -1e300], 2),
        ([0.0, 5e-324], 2),
        ([1.0, 1.0000000000000002], 2),
        ([1e16, 1e16 + 2], 2),
        ([0.0, 0.0], 2),
        ([-3.0], 1),
    ],
)
def test_a_chart_of_extreme_values(values: list[float], circles: int) -> None:
    chart = charts.lines([Series("loss", list(enumerate(values)))], "loss", False)
    assert chart.count("<circle") == circles
    assert "nan" not in chart and "inf" not in chart


def test_a_diverged_run_is_not_the_best() -> None:
    losses = [math.nan, 0.5, math.nan, 0.2, math.inf]
    runs = Runs(
        [{"run_id": str(n), "metrics": {"loss": v}} for n, v in enumerate(losses)]
    )
    best, worst = runs.best("loss", lowest=True), runs.best("loss", lowest=False)
    assert (best or {})["run_id"] == "3" and (worst or {})["run_id"] == "4"
    assert runs.span("loss") == (0.2, math.inf) and runs.span("auc") is None
    assert Runs([{"metrics": {"loss": math.nan}}]).best("loss", lowest=True) is None


def test_a_chart_of_nothing_is_empty() -> None:
    assert charts.lines([Series("auc", [])], "auc") == ""


def test_a_change_of_an_unknown_kind_updates_the_row() -> None:
    async def watched() -> Live:
        live = Live(Link(FixedServer("unix:/nowhere")), ())
        workspace = pb.Workspace(project="p", uid="u")
        response = pb.WatchWorkspacesResponse(workspace=workspace, resume_token="t")
        response.change = 99  # type: ignore[assignment]
        live._apply(response)
        return live

    live = asyncio.run(watched())
    assert list(live.rows) == ["p"]
    assert [event.change for event in live.events] == ["changed"]


def test_metadata_in_a_row_is_bounded() -> None:
    workspace = pb.Workspace(project="p", uid="u")
    workspace.metadata.update({f"k{n:05}": "x" * 5000 for n in range(100)})
    row = Row.of(workspace)
    assert len(row.metadata) == 32
    assert max(map(len, row.metadata.values())) == 101


def test_the_default_columns_begin_with_the_stage() -> None:
    keys = ["auc", "team", "stage", "owner"]
    assert chosen_columns(None, keys) == ("stage", "owner", "auc")
    assert chosen_columns("", keys) == ()


def test_a_page_that_does_not_read_takes_bounded_space() -> None:
    async def run() -> tuple[dict[str, bool], bool, str]:
        page = Subscription()
        for number in range(100_000):
            page.add(f"project-{number}", True)
            assert len(page._changed) * 16 <= 64 << 10
        return await page.take(1)

    changed, everything, _ = asyncio.run(run())
    # Everything is loaded anew, and then what came after that.
    assert everything and len(changed) < 10_000


def test_metrics_are_read() -> None:
    numbers = parse_metrics(
        "# HELP x\n"
        'grpc_server_handled_total{grpc_method="Get",grpc_code="OK"} 99\n'
        'grpc_server_handled_total{grpc_method="Get",grpc_code="NOT_FOUND"} 1\n'
        'grpc_server_handling_seconds_bucket{grpc_method="Get",le="0.1"} 98\n'
        'grpc_server_handling_seconds_bucket{grpc_method="Get",le="0.5"} 100\n'
        'grpc_server_handling_seconds_bucket{grpc_method="Get",le="+Inf"} 100\n'
        "process_resident_memory_bytes 1e6\n"
    )
    (method,) = numbers.methods
    assert (method.count, method.errors, method.p99_s) == (100, 1, 0.5)
    assert numbers.memory_bytes == 1e6


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": NaN}', '{"a": 9007199254740993}', "[" * 100_000]
)
def test_metadata_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(FormError):
        parse_metadata(text)


def test_children_sum_what_is_below() -> None:
    found = [
        pb.Artifact(path="outputs/a", directory=True),
        pb.Artifact(path="outputs/a/1", size_bytes=3),
        pb.Artifact(path="outputs/a/b/2", size_bytes=4),
        pb.Artifact(path="outputs/c", size_bytes=5),
    ]
    first, second = children(found, "outputs")
    assert (first.name, first.size_bytes, first.file_count) == ("a", 7, 2)
    assert (second.name, second.directory) == ("c", False)


@pytest.mark.parametrize("name", ["x.svg", "x.html", "x.png", "x.pdf"])
def test_only_true_images_are_shown_as_such(name: str) -> None:
    assert previews.image_type(name, b"<svg onload=alert(1)>") == ""


def test_a_cut_text_ends_before_a_broken_letter() -> None:
    data = "a€".encode()[:-1]
    assert previews.preview("a.txt", data, 10).text == "a"


def test_a_page_that_comes_after_the_end_ends_at_once() -> None:
    async def came_late() -> str:
        callers = Callers(Link(FixedServer("unix:/nowhere")), read_only=False)
        live = callers.of(()).live
        ending = asyncio.create_task(callers.end_streams())
        await asyncio.sleep(0)
        # While the watch is being ended, which may take a moment.
        late = callers.of(()).live
        assert late is live
        with late.subscribe() as page:
            async with asyncio.timeout(30):
                while (await page.take(10))[2] != "closed":
                    pass
        await ending
        with pytest.raises(WorkspaceError) as refused:
            callers.of((("authorization", "Bearer other"),))
        await callers.close()
        return str(refused.value.details["code"])

    assert asyncio.run(came_late()) == "UNAVAILABLE"
