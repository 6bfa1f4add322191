"""Actions: create, edit metadata, delete, restore, release a lease.

Each action is a form that works without scripts. The server checks the caller's
permission again.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from google.protobuf.field_mask_pb2 import FieldMask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mlops._rpc import convert
from mlops._rpc.errors import WorkspaceError
from mlops.dashboard import context
from mlops.dashboard.callers import Caller, error_page_status
from mlops.dashboard.security import FormError, read_form
from mlops.workspace.v1 import workspace_service_pb2 as pb

router = APIRouter()


async def _allowed(request: Request, action: str, project: str | None) -> Caller:
    """Return the caller.

    Raises:
        FormError: The caller may not do this.
    """
    dashboard = context.of(request)
    caller = dashboard.caller(request)
    if dashboard.settings.read_only:
        raise FormError("This dashboard only shows: it runs with --read-only", 403)
    if not await caller.may(action, project):
        raise FormError("You may not do this here", 403)
    return caller


async def _begin(
    request: Request, action: str, project: str | None
) -> tuple[Caller, dict[str, str]]:
    form = await read_form(request, context.of(request).sessions)
    return await _allowed(request, action, project), form


def _to(project: str) -> Response:
    return RedirectResponse(f"/p/{quote(project)}", 303)


def parse_metadata(text: str) -> dict[str, Any]:
    """Return the metadata in the text of a form.

    Raises:
        FormError: It is not a JSON object that a workspace can hold.
    """
    try:
        value = json.loads(text or "{}", parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise FormError(
            f"This is not JSON: {error.msg} in line {error.lineno}, "
            f"column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise FormError(f"This is not JSON: {error}") from None
    try:
        return convert.to_metadata(value)
    except WorkspaceError as error:
        raise FormError(str(error)) from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


# --- Create ---


@router.get("/create")
async def creating(request: Request) -> Response:
    """Show the form for a new project."""
    caller = await _allowed(request, "create", None)
    return await _create_form(request, caller, {})


@router.post("/create")
async def create(request: Request) -> Response:
    """Create a project."""
    caller, form = await _begin(request, "create", None)
    project = form.get("project", "").strip()
    try:
        struct = convert.to_struct(parse_metadata(form.get("metadata", "")))
        await caller.live.call(
            pb.CreateWorkspaceRequest(
                project=project,
                template=form.get("template", ""),
                workspace=pb.Workspace(metadata=struct),
            )
        )
    except FormError as error:
        return await _create_form(request, caller, form, str(error), error.status)
    except WorkspaceError as error:
        status = error_page_status(error)
        return await _create_form(request, caller, form, str(error), status)
    return _to(project)


async def _create_form(
    request: Request,
    caller: Caller,
    form: dict[str, str],
    problem: str = "",
    status: int = 200,
) -> Response:
    try:
        found = await caller.live.call(pb.ListTemplatesRequest(page_size=1000))
        templates = [one for one in found.templates if not one.HasField("error")]
    except WorkspaceError:
        templates = []
    return context.of(request).page(
        request,
        "create.html",
        status,
        form=form,
        problem=problem,
        templates=templates,
    )


# --- Edit ---


@router.get("/p/{project}/edit")
async def editing(request: Request, project: str) -> Response:
    """Show the form for a project's metadata."""
    caller = await _allowed(request, "edit", project)
    workspace = await caller.live.call(pb.GetWorkspaceRequest(project=project))
    text = json.dumps(
        convert.from_struct(workspace.metadata), indent=2, ensure_ascii=False
    )
    return _edit_form(request, project, text, workspace.etag)


@router.post("/p/{project}/edit")
async def edit(request: Request, project: str) -> Response:
    """Replace a project's metadata, unless somebody changed the project meanwhile."""
    caller, form = await _begin(request, "edit", project)
    text, etag = form.get("metadata", ""), form.get("etag", "")
    try:
        struct = convert.to_struct(parse_metadata(text))
        # The etag makes the update fail if the record changed while the user edited it.
        await caller.live.call(
            pb.UpdateWorkspaceRequest(
                workspace=pb.Workspace(project=project, etag=etag, metadata=struct),
                update_mask=FieldMask(paths=["metadata"]),
            )
        )
    except FormError as error:
        return _edit_form(request, project, text, etag, str(error), error.status)
    except WorkspaceError as error:
        problem = str(error)
        if error.details.get("reason") == "ETAG_MISMATCH":
            problem = (
                "Somebody changed this project while you edited it. "
                "Open the form again in another tab to see the current values."
            )
        status = error_page_status(error)
        return _edit_form(request, project, text, etag, problem, status)
    return _to(project)


def _edit_form(
    request: Request,
    project: str,
    text: str,
    etag: str,
    problem: str = "",
    status: int = 200,
) -> Response:
    return context.of(request).page(
        request,
        "edit.html",
        status,
        project=project,
        text=text,
        etag=etag,
        problem=problem,
    )


# --- Delete and restore ---


@router.get("/p/{project}/delete")
async def deleting(request: Request, project: str) -> Response:
    """Show what a deletion would remove, and ask for the name."""
    caller = await _allowed(request, "delete", project)
    return await _delete_form(request, caller, project)


@router.post("/p/{project}/delete")
async def delete(request: Request, project: str) -> Response:
    """Move a project to the trash."""
    caller, form = await _begin(request, "delete", project)
    if form.get("name", "").strip() != project:
        problem = "This is not the name of the project: nothing was deleted"
        return await _delete_form(request, caller, project, problem)
    try:
        await caller.live.call(
            pb.DeleteWorkspaceRequest(
                project=project, force=True, uid=form.get("uid", "")
            )
        )
    except WorkspaceError as error:
        if error_page_status(error) == 404:
            raise
        return await _delete_form(request, caller, project, str(error))
    return RedirectResponse("/trash", 303)


async def _delete_form(
    request: Request, caller: Caller, project: str, problem: str = ""
) -> Response:
    preview = await caller.live.call(
        pb.DeleteWorkspaceRequest(project=project, force=True, validate_only=True)
    )
    info = await caller.info()
    return context.of(request).page(
        request,
        "delete.html",
        409 if problem else 200,
        project=project,
        preview=preview,
        purge_delay_s=info.purge_delay.seconds if info else 0,
        problem=problem,
    )


@router.post("/p/{project}/undelete")
async def undelete(request: Request, project: str) -> Response:
    """Restore a project from the trash."""
    caller, form = await _begin(request, "undelete", project)
    await caller.live.call(
        pb.UndeleteWorkspaceRequest(project=project, uid=form.get("uid", ""))
    )
    return _to(project)


# --- Leases ---


@router.post("/p/{project}/release")
async def release(request: Request, project: str) -> Response:
    """End a project's lease, whoever holds it."""
    caller, _ = await _begin(request, "release", project)
    await caller.live.call(pb.ReleaseLeaseRequest(project=project, force=True))
    return _to(project)
