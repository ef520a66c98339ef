"""SIP over WebSocket, against the `websockets` library's own client as the browser (RFC 7118)."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from sipbridge.sip.connection import StreamLimits
from sipbridge.sip.events import Acknowledged, CallEnded, EndCause, InviteReceived
from sipbridge.sip.message import Request, Response, parse_message
from sipbridge.sip.tls import TlsSettings
from tests.loopback.endpoints import Endpoint, endpoint, over_tcp, raw_udp, run
from tests.sip.certificates import Authority
from tests.sip.wire import ANSWER, request

WS = ("ws://127.0.0.1:0", "udp://127.0.0.1:0")
VIA = "SIP/2.0/WS df7jal23ls0d.invalid;branch={}"
CONTACT = "<sip:alice@df7jal23ls0d.invalid;transport=ws>"


async def browser(
    stack: AsyncExitStack,
    target: Endpoint,
    *,
    subprotocol: str = "sip",
    tls: TlsSettings | None = None,
    max_size: int = 1 << 20,
) -> ClientConnection:
    scheme = "ws" if tls is None else "wss"
    host, port = target.transport.address("ws" if tls is None else "wss")
    context = None if tls is None else ssl.create_default_context(cafile=str(tls.ca))
    connection = await connect(
        f"{scheme}://{host}:{port}/",
        subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
        ssl=context,
        proxy=None,
        max_size=max_size,
        origin=None,
    )
    stack.push_async_callback(connection.close)
    return connection


async def heard(connection: ClientConnection) -> Request | Response:
    message = await asyncio.wait_for(connection.recv(), 5)
    return parse_message(message if isinstance(message, bytes) else message.encode())


def invite() -> bytes:
    return request(via=VIA.format("z9hG4bKws1"), contact=CONTACT)


@pytest.mark.parametrize("transport", ["ws", "wss"])
def test_a_call_whose_bye_comes_back_by_the_same_connection(tmp_path: Path, transport: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        ours = await endpoint(stack, [f"{transport}://127.0.0.1:0"], tls=issued)
        phone = await browser(stack, ours, tls=issued if transport == "wss" else None)
        await phone.send(invite().decode())
        invited = await ours.expect(InviteReceived)
        assert invited.flow.transport == transport
        assert str((await heard(phone)).headers.get("CSeq")) == "1 INVITE"
        invited.call.answer(ANSWER, ours.now())
        ok = await heard(phone)
        assert isinstance(ok, Response)
        assert ok.body == ANSWER
        assert ok.contact is not None
        assert (ok.contact.uri.scheme, ok.contact.uri.params["transport"]) == ("sip", "ws")
        to = ok.headers.get("To") or ""
        await phone.send(request("ACK", via=VIA.format("z9hG4bKws2"), to=to))
        await ours.expect(Acknowledged)
        invited.call.hang_up(ours.now())
        bye = await heard(phone)
        assert isinstance(bye, Request)
        assert (bye.method, bye.via.transport) == ("BYE", transport.upper())
        assert bye.request_uri.host == "df7jal23ls0d.invalid"
        assert (await ours.expect(CallEnded)).cause is EndCause.LOCAL_BYE

    run(scenario)


def test_text_and_binary_are_the_same_and_pings_are_answered() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        phone = await browser(stack, await endpoint(stack, WS))
        message = request("OPTIONS", via=VIA.format("z9hG4bKws1"))
        for data in (message, message.decode()):
            await phone.send(data)
            answer = await heard(phone)
            assert isinstance(answer, Response)
            assert answer.status == 200
        await phone.send("\r\n\r\n")
        assert await asyncio.wait_for(phone.recv(), 5) == "\r\n"
        await asyncio.wait_for(await phone.ping(), 5)

    run(scenario)


@pytest.mark.parametrize("subprotocol", ["", "chat"])
def test_who_does_not_speak_sip_is_refused(subprotocol: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, WS)
        with pytest.raises(InvalidHandshake, match="400"):
            await browser(stack, ours, subprotocol=subprotocol)
        assert ours.user_agent.counters["stream_broken"] == 1

    run(scenario)


def test_messages_that_are_too_long_close_the_connection() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, WS, limits=StreamLimits(max_headers=2000, max_body=2000))
        phone = await browser(stack, ours)
        await phone.send("X" * 5000)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(phone.recv(), 5)
        assert phone.close_code == 1009
        assert ours.user_agent.counters["stream_broken"] == 1

    run(scenario)


def test_garbage_in_a_message_is_dropped_and_the_connection_stays() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, WS)
        phone = await browser(stack, ours)
        for data in (b"\xff\x00", "hello", over_tcp()[:50], ""):
            await phone.send(data)
        await phone.send(request("OPTIONS", via=VIA.format("z9hG4bKws1")))
        answer = await heard(phone)
        assert isinstance(answer, Response)
        assert answer.status == 200

    run(scenario)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\n"])
def test_a_handshake_that_does_not_go_on_is_not_waited_for(begun: bytes) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, WS, limits=StreamLimits(message_seconds=0.2))
        reader, writer = await asyncio.open_connection(*ours.transport.address("ws"))
        stack.callback(writer.close)
        writer.write(begun)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.user_agent.counters["stream_timed_out"] == 1

    run(scenario)


def test_a_browser_that_vanished_is_not_called_back() -> None:
    """Nobody listens at a browser's address: the call fails at once instead of trying."""

    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, WS)
        phone = await browser(stack, ours)
        await phone.send(invite())
        invited = await ours.expect(InviteReceived)
        invited.call.answer(ANSWER, ours.now())
        while (answer := await heard(phone)).headers.get("Contact") is None:
            pass
        await phone.send(request("ACK", via=VIA.format("z9hG4bKws2"), to=answer.headers.get("To") or ""))
        await ours.expect(Acknowledged)
        phone.transport.abort()
        sock, peer = await raw_udp(stack, ours)
        while ours.transport.connections:  # until our side has seen it go
            sock.sendto(request("OPTIONS"))
            await asyncio.wait_for(peer.received.get(), 5)
        invited.call.hang_up(ours.now())
        assert (await ours.expect(CallEnded)).cause is EndCause.LOCAL_BYE
        assert ours.user_agent.calls == 0

    run(scenario)
