"""What peers on connections can take of us: slow ones, silent ones, many, deaf ones, and those who vanish."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Literal

import pytest

from sipbridge.sip.admission import Admission, AdmissionLimits, Budget
from sipbridge.sip.connection import StreamLimits
from sipbridge.sip.events import Authenticated, AuthenticationFailed, CallEnded, InviteReceived, Progress
from sipbridge.sip.flow import Flow
from sipbridge.sip.message import parse_message
from tests.loopback.endpoints import ALICE, Endpoint, endpoint, over_tcp, raw_tcp, raw_udp, response, run
from tests.sip.certificates import Authority
from tests.sip.wire import ANSWER, OFFER, request

UDP_AND_TCP = ("udp://127.0.0.1:0", "tcp://127.0.0.1:0")
Kind = Literal["tcp", "tls", "ws"]


async def still_serves(stack: AsyncExitStack, ours: Endpoint) -> None:
    """A datagram is answered; and whatever the loop had to do before is done."""
    sock, peer = await raw_udp(stack, ours)
    sock.sendto(request("OPTIONS"))
    assert (await asyncio.wait_for(peer.received.get(), 5))[0].startswith(b"SIP/2.0 200 ")


async def emptied(stack: AsyncExitStack, ours: Endpoint) -> None:
    while ours.transport.connections:
        await still_serves(stack, ours)


@pytest.mark.parametrize("kind", ["tcp", "tls", "ws"])
def test_one_octet_after_the_other_does_not_hold_a_connection(tmp_path: Path, kind: Kind) -> None:
    """Each octet comes in time, the message never does."""

    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        limits = StreamLimits(message_seconds=0.4, handshake_seconds=0.4)
        ours = await endpoint(stack, [f"{kind}://127.0.0.1:0"], limits=limits, tls=issued)
        reader, writer = await asyncio.open_connection(*ours.transport.address(kind))
        stack.callback(writer.close)
        begun = {"tcp": over_tcp(), "tls": b"\x16\x03\x01\x02\x00" + bytes(512), "ws": b"GET / HTTP/1.1\r\nHost: a"}

        async def drip() -> None:
            for octet in begun[kind]:
                writer.write(bytes([octet]))
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.02)
                    return

        with suppress(ConnectionError):
            await asyncio.wait_for(drip(), 5)
        counters = ours.user_agent.counters
        assert counters["stream_timed_out"] + counters["tls_handshake_timed_out"] == 1
        assert ours.transport.connections == 0

    run(scenario)


def test_an_invite_and_a_reset() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, UDP_AND_TCP)
        for number in range(20):
            _, writer = await raw_tcp(stack, ours)
            via = f"SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKrst{number}"
            writer.write(request(via=via, call_id=f"rst{number}"))
            invited = await ours.expect(InviteReceived)
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            invited.call.reject(486, now=ours.now())
            await ours.expect(CallEnded)
        await emptied(stack, ours)

    run(scenario)


@pytest.mark.parametrize("kind", ["tcp", "tls", "ws"])
def test_three_hundred_idle_connections_are_few_in_the_end(tmp_path: Path, kind: Kind) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        admission = Admission(["127.0.0.1/32"], limits=AdmissionLimits(connections=40))
        listen = [f"{kind}://127.0.0.1:0", "udp://127.0.0.1:0"]
        ours = await endpoint(stack, listen, tls=issued, admission=admission)
        writers = []
        for _ in range(300):
            with suppress(ConnectionError):
                _, writer = await asyncio.open_connection(*ours.transport.address(kind))
                stack.callback(writer.close)
                writers.append(writer)
        await still_serves(stack, ours)
        assert ours.transport.connections == 40
        assert ours.user_agent.counters["not_admitted_source_connections"] == 260
        for writer in writers:
            writer.transport.abort()
        await emptied(stack, ours)
        reader, writer = await asyncio.open_connection(*ours.transport.address(kind))
        stack.callback(writer.close)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)  # there is room again

    run(scenario)


def test_strangers_who_may_speak_cannot_take_all_connections() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        limits = AdmissionLimits(stranger_connections=3, connection_cost=1)
        admission = Admission(["127.0.0.1/32"], strangers=True, limits=limits)
        ours = await endpoint(stack, UDP_AND_TCP, admission=admission)
        for _ in range(10):
            with suppress(ConnectionError):
                _, writer = await asyncio.open_connection(*ours.transport.address("tcp"), local_addr=("127.0.0.9", 0))
                stack.callback(writer.close)
        reader, writer = await raw_tcp(stack, ours)
        writer.write(over_tcp())
        assert (await response(reader)).status == 200
        assert ours.transport.connections == 4
        assert ours.user_agent.counters["not_admitted_source_connections"] == 7

    run(scenario)


def test_a_stranger_on_a_connection_is_gone_at_once_where_strangers_get_silence() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, UDP_AND_TCP, admission=Admission(["127.0.0.1/32"]))
        reader, writer = await asyncio.open_connection(*ours.transport.address("tcp"), local_addr=("127.0.0.9", 0))
        stack.callback(writer.close)
        writer.write(over_tcp())
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.user_agent.counters["not_admitted_unknown_source"] == 1

    run(scenario)


def test_over_the_budget_a_connection_is_read_more_slowly_and_loses_nothing() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        admission = Admission(["127.0.0.1/32"], limits=AdmissionLimits(listed=Budget(100, 10)))
        ours = await endpoint(stack, ["tcp://127.0.0.1:0"], admission=admission)
        reader, writer = await raw_tcp(stack, ours)
        begun = ours.now()
        for number in range(60):
            writer.write(over_tcp(branch=f"z9hG4bK{number}"))
            await writer.drain()
        branches = [(await response(reader)).via.branch for _ in range(60)]
        assert branches == [f"z9hG4bK{number}" for number in range(60)]
        writer.write(over_tcp())
        await response(reader)
        assert ours.now() - begun > 0.4
        assert ours.user_agent.counters["stream_held_back"] > 0

    run(scenario)


def test_pings_cost_of_the_budget_as_well_and_each_is_answered() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        admission = Admission(["127.0.0.1/32"], limits=AdmissionLimits(listed=Budget(1000, 10)))
        ours = await endpoint(stack, ["tcp://127.0.0.1:0"], admission=admission)
        reader, writer = await raw_tcp(stack, ours)
        writer.write(b"\r\n\r\n" * 20_000)
        assert await asyncio.wait_for(reader.readexactly(40_000), 5) == b"\r\n" * 20_000
        assert ours.user_agent.counters["stream_held_back"] > 0

    run(scenario)


def test_who_is_blocked_loses_its_connection_with_its_next_message() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        admission = Admission(["127.0.0.1/32"])
        ours = await endpoint(stack, ["tcp://127.0.0.1:0"], admission=admission)
        reader, writer = await raw_tcp(stack, ours)
        writer.write(over_tcp())
        assert (await response(reader)).status == 200
        for _ in range(5):
            admission.failed("127.0.0.1", ours.now())
        writer.write(over_tcp(branch="z9hG4bKmore"))
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.user_agent.counters["not_admitted_blocked"] == 1

    run(scenario)


@pytest.mark.parametrize("event", [AuthenticationFailed, Authenticated])
def test_what_a_source_has_proven_is_known_to_the_admission(
    event: type[AuthenticationFailed] | type[Authenticated],
) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        admission = Admission(["127.0.0.1/32"], strangers=True)
        ours = await endpoint(stack, UDP_AND_TCP, admission=admission)
        flow = Flow("udp", ours.transport.address("udp"), ("127.0.0.9", 5060))
        for _ in range(5):
            ours.user_agent._core.emit(event(flow, "alice"))
        ours.transport.flush()
        assert admission.blocked("127.0.0.9", ours.now()) is (event is AuthenticationFailed)
        await ours.expect(event)
        sock, peer = await raw_udp(stack, ours, "127.0.0.9")
        for number in range(50):
            sock.sendto(request("OPTIONS", branch=f"z9hG4bK{number}"))
        if event is Authenticated:
            for _ in range(50):
                await asyncio.wait_for(peer.received.get(), 5)
        else:
            await still_serves(stack, ours)
            assert peer.received.empty()

    run(scenario)


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, UDP_AND_TCP)
        loop = asyncio.get_running_loop()
        deaf = socket.socket()
        stack.callback(deaf.close)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ours.transport.address("tcp"))
        junk = "X-Junk: " + "x" * 8000 + "\r\n"
        message = over_tcp().replace(b"Max-Forwards", junk.encode() + b"Max-Forwards", 1)
        message = message.replace(
            b"Via: ", b"Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKx;x=" + b"y" * 8000 + b"\r\nVia: "
        )
        with suppress(ConnectionError):
            while not ours.user_agent.counters["tcp_peer_does_not_read"]:
                await asyncio.wait_for(loop.sock_sendall(deaf, message), 5)
        await emptied(stack, ours)

    run(scenario)


@pytest.mark.parametrize("needed", [True, False])
def test_an_idle_connection_stays_while_a_call_lives_by_it(needed: bool) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, UDP_AND_TCP, limits=StreamLimits(idle_seconds=0.3))
        reader, writer = await raw_tcp(stack, ours)
        if needed:
            writer.write(request(via="SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKidle"))
            invited = await ours.expect(InviteReceived)
            assert (await response(reader)).status == 100
            invited.call.ring(ours.now())
            assert (await response(reader)).status == 180
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 1.0)
            invited.call.reject(486, now=ours.now())
            assert (await response(reader)).status == 486
        else:
            writer.write(over_tcp())
            assert (await response(reader)).status == 200
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        assert ours.user_agent.counters["stream_timed_out"] == 1

    run(scenario)


# --- pings of ours ----------------------------------------------------------------------------------------------------


class Server:
    """Somebody whom we connect to: it answers the INVITE with 180, and pings as it is told to."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.pings = 0
        self.pinged = asyncio.Event()
        self.connections = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            invite = parse_message(head + await reader.readexactly(len(OFFER)))
            writer.write(invite.response(180, to_tag="b").serialize())  # type: ignore[union-attr]
            while await reader.readexactly(4) == b"\r\n\r\n":
                self.pings += 1
                self.pinged.set()
                writer.write(self.answers.pop(0) if self.answers else b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()
        self.closed.set()


async def pinged(stack: AsyncExitStack, answers: list[bytes]) -> tuple[Server, Endpoint]:
    server = Server(answers)
    listening = await stack.enter_async_context(await asyncio.start_server(server.serve, "127.0.0.1", 0))
    port = listening.sockets[0].getsockname()[1]
    ours = await endpoint(stack, UDP_AND_TCP, limits=StreamLimits(ping_seconds=0.1, pong_seconds=0.1))
    ours.user_agent.invite(f"sip:x@127.0.0.1:{port};transport=tcp", from_=ALICE, offer=OFFER, now=ours.now())
    await ours.expect(Progress)
    return server, ours


def test_a_server_that_stops_answering_pings_is_dead() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server, ours = await pinged(stack, [b"\r\n", b"\r\n"])
        await asyncio.wait_for(server.closed.wait(), 5)
        assert server.pings == 3
        assert ours.user_agent.counters["ping_unanswered"] == 1

    run(scenario)


def test_a_server_that_never_answers_pings_is_left_alone() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server, ours = await pinged(stack, [b"", b"\r\n\r\n", b""])
        while server.pings < 4:
            server.pinged.clear()
            await asyncio.wait_for(server.pinged.wait(), 5)
        assert not server.closed.is_set()
        assert ours.transport.connections == 1

    run(scenario)


def test_a_connection_that_died_is_opened_again_for_the_next_request() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        caller, callee = await endpoint(stack, UDP_AND_TCP), await endpoint(stack, UDP_AND_TCP)
        first = None
        for _ in range(2):
            outgoing = caller.user_agent.invite(callee.uri("tcp"), from_=ALICE, offer=OFFER, now=caller.now())
            invited = await callee.expect(InviteReceived)
            assert invited.flow != first
            first = invited.flow
            invited.call.answer(ANSWER, callee.now())
            await asyncio.wait_for(caller.events.get(), 5)
            await callee.events.get()
            outgoing.hang_up(caller.now())
            await callee.expect(CallEnded)
            await caller.expect(CallEnded)
            for connection in list(callee.transport._streams._connections.values()):
                connection.abort()
            await emptied(stack, callee)
            await emptied(stack, caller)

    run(scenario)
