"""The options of every command, and the server that they select."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.commands.errors import CommandError, usage

if TYPE_CHECKING:
    from mlops._rpc.connection import Connection
    from mlops.commands.local_files import CommandFiles
    from mlops.workspace import WorkspaceManager

ADDRESS, BASE = "MLOPS_WORKSPACE_ADDRESS", "MLOPS_WORKSPACE_BASE"
TIMEOUT, CONTEXT = "MLOPS_WORKSPACE_TIMEOUT", "MLOPS_WORKSPACE_CONTEXT"
_MAX_CONFIG_BYTES = 1 << 20


@dataclass
class Options:
    """The options of every command, as the command line gave them."""

    address: str | None = None
    base: str | None = None
    token: str | None = None
    timeout: str | None = None
    context: str | None = None
    output: str | None = None
    headers: bool = True
    quiet: bool = False
    verbose: bool = False


options = Options()


@dataclass(frozen=True)
class Target:
    """A server and the caller's credentials for it, as a context stores them."""

    address: str | None = None
    base: str | None = None
    token_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


KEYS = tuple(field.name for field in fields(Target))


@dataclass
class Config:
    """The contexts of the configuration file."""

    contexts: dict[str, Target]
    current: str | None = None


def config_path() -> Path:
    """Return the path of the configuration file."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "mlops" / "config.toml"


@cache
def load() -> Config:
    """Read the configuration file. A missing file has no contexts.

    Raises:
        CommandError: The file is malformed.
    """
    path = config_path()
    try:
        with path.open("rb") as file:
            # Editors on Windows write a byte order mark and CRLF.
            content = file.read(_MAX_CONFIG_BYTES).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return Config({})
    except UnicodeDecodeError:
        raise usage(f"{path} is not UTF-8") from None
    import tomllib

    try:
        values = tomllib.loads(content.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise usage(f"{path} is not TOML: {error}") from None
    _check_keys(path, "", values, ("current", "contexts"))
    contexts = values.get("contexts", {})
    if not isinstance(contexts, dict):
        raise usage(f"{path}: contexts must be tables, [contexts.NAME]")
    config = Config(
        {name: _target(path, name, value) for name, value in contexts.items()},
        values.get("current"),
    )
    if not isinstance(config.current, str | None):
        raise usage(f"{path}: current must be the name of a context")
    if config.current is not None and config.current not in config.contexts:
        raise usage(
            f"{path}: current names {config.current!r}, which is not one of the "
            f"contexts{did_you_mean(str(config.current), config.contexts)}"
        )
    return config


def _target(path: Path, name: str, values: Any) -> Target:
    where = f"contexts.{name}"
    if not isinstance(values, dict):
        raise usage(f"{path}: {where} must be a table, [{where}]")
    _check_keys(path, f"{where}: ", values, KEYS)
    for key, value in values.items():
        if not isinstance(value, str) or not value:
            raise usage(f"{path}: {where}: {key} must be text that is not empty")
    target = Target(**values)
    if target.address and target.base:
        raise usage(f"{path}: {where} must have either an address or a base, not both")
    return target


def _check_keys(path: Path, where: str, values: Any, known: tuple[str, ...]) -> None:
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known keys: {', '.join(known)}"
            raise usage(f"{path}: {where}unknown key {key!r}{hint}")


def did_you_mean(word: str, known: Any) -> str:
    """Return a hint that names the known word most similar to `word`, or ""."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def save(config: Config) -> None:
    """Replace the configuration file atomically."""
    import json
    import tempfile

    lines = [] if config.current is None else [f"current = {_quoted(config.current)}\n"]
    for name, target in sorted(config.contexts.items()):
        lines.append(f"\n[contexts.{json.dumps(name)}]\n")
        lines += [
            f"{key} = {_quoted(getattr(target, key))}\n"
            for key in KEYS
            if getattr(target, key)
        ]
    # Write a draft and rename it, so that other commands never read a partial file.
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, delete=False
    ) as draft:
        try:
            draft.write("".join(lines))
            draft.close()
            os.replace(draft.name, path)
        except BaseException:
            os.unlink(draft.name)
            raise
    load.cache_clear()


def _quoted(value: str) -> str:
    import json

    # TOML's basic strings have JSON's escapes, except that DEL needs one, too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def named(name: str) -> Target:
    """Return the context of that name.

    Raises:
        CommandError: There is no such context.
    """
    contexts = load().contexts
    if name not in contexts:
        raise CommandError(
            f"no context {name!r} in {config_path()}{did_you_mean(name, contexts)}",
            code=3,
        )
    return contexts[name]


@cache
def target() -> Target:
    """Return the server to use.

    Uses the first of these that is given: --address or --base, --context, the
    environment's address or base, the environment's context, the current context. If
    none is given, the server is that of ./mlops/workspace.
    """
    if options.address and options.base:
        raise usage("--address and --base exclude each other: leave one of them out")
    environ = os.environ
    if options.address or options.base:
        return Target(options.address, options.base)
    if options.context:
        return named(options.context)
    if environ.get(ADDRESS):
        return Target(address=environ[ADDRESS])
    if environ.get(BASE):
        return Target(base=environ[BASE])
    name = environ.get(CONTEXT) or load().current
    return named(name) if name else Target()


def arguments() -> dict[str, Any]:
    """Return the arguments of WorkspaceManager and WorkspaceFileSystem."""
    chosen = target()
    # Otherwise the environment's address would take precedence over a chosen base.
    if chosen.base:
        os.environ.pop(ADDRESS, None)
    result: dict[str, Any] = {"base_path": chosen.base, "address": chosen.address}
    credentials = {key: getattr(chosen, key) for key in KEYS[2:]}
    if options.token:
        credentials |= {"token": options.token, "token_file": None}
    return {**result, **{key: value for key, value in credentials.items() if value}}


@cache
def manager() -> WorkspaceManager:
    """Return the manager of the chosen server."""
    from mlops.workspace import WorkspaceManager

    return WorkspaceManager(**arguments())


@cache
def connection() -> Connection:
    """Return a connection to the chosen server."""
    from mlops._rpc.connection import Connection
    from mlops.local_server import choose_server

    return Connection(choose_server(**arguments())[0])


@cache
def files() -> CommandFiles:
    """Return the files of the chosen server."""
    import mlops.fs  # noqa: F401 - first, because its error names the extra
    from mlops.commands.local_files import CommandFiles

    return CommandFiles(**arguments())


def base_here() -> Path:
    """Return the base directory on this machine.

    Raises:
        CommandError: The server is chosen by an address.
    """
    chosen = target()
    if chosen.address:
        raise CommandError(
            f"the server is at {chosen.address}, so this machine cannot control it: "
            "name its base directory with --base",
            code=4,
        )
    return Path(chosen.base or "mlops/workspace").expanduser().absolute()
