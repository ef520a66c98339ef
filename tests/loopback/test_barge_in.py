"""The caller interrupts: what is heard after that, and what the model is told of it. Packet by packet."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from sipbridge.simulator import model as simulator
from sipbridge.simulator.model import SessionRecord
from sipbridge.simulator.openai_server import OpenAIModel
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import Packet, is_loud
from tests.loopback.house import House, house
from tests.loopback.phone import Phone
from tests.loopback.sound import join, level_db, snr_db, tone

OLD, NEW = 440, 700
TWO_REPLIES = (Utterance(seconds=6, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW))
GREETING = "agent: {greeting: Hello.}"
DONE, SPEAKING = 0.0, 2.0
"""Speed of generation: the reply is long done when it is interrupted, or still being generated."""


class Moment:
    """When the model first sent an event of this type."""

    def __init__(self, session: SessionRecord, kind: str) -> None:
        self.at = 0.0
        self._session = session
        self._kind = kind

    async def wait(self) -> float:
        await self._session.wait_until(self._look)
        return self.at

    def _look(self) -> bool:
        """Called by the record with every message, as it is sent."""
        if not self.at and any(message["type"] == self._kind for message in self._session.sent):
            self.at = time.monotonic()
        return bool(self.at)


@dataclass
class Interruption:
    """What the phone heard around it."""

    old: list[Packet]
    after: list[Packet]
    """Of the old ones, those that came after the model had spoken up."""

    @property
    def heard_ms(self) -> int:
        """The last packet is half a fade and half silence, unless nothing was playing any more."""
        return 20 * len(self.old) - (10 if level_db(self.old[-1].samples[80:]) < -90 else 0)


async def interrupt_by_speech(phone: Phone, session: SessionRecord) -> float:
    moment = Moment(session, "input_audio_buffer.speech_started")
    phone.audio.say(tone(1000, 0.25))
    return await moment.wait()


def what_was_heard(phone: Phone, at: float) -> Interruption:
    old = [packet for packet in phone.audio.audio() if is_loud(packet) and not is_loud(packet, NEW)]
    return Interruption(old, [packet for packet in old if packet.at > at])


def assert_stopped(heard: Interruption, at: float) -> None:
    """One packet may have been on its way; then the fade, at most 10 ms of it, and silence."""
    assert len(heard.after) <= 2
    assert heard.old[-1].at - at < 0.045
    fade = heard.old[-1].samples
    assert level_db(fade[80:]) < -90, "the second half of the last packet is silent"
    assert abs(fade[79]) < 0.02, "it has faded out"
    steps = [abs(fade[start : start + 20]).max() for start in (0, 20, 40, 60)]
    assert steps == sorted(steps, reverse=True)


async def truncation(bench: House) -> dict[str, Any]:
    return await (await bench.session()).wait_for("conversation.item.truncate")


@pytest.mark.parametrize("native", ["true", "false"], ids=["native", "pcm"])
@pytest.mark.parametrize("speed", [DONE, SPEAKING], ids=["done", "speaking"])
async def test_the_caller_interrupts_by_speaking(speed: float, native: str) -> None:
    tenant = f"agent: {{greeting: Hello., native_audio: {native}}}"
    async with house(Script(TWO_REPLIES, speed=speed), tenant=tenant) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(10, hz=OLD)
        at = await interrupt_by_speech(phone, session)
        await phone.audio.hear_sound(14, hz=NEW)
        await phone.hang_up()
        heard = what_was_heard(phone, at)
        assert_stopped(heard, at)
        cut = await truncation(bench)
        assert abs(cut["audio_end_ms"] - heard.heard_ms) <= 20
        assert session.violations == []
        assert not session.messages("response.cancel"), "the server has cut its reply by itself"
        report = await bench.report()
        assert report.barge_ins == 1
        assert report.replies == 2
        new = [packet.samples for packet in phone.audio.audio() if is_loud(packet, NEW)]
        assert snr_db(join(new[1:-1]), NEW) > 30


async def test_a_key_interrupts_and_the_model_is_told_to_stop() -> None:
    async with house(Script(TWO_REPLIES, speed=SPEAKING), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(10, hz=OLD)
        phone.audio.press("5")
        at = time.monotonic()
        await session.wait_for("response.cancel")
        cut = await truncation(bench)
        await phone.audio.hear_sound(5, hz=NEW)
        heard = what_was_heard(phone, at)
        assert_stopped(heard, at + 0.01)  # the engine reads its sockets every 5 ms
        assert abs(cut["audio_end_ms"] - heard.heard_ms) <= 20
        assert session.violations == []
        await phone.hang_up()


class LateModel(OpenAIModel):
    """Its reply goes on for a while after it was cut: these deltas were under way."""

    def _cut(self, reason: str) -> None:
        reply = self._reply
        if reply is not None:
            for _ in range(10):
                reply.say("", reply.plan.audio[:800])
        super()._cut(reason)


@pytest.mark.parametrize("by", ["speech", "key"])
async def test_late_deltas_of_a_cut_reply_are_dropped_and_counted(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulator.WIRES, "openai", LateModel)
    async with house(Script(TWO_REPLIES, speed=SPEAKING), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(10, hz=OLD)
        if by == "speech":
            at = await interrupt_by_speech(phone, session)
        else:
            phone.audio.press("1")
            at = time.monotonic() + 0.01
        await phone.audio.hear_sound(14, hz=NEW, within=4)
        assert_stopped(what_was_heard(phone, at), at)
        assert session.violations == []
        await phone.hang_up()
        assert (await bench.report()).late_bytes_dropped in (8000, 8800)  # one may have been under way


async def test_who_speaks_into_silence_interrupts_nothing() -> None:
    async with house(Script((Utterance(seconds=0.2, tone_hz=NEW),))) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        phone.audio.say(tone(1000, 0.2))
        await phone.audio.hear_sound(10, hz=NEW)
        await phone.hang_up()
        assert (await bench.report()).barge_ins == 0
        assert not session.messages("conversation.item.truncate")


async def test_where_barge_in_is_off_the_agent_is_heard_out() -> None:
    script = Script((Utterance(seconds=0.6, tone_hz=OLD), Utterance(seconds=0.2, tone_hz=NEW)), speed=DONE)
    async with house(script, tenant=f"{GREETING}\nbarge_in: {{enabled: false}}") as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        detection = session.messages("session.update")[0]["session"]["audio"]["input"]["turn_detection"]
        assert detection["interrupt_response"] is False
        await phone.audio.hear_sound(5, hz=OLD)
        phone.audio.say(tone(1000, 0.2))
        await phone.audio.hear_sound(9, hz=NEW)
        loud = [packet for packet in phone.audio.audio() if is_loud(packet)]
        assert sum(is_loud(packet, OLD) for packet in loud) >= 28
        assert (await bench.session()).violations == []
        await phone.hang_up()
        assert (await bench.report()).barge_ins == 0


async def test_a_protected_greeting_is_heard_out() -> None:
    script = Script((Utterance(seconds=0.6, tone_hz=OLD), Utterance(seconds=0.2, tone_hz=NEW)), speed=DONE)
    async with house(script, tenant=f"{GREETING}\nbarge_in: {{protect_greeting_ms: 2000}}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=OLD)
        phone.audio.say(tone(1000, 0.2))
        await phone.audio.hear_sound(9, hz=NEW)
        assert sum(is_loud(packet, OLD) for packet in phone.audio.audio()) >= 28
        await phone.hang_up()


async def test_interrupted_again_and_again() -> None:
    """Each reply is cut in its turn; the one that plays to its end is not."""
    script = Script(tuple(Utterance(seconds=4, tone_hz=hz) for hz in (440, 520, 610)), speed=DONE)
    async with house(script, tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        for number, hz in enumerate((440, 520, 610)):
            await phone.audio.hear_sound(5, hz=hz)
            if number < 2:
                phone.audio.say(tone(1000, 0.1))
        cuts = [await session.wait_for("conversation.item.truncate", count) for count in (1, 2)]
        assert len({cut["item_id"] for cut in cuts}) == 2
        assert session.violations == []
        await phone.hang_up()
        assert (await bench.report()).barge_ins == 2


async def test_speech_interrupts_what_is_said_before_a_tool_is_called() -> None:
    script = Script(TWO_REPLIES, speed=DONE, tools={1: ToolUse("no_such_tool", spoken=True)})
    async with house(script, tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(5, hz=OLD)
        await interrupt_by_speech(phone, session)
        result = await session.wait_for("conversation.item.create")
        assert "there is no tool" in result["item"]["output"]
        await phone.hang_up()
        assert session.violations == []
