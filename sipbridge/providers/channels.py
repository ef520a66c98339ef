"""The kinds of channel that a session opens for its dialect: a WebSocket, an address asked over HTTP, a stream to a
model on Bedrock, and a program run once per message."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from sipbridge.errors import AgentStartError
from sipbridge.providers import BedrockEndpoint, Endpoint, HttpEndpoint, Outgoing, ProgramEndpoint, WebSocketEndpoint
from sipbridge.providers.failures import Secrets, not_connected, place_of, refused_by_status
from sipbridge.providers.http import HttpChannel
from sipbridge.providers.nova_channel import BedrockChannel
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
    if isinstance(endpoint, BedrockEndpoint):
        return await BedrockChannel.open(endpoint)
    place = place_of(endpoint.url)
    try:
        if isinstance(endpoint, HttpEndpoint):
            return await HttpChannel.open(endpoint)
        return await WebSocketChannel.open(endpoint, _ws_log)
    except InvalidStatus as error:
        response = error.response
        secrets = secrets_of(endpoint)
        raise refused_by_status(place, response.status_code, bytes(response.body or b""), secrets) from None
    except InvalidURI:
        raise AgentStartError(f"{place}: not a WebSocket URL", code="url") from None
    except InvalidMessage as error:
        # The connection closed in mid-answer, or what answers is no HTTP server.
        cut = isinstance(error.__cause__, EOFError | OSError)
        raise not_connected(place, error.__cause__ if cut and error.__cause__ else error) from None
    except (OSError, InvalidHandshake, EOFError) as error:
        raise not_connected(place, error) from None


def secrets_of(endpoint: Endpoint) -> Secrets:
    """What a server may have learned from us by being connected to, and must not be quoted with."""
    if isinstance(endpoint, HttpEndpoint):
        return Secrets(endpoint.url, [*endpoint.headers.values()])
    if isinstance(endpoint, WebSocketEndpoint):
        return Secrets(endpoint.url, [*endpoint.headers.values(), *endpoint.subprotocols])
    if isinstance(endpoint, BedrockEndpoint):
        return Secrets(endpoint.url, [endpoint.secret_access_key, endpoint.session_token])
    return Secrets()


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
