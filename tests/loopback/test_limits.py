"""What ends a call by itself, as the phone hears it: a word first, the goodbye whole, then BYE with its reason."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Message, Phone
from tests.loopback.sound import tone
from tests.loopback.test_transfers import BLIND, bridged, calling

FAREWELL = "agent: {farewell: Goodbye.}"
FIRST, SECOND, THIRD = 500, 700, 900
SCRIPT = Script(tuple(Utterance(seconds=0.2, tone_hz=hz) for hz in (FIRST, SECOND, THIRD)), speed=0)


def said(messages: list[dict[str, dict[str, str]]]) -> list[str]:
    """What the agent was asked to say."""
    asked = (message.get("response", {}).get("instructions", "") for message in messages)
    return [instructions.rpartition("\n\n")[2] for instructions in asked if instructions]


async def ended(bench: House, phone: Phone, reason: Ended, last: float) -> Message:
    """The goodbye was heard whole, and everything is told of it."""
    bye = await phone.expect("BYE")
    heard = [packet for packet in phone.audio.audio() if is_loud(packet, last)]
    assert len(heard) == pytest.approx(10, abs=1)
    assert heard[-1].at < bye.at
    assert reason.value in bye["Reason"]
    report = await bench.report()
    assert report.ended is reason
    session = await bench.session()
    await within(1.0, session.closed)
    assert session.violations == []
    return bye


async def test_the_tenants_length_with_a_warning() -> None:
    limits = "limits: {call_seconds: 1.2, warning_seconds: 0.8, warning: Nearly over.}"
    async with house(SCRIPT, tenant=f"{FAREWELL}\n{limits}") as bench:
        phone = await bench.phone()
        answered = await phone.call()
        await phone.audio.hear_sound(8, hz=FIRST)
        bye = await ended(bench, phone, Ended.TOO_LONG, SECOND)
        assert 1.2 < bye.at - answered.at < 2.2
        assert said((await bench.session()).messages("response.create")) == ["Nearly over.", "Goodbye."]


async def test_silence() -> None:
    silence = "silence: {seconds: 0.3, prompts: [Hello., Still there.]}"
    async with house(SCRIPT, tenant=f"{FAREWELL}\n{silence}") as bench:
        phone = await bench.phone()
        answered = await phone.call()
        bye = await ended(bench, phone, Ended.CALLER_SILENT, THIRD)
        assert bye.at - answered.at > 3 * 0.3 + 3 * 0.2
        assert said((await bench.session()).messages("response.create")) == ["Hello.", "Still there.", "Goodbye."]


async def test_who_answers_is_not_hung_up_on() -> None:
    silence = "silence: {seconds: 0.4, prompts: [Hello.]}"
    async with house(Script((Utterance(seconds=0.1, tone_hz=FIRST),), speed=0), tenant=silence) as bench:
        phone = await bench.phone()
        await phone.call()
        for _ in range(3):
            await phone.audio.hear_sound(3, hz=FIRST)  # the question
            phone.audio.say(tone(1000, 0.1))
            await phone.audio.hear_sound(3, hz=FIRST)  # the model's answer
        assert not [message for message in phone.messages if message.start_line.startswith("BYE")]
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_what_a_call_may_cost() -> None:
    prices = "prices: {openai: {'*': {output_tokens: 1000000}}}"
    async with house(SCRIPT, tenant=f"{FAREWELL}\nlimits: {{spend_per_call: 1}}", config=prices) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(8, hz=FIRST)
        await ended(bench, phone, Ended.SPEND_LIMIT, SECOND)


async def test_two_machines() -> None:
    """This phone says the same again and again, and so does the model."""
    script = Script((Utterance("Sorry?", seconds=0.1, tone_hz=FIRST),), speed=0, transcripts=("Press nine.",))
    async with house(script, tenant="limits: {loop_turns: 3}") as bench:
        phone = await bench.phone()
        await phone.call()
        for _ in range(4):
            phone.audio.say(tone(1000, 0.1))
            await phone.audio.hear_sound(3, hz=FIRST)
        bye = await phone.expect("BYE", within=5)
        assert "loop_detected" in bye["Reason"]
        report = await bench.report()
        assert (report.ended, report.detail) == (Ended.LOOP_DETECTED, "nothing new was said in 3 turns")


async def test_who_was_handed_over_is_not_asked_whether_he_is_there_and_ends_in_time() -> None:
    """Over us, so that this call goes on: without an agent, and without anybody who would wait for a word."""
    limits = "silence: {seconds: 0.5}\nlimits: {call_seconds: 4, warning_seconds: 3}"
    async with calling(BLIND, tenant=limits) as (bench, phone, desk):
        await bridged(phone, desk)
        bye = await phone.expect("BYE", within=8)
        assert "too_long" in bye["Reason"]
        await desk.expect("BYE")
        assert (await bench.report()).ended is Ended.TOO_LONG


async def test_who_is_on_hold_is_not_asked_whether_he_is_there() -> None:
    script = Script((Utterance(seconds=0.1, tone_hz=FIRST),), speed=0, tools={0: ToolUse("hold", spoken=True)})
    tenant = "tools: {hold: {seconds: 1.5}}\nsilence: {seconds: 0.4, prompts: [Hello.]}"
    async with house(script, tenant=tenant) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(3, hz=FIRST)
        session = await bench.session()
        await session.wait_for("conversation.item.create")  # "1.5 seconds are over"
        assert said(session.messages("response.create")) == []
        await phone.hang_up()
