"""A model that listens while it speaks: the floor is its own, and what it says is heard soon or not at all."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sipbridge.agent import (
    AssistantAudio,
    AssistantInterrupted,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    UserSpeechStarted,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat, Played
from sipbridge.conversation.paced_speech import SPEECH_WAITS_MS, PacedSpeech
from sipbridge.media.events import Drained, KeyPressed
from sipbridge.media.pacer import Pacer
from sipbridge.media.stream import MediaStream
from sipbridge.outcome import Ended
from sipbridge.providers import register
from tests import virtual
from tests.call.fakes import Call, ScriptedAgent, settle


class Ring:
    """A stream that is a real ring; every 20 ms somebody hears a frame of it."""

    def __init__(self, audio: AudioFormat) -> None:
        self.pacer = Pacer(audio)
        self.heard: list[bytes | None] = []

    def play(self, pcm: bytes, reply_id: str, item_id: str) -> None:
        self.pacer.push(pcm, reply_id, item_id)

    def finish(self, item_id: str) -> None:
        self.pacer.finish(item_id)

    def discard(self) -> Sequence[Played]:
        return self.pacer.discard()

    def played(self) -> Sequence[Played]:
        return self.pacer.position()

    def started_at(self, item_id: str) -> float | None:
        return self.pacer.started_at(item_id)

    def hear(self, ms: int) -> None:
        for _ in range(0, ms, 20):
            self.heard.append(self.pacer.next_frame(20 * self.pacer.audio_format.bytes_per_ms))


class Bench:
    def __init__(self, audio: AudioFormat = PCMU) -> None:
        self.audio = audio
        self.ring = Ring(audio)
        self.paced = PacedSpeech(audio)

    def say(self, ms: int = 100, *, item: str = "i1", reply: str = "r1") -> None:
        self._play(b"\x11" * (ms * self.audio.bytes_per_ms), item, reply)

    def be_quiet(self, ms: int = 100, *, item: str = "i1", reply: str = "r1") -> None:
        self._play(self.audio.silence * (ms * self.audio.rate // 1000), item, reply)

    def _play(self, pcm: bytes, item: str, reply: str) -> None:
        self.paced.play(cast(MediaStream, self.ring), pcm, reply, item)

    @property
    def waiting_ms(self) -> float:
        return self.ring.pacer.waiting_ms


# --- the bound on what waits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [PCMU, PCMA, PCM_16K, PCM_24K])
def test_at_the_pace_of_speech_nothing_is_left_out(audio: AudioFormat) -> None:
    bench = Bench(audio)
    for _ in range(50):
        bench.say()
        bench.be_quiet()
        bench.ring.hear(200)
    assert bench.paced.skipped_ms == 0
    assert all(frame is not None for frame in bench.ring.heard)


@pytest.mark.parametrize("piece_ms", [20, 100])
def test_what_a_stalled_line_piled_up_is_not_waited_for(piece_ms: int) -> None:
    bench = Bench()
    for _ in range(3000 // piece_ms):  # all at once
        bench.say(piece_ms)
        assert bench.waiting_ms <= SPEECH_WAITS_MS + piece_ms
    for _ in range(50):
        bench.say(piece_ms)
        bench.ring.hear(piece_ms)
        assert bench.waiting_ms <= SPEECH_WAITS_MS + piece_ms
    assert bench.paced.skipped_ms >= 3000 - SPEECH_WAITS_MS - piece_ms


def test_silence_is_left_out_first() -> None:
    bench = Bench()
    bench.say(180)
    for _ in range(20):
        bench.be_quiet(20)
    bench.say(20)
    assert bench.waiting_ms == 200, "all that was said"
    assert bench.paced.skipped_ms == 400
    assert bench.ring.played() == (Played("r1", "i1", 0),), "nothing was thrown away"


def test_the_end_of_a_reply_is_still_told_after_something_was_thrown_away() -> None:
    bench = Bench()
    for _ in range(10):
        bench.say()
    bench.ring.finish("i1")
    bench.ring.hear(400)
    assert bench.ring.pacer.take_drained() == ["i1"]


def test_the_end_of_the_reply_before_is_not_thrown_away() -> None:
    bench = Bench()
    for _ in range(3):
        bench.say()
    bench.ring.finish("i1")
    for _ in range(20):
        bench.say(item="i2", reply="r2")
    assert bench.waiting_ms == 300
    bench.ring.hear(320)
    assert bench.ring.pacer.take_drained() == ["i1"]
    bench.say(item="i2", reply="r2")
    assert bench.waiting_ms == 100


def test_who_speaks_over_a_prompt_of_ours_is_not_heard_and_does_not_wait_behind_it() -> None:
    bench = Bench()
    bench.ring.play(b"\x22" * 8 * 2000, "notice", "notice")
    bench.ring.finish("notice")
    for _ in range(20):
        bench.say()
        bench.ring.hear(100)
    assert bench.ring.pacer.take_drained() == ["notice"]
    assert bench.paced.skipped_ms >= 1900
    bench.say()
    assert bench.waiting_ms <= 200


# --- the conversation -------------------------------------------------------------------------------------------------


class Duplex(ScriptedAgent):
    capabilities = replace(ScriptedAgent.capabilities, full_duplex=True)


TENANT = "agent: {provider: scripted_duplex}\ntools: {hang_up: {}}"


async def up(tenant: str = TENANT) -> tuple[Call, Ring]:
    register(cast(Any, Duplex), "scripted_duplex")
    call = await Call(tenant).up()
    ring = Ring(PCM_24K)
    call.leg.stream = cast(Any, ring)
    return call, ring


def speech(reply: str, ms: int = 100) -> AssistantAudio:
    return AssistantAudio(reply, f"{reply}-item", b"\x11" * (ms * 48))


def test_neither_speech_nor_keys_cut_what_is_being_said() -> None:
    async def scenario() -> None:
        call, ring = await up()
        call.agent.emit(AssistantTurnStarted("r1"), speech("r1"))
        await settle()
        call.agent.emit(UserSpeechStarted(), AssistantInterrupted("r1"))
        call.session.media_event(KeyPressed(1, "5"))
        await settle()
        assert ring.pacer.waiting_ms == 100
        await virtual.pass_time(2)
        assert call.agent.commands == [("text", "The caller pressed 5."), ("respond",)]
        call.agent.emit(speech("r1", 60))
        await settle()
        assert ring.pacer.waiting_ms == 160
        call.session.end(Ended.SHUTDOWN)
        report = await call.over()
        assert (report.barge_ins, report.late_bytes_dropped) == (0, 0)

    virtual.run(scenario())


def test_a_hang_up_waits_for_the_last_word() -> None:
    async def scenario() -> None:
        call, ring = await up()
        call.agent.emit(AssistantTurnStarted("r1"), speech("r1"), ToolCall("t1", "hang_up", "{}", "r1"))
        await virtual.pass_time(2)
        assert call.leg.steps[-1][0] == "200", "it is still speaking"
        ring.hear(100)
        call.agent.emit(AssistantTurnEnd("r1"))
        await settle()
        assert ring.pacer.take_drained() == ["r1-item"]
        call.session.media_event(Drained(1, "r1-item"))
        assert (await call.over()).ended is Ended.AGENT_HUNG_UP
        assert call.agent.commands == []

    virtual.run(scenario())


def test_a_greeting_waits_until_the_notice_was_heard(tmp_path: Path) -> None:
    async def scenario() -> None:
        register(cast(Any, Duplex), "scripted_duplex")
        wav = tmp_path / "notice.wav"
        write_wav(wav, seconds=1)
        tenant = f"agent: {{provider: scripted_duplex, greeting: Hello}}\nrecording: {{enabled: true, notice: '{wav}'}}"
        call = await Call(tenant).up()
        await virtual.pass_time(3)
        assert call.agent.commands == [], "what would be said now could not be heard"
        call.session.media_event(Drained(1, "notice"))
        await settle()
        assert call.agent.commands == [("say", "Hello")]
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())


def write_wav(path: Path, *, seconds: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24000)
        file.writeframes(bytes(48000 * seconds))
