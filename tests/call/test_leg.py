"""A SIP leg's transfers and refreshes, without a socket; the rest of a leg is tested over real ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sipbridge.audio import PCM_8K
from sipbridge.inbound_leg import InboundLeg
from sipbridge.leg import LegParts, MediaChoices, SipLeg, _words_of
from sipbridge.media import sdp
from sipbridge.media.params import MediaParams
from sipbridge.media.stream import MediaStream
from sipbridge.outcome import Ended, reason_header
from sipbridge.referring import Referred
from sipbridge.sip.events import ReferAccepted, ReferFailed, ReferProgress, SessionAnswered
from sipbridge.sip.invite import CallState, Invite
from tests import virtual
from tests.call.fakes import settle

TARGET = "sip:desk@example.com"


class FakeInvite:
    def __init__(self, state: CallState = CallState.CONFIRMED) -> None:
        self.state = state
        self.is_over = False
        self.referred: list[str | None] = []
        self.dialog = SimpleNamespace(allows_refer=None, supports_replaces=False)

    def refer(self, target: str | None, now: float, *, replaces: object = None) -> None:
        self.referred.append(target)


def parts() -> LegParts:
    unused = cast(Any, None)
    return LegParts(engine=unused, open_stream=unused, choices=MediaChoices(), session_id="1", clock=lambda: 0.0)


def leg_of(invite: FakeInvite) -> SipLeg:
    return InboundLeg(cast(Any, invite), None, parts())


class FakeStream:
    def __init__(self) -> None:
        self.updates: list[MediaParams] = []

    def update(self, params: MediaParams) -> None:
        self.updates.append(params)


@pytest.mark.parametrize(
    ("port", "updates"), [(4000, []), (5000, [("192.0.2.9", 5000)]), (0, [])], ids=["as before", "moved", "refused"]
)
def test_the_answer_to_a_refresh_may_move_the_sound(port: int, updates: list[tuple[str, int]]) -> None:
    """Our refresh repeats what we said last; what comes back is the other side's affair (RFC 4028 §7.4)."""
    far_end = sdp.LocalAudio(address="192.0.2.9", port=4000, codecs=("PCMU",), session_id="2")
    stream = FakeStream()
    engine = SimpleNamespace(reserve=lambda: SimpleNamespace(address="192.0.2.1", port=3000))
    needed = LegParts(
        engine=cast(Any, engine),
        open_stream=lambda port, params: cast(MediaStream, stream),
        choices=MediaChoices(codecs=("PCMU",)),
        session_id="1",
        clock=lambda: 0.0,
    )
    invite: Any = SimpleNamespace(
        state=CallState.INVITED, ring=lambda now: None, answer=lambda body, now: None, dialog=SimpleNamespace()
    )
    leg = InboundLeg(invite, sdp.offer(far_end), needed)
    leg.negotiate()
    leg.pick_up(PCM_8K, PCM_8K)
    invite.dialog.exchange = SimpleNamespace(local=leg._body)
    moved = replace(far_end, port=port or 4000)
    answer = sdp.answer(leg._body, moved).sdp
    if port == 0:
        answer = answer.replace(b"m=audio 4000", b"m=audio 0")
    leg.sip_event(SessionAnswered(invite, answer))
    assert [params.remote for params in stream.updates] == updates
    assert leg.failure == ""


def test_a_transfer_is_followed_to_its_end() -> None:
    async def scenario() -> None:
        invite = FakeInvite()
        leg, call = leg_of(invite), cast(Invite, invite)
        for status, failure in ((200, ""), (486, "486 Busy Here")):
            transfer = asyncio.create_task(leg.refer(TARGET))
            await settle()
            leg.sip_event(ReferAccepted(call))
            leg.sip_event(ReferProgress(call, 180, "Ringing", final=False))
            leg.sip_event(ReferProgress(call, status, "Busy Here", final=True))
            assert await transfer == Referred(failure, by_target=bool(failure))
        assert invite.referred == [TARGET, TARGET]

    asyncio.run(scenario())


def test_one_transfer_at_a_time() -> None:
    async def scenario() -> None:
        invite = FakeInvite()
        leg = leg_of(invite)
        first = asyncio.create_task(leg.refer(TARGET))
        await settle()
        assert (await leg.refer("sip:other@example.com")).failure == "another transfer is under way"
        leg.sip_event(ReferFailed(cast(Invite, invite), 603))
        assert await first == Referred("refused with 603")
        assert invite.referred == [TARGET]

    asyncio.run(scenario())


def test_a_caller_who_never_sent_the_ack_cannot_be_transferred() -> None:
    invite = FakeInvite(CallState.ANSWERED)
    assert "has not confirmed" in asyncio.run(leg_of(invite).refer(TARGET)).failure
    assert invite.referred == []


@virtual.timed
async def test_a_far_end_that_says_nothing_is_not_waited_for_long() -> None:
    invite = FakeInvite()
    leg, call = leg_of(invite), cast(Invite, invite)
    began = asyncio.get_running_loop().time()
    unheard = asyncio.create_task(leg.refer(TARGET, seconds=60))
    await settle()
    assert await unheard == Referred("no answer"), "nobody has been called"
    untold = asyncio.create_task(leg.refer(TARGET, seconds=60))
    await virtual.pass_time(5)
    leg.sip_event(ReferAccepted(call))
    assert await untold == Referred("no answer")
    assert asyncio.get_running_loop().time() - began == pytest.approx(10 + 5 + 10)


@virtual.timed
async def test_while_it_rings_a_transfer_may_take_its_time() -> None:
    invite = FakeInvite()
    leg, call = leg_of(invite), cast(Invite, invite)
    began = asyncio.get_running_loop().time()
    transfer = asyncio.create_task(leg.refer(TARGET, seconds=60))
    await settle()
    leg.sip_event(ReferAccepted(call))
    leg.sip_event(ReferProgress(call, 100, "Trying", final=False))
    assert await transfer == Referred("no answer", by_target=True), "somebody may have been called"
    assert asyncio.get_running_loop().time() - began == pytest.approx(60)


@virtual.timed
async def test_the_end_of_the_notifications_is_not_the_end_of_the_transfer() -> None:
    invite = FakeInvite()
    leg, call = leg_of(invite), cast(Invite, invite)
    transfer = asyncio.create_task(leg.refer(TARGET, seconds=60))
    await settle()
    leg.sip_event(ReferAccepted(call))
    leg.sip_event(ReferProgress(call, 180, "Ringing", final=True))
    assert leg.transfer_accepted, "a BYE would be that of a far end that was transferred"
    assert (await transfer).failure == "no answer"


def test_a_far_end_that_does_not_want_to_tell_is_believed() -> None:
    async def scenario() -> None:
        invite = FakeInvite()
        leg = leg_of(invite)
        transfer = asyncio.create_task(leg.refer(TARGET))
        await settle()
        leg.sip_event(ReferAccepted(cast(Invite, invite), subscribed=False))
        assert await transfer == Referred()

    asyncio.run(scenario())


def test_who_does_not_know_refer_is_not_asked() -> None:
    async def scenario() -> None:
        invite = FakeInvite()
        invite.dialog.allows_refer = False
        assert (await leg_of(invite).refer(TARGET)).failure == "the caller's side takes no such transfers"
        invite.dialog.allows_refer = True
        attended = await leg_of(invite).refer("", replaces=leg_of(FakeInvite()))
        assert attended.failure == "the caller's side takes no such transfers"
        assert invite.referred == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("status", "by_target"), [(486, True), (404, True), (403, False), (405, False), (501, False)])
def test_whether_the_way_was_refused_or_the_target(status: int, by_target: bool) -> None:
    async def scenario() -> None:
        invite = FakeInvite()
        leg, call = leg_of(invite), cast(Invite, invite)
        transfer = asyncio.create_task(leg.refer(TARGET))
        await settle()
        leg.sip_event(ReferAccepted(call))
        leg.sip_event(ReferProgress(call, status, "No", final=True))
        assert await transfer == Referred(f"{status} No", by_target=by_target)

    asyncio.run(scenario())


def test_rtcp_says_goodbye_in_the_words_of_the_reason() -> None:
    assert _words_of(reason_header(Ended.MEDIA_TIMEOUT)) == "media_timeout"
    assert _words_of("") == ""
