"""Commands on the records of workspaces: ls, show, create, ensure, set, edit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops.commands import output
from mlops.commands.context import manager, options
from mlops.commands.errors import CommandError, usage
from mlops.commands.output import Column
from mlops.commands.parameters import Project
from mlops.commands.remote_path import is_listed
from mlops.commands.values import SETTINGS, described, metadata_key, parse, time_of

if TYPE_CHECKING:
    from mlops.workspace import ProjectWorkspace

_ORDERS = {
    "name": "project",
    "created": "create_time desc",
    "updated": "update_time desc",
}

_COLUMNS = (
    Column("NAME", lambda row: row["project_name"]),
    Column("STAGE", lambda row: row["metadata"].get("stage")),
    Column("UPDATED", lambda row: output.age(row["updated_at"])),
    Column("CREATED", lambda row: output.age(row["created_at"]), wide=True),
    Column("EXPERIMENT", lambda row: row["mlflow_experiment_id"], wide=True),
    Column("PATH", lambda row: row["root_path"], wide=True),
    Column("METADATA", lambda row: output.pairs(_without_stage(row["metadata"]))),
)

Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting or a value of the metadata"
    ),
]


def _without_stage(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key != "stage"}


def list_(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILTER | PROJECT:PATH]",
            help="Which projects; see mlops help filters",
        ),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Sizes and times of files")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-R", help="Also files in subdirectories")
    ] = False,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="name, created or updated")
    ] = "name",
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Only projects changed since: today, a span such as 24h or 7d, or "
            "a date such as 2026-01-31",
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show the first N; 0 shows all")
    ] = 0,
) -> None:
    """List projects, or the files of one.

    A word with a colon after a project's name lists that project's files.

    Examples:
      mlops ls
      mlops ls metadata.stage = production
      mlops ls 'fraud OR metadata.runs > 3' --sort updated --limit 10
      mlops ls --since today
      mlops ls -o json
      mlops ls -l fraud:models
    """
    words = what or []
    if len(words) == 1 and (is_listed(words[0]) or (long and ":" in words[0])):
        from mlops.commands.files import list_files

        list_files(words[0], long, recursive)
        return
    if long or recursive:
        raise usage("--long and --recursive list files: name them as PROJECT:PATH")
    if sort not in _ORDERS:
        raise usage(f"--sort must be one of {', '.join(_ORDERS)}, not {sort}")
    # Parentheses keep the user's filter separate from the condition of --since.
    terms = [f"({' '.join(words)})"] if words and since else words
    if since:
        terms.append(f"update_time >= {time_of(since)}")
    found = manager().list_workspaces(
        " ".join(terms), _ORDERS[sort], limit=limit or None
    )
    output.rows(
        [described(workspace) for workspace in found],
        _COLUMNS,
        "project_name",
        "No project matches." if terms else "There are no projects.",
    )


def show(project: Project) -> None:
    """Show the settings and the metadata of a project.

    Examples:
      mlops show fraud
      mlops show fraud -o yaml
    """
    output.record(described(manager().get_workspace(project)), "project_name")


Template = Annotated[
    str, typer.Option(metavar="NAME", help="What it begins with; see mlops templates")
]


def create(
    project: Project,
    set_: Set = [],  # noqa: B006 - Typer needs a list
    template: Template = "",
) -> None:
    """Create a project's workspace.

    A value that is JSON (3, true, null, "3", [1, 2]) is stored as such, any other as
    text.

    Examples:
      mlops create sales
      mlops create pricing --set stage=test --set runs=3
      mlops create vision --template images --set max_size_bytes=50G
    """
    made = manager().create_workspace(
        project, **parse(set_), template=template, request_id=_request_id()
    )
    _changed(made, f"Created {project}.")


def _request_id() -> str:
    """Return an id that lets the client retry the call."""
    import uuid

    return uuid.uuid4().hex


def ensure(
    project: Project,
    set_: Set = [],  # noqa: B006
    template: Template = "",
) -> None:
    """Create a project's workspace unless it exists.

    Examples:
      mlops ensure fraud
      mlops ensure fraud --set stage=test
    """
    # The values of --set and the template are for a new workspace only.
    _changed(
        manager().get_or_create_workspace(project, **parse(set_), template=template),
        f"{project} exists.",
    )


def set_values(
    project: Project,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")
    ] = None,
    remove: Annotated[
        list[str], typer.Option(metavar="KEY", help="Remove a key of the metadata")
    ] = [],  # noqa: B006
    if_match: Annotated[
        str,
        typer.Option(metavar="ETAG", help="Only if the project still has this etag"),
    ] = "",
) -> None:
    """Set settings and values of the metadata.

    The settings are mlflow_experiment_id, mlflow_tracking_uri, dvc_remote_path,
    bentoml_tag_prefix and the quotas max_size_bytes and max_file_count; every other key
    is one of the metadata. A value that is JSON is stored as such, any other as text.

    Examples:
      mlops set fraud stage=production runs=31
      mlops set fraud 'team={"name": "risk"}' --remove owner
      mlops set fraud mlflow_experiment_id=17
      mlops set fraud max_size_bytes=50G max_file_count=none
    """
    if not values and not remove:
        raise usage("nothing to change: give KEY=VALUE or --remove KEY")
    updated = manager().update_workspace_metadata(
        project,
        **parse(values or []),
        remove_metadata=[metadata_key(key) for key in remove],
        if_match=if_match,
    )
    _changed(updated, f"Changed {project}.")


def _changed(workspace: ProjectWorkspace, sentence: str) -> None:
    """Report a change, and print the workspace if --output is given."""
    output.message(sentence)
    if options.output:
        output.record(described(workspace), "project_name")


def edit(project: Project) -> None:
    """Edit settings and metadata in an editor.

    The editor is $VISUAL or $EDITOR, else vi. If somebody else changed the project
    meanwhile, mlops refuses the change and keeps your text in a file.

    Examples:
      mlops edit fraud
    """
    before = manager().get_workspace(project)
    settings = {name: getattr(before, name) for name in SETTINGS}
    _edited(
        {**settings, "metadata": before.metadata},
        f"# {project}: saving and leaving the editor stores the changes.\n",
        lambda values: _apply(before, settings, values),
    )


def _edited(values: dict[str, Any], head: str, apply: Callable[[Any], None]) -> None:
    """Let the user edit `values` as YAML, and `apply` them.

    Keeps the user's text if it cannot be applied.
    """
    import tempfile

    import yaml

    text = head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="mlops-edit-", suffix=".yaml", delete=False
    ) as file:
        file.write(text)
    keep = False
    try:
        _run_editor(file.name)
        with open(file.name, encoding="utf-8") as edited:
            changed = edited.read()
        if changed == text:
            output.message("Nothing changed.")
            return
        # Until the values are stored, this file has the only copy of the user's text.
        keep = True
        try:
            parsed = yaml.safe_load(changed)
        except yaml.YAMLError as error:
            raise usage(f"this is not YAML: {' '.join(str(error).split())}") from None
        apply(parsed)
        keep = False
    finally:
        if keep:
            output.message(f"Your text is kept in {file.name}.")
        else:
            os.unlink(file.name)


def _run_editor(path: str) -> None:
    import shlex
    import subprocess

    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not chosen and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise usage("there is no terminal for an editor: use mlops set, or set EDITOR")
    command = [*shlex.split(chosen or "vi"), path]
    try:
        code = subprocess.run(command).returncode
    except OSError as error:
        raise CommandError(
            f"the editor {command[0]} cannot be run: {error.strerror}; set EDITOR"
        ) from None
    if code:
        raise CommandError(f"the editor ended with {code}, so nothing was changed")


def _apply(before: ProjectWorkspace, settings: dict[str, Any], values: Any) -> None:
    """Store edited values, if the workspace is still as it was read."""
    if not isinstance(values, dict) or set(values) - {*SETTINGS, "metadata"}:
        raise usage(f"the keys must be {', '.join(SETTINGS)} and metadata")
    metadata = values.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise usage("metadata must be a mapping")
    changed = {
        name: values.get(name)
        for name in SETTINGS
        if values.get(name) != settings[name]
    }
    if cleared := [name for name, value in changed.items() if value is None]:
        raise usage(f"{cleared[0]} can be changed, but not removed")
    # The update merges metadata, so remove the keys that the user deleted.
    updated = manager().update_workspace_metadata(
        before.project_name,
        **changed,
        metadata=metadata,
        remove_metadata=sorted(before.metadata.keys() - metadata.keys()),
        if_match=before.etag,
    )
    _changed(updated, f"Changed {before.project_name}.")


COMMANDS = {
    "ls": list_,
    "show": show,
    "create": create,
    "ensure": ensure,
    "set": set_values,
    "edit": edit,
}
