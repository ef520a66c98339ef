"""Requests to who is told of calls, or keeps them: signed, bounded in time and size, and never anywhere but to the
address that is configured.

Lives in the history's thread. Redirects are not followed: what the operator has named gets the calls, and nobody whom
it names.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import import_module
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpx

from sipbridge import __version__
from sipbridge.errors import ConfigError
from sipbridge.history.signing import keys_of, signed
from sipbridge.history.sink import EntryRefusedError, SinkUnavailableError
from sipbridge.http_client import new_client
from sipbridge.logins import Secret, expanded
from sipbridge.providers.failures import not_connected
from sipbridge.providers.websocket import tls_context

_CONNECT_S = 5.0
_KEPT_OPEN_S = 30.0
_MOST_ANSWER = 64 * 1024
_KNOWN = 409
"""RFC 9110 §15.5.10: it was there already."""
_GONE = 410
_REFUSED = frozenset({400, 413, 415, 422, 431})
"""It is about what was sent, which stays as it is. Of any other status the cause may go away: a path, a key or a server
that is put right."""
PATIENCE = 5
"""So often one entry is refused before that is believed: a server in trouble says 400, too."""
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    media_type: str
    body: bytes
    """As much of it as is ever looked at."""
    retry_after: float | None


def _client(verify: SSLContext | bool, connections: int) -> httpx.AsyncClient:
    """Made before it is needed, with what its first request would load: that takes a quarter of a second, in which
    nobody else could use the interpreter."""
    with suppress(ImportError):  # it is loaded then, or never
        import_module("anyio._backends._asyncio")
    return new_client(verify, connections=connections, connect_seconds=_CONNECT_S, kept_open_seconds=_KEPT_OPEN_S)


class HttpPeer:
    """One address. `name` says who that is in logs and metrics, without anything secret: two URLs have two names, and
    one has the same after every restart."""

    def __init__(self, reference: str, secret: Secret | None, *, kind: str, seconds: float, connections: int) -> None:
        """`reference` is the URL, and may contain `${NAME}`. Raises `ConfigError` where that or the secret is not
        there, or is none."""
        url = expanded(reference)
        where = urlsplit(url)
        self.place = where.netloc.rpartition("@")[2]
        self.name = f"{kind} {self.place} {hashlib.sha256(reference.encode()).hexdigest()[:8]}"
        self._url = url
        self._seconds = seconds
        self._verify = tls_context() if where.scheme == "https" else False
        self._client = _client(self._verify, connections)
        self._refusals: dict[str, int] = {}
        try:
            self._keys = () if secret is None else keys_of(secret.reveal())
        except ValueError as error:
            raise ConfigError(f"the secret of {kind} {self.place}: {error}") from None

    async def close(self) -> None:
        await self._client.aclose()

    # --- one request ----------------------------------------------------------------------------------------------

    async def ask(
        self,
        identity: str,
        content: Mapping[str, Any],
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Its answer, whatever it says. Raises `SinkUnavailableError` where there is none, or half of one."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        fields = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # nothing that grows as it is unpacked
            "User-Agent": f"sipbridge/{__version__}",
            **(headers or {}),
            **signed(self._keys, identity, int(time.time()), body),
        }
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(method, fields, body)
        except (TimeoutError, httpx.TimeoutException):
            raise SinkUnavailableError(f"{self.place}: no answer within {self._seconds:g} s") from None
        except httpx.ConnectError as error:
            raise SinkUnavailableError(str(not_connected(self.place, error))) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise SinkUnavailableError(f"{self.place}: the connection broke ({type(error).__name__})") from None

    async def reach(self) -> None:
        """A connection, as a request needs it, and nothing on it. Raises `SinkUnavailableError`."""
        where = urlsplit(self._url)
        tls = tls_context() if where.scheme == "https" else None
        port = where.port or (443 if tls else 80)
        try:
            async with asyncio.timeout(self._seconds):
                _, writer = await asyncio.open_connection(where.hostname or "", port, ssl=tls)
        except TimeoutError:
            raise SinkUnavailableError(f"{self.place}: no connection within {self._seconds:g} s") from None
        except (OSError, ValueError) as error:
            raise SinkUnavailableError(str(not_connected(self.place, error))) from None
        writer.close()

    async def _exchange(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        async with self._client.stream(method, self._url, content=body, headers=headers) as answer:
            said = b""
            async for piece in answer.aiter_raw():
                said += piece
                if len(said) > _MOST_ANSWER:
                    break  # leaving cuts the connection: nothing more of it is read
        retry_after = seconds_of(answer.headers.get("retry-after", ""), time.time())
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(answer.status_code, media_type, said[:_MOST_ANSWER], retry_after)

    # --- what it means --------------------------------------------------------------------------------------------

    def judge(self, identity: str, answer: Answer, *, several: bool = False) -> None:
        """Returns if it has what was sent, now or from before. Raises `SinkUnavailableError` where the same is to be
        sent again later, `EntryRefusedError` where that is of no use; of `several` entries the latter at once."""
        status = answer.status
        if 200 <= status < 300 or status == _KNOWN:
            self._refusals.pop(identity, None)
            return
        if status == _GONE or (status in _REFUSED and (several or self._is_final(identity))):
            raise EntryRefusedError(f"{self.place} answers {status}")
        what = f"{status}, a redirect, which is not followed" if 300 <= status < 400 else str(status)
        raise SinkUnavailableError(f"{self.place} answers {what}", retry_after=answer.retry_after)

    def _is_final(self, identity: str) -> bool:
        if len(self._refusals) >= _MOST_REMEMBERED:
            self._refusals.clear()
        count = self._refusals[identity] = self._refusals.get(identity, 0) + 1
        return count >= PATIENCE


def seconds_of(retry_after: str, now: float) -> float | None:
    """RFC 9110 §10.2.3: seconds, or a date. None for anything else."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
