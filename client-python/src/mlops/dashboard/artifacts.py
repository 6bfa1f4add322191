"""Reads bounded parts of a workspace's files through the service."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import yaml

from mlops._rpc.errors import WorkspaceError
from mlops.dashboard.link import Link, Metadata
from mlops.workspace.v1 import workspace_service_pb2 as pb

_PAGE = 1000
_SILENCE_S = 60.0


@dataclass(frozen=True)
class Listing:
    """The entries below a directory that were read."""

    entries: list[pb.Artifact]
    complete: bool


async def listing(
    link: Link,
    metadata: Metadata,
    project: str,
    path: str,
    recursive: bool = True,
    max_pages: int = 20,
) -> Listing:
    """List a directory; an absent one has no entries.

    Raises:
        WorkspaceError: The call failed.
    """
    request = pb.ListArtifactsRequest(
        project=project, path=path, recursive=recursive, page_size=_PAGE
    )
    entries: list[pb.Artifact] = []
    for _ in range(max_pages):
        try:
            page = await link.call(request, metadata)
        except WorkspaceError as error:
            if error.details["reason"] == "ARTIFACT_NOT_FOUND":
                return Listing(entries, True)
            raise
        entries += page.artifacts
        if not page.next_page_token:
            return Listing(entries, True)
        request.page_token = page.next_page_token
    return Listing(entries, False)


async def head(
    link: Link, metadata: Metadata, project: str, path: str, limit: int
) -> tuple[pb.Artifact, bytes]:
    """Return a file's description and its first bytes.

    Raises:
        WorkspaceError: The call failed.
    """
    request = pb.ReadArtifactRequest(project=project, path=path, limit=limit)
    artifact, data = pb.Artifact(), bytearray()
    async with aclosing(link.stream(request, metadata, _SILENCE_S)) as responses:
        async for response in responses:
            if response.HasField("artifact"):
                artifact = response.artifact
            data += response.data
    return artifact, bytes(data)


async def read_json(
    link: Link, metadata: Metadata, project: str, path: str, limit: int
) -> Any:
    """Return the content of a JSON file; None if it is too large or malformed."""
    return _parsed(await head(link, metadata, project, path, limit), json.loads)


async def read_yaml(
    link: Link, metadata: Metadata, project: str, path: str, limit: int
) -> Any:
    """Return the content of a YAML file; None if it is too large or malformed."""
    return _parsed(await head(link, metadata, project, path, limit), _load_yaml)


class _Loader(yaml.SafeLoader):
    """A loader without aliases, which can make small files huge."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias."""
        if isinstance(self.peek_event(), yaml.AliasEvent):  # type: ignore[no-untyped-call]
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _parsed(read: tuple[pb.Artifact, bytes], parse: Any) -> Any:
    artifact, data = read
    if len(data) < artifact.size_bytes:
        return None
    try:
        return parse(data.decode())
    except (ValueError, yaml.YAMLError, RecursionError):
        return None
