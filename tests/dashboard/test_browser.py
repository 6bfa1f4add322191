"""The dashboard in Chromium: live pages, keys, accessibility, no errors."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from mlops.workspace import WorkspaceManager
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from dashboard.conftest import Client, Dashboard
from dashboard.test_pages import png, write_report
from dashboard.test_security import HOSTILE
from support.server import Server, short_base

CHROMIUM = "/usr/bin/chromium"
# Without these, Chromium looks for updates and delays the start.
_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MANY = 10_000
# Pages of a busy machine take long.
expect.set_options(timeout=30_000)

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is not installed"
)
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = _FLAGS + ["--no-sandbox"] * (os.geteuid() == 0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def opening(browser: Browser, dashboard: Dashboard, **options: Any) -> Iterator[Open]:
    """A function that opens pages. At the end, none must have had an error."""
    options = {"viewport": {"width": 1280, "height": 900}, **options}
    context = browser.new_context(**options)
    context.set_default_timeout(30_000)
    troubles: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(message.text)

    def open_page(path: str = "/") -> Page:
        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.goto(f"{dashboard.url}{path}")
        return page

    first = context.new_page()
    first.goto(dashboard.link)
    first.close()
    yield open_page
    context.close()
    assert troubles == []


@pytest.fixture
def open_page(browser: Browser, dashboard: Dashboard) -> Iterator[Open]:
    with opening(browser, dashboard) as function:
        yield function


@pytest.fixture
def full(server: Server, manager: WorkspaceManager) -> str:
    """A project that has something of everything, with hostile names and values."""
    name = "full"
    if (server.base / name).exists():
        return name
    manager.create_workspace(
        name, metadata={"stage": HOSTILE, HOSTILE: [1, HOSTILE], "auc": 0.9}
    )
    root = server.base / name
    (root / "outputs" / HOSTILE.replace("/", "_")).write_text(HOSTILE)
    (root / "outputs/page.html").write_text("<script>alert(3)</script>")
    (root / "outputs/i.png").write_bytes(png())
    (root / "outputs/t.csv").write_text(f"{HOSTILE.replace(',', '')},b\n1,2\n")
    (root / "models/big.bin").write_bytes(bytes(100_000))
    (root / "dvc/d.dvc").write_text("outs:\n- md5: abc\n  path: <b>x</b>\n")
    write_report(root, "drift-20261101T000000.000000Z-aaaaaa", 0.25)
    write_report(root, "drift-20261102T000000.000000Z-bbbbbb", 0.5)
    return name


PAGES = (
    "/",
    "/?filter=metadata.stage+%3D%3D+x",
    "/p/full",
    "/p/full/map?path=outputs",
    "/p/full/file?path=outputs/t.csv",
    "/p/full/file?path=outputs/i.png",
    "/p/full/file?path=outputs/page.html",
    "/p/full/drift",
    "/p/full/edit",
    "/p/full/delete",
    "/compare",
    "/compare?p=full&p=other",
    "/operations",
    "/trash",
    "/create",
)


def settle(page: Page) -> None:
    """Waits until the parts of a page are loaded."""
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    for panel in page.locator("[hx-trigger^=load], [hx-trigger^=revealed]").all():
        panel.scroll_into_view_if_needed()
    expect(page.locator(".htmx-request")).to_have_count(0)
    expect(page.locator("#state")).to_have_class("state live")


def wide(page: Page) -> int:
    """By how much a page is wider than its window."""
    return int(
        page.evaluate(
            "document.documentElement.scrollWidth"
            " - document.documentElement.clientWidth"
        )
    )


def problems(page: Page) -> str:
    """What axe-core finds; "" if it finds nothing."""
    report = Axe().run(page)
    return report.generate_report() if report.violations_count else ""


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_fits(
    browser: Browser,
    dashboard: Dashboard,
    manager: WorkspaceManager,
    full: str,
    path: str,
) -> None:
    manager.get_or_create_workspace("other")
    with opening(browser, dashboard, color_scheme="light") as open_page:
        page = open_page(path)
        settle(page)
        assert problems(page) == ""
        # Nothing of a project became an element. Dialogs fail the test.
        assert page.locator("main img:not(.preview), main script").count() == 0
        page.emulate_media(color_scheme="dark")
        assert problems(page) == ""
        for width in (375, 2560):
            page.set_viewport_size({"width": width, "height": 800})
            assert wide(page) <= 0, width


def test_changes_appear_without_a_reload(
    open_page: Open, manager: WorkspaceManager, project: str
) -> None:
    page = open_page("/")
    row = page.locator(f"#row-{project}")
    expect(row).to_contain_text("test")
    page.evaluate("window.same = true")
    manager.update_workspace_metadata(project, metadata={"stage": "rehearsal"})
    expect(row).to_contain_text("rehearsal")
    manager.create_workspace("appears")
    expect(page.locator("#row-appears")).to_be_visible(timeout=2000)
    manager.delete_workspace("appears", force=True)
    expect(page.locator("#row-appears")).to_have_count(0)
    assert page.evaluate("window.same")


def test_the_page_of_a_project_is_live(
    open_page: Open, manager: WorkspaceManager, project: str
) -> None:
    page = open_page(f"/p/{project}")
    expect(page.locator("#record")).to_contain_text("test")
    settle(page)
    manager.update_workspace_metadata(project, metadata={"stage": "rehearsal"})
    expect(page.locator("#record")).to_contain_text("rehearsal")
    expect(page.locator("#project-events")).to_contain_text("updated")


def test_a_filter_is_applied_while_typing(
    open_page: Open, manager: WorkspaceManager, project: str
) -> None:
    page = open_page("/")
    page.keyboard.press("/")
    page.keyboard.type(f"project = {project} AND metadata.stage == test")
    expect(page.locator("#filter-error mark")).to_have_text("==")
    expect(page.locator("#filter")).to_have_attribute("aria-invalid", "true")
    page.locator("#filter").fill(f"project = {project} AND metadata.stage = test")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "filter=" in page.url
    # The project no longer matches.
    manager.update_workspace_metadata(project, metadata={"stage": "other"})
    expect(page.locator(".empty")).to_be_visible(timeout=2000)


def test_delete_and_undelete(
    open_page: Open, manager: WorkspaceManager, project: str
) -> None:
    page = open_page(f"/p/{project}")
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Delete {project}")
    page.get_by_label("Type the name").fill(project)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name=f"Restore {project}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(project)
    assert manager.get_workspace(project)


def test_create_and_edit(open_page: Open, manager: WorkspaceManager) -> None:
    page = open_page("/")
    page.get_by_role("link", name="New project").click()
    page.get_by_label("Name").fill("by-hand")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("link", name="Edit metadata").click()
    page.get_by_label("Metadata").fill('{"owner": "ada"}')
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#record")).to_contain_text("ada")
    assert manager.get_workspace("by-hand").metadata == {"owner": "ada"}


def test_the_tree_map_leads_down(open_page: Open, full: str) -> None:
    page = open_page(f"/p/{full}")
    page.locator("#map svg a", has_text="models").click()
    page.locator("#map tbody a", has_text="big.bin").click()
    expect(page.locator("#map")).to_contain_text("This is a binary file.")
    page.locator("#map .crumbs a", has_text=full).click()
    expect(page.locator("#map tbody tr")).to_have_count(5)


def test_a_report_draws_itself_in_its_sandbox(open_page: Open, full: str) -> None:
    page = open_page(f"/p/{full}/drift")
    page.locator("#drift tbody a").first.click()
    frame = page.frame_locator("iframe.report")
    expect(frame.locator("#out")).to_have_text("drawn")
    inner = page.frames[-1]
    assert inner.evaluate("window.origin") == "null"


def test_keys_move_through_the_table(
    open_page: Open, manager: WorkspaceManager
) -> None:
    for name in ("key-a", "key-b"):
        manager.get_or_create_workspace(name)
    page = open_page("/?filter=key-")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#open-key-b")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/p/key-a")


def test_chosen_projects_are_compared(
    open_page: Open, manager: WorkspaceManager
) -> None:
    for name in ("pick-a", "pick-b"):
        manager.get_or_create_workspace(name)
    page = open_page("/?filter=pick-")
    page.get_by_label("Compare pick-a").check()
    page.get_by_label("Compare pick-b").check()
    # A change of a row keeps it chosen.
    manager.update_workspace_metadata("pick-a", metadata={"stage": "x"})
    expect(page.locator("#row-pick-a")).to_contain_text("x")
    page.get_by_role("button", name="Compare the chosen").click()
    expect(page.locator("table.compare tbody tr")).to_have_count(2)


def test_more_tabs_than_connections(open_page: Open, project: str) -> None:
    # Browsers open six connections to a host; the pages share one.
    for _ in range(9):
        expect(open_page("/").locator(f"#row-{project}")).to_be_attached()


def test_a_restart_of_the_server_is_shown(browser: Browser) -> None:
    with short_base() as base, ExitStack() as stack:
        listen = "127.0.0.1:0"
        with Server(base, "--listen", listen) as server:
            listen = next(one for one in server.addresses if "unix" not in one)
            dashboard = stack.enter_context(Dashboard("--address", listen))
            with WorkspaceManager(address=server.address) as manager:
                manager.create_workspace("stays")
        with opening(browser, dashboard) as open_page:
            page = open_page("/")
            expect(page.locator("#trouble")).to_be_visible()
            with Server(base, "--listen", listen):
                expect(page.locator("#trouble")).to_be_hidden()
                expect(page.locator("#state")).to_have_text("live")
                expect(page.locator("#row-stays")).to_be_visible()


@pytest.fixture(scope="module")
def many() -> Iterator[Dashboard]:
    """A dashboard of 10,000 projects, which were put there by hand."""
    # A disk that others use, too, can take a minute to remove so many.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    with short_base(memory) as base:
        for number in range(MANY):
            name = f"project-{number:05}"
            (base / name).mkdir(parents=True)
            (base / name / "workspace.yaml").write_text(
                f"project_name: {name}\nuid: {uuid.uuid4().hex}\n"
                f"metadata:\n  stage: {'production' if number % 3 else 'staging'}\n"
                f"  number: {number}\n"
            )
        with Server(base), Dashboard("--base", str(base)) as dashboard:
            yield dashboard


def test_many_projects_are_painted(browser: Browser, many: Dashboard) -> None:
    with opening(browser, many) as open_page:
        page = open_page("/")
        expect(page.locator(".summary")).to_contain_text("10\u202f000 projects")
        # The browser paints after the page has its text.
        painted = page.wait_for_function(
            "performance.getEntriesByType('paint')[0]?.startTime"
        ).json_value()
        print(f"first paint of {MANY} projects in ms: {painted}")
        assert painted > 0


def test_many_projects_are_smooth(browser: Browser, many: Dashboard) -> None:
    with opening(browser, many) as open_page:
        page = open_page("/")
        expect(page.locator("tbody tr")).to_have_count(100)
        page.keyboard.press("n")
        expect(page.locator("tbody tr").first).to_contain_text("project-00100")
        page.get_by_role("link", name="Last").click()
        expect(page.locator("tbody tr").last).to_contain_text("project-09999")
        page.get_by_role("link", name="number").click()
        expect(page.locator("tbody tr").first).to_contain_text("project-00000")
        page.locator("#filter").fill("metadata.stage = staging")
        expect(page.locator(".summary")).to_contain_text("3\u202f334 of 10\u202f000")


def test_many_projects_are_live(many: Dashboard, browser: Browser) -> None:
    with opening(browser, many) as open_page, many.client() as client:
        page = open_page("/?filter=project-05000")
        expect(page.locator("tbody tr")).to_have_count(1)
        edit(client, "project-05000", '{"stage": "fresh"}')
        expect(page.locator("tbody tr")).to_contain_text("fresh")


def edit(client: Client, project: str, metadata: str) -> None:
    path = f"/p/{project}/edit"
    assert client.submit(path, etag="", metadata=metadata).status_code == 200
