"""A realtime model that costs next to nothing: enough of the GA wire for a call to stand, on raw sockets.

It understands the handshake, `session.update` and `input_audio_buffer.append`; everything else that the gateway says is
kept as text for whoever measures. What it sends is encoded once and written as it is.
"""

from __future__ import annotations

import json
import socket
from base64 import b64decode, b64encode, encodebytes
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from bench.loop import MS, Loop, now, receive_stamped, stamp_arrivals

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_APPEND = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'
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


class Session:
    """One connection, so one call. `call_id` is what its instructions say, because the bench's tenants say that."""

    def __init__(self, provider: Provider, sock: socket.socket) -> None:
        self.call_id = ""
        self.audio_messages = 0
        self.told: list[tuple[int, dict[str, Any]]] = []
        """(when, what) of all that was no audio."""
        self.on_audio: Callable[[bytes, int], None] | None = None
        """Given the audio of each append and the moment it arrived."""
        self.round_trips: list[int] = []
        """Of the pings that were answered."""
        self.closed = False
        self._provider = provider
        self._sock = sock
        self._buffer = b""
        self._upgraded = False

    def send(self, data: bytes) -> int:
        """One frame or several, at once; when that began."""
        moment = now()
        if not self.closed:
            # Blocking: on loopback the gateway empties it within a millisecond or is past saving.
            self._sock.setblocking(True)
            try:
                self._sock.sendall(data)
            except OSError:
                self.close()
            else:
                self._sock.setblocking(False)
        return moment

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
            data, moment = receive_stamped(self._sock, 65536)
        except BlockingIOError:
            return
        except OSError:
            data, moment = b"", 0
        if not data:
            self.close()
            return
        self._buffer += data
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
            if unmasked(masked[: len(_APPEND)], mask) != _APPEND:
                self._told(json.loads(unmasked(masked, mask)), moment)
                return
            self.audio_messages += 1
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

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._provider.forget(self, self._sock)


class Provider:
    """Listens on loopback, at `url`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        loop.add_reader(self._listener, self._accept)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v1/realtime"
        self.sessions: dict[str, Session] = {}
        """By the call they are for."""
        self.connections = 0
        """How many there ever were."""

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        self.connections += 1
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stamp_arrivals(sock)
        self._loop.add_reader(sock, Session(self, sock).readable)

    def forget(self, session: Session, sock: socket.socket) -> None:
        self.sessions.pop(session.call_id, None)
        self._loop.remove_reader(sock)
        sock.close()


class Talker:
    """Speaks in one session without end, in real time: a delta of 100 ms every 100 ms, two of them ahead."""

    DELTA = 100 * MS

    def __init__(self, loop: Loop, session: Session, delta: bytes) -> None:
        self._loop, self._session, self._delta = loop, session, delta
        session.begin_reply("reply")
        session.send(delta * 2)
        loop.after(self.DELTA, self._speak)

    def _speak(self, due: int) -> None:
        if not self._session.closed:
            self._session.send(self._delta)
            self._loop.at(due + self.DELTA, self._speak)
