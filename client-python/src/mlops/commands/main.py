"""The entry point of `mlops`: finds the command that is called, and builds only that.

`--version` and completion import neither Typer nor gRPC.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from mlops.commands.errors import guarded, reporting, usage

# The module of each command.
MODULES = {
    "ls": "records",
    "show": "records",
    "create": "records",
    "ensure": "records",
    "set": "records",
    "edit": "records",
    "rm": "remove",
    "trash": "trash",
    "clone": "life",
    "export": "life",
    "import": "life",
    "templates": "life",
    "watch": "watch",
    "events": "events",
    "status": "status",
    "top": "top",
    "du": "status",
    "cp": "files",
    "mv": "files",
    "cat": "files",
    "sync": "sync",
    "runs": "overviews",
    "compare": "overviews",
    "models": "overviews",
    "data": "overviews",
    "drift": "overviews",
    "lease": "leases",
    "doctor": "doctor",
    "server": "server",
    "token": "server_token",
    "dashboard": "dashboard",
    "context": "contexts",
    "completion": "completion",
    "help": "topics",
}
# The commands within a command.
GROUPS = {
    "trash": ("ls", "restore", "purge"),
    "lease": ("run", "acquire", "release"),
    "server": ("info", "start", "stop", "log"),
    "context": ("ls", "set", "use", "rm"),
}
# Options that may stand before or after the command, and the attribute of Options.
VALUES = {
    "--address": "address",
    "--base": "base",
    "--token": "token",
    "--timeout": "timeout",
    "--context": "context",
    "--output": "output",
    "-o": "output",
}
FLAGS = {
    "--no-headers": ("headers", False),
    "-q": ("quiet", True),
    "--quiet": ("quiet", True),
    "-v": ("verbose", True),
    "--verbose": ("verbose", True),
}
FORMATS = ("table", "wide", "json", "yaml", "name")


def main() -> None:
    """Run the command of this process's arguments, and exit."""
    arguments = sys.argv[1:]
    code = guarded(lambda: run(arguments))
    sys.stderr.flush()
    # Do not use sys.exit(): the threads of gRPC and of the toolkits end slowly, and a
    # thread that waits for another one would keep the process from exiting at all.
    os._exit(code)


def run(arguments: list[str]) -> int | None:
    """Run a command.

    Returns:
        The exit code; None is success.
    """
    # Show characters that the locale cannot encode as escapes, instead of failing.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["__complete"]:
        from mlops.commands.completion import complete

        return complete(arguments[1], arguments[2:])
    if arguments[:1] in (["--version"], ["-V"]):
        from importlib.metadata import version

        print(f"mlops {version('mlops-workspace')}")
        return 0
    rest = take_options(arguments)
    _prepare()
    return _call(rest)


def take_options(arguments: list[str]) -> list[str]:
    """Set the options of every command, and return the other arguments."""
    from mlops.commands.context import options

    rest: list[str] = []
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        # The arguments after "--" belong to the command that `lease run` starts.
        if argument == "--":
            rest += [argument, *given]
        elif argument in FLAGS:
            setattr(options, *FLAGS[argument])
        elif argument in VALUES:
            following = next(given, None)
            if following is None:
                raise usage(f"{argument} needs a value")
            setattr(options, VALUES[argument], following)
        elif equals and name in VALUES and name.startswith("--"):
            setattr(options, VALUES[name], value)
        elif argument.startswith("-o") and argument[2:].lstrip("=") in FORMATS:
            options.output = argument[2:].lstrip("=")
        else:
            rest.append(argument)
    if options.output not in (None, *FORMATS):
        raise usage(
            f"--output must be one of {', '.join(FORMATS)}, not {options.output}"
        )
    return rest


def _prepare() -> None:
    """Apply the options that affect the whole process."""
    import logging
    import signal

    from mlops.commands.context import TIMEOUT, options
    from mlops.commands.errors import handle_signals

    handle_signals()
    options.timeout = options.timeout or os.environ.get(TIMEOUT)
    if options.timeout:
        seconds = _seconds(options.timeout)

        signal.setitimer(signal.ITIMER_REAL, seconds)
    level = logging.ERROR if options.quiet else logging.WARNING
    logging.basicConfig(
        format="mlops: %(message)s", level=logging.INFO if options.verbose else level
    )


def _seconds(span: str) -> float:
    try:
        seconds = float(span.removesuffix("s"))
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e8:
        raise usage(f"--timeout must be a number of seconds above 0, not {span}")
    return seconds


def _call(arguments: list[str]) -> int | None:
    words = [argument for argument in arguments if not argument.startswith("-")]
    wanted = words[0] if words and arguments[0] == words[0] else None
    if wanted is not None and wanted not in MODULES:
        from mlops.commands.context import did_you_mean

        hint = did_you_mean(wanted, MODULES) or "; see mlops --help"
        raise usage(f"no command {wanted}{hint}")
    if len(arguments) == 1 and wanted in GROUPS:
        arguments = [*arguments, "--help"]
    command = build([wanted] if wanted else list(MODULES))
    result = command(arguments or ["--help"], prog_name="mlops", standalone_mode=False)
    return result if isinstance(result, int) else None


def build(names: list[str]) -> Callable[..., Any]:
    """Return Typer's command line with these commands."""
    try:
        import typer
        from typer.main import get_command
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed; "
            "install it by: pip install 'mlops-workspace[cli]'",
            name=error.name,
        ) from None
    from importlib import import_module

    from mlops.commands.texts import EPILOG, callback, options_of

    # Import only the modules of these commands, because start-up must be fast.
    app = typer.Typer(**_APP, epilog=EPILOG)
    app.callback()(callback)
    for name in names:
        module = import_module(f"mlops.commands.{MODULES[name]}")
        commands = module.COMMANDS
        if name not in GROUPS:
            one = commands[name]
            app.command(name, **options_of(one))(reporting(one))
            continue
        group = typer.Typer(**_APP, invoke_without_command=False)
        for inner, one in commands.items():
            group.command(inner, **options_of(one))(reporting(one))
        app.add_typer(group, name=name, help=module.HELP)
    return get_command(app)


_APP: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "no_args_is_help": True,
}
