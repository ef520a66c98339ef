"""Names, with a real name server on 127.0.0.1: what is asked, and which call goes where, and what when it is away."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from sipbridge.sip.dns import DnsResolver
from sipbridge.sip.dns_cache import Kind, Naptr, Record, Srv
from sipbridge.sip.events import Answered, CallEnded, EndCause, InviteReceived, SipEvent
from sipbridge.sip.timers import Timers
from sipbridge.sip.transport import SipTransport
from sipbridge.sip.user_agent import UserAgent
from tests.loopback.endpoints import needs_ipv6
from tests.loopback.name_server import NameServer
from tests.sip.wire import ANSWER, OFFER

ALICE = "<sip:alice@example.com>"
E = TypeVar("E", bound=SipEvent)


def run(scenario: Callable[[AsyncExitStack], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            await scenario(stack)

    asyncio.run(main())


def resolver(*servers: NameServer, hosts: Path | None = None) -> DnsResolver:
    return DnsResolver([server.address for server in servers], hosts=hosts, hedge=0.2, lifetime=1.0)


class Endpoint:
    def __init__(self) -> None:
        self.user_agent = UserAgent(new_token=lambda: secrets.token_hex(8), timers=Timers(failover=0.2))
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.transport: SipTransport

    @classmethod
    async def start(cls, stack: AsyncExitStack, *listen: str, names: DnsResolver | None = None) -> Endpoint:
        made = cls()
        made.transport = await SipTransport.open(
            made.user_agent, listen, on_event=made.events.put_nowait, resolver=names
        )
        stack.push_async_callback(made.transport.close)
        return made

    def port(self, number: int = 0) -> int:
        return self.transport.addresses[number][1][1]

    def call(self, uri: str) -> None:
        self.user_agent.invite(uri, from_=ALICE, offer=OFFER, now=self.transport.now())

    async def expect(self, kind: type[E]) -> E:
        """The next event of this kind; those before it are passed over."""
        while not isinstance(event := await asyncio.wait_for(self.events.get(), 10), kind):
            pass
        return event


def unused_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def connected(caller: Endpoint, callee: Endpoint) -> InviteReceived:
    """A call that has come through is answered and hung up."""
    invited = await callee.expect(InviteReceived)
    invited.call.answer(ANSWER, callee.transport.now())
    answered = await caller.expect(Answered)
    answered.call.hang_up(caller.transport.now())
    await caller.expect(CallEnded)
    return invited


# --- single questions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "records"),
    [
        ("A", ["192.0.2.2", "192.0.2.3"], ("192.0.2.2", "192.0.2.3")),
        ("AAAA", ["2001:db8::2"], ("2001:db8::2",)),
        ("SRV", ["1 2 5061 node.example.com."], (Srv(1, 2, 5061, "node.example.com."),)),
        (
            "NAPTR",
            ['50 10 "s" "SIPS+D2T" "" _sips._tcp.example.com.'],
            (Naptr(50, 10, "s", "SIPS+D2T", "_sips._tcp.example.com."),),
        ),
    ],
)
def test_a_question_of_each_kind(kind: Kind, text: list[str], records: tuple[Record, ...]) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        server.zone["example.com", kind] = text
        answer = await resolver(server).query("Example.com.", kind)
        assert (set(answer.records), answer.ttl, answer.error) == (set(records), 60, None)

    run(scenario)


def test_that_there_is_none_is_an_answer_and_that_nobody_says_is_a_failure() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        server.zone["example.com", "A"] = ["192.0.2.2"]
        names = resolver(server)
        for name, kind in (("example.com", "SRV"), ("nowhere.example.com", "A")):
            answer = await names.query(name, kind)  # type: ignore[arg-type]
            assert (answer.records, answer.error) == ((), None)
        server.broken = True
        assert (await names.query("example.com", "A")).error
        server.broken, server.silent = False, True
        begun = time.monotonic()
        assert (await names.query("example.com", "A")).error
        assert 0.9 < time.monotonic() - begun < 2.5

    run(scenario)


def test_a_server_that_is_away_costs_little_and_one_that_is_slow_is_heard() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        away, there = await NameServer.start(stack), await NameServer.start(stack)
        away.silent = True
        there.zone["example.com", "A"] = ["192.0.2.2"]
        names = resolver(away, there)
        begun = time.monotonic()
        assert (await names.query("example.com", "A")).records == ("192.0.2.2",)
        assert time.monotonic() - begun < 0.9
        there.delay = 0.6  # longer than both are given before the next is asked
        assert (await names.query("example.com", "A")).records == ("192.0.2.2",)
        away.silent, away.broken = False, True
        there.delay = 0.0
        begun = time.monotonic()
        assert (await names.query("example.com", "A")).records == ("192.0.2.2",)
        assert time.monotonic() - begun < 0.2

    run(scenario)


def test_names_of_this_machine_are_not_asked_for(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# mine\n192.0.2.7 PBX pbx.internal # here\n2001:db8::7 pbx\nnonsense x\nfe80::1%lo y\n\n")

    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        names = resolver(server, hosts=hosts)
        questions: list[tuple[str, Kind]] = [
            ("pbx", "A"),
            ("pbx", "AAAA"),
            ("pbx.internal.", "A"),
            ("pbx", "NAPTR"),
            ("_sip._udp.pbx", "SRV"),
            ("localhost", "A"),
            ("localhost", "AAAA"),
            ("_sip._udp.localhost", "SRV"),
        ]
        answers = [(await names.query(*question)).records for question in questions]
        assert answers == [("192.0.2.7",), ("2001:db8::7",), ("192.0.2.7",), (), (), ("127.0.0.1",), ("::1",), ()]
        assert not server.asked
        for name in ("x", "y"):
            await names.query(name, "A")
        assert {name for name, _ in server.asked} == {"x", "y"}

    run(scenario)


@pytest.mark.parametrize("text", ["dns.example.com", "127.0.0.1:x", "[::1", "127.0.0.1:99999", "[::1]5353", ""])
def test_name_servers_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        DnsResolver([text])


def test_dnspython_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, sipbridge.sip.transport; sys.exit('dns.resolver' in sys.modules)"

    async def scenario(stack: AsyncExitStack) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        assert await process.wait() == 0

    run(scenario)


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_goes_where_naptr_and_srv_say() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        callee = await Endpoint.start(stack, "tcp://127.0.0.1:0")
        caller = await Endpoint.start(stack, "udp://127.0.0.1:0", "tcp://127.0.0.1:0", names=resolver(server))
        server.zone = {
            ("example.com", "NAPTR"): [
                '10 1 "s" "SIP+D2T" "" _sip._tcp.example.com.',
                '20 1 "s" "SIP+D2U" "" _sip._udp.example.com.',
            ],
            ("_sip._tcp.example.com", "SRV"): [f"0 0 {callee.port()} node.example.com."],
            ("node.example.com", "A"): ["127.0.0.1"],
        }
        caller.call("sip:agent@example.com")
        invited = await connected(caller, callee)
        assert invited.flow.transport == "tcp"
        assert invited.request.uri == "sip:agent@example.com"
        asked = sum(server.asked.values())
        caller.call("sip:agent@example.com")
        await connected(caller, callee)
        assert sum(server.asked.values()) == asked

    run(scenario)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_dead_server_is_passed_over(transport: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        callee = await Endpoint.start(stack, f"{transport}://127.0.0.1:0")
        caller = await Endpoint.start(stack, f"{transport}://127.0.0.1:0", names=resolver(server))
        dead = unused_port(socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        server.zone = {
            (f"_sip._{transport}.example.com", "SRV"): [
                f"1 0 {dead} node.example.com.",
                f"2 0 {callee.port()} node.example.com.",
            ],
            ("node.example.com", "A"): ["127.0.0.1"],
        }
        caller.call("sip:agent@example.com")
        await connected(caller, callee)
        begun = time.monotonic()
        caller.call("sip:agent@example.com")  # it knows now
        await connected(caller, callee)
        assert time.monotonic() - begun < 0.2

    run(scenario)


def test_a_server_that_is_full_is_passed_over() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        full, callee = (
            await Endpoint.start(stack, "udp://127.0.0.2:0"),
            await Endpoint.start(stack, "udp://127.0.0.3:0"),
        )
        full.user_agent.unavailable = 30
        caller = await Endpoint.start(stack, "udp://127.0.0.1:0", names=resolver(server))
        server.zone = {
            ("_sip._udp.example.com", "SRV"): [
                f"1 0 {full.port()} node1.example.com.",
                f"2 0 {callee.port()} node2.example.com.",
            ],
            ("node1.example.com", "A"): ["127.0.0.2"],
            ("node2.example.com", "A"): ["127.0.0.3"],
        }
        caller.call("sip:agent@example.com")
        invited = await connected(caller, callee)
        assert invited.request.cseq.number == 1

    run(scenario)


def test_a_changed_answer_is_followed_and_the_last_good_one_when_the_servers_fail() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        server.ttl = 0
        first, second = [await Endpoint.start(stack, f"udp://127.0.0.{n}:0") for n in (2, 3)]
        caller = await Endpoint.start(stack, "udp://127.0.0.1:0", names=resolver(server))
        for callee in (first, second):
            server.zone = {("pbx.example.com", "A"): [callee.transport.address("udp")[0]]}
            caller.call(f"sip:agent@pbx.example.com:{callee.port()}")
            await connected(caller, callee)
        server.broken = True
        caller.call(f"sip:agent@pbx.example.com:{second.port()}")
        await connected(caller, second)
        assert caller.user_agent.counters["dns_stale_answer"] == 1

    run(scenario)


def test_while_name_servers_are_silent_the_loop_goes_on() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        server.silent = True
        callee = await Endpoint.start(stack, "udp://127.0.0.1:0")
        caller = await Endpoint.start(stack, "udp://127.0.0.1:0", names=resolver(server))
        caller.call("sip:agent@example.com:5060")
        for _ in range(5):  # others are called meanwhile
            begun = time.monotonic()
            caller.call(f"sip:agent@127.0.0.1:{callee.port()}")
            await connected(caller, callee)
            assert time.monotonic() - begun < 0.5
        ended = await caller.expect(CallEnded)
        assert (ended.cause, ended.status) == (EndCause.FLOW_FAILED, 503)

    run(scenario)


# --- IPv6 -------------------------------------------------------------------------------------------------------------


@needs_ipv6
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_over_ipv6(transport: str) -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        caller, callee = [await Endpoint.start(stack, f"{transport}://[::1]:0") for _ in range(2)]
        caller.call(f"sip:agent@[::1]:{callee.port()};transport={transport}")
        invited = await callee.expect(InviteReceived)
        assert invited.flow.local == ("::1", callee.port())
        via, contact = invited.request.headers.get("Via") or "", invited.request.headers.get("Contact") or ""
        assert via.startswith(f"SIP/2.0/{transport.upper()} [::1]:{caller.port()};")
        assert contact.startswith(f"<sip:sipbridge@[::1]:{caller.port()}")
        invited.call.answer(ANSWER, callee.transport.now())
        answered = await caller.expect(Answered)
        assert (answered.response.headers.get("Contact") or "").startswith(f"<sip:sipbridge@[::1]:{callee.port()}")
        invited.call.hang_up(callee.transport.now())
        assert (await caller.expect(CallEnded)).cause is EndCause.REMOTE_BYE

    run(scenario)


@needs_ipv6
def test_a_name_with_both_kinds_of_addresses_is_called_at_those_that_we_have() -> None:
    async def scenario(stack: AsyncExitStack) -> None:
        server = await NameServer.start(stack)
        server.zone = {("example.com", "A"): ["127.0.0.1"], ("example.com", "AAAA"): ["::1"]}
        callee = await Endpoint.start(stack, "udp://[::1]:0")
        caller = await Endpoint.start(stack, "udp://[::1]:0", names=resolver(server))
        caller.call(f"sip:agent@example.com:{callee.port()}")
        await connected(caller, callee)
        assert set(server.asked) == {("example.com", "AAAA")}

    run(scenario)
