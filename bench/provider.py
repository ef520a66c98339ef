"""A realtime model that costs next to nothing: enough of the GA wire for a call to stand, on raw sockets.

It understands the handshake, `session.update` and `input_audio_buffer.append`; everything else that the gateway says is
kept as text for whoever measures. What it sends is encoded once and written as it is.
"""

from __future__ import annotations

import json
import socket
import ssl
from base64 import b64decode, b64encode, encodebytes
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from bench.loop import MS, Loop, now, receive_stamped, stamp_arrivals
from bench.secrecy import Layer

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_APPEND = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'
_TELLING = slice(28, 32)
"""Of an append's first bytes, those that no other message has there: unmasking all of it, only to count it, would cost
more than the rest of its way here."""
_APPEND_SIZE = len(_APPEND) + len(_APPEND_TAIL)
_TOLD = int.from_bytes(_APPEND[_TELLING])
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


def frame(message: dict[str, Any]) -> bytes:
    """An unmasked text frame, as a server sends it (RFC 6455 §5.2)."""
    return _framed(_TEXT, json.dumps(message, separators=(",", ":")).encode())


def _framed(opcode: int, payload: bytes) -> bytes:
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + len(payload).to_bytes(2) + payload
    return head + b"\x7f" + len(payload).to_bytes(8) + payload


def audio_frame(reply_id: str, item_id: str, audio: bytes) -> bytes:
    return frame(
        {
            "type": "response.output_audio.delta",
            "event_id": "event",
            "response_id": reply_id,
            "item_id": item_id,
            "output_index": 0,
            "content_index": 0,
            "delta": b64encode(audio).decode(),
        }
    )


def unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return (int.from_bytes(data) ^ key).to_bytes(size)


def audio_size(masked: bytes, mask: bytes) -> int:
    """How much audio is in an append, with no more of it unmasked than its end."""
    turn = len(masked) & 3  # the mask begins with the message, not with its last four octets
    ending = unmasked(masked[-4:], mask[turn:] + mask[:turn])
    return (len(masked) - _APPEND_SIZE) * 3 // 4 - ending.count(b"=")


class Session:
    """One connection, so one call. `call_id` is what its instructions say, because the bench's tenants say that."""

    def __init__(self, provider: Provider, sock: socket.socket, layer: Layer | None) -> None:
        self.call_id = ""
        self.audio_messages = 0
        self.audio_bytes = 0
        self.told: list[tuple[int, dict[str, Any]]] = []
        """(when, what) of all that was no audio."""
        self.on_audio: Callable[[bytes, int], None] | None = None
        """Given the audio of each append and the moment it arrived."""
        self.round_trips: list[int] = []
        """Of the pings that were answered."""
        self.closed = False
        self._provider = provider
        self._sock = sock
        self._layer = layer
        self._buffer = b""
        self._unsent = b""
        self._upgraded = False

    def send(self, data: bytes) -> int:
        """One frame or several, at once; when that began."""
        moment = now()
        self._put(self._layer.sealed(data) if self._layer is not None else data)
        return moment

    def _put(self, data: bytes) -> None:
        if self.closed:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):  # the gateway is behind; the others shall not wait for that
            self._unsent = data[sent:]
            self._provider.stalls += 1
            self._provider.loop.after(MS, self._go_on)

    def _go_on(self, due: int) -> None:
        data, self._unsent = self._unsent, b""
        self._put(data)

    def ping(self) -> None:
        self.send(_framed(_PING, now().to_bytes(8)))

    def begin_reply(self, reply_id: str) -> None:
        self.send(frame({"type": "response.created", "response": {"id": reply_id, "status": "in_progress"}}))

    def end_reply(self, reply_id: str, status: str = "completed", reason: str = "") -> None:
        details = {"type": status, "reason": reason} if reason else None
        response: dict[str, Any] = {"id": reply_id, "status": status, "status_details": details, "output": []}
        self.send(frame({"type": "response.done", "response": response}))

    def readable(self) -> None:
        try:
            data, moment, _ = receive_stamped(self._sock, 65536)
        except BlockingIOError:
            return
        except OSError:
            data, moment = b"", 0
        if not data:
            self.close()
            return
        if self._layer is not None:
            data, answer = self._layer.opened(data)
            if answer:
                self._put(answer)
        self._buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            self._upgrade()
        else:
            self._read_frames(moment)

    def _upgrade(self) -> None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        self._buffer = rest
        self._upgraded = True
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = next(value for name, value in headers.items() if name.lower() == b"sec-websocket-key")
        accept = encodebytes(sha1(key + _ACCEPT_SALT).digest()).strip()
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.send(frame({"type": "session.created", "event_id": "event", "session": {"id": "session"}}))

    def _read_frames(self, moment: int) -> None:
        buffer, position = self._buffer, 0
        while len(buffer) - position >= 6:
            size, start = buffer[position + 1] & 0x7F, position + 2
            if size == 126:
                size, start = int.from_bytes(buffer[start : start + 2]), start + 2
            elif size == 127:
                size, start = int.from_bytes(buffer[start : start + 8]), start + 8
            end = start + 4 + size
            if len(buffer) < end:
                break
            self._receive(buffer[position] & 0x0F, buffer[start : start + 4], buffer[start + 4 : end], moment)
            position = end
        self._buffer = buffer[position:]

    def _receive(self, opcode: int, mask: bytes, masked: bytes, moment: int) -> None:
        if opcode == _TEXT:
            if int.from_bytes(masked[_TELLING]) ^ int.from_bytes(mask) != _TOLD:
                self._told(json.loads(unmasked(masked, mask)), moment)
                return
            self.audio_messages += 1
            self.audio_bytes += audio_size(masked, mask)
            if self.on_audio is not None:
                message = unmasked(masked, mask)
                self.on_audio(b64decode(message[len(_APPEND) : -len(_APPEND_TAIL)]), moment)
        elif opcode == _PONG:
            self.round_trips.append(moment - int.from_bytes(unmasked(masked, mask)))
        elif opcode == _PING:
            self.send(_framed(_PONG, unmasked(masked, mask)))
        elif opcode == _CLOSE:
            self.send(_framed(_CLOSE, unmasked(masked, mask)[:2]))
            self.close()

    def _told(self, message: dict[str, Any], moment: int) -> None:
        self.told.append((moment, message))
        if message["type"] == "session.update":
            self.call_id = message["session"]["instructions"]
            self.send(frame({"type": "session.updated", "event_id": "event", "session": {"id": "session"}}))
            self._provider.sessions[self.call_id] = self

    def stall(self) -> None:
        """Read nothing any more."""
        self._provider.loop.remove_reader(self._sock)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._provider.forget(self, self._sock)


class Provider:
    """Listens on loopback, at `url`."""

    def __init__(self, loop: Loop, context: ssl.SSLContext | None = None) -> None:
        """With a context: by TLS."""
        self.loop = loop
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        loop.add_reader(self._listener, self._accept)
        scheme = "ws" if context is None else "wss"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/v1/realtime"
        self.sessions: dict[str, Session] = {}
        """By the call they are for."""
        self.connections = 0
        """How many there ever were."""
        self.stalls = 0
        """How often a connection took less than was sent."""
        self._sockets: set[socket.socket] = set()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        self.connections += 1
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stamp_arrivals(sock)
        layer = None if self._context is None else Layer(self._context)
        self._sockets.add(sock)
        self.loop.add_reader(sock, Session(self, sock, layer).readable)

    def forget(self, session: Session, sock: socket.socket) -> None:
        self.sessions.pop(session.call_id, None)
        self.loop.remove_reader(sock)
        self._sockets.discard(sock)
        sock.close()

    def close(self) -> None:
        """Where the process goes on without it."""
        for sock in (self._listener, *self._sockets):
            sock.close()


class Talker:
    """Speaks in one session without end, in real time: a delta of 100 ms every 100 ms, two of them ahead."""

    DELTA = 100 * MS

    def __init__(self, loop: Loop, session: Session, delta: bytes, wait: int = 0) -> None:
        """Begins after `wait` nanoseconds: those of hundreds of calls must not all speak at the same moment."""
        self._loop, self._session, self._delta = loop, session, delta
        loop.after(wait, self._begin)

    def _begin(self, due: int) -> None:
        self._session.begin_reply("reply")
        self._session.send(self._delta * 2)
        self._loop.at(due + self.DELTA, self._speak)

    def _speak(self, due: int) -> None:
        if not self._session.closed:
            self._session.send(self._delta)
            self._loop.at(due + self.DELTA, self._speak)
