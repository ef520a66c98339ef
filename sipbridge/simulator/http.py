"""A small HTTP/1.1 server for models that are asked over HTTP: one handler for each path, answers that stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self, TypeAlias

_LARGEST_BODY = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> dict[str, Any]:
        """Raises `ValueError`."""
        content = json.loads(self.body)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        return content


class HttpAnswer:
    """`begin`, any number of `write`; or `refuse`. Raises `ConnectionError` where the client is gone."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def begin(self, content_type: str, status: int = 200) -> None:
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
        self._writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        await self._writer.drain()

    async def write(self, data: bytes) -> None:
        if data:
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self._writer.drain()

    async def event(self, message: dict[str, Any] | str) -> None:
        """One event of a `text/event-stream`."""
        data = message if isinstance(message, str) else json.dumps(message)
        await self.write(f"data: {data}\n\n".encode())

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def refuse(self, status: int, code: str, message: str) -> None:
        await self.begin("application/json", status)
        await self.write(json.dumps({"error": {"message": message, "code": code, "type": code}}).encode())
        await self.end()

    def drop(self) -> None:
        """The connection breaks in the middle."""
        self._writer.transport.abort()

    @property
    def gone(self) -> bool:
        return self._writer.transport.is_closing()


Handler: TypeAlias = Callable[[HttpRequest, HttpAnswer], Awaitable[None]]


class HttpServer:
    """Listens as long as it is entered; leaving it cuts what still runs."""

    def __init__(self, handlers: Mapping[str, Handler], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._handlers = handlers
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None, "the server is not running"
        return f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    await self._answer(await _read(reader), HttpAnswer(writer))
        except asyncio.CancelledError:
            pass  # the server is being left
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _answer(self, request: HttpRequest, answer: HttpAnswer) -> None:
        handler = self._handlers.get(request.path)
        if handler is None:
            await answer.refuse(404, "not_found", "There is nothing here.")
        else:
            await handler(request, answer)


async def _read(reader: asyncio.StreamReader) -> HttpRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    size = int(headers.get("content-length", "0"))
    if size > _LARGEST_BODY:
        raise ConnectionError("too long a body")
    return HttpRequest(first.split(" ")[1].partition("?")[0], headers, await reader.readexactly(size))
