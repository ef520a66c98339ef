"""The kinds of channel that a session opens for its dialect: a WebSocket, an address asked over HTTP, and a program run
once per message."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import deque
from typing import Protocol
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from sipbridge.errors import AgentStartError
from sipbridge.providers import Endpoint, HttpEndpoint, Outgoing, ProgramEndpoint, WebSocketEndpoint
from sipbridge.providers.http import HttpChannel
from sipbridge.providers.programs import run_program
from sipbridge.providers.websocket import MAX_UNSENT_MS, Receive, WebSocketChannel

__all__ = ["MAX_UNSENT_MS", "Channel", "ProgramChannel", "Receive", "WebSocketChannel", "open_channel"]

# At DEBUG the library prints the handshake, and with it the key.
_ws_log = logging.getLogger("sipbridge.providers.websocket")
_ws_log.setLevel(logging.INFO)


class Channel(Protocol):
    dropped_ms: float
    """Caller audio dropped because the transport did not take it in time."""

    def send(self, message: Outgoing) -> None:
        """Queue a message. Never blocks, never raises."""

    async def receive(self, deliver: Receive) -> tuple[int, str]:
        """Deliver what comes in until the channel closes; returns its code and reason."""

    async def close(self) -> None:
        """In good manners, but within a second."""

    def abort(self) -> None: ...


async def open_channel(endpoint: Endpoint) -> Channel:
    """Raises `AgentStartError`."""
    if isinstance(endpoint, ProgramEndpoint):
        return ProgramChannel(endpoint)
    where = urlsplit(endpoint.url)
    place = f"{where.scheme}://{where.netloc.rpartition('@')[2]}{where.path}"
    try:
        if isinstance(endpoint, HttpEndpoint):
            return await HttpChannel.open(endpoint)
        return await WebSocketChannel.open(endpoint, _ws_log)
    except (OSError, InvalidHandshake, InvalidURI, EOFError) as error:
        raise _start_error(error, place, endpoint) from None


class ProgramChannel:
    """Each message is one run; the runs follow each other in the order of the messages."""

    def __init__(self, endpoint: ProgramEndpoint) -> None:
        self.dropped_ms = 0.0
        self._endpoint = endpoint
        self._messages: deque[str | bytes] = deque()
        self._wanted = asyncio.Event()
        self._closed = False

    def send(self, message: Outgoing) -> None:
        self._messages.append(message.data)
        self._wanted.set()

    async def receive(self, deliver: Receive) -> tuple[int, str]:
        while not self._closed:
            if self._messages:
                deliver(await run_program(self._endpoint, self._messages.popleft()))
            else:
                self._wanted.clear()
                await self._wanted.wait()
        return 1000, "closed"

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._closed = True
        self._wanted.set()


# --- what a failed connection is called -------------------------------------------------------------------------------

_STATUS_WORDS = {
    400: "refused the request (is the model right?)",
    401: "does not accept the key",
    403: "denies access with this key",
    404: "does not know this model or address",
    429: "takes no more sessions at the moment",
}


def _start_error(error: Exception, place: str, endpoint: WebSocketEndpoint | HttpEndpoint) -> AgentStartError:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        words = _STATUS_WORDS.get(status, "refused the connection")
        body = _redacted((error.response.body or b"").decode("utf-8", "replace"), endpoint)
        said = " ".join(body.split())[:200]
        return AgentStartError(f"{place} {words}: HTTP {status}{' ' + said if said else ''}", code=str(status))
    code, words = _transport_words(error)
    return AgentStartError(f"{place}: {words}", code=code)


def _transport_words(error: Exception) -> tuple[str, str]:
    if isinstance(error, socket.gaierror):
        return "dns", f"the host name can't be resolved ({error.strerror})"
    if isinstance(error, ssl.SSLError):
        return "tls", f"TLS failed ({error.reason or type(error).__name__})"
    if isinstance(error, TimeoutError):
        return "timeout", "no answer"
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "refused", "connection refused"
    if isinstance(error, (InvalidMessage, ConnectionResetError, EOFError)):
        return "closed", "the connection closed before the handshake was done"
    if isinstance(error, InvalidURI):
        return "url", "not a WebSocket URL"
    if isinstance(error, OSError):
        return "unreachable", f"can't be reached ({error.strerror or type(error).__name__})"
    return "handshake", f"the WebSocket handshake failed ({type(error).__name__})"


def _redacted(text: str, endpoint: WebSocketEndpoint | HttpEndpoint) -> str:
    """A server may quote the key it refuses."""
    for value in endpoint.headers.values():
        for secret in (value, value.rpartition(" ")[2]):
            if len(secret) >= 6:
                text = text.replace(secret, "***")
    return text
