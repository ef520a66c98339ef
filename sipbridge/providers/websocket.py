"""One WebSocket to a model: the library `websockets` says what is on the wire, without its tasks and queues.

`ClientProtocol` is that library without I/O: handshake, frames, pings, the closing handshake. Here it is driven by the
event loop's own callbacks. A message that comes in is delivered within the callback that read it; one that goes out is
written at once, or waits here while the socket does not take it: no task, queue or future for each message, as the
library's connection object has them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TypeAlias, cast

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import SEND_EOF, State
from websockets.typing import LoggerLike, Subprotocol
from websockets.uri import parse_uri

from sipbridge import __version__
from sipbridge.providers import Outgoing, WebSocketEndpoint

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without the C part: slower by some microseconds for each message
    from websockets.utils import apply_mask

MAX_UNSENT_MS = 500.0
"""Caller audio that may wait for the transport. Older audio is of no use to a conversation."""
MAX_MESSAGE = 16 * 1024 * 1024
CLOSE_SECONDS = 0.8
"""For the closing handshake with a peer that may be dead. After that the connection is cut."""
_KERNEL_BUFFER = 64 * 1024
"""Send buffer of the socket: what lies there can't be dropped any more, so it is kept short."""

Receive: TypeAlias = Callable[[str | bytes], None]

_ITS_FAULT = frozenset({CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.MESSAGE_TOO_BIG})
"""What we close with when the server breaks the protocol. It says the same when we do, and then it is no use to try
again."""
_NO_ACKNOWLEDGEMENT_S = 20.0
"""Seconds for which TCP tries to bring something to the server. A call sends all the time, so that one that is gone
without a word is found out, also where it is asked for no pongs; the system's own limit is a quarter of an hour."""
_PONG = b"\x8a"

_SHORT, _MEDIUM, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")
_WHOLE = 0x80  # FIN: the first frame of the message is its last
_MASKED = 0x80


def whole_message(opcode: int, data: bytes, mask: bytes) -> bytes:
    """A message in one frame of ours (RFC 6455 §5.2): what the library makes of it, in a third of the time. This is the
    hot one, fifty times a second and call."""
    size = len(data)
    if size < 126:
        head = _SHORT.pack(_WHOLE | opcode, _MASKED | size)
    elif size < 65536:
        head = _MEDIUM.pack(_WHOLE | opcode, _MASKED | 126, size)
    else:
        head = _LONG.pack(_WHOLE | opcode, _MASKED | 127, size)
    return head + mask + apply_mask(data, mask)


class _Masks:
    """RFC 6455 §5.3: from a strong source of entropy, so that nobody can foresee them. A thousand for one system
    call."""

    def __init__(self) -> None:
        self._pool = b""
        self._position = 0

    def next(self) -> bytes:
        start = self._position
        mask = self._pool[start : start + 4]
        if not mask:
            self._pool, start = os.urandom(4096), 0
            mask = self._pool[:4]
        self._position = start + 4
        return mask


_masks = _Masks()


@lru_cache(maxsize=4)
def _tls_context(file: str | None, directory: str | None) -> ssl.SSLContext:
    """One for all calls: the authorities that it trusts take milliseconds to read and half a megabyte to hold."""
    return ssl.create_default_context()


def tls_context() -> ssl.SSLContext:
    """For connections to models, whatever the protocol above."""
    return _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


# What the socket, or TLS, reads into: one for all channels, because it is emptied before the loop does anything else.
# Without it each read allocates 256 KiB, whatever comes, and the system has to find and forget the pages.
# Not longer, because all the messages in it are handled at once: of small ones there are thousands.
_buffer = memoryview(bytearray(16 * 1024))


class WebSocketChannel(asyncio.BufferedProtocol):
    """Messages go straight to the socket while it takes them. When it does not, they wait here, in order.

    Only caller audio is ever dropped: beyond `MAX_UNSENT_MS` the oldest, counted.
    """

    def __init__(self, endpoint: WebSocketEndpoint, logger: LoggerLike) -> None:
        loop = asyncio.get_running_loop()
        self.dropped_ms = 0.0
        self._text = endpoint.text
        self._ping_interval = endpoint.ping_interval
        self._pong_seconds = endpoint.pong_seconds
        self._protocol = ClientProtocol(
            parse_uri(endpoint.url),
            subprotocols=[Subprotocol(name) for name in endpoint.subprotocols] or None,
            max_size=MAX_MESSAGE,
            logger=logger,
        )
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] = loop.create_future()
        """The handshake is over, one way or the other."""
        self._lost: asyncio.Future[None] = loop.create_future()
        self._deliver: Receive | None = None
        self._early: list[Frame] = []
        self._parts = bytearray()  # of a message that comes in several frames
        self._parts_opcode = Opcode.TEXT
        self._paused = False
        self._waiting: deque[Outgoing] = deque()
        self._waiting_ms = 0.0
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ping: bytes | None = None
        self._ping_at = 0.0
        self._heard = False  # anything at all, since it was last looked at

    # --- opening ------------------------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, endpoint: WebSocketEndpoint, logger: LoggerLike) -> WebSocketChannel:
        """Raises what the library raises for a failed handshake, or OSError. A redirect counts as failed: it would
        carry the key to somewhere else."""
        channel = cls(endpoint, logger)
        uri = channel._protocol.uri
        tls = tls_context() if uri.secure else None
        loop = asyncio.get_running_loop()
        await loop.create_connection(
            lambda: channel, uri.host, uri.port, ssl=tls, server_hostname=uri.host if uri.secure else None
        )
        try:
            await channel._handshake(endpoint)
        except BaseException:
            channel.abort()
            raise
        return channel

    async def _handshake(self, endpoint: WebSocketEndpoint) -> None:
        protocol = self._protocol
        request = protocol.connect()
        request.headers.update(dict(endpoint.headers))
        request.headers.setdefault("User-Agent", f"sipbridge/{__version__}")
        protocol.send_request(request)
        self._flush()
        await self._answered
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        if self._ping_interval is not None:
            self._arm(self._ping_interval, self._send_ping)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # So that all that the socket does not take at once is known. (At 0, TLS transports believe that they are always
        # full.)
        self._transport.set_write_buffer_limits(high=1, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_NO_ACKNOWLEDGEMENT_S * 1000))

    # --- what comes in ------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        protocol = self._protocol
        self._heard = True
        protocol.receive_data(bytes(_buffer[:nbytes]))
        events = protocol.events_received()
        if protocol.writes:
            self._flush()
        for event in events:
            if isinstance(event, Response):
                if not self._answered.done():
                    self._answered.set_result(None)
                if self._transport is not None and protocol.state is State.OPEN:
                    self._transport.pause_reading()  # until somebody listens
            elif self._deliver is None:
                self._early.append(cast(Frame, event))
            else:
                self._frame(cast(Frame, event))
        if protocol.close_expected():
            self._arm(CLOSE_SECONDS, self.abort)

    def _frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                self._message(opcode, bytes(frame.data))
            else:
                self._parts, self._parts_opcode = bytearray(frame.data), opcode
        elif opcode is Opcode.CONT:
            self._parts += frame.data
            if frame.fin:
                data, self._parts = bytes(self._parts), bytearray()
                self._message(self._parts_opcode, data)
        elif opcode is Opcode.PONG and frame.data == self._ping and self._ping_interval is not None:
            self._ping = None
            latency = asyncio.get_running_loop().time() - self._ping_at
            self._arm(max(0.0, self._ping_interval - latency), self._send_ping)

    def _message(self, opcode: Opcode, data: bytes) -> None:
        message: str | bytes = data
        if opcode is Opcode.TEXT and not self._text:
            # RFC 6455 §8.1 wants the connection failed. A caller is on the line: half a character costs itself only.
            message = data.decode("utf-8", "replace")
        if self._deliver is not None:
            self._deliver(message)

    async def receive(self, deliver: Receive) -> tuple[int, str]:
        early, self._early = self._early, []
        self._deliver = deliver
        for frame in early:
            self._frame(frame)
        if self._transport is not None:
            self._transport.resume_reading()
        try:
            await self._lost
        finally:
            self._deliver = None
        said, sent = self._protocol.close_rcvd, self._protocol.close_sent
        if said is None and sent is not None and sent.code in _ITS_FAULT:
            return 1006, f"against the protocol: {sent.code} {sent.reason}"
        close = said or sent
        return (close.code, close.reason) if close else (1006, "connection lost")

    # --- what goes out ------------------------------------------------------------------------------------------------

    def send(self, message: Outgoing) -> None:
        if not self._paused:
            self._write(message.data)
            return
        self._waiting.append(message)
        self._waiting_ms += message.audio_ms
        if self._waiting_ms > MAX_UNSENT_MS:
            self._drop_oldest()

    def _write(self, data: str | bytes) -> None:
        if self._transport is None or self._protocol.state is not State.OPEN:
            return
        if isinstance(data, str):
            self._transport.write(whole_message(Opcode.TEXT, data.encode(), _masks.next()))
        else:
            opcode = Opcode.TEXT if self._text else Opcode.BINARY
            self._transport.write(whole_message(opcode, data, _masks.next()))

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

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        while self._waiting and not self._paused:
            message = self._waiting.popleft()
            self._waiting_ms -= message.audio_ms
            self._write(message.data)
        if not self._waiting and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _flush(self) -> None:
        """What the library has to say: handshake, pongs, the closing handshake."""
        transport = self._transport
        for data in self._protocol.data_to_send():
            if transport is None or transport.is_closing():
                continue
            if self._paused and data[:1] == _PONG:
                continue  # who does not read needs none, and they would pile up
            if data != SEND_EOF:
                transport.write(data)
            elif transport.can_write_eof():
                with suppress(OSError, RuntimeError):  # it is gone already
                    transport.write_eof()
            else:
                transport.close()

    # --- keepalive ----------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float, ring: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, ring)

    def _send_ping(self) -> None:
        if self._protocol.state is State.OPEN:
            self._ping = os.urandom(4)
            self._ping_at = asyncio.get_running_loop().time()
            self._protocol.send_ping(self._ping)
            self._flush()
            self._heard = False
            self._arm(self._pong_seconds, self._no_pong)

    def _no_pong(self) -> None:
        """Some servers take half a minute for a pong, and talk meanwhile: who is heard of is alive."""
        if self._heard:
            self._heard = False
            self._arm(self._pong_seconds, self._no_pong)
        else:
            self._fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")

    # --- the end ------------------------------------------------------------------------------------------------------

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, reason)
            self._flush()
            self._arm(CLOSE_SECONDS, self.abort)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._protocol.parser.close()  # it and what it parses for hold each other
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._transport = None
        self._paused = False
        self._waiting.clear()
        for future in (self._answered, self._lost, self._drained):
            if future is not None and not future.done():
                future.set_result(None)

    async def close(self) -> None:
        """In good manners, but within a second."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._waiting:
                    self._drained = asyncio.get_running_loop().create_future()
                    await self._drained
                if self._protocol.state is State.OPEN:
                    self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
                    self._flush()
                await asyncio.shield(self._lost)
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
