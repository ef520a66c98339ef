"""A SIP leg's transfers, without a socket; the rest of a leg is tested over real ones."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sipbridge.leg import InboundLeg, LegParts, MediaChoices, SipLeg
from sipbridge.sip.events import ReferAccepted, ReferFailed, ReferProgress
from sipbridge.sip.invite import CallState, Invite
from tests.call.fakes import settle

TARGET = "sip:desk@example.com"


class FakeInvite:
    def __init__(self, state: CallState = CallState.CONFIRMED) -> None:
        self.state = state
        self.referred: list[str] = []

    def refer(self, target: str, now: float) -> None:
        self.referred.append(target)


def parts() -> LegParts:
    unused = cast(Any, None)
    return LegParts(engine=unused, open_stream=unused, choices=MediaChoices(), session_id="1", clock=lambda: 0.0)


def leg_of(invite: FakeInvite) -> SipLeg:
    return InboundLeg(cast(Any, invite), None, parts())


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
            assert await transfer == failure
        assert invite.referred == [TARGET, TARGET]

    asyncio.run(scenario())


def test_one_transfer_at_a_time() -> None:
    async def scenario() -> None:
        invite = FakeInvite()
        leg = leg_of(invite)
        first = asyncio.create_task(leg.refer(TARGET))
        await settle()
        assert await leg.refer("sip:other@example.com") == "another transfer is under way"
        leg.sip_event(ReferFailed(cast(Invite, invite), 603))
        assert await first == "refused with 603"
        assert invite.referred == [TARGET]

    asyncio.run(scenario())


def test_a_caller_who_never_sent_the_ack_cannot_be_transferred() -> None:
    invite = FakeInvite(CallState.ANSWERED)
    assert "has not confirmed" in asyncio.run(leg_of(invite).refer(TARGET))
    assert invite.referred == []
