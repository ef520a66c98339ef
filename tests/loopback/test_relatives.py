"""Whole calls with models of the older shape: the caller notices nothing of it, and they refuse nothing we say."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.house import house, within
from tests.loopback.sound import tone
from tests.loopback.test_barge_in import assert_stopped, interrupt_by_speech, what_was_heard

OLD, NEW = 440, 700
TENANT = "{agent: {greeting: Hello., api_key: key-0123456789}, tools: {hang_up: {}}}"


@pytest.mark.parametrize(
    ("provider", "speed"),
    [
        pytest.param("dashscope", 0.0, id="dashscope-done"),
        pytest.param("dashscope", 2.0, id="dashscope-speaking", marks=pytest.mark.slow),
        pytest.param("azure_voice_live", 0.0, id="azure_voice_live-done", marks=pytest.mark.slow),
        pytest.param("azure_voice_live", 2.0, id="azure_voice_live-speaking"),
    ],
)
async def test_a_call_is_greeted_interrupts_and_is_hung_up(provider: str, speed: float) -> None:
    utterances = (Utterance(seconds=6, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW))
    script = Script(utterances, speed=speed, tools={2: ToolUse("hang_up", '{"reason": "done"}')})
    async with house(script, tenant=TENANT, provider=provider) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=OLD)
        session = await bench.session()
        at = await interrupt_by_speech(phone, session)
        await phone.audio.hear_sound(10, hz=NEW)
        assert_stopped(what_was_heard(phone, at), at)
        phone.audio.say(tone(1000, 0.1))
        bye = await phone.expect("BYE")
        assert bye["Reason"].startswith("Q.850;cause=16")
        report = await bench.report()
        assert report.ended is Ended.AGENT_HUNG_UP
        await within(1.0, session.closed)
        assert session.violations == []
        assert bool(session.messages("conversation.item.truncate")) is (provider == "azure_voice_live")
