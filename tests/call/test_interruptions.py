"""The caller speaks while the agent does, from the model's or our own ear's word to what is played, in virtual time."""

from __future__ import annotations

import pytest

from sipbridge.agent import (
    AssistantAudio,
    AssistantInterrupted,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCM_24K, Played
from sipbridge.media.events import Drained, KeyPressed, SpeechEnded, SpeechStarted
from sipbridge.media.silero import SileroVad
from sipbridge.media.vad import Vad
from sipbridge.outcome import Ended
from tests.call.fakes import Call, ScriptedAgent, settle
from tests.virtual import pass_time, timed

RECOVER = "agent: {provider: scripted}\nbarge_in: {recover_false_alarms: true}"


@pytest.fixture(autouse=True)
def _judged_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    can = Capabilities(
        input_format=PCM_16K, output_format=PCM_24K, can_leave_interrupting=True, can_leave_answering=True
    )
    monkeypatch.setattr(ScriptedAgent, "capabilities", can)


async def speaking(tenant: str) -> Call:
    """The agent has said two items, of which the caller has heard a part of the first."""
    call = await Call(tenant).up()
    await emit(
        call,
        AssistantTurnStarted("r1"),
        AssistantAudio("r1", "i1", bytes(4800)),
        AssistantAudio("r1", "i2", bytes(4800)),
        AssistantTurnEnd("r1"),
    )
    call.stream.heard = (Played("r1", "i1", 60), Played("r1", "i2", 0))
    return call


async def emit(call: Call, *events: object) -> None:
    call.agent.emit(*events)  # type: ignore[arg-type]
    await settle()


def commands(call: Call) -> list[str]:
    return [name for name, *_ in call.agent.commands]


async def hang_up(call: Call) -> tuple[int, int]:
    call.session.end(Ended.CALLER_HUNG_UP)
    report = await call.over()
    return report.barge_ins, report.false_alarms


@timed
async def test_a_backchannel_silences_the_agent_and_it_goes_on() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted(0, "u1"))
    assert call.stream.moves == ["pause"]
    await pass_time(0.8)
    await emit(call, UserSpeechEnded(), UserTranscript("Mm-hm.", final=True, item_id="u1"))
    assert call.stream.moves == ["pause", "resume"]
    await pass_time(5)
    assert commands(call) == []
    assert await hang_up(call) == (0, 1)


@timed
async def test_an_interruption_is_told_with_what_was_heard_and_answered_once() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted(0, "u1"))
    await emit(call, UserTranscript("No, wait", final=False, item_id="u1"))
    assert call.stream.moves == ["pause", "discard"]
    assert call.agent.commands == [("cancel", (Played("r1", "i1", 60), Played("r1", "i2", 0)))]
    await emit(call, UserSpeechEnded())
    await emit(call, UserTranscript("No, wait a moment.", final=True, item_id="u1"))
    await pass_time(5)
    assert commands(call) == ["cancel", "respond"]
    assert await hang_up(call) == (1, 0)


@timed
async def test_speech_that_lasts_needs_no_words() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted())
    await pass_time(0.9)
    assert call.stream.moves == ["pause"]
    await pass_time(0.2)
    assert call.stream.moves == ["pause", "discard"]
    await hang_up(call)


@timed
async def test_a_cough_of_which_nothing_is_heard_again() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted(0, "u1"))
    await pass_time(0.7)
    await emit(call, UserSpeechEnded())
    await pass_time(1.1)
    assert call.stream.moves == ["pause", "resume"]
    await emit(call, UserTranscript("Stop that.", final=True, item_id="u1"))
    assert call.stream.moves == ["pause", "resume", "discard"], "late words count as well"
    await settle()
    assert commands(call) == ["cancel", "respond"]
    await hang_up(call)


@timed
async def test_late_words_of_an_earlier_turn_decide_nothing() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted(0, "u1"), UserSpeechEnded(), UserTranscript("mhm", final=True, item_id="u1"))
    await pass_time(1)
    await emit(call, UserSpeechStarted(0, "u2"))
    await emit(call, UserTranscript("What about tomorrow?", final=True, item_id="u1"))
    assert call.stream.moves[-1] == "pause"
    await hang_up(call)


@timed
async def test_a_turn_spoken_to_silence_is_answered() -> None:
    call = await Call(RECOVER).up()
    await emit(call, UserSpeechStarted(), UserSpeechEnded(), UserTranscript("Yes.", final=True))
    assert commands(call) == ["respond"]
    await hang_up(call)


@timed
async def test_a_yes_just_before_the_agent_has_finished_is_an_answer() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted(0, "u1"))
    await emit(call, UserSpeechEnded(), UserTranscript("Yes.", final=True, item_id="u1"))
    await pass_time(0.3)
    assert commands(call) == []
    for item in ("i1", "i2"):
        call.session.media_event(Drained(1, item))
    assert commands(call) == ["respond"]
    await hang_up(call)


@timed
async def test_a_cough_just_before_is_none() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted(0, "u1"))
    await emit(call, UserSpeechEnded(), UserTranscript("", final=True, item_id="u1"))
    for item in ("i1", "i2"):
        call.session.media_event(Drained(1, item))
    assert commands(call) == []
    await hang_up(call)


@timed
async def test_a_key_in_a_pause_needs_no_verdict() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted())
    call.session.media_event(KeyPressed(1, "5"))
    assert call.stream.moves == ["pause", "discard"]
    await hang_up(call)


@timed
async def test_the_model_is_told_to_leave_it_to_us() -> None:
    call = await Call(RECOVER).up()
    told = call.agent.options.turn_detection
    assert (told.interrupt_response, told.create_response) == (False, False)
    await hang_up(call)
    call = await Call().up()
    told = call.agent.options.turn_detection
    assert (told.interrupt_response, told.create_response) == (True, True)
    assert call.stream.detector is None
    await hang_up(call)


@timed
async def test_a_server_that_cuts_by_itself_needs_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedAgent, "capabilities", Capabilities())
    call = await speaking(RECOVER)
    assert call.agent.options.turn_detection.interrupt_response
    await emit(call, UserSpeechStarted())
    assert call.stream.moves == ["discard"]
    await emit(call, UserSpeechEnded(), AssistantInterrupted("r1"))
    assert commands(call) == ["cancel"], "and it answers by itself"
    await hang_up(call)


@timed
async def test_our_own_ear_may_lead() -> None:
    call = await speaking("agent: {provider: scripted}\nbarge_in: {source: local}")
    assert isinstance(call.stream.detector, Vad)
    assert not call.agent.options.turn_detection.interrupt_response
    await emit(call, UserSpeechStarted())
    assert call.stream.moves == [], "the model is not asked"
    call.session.media_event(SpeechStarted(1))
    assert call.stream.moves == ["discard"]
    await emit(call, UserSpeechEnded())
    assert commands(call) == ["cancel"], "it answers by itself"
    await hang_up(call)


@timed
async def test_the_ear_may_be_a_network() -> None:
    call = await speaking("agent: {provider: scripted}\nbarge_in: {source: local, vad: silero}")
    assert isinstance(call.stream.detector, SileroVad)
    await hang_up(call)


@timed
async def test_what_is_shorter_than_the_debounce_interrupts_nothing_and_is_not_answered() -> None:
    call = await speaking("agent: {provider: scripted}\nbarge_in: {debounce_ms: 400}")
    assert isinstance(call.stream.detector, Vad)
    await emit(call, UserSpeechStarted(0, "u1"))
    call.session.media_event(SpeechStarted(1))
    await pass_time(0.3)
    call.session.media_event(SpeechEnded(1))
    await pass_time(0.4)
    await emit(call, UserSpeechEnded())
    await pass_time(2)
    assert call.stream.moves == []
    assert commands(call) == []
    await emit(call, UserSpeechStarted(0, "u2"))
    await pass_time(0.5)
    assert call.stream.moves == ["discard"]
    await emit(call, UserSpeechEnded())
    assert commands(call) == ["cancel", "respond"]
    await hang_up(call)


@timed
async def test_our_ear_ends_turns() -> None:
    call = await Call("agent: {provider: scripted, turn_detection: {type: local_vad, silence_ms: 600}}").up()
    assert call.agent.options.turn_detection.type == "none"
    call.session.media_event(SpeechStarted(1))
    call.session.media_event(SpeechEnded(1))
    await pass_time(0.3)
    call.session.media_event(SpeechStarted(1))  # it was a breath
    await pass_time(0.5)
    call.session.media_event(SpeechEnded(1))
    await pass_time(0.4)
    assert commands(call) == []
    await pass_time(0.1)
    assert commands(call) == ["commit"]
    await hang_up(call)


@timed
async def test_turns_that_our_ear_ends_may_interrupt_and_may_be_false_alarms() -> None:
    tenant = "{provider: scripted, turn_detection: {type: local_vad, silence_ms: 600}}"
    call = await speaking(f"agent: {tenant}\nbarge_in: {{recover_false_alarms: true}}")
    call.session.media_event(SpeechStarted(1))
    await pass_time(0.4)
    call.session.media_event(SpeechEnded(1))
    await pass_time(2)
    assert call.stream.moves == ["pause", "resume"]
    call.session.media_event(SpeechStarted(1))
    await pass_time(1.2)
    call.session.media_event(SpeechEnded(1))
    await pass_time(1)
    assert call.stream.moves == ["pause", "resume", "pause", "discard"]
    assert commands(call) == ["cancel", "commit"]
    await hang_up(call)


@timed
async def test_a_first_word_that_ends_a_waiting_sound_does_not_end_the_pause() -> None:
    call = await Call(RECOVER).up()
    await emit(call, AssistantTurnStarted("r1"), UserSpeechStarted())
    assert call.stream.moves == ["pause"]
    call.session._sounds.loop(lambda rate: bytes(rate))
    await emit(call, AssistantAudio("r1", "i1", bytes(4800)))
    assert call.stream.moves[-2:] == ["discard", "pause"]
    await hang_up(call)


@timed
async def test_nothing_is_left_of_a_call_that_ends_in_a_pause() -> None:
    call = await speaking(RECOVER)
    await emit(call, UserSpeechStarted())
    assert await hang_up(call) == (0, 0)
    await pass_time(10)
    assert call.stream.moves == ["pause"]


@timed
async def test_a_reply_that_stalls_after_a_false_alarm_is_missed() -> None:
    call = await Call(f"{RECOVER}\ndeadlines: {{first_audio_seconds: 3}}").up()
    await emit(call, AssistantTurnStarted("r1"), AssistantAudio("r1", "i1", bytes(4800)))
    await emit(call, UserSpeechStarted(0, "u1"))
    await pass_time(0.8)
    await emit(call, UserSpeechEnded(), UserTranscript("Mm-hm.", final=True, item_id="u1"))
    await pass_time(2.5)
    assert len(call.stream.given) == 1
    await pass_time(2)
    assert len(call.stream.given) == 2, "one moment, please"
    await hang_up(call)
