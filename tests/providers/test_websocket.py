"""The WebSocket to a model, over a real connection: messages of any shape, pings, limits, ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from weakref import ref

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from sipbridge.providers import Outgoing, WebSocketEndpoint, websocket
from sipbridge.providers.websocket import MAX_MESSAGE, WebSocketChannel, whole_message

_log = logging.getLogger("tests.websocket")
Serve = Callable[[ServerConnection], Awaitable[None]]


def on_a_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    return run


class Ear:
    """What a channel delivers."""

    def __init__(self, channel: WebSocketChannel) -> None:
        self.messages: list[str | bytes] = []
        self._came = asyncio.Event()
        self.closed = asyncio.ensure_future(channel.receive(self._deliver))

    def _deliver(self, message: str | bytes) -> None:
        self.messages.append(message)
        self._came.set()

    async def until(self, count: int) -> None:
        while len(self.messages) < count:
            self._came.clear()
            await self._came.wait()


@asynccontextmanager
async def connected(
    handler: Serve,
    *,
    text: bool = True,
    ping_interval: float | None = None,
    pong_seconds: float = 20.0,
    **options: object,
) -> AsyncIterator[WebSocketChannel]:
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        endpoint = WebSocketEndpoint(
            f"ws://127.0.0.1:{port}/", text=text, ping_interval=ping_interval, pong_seconds=pong_seconds
        )
        channel = await WebSocketChannel.open(endpoint, _log)
        try:
            yield channel
        finally:
            channel.abort()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_frame_is_what_the_library_would_send(size: int, opcode: Opcode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda count: b"\x01\x80\xfe\x7f")
    data = os.urandom(size)
    expected = Frame(opcode, data).serialize(mask=True)
    assert len(whole_message(opcode, data, b"\x01\x80\xfe\x7f")) == len(expected)
    head = len(expected) - size - 4
    assert whole_message(opcode, data, expected[head : head + 4]) == expected


def test_masks_are_never_used_twice() -> None:
    masks = websocket._Masks()
    drawn = [masks.next() for _ in range(5000)]
    assert {len(mask) for mask in drawn} == {4}
    assert len(set(drawn)) > 4980


@on_a_loop
async def test_messages_of_all_sizes_come_back_in_order() -> None:
    async with connected(echo) as channel:
        ear = Ear(channel)
        sent = [b"x" * size for size in (0, 1, 125, 126, 65535, 65536, 1_000_000)]
        for data in sent:
            channel.send(Outgoing("", data))
        channel.send(Outgoing("", "t\u00fcr"))
        await ear.until(8)
        assert ear.messages == [*sent, "t\u00fcr".encode()]
        await channel.close()
        assert await ear.closed == (1000, "")


@on_a_loop
async def test_text_and_binary_where_both_are_spoken() -> None:
    async with connected(echo, text=False) as channel:
        ear = Ear(channel)
        channel.send(Outgoing("", "words"))
        channel.send(Outgoing("", b"\xff\x00"))
        await ear.until(2)
        assert ear.messages == ["words", b"\xff\x00"]


@on_a_loop
async def test_what_comes_before_anybody_listens_is_not_lost() -> None:
    async def greet(connection: ServerConnection) -> None:
        await connection.send("one")
        await connection.send("two")
        await connection.wait_closed()

    async with connected(greet) as channel:
        channel.send(Outgoing("", b"x"))
        for _ in range(20):
            await asyncio.sleep(0)
        ear = Ear(channel)
        await ear.until(2)
        assert ear.messages == [b"one", b"two"]


@on_a_loop
async def test_a_message_in_fragments_with_a_ping_between_them() -> None:
    async def fragments(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            yield "one "
            await (await connection.ping())
            yield "two "
            yield "three"

        await connection.send(parts())
        await connection.send("four")
        await connection.wait_closed()

    async with connected(fragments) as channel:
        ear = Ear(channel)
        await ear.until(2)
        assert ear.messages == [b"one two three", b"four"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x81\x7f" + struct.pack("!Q", MAX_MESSAGE + 1), 1009),
        (b"\x01\x01a" + b"\x80\x7f" + struct.pack("!Q", MAX_MESSAGE), 1009),  # in two pieces
        (b"\x80\x01a", 1002),  # the rest of what never began
        (b"\xf1\x01a", 1002),
        (b"\x83\x01a", 1002),
        (b"\x81\x81\x00\x00\x00\x00a", 1002),  # a server does not mask
        (b"\x88\x01a", 1002),  # half a code
        (b"\x88\x02\x00\x05", 1002),  # a code that there is not
        (b"\x88\x03\x03\xe8\xff", 1007),
    ],
)
def test_what_is_against_the_protocol_ends_the_connection(raw: bytes, code: int) -> None:
    """It is told as a broken connection: that code would be the server's, if it were we who did wrong."""

    @on_a_loop
    async def scenario() -> None:
        async def rude(connection: ServerConnection) -> None:
            connection.transport.write(raw)
            await connection.wait_closed()

        async with connected(rude, text=False) as channel:
            ear = Ear(channel)
            told, reason = await ear.closed
            assert (told, reason.split()[3]) == (1006, str(code))
            assert ear.messages == []
            channel.send(Outgoing("", b"into the void"))

    scenario()


@on_a_loop
async def test_fragments_without_end_take_no_memory() -> None:
    async def rude(connection: ServerConnection) -> None:
        connection.transport.write(b"\x01\x00" + b"\x00\x00" * 100_000)
        await (await connection.ping())
        read.set()
        await connection.wait_closed()

    read = asyncio.Event()
    async with connected(rude) as channel:
        ear = Ear(channel)
        await read.wait()
        assert sys.getsizeof(channel._parts) < 1000
    assert await ear.closed == (1006, "connection lost")


@on_a_loop
async def test_what_comes_before_anybody_listens_waits_at_the_servers() -> None:
    done = asyncio.Event()

    async def talkative(connection: ServerConnection) -> None:
        for _ in range(64):
            await connection.send(b"x" * 1_000_000)
        done.set()
        await connection.wait_closed()

    async with connected(talkative) as channel:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.5)
        assert sum(len(frame.data) for frame in channel._early) < 100_000
        ear = Ear(channel)
        await ear.until(64)


@on_a_loop
async def test_pings_of_a_server_that_reads_nothing_are_not_answered() -> None:
    async def rude(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        for _ in range(20):
            connection.transport.write((b"\x89\x7d" + b"p" * 125) * 1000)
            await asyncio.sleep(0)
        connection.transport.write(b"\x81\x01a")
        await over.wait()
        connection.transport.abort()

    over = asyncio.Event()
    async with connected(rude) as channel:
        ear = Ear(channel)
        await ear.until(1)
        over.set()
        assert channel._transport is not None
        assert channel._transport.get_write_buffer_size() < 100_000


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such thing")
def test_a_server_that_is_gone_without_a_word_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it takes nothing, which is the same to TCP; no pongs are asked for."""
    monkeypatch.setattr(websocket, "_NO_ACKNOWLEDGEMENT_S", 0.5)

    @on_a_loop
    async def scenario() -> None:
        async def deaf(connection: ServerConnection) -> None:
            connection.transport.pause_reading()
            await over.wait()
            connection.transport.abort()

        over = asyncio.Event()
        async with connected(deaf) as channel:
            ear = Ear(channel)
            for _ in range(100):
                channel.send(Outgoing("", b"x" * 100_000))
            assert (await ear.closed)[0] == 1006
            over.set()

    scenario()


@on_a_loop
async def test_the_servers_code_and_reason_are_told() -> None:
    async def bye(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(4001, "session expired")

    async with connected(bye) as channel:
        ear = Ear(channel)
        assert await ear.closed == (4001, "session expired")
        assert ear.messages == [b"last words"]


@on_a_loop
async def test_a_cut_connection_is_1006() -> None:
    async def cut(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with connected(cut) as channel:
        code, _ = await Ear(channel).closed
        assert code == 1006


@on_a_loop
async def test_pings_are_answered_and_sent() -> None:
    answered = asyncio.Event()
    pinged = asyncio.Event()

    class Observed(ServerConnection):
        def data_received(self, data: bytes) -> None:
            if data[:1] == b"\x89":
                pinged.set()
            super().data_received(data)

    async def ask(connection: ServerConnection) -> None:
        await (await connection.ping())
        answered.set()
        await connection.wait_closed()

    async with connected(ask, ping_interval=0.01, create_connection=Observed) as channel:
        ear = Ear(channel)
        await answered.wait()
        for _ in range(3):  # again and again, as long as they are answered
            pinged.clear()
            await pinged.wait()
        assert not ear.closed.done()


def test_a_server_that_answers_no_ping_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.05)

    @on_a_loop
    async def scenario() -> None:
        class Deaf(ServerConnection):
            def data_received(self, data: bytes) -> None:
                if self.request is None:
                    super().data_received(data)

        async def wait(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with connected(wait, ping_interval=0.01, pong_seconds=0.05, create_connection=Deaf) as channel:
            assert await Ear(channel).closed == (1011, "keepalive ping timeout")

    scenario()


def test_a_server_that_is_slow_to_answer_pings_but_talks_is_alive() -> None:
    @on_a_loop
    async def scenario() -> None:
        held: list[bytes] = []
        pinged = [asyncio.Event(), asyncio.Event()]

        class Slow(ServerConnection):
            def data_received(self, data: bytes) -> None:
                if self.request is not None and data[:1] == b"\x89":
                    pinged.pop(0).set()
                    held.append(data)
                else:
                    super().data_received(data)

            def answer(self) -> None:
                super().data_received(held[0])

        again = pinged[1]

        async def talk(connection: ServerConnection) -> None:
            assert isinstance(connection, Slow)
            for _ in range(30):  # three times as long as a ping may stay unanswered in silence
                await connection.send("x")
                await asyncio.sleep(0.01)
            connection.answer()
            await connection.wait_closed()

        async with connected(talk, ping_interval=0.01, pong_seconds=0.1, create_connection=Slow) as channel:
            ear = Ear(channel)
            await ear.until(30)
            assert not ear.closed.done()
            await again.wait()
            await channel.close()
            assert (await ear.closed)[0] == 1000

    scenario()


@on_a_loop
async def test_half_a_character_costs_itself_only() -> None:
    async def split(connection: ServerConnection) -> None:
        connection.transport.write(b"\x81\x03a\xc3b" + b"\x01\x02t\xc3" + b"\x80\x02\xbcr")
        await connection.wait_closed()

    async with connected(split, text=False) as channel:
        ear = Ear(channel)
        await ear.until(2)
        assert ear.messages == ["a\ufffdb", "t\u00fcr"], "also where it is cut between two frames"


@on_a_loop
async def test_a_message_of_16_mib_survives() -> None:
    async def huge(connection: ServerConnection) -> None:
        await connection.send(b"x" * MAX_MESSAGE)
        await connection.wait_closed()

    async with connected(huge) as channel:
        ear = Ear(channel)
        await ear.until(1)
        assert len(ear.messages[0]) == MAX_MESSAGE


@on_a_loop
async def test_compression_is_not_asked_for() -> None:
    asked: list[str | None] = []

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request.headers.get("Sec-WebSocket-Extensions"))
        await connection.wait_closed()

    async with connected(look) as channel:
        channel.send(Outgoing("", b"x"))
        await channel.close()
    assert asked == [None]


@on_a_loop
async def test_over_tls_with_one_context_for_all() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with authority.cert_pem.tempfile() as trusted:
        os.environ["SSL_CERT_FILE"] = str(Path(trusted))
        try:
            async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
                url = f"wss://localhost:{server.sockets[0].getsockname()[1]}/"
                channels = [await WebSocketChannel.open(WebSocketEndpoint(url, text=True), _log) for _ in range(3)]
                for channel in channels:
                    ear = Ear(channel)
                    for n in range(50):
                        channel.send(Outgoing("", b"%d" % n * 5000))
                    await ear.until(50)
                    assert ear.messages == [b"%d" % n * 5000 for n in range(50)]
                    await channel.close()
                    assert await ear.closed == (1000, "")
                assert websocket._tls_context.cache_info().currsize <= 4
        finally:
            del os.environ["SSL_CERT_FILE"]


def test_nothing_of_it_waits_for_the_garbage_collector() -> None:
    async def scenario() -> None:
        async with connected(echo, ping_interval=20) as channel:
            ear = Ear(channel)
            channel.send(Outgoing("", b"x"))
            await ear.until(1)
            await channel.close()
            await ear.closed
            gone = ref(channel)
            protocol = ref(channel._protocol)
        del ear, channel
        for _ in range(5):
            await asyncio.sleep(0)
        assert gone() is None
        assert protocol() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()
