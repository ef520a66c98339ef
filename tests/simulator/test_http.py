"""The simulators' HTTP server, asked by an HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from sipbridge.simulator.http import Broken, HttpAnswer, HttpRequest, HttpServer


async def answer(request: HttpRequest) -> HttpAnswer:
    if request.path == "/echo":
        return HttpAnswer.of({"method": request.method, "query": dict(request.query), "body": request.json()})
    if request.path == "/stream":
        return HttpAnswer(body=pieces(), headers={"content-type": "text/event-stream"})
    if request.path == "/half":
        return HttpAnswer(body=pieces(broken=True))
    return HttpAnswer.of({"error": "no such page"}, 404)


async def pieces(*, broken: bool = False) -> AsyncIterator[bytes]:
    yield b"data: one\n\n"
    if broken:
        raise Broken
    yield b""
    yield b"data: two\n\n"


def test_requests_on_one_connection_and_what_they_get() -> None:
    async def scenario() -> None:
        async with HttpServer(answer) as server, httpx.AsyncClient(base_url=server.url) as client:
            echo = await client.post("/echo", params={"a": "1"}, json={"words": "ünder"})
            assert echo.json() == {"method": "POST", "query": {"a": ["1"]}, "body": {"words": "ünder"}}
            assert (await client.get("/nowhere")).status_code == 404
            stream = await client.get("/stream")
            assert stream.text == "data: one\n\ndata: two\n\n"
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/half")
            assert [request.path for request in server.requests] == ["/echo", "/nowhere", "/stream", "/half"]
            assert server.requests[0].headers["content-type"] == "application/json"

    asyncio.run(scenario())


def test_what_is_no_http_is_hung_up_on() -> None:
    async def scenario() -> None:
        async with HttpServer(answer) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"hello\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            assert server.requests == []

    asyncio.run(scenario())


def test_it_closes_while_a_client_is_connected() -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient() as client, asyncio.timeout(5), HttpServer(answer) as server:
            await client.get(f"{server.url}/echo")

    asyncio.run(scenario())
