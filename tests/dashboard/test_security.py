"""What protects the dashboard from other sites, users, names and files."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from mlops.dashboard import callers
from mlops.dashboard.app import create_app
from mlops.dashboard.security import FILE_POLICY, REPORT_POLICY
from mlops.dashboard.settings import Settings
from mlops.local_server import choose_server
from mlops.workspace import WorkspaceManager
from starlette.routing import Route

from dashboard.conftest import Client, Dashboard, running, wait_until
from dashboard.test_pages import png, write_report
from support.server import Server

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}\u202e"


def routes() -> list[tuple[str, str]]:
    """The methods and paths of all routes."""
    settings = Settings(choose_server(address="127.0.0.1:1")[0])
    found = []
    for route in all_routes(create_app(settings).routes):
        found += [(method, route.path) for method in route.methods or ()]
    return found


def all_routes(given: object) -> list[Route]:
    result = []
    for one in given:  # type: ignore[attr-defined]
        if isinstance(one, Route):
            result.append(one)
        # FastAPI keeps the routes of a router together.
        inner = getattr(one, "original_router", None)
        if inner is not None:
            result += all_routes(inner.routes)
    return result


POSTS = sorted({path for method, path in routes() if method == "POST"})
PAGES = sorted({path for method, path in routes() if method == "GET"} - {"/events"})


def test_the_routes_are_found() -> None:
    assert "/p/{project}/delete" in POSTS and "/operations" in PAGES
    methods = {method for method, _ in routes()}
    assert methods <= {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", POSTS)
def test_no_form_is_accepted_without_its_token(
    client: Client, project: str, path: str
) -> None:
    path = path.replace("{project}", project)
    if path == "/login":
        return
    for fields in ({}, {"csrf": "0" * 64}, {"csrf": "é"}):
        assert client.post(path, data=fields).status_code in (403, 415)


@pytest.mark.parametrize("path", POSTS)
def test_no_form_of_another_site_is_accepted(
    client: Client, project: str, path: str
) -> None:
    path, token = path.replace("{project}", project), client.csrf()
    for headers in (
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = client.post(path, data={"csrf": token}, headers=headers)
        assert answer.status_code == 403


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_headers(client: Client, project: str, path: str) -> None:
    path = path.replace("{project}", project)
    headers = client.get(path, params={"path": "models"}).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_inline_scripts_or_styles_or_other_hosts(
    client: Client, project: str, path: str
) -> None:
    page = client.get(path.replace("{project}", project), params={"path": "models"})
    assert not re.search(r"<style|\bstyle=|\son[a-z]+=", page.text)
    assert not re.search(r"<script(?! src=\"/static/)", page.text)
    assert not re.search(r"(src|href|action)=\"(?!/|#)", page.text)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_opens_without_the_link(
    dashboard: Dashboard, project: str, path: str
) -> None:
    with dashboard.stranger() as stranger:
        answer = stranger.get(path.replace("{project}", project))
        assert answer.url.path == "/login"


def test_the_key_opens_and_leaves_the_address(dashboard: Dashboard) -> None:
    with dashboard.stranger() as stranger:
        assert stranger.get("/?key=wrong").url.path == "/login"
        assert stranger.post("/login", data={"secret": "wrong"}).status_code == 401
        page = stranger.get(dashboard.link)
        assert str(page.url) == f"{dashboard.url}/"
        cookie = page.history[0].headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    key = dashboard.link.partition("key=")[2]
    with dashboard.stranger() as stranger:
        page = stranger.post("/login", data={"secret": key, "next": "/trash"})
        assert page.url.path == "/trash"
        page = stranger.post("/login", data={"secret": key, "next": "//evil.example"})
        assert str(page.url) == f"{dashboard.url}/"


def test_a_forged_cookie_does_not_open(client: Client, dashboard: Dashboard) -> None:
    (name,) = client.cookies
    value = client.cookies[name]
    with dashboard.stranger() as stranger:
        stranger.cookies.set(name, f"x{value}")
        assert stranger.get("/").url.path == "/login"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "["])
def test_unknown_host_names_are_refused(client: Client, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8050"])
def test_this_machine_is_known(client: Client, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


def test_other_names_can_be_allowed(server: Server) -> None:
    with running(server, "--allow-host", "dash.example") as client:
        answer = client.get("/", headers={"host": "dash.example"})
        assert answer.status_code == 200


def test_a_proxy_that_logs_users_in_needs_no_link(server: Server) -> None:
    with Dashboard("--base", str(server.base), "--login", "proxy") as dashboard:
        assert "key=" not in dashboard.link
        with dashboard.stranger() as client:
            assert client.get("/").status_code == 200
            answer = client.submit("/create", project="by-proxy", metadata="{}")
            assert answer.url.path == "/p/by-proxy"


def test_hostile_metadata_is_text(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    manager.update_workspace_metadata(
        project, metadata={"stage": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}}
    )
    query = {"filter": project, "cols": f"stage,{HOSTILE.replace(',', '')}"}
    wait_until(lambda: "alert(1)" in client.get("/", params=query).text)
    pages = [client.get("/", params=query)]
    pages += [client.get(f"/p/{project}{path}") for path in ("", "/edit", "/events")]
    pages.append(client.get("/", params={"filter": HOSTILE}))
    for page in pages:
        assert "<script>alert" not in page.text and "<img" not in page.text
        assert "{{7*7}}" in page.text or "/events" in str(page.url)
        assert (
            "\u202e" not in page.text
            or "/edit" in str(page.url)
            or ("filter" in str(page.url))
        )


def test_hostile_file_names_are_text(
    client: Client, server: Server, project: str
) -> None:
    name = HOSTILE.replace("/", "_")
    (server.base / project / "outputs" / name).write_text(HOSTILE)
    page = client.get(f"/p/{project}/map", params={"path": "outputs"})
    assert "<script>alert" not in page.text and "<img" not in page.text
    page = client.get(f"/p/{project}/file", params={"path": f"outputs/{name}"})
    assert page.status_code == 200
    assert "<script>alert" not in page.text and "<img" not in page.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.html", b"<script>alert(1)</script>"),
        ("image.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("lie.png", b"<script>alert(1)</script>"),
    ],
)
def test_files_are_saved_and_not_executed(
    client: Client, server: Server, project: str, name: str, content: bytes
) -> None:
    (server.base / project / "outputs" / name).write_bytes(content)
    raw = client.get(f"/p/{project}/raw", params={"path": f"outputs/{name}"})
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.headers["content-disposition"].startswith("attachment")
    assert raw.headers["content-security-policy"] == FILE_POLICY
    assert raw.content == content


def test_true_images_are_shown(client: Client, server: Server, project: str) -> None:
    (server.base / project / "outputs/i.png").write_bytes(png())
    raw = client.get(f"/p/{project}/raw", params={"path": "outputs/i.png"})
    assert raw.headers["content-type"] == "image/png"
    assert raw.headers["content-security-policy"] == FILE_POLICY


def test_a_report_is_alone_in_a_sandbox(
    client: Client, server: Server, project: str
) -> None:
    write_report(server.base / project, "drift-1", 0.5)
    query = {"path": "monitoring/reports/drift-1.html"}
    report = client.get(f"/p/{project}/report", params=query)
    assert report.headers["content-security-policy"] == REPORT_POLICY
    assert "allow-same-origin" not in REPORT_POLICY
    assert "x-frame-options" not in report.headers
    # Nothing else can be opened as a report.
    (server.base / project / "outputs/x.html").write_text("<script></script>")
    query = {"path": "outputs/x.html"}
    assert client.get(f"/p/{project}/report", params=query).status_code == 404


@pytest.mark.parametrize("path", ["../workspace.yaml", "/etc/passwd", "a\0b", ""])
def test_paths_stay_in_the_workspace(client: Client, project: str, path: str) -> None:
    for kind in ("raw", "file"):
        answer = client.get(f"/p/{project}/{kind}", params={"path": path})
        assert answer.status_code == 400


def test_static_files_stay_in_their_directory(client: Client) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py"):
        assert client.get(path).status_code == 404


def test_a_large_form_is_refused(client: Client) -> None:
    answer = client.submit("/create", project="x", metadata="x" * (1 << 20))
    assert answer.status_code == 413


def test_vendored_files_have_their_licences() -> None:
    import mlops.dashboard

    static = Path(mlops.dashboard.__file__).with_name("static")
    notice = (static / "NOTICE").read_text()
    for file in static.glob("*.min.js"):
        assert file.name in notice
        licence = file.name.partition(".")[0] + ".LICENSE"
        assert licence in notice and (static / licence).is_file()


def test_too_many_users_get_a_page_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callers, "_MAX_CALLERS", 0)
    app = create_app(Settings(choose_server(address="127.0.0.1:1")[0], login="proxy"))

    async def check() -> None:
        app.state.dashboard.open()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1"
        ) as client:
            for path in ("/", "/events", "/p/fraud", "/operations"):
                page = await client.get(path)
                assert page.status_code == 503, path
                assert "Too many users" in page.text, path
        await app.state.dashboard.close()

    asyncio.run(check())
