"""False alarms, our own ear, turns that it ends: packet by packet, with models behind real WebSockets."""

from __future__ import annotations

import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipbridge.media import silero
from sipbridge.simulator.model import SessionRecord
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import Packet, is_loud
from tests.loopback.house import House, house
from tests.loopback.phone import Phone
from tests.loopback.sound import join, level_db, tone
from tests.loopback.test_barge_in import GREETING, NEW, OLD, TWO_REPLIES, Moment, assert_stopped, what_was_heard

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
STARTED, STOPPED = "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"
RECOVER = f"{GREETING}\nbarge_in: {{recover_false_alarms: true}}"
COUGH, SENTENCE = 0.25, 1.3


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Six seconds of which no two moments are alike."""
    samples = np.random.default_rng(7).normal(0, 6000, 6 * 8000).clip(-20000, 20000).astype("<i2")
    with wave.open(str(tmp_path / "noise.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())
    return tmp_path / "noise.wav"


async def begun(bench: House, hz: float | None = OLD) -> tuple[Phone, SessionRecord]:
    phone = await bench.phone()
    await phone.call()
    await phone.audio.hear_sound(10, hz=hz)
    return phone, await bench.session()


def detection(session: SessionRecord) -> Any:
    return session.messages("session.update")[0]["session"]["audio"]["input"]["turn_detection"]


def place(packet: Packet, said: np.ndarray[Any, Any]) -> int:
    """Which sample of what was said the packet begins with."""
    heard = packet.samples
    error = [float(np.abs(said[at : at + 160] - heard).mean()) for at in range(len(said) - 160)]
    best = int(np.argmin(error))
    assert error[best] < 0.01
    return best


async def test_a_backchannel_silences_the_agent_at_once_and_it_goes_on_where_it_stopped(noise: Path) -> None:
    script = Script((Utterance(wav=noise),), transcripts=("Mm-hm.",), speed=0)
    async with house(script, tenant=RECOVER) as bench:
        phone, session = await begun(bench, None)
        started, judged = Moment(session, STARTED), Moment(session, TRANSCRIBED)
        phone.audio.say(tone(1000, COUGH))
        at = await started.wait()
        verdict_at = await judged.wait()
        await phone.audio.hear(20)
        packets = list(phone.audio.audio())
        silent = [packet for packet in packets if at < packet.at < verdict_at and not is_loud(packet)]
        before = [packet for packet in packets if packet.at < silent[0].at and is_loud(packet)]
        after = [packet for packet in packets if packet.at > verdict_at and is_loud(packet)]
        assert silent[0].at - at < 0.045, "within one packet time, and what was on its way"
        assert after[0].at - verdict_at < 0.3
        with wave.open(str(noise)) as file:
            said = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        lost = place(after[1], said) - place(before[-2], said) - (len(before) - before.index(before[-2]) + 1) * 160
        assert abs(lost) <= 160, "at most 20 ms are repeated or lost"
        assert detection(session)["create_response"] is False
        await phone.hang_up()
        report = await bench.report()
        assert (report.barge_ins, report.false_alarms, report.replies) == (0, 1, 1)
        assert session.violations == []
        assert not session.messages("conversation.item.truncate")


@pytest.mark.parametrize("speed", [0.0, 2.0], ids=["done", "speaking"])
async def test_a_sentence_is_a_turn_and_is_answered_once(speed: float) -> None:
    script = Script(TWO_REPLIES, transcripts=("No, wait a moment.",), speed=speed)
    async with house(script, tenant=RECOVER) as bench:
        phone, session = await begun(bench)
        started = Moment(session, STARTED)
        phone.audio.say(tone(1000, SENTENCE))
        at = await started.wait()
        cut = await session.wait_for("conversation.item.truncate")
        await phone.audio.hear_sound(10, hz=NEW)
        heard = what_was_heard(phone, at)
        assert_stopped(heard, at)
        assert abs(cut["audio_end_ms"] - heard.heard_ms) <= 20
        await phone.hang_up()
        report = await bench.report()
        assert (report.barge_ins, report.false_alarms, report.replies) == (1, 0, 2)
        assert session.violations == []


async def test_what_is_shorter_than_the_debounce_is_not_noticed() -> None:
    script = Script((Utterance(seconds=2.5, tone_hz=OLD), *TWO_REPLIES[1:]), speed=0)
    async with house(script, tenant=f"{GREETING}\nbarge_in: {{debounce_ms: 500}}") as bench:
        phone, session = await begun(bench)
        stopped = Moment(session, STOPPED)
        phone.audio.say(tone(1000, COUGH))
        at = await stopped.wait()
        await phone.audio.hear(10)
        assert all(is_loud(packet, OLD) for packet in list(phone.audio.audio())[-5:])
        started = Moment(session, STARTED)
        session.sent.clear()
        phone.audio.say(tone(1000, 1.0))
        at = await started.wait()
        await phone.audio.hear_sound(10, hz=NEW)
        assert 0.3 < what_was_heard(phone, at).old[-1].at - at < 0.65
        await phone.hang_up()
        report = await bench.report()
        assert (report.barge_ins, report.replies) == (1, 2)
        assert session.violations == []


@pytest.mark.parametrize("vad", ["energy", "silero"])
async def test_our_own_ear_interrupts(vad: str) -> None:
    """A model that is deaf while it speaks, as far as anybody is told: nothing but our ear can be the reason."""
    spoken = voice() if vad == "silero" else tone(1000, 1.5)
    assert silero.trouble() == ""  # onnxruntime keeps a descriptor, which is not the call's
    script = Script(TWO_REPLIES, speed=0, vad_rms=1e9)
    async with house(script, tenant=f"{GREETING}\nbarge_in: {{source: local, vad: {vad}}}") as bench:
        phone, session = await begun(bench)
        assert detection(session)["interrupt_response"] is False
        at = time.monotonic()
        phone.audio.say(spoken)
        cut = await session.wait_for("conversation.item.truncate")
        took = time.monotonic() - at
        assert took < (0.2 if vad == "energy" else 1.0)
        await phone.audio.hear(5)
        heard = what_was_heard(phone, at)
        assert abs(cut["audio_end_ms"] - heard.heard_ms) <= 20
        await phone.hang_up()
        assert (await bench.report()).barge_ins == 1
        assert session.violations == []


@pytest.mark.parametrize("provider", ["openai", "gemini", pytest.param("dashscope", marks=pytest.mark.slow)])
async def test_our_own_ear_ends_turns(provider: str) -> None:
    """The model finds none: what the caller says is committed when he is silent, and answered."""
    script = Script((Utterance(seconds=0.4, tone_hz=OLD), Utterance(seconds=0.4, tone_hz=NEW)), speed=0, vad_rms=1e9)
    tenant = "agent: {api_key: k, turn_detection: {type: local_vad, silence_ms: 400}}"
    async with house(script, tenant=tenant, provider=provider) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        for hz in (OLD, NEW):
            phone.audio.say(tone(1000, 0.5))
            await phone.audio.said()
            at = time.monotonic()
            await phone.audio.hear_sound(8, hz=hz)
            assert 0.35 < first_sound(phone, at).at - at < 0.75
        await phone.hang_up()
        assert (await bench.report()).replies == 2
        assert session.violations == []


@pytest.mark.slow
async def test_the_embedded_model_is_told_its_turns_too() -> None:
    tenant = "agent: {greeting: Hello., turn_detection: {type: local_vad}}\nbarge_in: {recover_false_alarms: true}"
    async with house(tenant=tenant, provider="offline") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5)
        phone.audio.say(tone(1000, COUGH))
        await phone.audio.said()
        await phone.audio.hear(40)
        phone.audio.say(tone(1000, SENTENCE))
        await phone.audio.hear_sound(8, hz=1000, within=8)  # it repeats what it has heard
        await phone.hang_up()
        report = await bench.report()
        assert (report.barge_ins, report.false_alarms) == (1, 1)


def first_sound(phone: Phone, at: float) -> Packet:
    return next(packet for packet in phone.audio.audio() if packet.at > at and is_loud(packet))


@pytest.mark.parametrize("provider", [pytest.param("openai", marks=pytest.mark.slow), "gemini"])
async def test_turns_by_our_own_ear_may_be_false_alarms(provider: str) -> None:
    script = Script(TWO_REPLIES, speed=0, vad_rms=1e9)
    agent = "{api_key: k, greeting: Hello., turn_detection: {type: local_vad}}"
    tenant = f"agent: {agent}\nbarge_in: {{recover_false_alarms: true}}"
    async with house(script, tenant=tenant, provider=provider) as bench:
        phone, session = await begun(bench)
        phone.audio.say(tone(1000, COUGH))
        await phone.audio.said()
        paused_at = time.monotonic()
        await phone.audio.hear_sound(5, hz=OLD)
        assert 0.2 < first_sound(phone, paused_at).at - paused_at < 0.8
        phone.audio.say(tone(1000, SENTENCE))
        await phone.audio.hear_sound(8, hz=NEW, within=5)
        await phone.hang_up()
        report = await bench.report()
        assert (report.barge_ins, report.false_alarms, report.replies) == (1, 1, 2)
        assert session.violations == []


async def test_of_several_items_each_is_cut_where_it_was_heard() -> None:
    """The reply that is heard, and the next one, which waits behind it."""
    script = Script(
        (Utterance(seconds=3, tone_hz=OLD), Utterance(seconds=2, tone_hz=OLD), Utterance(seconds=0.3, tone_hz=NEW)),
        speed=0,
        tools={0: ToolUse("no_such_tool", spoken=True)},
    )
    async with house(script) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        phone.audio.say(tone(1000, 0.2))
        await session.wait_for("response.create")
        await phone.audio.hear_sound(20, hz=OLD)
        phone.audio.say(tone(1000, 0.3))
        first, second = [await session.wait_for("conversation.item.truncate", count) for count in (1, 2)]
        await phone.audio.hear_sound(8, hz=NEW)
        heard = what_was_heard(phone, time.monotonic())
        assert first["item_id"] != second["item_id"]
        assert abs(first["audio_end_ms"] - heard.heard_ms) <= 20
        assert second["audio_end_ms"] == 0
        assert session.violations == []
        await phone.hang_up()


def voice() -> np.ndarray[Any, Any]:
    """Something that a network takes for speech: a sentence that ships with sipbridge."""
    from sipbridge.prompts import load_prompt

    pcm = np.frombuffer(load_prompt("greeting", 8000), "<i2")
    return join([pcm[: 3 * 8000] / 32768])


async def test_the_fade_may_be_left_out() -> None:
    async with house(Script(TWO_REPLIES, speed=0), tenant=f"{GREETING}\nbarge_in: {{fade_ms: 0}}") as bench:
        phone, session = await begun(bench)
        phone.audio.press("5")
        await session.wait_for("conversation.item.truncate")
        await phone.audio.hear(5)
        last = what_was_heard(phone, time.monotonic()).old[-1].samples
        assert level_db(last[80:]) > -30, "it ends with a whole packet"
        await phone.hang_up()


@pytest.mark.slow
async def test_where_our_ear_is_the_only_one_the_other_parts_hear_by_it() -> None:
    """A caller who speaks all the time is not asked whether he is there."""
    tenant = "agent: {turn_detection: {type: local_vad, silence_ms: 2000}}\nsilence: {seconds: 1, prompts: [Hello]}"
    async with house(Script((Utterance(seconds=0.2, tone_hz=NEW),), vad_rms=1e9), tenant=tenant) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        phone.audio.say(tone(1000, 2.2))
        await phone.audio.said()
        assert not session.messages("response.create")
        await phone.audio.hear_sound(5, hz=NEW)
        await phone.hang_up()
