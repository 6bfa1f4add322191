"""The settings of a dashboard."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlops._rpc.connection import Server

# How browsers prove that they may use the dashboard:
# link: by the key in the link that the command prints;
# token: by a token of the server, which is passed on with each of their calls;
# proxy: not at all, because only a login proxy can reach the dashboard.
Login = Literal["link", "token", "proxy"]


@dataclass(frozen=True)
class Settings:
    """The settings of a dashboard."""

    server: Server
    # The base directory, if it is on this machine.
    base: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8050
    read_only: bool = False
    login: Login = "link"
    # Names, besides those of this machine, by which browsers reach the dashboard.
    allowed_hosts: tuple[str, ...] = ()
    # The server's audit log, and the HOST:PORT of its metrics.
    audit_log: Path | None = None
    metrics: str = ""
    # The key of the link, and of signatures.
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def link(self) -> str:
        """The link that opens the dashboard."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):
            host = "localhost"
        query = f"?key={self.key}" if self.login == "link" else ""
        return f"http://{host}:{self.port}/{query}"
