"""One HTTP request before a session: a token, a session's URL. For `Dialect.prepare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Loaded with the providers that need it, when the configuration is: that takes longer than a call may wait.
import httpx

from sipbridge.errors import AgentStartError
from sipbridge.providers.failures import Secrets, not_connected, place_of, refused_by_status
from sipbridge.providers.websocket import tls_context
from sipbridge.providers.wire import Json, read_json

FETCH_SECONDS = 3.0
_MOST = 1024 * 1024


async def fetch_json(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Json | None = None,
    form: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    seconds: float = FETCH_SECONDS,
) -> dict[str, Any]:
    """The JSON object that the answer is. Redirects count as failed: they would carry the key to somewhere else.

    Raises `AgentStartError`, whose message has neither the query nor a header in it.
    """
    place = place_of(url)
    # As with the WebSockets: one TLS context for all, since making one stops every call for 30 ms, and no proxies.
    verify = tls_context() if url.startswith("https:") else False
    try:
        async with (
            httpx.AsyncClient(timeout=seconds, verify=verify, trust_env=False) as client,
            client.stream(method, url, headers=headers, json=json, data=form, params=params) as answer,
        ):
            body = await _body(answer)
    except httpx.TimeoutException:
        raise AgentStartError(f"{place}: no answer", code="timeout", again=True) from None
    except httpx.RemoteProtocolError:
        raise not_connected(place, ConnectionResetError()) from None  # hung up before, or in mid-answer
    except httpx.InvalidURL:
        raise AgentStartError(f"{place}: not a URL", code="url") from None
    except httpx.HTTPError as error:
        raise not_connected(place, error) from None
    if answer.status_code >= 300:
        sent = [*(headers or {}).values(), *(params or {}).values(), *(form or {}).values()]
        raise refused_by_status(place, answer.status_code, body, Secrets(url, sent))
    try:
        content = read_json(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise AgentStartError(f"{place}: the answer is no JSON object", code="answer")
    return content


async def _body(answer: httpx.Response) -> bytes:
    """As much of it as can be of use; of what is longer, nothing that could be read as JSON."""
    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MOST:
            return body[:_MOST] if answer.status_code >= 300 else b""
    return body
