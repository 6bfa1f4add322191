"""The one connection to the server, for asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from mlops._rpc import errors
from mlops._rpc.channel import method_name, open_async_channel, policy_of
from mlops._rpc.connection import Server, is_passing
from mlops._rpc.errors import WorkspaceError
from mlops.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

_log = logging.getLogger(__name__)
_END = grpc.aio.EOF  # type: ignore[attr-defined]
# Metadata that authorizes a call.
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Open:
    address: str
    channel: grpc.aio.Channel
    stub: Any


class Link:
    """Calls one server. Finds it again after it has moved. For one event loop."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._open: _Open | None = None
        self._lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """The server's address; "" if it is not known yet."""
        return self._open.address if self._open else self.server.given

    async def call(self, request: Message, metadata: Metadata) -> Any:
        """Call the method that takes this request type, and return its response.

        Retries a repeatable call once if the server was lost.

        Raises:
            WorkspaceError: The call failed.
        """
        policy = policy_of(request.DESCRIPTOR)
        for last in (not policy.repeatable, True):
            opened = await self._connect()
            method = getattr(opened.stub, method_name(request))
            try:
                return await method(
                    request, timeout=policy.timeout_s, metadata=metadata
                )
            except grpc.RpcError as error:
                failure = errors.from_rpc(error, opened.address)
                if not _is_lost(failure):
                    raise failure from None
                await self._lose(opened)
                if last:
                    raise failure from None
        raise AssertionError

    async def stream(
        self, request: Message, metadata: Metadata, silence_s: float
    ) -> AsyncGenerator[Any, None]:
        """Make one streaming call, and yield its messages.

        Args:
            silence_s: End the call after this time without a message.

        Raises:
            WorkspaceError: The call failed.
        """
        opened = await self._connect()
        call = getattr(opened.stub, method_name(request))(request, metadata=metadata)
        try:
            while True:
                async with asyncio.timeout(silence_s):
                    message = await call.read()
                if message is _END:
                    return
                yield message
        except TimeoutError:
            await self._lose(opened)
            raise errors.unavailable(
                f"The server at {opened.address} is silent"
            ) from None
        except grpc.RpcError as error:
            failure = errors.from_rpc(error, opened.address)
            if _is_lost(failure):
                await self._lose(opened)
            raise failure from None
        # The consumer may stop early.
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.channel.close()

    async def _connect(self) -> _Open:
        async with self._lock:
            if self._open is None:
                # find() blocks, because it may have to start a server.
                address = await asyncio.to_thread(self.server.find)
                channel = open_async_channel(
                    address,
                    self.server.credentials,
                    retry=self.server.retries_in_grpc,
                )
                self._open = _Open(address, channel, WorkspaceServiceStub(channel))
            return self._open

    async def _lose(self, opened: _Open) -> None:
        """Find the server again before the next call, if it may have moved."""
        if opened is not self._open or not self.server.may_move:
            return  # gRPC itself connects to the same address again.
        self._open = None
        _log.info("lost the server at %s", opened.address)
        await opened.channel.close()


async def call_all(link: Link, request: Message, metadata: Metadata) -> list[Any]:
    """Return all pages of a listing call."""
    pages = []
    while True:
        page = await link.call(request, metadata)
        pages.append(page)
        if not page.next_page_token:
            return pages
        request.page_token = page.next_page_token  # type: ignore[attr-defined]


def _is_lost(error: WorkspaceError) -> bool:
    """Return whether the server has exited or is shutting down."""
    return is_passing(error) and error.details["reason"] in ("", "SHUTTING_DOWN")


def reason_of(error: WorkspaceError) -> str:
    """Return the reason of an error, or its gRPC code."""
    return str(error.details.get("reason") or error.details.get("code") or "")
