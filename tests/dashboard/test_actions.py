"""The actions: forms that work without scripts."""

import html
import re
import subprocess
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager

from dashboard.conftest import Client, Dashboard, running, wait_until
from support.server import BINARY, Server, short_base


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return html.unescape(found[1])


def test_create(client: Client, manager: WorkspaceManager) -> None:
    answer = client.submit("/create", project="made", metadata='{"n": 1, "t": "é"}')
    assert answer.url.path == "/p/made"
    assert manager.get_workspace("made").metadata == {"n": 1, "t": "é"}


def test_a_form_with_a_mistake_keeps_what_was_typed(client: Client) -> None:
    answer = client.submit("/create", project="bad name", metadata='{"x": 1}')
    assert answer.status_code == 400
    assert 'value="bad name"' in answer.text
    assert "{&#34;x&#34;: 1}" in answer.text
    answer = client.submit("/create", project="fine", metadata='{"x": 1,\n!}')
    assert answer.status_code == 400
    assert "in line 2, column 1" in answer.text


def test_a_name_that_is_taken_is_refused(client: Client, project: str) -> None:
    answer = client.submit("/create", project=project, metadata="{}")
    assert answer.status_code == 409
    assert "already exists" in answer.text


def test_edit_metadata(client: Client, manager: WorkspaceManager, project: str) -> None:
    path = f"/p/{project}/edit"
    etag = hidden(client.get(path).text, "etag")
    answer = client.submit(path, etag=etag, metadata='{"new": [true]}')
    assert answer.url.path == f"/p/{project}"
    assert manager.get_workspace(project).metadata == {"new": [True]}


def test_an_edit_does_not_overwrite_another(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    path = f"/p/{project}/edit"
    etag = hidden(client.get(path).text, "etag")
    manager.update_workspace_metadata(project, metadata={"other": 1})
    answer = client.submit(path, etag=etag, metadata='{"mine": 2}')
    assert answer.status_code == 409
    assert "Somebody changed this project" in answer.text
    assert "{&#34;mine&#34;: 2}" in answer.text
    assert "mine" not in manager.get_workspace(project).metadata


def test_delete_needs_the_name(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    path = f"/p/{project}/delete"
    uid = hidden(client.get(path).text, "uid")
    answer = client.submit(path, uid=uid, name="other")
    assert answer.status_code == 409
    assert "nothing was deleted" in answer.text
    assert manager.get_workspace(project)


def test_delete_and_undelete(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    path = f"/p/{project}/delete"
    uid = hidden(client.get(path).text, "uid")
    answer = client.submit(path, uid=uid, name=project)
    assert answer.url.path == "/trash"
    assert project in answer.text and "in 3 d" in answer.text
    # At once, even if the watch has not yet reported the deletion.
    assert f"Restore {project}" in answer.text
    with pytest.raises(WorkspaceError):
        manager.get_workspace(project)
    answer = client.submit(f"/p/{project}/undelete", uid=uid)
    assert answer.url.path == f"/p/{project}"
    assert manager.get_workspace(project)


def test_a_name_that_is_taken_again_cannot_be_restored(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    manager.delete_workspace(project, force=True)
    assert f"Restore {project}" in client.get("/trash").text
    manager.create_workspace(project)
    page = client.get("/trash").text
    assert "the name is taken again" in page and f"Restore {project}" not in page


def test_a_deletion_meant_for_another_project_of_that_name_is_refused(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    uid = hidden(client.get(f"/p/{project}/delete").text, "uid")
    manager.delete_workspace(project, force=True)
    manager.create_workspace(project)
    assert client.submit(f"/p/{project}/delete", uid=uid, name=project).is_error
    assert manager.get_workspace(project)


def test_release_a_lease(
    client: Client, manager: WorkspaceManager, project: str
) -> None:
    with manager.lease(project, holder="trainer-7", ttl=60):
        page = client.get(f"/p/{project}").text
        assert "trainer-7" in page and f"/p/{project}/release" in page
        client.submit(f"/p/{project}/release")
        assert "trainer-7" not in client.get(f"/p/{project}").text


ACTIONS = ("edit", "delete", "undelete", "release")


def test_read_only_offers_and_does_nothing(server: Server, project: str) -> None:
    with running(server, "--read-only") as client:
        assert "New project" not in client.get("/").text
        page = client.get(f"/p/{project}").text
        assert "read only" in page
        assert not re.search(r'href="/p/[^"]*/(edit|delete)"', page)
        for path in ("/create", *(f"/p/{project}/{one}" for one in ACTIONS)):
            answer = client.submit(path, project="x", name=project, metadata="{}")
            assert answer.status_code == 403, path


POLICY = """
bindings:
  - {principal: viewer, role: viewer, projects: ["team-*"]}
  - {principal: editor, role: editor, projects: ["team-*"]}
  - {principal: "uid:*", role: operator}
"""


def test_users_see_and_do_what_their_tokens_allow() -> None:
    with short_base() as base:
        policy, tokens = base.with_name("policy"), base.with_name("tokens")
        policy.write_text(POLICY)
        policy.chmod(0o600)
        secrets = {name: new_token(tokens, name) for name in ("viewer", "editor")}
        with (
            Server(base, "--policy", str(policy), "--tokens", str(tokens)) as server,
            WorkspaceManager(address=server.address) as manager,
            Dashboard("--base", str(base), "--login", "token") as dashboard,
        ):
            manager.create_workspace("team-a")
            manager.create_workspace("secret")
            check_viewer(dashboard, secrets["viewer"])
            check_editor(dashboard, secrets["editor"])
            with dashboard.stranger() as client:
                assert client.get("/").url.path == "/login"
                answer = client.post("/login", data={"secret": "mlw_wrong"})
                assert answer.status_code == 401
                client.headers["authorization"] = "Bearer mlw_wrong"
                assert client.get("/").url.path == "/login"
            check_revocation(dashboard, tokens, secrets["editor"])


def new_token(tokens: Path, name: str) -> str:
    command = [BINARY, "token", name, "--tokens", str(tokens)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"mlw_\S+", out)
    assert found is not None, out
    return found[0]


def check_viewer(dashboard: Dashboard, token: str) -> None:
    with dashboard.stranger() as client:
        page = client.post("/login", data={"secret": token, "next": "/"})
        assert page.url.path == "/"
        wait_for(client, "team-a")
        assert "secret" not in client.get("/").text
        assert "New project" not in client.get("/").text
        assert client.get("/p/secret").status_code == 403
        assert "/edit" not in client.get("/p/team-a").text
        assert client.submit("/p/team-a/edit", metadata="{}").status_code == 403
        assert "server-running" not in client.get("/operations/doctor").text
        assert client.submit("/logout").url.path == "/login"
        assert client.get("/").url.path == "/login"


def check_editor(dashboard: Dashboard, token: str) -> None:
    # As a login proxy passes it on.
    with dashboard.stranger() as client:
        client.headers["authorization"] = f"Bearer {token}"
        wait_for(client, "team-a")
        page = client.get("/p/team-a").text
        assert "/p/team-a/edit" in page and "/p/team-a/delete" not in page
        answer = client.submit("/create", project="team-b", metadata="{}")
        assert answer.url.path == "/p/team-b"


def check_revocation(dashboard: Dashboard, tokens: Path, token: str) -> None:
    with dashboard.stranger() as client:
        client.post("/login", data={"secret": token})
        wait_for(client, "team-a")
        lines = tokens.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("editor")]
        fresh = tokens.with_name("fresh")
        fresh.write_text("\n".join(kept) + "\n")
        fresh.chmod(0o600)
        fresh.replace(tokens)
        wait_until(lambda: "team-a" not in client.get("/").text)
        assert client.get("/").url.path == "/login"


def test_a_server_without_tokens_lets_nobody_in(server: Server) -> None:
    # It would ignore the token, and take the calls for the dashboard's own.
    with (
        Dashboard("--base", str(server.base), "--login", "token") as dashboard,
        dashboard.stranger() as client,
    ):
        assert client.post("/login", data={"secret": "anything"}).status_code == 401
        client.headers["authorization"] = "Bearer anything"
        for path in ("/", "/events", "/operations"):
            assert client.get(path).url.path == "/login"


def wait_for(client: Client, text: str) -> None:
    wait_until(lambda: text in client.get("/").text)
