"""A server that webhooks or the history of calls go to: real, in a thread of its own, and as bad as it is told to be.

with Receiver() as receiver:
    receiver.mode = Status(503)
    ...
    await receiver.until(lambda: len(receiver.taken) == 3)
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Status:
    """Answer this."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Half:
    """A 200 that breaks off in the middle."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset instead of an answer: after it was read, or as soon as it is there."""


@dataclass(frozen=True)
class Stall:
    """Nothing, until the receiver is told something else or the sender gives up."""


@dataclass(frozen=True)
class Flood:
    """A 200 with a body without end."""


Mode = Status | Half | Reset | Stall | Flood
OK = Status(200)


class Receiver:
    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        """Those that were read, in their order."""
        self.taken: list[Request] = []
        """Those that it has said yes to."""
        self.times: list[float] = []
        self.choose: Callable[[Request], Mode] = lambda request: self.mode
        self.most_at_once = 0
        self._mode: Mode = OK
        self._tls = tls
        self._changed = threading.Condition()
        self._at_once = 0
        self._server: _Server | None = None
        self.port = 0

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mode = OK
        self.stop()

    def start(self) -> None:
        """Again on the port that it had."""
        self._server = server = _Server(("127.0.0.1", self.port), self)
        self.port = server.server_address[1]
        if self._tls is not None:
            server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """As a process that dies: its connections are closed, too."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            for connection in list(server.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    async def until(self, condition: Callable[[], bool], *, within: float = 10.0) -> None:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(condition, within)

        assert await asyncio.to_thread(wait), f"{len(self.requests)} requests, {len(self.taken)} taken"

    def read(self, request: Request) -> Mode:
        with self._changed:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._changed.notify_all()
        mode = self.choose(request)
        if isinstance(mode, Stall):
            with self._changed:
                self._changed.wait_for(lambda: not isinstance(self.choose(request), Stall), 20)
                mode = self.choose(request)
        with self._changed:
            if isinstance(mode, Status) and (200 <= mode.status < 300 or mode.status == 409):
                self.taken.append(request)
            self._at_once -= 1
            self._changed.notify_all()
        return mode


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # whoever asks may go away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with suppress(OSError):
            self._answer(self.server.receiver.read(Request(self.command, self.path, headers, body)))

    do_DELETE = do_POST
    do_GET = do_POST

    def _answer(self, mode: Mode) -> None:
        match mode:
            case Status(status, body, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            case Half():
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                self.close_connection = True
            case Flood():
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
                self.close_connection = True
                with suppress(OSError):
                    while True:
                        self.wfile.write(bytes(65536))
            case Reset():
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case Stall():
                self.close_connection = True
