"""One question to the tenants' backend over HTTP: an answer, or an error that says what was wrong with it.

Redirects are not followed: whoever could make the backend send one could have the node ask any server for the tenants.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx

from sipbridge import __version__
from sipbridge.errors import ConfigError, TenantSourceError
from sipbridge.http_client import new_client
from sipbridge.logins import Secret
from sipbridge.providers.websocket import tls_context
from sipbridge.tenant_source.question import Question

ATTEMPTS = 3
MOST_BYTES = 2_000_000
"""Of an answer."""
_BACKOFF_S = 0.15
"""Before the second attempt; twice that before the third."""
_MOST_CONNECTIONS = 50
_KEPT_OPEN_S = 20
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What may be otherwise in a moment."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` None: as before (304). `is_somebodys` False: nobody's call (404, 204)."""

    body: bytes | None = None
    is_somebodys: bool = True
    etag: str | None = None
    max_age: float = 0.0
    """So long it need not be asked again (RFC 9111 §5.2.2.1)."""
    private: bool = False
    """`Cache-Control: private`: for this caller alone."""
    public: bool = False
    """`Cache-Control: public`: for every caller of this number."""
    kept: bool = True
    """False for `Cache-Control: no-store`."""


class BackendError(TenantSourceError):
    """`code` is what it counts as (`providers/breaker.py`), `again` whether another attempt makes sense."""

    def __init__(self, message: str, *, code: str, again: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.again = again
        self.wait = wait


class BackendClient:
    def __init__(
        self, url: str, token: Secret | None, node: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.url = url
        self.name = url.partition("?")[0]
        """For messages: without what may be secret in its query."""
        self._token = token
        self._node = node
        self._sleep = sleep
        self._client = new_client(
            tls_context() if url.startswith("https:") else False,
            connections=_MOST_CONNECTIONS,
            connect_seconds=None,  # the caller's time-out is around it
            kept_open_seconds=_KEPT_OPEN_S,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, question: Question, call_id: str, etag: str | None) -> Answer:
        """Raises `BackendError` after the last attempt. The time-out is the caller's."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(question, call_id, etag)
            except BackendError as error:
                if not error.again or attempt == ATTEMPTS:
                    raise
                pause = _BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.7, 1.3)
                await self._sleep(pause if error.wait is None else max(pause, error.wait))
        raise AssertionError

    async def _once(self, question: Question, call_id: str, etag: str | None) -> Answer:
        parameters = urlencode(question.parameters(call_id, self._node), errors="replace")
        url = f"{self.url}{'&' if '?' in self.url else '?'}{parameters}"
        try:
            async with self._client.stream("GET", url, headers=self._headers(etag)) as answer:
                return await self._read(answer, etag)
        except httpx.TransportError as error:
            code = "refused" if isinstance(error, httpx.ConnectError) else "closed"
            words = str(error) or type(error).__name__
            raise BackendError(f"{self.name}: {words}", code=code, again=True) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
            raise BackendError(f"{self.name}: {str(error) or type(error).__name__}", code="closed") from error

    def _headers(self, etag: str | None) -> dict[str, str]:
        headers = {
            "User-Agent": f"sipbridge/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a few bytes that unpack to gigabytes are no tenant
        }
        if etag is not None:
            headers["If-None-Match"] = etag
        if self._token is not None:
            try:
                headers["Authorization"] = f"Bearer {self._token.reveal()}"
            except ConfigError as error:
                raise BackendError(f"tenants.token: {error}", code="token") from error
        return headers

    async def _read(self, answer: httpx.Response, etag: str | None) -> Answer:
        status = answer.status_code
        if status in (204, 404):
            return Answer(is_somebodys=False)
        given = answer.headers.get("etag")
        new_etag = given if given is not None and len(given) <= 1000 and given.isascii() else None
        cached = _cache_control(answer.headers.get("cache-control", ""))
        if status == 304 and etag is not None:
            return Answer(None, True, new_etag or etag, *cached)
        if status != 200:
            raise BackendError(
                f"{self.name}: answers {status}",
                code=str(status),
                again=status in _LATER,
                wait=_seconds(answer.headers.get("retry-after", "")),
            )
        if answer.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            raise BackendError(f"{self.name}: its answer is compressed, which was not asked for", code="nonsense")
        body = bytearray()
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MOST_BYTES:
                raise BackendError(f"{self.name}: answers with more than {MOST_BYTES} bytes", code="nonsense")
        return Answer(bytes(body), True, new_etag, *cached)


def _cache_control(text: str) -> tuple[float, bool, bool, bool]:
    """(max_age, private, public, kept)."""
    words = [word.strip().lower() for word in text[:1000].split(",")]
    age = next((_seconds(word.removeprefix("max-age=").strip('"')) for word in words if word[:8] == "max-age="), None)
    fresh = 0.0 if {"no-cache", "no-store"} & {*words} else age or 0.0
    return fresh, "private" in words, "public" in words, "no-store" not in words


def _seconds(text: str) -> float | None:
    return float(min(int(text), 86_400)) if text.isascii() and text.isdigit() and len(text) < 10 else None
