"""An address asked over HTTP as a channel: one POST for each message, its answer streamed back in parts.

One connection, kept open between requests. See `HttpEndpoint` for what is delivered. Redirects count as failures: they
would carry the key to somewhere else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sipbridge import __version__
from sipbridge.providers import HttpEnd, HttpEndpoint, Outgoing
from sipbridge.providers.failures import Secrets, not_connected, place_of, refused_by_status
from sipbridge.providers.websocket import Receive, tls_context

if TYPE_CHECKING:
    import httpx

_MAX_LINE = 1024 * 1024
_ERROR_BODY = 4096
_CONNECT_SECONDS = 3.0
_KEPT_OPEN_SECONDS = 60.0
MAX_WAITING = 64
"""Requests that may wait for their turn; of more, each fails at once."""


class EventStream:
    """Cuts a `text/event-stream` (WHATWG HTML §9.2.6) into its events' data; the other fields mean nothing here."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """Raises `ValueError` where a line is longer than anything that may be kept."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            raise ValueError("a line without end")
        events = []
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if not name and not value:
                events += ["\n".join(self._data)] if self._data else []
                self._data = []
            elif name == b"data":
                self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return events

    def finish(self) -> list[str]:
        """An event that no empty line followed: some servers leave the last one out."""
        return self.feed(b"\n\n")


class HttpChannel:
    """A `Channel`. Requests are asked one after another; what may be in flight at once is one."""

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self.dropped_ms = 0.0
        self._endpoint = endpoint
        self._place = place_of(endpoint.url)
        self._waiting: deque[bytes | None] = deque()
        """Bodies; None: a request that was cancelled before it was its turn."""
        self._wanted = asyncio.Event()
        self._asking: asyncio.Timeout | None = None
        self._cancelled = False
        self._closed = False

    @classmethod
    async def open(cls, endpoint: HttpEndpoint) -> HttpChannel:
        """Finds out whether somebody is there, so that a call does not begin with a part that is unreachable. Raises
        OSError."""
        where = urlsplit(endpoint.url)
        secure = where.scheme == "https"
        port = where.port or (443 if secure else 80)
        _, writer = await asyncio.open_connection(where.hostname or "", port, ssl=tls_context() if secure else None)
        writer.close()
        return cls(endpoint)

    # --- what goes out ------------------------------------------------------------------------------------------------

    def send(self, message: Outgoing) -> None:
        data = message.data.encode() if isinstance(message.data, str) else message.data
        if not data:
            self._cancel()
        else:
            self._waiting.append(data if len(self._waiting) < MAX_WAITING else None)
        self._wanted.set()

    def _cancel(self) -> None:
        self._waiting = deque([None] * len(self._waiting))
        if self._asking is not None and not self._cancelled:
            self._cancelled = True
            self._asking.reschedule(asyncio.get_running_loop().time())

    # --- what comes in ------------------------------------------------------------------------------------------------

    async def receive(self, deliver: Receive) -> tuple[int, str]:
        import httpx  # takes longer to load than all of a call's set-up: only where it is needed

        def unless_cancelled(message: str | bytes) -> None:
            if not self._cancelled:
                deliver(message)

        limits = httpx.Limits(max_connections=1, keepalive_expiry=_KEPT_OPEN_SECONDS)
        timeout = httpx.Timeout(self._endpoint.timeout, connect=_CONNECT_SECONDS)
        secure = self._endpoint.url.startswith("https:")
        # As with the WebSockets, the environment's proxies are left alone.
        client = httpx.AsyncClient(
            limits=limits, timeout=timeout, verify=tls_context() if secure else False, trust_env=False
        )
        async with client:
            while not self._closed:
                if self._waiting:
                    body = self._waiting.popleft()
                    end = HttpEnd("cancelled") if body is None else await self._ask(client, body, unless_cancelled)
                    if not self._closed:
                        deliver(str(end))
                else:
                    self._wanted.clear()
                    await self._wanted.wait()
        return 1000, "closed"

    async def _ask(self, client: httpx.AsyncClient, body: bytes, deliver: Receive) -> HttpEnd:
        import httpx

        self._cancelled = False
        try:
            async with asyncio.timeout(None) as self._asking:
                return await self._exchange(client, body, deliver)
        except TimeoutError:
            return HttpEnd("cancelled")
        except httpx.ConnectError as error:
            failure = not_connected(self._place, error)
            return HttpEnd(failure.code, str(failure))
        except httpx.TimeoutException:
            return HttpEnd("timeout", f"{self._place}: no answer within {self._endpoint.timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return HttpEnd("closed", f"{self._place}: the connection broke ({type(error).__name__})")
        except ValueError as error:
            return HttpEnd("answer", f"{self._place}: {error}")
        finally:
            self._asking = None

    async def _exchange(self, client: httpx.AsyncClient, body: bytes, deliver: Receive) -> HttpEnd:
        headers = {
            "Content-Type": self._endpoint.content_type,
            "User-Agent": f"sipbridge/{__version__}",
            **self._endpoint.headers,
        }
        async with client.stream("POST", self._endpoint.url, content=body, headers=headers) as answer:
            if answer.status_code >= 300:
                return HttpEnd(str(answer.status_code), await self._refusal(answer))
            events = EventStream() if "text/event-stream" in answer.headers.get("content-type", "") else None
            size = 0
            async for piece in answer.aiter_bytes():
                size += len(piece)
                if size > self._endpoint.max_answer:
                    raise ValueError("the answer is too long")
                _hand_out(piece, events, deliver)
            for data in events.finish() if events is not None else ():
                deliver("data:" + data)
        return HttpEnd("cancelled" if self._cancelled else "")

    async def _refusal(self, answer: httpx.Response) -> str:
        said = b""
        async for piece in answer.aiter_bytes():
            said += piece
            if len(said) >= _ERROR_BODY:
                break
        secrets = Secrets(self._endpoint.url, self._endpoint.headers.values())
        return str(refused_by_status(self._place, answer.status_code, said[:_ERROR_BODY], secrets))

    # --- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """What runs is cut; a request has no goodbye."""
        self._closed = True
        self._cancel()
        self._wanted.set()


def _hand_out(piece: bytes, events: EventStream | None, deliver: Callable[[str | bytes], None]) -> None:
    if events is None:
        deliver(piece)
        return
    for data in events.feed(piece):
        deliver("data:" + data)
