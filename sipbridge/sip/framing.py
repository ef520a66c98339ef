"""Cutting a TCP or TLS byte stream into messages (RFC 3261 §18.3), and the keepalives between them (RFC 5626 §3.5.1).

Only what framing needs is looked at here: the empty line, Content-Length, and whether this is SIP at all. The frames go
to `parse_message`, which reads them as it would a datagram; both read line ends and Content-Length in the same way, so
that no octet can be a body to one and a header to the other.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Protocol

from sipbridge.errors import StreamFramingError
from sipbridge.sip.faults import StreamFault

_FIRST_OCTET = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]")
_START_LINE = re.compile(rb"SIP/|[^\r\n]* SIP/[0-9]", re.IGNORECASE)
_CONTENT_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*+:((?:[^\r\n]|\r\n[ \t])*+)", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"[ \t\r\n]*+([0-9]{1,9})[ \t\r\n]*+")


class Keepalive(Enum):
    """What may stand between two messages."""

    PING = "ping"
    """A double CRLF: to be answered with a single one (RFC 5626 §3.5.1)."""


class Framer(Protocol):
    """What cuts a connection's incoming octets into messages, and puts ours into what the connection carries."""

    broken: StreamFramingError | None
    ended: bool

    @property
    def pending(self) -> bool: ...

    def feed(self, data: bytes) -> list[bytes | Keepalive]: ...

    def wrap(self, message: bytes) -> bytes: ...

    def data_to_send(self) -> bytes: ...

    def close(self) -> None: ...

    def take_pong(self) -> bool: ...


class StreamFramer:
    """One connection's incoming octets, cut into messages.

    The cut does not depend on how the octets were cut into `feed` calls, errors included: messages that were complete
    before the error are handed out first, then the error is raised, by that call if it has nothing else to give, else
    by the next; look at `broken` after each call to close at once.
    """

    def __init__(self, max_headers: int = 65_536, max_body: int = 65_536) -> None:
        self.broken: StreamFramingError | None = None
        """Why this stream can be framed no more; every further `feed` raises it."""
        self.ended = False
        self._line_ends = 0
        self._max_headers = max_headers
        self._max_body = max_body
        self._buffer = bytearray()
        self._searched = 0
        self._frame_length: int | None = None

    @property
    def pending(self) -> bool:
        """Whether a part of a message waits for its rest: the time to bound (a lone CRLF is none)."""
        return bool(self._buffer.strip(b"\r\n")) if len(self._buffer) < 4 else True

    def feed(self, data: bytes) -> list[bytes | Keepalive]:
        """The messages that are complete with these octets, each whole, and the pings between them, in order.

        Raises StreamFramingError when the stream can't be framed any more or passes a limit: close the connection.
        """
        found: list[bytes | Keepalive] = []
        if self.broken is None:
            self._buffer += data
            try:
                while (item := self._next()) is not None:
                    found.append(item)
            except StreamFramingError as error:
                self.broken = error
                self._buffer.clear()
        if self.broken is not None and not found:
            raise self.broken
        return found

    def wrap(self, message: bytes) -> bytes:
        return message

    def data_to_send(self) -> bytes:
        return b""

    def close(self) -> None:
        pass

    def take_pong(self) -> bool:
        """Whether a single CRLF, the answer to a ping of ours, has come since this was asked last.

        One that has nothing behind it yet may be half of a ping: ask when an answer would have come, not before.
        """
        answered = self._line_ends > 0
        self._line_ends = 0
        if self._buffer == b"\r\n":
            self._buffer.clear()
            answered = True
        return answered

    def _next(self) -> bytes | Keepalive | None:
        buffer = self._buffer
        if self._frame_length is None:
            while buffer[:2] == b"\r\n":
                if buffer[2:4] == b"\r\n":
                    del buffer[:4]
                    return Keepalive.PING
                if len(buffer) < 4 and b"\r\n".startswith(buffer[2:]):
                    return None  # one CRLF, or half of two
                del buffer[:2]  # §7.5: ignore line ends before the start line
                self._line_ends += 1
            if not self._find_head():
                return None
        length = self._frame_length
        if length is None or len(buffer) < length:
            return None
        message = bytes(buffer[:length])
        del buffer[:length]
        self._frame_length = None
        self._searched = 0
        return message

    def _find_head(self) -> bool:
        """Set the frame's length when the empty line has come."""
        buffer = self._buffer
        if not buffer or buffer == b"\r":
            return False
        if _FIRST_OCTET.match(buffer) is None:
            raise StreamFramingError("not SIP", fault=StreamFault.NOT_SIP)
        end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0 and len(buffer) < self._max_headers + 4:
            self._searched = len(buffer)
            return False
        if not 0 <= end <= self._max_headers:
            raise StreamFramingError(
                f"more than {self._max_headers} octets of header fields", fault=StreamFault.HEADER_TOO_LONG
            )
        self._frame_length = end + 4 + self._body_length(bytes(buffer[:end]))
        return True

    def _body_length(self, head: bytes) -> int:
        lines = head.count(b"\r\n")
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise StreamFramingError("bare CR or LF in a header", fault=StreamFault.BARE_LINE_BREAK)
        if _START_LINE.match(head) is None:
            raise StreamFramingError("not SIP", fault=StreamFault.NOT_SIP)
        values = _CONTENT_LENGTH.findall(head)
        if not values:
            return 0  # §20.14 requires it on streams; those who leave it out have no body
        match = _LENGTH.fullmatch(values[0])
        if len(values) > 1 or match is None:
            raise StreamFramingError("malformed or repeated Content-Length", fault=StreamFault.CONTENT_LENGTH)
        length = int(match[1])
        if length > self._max_body:
            raise StreamFramingError(f"more than {self._max_body} octets of body", fault=StreamFault.BODY_TOO_LONG)
        return length
