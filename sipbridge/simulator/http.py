"""A small HTTP/1.1 server for simulated services that are asked over HTTP: a call to be created, speech to be made,
words to be streamed.

    async def answer(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer.of({"joinUrl": "..."})

    async with HttpServer(answer) as server:
        ...  # POST to server.url

No library's server: what a test has to see (a body that breaks off in the middle, a status, silence) is one line here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

_MOST = 16 * 1024 * 1024
_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    """Without its query."""
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""

    def json(self) -> Any:
        """None where the body is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    """An iterator's pieces are sent as they come (chunked), as a stream of events is; if it raises `Broken`, the
    connection is cut in the middle."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, status: int = 200) -> HttpAnswer:
        return cls(status, json.dumps(content).encode(), {"content-type": "application/json"})


class Broken(Exception):
    """Raised by an answer, or within its body, to cut the connection."""


Answer: TypeAlias = Callable[[HttpRequest], Awaitable[HttpAnswer]]


class HttpServer:
    """Listens as long as it is entered; connections may be used again. `requests` has all that came."""

    def __init__(self, answer: Answer, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[HttpRequest] = []
        self._answer = answer
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None, "the server is not running"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=_HEAD)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                await _write(writer, await self._answer(request))
        except (Broken, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()  # the server closes: nobody waits for this task but that
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> HttpRequest | None:
    """None where the client has gone, or says what is no HTTP."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _MOST:
        return None
    where = urlsplit(words[1])
    body = await reader.readexactly(int(length))
    return HttpRequest(words[0], where.path, parse_qs(where.query), headers, body)


async def _write(writer: asyncio.StreamWriter, answer: HttpAnswer) -> None:
    body = answer.body
    size = {"content-length": str(len(body))} if isinstance(body, bytes) else {"transfer-encoding": "chunked"}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**answer.headers, **size}.items())
    writer.write(f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n{head}\r\n".encode("latin-1"))
    if isinstance(body, bytes):
        writer.write(body)
    else:
        async for piece in body:
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
        writer.write(b"0\r\n\r\n")
    await writer.drain()
