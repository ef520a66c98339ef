"""SIP over TLS between two user agents and against raw sockets, with private authorities."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sipbridge.errors import TlsError
from sipbridge.sip.connection import StreamLimits
from sipbridge.sip.events import Acknowledged, Answered, CallEnded, EndCause, InviteReceived
from sipbridge.sip.tls import TlsSettings
from sipbridge.sip.uas import IncomingInvite
from tests.loopback.endpoints import ALICE, Endpoint, endpoint, over_tcp, response, run
from tests.sip.certificates import Authority, with_clients
from tests.sip.wire import ANSWER, OFFER

TLS = ("tls://127.0.0.1:0",)


async def call(caller: Endpoint, callee: Endpoint, host: str | None = None) -> IncomingInvite:
    """The call as its callee has it, answered and acknowledged."""
    caller.user_agent.invite(callee.uri("tls", host), from_=ALICE, offer=OFFER, now=caller.now())
    invited = await callee.expect(InviteReceived)
    assert invited.flow.transport == "tls"
    invited.call.answer(ANSWER, callee.now())
    await caller.expect(Answered)
    await callee.expect(Acknowledged)
    return invited.call


async def refused(caller: Endpoint, callee: Endpoint, host: str | None = None) -> CallEnded:
    caller.user_agent.invite(callee.uri("tls", host), from_=ALICE, offer=OFFER, now=caller.now())
    ended = await caller.expect(CallEnded)
    assert ended.cause is EndCause.FLOW_FAILED
    assert callee.events.empty()
    return ended


async def raw_tls(
    stack: AsyncExitStack, target: Endpoint, settings: TlsSettings
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(settings.ca))
    context.check_hostname = False
    reader, writer = await asyncio.open_connection(*target.transport.address("tls"), ssl=context)
    stack.callback(writer.close)
    return reader, writer


@pytest.mark.parametrize("who", ["caller", "callee"])
@pytest.mark.parametrize("scheme", ["sip", "sips"])
def test_a_call_and_its_bye_from_either_side(tmp_path: Path, who: str, scheme: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        caller, callee = await endpoint(stack, TLS, tls=issued), await endpoint(stack, TLS, tls=issued)
        uri = callee.uri("tls").replace("sip:", f"{scheme}:")
        if scheme == "sips":
            uri = uri.replace(";transport=tls", "")
        outgoing = caller.user_agent.invite(uri, from_=ALICE, offer=OFFER, now=caller.now())
        invited = await callee.expect(InviteReceived)
        assert invited.request.via.transport == "TLS"
        invited.call.answer(ANSWER, callee.now())
        answered = await caller.expect(Answered)
        for contact in (invited.request.contact, answered.response.contact):
            assert contact is not None
            assert contact.uri.scheme == scheme
        await callee.expect(Acknowledged)
        if who == "caller":
            outgoing.hang_up(caller.now())
            assert (await callee.expect(CallEnded)).cause is EndCause.REMOTE_BYE
        else:
            invited.call.hang_up(callee.now())
            assert (await caller.expect(CallEnded)).cause is EndCause.REMOTE_BYE
        assert (caller.transport.connections, callee.transport.connections) == (1, 1)

    run(scenario)


def test_who_only_calls_needs_no_certificate(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        caller, callee = (
            await endpoint(stack, (), tls=TlsSettings(ca=issued.ca)),
            await endpoint(stack, TLS, tls=issued),
        )
        incoming = await call(caller, callee)
        incoming.hang_up(callee.now())
        assert (await caller.expect(CallEnded)).cause is EndCause.REMOTE_BYE

    run(scenario)


def test_one_connection_serves_all_calls_to_a_name(tmp_path: Path) -> None:
    """Those that are made while it is being opened wait for it."""

    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1", "localhost")
        caller, callee = (
            await endpoint(stack, (), tls=TlsSettings(ca=issued.ca)),
            await endpoint(stack, TLS, tls=issued),
        )
        for _ in range(5):
            caller.user_agent.invite(callee.uri("tls"), from_=ALICE, offer=OFFER, now=caller.now())
        flows = {(await callee.expect(InviteReceived)).flow for _ in range(5)}
        assert len(flows) == 1
        await call(caller, callee, "localhost")
        assert callee.transport.connections == 2, "it has proven one name, not the other"

    run(scenario)


@pytest.mark.parametrize("fault", ["name", "authority", "expired", "plain"])
def test_a_server_that_is_not_who_it_should_be_gets_no_call(tmp_path: Path, fault: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        authority = Authority(tmp_path)
        past = datetime(2020, 1, 1, tzinfo=UTC) if fault == "expired" else None
        issued = authority.issue("pbx.example.com" if fault == "name" else "127.0.0.1", not_after=past)
        trusted = Authority(tmp_path, "other").file if fault == "authority" else authority.file
        caller = await endpoint(stack, (), tls=TlsSettings(ca=trusted))
        callee = await endpoint(stack, ["tcp://127.0.0.1:0"] if fault == "plain" else TLS, tls=issued)
        if fault == "plain":
            port = callee.transport.address("tcp")[1]
            caller.user_agent.invite(f"sips:x@127.0.0.1:{port}", from_=ALICE, offer=OFFER, now=caller.now())
            assert (await caller.expect(CallEnded)).cause is EndCause.FLOW_FAILED
        else:
            await refused(caller, callee)
        assert caller.transport.connections == 0

    run(scenario)


def test_without_verification_any_server_will_do(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("pbx.example.com")
        caller, callee = (
            await endpoint(stack, (), tls=TlsSettings(verify_peer=False)),
            await endpoint(stack, TLS, tls=issued),
        )
        await call(caller, callee)

    run(scenario)


def test_a_server_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        closed = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            closed.set()
            writer.close()

        server = await stack.enter_async_context(await asyncio.start_server(silent, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        caller = await endpoint(
            stack, (), tls=TlsSettings(ca=Authority(tmp_path).file), limits=StreamLimits(connect_seconds=0.2)
        )
        caller.user_agent.invite(f"sips:x@127.0.0.1:{port}", from_=ALICE, offer=OFFER, now=caller.now())
        assert (await caller.expect(CallEnded)).cause is EndCause.FLOW_FAILED
        await asyncio.wait_for(closed.wait(), 5)
        assert caller.transport.connections == 0

    run(scenario)


@pytest.mark.parametrize("mode", ["off", "optional", "required"])
@pytest.mark.parametrize("shown", ["none", "ours", "a stranger's"])
def test_certificates_of_clients(tmp_path: Path, mode: str, shown: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        authority = Authority(tmp_path)
        issued = authority.issue("127.0.0.1")
        client = TlsSettings(ca=authority.file)
        if shown == "ours":
            client = authority.issue("client.example.com", stem="client")
        elif shown == "a stranger's":
            client = replace(Authority(tmp_path, "other").issue("c.example.com", stem="client"), ca=authority.file)
        caller = await endpoint(stack, (), tls=client)
        callee = await endpoint(stack, TLS, tls=with_clients(issued, mode))  # type: ignore[arg-type]
        good = mode == "off" or shown == "ours" or (mode == "optional" and shown == "none")
        if good:
            await call(caller, callee)
        else:
            await refused(caller, callee)
            assert callee.user_agent.counters["tls_handshake_failed"] == 1

    run(scenario)


def test_certificates_are_changed_while_a_call_is_up(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        authority = Authority(tmp_path)
        issued = authority.issue("127.0.0.1")
        caller = await endpoint(stack, (), tls=TlsSettings(ca=authority.file))
        callee = await endpoint(stack, TLS, tls=issued)
        incoming = await call(caller, callee)
        authority.issue("localhost")
        await call(caller, callee, "localhost")
        assert issued.certificate is not None
        issued.certificate.write_text("broken")
        second = await endpoint(stack, (), tls=TlsSettings(ca=authority.file))
        await call(second, callee, "localhost")
        incoming.hang_up(callee.now())
        assert (await caller.expect(CallEnded)).cause is EndCause.REMOTE_BYE

    run(scenario)


def test_half_a_message_waits_and_a_ping_gets_its_pong(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        ours = await endpoint(stack, TLS, tls=issued)
        reader, writer = await raw_tls(stack, ours, issued)
        message = over_tcp().replace(b"/TCP ", b"/TLS ")
        for part in (b"\r\n\r\n", message[:9], message[9:]):
            writer.write(part)
            await writer.drain()
        assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"
        assert (await response(reader)).status == 200

    run(scenario)


@pytest.mark.parametrize(
    "data",
    [over_tcp(), b"\xff" * 500, b"\x16\x03\x01\xff\xff" + b"\xff" * 500, b"GET / HTTP/1.1\r\n\r\n"],
    ids=["plain SIP", "garbage", "a broken hello", "http"],
)
def test_what_is_no_tls_closes_the_connection(tmp_path: Path, data: bytes) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        ours = await endpoint(stack, TLS, tls=issued)
        reader, writer = await asyncio.open_connection(*ours.transport.address("tls"))
        stack.callback(writer.close)
        writer.write(data)
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        assert ours.user_agent.counters["tls_handshake_failed"] == 1
        assert ours.transport.connections == 0
        again, more = await raw_tls(stack, ours, issued)
        more.write(over_tcp())
        assert (await response(again)).status == 200

    run(scenario)


def test_handshakes_that_do_not_go_on_are_bounded_in_number_and_time(tmp_path: Path) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        issued = Authority(tmp_path).issue("127.0.0.1")
        ours = await endpoint(stack, TLS, tls=issued, limits=StreamLimits(handshakes=3, handshake_seconds=0.5))
        waiting = [await asyncio.open_connection(*ours.transport.address("tls")) for _ in range(5)]
        for _, writer in waiting:
            stack.callback(writer.close)
        for reader, _ in waiting:
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        assert ours.user_agent.counters["too_many_handshakes"] == 2
        assert ours.user_agent.counters["tls_handshake_timed_out"] == 3
        reader, writer = await raw_tls(stack, ours, issued)
        writer.write(over_tcp())
        assert (await response(reader)).status == 200

    run(scenario)


def test_a_listener_without_a_certificate_is_refused() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        with pytest.raises(TlsError, match=r"tls://127\.0\.0\.1:0: no certificate"):
            await endpoint(stack, TLS)

    run(scenario)
