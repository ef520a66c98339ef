"""Calls of ours to SIPp. What each scenario checks of our requests stands in its XML; here, what our side was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from sipbridge.sip.digest import Credentials
from sipbridge.sip.events import (
    Acknowledged,
    Answered,
    CallEnded,
    EndCause,
    Progress,
    ReferAccepted,
    ReferFailed,
    ReferProgress,
    ReinviteReceived,
    SipEvent,
)
from sipbridge.sip.flow import Flow
from sipbridge.sip.uac import OutgoingInvite
from tests.fuzz.corpus import OFFER
from tests.interop import sipp
from tests.interop.peers import free_port, require
from tests.loopback.endpoints import Endpoint, endpoint

pytestmark = pytest.mark.interop

E = TypeVar("E", bound=SipEvent)
COPIES = {"uas_repeat_200", "uas_busy", "uas_declined", "uas_moved"}
"""Scenarios in which the same ACK has to come more than once."""
CALLER = "<sip:us@example.com>"


class Callee:
    """SIPp as the callee of one scenario, and a user agent of ours that calls it."""

    def __init__(self, ours: Endpoint, program: sipp.Sipp, address: str, port: int, transport: str) -> None:
        self.ours = ours
        self.program = program
        self.uri = f"sip:desk@{address}:{port}" + (";transport=tcp" if transport == "tcp" else "")
        self.seen: list[SipEvent] = []
        self._sent: list[str] = []
        self._sending = asyncio.Event()
        ours.user_agent.trace = self._trace

    def call(self, *, offer: bytes = OFFER, credentials: Credentials | None = None) -> OutgoingInvite:
        return self.ours.user_agent.invite(
            self.uri, from_=CALLER, offer=offer, now=self.ours.now(), credentials=credentials
        )

    async def until(self, kind: type[E]) -> E:
        """The next event of that kind; those before it are in `seen`."""
        while True:
            event = await asyncio.wait_for(self.ours.events.get(), 10)
            if isinstance(event, kind):
                return event
            self.seen.append(event)

    async def until_sent(self, method: str, times: int) -> None:
        while self._sent.count(method) < times:
            self._sending.clear()
            await asyncio.wait_for(self._sending.wait(), 10)

    def _trace(self, flow: Flow, sent: bool, data: bytes) -> None:
        if sent:
            self._sent.append(data.partition(b" ")[0].decode())
            self._sending.set()

    async def finish(self) -> list[sipp.Message]:
        return await asyncio.to_thread(self.program.finish)


@asynccontextmanager
async def callee(folder: Path, scenario: str, *, transport: str = "udp", v6: bool = False) -> AsyncIterator[Callee]:
    require("sipp")
    address = "[::1]" if v6 else sipp.ADDRESS
    port = free_port(address.strip("[]"))
    async with AsyncExitStack() as stack:
        host = "[::1]" if v6 else "127.0.0.1"
        ours = await endpoint(stack, [f"udp://{host}:0", f"tcp://{host}:0"])
        program = sipp.Sipp(
            folder,
            scenario,
            None,
            address=address,
            port=port,
            transport=transport,
            timeout=20,
            repeats=scenario not in COPIES,
        )
        stack.callback(program.program.stop)
        if transport == "tcp":
            await listening(address, port)
        yield Callee(ours, program, address, port, transport)
        assert ours.events.empty() or all(isinstance(event, CallEnded) for event in drain(ours))


async def listening(address: str, port: int) -> None:
    """Over UDP the INVITE is repeated until somebody listens; a connection is refused once and for all."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)  # a process starts: there is no event to wait for
                continue
            writer.close()
            return


def drain(ours: Endpoint) -> list[SipEvent]:
    events = []
    while not ours.events.empty():
        events.append(ours.events.get_nowait())
    return events


def run(scenario: Coroutine[None, None, None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(40):
            await scenario

    asyncio.run(main())


async def hang_up(at: Callee, call: OutgoingInvite) -> None:
    call.hang_up(at.ours.now())
    assert (await at.until(CallEnded)).cause is EndCause.LOCAL_BYE


@pytest.mark.parametrize(
    ("scenario", "transport"),
    [
        ("uas_answer", "udp"),
        ("uas_answer", "tcp"),
        ("uas_record_route", "udp"),
        ("uas_repeat_200", "udp"),
        ("uas_forked", "udp"),
        ("uas_reliable", "udp"),
        ("uas_422", "udp"),
    ],
)
def test_a_call_that_is_answered(tmp_path: Path, scenario: str, transport: str) -> None:
    async def calling() -> None:
        async with callee(tmp_path, scenario, transport=transport) as at:
            call = at.call()
            answered = await at.until(Answered)
            assert b"m=audio" in answered.answer
            if scenario == "uas_forked":
                assert call.dialog is not None
                assert call.dialog.id.remote_tag == "two"
            if scenario in COPIES:
                await at.until_sent("ACK", 3)
            await hang_up(at, call)
            await at.finish()

    run(calling())


def test_over_ipv6(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_answer", v6=True) as at:
            call = at.call()
            await at.until(Answered)
            await hang_up(at, call)
            await at.finish()

    run(calling())


@pytest.mark.parametrize(
    ("scenario", "status"), [("uas_busy", 486), ("uas_declined", 603), ("uas_moved", 302), ("uas_overloaded", 503)]
)
def test_a_call_that_is_refused(tmp_path: Path, scenario: str, status: int) -> None:
    async def calling() -> None:
        async with callee(tmp_path, scenario) as at:
            at.call()
            ended = await at.until(CallEnded)
            assert (ended.cause, ended.status) == (EndCause.REJECTED, status)
            if status == 603:
                assert ended.reason_header is not None
                assert ended.reason_header.startswith("Q.850;cause=21")
            await at.finish()

    run(calling())


def test_a_challenge_is_answered(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_challenge") as at:
            call = at.call(credentials=Credentials("us", "secret"))
            await at.until(Answered)
            await hang_up(at, call)
            await at.finish()

    run(calling())


def test_a_late_offer_is_answered_in_the_ack(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_late_offer") as at:
            call = at.call(offer=b"")
            answered = await at.until(Answered)
            assert answered.needs_answer
            assert b"m=audio" in answered.answer
            call.acknowledge(OFFER, at.ours.now())
            await hang_up(at, call)
            await at.finish()

    run(calling())


@pytest.mark.parametrize("scenario", ["uas_cancelled", "uas_cancel_crossed", "uas_silent"])
def test_a_call_that_is_given_up(tmp_path: Path, scenario: str) -> None:
    async def calling() -> None:
        async with callee(tmp_path, scenario) as at:
            call = at.call()
            if scenario != "uas_silent":
                await at.until(Progress)
            call.cancel(at.ours.now())
            assert (await at.until(CallEnded)).cause is EndCause.CANCELLED
            await at.finish()

    run(calling())


def test_the_callee_hangs_up(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_hangs_up") as at:
            at.call()
            assert (await at.until(CallEnded)).cause is EndCause.REMOTE_BYE
            await at.finish()

    run(calling())


def test_the_callee_holds_and_resumes(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_hold") as at:
            call = at.call()
            for direction in (b"a=recvonly", b"a=sendrecv"):
                change = await at.until(ReinviteReceived)
                assert change.offer is not None
                assert (b"a=sendonly" in change.offer) == (direction == b"a=recvonly")
                call.accept_reinvite(OFFER.replace(b"a=sendrecv", direction), at.ours.now())
                await at.until(Acknowledged)
            await hang_up(at, call)
            await at.finish()

    run(calling())


def test_a_transfer_is_accepted_and_followed_to_its_end(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_refer_accepted") as at:
            call = at.call()
            await at.until(Answered)
            call.refer("sip:5550123@example.com", at.ours.now())
            await at.until(ReferAccepted)
            progress = await at.until(ReferProgress)
            while not progress.final:
                progress = await at.until(ReferProgress)
            assert progress.status == 200
            await hang_up(at, call)
            await at.finish()

    run(calling())


def test_a_transfer_is_refused(tmp_path: Path) -> None:
    async def calling() -> None:
        async with callee(tmp_path, "uas_refer_refused") as at:
            call = at.call()
            await at.until(Answered)
            call.refer("sip:5550123@example.com", at.ours.now())
            assert (await at.until(ReferFailed)).status == 603
            await hang_up(at, call)
            await at.finish()

    run(calling())


def test_options(tmp_path: Path) -> None:
    async def asking() -> None:
        async with callee(tmp_path, "uas_options") as at:
            answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            found: Callable[..., None] = lambda *result: answered.set_result(result)  # noqa: E731
            at.ours.user_agent.options(at.uri, on_result=found, now=at.ours.now())
            await asyncio.wait_for(answered, 10)
            await at.finish()

    run(asking())
