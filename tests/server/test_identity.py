"""Who calls, and what they may do: every RPC with every kind of caller."""

import contextlib
import grp
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlops.workspace import WorkspaceError, WorkspaceManager

from conformance.players import GRPCURL, SERVICE, Outcome, Request
from server.callers import (
    DENIED,
    UNAUTHENTICATED,
    Caller,
    Files,
    code_and_reason,
    get,
    metric,
    on_socket,
    on_tcp,
    replace,
    tcp_address,
    wait_until,
)
from server.run import refusal
from support.certificates import Authority, Identity
from support.jwts import (
    SigningKey,
    claims,
    encode,
    sign_with_secret,
    unsigned,
    write_jwks,
)
from support.server import BINARY, REPO, Server, short_base

# The least role for each RPC, by issue 13. Each role includes those before it.
_ROLES = ["viewer", "editor", "admin", "operator"]
_ANYONE = "anyone"
_LEAST_ROLE = {
    "GetServerInfo": _ANYONE,
    "ListTemplates": _ANYONE,
    "GetWorkspace": "viewer",
    "ListWorkspaces": "viewer",
    "WatchWorkspaces": "viewer",
    "GetWorkspaceStatus": "viewer",
    "StreamWorkspaceStatuses": "viewer",
    "GetArtifact": "viewer",
    "ListArtifacts": "viewer",
    "ReadArtifact": "viewer",
    "GetUpload": "viewer",
    "ExportWorkspace": "viewer",
    "CreateWorkspace": "editor",
    "CloneWorkspace": "editor",
    "EnsureWorkspace": "editor",
    "UpdateWorkspace": "editor",
    "ImportWorkspace": "admin",
    "WriteArtifact": "editor",
    "MoveArtifact": "editor",
    "CopyArtifact": "editor",
    "DeleteArtifact": "editor",
    "MakeDirectory": "editor",
    "AcquireLease": "editor",
    "ReleaseLease": "editor",
    "DeleteWorkspace": "admin",
    "UndeleteWorkspace": "admin",
}
# These name no project: a role on any project suffices, and they show only that one.
_WITHOUT_PROJECT = {
    "GetServerInfo",
    "ListTemplates",
    "ListWorkspaces",
    "WatchWorkspaces",
    "StreamWorkspaceStatuses",
}

# None of these changes anything that another one needs.
_REQUESTS: dict[str, Request] = {
    "GetServerInfo": {},
    "ListTemplates": {},
    "GetWorkspace": {"project": "team-a-1"},
    "ListWorkspaces": {},
    # A watch that begins does not end; this one is refused for another reason.
    "WatchWorkspaces": {"resume_token": "x"},
    "GetWorkspaceStatus": {"project": "team-a-1"},
    "StreamWorkspaceStatuses": {},
    "GetArtifact": {"project": "team-a-1", "path": "models/x"},
    "ListArtifacts": {"project": "team-a-1"},
    "ReadArtifact": {"project": "team-a-1", "path": "models/x"},
    "GetUpload": {"project": "team-a-1", "upload_id": "none"},
    "ExportWorkspace": {"project": "team-a-1"},
    "CreateWorkspace": {"project": "team-a-new", "validate_only": True},
    "CloneWorkspace": {"project": "team-a-1", "destination_project": "team-a-2"},
    "EnsureWorkspace": {"project": "team-a-1"},
    "ImportWorkspace": [{"project": "team-a-1"}],
    "UpdateWorkspace": {"workspace": {"project": "team-a-1"}, "validate_only": True},
    "WriteArtifact": [{"project": "team-a-1", "path": "models/w", "finish": True}],
    "MoveArtifact": {
        "project": "team-a-1",
        "path": "models/none",
        "destination_path": "models/z",
    },
    "CopyArtifact": {
        "project": "team-a-1",
        "path": "models/x",
        "destination_path": "models/y",
    },
    "DeleteArtifact": {"project": "team-a-1", "path": "models/none"},
    "MakeDirectory": {"project": "team-a-1", "path": "models/d"},
    "AcquireLease": {"project": "team-a-3", "holder": "test"},
    "ReleaseLease": {"project": "team-a-3", "holder": "test"},
    "DeleteWorkspace": {"project": "team-a-1", "validate_only": True},
    "UndeleteWorkspace": {"project": "team-a-1"},
}

# "other" edits another team's projects; "stranger" has no role.
_PRINCIPALS = [*_ROLES, "other", "stranger"]
_POLICY = """
bindings:
  - {principal: viewer, role: viewer, projects: ["team-a-*"]}
  - {principal: editor, role: editor, projects: ["team-a-*"]}
  - {principal: admin, role: admin, projects: ["team-a-*"]}
  - {principal: operator, role: operator}
  - {principal: other, role: editor, projects: ["team-b-*"]}
"""
_PROJECTS_A = ["team-a-1", "team-a-2", "team-a-3"]
_PROJECTS_B = ["team-b-1", "team-b-2"]


def _expected(rpc: str, principal: str) -> str:
    least = _LEAST_ROLE[rpc]
    if principal == "other":
        may = least == _ANYONE or (least == "viewer" and rpc in _WITHOUT_PROJECT)
    elif principal == "stranger":
        may = least == _ANYONE
    else:
        may = least == _ANYONE or _ROLES.index(principal) >= _ROLES.index(least)
    return "allowed" if may else "denied"


def _verdict(outcome: Outcome) -> str:
    if outcome.error is None:
        return "allowed"
    found = code_and_reason(outcome.error)
    return {UNAUTHENTICATED: "unauthenticated", DENIED: "denied"}.get(found, "allowed")


def _verdicts(caller: Caller) -> dict[str, str]:
    return {
        rpc: _verdict(caller.call(rpc, request)) for rpc, request in _REQUESTS.items()
    }


class _Team:
    """A server of two teams, which accepts credentials of every kind."""

    def __init__(self, server: Server, files: Files) -> None:
        self.server, self.files = server, files
        self._tokens = {name: files.token(name) for name in _PRINCIPALS}
        self._certificates = {name: files.certificate(name) for name in _PRINCIPALS}

    def on_tcp(
        self, *, token: str | None = None, identity: Identity | None = None
    ) -> contextlib.AbstractContextManager[Caller]:
        return on_tcp(self.server, self.files.authority, token=token, identity=identity)

    def caller(
        self, name: str, kind: str = "token"
    ) -> contextlib.AbstractContextManager[Caller]:
        """Returns the caller `name`, who proves it as `kind` says."""
        match kind:
            case "token":
                return self.on_tcp(token=self._tokens[name])
            case "certificate":
                return self.on_tcp(identity=self._certificates[name])
            case "RS256" | "ES256":
                return self.on_tcp(token=self.files.jwt(name, kind))
            case "token on the socket":
                return on_socket(self.server, token=self._tokens[name])
        raise ValueError(kind)

    def certificate(self, name: str) -> Identity:
        return self._certificates[name]

    def token(self, name: str) -> str:
        return self._tokens[name]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Team]:
    files = Files(tmp_path_factory.mktemp("team"), _POLICY)
    with short_base() as base, Server(base, *files.args) as server:
        made = _Team(server, files)
        with made.caller("operator") as operator:
            # Until the server has read the last token.
            wait_until(
                lambda: (
                    operator.call("GetServerInfo", {}).error is None
                    and _knows(made, "stranger")
                )
            )
            for project in _PROJECTS_A + _PROJECTS_B:
                operator.answer("CreateWorkspace", project=project)
                (base / project / "models/x").write_bytes(b"1234")
        yield made


def _knows(team: _Team, name: str) -> bool:
    with team.caller(name) as caller:
        return caller.call("GetServerInfo", {}).error is None


# --- The matrix ---------------------------------------------------------------


def test_every_rpc_has_a_rule_and_a_request() -> None:
    rpcs = {method.name for method in SERVICE.methods}
    assert _LEAST_ROLE.keys() == rpcs
    assert _REQUESTS.keys() == rpcs


@pytest.mark.parametrize("principal", _PRINCIPALS)
@pytest.mark.parametrize(
    "kind", ["token", "certificate", "RS256", "ES256", "token on the socket"]
)
def test_callers_may_do_what_their_role_says(
    team: _Team, kind: str, principal: str
) -> None:
    with team.caller(principal, kind) as caller:
        expected = {rpc: _expected(rpc, principal) for rpc in _REQUESTS}
        assert _verdicts(caller) == expected


@pytest.mark.parametrize("principal", _PRINCIPALS)
def test_users_of_the_socket_may_do_what_their_role_says(
    base: Path, tmp_path: Path, principal: str
) -> None:
    policy, user = tmp_path / "policy.yaml", f"uid:{os.getuid()}"
    policy.write_text(
        _POLICY.replace(f"principal: {principal},", f'principal: "{user}",')
    )
    with Server(base, "--policy", str(policy)) as server, on_socket(server) as caller:
        expected = {rpc: _expected(rpc, principal) for rpc in _REQUESTS}
        assert _verdicts(caller) == expected
        info = caller.answer("GetServerInfo")
        assert (info["caller"]["name"], info["caller"]["kind"]) == (user, "socket")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (("viewer", "GetWorkspace", "team-a-1"), 0),
        (("viewer", "DeleteWorkspace", "team-a-1"), 1),
        (("viewer", "GetWorkspace", "team-b-1"), 1),
        (("other", "ListWorkspaces"), 0),
    ],
)
def test_the_operator_can_ask_what_a_caller_may_do(
    team: _Team, call: tuple[str, ...], code: int
) -> None:
    told = subprocess.run(
        [BINARY, "policy", "check", *call, "--policy", team.files.policy],
        capture_output=True,
        text=True,
    )
    assert told.returncode == code, told
    assert told.stdout.startswith("denied" if code else "allowed")


def test_callers_without_credentials_may_do_nothing(team: _Team) -> None:
    refused = dict.fromkeys(_REQUESTS, "unauthenticated")
    with team.on_tcp() as nobody:
        assert _verdicts(nobody) == refused


@pytest.mark.parametrize("where", ["TCP", "TCP with a certificate", "socket"])
def test_a_wrong_token_is_refused_whatever_else_the_caller_has(
    team: _Team, where: str
) -> None:
    wrong = team.token("operator")[:-1] + "-"
    refused = dict.fromkeys(_REQUESTS, "unauthenticated")
    identity = team.certificate("operator") if "certificate" in where else None
    with (
        on_socket(team.server, token=wrong)
        if where == "socket"
        else team.on_tcp(token=wrong, identity=identity) as caller
    ):
        assert _verdicts(caller) == refused


def test_without_a_policy_every_known_caller_may_do_everything(
    base: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    token = files.token("robot")
    with Server(base, *files.args) as server:
        allowed = dict.fromkeys(_REQUESTS, "allowed")
        with on_tcp(server, files.authority, token=token) as robot:
            assert _verdicts(robot) == allowed
        with on_socket(server) as local:
            assert _verdicts(local) == allowed
        with on_tcp(server, files.authority) as nobody:
            assert nobody.refusal("GetServerInfo") == UNAUTHENTICATED


# --- What callers see ---------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "seen"),
    [
        ("viewer", _PROJECTS_A),
        ("other", _PROJECTS_B),
        ("operator", _PROJECTS_A + _PROJECTS_B),
    ],
)
def test_lists_streams_and_counts_show_only_what_the_caller_may_see(
    team: _Team, principal: str, seen: list[str]
) -> None:
    with team.caller(principal) as caller:
        whole = caller.answer("ListWorkspaces")
        assert [each["project"] for each in whole["workspaces"]] == seen
        assert whole["total_size"] == len(seen)
        assert _pages(caller) == seen
        filtered = caller.answer("ListWorkspaces", filter='project = "*-1"')
        found = [each["project"] for each in filtered["workspaces"]]
        assert found == [project for project in seen if project.endswith("-1")]
        stream = caller.call("StreamWorkspaceStatuses", {})
        streamed = {
            status["workspace"]["project"]
            for message in stream.responses
            for status in message["statuses"]
        }
        assert streamed == set(seen)
        assert caller.answer("GetServerInfo")["workspace_count"] == len(seen)


def _pages(caller: Caller) -> list[str]:
    names: list[str] = []
    token = ""
    while True:
        page = caller.answer("ListWorkspaces", page_size=1, page_token=token)
        found = page.get("workspaces", [])
        # A page without a workspace would reveal that one is hidden there.
        assert len(found) == 1
        names.append(found[0]["project"])
        token = page.get("next_page_token", "")
        if not token:
            return names
        assert page["total_size"] == caller.answer("ListWorkspaces")["total_size"]


def test_workspaces_that_cannot_be_read_are_shown_only_to_those_who_may_see_them(
    team: _Team,
) -> None:
    record = team.server.base / "team-b-broken/workspace.yaml"
    record.parent.mkdir()
    record.write_text("{")
    try:
        with team.caller("other") as other, team.caller("viewer") as viewer:
            wait_until(lambda: other.answer("ListWorkspaces").get("unreachable"))
            assert "unreachable" not in viewer.answer("ListWorkspaces")
            streamed = str(viewer.call("StreamWorkspaceStatuses", {}))
            assert "team-b" not in streamed
    finally:
        record.unlink()
        record.parent.rmdir()


def test_deleted_workspaces_are_shown_only_to_those_who_may_see_them(
    team: _Team,
) -> None:
    with (
        team.caller("operator") as operator,
        team.caller("viewer") as viewer,
        team.caller("admin") as admin,
        team.caller("other") as other,
    ):
        operator.answer("CreateWorkspace", project="team-b-gone")
        gone = operator.answer("DeleteWorkspace", project="team-b-gone", force=True)[
            "workspace"
        ]

        def deleted(caller: Caller) -> list[str]:
            listed = caller.answer("ListWorkspaces", show_deleted=True)
            return [
                each["project"]
                for each in listed["workspaces"]
                if "delete_time" in each
            ]

        assert deleted(other) == ["team-b-gone"]
        assert deleted(viewer) == []
        # Nor can a uid bring it back under a project of another team.
        moved = admin.refusal(
            "UndeleteWorkspace", project="team-a-gone", uid=gone["uid"]
        )
        assert moved[0] == "NOT_FOUND"
        operator.answer(
            "DeleteWorkspace",
            project="team-b-gone",
            uid=gone["uid"],
            permanent=True,
            force=True,
        )


def test_a_page_token_of_another_caller_is_invalid(team: _Team) -> None:
    with contextlib.ExitStack() as stack:
        callers = {
            name: stack.enter_context(team.caller(name))
            for name in ("viewer", "admin", "operator", "other")
        }
        tokens = {
            name: caller.answer("ListWorkspaces", page_size=1)["next_page_token"]
            for name, caller in callers.items()
        }
        for name, caller in callers.items():
            for owner, token in tokens.items():
                outcome = caller.call("ListWorkspaces", {"page_token": token})
                if owner == name:
                    assert outcome.error is None
                else:
                    assert outcome.error is not None
                    assert code_and_reason(outcome.error) == (
                        "INVALID_ARGUMENT",
                        "TOKEN_INVALID",
                    )
        # The same principal, proved in another way.
        same = stack.enter_context(team.caller("viewer", "certificate"))
        assert same.call("ListWorkspaces", {"page_token": tokens["viewer"]}).error is (
            None
        )


def test_permission_is_checked_before_existence(team: _Team) -> None:
    with team.caller("viewer") as viewer:
        for rpc, request in _REQUESTS.items():
            if rpc in _WITHOUT_PROJECT:
                continue
            messages = [
                _refused(viewer, rpc, _for_project(request, project))
                for project in ("team-b-1", "team-b-0")
            ]
            assert messages[0].replace("team-b-1", "team-b-0") == messages[1]


def _refused(caller: Caller, rpc: str, request: Request) -> str:
    error = caller.call(rpc, request).error
    assert error is not None and code_and_reason(error) == DENIED
    return error.message


def _for_project(request: Request, project: str) -> Request:
    if isinstance(request, list):
        return [{**message, "project": project} for message in request]
    if "workspace" in request:
        return request | {"workspace": {"project": project}}
    return request | {"project": project}


def test_a_request_cannot_name_two_projects(team: _Team) -> None:
    """Otherwise permission for one could allow a change of the other."""
    with team.caller("editor") as editor:
        inner = {"project": "team-b-new"}
        for project in ("", "team-a-new"):
            for rpc in ("CreateWorkspace", "EnsureWorkspace"):
                editor.call(rpc, {"project": project, "workspace": inner})
        editor.call(
            "WriteArtifact",
            [
                {"project": "team-a-1", "path": "models/w2", "data": "AAAA"},
                {"project": "team-b-1", "path": "models/w2", "finish": True},
            ],
        )
        path = {"path": "models/x", "destination_path": "../../team-b-1/models/y"}
        editor.call("CopyArtifact", {"project": "team-a-1", **path})
    assert not (team.server.base / "team-b-new").exists()
    assert os.listdir(team.server.base / "team-b-1/models") == ["x"]
    with team.caller("operator") as operator:
        operator.call("DeleteWorkspace", {"project": "team-a-new", "permanent": True})


# --- Who the caller is --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("token", "token"),
        ("certificate", "certificate"),
        ("RS256", "jwt"),
        ("ES256", "jwt"),
        ("token on the socket", "token"),
    ],
)
def test_the_server_tells_callers_who_they_are(
    team: _Team, kind: str, shown: str
) -> None:
    with team.caller("editor", kind) as caller:
        assert caller.answer("GetServerInfo")["caller"] == {
            "name": "editor",
            "kind": shown,
            "permissions": [{"role": "editor", "projects": ["team-a-*"]}],
        }


@pytest.mark.parametrize(
    ("names", "principal"),
    [
        ("URI:spiffe://a.example/robot,DNS:robot.example", "spiffe://a.example/robot"),
        ("DNS:robot.example", "robot.example"),
        ("email:robot@example", "common"),
    ],
)
def test_the_best_name_of_a_certificate_counts(
    team: _Team, names: str, principal: str
) -> None:
    identity = team.files.authority.issue("common", names=names)
    with team.on_tcp(identity=identity) as caller:
        assert caller.answer("GetServerInfo")["caller"] == {
            "name": principal,
            "kind": "certificate",
        }


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_each_user_of_a_shared_socket_has_a_name(base: Path, tmp_path: Path) -> None:
    policy, user = tmp_path / "policy.yaml", 65534
    policy.write_text(
        _POLICY.replace("principal: viewer,", f'principal: "uid:{user}",')
    )
    # The group of root's own processes would be no test.
    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, user))
    base.parent.chmod(0o755)
    path = base.parent / "shared"
    listen = ("--listen", f"unix:{path}", "--socket-group", group.gr_name)
    with Server(base, "--policy", str(policy), *listen) as server:

        def call(rpc: str, gid: int) -> "subprocess.CompletedProcess[str]":
            become = ["setpriv", f"--reuid={user}", f"--regid={gid}", "--clear-groups"]
            flags = ["-plaintext", "-unix", "-format-error", "-max-time", "20"]
            return subprocess.run(
                [*become, GRPCURL, *flags, path, f"{SERVICE.full_name}/{rpc}"],
                capture_output=True,
                text=True,
            )

        shown = call("GetServerInfo", group.gr_gid).stdout
        assert json.loads(shown)["caller"]["name"] == f"uid:{user}"
        assert call("ListWorkspaces", group.gr_gid).returncode == 0
        assert "PERMISSION_MISSING" in call("DeleteWorkspace", group.gr_gid).stderr
        # Other users cannot connect.
        assert "permission denied" in call("GetServerInfo", user).stderr
        assert path.stat().st_mode & 0o777 == 0o660
        assert server.socket.stat().st_gid == group.gr_gid


def test_a_certificate_of_another_authority_is_refused(
    team: _Team, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other-ca").issue("operator", names="DNS:operator")
    with team.on_tcp(identity=stranger) as caller:
        error = caller.call("GetServerInfo", {}).error
        assert error is not None and error.code == "UNAVAILABLE"


# --- Credentials that are not valid -------------------------------------------


def _old_line(name: str, token: str) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f"{name} {digest} 2020-01-01T00:00:00Z\n"


_CPP_EXAMPLE = REPO / "build/client-cpp/quickstart"
# Those of _bad_tokens() that slow clients try too.
_SHOWN_EVERYWHERE = [
    *("expired", "not yet valid", "wrong audience", "alg none", "no JSON"),
    *("HS256 with the public key", "expired token", "unknown token"),
]
_EXPIRED_TOKEN = "mlw_" + "e" * 43


def _bad_tokens(files: Files) -> dict[str, tuple[str, str]]:
    """Returns tokens and what the server says about each, by what is wrong."""
    key, now = files.keys["RS256"], int(time.time())
    unknown = SigningKey(files.jwks.parent, "unknown", "ES256")
    valid = key.sign(claims("operator"))
    head, body, signature = valid.split(".")
    later = claims("operator", exp=now + 9000)
    return {
        "expired token": (_EXPIRED_TOKEN, "expired"),
        "unknown token": ("mlw_" + "u" * 43, "token"),
        "expired": (key.sign(claims("operator", exp=now - 70)), "expired at"),
        "not yet valid": (
            key.sign(claims("operator", nbf=now + 90)),
            "valid only from",
        ),
        "from the future": (key.sign(claims("operator", iat=now + 90)), "iat"),
        "never expires": (
            key.sign({k: v for k, v in claims("operator").items() if k != "exp"}),
            "(exp)",
        ),
        "wrong audience": (key.sign(claims("operator", aud="shop")), "audience"),
        "wrong issuer": (
            key.sign(claims("operator", iss="https://other.example")),
            "issuer",
        ),
        "no subject": (key.sign(claims("")), "(sub)"),
        "reserved subject": (key.sign(claims(f"uid:{os.getuid()}")), "(sub)"),
        "another type": (key.sign(claims("operator"), typ="logout+jwt"), "type"),
        "alg none": (
            unsigned({"alg": "none"}, claims("operator")) + ".",
            "algorithm",
        ),
        "alg none with a key": (
            unsigned({"alg": "none", "kid": key.name}, claims("operator"))
            + f".{signature}",
            "algorithm",
        ),
        "HS256 with the public key": (
            sign_with_secret(key.public_pem, claims("operator"), kid=key.name),
            "algorithm",
        ),
        "algorithm of another key": (
            files.keys["ES256"].sign(claims("operator"), kid=key.name),
            "key",
        ),
        "unknown key": (unknown.sign(claims("operator")), "key"),
        "other claims": (f"{head}.{encode(later)}.{signature}", "signature"),
        "no signature": (f"{head}.{body}.", "signature"),
        "cut off": (valid[:-10], "signature"),
        "two dots": ("..", "header"),
        "no JSON": ("e30K.e30.e30", "JWT"),
        "large": (key.sign(claims("operator", padding="x" * 5000)), ""),
    }


@pytest.fixture(scope="module")
def bad_tokens(team: _Team) -> dict[str, tuple[str, str]]:
    bad = _bad_tokens(team.files)
    # The padding is within the limits, so this one is good: a control.
    large, _ = bad.pop("large")
    with team.files.tokens.open("a") as file:
        file.write(_old_line("operator", _EXPIRED_TOKEN))
    with team.on_tcp(token=large) as caller:
        assert caller.call("GetServerInfo", {}).error is None

    def is_read() -> bool:
        with team.on_tcp(token=_EXPIRED_TOKEN) as caller:
            error = caller.call("GetServerInfo", {}).error
            return error is not None and "expired" in error.message

    wait_until(is_read)
    return bad


def test_bad_tokens_are_refused_with_the_cause(
    team: _Team, bad_tokens: dict[str, tuple[str, str]]
) -> None:
    for what, (token, cause) in bad_tokens.items():
        with team.on_tcp(token=token) as caller:
            error = caller.call("GetWorkspace", {"project": "team-a-1"}).error
            assert error is not None, what
            assert code_and_reason(error) == UNAUTHENTICATED, what
            assert cause in error.message, (what, error.message)
            assert token not in error.message or token == ".."


def test_the_python_client_reports_bad_tokens(
    team: _Team,
    bad_tokens: dict[str, tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"MLOPS_WORKSPACE_{name}", raising=False)
    for what, (token, cause) in bad_tokens.items():
        manager = WorkspaceManager(
            address=tcp_address(team.server),
            ca=team.files.authority.cert,
            token=token,
        )
        with pytest.raises(WorkspaceError) as caught:
            manager.get_workspace("team-a-1")
        details = caught.value.details
        assert (details["code"], details["reason"]) == UNAUTHENTICATED, what
        assert cause in str(caught.value)
        manager.close()


def _grpcurl(team: _Team, *headers: str) -> "subprocess.CompletedProcess[str]":
    flags = [part for header in headers for part in ("-H", header)]
    return subprocess.run(
        [
            *(GRPCURL, "-cacert", team.files.authority.cert, "-format-error"),
            *("-max-time", "20", *flags, "-d", '{"project": "team-a-1"}'),
            *(tcp_address(team.server), f"{SERVICE.full_name}/GetWorkspace"),
        ],
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(not GRPCURL.exists(), reason="grpcurl is not built")
def test_grpcurl_reports_bad_tokens(
    team: _Team, bad_tokens: dict[str, tuple[str, str]]
) -> None:
    good = _grpcurl(team, f"authorization: Bearer {team.token('viewer')}")
    assert good.returncode == 0, good.stderr
    for what in _SHOWN_EVERYWHERE:
        token, cause = bad_tokens[what]
        refused = _grpcurl(team, f"authorization: Bearer {token}")
        assert refused.returncode != 0
        assert "CREDENTIALS_INVALID" in refused.stderr, refused.stderr
        assert cause in refused.stderr


@pytest.mark.skipif(not _CPP_EXAMPLE.exists(), reason="the C++ examples are not built")
def test_the_cpp_client_reports_bad_tokens(
    team: _Team, bad_tokens: dict[str, tuple[str, str]]
) -> None:
    def refusal(token: str) -> str:
        ran = subprocess.run(
            [_CPP_EXAMPLE, tcp_address(team.server)],
            env=os.environ
            | {
                "MLOPS_WORKSPACE_CA": str(team.files.authority.cert),
                "MLOPS_WORKSPACE_TOKEN": token,
            },
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 1
        return ran.stderr

    for what in _SHOWN_EVERYWHERE:
        token, cause = bad_tokens[what]
        shown = refusal(token)
        assert shown.startswith("UNAUTHENTICATED") and cause in shown, (what, shown)
        assert token not in shown or token == ".."
    assert refusal(team.token("viewer")).startswith("PERMISSION_DENIED")


def test_other_headers_are_refused(team: _Team) -> None:
    token = team.token("operator")
    with team.on_tcp() as caller:

        def refusal(*values: str) -> str:
            metadata = tuple(("authorization", value) for value in values)
            outcome = Caller(caller.channel, metadata).call("GetServerInfo", {})
            assert outcome.error is not None
            assert code_and_reason(outcome.error) == UNAUTHENTICATED
            assert token not in outcome.error.message
            return outcome.error.message

        assert "Bearer" in refusal(token)
        assert "Bearer" in refusal(f"Basic {token}")
        refusal("Bearer")
        refusal("Bearer ")
        refusal("")
        refusal(f"Bearer {token} {token}")
        assert "several" in refusal(f"Bearer {token}", f"Bearer {token}")


def test_huge_tokens_are_refused(team: _Team) -> None:
    """gRPC itself refuses headers of more than 8 KiB."""
    with team.caller("viewer") as viewer:
        for size, code in [
            (7_000, "UNAUTHENTICATED"),
            (9_000, "RESOURCE_EXHAUSTED"),
            (200_000, "RESOURCE_EXHAUSTED"),
        ]:
            with team.on_tcp(token="x" * size) as huge:
                error = huge.call("GetServerInfo", {}).error
                assert error is not None and error.code == code
        assert viewer.call("GetServerInfo", {}).error is None


# --- Secrets ------------------------------------------------------------------


def test_no_secret_is_ever_written_down(base: Path, tmp_path: Path) -> None:
    files = Files(tmp_path, _POLICY)
    good = files.token("operator")
    secrets = {
        "token": good,
        "wrong token": good[:-2],
        "jwt": files.jwt("viewer"),
        "expired": files.jwt("viewer", exp=1),
        "none": unsigned({"alg": "none"}, claims("operator")) + ".",
        "text": "correct-horse-battery-staple",
    }
    with Server(base, *files.args, "--audit-reads") as server:
        for secret in secrets.values():
            with on_tcp(server, files.authority, token=secret) as caller:
                _verdicts(caller)
                for value in (secret, f"Basic {secret}", f"Bearer {secret} x"):
                    raw = Caller(caller.channel, (("authorization", value),))
                    raw.call("GetServerInfo", {})
            with on_socket(server, token=secret) as caller:
                caller.call("GetServerInfo", {})
            get(server, f"/metrics?token={secret}")
        # A token in place of its hash is an error of the file, which is logged.
        replace(files.tokens, f"robot {good}\n")
        wait_until(lambda: "keeping the previous tokens file" in server.output)
        replace(files.policy, f"bindings: [{{principal: {good}, rol: x}}]")
        wait_until(lambda: "keeping the previous policy file" in server.output)
        metrics = get(server, "/metrics")[1]
    # A JWT's signature is the secret; its head and claims are public.
    parts = {
        what: secret.rpartition(".")[2] if what in ("jwt", "expired") else secret
        for what, secret in secrets.items()
    }
    written = {
        "log": server.output,
        "audit log": files.audit.read_text(),
        "metrics": metrics,
    }
    assert "CREDENTIALS_INVALID" in written["log"]
    assert "CREDENTIALS_INVALID" in written["audit log"]
    found = [
        (where, what)
        for where, text in written.items()
        for what, secret in parts.items()
        if secret in text
    ]
    assert found == []


# --- Files that change --------------------------------------------------------


def test_files_are_read_again_under_load_without_a_failed_call(
    base: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path, _POLICY)
    with files.tokens.open("a") as tokens:
        tokens.writelines(f"robot-{i} {os.urandom(32).hex()}\n" for i in range(10_000))
    policy = _POLICY + "".join(
        f"  - {{principal: robot-{i}, role: editor, projects: ['team-{i}-*']}}\n"
        for i in range(1_000)
    )
    token, jwt = files.token("viewer"), files.jwt("viewer")
    with Server(base, *files.args) as server:
        failures: list[object] = []
        stop = threading.Event()

        def work(secret: str) -> None:
            with on_tcp(server, files.authority, token=secret) as caller:
                while not stop.is_set():
                    if error := caller.call("ListWorkspaces", {}).error:
                        failures.append(error)

        threads = [threading.Thread(target=work, args=[s]) for s in (token, jwt) * 2]
        for thread in threads:
            thread.start()
        for i in range(4):
            new = files.token(f"late-{i}")
            another = SigningKey(tmp_path, f"key-{i}", "ES256")
            write_jwks(files.jwks, *files.keys.values(), another)
            replace(
                files.policy,
                f"{policy}  - {{principal: late-{i}, role: viewer, projects: ['x']}}",
            )
            late_jwt = another.sign(claims(f"late-{i}"))
            for late in (new, late_jwt):
                _wait_until_accepted(server, files, late)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        for file in ("tokens", "jwks", "policy"):
            # Two changes that follow each other closely may be read as one.
            assert metric(
                server, "workspaced_reloads_total", file=file, result="success"
            ) >= (4)


def _wait_until_accepted(server: Server, files: Files, token: str) -> None:
    wait_until(lambda: _may_list(server, files, token))


def _may_list(server: Server, files: Files, token: str) -> bool:
    with on_tcp(server, files.authority, token=token) as caller:
        return caller.call("ListWorkspaces", {}).error is None


def test_revoked_tokens_keys_and_roles_end_their_use(
    base: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path, _POLICY)
    token, jwt = files.token("viewer"), files.jwt("viewer", "ES256")
    kept = files.token("admin")
    with (
        Server(base, *files.args) as server,
        on_tcp(server, files.authority, token=token) as by_token,
        on_tcp(server, files.authority, token=jwt) as by_jwt,
        on_tcp(server, files.authority, token=kept) as admin,
    ):

        def refused(caller: Caller, how: tuple[str, str]) -> bool:
            error = caller.call("ListWorkspaces", {}).error
            return error is not None and code_and_reason(error) == how

        assert by_token.call("ListWorkspaces", {}).error is None
        assert by_jwt.call("ListWorkspaces", {}).error is None
        lines = files.tokens.read_text().splitlines(keepends=True)
        replace(
            files.tokens,
            "".join(line for line in lines if not line.startswith("viewer")),
        )
        wait_until(lambda: refused(by_token, UNAUTHENTICATED))
        write_jwks(files.jwks, files.keys["RS256"])
        wait_until(lambda: refused(by_jwt, UNAUTHENTICATED))
        assert admin.call("ListWorkspaces", {}).error is None
        replace(files.policy, _POLICY.replace("principal: admin", "principal: x"))
        wait_until(lambda: refused(admin, DENIED))


def test_an_update_that_creates_needs_the_right_to_create(
    base: Path, tmp_path: Path
) -> None:
    files = Files(
        tmp_path,
        """
roles:
  updater: {include: [viewer], rpcs: [UpdateWorkspace]}
bindings:
  - {principal: robot, role: updater, projects: ["*"]}
  - {principal: editor, role: editor, projects: ["*"]}
""",
    )
    robot, editor = files.token("robot"), files.token("editor")
    new = {"workspace": {"project": "p"}, "allow_missing": True}
    with Server(base, *files.args) as server:
        with on_tcp(server, files.authority, token=robot) as caller:
            assert caller.refusal("UpdateWorkspace", **new) == DENIED
        with on_tcp(server, files.authority, token=editor) as caller:
            caller.answer("UpdateWorkspace", **new)
        with on_tcp(server, files.authority, token=robot) as caller:
            caller.answer("UpdateWorkspace", workspace={"project": "p"})


_BROKEN: list[tuple[str, str, str]] = [
    ("tokens", "robot not-a-hash\n", "line 1"),
    ("jwks", '{"keys": []}', "key"),
    ("policy", "bindings: [{principal: x, role: viewr, projects: [a]}]", "viewer"),
    ("policy", "bindings: [{principal: x, rol: viewer, projects: [a]}]", "role"),
    ("policy", "roles: {a: {include: [b]}, b: {include: [a]}}", "includes"),
    ("policy", "bindings: [", "line"),
]


def test_a_file_with_an_error_keeps_the_old_one(base: Path, tmp_path: Path) -> None:
    files = Files(tmp_path, _POLICY)
    token, jwt = files.token("viewer"), files.jwt("viewer")
    with Server(base, *files.args) as server:
        for name, text, problem in _BROKEN:
            file: Path = getattr(files, name)
            good, printed = file.read_text(), len(server.output)
            replace(file, text)
            _wait_until_current(server, name, 0)
            wait_until(lambda at=printed: "keeping the" in server.output[at:])  # type: ignore[misc]
            line = server.output[printed:].rpartition("keeping the previous")[2]
            assert str(file) in line and problem in line, line
            assert _may_list(server, files, token) and _may_list(server, files, jwt)
            replace(file, good)
            _wait_until_current(server, name, 1)
        for name in ("tokens", "jwks", "policy"):
            expected = sum(1 for broken in _BROKEN if broken[0] == name)
            assert expected == metric(
                server, "workspaced_reloads_total", file=name, result="failure"
            )


def _wait_until_current(server: Server, file: str, value: float) -> None:
    name = "workspaced_last_reload_successful"
    wait_until(lambda: metric(server, name, file=file) == value)


def test_a_file_that_disappears_or_is_opened_to_all_keeps_the_old_one(
    base: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path, _POLICY)
    token = files.token("viewer")
    with Server(base, *files.args) as server:
        moved = files.tokens.rename(tmp_path / "moved")
        wait_until(lambda: "keeping the previous tokens file" in server.output)
        assert _may_list(server, files, token)
        moved.rename(files.tokens)
        _wait_until_current(server, "tokens", 1)
        files.policy.chmod(0o666)
        wait_until(lambda: "keeping the previous policy file" in server.output)
        assert _may_list(server, files, token)


@pytest.mark.parametrize(
    ("flag", "text", "problem"),
    [(f"--{name}", text, problem) for name, text, problem in _BROKEN],
)
def test_the_server_does_not_start_with_a_file_that_has_an_error(
    base: Path, tmp_path: Path, flag: str, text: str, problem: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    more = (
        ("--jwt-issuer", "https://i.example", "--jwt-audience", "a")
        if flag == "--jwks"
        else ()
    )
    sentence = refusal("--base", base, flag, file, *more).sentence
    assert str(file) in sentence and problem in sentence
