"""One HTTP request before a session: a token, a session's URL. For `Dialect.prepare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.errors import AgentStartError
from sipbridge.providers.failures import Secrets, not_connected, place_of, refused_by_status
from sipbridge.providers.wire import Json

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
    import httpx  # takes longer to load than all of a call's set-up: only where it is needed

    place = place_of(url)
    try:
        async with httpx.AsyncClient(timeout=seconds) as client:
            answer = await client.request(method, url, headers=headers, json=json, data=form, params=params)
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
        raise refused_by_status(place, answer.status_code, answer.content, Secrets(url, sent))
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, dict) or len(answer.content) > _MOST:
        raise AgentStartError(f"{place}: the answer is no JSON object", code="answer")
    return content
