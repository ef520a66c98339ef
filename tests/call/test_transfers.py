"""What can come between a caller and whom he is handed over to, in virtual time. `tests/loopback` has how it sounds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from sipbridge.agent import AssistantTurnEnd, AssistantTurnStarted, ToolCall, ToolCallCancelled
from sipbridge.audio import AudioFormat
from sipbridge.errors import CallNotAnsweredError
from sipbridge.media.events import Audio, Drained, EncryptionFailed, KeyPressed, MediaTimeout
from sipbridge.outbound_leg import OutboundLeg
from sipbridge.outcome import Ended
from sipbridge.sip.events import CallEnded, EndCause
from sipbridge.sip.invite import Invite
from tests import virtual
from tests.call.fakes import Call, FakeLeg, FakeStream, settle
from tests.call.test_call import speech

HOW = "agent: {{provider: scripted}}\ntools: {{transfer_call: {{targets: {{desk: 'sip:100@pbx.example.com'}}, {}}}}}"
CALLER, DESK = 1, 2


@dataclass
class Stream(FakeStream):
    handle: int = CALLER
    routes: list[object] = field(default_factory=list)

    def route(self, sink: object, gain: float = 1.0) -> None:
        self.routes.append(sink)

    @property
    def sounds(self) -> int:
        """How often something of a sound was played."""
        return sum(item.startswith("sound-") for _, item, _ in self.given)


class Leg(FakeLeg):
    async def answer(self) -> None:
        self.stream = Stream()
        await super().answer()

    def relay(self) -> None:
        self.steps.append(("relay",))


class Desk(Leg):
    """Rings until the test has it answered."""

    outbound = True
    not_answered: CallNotAnsweredError | None = None

    def __init__(self) -> None:
        super().__init__()
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call = SimpleNamespace()

    def owns(self, call: object) -> bool:
        return call is self.call

    def begin(self, uplink: AudioFormat, downlink: AudioFormat, *, early_media: bool = False) -> None:
        super().begin(uplink, downlink)

    async def answer(self) -> None:
        await self.answered
        self.stream = Stream(handle=DESK)
        self.media_open.set()


class Handed(Call):
    """A call whose agent has announced a transfer, and whose desk is being called."""

    def __init__(self, how: str) -> None:
        self.desk = Desk()
        self.called: list[tuple[str, float]] = []
        super().__init__(HOW.format(how), leg=Leg(), second_leg=self._second_leg)

    def _second_leg(self, target: str, ring_seconds: float) -> OutboundLeg:
        self.called.append((target, ring_seconds))
        return cast(OutboundLeg, self.desk)

    async def asked(self, arguments: str = '{"target": "desk"}') -> Handed:
        await self.up()
        self.agent.emit(
            AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "transfer_call", arguments, "r1")
        )
        self.agent.emit(AssistantTurnEnd("r1"))
        await settle()
        self.session.media_event(Drained(CALLER, "i1"))
        await settle()
        return self

    async def picked_up(self) -> None:
        self.desk.answered.set_result(None)
        await settle()

    @property
    def caller(self) -> Stream:
        return cast(Stream, self.leg.stream)

    @property
    def at_desk(self) -> Stream:
        return cast(Stream, self.desk.stream)

    def commands(self, name: str) -> list[tuple[Any, ...]]:
        return [command for command in self.agent.commands if command[0] == name]

    def hears_the_caller(self) -> bool:
        self.session.media_event(Audio(CALLER, b"\x01\x02" * 320))
        return self.session._parts.agents.deaf is False


@virtual.timed
async def test_it_is_called_by_the_name_s_uri_and_for_as_long_as_it_may_ring() -> None:
    call = await Handed("via: bridge, ring_seconds: 12").asked()
    assert call.called == [("sip:100@pbx.example.com", 12)]
    assert call.caller.sounds == 2
    call.session.end(Ended.SHUTDOWN)
    await call.over()
    assert call.desk.steps[-1][0] == "close"


@virtual.timed
async def test_what_the_model_takes_back_while_it_rings_is_not_done() -> None:
    call = await Handed("via: bridge").asked()
    assert not call.hears_the_caller()
    call.agent.emit(ToolCallCancelled("t1"))
    await settle()
    assert call.desk.steps[-1][0] == "close"
    assert call.hears_the_caller()
    assert call.commands("result") == []
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_a_model_that_is_lost_while_it_rings_is_not_needed() -> None:
    call = await Handed("via: bridge").asked()
    call.agent.die()
    await virtual.pass_time(5)
    assert call.session._record.outcome is None
    await call.picked_up()
    assert (call.caller.routes, call.at_desk.routes) == ([call.at_desk], [call.caller])
    call.session.media_event(MediaTimeout(DESK, 30))
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.MEDIA_TIMEOUT, "desk: no audio for 30 s")


@virtual.timed
async def test_a_model_that_is_lost_while_it_rings_in_vain() -> None:
    call = await Handed("via: bridge").asked()
    call.agent.die()
    await settle()
    call.desk.answered.set_exception(CallNotAnsweredError("486 Busy Here", status=486, reason=None, rang=True))
    await virtual.pass_time(5)
    for _, item, _ in call.caller.given:
        call.session.media_event(Drained(CALLER, item))
    assert (await call.over()).ended is Ended.PROVIDER_FAILED


@virtual.timed
async def test_without_a_model_the_person_is_asked_in_our_words() -> None:
    call = await Handed("mode: attended").asked()
    call.agent.die()
    await call.picked_up()
    assert [item for _, item, _ in call.at_desk.given] == ["prompt-consult"]
    assert call.commands("say") == []
    call.session.media_event(KeyPressed(DESK, "1"))
    await settle()
    assert call.caller.routes == [call.at_desk]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_a_model_that_says_nothing_to_the_person_is_not_waited_for_for_ever() -> None:
    call = await Handed("mode: attended").asked('{"target": "desk", "summary": "An order."}')
    await call.picked_up()
    assert "An order. Press 1" in str(call.agent.commands)
    await virtual.pass_time(10.5)
    assert [item for _, item, _ in call.at_desk.given] == ["prompt-consult"]
    assert call.caller.sounds >= 2, "and the caller hears nothing of it"
    call.session.media_event(KeyPressed(DESK, "2"))
    await settle()
    assert "declined" in str(call.agent.commands[-2:])
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_who_takes_the_call_and_is_gone_in_the_same_moment() -> None:
    call = await Handed("mode: attended").asked()
    await call.picked_up()
    call.session.media_event(KeyPressed(DESK, "1"))
    call.session.sip_event(CallEnded(cast(Invite, call.desk.call), EndCause.REMOTE_BYE, None, "hung up"))
    await settle()
    assert "the call was not taken" in str(call.agent.commands[-2:])
    assert call.caller.routes == []
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_an_agent_that_cannot_be_told_what_to_say_is_not_waited_for() -> None:
    call = await Handed("mode: attended").asked()
    speaker = call.session._parts.agents.current
    assert speaker is not None
    speaker.capabilities = replace(speaker.capabilities, can_say=False)
    await call.picked_up()
    assert [item for _, item, _ in call.at_desk.given] == ["prompt-consult"]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_the_music_goes_on_after_a_word_of_the_agent_s() -> None:
    call = await Handed("via: bridge").asked()
    call.agent.emit(AssistantTurnStarted("r2"), speech("r2", "i2"), AssistantTurnEnd("r2"))
    await settle()
    assert (call.caller.sounds, call.caller.discards) == (2, 1)
    call.session.media_event(Drained(CALLER, "i2"))
    await settle()
    assert call.caller.sounds == 4
    await call.picked_up()
    call.session.media_event(Drained(CALLER, "i2"))
    assert call.caller.sounds == 4
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_keys_of_a_caller_who_waits_are_nobody_s() -> None:
    call = await Handed("via: bridge").asked()
    call.session.media_event(KeyPressed(CALLER, "5"))
    await virtual.pass_time(2)
    assert call.commands("text") == []
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_once_they_are_connected_the_agent_is_gone_and_the_longest_call_ends_all_the_same() -> None:
    call = await Handed("via: bridge").asked()
    await call.picked_up()
    assert call.agent.closed
    call.session.media_event(Audio(CALLER, bytes(640)))
    call.session.media_event(Audio(DESK, bytes(640)))
    await virtual.pass_time(575)
    for _ in range(30):  # what is said of it is heard
        for _, item, _ in list(call.caller.given):
            call.session.media_event(Drained(CALLER, item))
        await virtual.pass_time(2)
    report = await call.over()
    assert report.ended is Ended.TOO_LONG
    assert call.desk.steps[-1][0] == "close"
    assert [run.outcome for run in report.tool_runs] == ["ok"]


@virtual.timed
async def test_a_second_leg_without_keys_ends_the_call() -> None:
    call = await Handed("via: bridge").asked()
    await call.picked_up()
    call.session.media_event(EncryptionFailed(DESK, "no handshake"))
    assert (await call.over()).ended is Ended.ENCRYPTION_FAILED


@virtual.timed
async def test_a_refer_that_takes_its_time_is_waited_for_with_music() -> None:
    call = await Handed("via: refer").asked()
    assert call.caller.sounds == 0
    await virtual.pass_time(1.5)
    assert call.caller.sounds == 2
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("486 Busy Here")
    await settle()
    assert call.caller.discards == 1
    assert call.hears_the_caller()
    call.session.end(Ended.SHUTDOWN)
    await call.over()
