from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sipbridge.agent import (
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    SessionClosed,
    SessionOpen,
    ToolCall,
    ToolDeclaration,
    TurnDetection,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_8K, PCM_24K, PCMU, Played
from sipbridge.errors import ConfigError
from sipbridge.prompts import DEFAULT_GREETING, load_prompt
from sipbridge.providers import Dialect, ProgramEndpoint, Provider, lookup
from sipbridge.providers.offline import OfflineDialect, synthesiser_arguments
from sipbridge.providers.offline_voice import read_wav
from tests.media.test_vad import silence, tone
from tests.providers.order import OrderChecker, audio_of

HANG_UP = ToolDeclaration("hang_up", "End the call.", {"type": "object"})
TRANSFER = ToolDeclaration(
    "transfer_call",
    "Hand the caller over.",
    {"type": "object", "properties": {"target": {"type": "string", "enum": ["desk", "sales"]}}},
)
WITHOUT_PROGRAM: dict[str, Any] = {"provider": "offline", "synthesiser": None}


class Conversation:
    """Drives one dialect as the session does, on a clock of numbers, and checks the order of its events."""

    def __init__(self, options: AgentOptions | None = None, *, program: bool = False) -> None:
        # A program that is surely there: it is never run, only looked for.
        credential = {"provider": "offline", "synthesiser": "sh"} if program else WITHOUT_PROGRAM
        self.dialect: Dialect = OfflineDialect(credential, options or AgentOptions())
        self.order = OrderChecker()
        self.now = 0.0
        self.texts: list[str] = []
        asyncio.run(self.dialect.prepare())
        self.dialect.start(self.now)
        for channel in self.dialect.endpoints():
            self.dialect.channel_opened(channel, self.now)
        self.opening = self.take()

    def take(self) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        while (event := self.dialect.next_event()) is not None:
            events.append(event)
        self.order.feed(events)
        for message in self.dialect.messages_to_send():
            assert isinstance(message.data, bytes)
            self.texts.append(message.data.decode())
        return events

    def run(self, seconds: float = 60.0) -> list[AgentEvent]:
        """Fires the timers that are due within `seconds`."""
        events, until = self.take(), self.now + seconds
        while (due := self.dialect.get_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.dialect.handle_timer(self.now)
            events += self.take()
        self.now = until
        return events

    def hear(self, pcm: bytes) -> list[AgentEvent]:
        """The caller's audio in real time, 20 ms at once."""
        events: list[AgentEvent] = []
        for start in range(0, len(pcm), 640):
            self.dialect.push_audio(pcm[start : start + 640], self.now)
            events += self.run(0.02)
        return events

    def say(self, text: str) -> list[AgentEvent]:
        self.dialect.say(text, self.now)
        return self.run()

    def press(self, key: str) -> list[AgentEvent]:
        self.dialect.send_text(f"The caller pressed {key}.", self.now)
        self.dialect.create_response(self.now)
        return self.run()

    def cancel(self, *played: Played) -> list[AgentEvent]:
        self.order.cancelled()
        self.dialect.cancel(played, self.now)
        return self.run()


def words(events: list[AgentEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, AssistantText) and event.final]


def wav(pcm: bytes, rate: int, size: int | None = None) -> bytes:
    size = len(pcm) if size is None else size
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", size, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return head + struct.pack("<4sI", b"data", size) + pcm


def test_it_is_a_provider_like_the_others() -> None:
    provider: Provider = OfflineDialect
    assert lookup("Offline") == provider
    assert provider.capabilities.can_truncate
    assert provider.tools_for_session([HANG_UP])[0]["name"] == "hang_up"


def test_without_endpoints_it_is_open_at_once() -> None:
    conversation = Conversation()
    assert conversation.dialect.endpoints() == {}
    assert conversation.opening == [SessionOpen("offline")]


def test_with_a_synthesiser_it_opens_with_its_channel() -> None:
    conversation = Conversation(program=True)
    assert list(conversation.dialect.endpoints()) == ["voice"]
    assert conversation.opening == [SessionOpen("offline")]


def test_only_pcm_is_spoken() -> None:
    with pytest.raises(ConfigError, match="PCM16"):
        OfflineDialect({}, AgentOptions(input_format=PCMU))


def test_a_prompt_is_spoken_from_its_file_in_chunks() -> None:
    events = Conversation().say(DEFAULT_GREETING.upper())
    assert audio_of(events) == load_prompt("greeting", 24000)
    chunks = [event.pcm for event in events if isinstance(event, AssistantAudio)]
    assert {PCM_24K.duration_ms(chunk) for chunk in chunks[:-1]} == {100.0}
    assert words(events) == [DEFAULT_GREETING]
    assert isinstance(events[0], AssistantTurnStarted)
    assert events[-1] == AssistantTurnEnd("reply-1")


def test_speech_comes_ten_times_as_fast_as_it_is_played_and_not_all_at_once() -> None:
    conversation = Conversation()
    conversation.dialect.say(DEFAULT_GREETING, conversation.now)
    first = conversation.take()
    assert PCM_24K.duration_ms(audio_of(first)) == 500
    assert conversation.dialect.get_timer() == pytest.approx(0.05)
    assert PCM_24K.duration_ms(audio_of(conversation.run(0.05))) == 500


def test_the_output_rate_is_the_one_asked_for() -> None:
    events = Conversation(AgentOptions(output_format=PCM_8K)).say("Goodbye")
    assert audio_of(events) == load_prompt("goodbye", 8000)


def test_it_repeats_what_it_heard() -> None:
    conversation = Conversation()
    events = conversation.hear(silence(1000) + tone(1500, hertz=440) + silence(700)) + conversation.run()
    assert UserSpeechStarted(1000) in events
    assert UserSpeechEnded(2500) in events
    assert UserTranscript("(speech, 1.5 s)", final=True) in events
    assert words(events) == ["You said: (1.5 s of the caller's own speech)"]
    lead_in = load_prompt("you-said", 24000)
    spoken = audio_of(events)
    assert spoken.startswith(lead_in)
    echo = np.frombuffer(spoken[len(lead_in) :], "<i2")
    assert len(echo) / 24000 == pytest.approx(1.85, abs=0.02)  # with 200 ms before and 150 ms after it
    spectrum = np.abs(np.fft.rfft(echo))
    assert spectrum.argmax() / len(echo) * 24000 == pytest.approx(440, abs=2)


def test_the_answer_comes_after_the_silence_that_was_asked_for() -> None:
    conversation = Conversation(AgentOptions(turn_detection=TurnDetection(silence_ms=200)))
    conversation.hear(silence(500) + tone(500))
    assert not any(isinstance(event, AssistantTurnStarted) for event in conversation.hear(silence(180)))
    assert any(isinstance(event, AssistantTurnStarted) for event in conversation.hear(silence(20)))


def test_a_long_speech_is_repeated_in_part() -> None:
    conversation = Conversation()
    events = conversation.hear(silence(500) + tone(26_000) + silence(700)) + conversation.run()
    assert PCM_24K.duration_ms(audio_of(events)) == pytest.approx(20_000 + 570 + 200, abs=50)
    events = conversation.hear(silence(500) + tone(400) + silence(700)) + conversation.run()
    assert "You said: (0.4 s of the caller's own speech)" in words(events)


def test_without_transcription_nothing_is_transcribed() -> None:
    conversation = Conversation(AgentOptions(transcription=False))
    events = conversation.hear(silence(500) + tone(500) + silence(700))
    assert not any(isinstance(event, UserTranscript) for event in events)


def test_speech_cuts_a_reply_that_is_being_made() -> None:
    conversation = Conversation()
    conversation.hear(silence(500) + tone(40))
    conversation.dialect.say(DEFAULT_GREETING, conversation.now)
    conversation.take()
    events = conversation.hear(tone(60))
    assert [type(event) for event in events if not isinstance(event, AssistantAudio | AssistantText)] == [
        UserSpeechStarted,
        AssistantInterrupted,
        AssistantTurnEnd,
    ]
    assert events[-1] == AssistantTurnEnd("reply-1", "cancelled")
    events = conversation.hear(tone(300) + silence(600)) + conversation.run()
    assert words(events)[0].startswith("You interrupted me, and said:")


def test_it_leaves_the_interrupting_to_the_call_where_told_so() -> None:
    conversation = Conversation(AgentOptions(turn_detection=TurnDetection(interrupt_response=False)))
    conversation.dialect.say(DEFAULT_GREETING, conversation.now)
    events = conversation.hear(tone(200)) + conversation.run()
    assert any(isinstance(event, UserSpeechStarted) for event in events)
    assert not any(isinstance(event, AssistantInterrupted) for event in events)
    assert audio_of(conversation.order.seen) == load_prompt("greeting", 24000)


@pytest.mark.parametrize(("played_ms", "lead_in"), [(2000, "You interrupted me, and said:"), (6300, "You said:")])
def test_it_knows_how_much_of_itself_was_heard(played_ms: int, lead_in: str) -> None:
    conversation = Conversation()
    conversation.say(DEFAULT_GREETING)
    conversation.hear(silence(500) + tone(300))
    made = int(PCM_24K.duration_ms(load_prompt("greeting", 24000)))
    conversation.cancel(Played("reply-1", "item-1", min(played_ms, made - 20) if played_ms < 6000 else made))
    events = conversation.hear(silence(600)) + conversation.run()
    assert words(events)[0].startswith(lead_in)
    # Once told, it is over.
    events = conversation.hear(tone(300) + silence(600)) + conversation.run()
    assert words(events)[0].startswith("You said:")


def test_cancel_ends_the_reply_and_its_audio() -> None:
    conversation = Conversation()
    conversation.dialect.say(DEFAULT_GREETING, conversation.now)
    assert audio_of(conversation.take())
    events = conversation.cancel(Played("reply-1", "item-1", 120))
    assert events[-1] == AssistantTurnEnd("reply-1", "cancelled")
    assert audio_of(events) == b""
    assert conversation.cancel() == []


def test_what_was_asked_for_meanwhile_is_said_after_it() -> None:
    conversation = Conversation()
    conversation.dialect.say(DEFAULT_GREETING, conversation.now)
    conversation.dialect.say("Goodbye.", conversation.now)
    events = conversation.run()
    assert words(events) == [DEFAULT_GREETING, "Goodbye."]
    assert [e.reply_id for e in events if isinstance(e, AssistantTurnStarted)] == ["reply-1", "reply-2"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("5", "You pressed five."),
        ("*", "You pressed star."),
        ("#", "Goodbye."),
        ("1 2", "You pressed one. You pressed two."),
    ],
)
def test_it_names_the_keys(key: str, said: str) -> None:
    events = Conversation().press(key)
    assert words(events) == [said]
    assert not any(isinstance(event, ToolCall) for event in events)


def test_pound_hangs_up_after_a_goodbye_in_the_same_reply() -> None:
    conversation = Conversation(AgentOptions(tools=(HANG_UP,)))
    events = conversation.press("#")
    assert audio_of(events, "reply-1") == load_prompt("goodbye", 24000)
    *_, call, end = events
    assert isinstance(call, ToolCall)
    assert (call.name, call.reply_id) == ("hang_up", "reply-1")
    assert json.loads(call.arguments) == {"reason": "the caller pressed pound"}
    assert end == AssistantTurnEnd("reply-1")
    # What is said now interrupts no goodbye and gets no answer.
    events = conversation.hear(silence(200) + tone(400) + silence(700)) + conversation.run()
    assert not any(isinstance(event, AssistantTurnStarted) for event in events)


def test_a_hang_up_that_failed_is_told_and_the_talk_goes_on() -> None:
    conversation = Conversation(AgentOptions(tools=(HANG_UP,)))
    conversation.press("#")
    conversation.dialect.send_tool_result("call-1", '{"error": "no"}', conversation.now)
    assert words(conversation.run()) == ["I am sorry, that did not work."]
    assert words(conversation.hear(tone(400) + silence(700)) + conversation.run())


def test_star_transfers_to_the_first_target_and_tells_the_outcome() -> None:
    conversation = Conversation(AgentOptions(tools=(TRANSFER,)))
    events = conversation.press("*")
    call = events[-2]
    assert isinstance(call, ToolCall)
    assert (call.name, json.loads(call.arguments)) == ("transfer_call", {"target": "desk"})
    assert words(events) == ["I am transferring you now."]
    conversation.dialect.send_tool_result(call.call_id, '{"error": "busy"}', conversation.now)
    assert words(conversation.run()) == ["I am sorry, the transfer did not succeed."]
    conversation.dialect.send_tool_result(call.call_id, '{"error": "busy"}', conversation.now)
    assert conversation.run() == []


def test_turns_found_by_hand_are_answered() -> None:
    conversation = Conversation(AgentOptions(turn_detection=TurnDetection(type="none")))
    assert conversation.hear(silence(25_000) + tone(600) + silence(900)) == []
    conversation.dialect.commit_input_audio(conversation.now)
    events = conversation.run()
    assert events[0] == UserTranscript("(speech, 0.6 s)", final=True)
    assert words(events) == ["You said: (0.6 s of the caller's own speech)"]
    conversation.dialect.commit_input_audio(conversation.now)
    assert conversation.run() == []


def test_a_turn_is_not_answered_before_that_is_asked_for_where_it_was_told_so() -> None:
    conversation = Conversation(AgentOptions(turn_detection=TurnDetection(create_response=False)))
    assert words(conversation.hear(silence(300) + tone(600) + silence(900))) == []
    conversation.dialect.create_response(conversation.now)
    assert words(conversation.run()) == ["You said: (0.6 s of the caller's own speech)"]


def test_asked_to_speak_without_a_reason_it_says_what_it_does() -> None:
    conversation = Conversation()
    conversation.dialect.create_response(conversation.now)
    assert words(conversation.run()) == [DEFAULT_GREETING]


def test_other_text_has_no_voice_without_the_program() -> None:
    conversation = Conversation()
    assert words(conversation.say("Welcome to ACME.")) == [DEFAULT_GREETING]
    assert words(conversation.say("Your order is late.")) == ["I am sorry, I have no voice for that text."]


def test_other_text_is_synthesised() -> None:
    conversation = Conversation(program=True)
    events = conversation.say("Welcome to ACME.")
    assert events == [AssistantTurnStarted("reply-1")]
    assert conversation.texts == ["Welcome to ACME."]
    conversation.hear(silence(100))
    assert conversation.texts == ["Welcome to ACME."], "asked for once"
    # The program does not know the length when it writes the header.
    conversation.dialect.receive("voice", wav(tone(300, rate=24000), 24000, size=0x7FFFF000), conversation.now)
    events = conversation.run()
    assert audio_of(events) == tone(300, rate=24000)
    assert words(events) == ["Welcome to ACME."]


@pytest.mark.parametrize("message", [b"", b"RIFF", b"no sound", "text", wav(b"", 22050)])
def test_a_program_that_fails_leaves_the_prompts(message: bytes | str) -> None:
    conversation = Conversation(program=True)
    conversation.say("Goodbye.")
    conversation.say("Welcome to ACME.")
    conversation.dialect.receive("voice", message, conversation.now)
    assert words(conversation.run()) == ["I am sorry, I have no voice for that text."]
    conversation.dialect.receive("voice", message, conversation.now)
    assert conversation.run() == []


def test_a_program_that_goes_away_leaves_the_prompts() -> None:
    conversation = Conversation(program=True)
    conversation.say("Welcome to ACME.")
    conversation.dialect.say("Once more.", conversation.now)
    conversation.dialect.channel_closed("voice", 1, "gone", conversation.now)
    assert len(words(conversation.run())) == 2
    assert words(conversation.say("And again.")) == ["I am sorry, I have no voice for that text."]
    assert conversation.texts == ["Welcome to ACME."]


def test_sound_for_a_cancelled_text_is_thrown_away() -> None:
    conversation = Conversation(program=True)
    conversation.say("Welcome to ACME.")
    assert conversation.cancel() == [AssistantTurnEnd("reply-1", "cancelled")]
    conversation.say("Second.")
    conversation.dialect.receive("voice", wav(tone(100, rate=24000), 24000), conversation.now)
    assert conversation.run() == []
    conversation.dialect.receive("voice", wav(tone(200, rate=24000), 24000), conversation.now)
    assert audio_of(conversation.run()) == tone(200, rate=24000)


def test_a_file_at_another_rate_is_converted() -> None:
    pcm = read_wav(wav(tone(500, rate=22050), 22050), 24000)
    assert PCM_24K.duration_ms(pcm) == pytest.approx(500, abs=1)


def test_close_ends_what_is_open_and_is_the_last_word() -> None:
    conversation = Conversation()
    conversation.dialect.say(DEFAULT_GREETING, conversation.now)
    conversation.dialect.say("Goodbye.", conversation.now)
    conversation.take()
    conversation.dialect.close(conversation.now)
    conversation.dialect.close(conversation.now)
    events = conversation.run()
    assert events[-2:] == [AssistantTurnEnd("reply-1", "cancelled"), SessionClosed("closed", expected=True)]
    conversation.order.done()
    conversation.dialect.push_audio(tone(1000), conversation.now)
    assert conversation.say("Goodbye.") == []


@pytest.mark.parametrize(
    ("voice", "language", "chosen"),
    [
        (None, None, "en-us+f3"),
        ("marin", "de-DE", "de+f3"),
        ("en-gb", None, "en-gb"),
        ("fr+m2", "en", "fr+m2"),
        ("--path=/etc", None, "en-us+f3"),
    ],
)
def test_the_voice_of_the_program(voice: str | None, language: str | None, chosen: str) -> None:
    arguments = synthesiser_arguments(replace(AgentOptions(), voice=voice, language=language))
    assert arguments[0] == "espeak-ng"
    assert arguments[-2:] == ("-v", chosen)


def test_the_program_reads_the_text_from_its_input() -> None:
    endpoint = Conversation(program=True).dialect.endpoints()["voice"]
    assert isinstance(endpoint, ProgramEndpoint)
    assert "--stdin" in endpoint.argv
