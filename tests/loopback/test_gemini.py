"""Whole calls with Gemini: a wire without speech events, without cancel, and whose turns end when they were heard."""

from __future__ import annotations

import time

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.gemini_server import GeminiModel
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.house import house, within
from tests.loopback.phone import Phone
from tests.loopback.sound import tone
from tests.loopback.test_barge_in import assert_stopped, what_was_heard
from tests.loopback.test_tools import assert_heard_whole
from tests.providers.genai_sdk import check_client_event, check_server_event

OLD, NEW = 440, 700
TENANT = "{agent: {greeting: Hello., api_key: key-0123456789}, tools: {hang_up: {}}}"
VERTEX = """
agent:
  greeting: Hello.
  model: gemini-live-2.5-flash-native-audio
  vertex: {project: acme, location: global, token: ya29.0123456789}
tools: {hang_up: {}}
"""
GOODBYE = Utterance("Goodbye.", seconds=0.4, tone_hz=500)


def vertex(model: ModelServer) -> str:
    return model.url.replace(GeminiModel.path, GeminiModel.vertex_path)


async def interrupted(phone: Phone, session: SessionRecord) -> float:
    """When the model was interrupted by the caller."""
    phone.audio.say(tone(1000, 0.25))
    await session.wait_until(lambda: {"serverContent": {"interrupted": True}} in session.sent)
    return time.monotonic()


def judge(session: SessionRecord, *, vertex: bool = False) -> None:
    assert session.violations == []
    for entry in session.received:
        check_client_event(entry.message, vertex=vertex)
    for message in session.sent:
        check_server_event(message, vertex=vertex)


@pytest.mark.parametrize("speed", [0.0, 2.0], ids=["generated", "generating"])
async def test_a_call_is_greeted_interrupts_and_is_hung_up(speed: float) -> None:
    utterances = (Utterance(seconds=6, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW))
    script = Script(utterances, speed=speed, tools={2: ToolUse("hang_up", '{"reason": "done"}')})
    async with house(script, tenant=TENANT, provider="gemini") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=OLD)
        session = await bench.session()
        at = await interrupted(phone, session)
        await phone.audio.hear_sound(10, hz=NEW)
        assert_stopped(what_was_heard(phone, at), at)
        phone.audio.say(tone(1000, 0.1))
        bye = await phone.expect("BYE")
        assert bye["Reason"].startswith("Q.850;cause=16")
        report = await bench.report()
        assert report.ended is Ended.AGENT_HUNG_UP
        await within(1.0, session.closed)
        judge(session)


@pytest.mark.parametrize("behavior", ["blocking", "non_blocking"])
@pytest.mark.parametrize("spoken", [True, False], ids=["in the same reply", "asked for"])
async def test_hang_up_lets_the_goodbye_be_heard(spoken: bool, behavior: str) -> None:
    script = Script((GOODBYE,), speed=0, tools={0: ToolUse("hang_up", '{"reason": "done"}', spoken=spoken)})
    tenant = f"{{agent: {{tool_behavior: {behavior}, api_key: key-0123456789}}, tools: {{hang_up: {{}}}}}}"
    async with house(script, tenant=tenant, provider="gemini") as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        bye = await phone.expect("BYE")
        assert_heard_whole(phone, 0.4, 500, bye.at)
        assert (await bench.report()).ended is Ended.AGENT_HUNG_UP
        session = await bench.session()
        await within(1.0, session.closed)
        judge(session)


async def test_keys_are_told_and_answered_on_vertex() -> None:
    script = Script((Utterance(seconds=6, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW)), speed=0)
    async with house(script, tenant=VERTEX, provider="gemini", url=vertex) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=OLD)
        phone.audio.press("1")
        await phone.audio.hear_sound(10, hz=NEW)
        session = await bench.session()
        assert "pressed 1" in str(session.messages("clientContent"))
        await phone.hang_up()
        await within(1.0, session.closed)
        judge(session, vertex=True)
