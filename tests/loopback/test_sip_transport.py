"""The transport over real sockets on 127.0.0.1: two user agents calling each other, and raw sockets that misbehave."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
from contextlib import AsyncExitStack, suppress

import pytest
from structlog.testing import capture_logs

from sipbridge.sip.admission import Admission
from sipbridge.sip.connection import StreamLimits
from sipbridge.sip.events import Acknowledged, Answered, CallEnded, EndCause, InviteReceived, Progress, SipEvent
from sipbridge.sip.flow import Flow, Transport
from sipbridge.sip.message import parse_message
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from tests.loopback.endpoints import ALICE, LISTEN, Endpoint, endpoint, over_tcp, raw_tcp, raw_udp, response, run
from tests.sip.wire import ANSWER, OFFER, request


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_from_ring_to_bye(transport: Transport) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        caller, callee = await endpoint(stack), await endpoint(stack)
        outgoing = caller.user_agent.invite(
            callee.uri(transport), from_=ALICE, offer=OFFER, now=caller.now(), transport=transport
        )
        invited = await callee.expect(InviteReceived)
        assert invited.offer == OFFER
        assert invited.flow.transport == transport
        invited.call.ring(callee.now())
        assert (await caller.expect(Progress)).response.status == 180
        invited.call.answer(ANSWER, callee.now())
        answered = await caller.expect(Answered)
        assert answered.answer == ANSWER
        assert answered.call is outgoing
        await callee.expect(Acknowledged)
        invited.call.hang_up(callee.now())
        assert (await callee.expect(CallEnded)).cause is EndCause.LOCAL_BYE
        assert (await caller.expect(CallEnded)).cause is EndCause.REMOTE_BYE

    run(scenario)


# --- UDP --------------------------------------------------------------------------------------------------------------


def test_trouble_with_one_message_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        sock, peer = await raw_udp(stack, ours)
        receive = ours.user_agent.receive

        def stumble(data: bytes, flow: Flow, now: float) -> None:
            if data == b"trouble":
                raise RuntimeError
            receive(data, flow, now)

        monkeypatch.setattr(ours.user_agent, "receive", stumble)
        with capture_logs() as logged:
            sock.sendto(b"trouble")
            sock.sendto(request("OPTIONS"))
            assert (await asyncio.wait_for(peer.received.get(), 5))[0].startswith(b"SIP/2.0 200 ")
        assert [entry["event"] for entry in logged] == ["message not handled"]

    run(scenario)


def test_trouble_with_one_timer_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        sock, peer = await raw_udp(stack, ours)
        handle_timer = ours.user_agent.handle_timer
        trouble = [RuntimeError()]

        def stumble(now: float) -> None:
            if trouble:
                raise trouble.pop()
            handle_timer(now)

        monkeypatch.setattr(ours.user_agent, "handle_timer", stumble)
        host, port = sock.get_extra_info("sockname")[:2]
        with capture_logs() as logged:
            ours.user_agent.invite(f"sip:bob@{host}:{port}", from_=ALICE, offer=OFFER, now=ours.now())
            first = (await asyncio.wait_for(peer.received.get(), 5))[0]
            assert (await asyncio.wait_for(peer.received.get(), 5))[0] == first, "the repetition by Timer A"
        assert "timer not handled" in [entry["event"] for entry in logged]

    run(scenario)


def test_a_response_goes_to_the_source_though_the_via_lies() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        sock, peer = await raw_udp(stack, ours)
        sock.sendto(request("OPTIONS", via="SIP/2.0/UDP 192.0.2.9:9;branch=z9hG4bKlie"))
        data, source = await asyncio.wait_for(peer.received.get(), 5)
        answer = parse_message(data)
        assert source == ours.transport.address("udp")
        assert (answer.via.received, answer.via.rport) == sock.get_extra_info("sockname")

    run(scenario)


def test_garbage_is_survived_and_counted() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        sock, peer = await raw_udp(stack, ours)
        source = random.Random(1)
        for size in (0, 1, 4, 172, 1400, 9000):
            sock.sendto(source.randbytes(size))
        sock.sendto(request("OPTIONS"))
        data, _ = await asyncio.wait_for(peer.received.get(), 5)
        assert data.startswith(b"SIP/2.0 200 ")
        assert ours.user_agent.counters["dropped_malformed"] == 5
        assert ours.events.empty()

    run(scenario)


def test_who_may_not_speak_gets_silence() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, ["udp://127.0.0.1:0"], admission=Admission(["127.0.0.1/32"]))
        stranger, _ = await raw_udp(stack, ours, "127.0.0.9")
        friend, heard = await raw_udp(stack, ours)
        stranger.sendto(request("OPTIONS"))
        friend.sendto(request("OPTIONS"))
        await asyncio.wait_for(heard.received.get(), 5)
        assert ours.user_agent.counters == {"not_admitted_unknown_source": 1}

    run(scenario)


def test_a_burst_is_read_in_turns() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        sock, peer = await raw_udp(stack, ours)
        for number in range(100):
            sock.sendto(request("OPTIONS", branch=f"z9hG4bK{number}"))
        for _ in range(100):
            await asyncio.wait_for(peer.received.get(), 5)

    run(scenario)


def test_a_peer_whose_port_is_closed_does_no_harm() -> None:
    """The kernel may report the ICMP error of one datagram at the next operation on the socket."""

    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        call = ours.user_agent.invite(f"sip:x@127.0.0.1:{port}", from_=ALICE, offer=OFFER, now=ours.now())
        sock, peer = await raw_udp(stack, ours)
        sock.sendto(request("OPTIONS"))
        assert (await asyncio.wait_for(peer.received.get(), 5))[0].startswith(b"SIP/2.0 200 ")
        call.hang_up(ours.now())
        await ours.expect(CallEnded)

    run(scenario)


# --- TCP --------------------------------------------------------------------------------------------------------------


def test_half_a_message_waits_and_is_answered_on_the_same_connection() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        reader, writer = await raw_tcp(stack, ours)
        message = over_tcp()
        for part in (message[:9], message[9:200], message[200:-2], message[-2:] + over_tcp(branch="z9hG4bKtwo")):
            writer.write(part)
            await writer.drain()
        branches = [(await response(reader)).via.branch for _ in range(2)]
        assert branches == ["z9hG4bKtcp", "z9hG4bKtwo"]

    run(scenario)


def test_a_ping_gets_its_pong() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        reader, writer = await raw_tcp(stack, await endpoint(stack))
        writer.write(b"\r\n\r\n" + over_tcp() + b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"

    run(scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:a@b SIP/2.0\r\n" + b"X-Long: 0123456789\r\n" * 4000,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        over_tcp().replace(b"Content-Length: 0", b"Content-Length: 99999999"),
    ],
    ids=["64 KiB of headers", "http", "tls", "a huge body"],
)
def test_what_can_never_be_a_message_closes_the_connection(data: bytes) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        reader, writer = await raw_tcp(stack, ours)
        writer.write(data)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.user_agent.counters["stream_broken"] == 1
        again, more = await raw_tcp(stack, ours)
        more.write(over_tcp())
        assert (await response(again)).status == 200

    run(scenario)


@pytest.mark.parametrize("begun", [b"", b"OPTIONS sip:a@b SIP/2.0\r\nVia: ", over_tcp() + b"INVITE "])
def test_what_never_becomes_a_message_is_not_waited_for_for_ever(begun: bytes) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, limits=StreamLimits(message_seconds=0.2))
        reader, writer = await raw_tcp(stack, ours)
        writer.write(begun)
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        assert ours.user_agent.counters["stream_timed_out"] == 1

    run(scenario)


def test_an_idle_connection_is_closed_and_a_ping_keeps_it() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, limits=StreamLimits(idle_seconds=1.0))
        reader, writer = await raw_tcp(stack, ours)
        begun = ours.now()
        for _ in range(3):
            writer.write(b"\r\n\r\n")
            await asyncio.wait_for(reader.readexactly(2), 5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.4)  # still open, and silent
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.now() - begun > 1.8

    run(scenario)


def test_connections_are_bounded_in_number() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, limits=StreamLimits(connections=2))
        kept = [await raw_tcp(stack, ours) for _ in range(2)]
        for reader, writer in kept:
            writer.write(over_tcp())
            await response(reader)
        reader, _ = await raw_tcp(stack, ours)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.user_agent.counters["too_many_connections"] == 1

    run(scenario)


def test_connections_leave_from_the_address_that_we_listen_on() -> None:
    """A peer that knows its trunks by their addresses would take a call from another one for a stranger's."""

    async def scenario(stack: AsyncExitStack) -> None:
        caller = await endpoint(stack, ("udp://127.0.0.9:0", "tcp://127.0.0.9:0"))
        callee = await endpoint(stack)
        caller.user_agent.invite(callee.uri("tcp"), from_=ALICE, offer=OFFER, now=caller.now())
        assert (await callee.expect(InviteReceived)).flow.remote[0] == "127.0.0.9"

    run(scenario)


def test_a_connection_that_is_refused_ends_the_call() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        ours.user_agent.invite(f"sip:x@127.0.0.1:{port};transport=tcp", from_=ALICE, offer=OFFER, now=ours.now())
        assert (await ours.expect(CallEnded)).cause is EndCause.FLOW_FAILED

    run(scenario)


def test_an_answer_finds_its_way_when_the_connection_is_gone() -> None:
    """To the port in sent-by, where the peer listens, by a connection of ours (§18.2.2)."""

    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        arrived: asyncio.Queue[bytes] = asyncio.Queue()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.put_nowait(await reader.readline())
            writer.close()

        server = await stack.enter_async_context(await asyncio.start_server(accept, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        _, writer = await raw_tcp(stack, ours)
        writer.write(request(via=f"SIP/2.0/TCP 127.0.0.1:{port};branch=z9hG4bKgone"))
        invited = await ours.expect(InviteReceived)
        writer.transport.abort()
        sock, peer = await raw_udp(stack, ours)
        while ours.transport.connections:  # until our side has seen it go
            sock.sendto(request("OPTIONS"))
            await asyncio.wait_for(peer.received.get(), 5)
        invited.call.reject(486, now=ours.now())
        assert (await asyncio.wait_for(arrived.get(), 5)).startswith(b"SIP/2.0 486 ")

    run(scenario)


# --- the adapter ------------------------------------------------------------------------------------------------------


def test_a_name_is_resolved() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        caller, callee = await endpoint(stack), await endpoint(stack)
        port = callee.transport.address("udp")[1]
        caller.user_agent.invite(f"sip:x@localhost:{port}", from_=ALICE, offer=OFFER, now=caller.now())
        (await callee.expect(InviteReceived)).call.reject(486, now=callee.now())
        assert (await caller.expect(CallEnded)).status == 486

    run(scenario)


def test_a_listener_on_all_addresses_names_the_one_that_the_peer_sees() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack, ["udp://0.0.0.0:0"])
        port = ours.transport.address("udp")[1]
        callee = await endpoint(stack)
        ours.user_agent.invite(callee.uri("udp"), from_=ALICE, offer=OFFER, now=ours.now())
        invite = (await callee.expect(InviteReceived)).request
        assert (invite.via.host, invite.via.port) == ("127.0.0.1", port)
        assert str(invite.contact) == f"<sip:sipbridge@127.0.0.1:{port}>"

    run(scenario)


def test_a_handler_that_fails_does_not_take_the_others_with_it() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        user_agent = UserAgent(new_token=lambda: secrets.token_hex(8))

        def fail(event: SipEvent) -> None:
            raise RuntimeError("a bug above")

        ours = Endpoint()
        ours.user_agent = user_agent
        ours.transport = await SipTransport.open(user_agent, LISTEN, on_event=fail)
        stack.push_async_callback(ours.transport.close)
        sock, peer = await raw_udp(stack, ours)
        for number in range(2):
            sock.sendto(request(call_id=f"call{number}", branch=f"z9hG4bK{number}"))
            assert (await asyncio.wait_for(peer.received.get(), 5))[0].startswith(b"SIP/2.0 100 ")

    with capture_logs() as logged:
        run(scenario)
    assert [entry["event"] for entry in logged].count("SIP event not handled") == 2


@pytest.mark.parametrize("url", ["sctp://127.0.0.1:0", "udp:127.0.0.1", "udp://localhost:5060", "tcp://127.0.0.1:x"])
def test_urls_that_are_none(url: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        with pytest.raises(ValueError, match=r"."):
            await endpoint(stack, [url])

    run(scenario)


def test_an_address_in_use_closes_what_was_open_already() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        host, port = ours.transport.address("udp")
        with pytest.raises(OSError, match="in use"):
            await endpoint(stack, ["tcp://127.0.0.1:0", f"udp://{host}:{port}"])

    run(scenario)


def test_a_thousand_calls_with_three_invites_each_leave_nothing() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        ours = await endpoint(stack)
        sock, peer = await raw_udp(stack, ours)
        tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        for number in range(1000):
            call_id, branch = f"call{number}", f"z9hG4bKi{number}"
            for _ in range(3):
                sock.sendto(request(call_id=call_id, branch=branch))
            invited = await ours.expect(InviteReceived)
            for _ in range(3):
                await peer.received.get()
            invited.call.answer(ANSWER, ours.now())
            ok = parse_message((await peer.received.get())[0])
            to = ok.headers.get("To") or ""
            sock.sendto(request("ACK", call_id=call_id, branch=f"z9hG4bKa{number}", to=to))
            await ours.expect(Acknowledged)
            sock.sendto(request("BYE", call_id=call_id, branch=f"z9hG4bKb{number}", to=to, cseq=2))
            assert (await peer.received.get())[0].startswith(b"SIP/2.0 200 ")
            assert (await ours.expect(CallEnded)).cause is EndCause.REMOTE_BYE
        assert ours.user_agent.calls == ours.user_agent.dialogs == 0
        assert len(asyncio.all_tasks()) == tasks
        assert len(os.listdir("/proc/self/fd")) == descriptors

    run(scenario)
