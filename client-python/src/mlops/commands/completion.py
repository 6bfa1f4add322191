"""Shell completion: the scripts, and the candidates that they request.

Most candidates need neither Typer nor a server: `main` has the names of commands, and a
base directory on this machine has the names of its projects and files.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

from mlops.commands import context, main
from mlops.commands.errors import usage
from mlops.commands.remote_path import DIRECTORIES

_MAX_WORDS = 500
_GIVE_UP_S = 5
_FILES = ("cp", "mv", "cat", "sync")
_PROJECTS = (
    *("show", "ensure", "set", "edit", "rm", "clone", "export", "lease"),
    *("runs", "compare", "models", "data", "drift", "watch", "events"),
)
_EITHER = ("ls", "rm", "du", "status", "top")

_BASH = """\
# Add to ~/.bashrc:  source <(mlops completion bash)
_mlops() {
  local line="${COMP_LINE:0:COMP_POINT}"
  mapfile -t COMPREPLY < <(mlops __complete bash "$line" 2>/dev/null)
  [[ ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace
}
complete -o default -F _mlops mlops
"""
_ZSH = """\
#compdef mlops
# Add to ~/.zshrc, after compinit:  source <(mlops completion zsh)
_mlops() {
  local -a found open
  found=("${(@f)$(mlops __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  open=("${(@M)found:#*[:/]}")
  found=("${(@)found:#*[:/]}")
  found=("${(@)found:#}")
  (( $#open + $#found )) || { _files; return }
  compadd -S '' -a open
  compadd -a found
}
compdef _mlops mlops
"""
_FISH = """\
# Write to ~/.config/fish/completions/mlops.fish:  mlops completion fish > FILE
function __mlops_words
  mlops __complete fish (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c mlops -f -a '(__mlops_words)'
complete -c mlops -n '__fish_seen_subcommand_from cp sync' -F
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: Annotated[str, "bash, zsh or fish"]) -> None:
    """Print the script that completes commands, projects and paths in a shell.

    Examples:
      mlops completion bash
      mlops completion zsh
      mlops completion fish
    """
    if shell not in SCRIPTS:
        raise usage(f"the shell must be one of {', '.join(SCRIPTS)}, not {shell}")
    sys.stdout.write(SCRIPTS[shell])


COMMANDS = {"completion": completion}


def complete(shell: str, words: list[str]) -> int:
    """Print the completions of the last word, one per line, or nothing on failure."""
    # Do not keep the shell waiting for a server.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, _GIVE_UP_S)
    if shell == "bash":
        words = _split(words[0] if words else "")[1:]
    *before, current = words or [""]
    try:
        found = [word for word in _candidates(before, current) if word.isprintable()]
    except Exception:
        return 0
    if shell == "bash":
        # Bash replaces only what follows the last colon or equals sign.
        kept = re.match(r".*[:=]", current)
        found = [_escape(word[kept.end() if kept else 0 :]) for word in found]
    sys.stdout.write("".join(f"{word}\n" for word in found))
    return 0


def _split(line: str) -> list[str]:
    """Return the words of an incomplete command line."""
    ends = not line or line[-1].isspace()
    for quote in ("", "'", '"'):
        try:
            return shlex.split(line + quote) + ([""] if ends and not quote else [])
        except ValueError:
            continue
    return line.split(" ")


def _escape(word: str) -> str:
    return re.sub(r"[^\w.,:/@%+=-]", r"\\\g<0>", word)


def _candidates(before: list[str], current: str) -> Iterator[str]:
    """Yield the words that begin with `current`."""
    return islice(_matching(_words(before, current), current), _MAX_WORDS)


def _matching(words: Iterable[str], prefix: str) -> Iterator[str]:
    return (word for word in words if word.startswith(prefix))


def _words(before: list[str], current: str) -> Iterable[str]:
    if before and before[-1] in main.VALUES:
        option = main.VALUES[before[-1]]
        values: dict[str, Callable[[], Iterable[str]]] = {
            "output": lambda: main.FORMATS,
            "context": lambda: context.load().contexts,
        }
        return values.get(option, tuple)()
    if before and before[-1] == "--cursor":
        return ()  # The shell completes files.
    if before and before[-1] == "--template":
        return _templates()
    rest = [word for word in main.take_options(before) if not word.startswith("-")]
    if current.startswith("-"):
        return [*main.VALUES, *main.FLAGS, *_options_of(rest)]
    if not rest:
        return [*main.MODULES]
    command, *arguments = rest
    if command in main.GROUPS and not arguments:
        return main.GROUPS[command]
    return _arguments(command, arguments, current)


def _options_of(words: list[str]) -> list[str]:
    """Return the options of the command that `words` call."""
    if not words or words[0] not in main.MODULES:
        return ["--help", "--version"]
    command = main.build(words[:1])
    for word in words[: 2 if words[0] in main.GROUPS else 1]:
        command = command.commands.get(word, command)  # type: ignore[attr-defined]
    return ["--help", *(name for one in command.params for name in one.opts)]  # type: ignore[attr-defined]


def _arguments(command: str, arguments: list[str], current: str) -> Iterable[str]:
    if command == "help":
        from mlops.commands.topics import TOPICS

        return [*TOPICS, *main.MODULES]
    if command == "completion":
        return SCRIPTS
    if command == "context" and arguments[:1] != ["ls"]:
        return context.load().contexts
    if command == "trash" and arguments[:1] != ["ls"]:
        found = context.manager().list_workspaces(show_deleted=True)
        return dict.fromkeys(one.project_name for one in found if one.deleted_at)
    takes_files = command in (*_FILES, *_EITHER)
    if takes_files and ":" in current:
        return _paths(current)
    projects = _projects(current) if takes_files or command in _PROJECTS else []
    return (f"{name}:" for name in projects) if command in _FILES else projects


def _projects(prefix: str) -> Iterator[str]:
    """Yield the names of projects that begin with `prefix`."""
    if not context.target().address:
        base = context.base_here()
        names = sorted(name for name in os.listdir(base) if name.startswith(prefix))
        return (name for name in names if (base / name / "workspace.yaml").is_file())
    if prefix and not re.fullmatch(r"[A-Za-z0-9._-]+", prefix):
        return iter(())
    found = context.manager().list_workspaces(f"project = {prefix}*" if prefix else "")
    return (one.project_name for one in found)


def _templates() -> Iterable[str]:
    """Return the names of templates."""
    if context.target().address:
        return (one.name for one in context.manager().list_templates())
    directory = context.base_here() / ".templates"
    return sorted(path.parent.name for path in directory.glob("*/template.yaml"))


def _paths(current: str) -> Iterable[str]:
    """Return `PROJECT:PATH` for each entry in the directory of `current`."""
    project, _, path = current.partition(":")
    directory = path.rpartition("/")[0]
    if not directory:
        return [f"{project}:{name}/" for name in DIRECTORIES]
    head = f"{project}:{directory}/"
    if not context.target().address:
        return (head + name for name in _entries(project, directory))
    from mlops.workspace.v1 import workspace_service_pb2 as pb

    # Do not use mlops.fs: importing fsspec takes as long as everything else together.
    request = pb.ListArtifactsRequest(
        project=project, path=directory, page_size=_MAX_WORDS
    )
    listed = context.connection().call(request).artifacts
    names = ((one.path.rpartition("/")[2], one.directory) for one in listed)
    return (f"{head}{name}{'/' * directory}" for name, directory in names)


def _entries(project: str, directory: str) -> Iterator[str]:
    """Yield the entries of a project's directory on this machine, sorted."""
    parts = Path(project, directory).parts
    if ".." in parts or os.path.isabs(directory):
        return
    with os.scandir(context.base_here().joinpath(*parts)) as entries:
        found = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries)
    for name, is_directory in found:
        yield f"{name}/" if is_directory else name
