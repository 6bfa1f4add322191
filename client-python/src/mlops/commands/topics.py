"""The command help."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops.commands import errors, main, output
from mlops.commands.errors import usage

_FILTERS = """\
Filters choose projects: mlops ls FILTER, mlops status FILTER.

  fraud                           the name contains "fraud"
  project = fraud*                the name begins with "fraud"
  metadata.stage = production     a value of the metadata
  metadata.team.name = "risk eu"  a value within a value; quoted text
  metadata.runs > 3               = != < <= > >=
  metadata.tags:eu                has: text contains it, a list has it
  metadata.owner:*                is present
  create_time > 2026-01-31        also update_time; ISO 8601
  mlflow_experiment_id = 17       one of the four settings

Combine them by AND or a space, by OR, which binds more tightly, by NOT or -, and by
parentheses. A field that is absent matches only under NOT. Several words make one
filter, but quote what the shell would interpret: > < * ( ) ' "

  mlops ls 'metadata.stage = production update_time > 2026-01-31'
  mlops ls 'fraud OR churn'
  mlops status 'NOT metadata.stage = dev' --sort size
"""
_PATHS = """\
PROJECT:PATH is a file or directory of a project. PATH begins with mlflow, dvc,
monitoring, models or outputs. workspace://PROJECT/PATH means the same.

  mlops ls -l fraud:outputs
  mlops cp model.pt fraud:models/

A local file whose name looks like that is written with a slash: ./fraud:models
"""
_CONTEXTS = """\
A context names a server and how to use it. Contexts are in
~/.config/mlops/config.toml (or below $XDG_CONFIG_HOME):

  current = "team"

  [contexts.team]
  address = "workspaces.example:443"
  token_file = "/home/ann/.mlops-token"

  [contexts.here]
  base = "/data/mlops/workspace"

The keys are address or base, token_file, ca, cert and key. The first of these that is
given chooses the server: --address or --base, --context, MLOPS_WORKSPACE_ADDRESS,
MLOPS_WORKSPACE_BASE, MLOPS_WORKSPACE_CONTEXT, the current context. If none is, the
server is that of ./mlops/workspace.
"""
_VALUES = """\
Settings and metadata are written as KEY=VALUE. The settings are mlflow_experiment_id,
mlflow_tracking_uri, dvc_remote_path and bentoml_tag_prefix. The quotas are
max_size_bytes and max_file_count: numbers such as 1000 or 50G, or none. Every other KEY
is one of the metadata. A value that is JSON is stored as such, any other as text:

  stage=production       text
  runs=3 live=true       a number, a boolean
  version='"3"'          text that looks like a number
  team='{"name": "eu"}'  an object
"""


def _output_topic() -> str:
    return f"""\
Data goes to standard output, messages and errors to standard error. --output (-o)
is one of {", ".join(main.FORMATS)}. JSON and YAML have all fields, with
the names of the Python client. -o name prints names only, one a line. --no-headers
leaves the titles of tables out. -q prints data and errors only; -v prints the details
of errors.

top and status --watch draw on the whole terminal. In a pipe, and with -o json, yaml or
name, they print all projects and then those that changed.

Colours and progress bars appear at a terminal only. NO_COLOR turns colours off.
Control characters in names and values are shown as escapes. Tables are narrowed to
the terminal's width, except with -o wide and in pipes.
"""


def _exit_codes() -> str:
    return "".join(
        f"{code:4}  {meaning}\n" for code, meaning in errors.MEANINGS.items()
    )


TOPICS = {
    "filters": lambda: _FILTERS,
    "paths": lambda: _PATHS,
    "contexts": lambda: _CONTEXTS,
    "values": lambda: _VALUES,
    "output": _output_topic,
    "exit-codes": _exit_codes,
}


def help_(
    topic: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC | COMMAND]")
    ] = None,
) -> int | None:
    """Explain a topic: filters, paths, contexts, values, output or exit-codes.

    With the name of a command, the same as mlops COMMAND --help.

    Examples:
      mlops help filters
      mlops help exit-codes
      mlops help trash restore
    """
    if not topic:
        return main.run(["--help"])
    if topic[0] in TOPICS:
        output.write(TOPICS[topic[0]]())
        return None
    if topic[0] in main.MODULES:
        return main.run([*topic, "--help"])
    raise usage(f"no topic or command {topic[0]}; topics are {', '.join(TOPICS)}")


COMMANDS = {"help": help_}
