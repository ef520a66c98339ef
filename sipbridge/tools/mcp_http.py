"""An MCP server over streamable HTTP: the SDK's transport, with a bound on what an answer may be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import INTERNAL_ERROR

from sipbridge.providers.websocket import tls_context

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

MAX_MESSAGE = 1024 * 1024
_CONNECT_S = 5.0
_READ_S = 600.0
"""A stream of events may be quiet for long; a tool's own time-out is around each call."""


class _BoundedAnswers(httpx2.AsyncHTTPTransport):
    """An answer that is too long becomes an error, and the connection goes on. A stream of events is bounded by event,
    which the SDK does itself."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Type", "").startswith("text/event-stream"):
            return response
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            await response.aclose()
            return _error(request, "a compressed answer, which was not asked for")
        body = bytearray()
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        async for piece in response.stream:
            body += piece
            if len(body) > MAX_MESSAGE:
                await response.aclose()
                return _error(request, f"the answer is longer than {MAX_MESSAGE} bytes")
        await response.aclose()
        headers = [(name, value) for name, value in response.headers.items() if name.lower() != "transfer-encoding"]
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=request)


def _error(request: httpx2.Request, message: str) -> httpx2.Response:
    """For the request that was asked, as the server would have told it."""
    try:
        asked = json.loads(request.content)
    except ValueError:
        asked = {}
    answer = {"jsonrpc": "2.0", "id": asked.get("id", 0), "error": {"code": INTERNAL_ERROR, "message": message}}
    return httpx2.Response(200, json=answer, request=request)


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
