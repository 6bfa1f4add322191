"""Live updates: one watch for all pages, restarts, slow readers."""

import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from mlops.workspace import WorkspaceManager

from dashboard.conftest import DEADLINE_S, Client, Dashboard, wait_until
from support.server import Server, short_base


class Events:
    """The events of a stream, read by a thread."""

    def __init__(self, response: httpx.Response) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []
        threading.Thread(target=self._read, args=(response,), daemon=True).start()

    def _read(self, response: httpx.Response) -> None:
        kind = ""
        try:
            for line in response.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.all.append((kind, json.loads(line.removeprefix("data: "))))
        except (httpx.HTTPError, httpx.StreamError):
            return

    def row(self, project: str) -> str:
        """The latest row of a project; "" if there is none."""
        rows = [
            data["html"].get(project, "") for kind, data in self.all if kind == "rows"
        ]
        return next((row for row in reversed(rows) if row), "")

    def states(self) -> list[str]:
        return [data["state"] for kind, data in self.all if kind == "state"]


@contextmanager
def events_of(client: Client, cols: str = "stage") -> Iterator[Events]:
    with client.stream("GET", f"/events?cols={cols}") as response:
        events = Events(response)
        wait_until(events.states)
        yield events


def test_a_change_arrives(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    with events_of(client) as events:
        # The first pages load all rows anew, once these are known.
        wait_until(lambda: "test" in client.get(f"/?filter={project}").text)
        time.sleep(1)
        for number in range(3):
            manager.update_workspace_metadata(
                project, metadata={"stage": f"value-{number}"}
            )
            wait_until(lambda: f"value-{number}" in events.row(project))  # noqa: B023


def test_creation_and_deletion_arrive(
    client: Client, manager: WorkspaceManager
) -> None:
    with events_of(client) as events:
        manager.create_workspace("comes")
        wait_until(lambda: events.row("comes"))
        manager.delete_workspace("comes", force=True)
        wait_until(
            lambda: any(
                data["changed"].get("comes") and "comes" not in data["html"]
                for kind, data in events.all
                if kind == "rows"
            )
        )


def test_a_lease_and_new_files_arrive(
    client: Client, server: Server, manager: WorkspaceManager, project: str
) -> None:
    with events_of(client) as events:
        with manager.lease(project, holder="trainer-9", ttl=60):
            wait_until(lambda: "trainer-9" in events.row(project))
        (server.base / project / "models/w").write_bytes(bytes(7777))
        wait_until(lambda: "7.6 KiB" in events.row(project))


def metric(server: Server, name: str) -> float:
    """A metric of the server, which reports the address of its metrics in its log."""
    found = re.search(r"127\.0\.0\.1:\d+", server.output)
    assert found is not None, server.output
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{found[0]}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    value = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert value is not None
    return float(value[1])


def test_many_pages_cost_the_server_one_watcher(
    dashboard: Dashboard, client: Client, manager: WorkspaceManager, server: Server
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    host, port = dashboard.url.removeprefix("http://").split(":")
    request = (
        f"GET /events?cols=stage HTTP/1.1\r\nhost: {host}:{port}\r\n"
        f"cookie: {cookie}\r\n\r\n"
    )
    with ExitStack() as stack:
        pages = []
        for _ in range(200):
            page = socket.create_connection((host, int(port)), DEADLINE_S)
            pages.append(stack.enter_context(page))
            page.sendall(request.encode())
        for page in pages:
            assert page.recv(4096).startswith(b"HTTP/1.1 200")
        manager.create_workspace("for-all", metadata={"stage": "seen-by-all"})
        for page in pages:
            seen = b""
            while b"seen-by-all" not in seen:
                part = page.recv(65536)
                assert part
                seen += part
        assert metric(server, "workspaced_watchers") == 1


def test_a_page_that_does_not_read_delays_nobody(
    dashboard: Dashboard, client: Client, manager: WorkspaceManager, project: str
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    host, port = dashboard.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(
            f"GET /events?cols=stage HTTP/1.1\r\nhost: {host}\r\n"
            f"cookie: {cookie}\r\n\r\n".encode()
        )
        with events_of(client) as events:
            for number in range(300):
                manager.update_workspace_metadata(
                    project, metadata={"stage": f"s{number}" + "x" * 90}
                )
            wait_until(lambda: "s299" in events.row(project))


def test_a_restart_of_the_server_is_survived_and_shown() -> None:
    with short_base() as base, ExitStack() as stack:
        with Server(base, "--listen", "127.0.0.1:0") as first:
            with WorkspaceManager(address=first.address) as manager:
                manager.create_workspace("before", metadata={"stage": "old"})
            address = next(one for one in first.addresses if "unix" not in one)
            dashboard = stack.enter_context(Dashboard("--address", address))
            client = stack.enter_context(dashboard.client())
            events = stack.enter_context(events_of(client))
            wait_until(lambda: "before" in client.get("/").text)
        wait_until(lambda: "down" in events.states())
        page = client.get("/").text
        assert "before" in page
        assert not re.search(r'id="trouble"[^>]* hidden', page)
        with (
            Server(base, "--listen", address) as second,
            WorkspaceManager(address=second.address) as manager,
        ):
            wait_until(lambda: events.states()[-1] == "live")
            assert re.search(r'id="trouble"[^>]* hidden', client.get("/").text)
            known = len(events.all)
            manager.update_workspace_metadata("before", metadata={"stage": "new"})
            # Alone, or with all rows, which a page loads anew after a restart.
            wait_until(
                lambda: (
                    "new</td>" in events.row("before")
                    or "all" in {kind for kind, _ in events.all[known:]}
                )
            )
            wait_until(lambda: "new</td>" in client.get("/").text)


def test_the_end_of_the_dashboard_ends_streams_at_once(server: Server) -> None:
    dashboard = Dashboard("--base", str(server.base))
    with dashboard, dashboard.client() as client, events_of(client) as events:
        dashboard.process.terminate()
        dashboard.process.wait(DEADLINE_S)
        assert events.states()[-1] == "closed"
