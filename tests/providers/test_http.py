"""The channel that asks over HTTP, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sipbridge.errors import AgentStartError
from sipbridge.providers import HttpEnd, HttpEndpoint, Outgoing
from sipbridge.providers.channels import open_channel
from sipbridge.providers.http import EventStream
from sipbridge.simulator.http import Broken, HttpAnswer, HttpRequest, HttpServer

KEY = "Bearer sk-test-0123456789"


EVENTS, SOUND = {"content-type": "text/event-stream; charset=utf-8"}, {"content-type": "audio/pcm"}


async def pieces(*data: bytes | float | Exception) -> AsyncIterator[bytes]:
    """Octets, pauses, and a break."""
    for piece in data:
        if isinstance(piece, Exception):
            raise piece
        if isinstance(piece, bytes):
            yield piece
        else:
            await asyncio.sleep(piece)


class Client:
    """Keeps what a channel delivers."""

    def __init__(self) -> None:
        self.got: list[str | bytes] = []
        self._news = asyncio.Event()

    def __call__(self, message: str | bytes) -> None:
        self.got.append(message)
        self._news.set()

    @property
    def ends(self) -> list[HttpEnd]:
        return [end for end in map(HttpEnd.parse, self.got) if end is not None]

    async def until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._news.clear()
            await self._news.wait()


async def converse(
    handler: Callable[[HttpRequest], Awaitable[HttpAnswer]],
    scenario: Callable[[Callable[[str | bytes], None], Client], Awaitable[None]],
    *,
    patience: float = 5.0,
) -> Client:
    async with asyncio.timeout(10), HttpServer(handler) as server:
        channel = await open_channel(HttpEndpoint(server.url + "/ask", {"Authorization": KEY}, timeout=patience))
        client = Client()
        reading = asyncio.create_task(channel.receive(client))
        await scenario(lambda data: channel.send(Outgoing("x", data)), client)
        started = asyncio.get_running_loop().time()
        await channel.close()
        assert await reading == (1000, "closed")
        assert asyncio.get_running_loop().time() - started < 1
        return client


def test_one_request_after_another_each_with_its_end() -> None:
    async def handler(request: HttpRequest) -> HttpAnswer:
        assert request.headers["authorization"] == KEY
        assert request.headers["content-type"] == "application/json"
        number = json.loads(request.body)["number"]
        if number == 1:
            head, tail = "ta: größer".encode()[:9], "ta: größer".encode()[9:]
            rest = tail + b"\r\n\r\n: nothing\n\ndata: [DONE]"
            return HttpAnswer(200, pieces(b'data: {"a":1}\n\nda', head, rest), EVENTS)
        return HttpAnswer(200, b"\x01\x02\x03", SOUND)

    async def scenario(send: Callable[[str | bytes], None], client: Client) -> None:
        send('{"number":1}')
        send(b'{"number":2}')
        await client.until(lambda: len(client.ends) == 2)

    client = asyncio.run(converse(handler, scenario))
    assert client.got == ['data:{"a":1}', "data:größer", "data:[DONE]", "end: ", b"\x01\x02\x03", "end: "]
    assert client.ends == [HttpEnd(""), HttpEnd("")]


def test_a_cancel_ends_what_was_asked_and_nothing_that_comes_later() -> None:
    asked: list[int] = []

    async def handler(request: HttpRequest) -> HttpAnswer:
        number = json.loads(request.body)["number"]
        asked.append(number)
        said = f"data: {number}\n\n".encode()
        return HttpAnswer(200, pieces(said, 30.0 if number == 1 else 0.0), EVENTS)

    async def scenario(send: Callable[[str | bytes], None], client: Client) -> None:
        send('{"number":1}')
        send('{"number":2}')
        await client.until(lambda: "data:1" in client.got)
        send(b"")
        send(b"")
        send('{"number":3}')
        await client.until(lambda: len(client.ends) == 3)

    client = asyncio.run(converse(handler, scenario))
    assert [end.code for end in client.ends] == ["cancelled", "cancelled", ""]
    assert client.got[-2:] == ["data:3", "end: "]
    assert asked == [1, 3]


@pytest.mark.parametrize(("status", "again"), [(401, False), (404, False), (429, True), (503, True)])
def test_a_refusal_says_why_and_not_the_key(status: int, again: bool) -> None:
    async def handler(request: HttpRequest) -> HttpAnswer:
        words = f"Incorrect API key provided: {request.headers['authorization']}"
        return HttpAnswer.of({"error": {"message": words}}, status)

    async def scenario(send: Callable[[str | bytes], None], client: Client) -> None:
        send("{}")
        await client.until(lambda: bool(client.ends))

    (end,) = asyncio.run(converse(handler, scenario)).ends
    assert end.code == str(status)
    assert end.again is again
    assert "Incorrect API key" in end.message
    assert "sk-test" not in end.message


def test_a_connection_that_breaks_a_silent_server_and_an_endless_answer_all_end() -> None:
    async def handler(request: HttpRequest) -> HttpAnswer:
        number = json.loads(request.body)["number"]
        if number == 0:
            return HttpAnswer(200, pieces(b"\x01\x02", Broken()), SOUND)
        if number == 1:
            return HttpAnswer(200, pieces(30.0), SOUND)
        return HttpAnswer(200, pieces(*[b"x" * 65536] * 100), EVENTS)

    async def scenario(send: Callable[[str | bytes], None], client: Client) -> None:
        for number in range(3):
            send(json.dumps({"number": number}))
            await client.until(lambda: len(client.ends) == number + 1)  # noqa: B023

    client = asyncio.run(converse(handler, scenario, patience=0.2))
    assert [end.code for end in client.ends] == ["closed", "timeout", "answer"]
    assert all(end.again for end in client.ends)


def test_closing_does_not_wait_for_a_server() -> None:
    async def handler(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(200, pieces(30.0), SOUND)

    async def scenario(send: Callable[[str | bytes], None], client: Client) -> None:
        send("{}")
        await asyncio.sleep(0)

    assert asyncio.run(converse(handler, scenario)).got == []


async def never(request: HttpRequest) -> HttpAnswer:
    raise AssertionError("nothing is asked")


def test_nobody_there_is_known_before_the_first_request() -> None:
    async def scenario() -> None:
        async with HttpServer(never) as server:
            url = server.url
        with pytest.raises(AgentStartError) as error:
            await open_channel(HttpEndpoint(url + "/ask"))
        assert error.value.code == "refused"

    asyncio.run(scenario())


def test_an_event_stream_cut_anywhere_is_the_same() -> None:
    whole = b"event: x\ndata: 1\n\n\ndata: a\ndata: b\r\n\r\nid: 7\n\ndata:c"
    for cut in range(len(whole)):
        stream = EventStream()
        events = stream.feed(whole[:cut]) + stream.feed(whole[cut:]) + stream.finish()
        assert events == ["1", "a\nb", "c"]


def test_who_asks_over_http_loads_what_it_takes_with_the_configuration() -> None:
    """It takes 130 ms, which the first call would cost all others."""
    code = (
        "import sys; from sipbridge.providers import capabilities_of, lookup;"
        "lookup('openai'); assert 'httpx' not in sys.modules;"
        "part = {'provider': 'openai', 'api_key': 'k', 'model': 'm'};"
        "capabilities_of('cascade', {'stt': {'provider': 'deepgram', 'api_key': 'k'}, 'llm': part, 'tts': part});"
        "assert 'httpx' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
