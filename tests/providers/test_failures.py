"""Connections that come to nothing, for real: each kind has its code, and no key is in any words about it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trustme

from sipbridge.errors import AgentStartError
from sipbridge.providers import WebSocketEndpoint
from sipbridge.providers.channels import open_channel
from sipbridge.providers.failures import Secrets, not_connected, place_of, refused_by_status, secrets_in
from sipbridge.providers.fetch import fetch_json
from sipbridge.providers.websocket import tls_context

KEY = "sk-test/0123456789+abcdef"
Attempt = Callable[[str], Coroutine[None, None, AgentStartError]]


async def by_websocket(where: str) -> AgentStartError:
    endpoint = WebSocketEndpoint(f"ws{where}?key={quote(KEY, safe='')}", {"Authorization": f"Bearer {KEY}"})
    with pytest.raises(AgentStartError) as raised:
        await open_channel(endpoint)
    return raised.value


async def by_request(where: str) -> AgentStartError:
    with pytest.raises(AgentStartError) as raised:
        await fetch_json("POST", f"http{where}", headers={"X-API-Key": KEY}, params={"key": KEY}, form={"secret": KEY})
    return raised.value


BOTH = pytest.mark.parametrize("attempt", [by_websocket, by_request])


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Gives `://host:port/path`; has nothing open any more when it is left."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(OSError, EOFError):
            await handler(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listener:
        yield f"{'s' if tls else ''}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/talk"
        await asyncio.gather(*(task for task in tasks if task))


@asynccontextmanager
async def answering(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Says this to every request, or hangs up."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)

    async with server(handler, tls) as where:
        yield where


def refusal(status: int, body: str) -> bytes:
    return f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@BOTH
def test_a_name_without_an_address(attempt: Attempt) -> None:
    error = asyncio.run(attempt("://no-such-host.invalid/v1"))
    assert (error.code, error.again) == ("dns", True)
    assert "can't be resolved" in str(error)


@BOTH
def test_a_port_where_nobody_listens(attempt: Attempt) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = asyncio.run(attempt(f"://127.0.0.1:{unused.getsockname()[1]}/v1"))
    assert (error.code, error.again) == ("refused", True)


@BOTH
def test_a_certificate_of_somebody_nobody_knows(attempt: Attempt) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def scenario() -> AgentStartError:
        async with answering(b"", context) as where:
            return await attempt(where)

    error = asyncio.run(scenario())
    assert (error.code, error.again) == ("tls", False)
    assert "not trusted" in str(error)


@BOTH
def test_tls_with_a_server_that_knows_none(attempt: Attempt) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def scenario() -> AgentStartError:
        async with server(plain) as where:
            return await attempt(f"s{where}")

    error = asyncio.run(scenario())
    assert (error.code, error.again) == ("tls", False)


@BOTH
def test_a_server_that_hangs_up(attempt: Attempt) -> None:
    async def scenario() -> AgentStartError:
        async with answering(None) as where:
            return await attempt(where)

    error = asyncio.run(scenario())
    assert (error.code, error.again) == ("closed", True)


@BOTH
@pytest.mark.parametrize(
    ("status", "again", "words"),
    [
        (302, False, "refused the connection"),
        (400, False, "is the model right"),
        (401, False, "does not accept the key"),
        (403, False, "denies access"),
        (404, False, "does not know this model"),
        (429, True, "takes no more sessions"),
        (500, True, "is in trouble"),
        (503, True, "is in trouble"),
    ],
)
def test_each_status_has_its_words_and_says_whether_to_try_again(
    attempt: Attempt, status: int, again: bool, words: str
) -> None:
    async def scenario() -> AgentStartError:
        body = f'{{"error": {{"message": "Not so: {KEY}, {quote(KEY, safe="")}", "code": "x"}}}}'
        async with answering(refusal(status, body)) as where:
            return await attempt(where)

    error = asyncio.run(scenario())
    assert (error.code, error.again) == (str(status), again)
    assert words in str(error)
    assert f"HTTP {status} Not so: ***, ***" in str(error)
    assert "/v1/talk" in str(error)
    assert "key=" not in str(error)


def test_what_answers_is_no_http_server() -> None:
    async def scenario() -> AgentStartError:
        async with answering(b"SSH-2.0-OpenSSH_9.6\r\n") as where:
            return await by_websocket(where)

    assert asyncio.run(scenario()).code == "handshake"


def test_a_server_that_never_answers_a_request() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scenario() -> None:
        async with server(mute) as where:
            with pytest.raises(AgentStartError) as raised:
                await fetch_json("GET", f"http{where}", seconds=0.05)
            assert (raised.value.code, raised.value.again) == ("timeout", True)

    asyncio.run(scenario())


def test_the_first_cause_is_what_counts() -> None:
    outer = httpx.ConnectError("all connection attempts failed")
    outer.__cause__ = OSError(113, "No route to host")
    error = not_connected("wss://x", outer)
    assert (error.code, error.again) == ("unreachable", True)
    assert "No route to host" in str(error)
    assert not_connected("wss://x", OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b")).code == "refused"
    assert not_connected("wss://x", ValueError("?")).code == "handshake"


def test_a_place_is_printed_without_what_may_be_a_key() -> None:
    url = f"wss://user:{quote(KEY, safe='')}@model.example.com:8443/v1/a?key={KEY}#x"
    assert place_of(url) == "wss://model.example.com:8443/v1/a"
    endpoint = WebSocketEndpoint(f"wss://x/?key={KEY}", {"X-Key": KEY}, (f"openai-insecure-api-key.{KEY}",))
    assert KEY not in repr(endpoint)


@pytest.mark.parametrize(
    ("secrets", "said", "heard"),
    [
        (Secrets("wss://x/?model=gpt-realtime-9"), "no model gpt-realtime-9", "no model gpt-realtime-9"),
        (Secrets("wss://x/?access_token=abcdef12"), "abcdef12 expired", "*** expired"),
        (Secrets("wss://user:pass-word@x/"), "pass-word?", "***?"),
        (Secrets("", ["Token deepgram-key"]), "deepgram-key", "***"),
        (Secrets("", ["openai-insecure-api-key.sk-12345678"]), "your sk-12345678", "your ***"),
        (Secrets("", ["abcdefgh", "abcdefgh-ijk"]), "abcdefgh-ijk", "***"),
        (Secrets("", ["1"]), "1 error", "1 error"),
    ],
)
def test_what_is_secret(secrets: Secrets, said: str, heard: str) -> None:
    assert refused_by_status("wss://x", 401, said.encode(), secrets).args[0].endswith(f"HTTP 401 {heard}")


def test_the_secrets_of_a_credential() -> None:
    voice = {"provider": "cartesia", "api_key": "voice-key-1"}
    credential = {
        "provider": "openai",
        "api_key": "main-key-1",
        "voice_provider": voice,
        "token": None,
        "model": "m-1234",
    }
    words = secrets_in(credential).redact("voice-key-1 main-key-1 m-1234 cartesia")
    assert words == "*** *** m-1234 cartesia"


def test_no_request_is_logged_with_its_query(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        body = b'{"token": "t"}'
        async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as where:
            assert await fetch_json("GET", f"http{where}", params={"key": KEY}) == {"token": "t"}

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert "key=" not in caplog.text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b'{"error": 7}', b"null", b'{"error": null}', b""])
def test_any_body_can_be_read(body: bytes) -> None:
    error = refused_by_status("wss://x", 500, body, Secrets())
    assert error.code == "500"
    assert len(str(error)) < 400


@pytest.mark.parametrize("status", [200, 403])
def test_an_answer_without_end_is_not_read_to_its_end(status: int) -> None:
    async def scenario() -> None:
        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n\r\n" % status)
            with suppress(ConnectionError):
                while True:
                    writer.write(b" " * 65536)
                    await writer.drain()
            writer.close()
            over.set()

        over = asyncio.Event()
        async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
            where = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            with pytest.raises(AgentStartError) as raised:
                await fetch_json("GET", where)
            assert raised.value.code == ("answer" if status == 200 else "403")
            await over.wait()

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_a_request_over_tls_makes_no_context_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes 30 ms, in which no call is heard."""
    used: list[object] = []
    client = httpx.AsyncClient

    def noting(**options: Any) -> httpx.AsyncClient:
        used.append(options.get("verify"))
        return client(**options)

    monkeypatch.setattr("httpx.AsyncClient", noting)
    with pytest.raises(AgentStartError):
        asyncio.run(fetch_json("GET", "https://127.0.0.1:1/"))
    assert used == [tls_context()]
