"""User agents on real sockets on 127.0.0.1, and raw sockets that say what they are told to."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest

from sipbridge.sip.admission import Admission
from sipbridge.sip.connection import StreamLimits
from sipbridge.sip.events import SipEvent
from sipbridge.sip.flow import Transport
from sipbridge.sip.message import Response, parse_message
from sipbridge.sip.tls import TlsSettings
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from tests.sip.wire import request

ALICE = "<sip:alice@example.com>"
LISTEN = ("udp://127.0.0.1:0", "tcp://127.0.0.1:0")
E = TypeVar("E", bound=SipEvent)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


class Endpoint:
    """A user agent on real sockets, with its events for the test to wait for."""

    def __init__(self) -> None:
        self.user_agent = UserAgent(new_token=lambda: secrets.token_hex(8))
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.transport: SipTransport

    async def expect(self, kind: type[E]) -> E:
        event = await asyncio.wait_for(self.events.get(), 5)
        assert isinstance(event, kind), event
        return event

    def now(self) -> float:
        return self.transport.now()

    def uri(self, transport: Transport, host: str | None = None) -> str:
        """`host`: another name for it."""
        address, port = self.transport.address(transport)
        parameter = "" if transport == "udp" else f";transport={transport}"
        return f"sip:agent@{host or address}:{port}{parameter}"


async def endpoint(
    stack: AsyncExitStack,
    listen: Sequence[str] = LISTEN,
    *,
    admission: Admission | None = None,
    limits: StreamLimits | None = None,
    tls: TlsSettings | None = None,
) -> Endpoint:
    made = Endpoint()
    made.transport = await SipTransport.open(
        made.user_agent, listen, on_event=made.events.put_nowait, admission=admission, limits=limits, tls=tls
    )
    stack.push_async_callback(made.transport.close)
    return made


def run(scenario: Callable[[AsyncExitStack], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            await scenario(stack)

    asyncio.run(main())


class RawUdp(asyncio.DatagramProtocol):
    """A UDP socket that says what it is told to."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait((data, addr))


async def raw_udp(
    stack: AsyncExitStack, target: Endpoint, host: str = "127.0.0.1"
) -> tuple[asyncio.DatagramTransport, RawUdp]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        RawUdp, local_addr=(host, 0), remote_addr=target.transport.address("udp")
    )
    stack.callback(transport.close)
    return transport, protocol


async def raw_tcp(stack: AsyncExitStack, target: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*target.transport.address("tcp"))
    stack.callback(writer.close)
    return reader, writer


async def response(reader: asyncio.StreamReader) -> Response:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
    parsed = parse_message(head)
    assert isinstance(parsed, Response)
    assert parsed.headers.get("Content-Length") == "0"
    return parsed


def over_tcp(method: str = "OPTIONS", branch: str = "z9hG4bKtcp") -> bytes:
    return request(method, via=f"SIP/2.0/TCP 192.0.2.9:5060;branch={branch}", branch=branch)
