"""One HTTP request before a session: a token, a session's URL. For `Dialect.prepare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sipbridge.errors import AgentStartError
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

    where = urlsplit(url)
    place = f"{where.scheme}://{where.netloc.rpartition('@')[2]}{where.path}"
    try:
        async with httpx.AsyncClient(timeout=seconds) as client:
            answer = await client.request(method, url, headers=headers, json=json, data=form, params=params)
    except httpx.TimeoutException:
        raise AgentStartError(f"{place}: no answer", code="timeout", again=True) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AgentStartError(
            f"{place}: can't be reached ({type(error).__name__})", code="unreachable", again=True
        ) from None
    status = answer.status_code
    if status >= 300:
        raise AgentStartError(f"{place}: HTTP {status}", code=str(status), again=status == 429 or status >= 500)
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, dict) or len(answer.content) > _MOST:
        raise AgentStartError(f"{place}: the answer is no JSON object", code="answer")
    return content
