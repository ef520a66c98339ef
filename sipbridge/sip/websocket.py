"""SIP over WebSocket (RFC 7118), the server's side: one message in each WebSocket message, text or binary alike.

The `websockets` library's sans-I/O half does the opening handshake and the frames (RFC 6455). No extension is agreed
to: compression would let a few octets become many. `Origin` is not looked at, since only browsers tell the truth there:
who may speak is decided by source and by digest, as on every other transport.
"""

from __future__ import annotations

import logging

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from sipbridge.errors import StreamFramingError
from sipbridge.sip.faults import StreamFault
from sipbridge.sip.framing import Keepalive

_MAX_HANDSHAKE = 16_384
_quiet = logging.getLogger("sipbridge.websocket")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class WebSocketFramer:
    """Takes a `StreamFramer`'s place; `data_to_send` holds what the WebSocket protocol itself has to say."""

    def __init__(self, max_message: int) -> None:
        self.broken: StreamFramingError | None = None
        self.ended = False
        """The closing handshake is done."""
        self._protocol = ServerProtocol(subprotocols=[Subprotocol("sip")], max_size=max_message, logger=_quiet)
        self._handshake: bytearray | None = bytearray()
        """Its octets so far; None when it is whole."""
        self._open = False
        self._partial = False
        self._fragments: list[bytes] = []

    @property
    def pending(self) -> bool:
        return not self._open or self._partial or bool(self._fragments)

    def feed(self, data: bytes) -> list[bytes | Keepalive]:
        """As `StreamFramer.feed`; a message may be anything, the parser sees to that."""
        found: list[bytes | Keepalive] = []
        if self.broken is None:
            try:
                self._feed(data, found)
            except StreamFramingError as error:
                self.broken = error
        if self.broken is not None and not found:
            raise self.broken
        return found

    def wrap(self, message: bytes) -> bytes:
        """The octets that carry a message of ours: as text where it is text (RFC 7118 §4.2 allows both)."""
        try:
            if message.isascii():
                self._protocol.send_text(message)
            else:
                self._protocol.send_binary(message)
        except InvalidState:
            return b""  # the closing handshake has begun
        return self.data_to_send()

    def data_to_send(self) -> bytes:
        return b"".join(self._protocol.data_to_send())

    def close(self) -> None:
        # The peer's own good-bye is answered by the library; where it could not be, it asserts that we don't say ours.
        if self._open and not self.ended and self.broken is None and self._protocol.close_rcvd is None:
            try:
                self._protocol.send_close(1001)
            except InvalidState:
                return

    def take_pong(self) -> bool:
        return False  # connections of this kind are never ours, so nobody is asked for one

    # private

    def _feed(self, data: bytes, found: list[bytes | Keepalive]) -> None:
        if self._handshake is None:
            self._feed_protocol(data, found)
            return
        # The library must not see what follows a handshake before that has been answered: it would read it as frames,
        # and close its side behind our back.
        known = len(self._handshake)
        self._handshake += data
        end = self._handshake.find(b"\r\n\r\n", max(0, known - 3))
        if len(self._handshake if end < 0 else self._handshake[:end]) > _MAX_HANDSHAKE:
            raise StreamFramingError(
                f"more than {_MAX_HANDSHAKE} octets of WebSocket handshake", fault=StreamFault.WEBSOCKET
            )
        rest = b""
        if end >= 0:
            data, rest = data[: end + 4 - known], data[end + 4 - known :]
            self._handshake = None
        self._feed_protocol(data, found)
        if rest:
            self._feed_protocol(rest, found)

    def _feed_protocol(self, data: bytes, found: list[bytes | Keepalive]) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        events = protocol.events_received()
        for event in events:
            if isinstance(event, Request):
                self._accept(event)
            elif isinstance(event, Frame) and self._open:
                self._take(event, found)
        # Between two reads of the library's parser its buffer may be empty though a frame has begun; then this is
        # noticed one octet later.
        self._partial = not events or bool(protocol.reader.buffer)
        self.ended = protocol.close_expected()
        error = protocol.parser_exc or protocol.handshake_exc
        if error is not None and not isinstance(error, EOFError):
            raise StreamFramingError(f"WebSocket: {error}", fault=StreamFault.WEBSOCKET)

    def _accept(self, request: Request) -> None:
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self._open = response.status_code == 101

    def _take(self, frame: Frame, found: list[bytes | Keepalive]) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.data:
            self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        message = b"".join(self._fragments)
        self._fragments.clear()
        if message.strip(b"\r\n"):
            found.append(message)
        elif message.startswith(b"\r\n\r\n"):
            found.append(Keepalive.PING)  # RFC 7118 §6: RFC 5626's ping, in a message of its own
