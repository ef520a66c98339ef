"""HTTP tools against a real server: what is asked, what comes back, and where no request ever goes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from sipbridge.simulator.http import Broken, HttpAnswer, HttpRequest, HttpServer
from sipbridge.tenant_file.tool_sources import HttpToolConfig
from sipbridge.tools import MAX_RESULT_BYTES
from sipbridge.tools.addresses import Address, is_public
from sipbridge.tools.http import HttpTool
from tests.call.fakes import settle
from tests.tools.asked import asked, failed

NUMBER = {"properties": {"number": {"type": "string"}, "count": {"type": "integer"}}, "required": ["number"]}


@dataclass
class Shop:
    """Answers with what the test puts in, one after another; the last one again and again."""

    answers: list[HttpAnswer | type[Exception]] = field(default_factory=lambda: [HttpAnswer(body=b'{"state": "sent"}')])
    server: HttpServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = HttpServer(self._answer)

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, HttpAnswer):
            return answer
        raise answer

    @property
    def requests(self) -> list[HttpRequest]:
        return self.server.requests


@asynccontextmanager
async def shop(*answers: HttpAnswer | type[Exception], **config: Any) -> AsyncIterator[tuple[Shop, HttpTool]]:
    there = Shop(list(answers)) if answers else Shop()
    async with there.server:
        path = config.pop("path", "/orders")
        config = {"name": "order", "description": "d", "parameters": NUMBER, "allow_private": True, **config}
        tool = HttpTool(HttpToolConfig(url=f"http://localhost:{there.server.port}{path}", **config))
        try:
            yield there, tool
        finally:
            await tool.close()


# --- what is asked ----------------------------------------------------------------------------------------------------


async def test_arguments_are_posted_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_KEY", "k-123456")
    async with shop(headers={"Authorization": "Bearer ${ORDER_KEY}"}) as (there, tool):
        assert await asked(tool.tool, number="7 ü", count=2) == '{"state": "sent"}'
        (request,) = there.requests
        assert (request.method, request.path) == ("POST", "/orders")
        assert request.json() == {"number": "7 ü", "count": 2}
        assert request.headers["authorization"] == "Bearer k-123456"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["host"] == f"localhost:{there.server.port}"


async def test_what_a_get_asks_for_is_in_its_query_unless_the_path_has_it() -> None:
    async with shop(method="get", path="/orders/{{ arguments.number }}?v=1") as (there, tool):
        await asked(tool.tool, number="7", count=3)
        (request,) = there.requests
        assert (request.method, request.path, request.body) == ("GET", "/orders/7", b"")
        assert request.query == {"v": ["1"], "count": ["3"]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a/b?c=d#e", "/orders/a%2Fb%3Fc%3Dd%23e"),
        ("x y&z=1\r\nX-Evil: 1", "/orders/x%20y%26z%3D1%0D%0AX-Evil%3A%201"),
        ("@evil.example.com", "/orders/%40evil.example.com"),
        ("{{ call.id }}", "/orders/%7B%7B%20call.id%20%7D%7D"),
        ("%2e%2e%2f", "/orders/%252e%252e%252f"),
        ("日本", "/orders/%E6%97%A5%E6%9C%AC"),
    ],
)
async def test_a_value_stays_where_it_was_put(value: str, path: str) -> None:
    async with shop(method="DELETE", path="/orders/{{ arguments.number }}") as (there, tool):
        await asked(tool.tool, number=value)
        assert there.requests[0].path == path


async def test_a_part_of_a_path_does_not_come_out_empty() -> None:
    async with shop(method="DELETE", path="/orders/{{ arguments.number }}") as (there, tool):
        assert "no value for a path" in await failed(tool.tool, number="")
        assert there.requests == []


@pytest.mark.parametrize("value", [".", "..", "../7", "7/../..", "..\\x", "x\\..", "./"])
async def test_a_value_does_not_climb(value: str) -> None:
    async with shop(path="/orders/{{ arguments.number }}/state") as (there, tool):
        assert "no values for a path" in await failed(tool.tool, number=value)
        assert there.requests == []


async def test_the_call_s_fields_and_a_body_of_one_s_own() -> None:
    body = {
        "who": "{{ call.from }}",
        "n": "{{ arguments.count }}",
        "text": "order {{ arguments.number }}",
        "all": [True],
    }
    path = '/{{ call.id }}?m={{ header["x-member"] }}'
    async with shop(path=path, body=body) as (there, tool):
        await asked(tool.tool, number='"}', count=2)
        (request,) = there.requests
        assert (request.path, request.query) == ("/c%201%2F2", {"m": ["é 7"]})
        assert request.json() == {"who": "+15550123", "n": 2, "text": 'order "}', "all": [True]}


async def test_a_value_that_is_missing_is_told() -> None:
    async with shop(path="/{{ arguments.count }}") as (there, tool):
        assert "missing" in await failed(tool.tool, number="7")
        assert there.requests == []


# --- what comes back --------------------------------------------------------------------------------------------------


async def test_a_refusal_is_told_with_its_words_but_without_our_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_KEY", "k-123456")
    refusal = HttpAnswer(404, b"no order; your key k-123456 is fine")
    async with shop(refusal, headers={"X-Key": "${ORDER_KEY}"}) as (_, tool):
        assert await failed(tool.tool, number="7") == "the server answered 404: no order; your key *** is fine"


async def test_a_missing_secret_is_the_operator_s_affair() -> None:
    async with shop(headers={"X-Key": "${NO_SUCH_ORDER_KEY}"}) as (there, tool):
        assert await failed(tool.tool, number="7") == "order is not set up"
        assert there.requests == []


@dataclass
class Flood:
    sent: int = 0

    def __aiter__(self) -> Flood:
        return self

    async def __anext__(self) -> bytes:
        self.sent += 65536
        if self.sent > 10_000_000:
            raise StopAsyncIteration
        return b"x" * 65536


async def test_ten_megabytes_are_read_as_far_as_they_are_of_use() -> None:
    flood = Flood()
    async with shop(HttpAnswer(body=flood)) as (_, tool):
        text = await asked(tool.tool, number="7")
        assert MAX_RESULT_BYTES < len(text) < MAX_RESULT_BYTES + 100
        assert text.endswith("(cut: the result is longer)")
        assert flood.sent < 10_000_000
    await settle()  # the library's generators are closed a turn later


async def test_what_is_no_text_or_packed_is_refused() -> None:
    bomb = HttpAnswer(body=gzip.compress(bytes(10_000_000)), headers={"content-encoding": "gzip"})
    image = HttpAnswer(body=b"\x89PNG\0\0", headers={"content-type": "image/png"})
    noise = HttpAnswer(body=bytes(range(1, 256)), headers={"content-type": "audio/basic"})
    async with shop(bomb, image, noise, HttpAnswer(204)) as (there, tool):
        assert "compressed" in await failed(tool.tool, number="7")
        assert await failed(tool.tool, number="7") == "the answer is no text but image/png"
        assert "audio/basic" in await failed(tool.tool, number="7")
        assert await asked(tool.tool, number="7") == "done"
        assert there.requests[0].headers["accept-encoding"] == "identity"


async def test_one_caller_s_cookie_is_not_shown_for_another() -> None:
    async with shop(HttpAnswer(body=b"ok", headers={"set-cookie": "session=1"})) as (there, tool):
        await asked(tool.tool, number="7")
        await asked(tool.tool, number="8")
        assert "cookie" not in there.requests[1].headers


# --- when it does not go well -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "retries", "requests"), [("GET", None, 3), ("POST", None, 1), ("POST", 1, 2), ("PUT", 0, 1)]
)
async def test_only_what_may_be_repeated_is(method: str, retries: int | None, requests: int) -> None:
    async with shop(HttpAnswer(503), method=method, retries=retries) as (there, tool):
        assert await failed(tool.tool, number="7") == "the server answered 503"
        assert len(there.requests) == requests


async def test_a_second_try_may_succeed() -> None:
    async with shop(Broken, HttpAnswer(body=b"sent"), method="GET") as (_, tool):
        assert await asked(tool.tool, number="7") == "sent"


async def test_a_refusal_is_not_repeated() -> None:
    async with shop(HttpAnswer(400), method="GET") as (there, tool):
        await failed(tool.tool, number="7")
        assert len(there.requests) == 1


async def test_nobody_is_there() -> None:
    async with shop() as (there, tool):
        pass
    again = HttpTool(tool._config)
    assert await failed(again.tool, number="7") == "the server cannot be reached"
    await again.close()


async def test_a_server_that_says_nothing() -> None:
    never = asyncio.Event()

    async def silence() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async with shop(HttpAnswer(body=silence()), timeout_seconds=0.1) as (_, tool):
        assert "did not finish within 0.1 seconds" in await failed(tool.tool, "timeout", number="7")


# --- where no request goes --------------------------------------------------------------------------------------------


async def test_private_addresses_are_refused() -> None:
    async with shop(allow_private=False) as (there, tool):
        assert "not a public one" in await failed(tool.tool, number="7")
        assert there.requests == []


async def test_the_address_that_was_checked_is_the_one_that_is_asked() -> None:
    """Another lookup, a moment later, may say something else (DNS rebinding); there is none."""
    asked_for = []

    async def resolve(host: str, port: int) -> tuple[Address, ...]:
        asked_for.append(host)
        return (ip_address("127.0.0.1"),)

    there = Shop()
    async with there.server:
        url = f"http://shop.example.com:{there.server.port}/orders"
        config = HttpToolConfig(name="order", description="d", parameters=NUMBER, url=url, allow_private=True)
        tool = HttpTool(config, resolve=resolve)
        await asked(tool.tool, number="7")
        await tool.close()
        assert there.requests[0].headers["host"] == f"shop.example.com:{there.server.port}"
    assert asked_for == ["shop.example.com"]


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def resolve(host: str, port: int) -> tuple[Address, ...]:
        return ip_address("192.0.2.1"), ip_address("::1")

    config = HttpToolConfig(name="order", description="d", parameters=NUMBER, url="http://shop.example.com/")
    assert "not a public one" in await failed(HttpTool(config, resolve=resolve).tool, number="7")


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2:1/", "//evil.example.com/", "ftp://localhost/", "http://localhost/"]
)
async def test_redirects_elsewhere_are_not_followed(location: str) -> None:
    async with shop(HttpAnswer(302, headers={"location": location})) as (there, tool):
        assert "redirects to another" in await failed(tool.tool, number="7")
        assert len(there.requests) == 1


async def test_redirects_within_the_server_are_followed_but_not_without_end() -> None:
    moved = HttpAnswer(307, headers={"location": "/new?a=1"})
    async with shop(moved, HttpAnswer(body=b"ok")) as (there, tool):
        assert await asked(tool.tool, number="7") == "ok"
        assert [(request.method, request.path) for request in there.requests] == [("POST", "/orders"), ("POST", "/new")]
        assert there.requests[1].json() == {"number": "7"}
    async with shop(HttpAnswer(303, headers={"location": "/new"}), HttpAnswer(body=b"ok")) as (there, tool):
        await asked(tool.tool, number="7")
        assert (there.requests[1].method, there.requests[1].body) == ("GET", b"")
    async with shop(moved) as (there, tool):
        assert "without end" in await failed(tool.tool, number="7")
        assert len(there.requests) == 4


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "240.0.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "2001:db8::1", "2001:0:0:1::1",
        "fec0::1", "3fff::1", "64:ff9b:1::7f00:1", "::127.0.0.1", "5f00::1", "::ffff:0:127.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(ip_address(address))


async def test_an_odd_charset_is_read_as_utf_8() -> None:
    """Some that Python knows take a second for what is read of an answer (punycode)."""
    odd = HttpAnswer(body="é-b".encode(), headers={"content-type": "text/plain; charset=punycode"})
    western = HttpAnswer(body=b"\xe9", headers={"content-type": "text/plain; charset=ISO-8859-1"})
    async with shop(odd, western) as (_, tool):
        assert await asked(tool.tool, number="7") == "é-b"
        assert await asked(tool.tool, number="7") == "é"
