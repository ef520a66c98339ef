"""The two kinds of channel that a session opens for its dialect: a WebSocket, and a program run once per message."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from sipbridge import __version__
from sipbridge.errors import AgentStartError
from sipbridge.providers import Endpoint, Outgoing, ProgramEndpoint, WebSocketEndpoint
from sipbridge.providers.programs import run_program

MAX_UNSENT_MS = 500.0
"""Caller audio that may wait for the transport. Older audio is of no use to a conversation."""
MAX_MESSAGE = 16 * 1024 * 1024
CLOSE_SECONDS = 0.8
"""For the closing handshake with a peer that may be dead. After that the connection is cut."""
_KERNEL_BUFFER = 64 * 1024
"""Send buffer of the socket: what lies there can't be dropped any more, so it is kept short."""

# At DEBUG the library prints the handshake, and with it the key.
_ws_log = logging.getLogger("sipbridge.providers.websocket")
_ws_log.setLevel(logging.INFO)

Receive: TypeAlias = Callable[[str | bytes], None]


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
    return await WebSocketChannel.open(endpoint)


class _Connect(connect):
    """A redirect would carry the key to somewhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketChannel:
    """Messages go straight to the socket while it takes them. When it does not, they wait here, in order.

    Only caller audio is ever dropped: beyond `MAX_UNSENT_MS` the oldest, counted.
    """

    def __init__(self, connection: ClientConnection, *, text: bool) -> None:
        self.dropped_ms = 0.0
        self._connection = connection
        self._text = text
        self._waiting: deque[Outgoing] = deque()
        self._waiting_ms = 0.0
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, endpoint: WebSocketEndpoint) -> WebSocketChannel:
        where = urlsplit(endpoint.url)
        place = f"{where.scheme}://{where.netloc.rpartition('@')[2]}{where.path}"
        try:
            connection = await _Connect(
                endpoint.url,
                additional_headers=dict(endpoint.headers),
                subprotocols=list(endpoint.subprotocols) or None,  # type: ignore[arg-type]  # a NewType of str
                user_agent_header=f"sipbridge/{__version__}",
                compression=None,
                max_size=MAX_MESSAGE,
                write_limit=0,
                ping_interval=endpoint.ping_interval,
                open_timeout=None,
                close_timeout=CLOSE_SECONDS,
                proxy=None,
                logger=_ws_log,
            )
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed, EOFError) as error:
            raise _start_error(error, place, endpoint) from None
        sock = connection.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
        return cls(connection, text=endpoint.text)

    def send(self, message: Outgoing) -> None:
        if self._writer is None and self._connection.transport.get_write_buffer_size() == 0:
            broadcast((self._connection,), message.data, text=self._as_text(message))
            return
        self._waiting.append(message)
        self._waiting_ms += message.audio_ms
        if self._waiting_ms > MAX_UNSENT_MS:
            self._drop_oldest()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    def _as_text(self, message: Outgoing) -> bool | None:
        return True if self._text else None

    def _drop_oldest(self) -> None:
        """Control messages between the dropped audio keep their places."""
        kept: deque[Outgoing] = deque()
        while self._waiting and self._waiting_ms > MAX_UNSENT_MS:
            message = self._waiting.popleft()
            if message.audio_ms > 0:
                self._waiting_ms -= message.audio_ms
                self.dropped_ms += message.audio_ms
            else:
                kept.append(message)
        kept.extend(self._waiting)
        self._waiting = kept

    async def _write(self) -> None:
        """Runs only while the socket is slower than we are: `send` returns when its buffer is empty again."""
        try:
            while self._waiting:
                message = self._waiting.popleft()
                self._waiting_ms -= message.audio_ms
                await self._connection.send(message.data, text=self._as_text(message))
        except ConnectionClosed:
            self._waiting.clear()
        finally:
            self._writer = None

    async def receive(self, deliver: Receive) -> tuple[int, str]:
        connection = self._connection
        decode = False if self._text else None
        try:
            while True:
                deliver(await connection.recv(decode=decode))
        except ConnectionClosed as closed:
            frame = closed.rcvd or closed.sent
            return (frame.code, frame.reason) if frame else (1006, "connection lost")

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._writer is not None:
                    await asyncio.shield(self._writer)
                await self._connection.close()
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
        self._connection.transport.abort()


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


def _start_error(error: Exception, place: str, endpoint: WebSocketEndpoint) -> AgentStartError:
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
    if isinstance(error, (InvalidMessage, ConnectionClosed, ConnectionResetError, EOFError)):
        return "closed", "the connection closed before the handshake was done"
    if isinstance(error, InvalidURI):
        return "url", "not a WebSocket URL"
    if isinstance(error, OSError):
        return "unreachable", f"can't be reached ({error.strerror or type(error).__name__})"
    return "handshake", f"the WebSocket handshake failed ({type(error).__name__})"


def _redacted(text: str, endpoint: WebSocketEndpoint) -> str:
    """A server may quote the key it refuses."""
    for value in endpoint.headers.values():
        for secret in (value, value.rpartition(" ")[2]):
            if len(secret) >= 6:
                text = text.replace(secret, "***")
    return text
