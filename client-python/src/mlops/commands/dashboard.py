"""The command dashboard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.context import arguments
from mlops.commands.errors import UNAVAILABLE, CommandError, usage

if TYPE_CHECKING:
    from mlops.dashboard.settings import Settings

_LOGINS = ("link", "token", "proxy")
_PORT = 8050


def dashboard(
    host: Annotated[
        str, typer.Option(metavar="H", help="Address to listen on")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0: any free one")
    ] = _PORT,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page")
    ] = True,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer no actions, and refuse them")
    ] = False,
    login: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="link: by the printed link; token: each user by a token of the "
            "server; proxy: a login proxy in front keeps others out",
        ),
    ] = "link",
    allow_host: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A name by which browsers reach it"),
    ] = [],  # noqa: B006
    audit_log: Annotated[
        str, typer.Option(metavar="FILE", help="Show this audit log to operators")
    ] = "",
    metrics: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Show the server's metrics")
    ] = "",
) -> None:
    """Serve live web pages of all projects until Ctrl-C.

    The pages show and do what the caller may see and do at the server. The printed link
    contains a key: anyone who has the link acts as you. Do not share it; use --login
    token or proxy for other users.

    Examples:
      mlops dashboard
      mlops dashboard --port 0 --no-browser --read-only
    """
    if login not in _LOGINS:
        raise usage(f"--login must be one of {', '.join(_LOGINS)}, not {login}")
    try:
        from mlops.dashboard import serving
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed; "
            "install it by: pip install 'mlops-workspace[cli,dashboard]'",
            name=error.name,
        ) from None
    # Listen first, because the link contains the port.
    try:
        listener = serving.listen(host, port)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "choose another --port, or 0 for any free one",
            UNAVAILABLE,
        ) from None
    settings = _settings(
        host=host,
        port=listener.getsockname()[1],
        read_only=read_only,
        login=login,
        allowed_hosts=tuple(allow_host),
        audit_log=Path(audit_log).expanduser() if audit_log else None,
        metrics=metrics,
    )
    server = serving.prepare(settings)
    output.write(f"{settings.link}\n")
    output.message("Ctrl-C ends the dashboard.")
    opened = settings.link if browser and _display() else ""
    serving.serve(server, listener, opened)


def _display() -> str:
    """Return the display on which a browser can open; "" if there is none."""
    if sys.platform == "darwin":
        return sys.platform
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _settings(**values: Any) -> Settings:
    from mlops._rpc.address import is_local
    from mlops.dashboard.settings import Settings
    from mlops.local_server import choose_server

    given = arguments()
    if values["login"] == "token":
        # The users' tokens, not the dashboard's, identify the calls.
        for name in ("token", "token_file"):
            given.pop(name, None)
        os.environ.pop("MLOPS_WORKSPACE_TOKEN", None)
        os.environ.pop("MLOPS_WORKSPACE_TOKEN_FILE", None)
    server, base = choose_server(**given)
    for address in server.given.split(",") if server.given else ():
        encrypted = server.credentials.need_tls(address) or is_local(address)
        if values["login"] == "token" and not encrypted:
            raise usage(
                f"{address} would send the users' tokens to another machine, "
                "unencrypted: use https://, or --ca in a context"
            )
    return Settings(server, base, **values)


COMMANDS = {"dashboard": dashboard}
