"""An MCP server over streamable HTTP: the SDK's transport, with a bound on what an answer may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
from mcp.client.streamable_http import streamable_http_client

from sipbridge.providers.websocket import tls_context

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MAX_MESSAGE = 1024 * 1024
_CONNECT_S = 5.0
_READ_S = 600.0
"""A stream of events may be quiet for long; a tool's own time-out is around each call."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._stream:
            size += len(piece)
            if size > MAX_MESSAGE:
                raise httpx2.ReadError(f"the answer is longer than {MAX_MESSAGE} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _BoundedAnswers(httpx2.AsyncHTTPTransport):
    """A stream of events is bounded by event, which the SDK does itself."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        kind = response.headers.get("Content-Type", "")
        if not kind.startswith("text/event-stream") and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Bounded(response.stream)
        return response


@asynccontextmanager
async def server(url: str, headers: Mapping[str, str]) -> AsyncIterator[TransportStreams]:
    transport = _BoundedAnswers(verify=tls_context() if url.startswith("https:") else False)
    timeout = httpx2.Timeout(_READ_S, connect=_CONNECT_S)
    fixed = {"Accept-Encoding": "identity", **headers}
    async with (
        httpx2.AsyncClient(transport=transport, headers=fixed, timeout=timeout, trust_env=False) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE) as streams,
    ):
        yield streams
