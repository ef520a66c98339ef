"""Deepgram's dialect in memory: what it sends, and what it makes of what comes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Said,
    SessionClosed,
    SessionOpen,
    ToolCall,
    ToolCallCancelled,
    ToolDeclaration,
    ToolUsed,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat, Played
from sipbridge.errors import ConfigError
from sipbridge.providers import Outgoing, WebSocketEndpoint, capabilities_of
from sipbridge.providers.deepgram import DeepgramDialect
from tests.providers.deepgram_sdk import check_client_event, check_server_event
from tests.providers.drive import Drive
from tests.providers.order import audio_of

Json = dict[str, Any]

OPTIONS = AgentOptions(input_format=PCMU, output_format=PCMU)
CREDENTIAL: Json = {"provider": "deepgram", "api_key": "dg-test-0123456789"}
LOOKUP = ToolDeclaration("lookup", "Looks up.", {"type": "object", "properties": {}})
SOUND = b"\x11" * 160


class Driver(Drive[DeepgramDialect]):
    def __init__(self, options: AgentOptions = OPTIONS, **credential: Any) -> None:
        self.sent: list[Any] = []
        super().__init__(DeepgramDialect(CREDENTIAL | credential, options), now=50.0)

    def took(self, message: Outgoing) -> None:
        if isinstance(message.data, bytes):
            self.sent.append(message.data)
            return
        data = json.loads(message.data)
        check_client_event(data)
        self.sent.append(data)

    def server(self, kind: str, **fields: Any) -> None:
        message = {"type": kind, **fields}
        check_server_event(message)
        self.raw(json.dumps(message))

    def raw(self, data: str | bytes) -> None:
        self.receive(self.dialect.channel, data)

    def text(self, role: str, content: str) -> None:
        self.server("ConversationText", role=role, content=content)

    def call(self, *call_ids: str, client_side: bool = True) -> None:
        call = {"name": "lookup", "arguments": '{"n":1}', "client_side": client_side}
        self.server("FunctionCallRequest", functions=[call | {"id": call_id} for call_id in call_ids])

    def take_sent(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent

    def settings(self) -> Json:
        self.server("Welcome", request_id="request_1")
        [settings] = self.take_sent()
        assert settings["type"] == "Settings"
        return dict(settings)

    def open(self) -> Driver:
        self.settings()
        self.server("SettingsApplied")
        assert self.take_events() == [SessionOpen("request_1")]
        return self


def options(**changes: Any) -> AgentOptions:
    return replace(OPTIONS, **changes)


# --- the start --------------------------------------------------------------------------------------------------------


def test_the_settings_say_what_the_agent_is() -> None:
    wanted = options(
        instructions="Be brief.", voice="aura-2-luna-en", temperature=0.4, tools=(LOOKUP,), greeting="Hello."
    )
    assert Driver(wanted).settings() == {
        "type": "Settings",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {
            "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
            "think": {
                "provider": {"type": "open_ai", "model": "gpt-4.1-mini", "temperature": 0.4},
                "prompt": "Be brief.",
                "functions": [{"name": "lookup", "description": "Looks up.", "parameters": dict(LOOKUP.parameters)}],
            },
            "speak": {"provider": {"type": "deepgram", "model": "aura-2-luna-en"}},
            "greeting": "Hello.",
        },
    }


def test_its_parts_can_be_chosen() -> None:
    think = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    extra = {"mip_opt_out": True, "agent": {"listen": {"provider": {"keyterms": ["ACME"]}}}}
    driver = Driver(options(voice="flux-kit-en", extra=extra), think=think, transcription_model="nova-3")
    settings = driver.settings()
    assert settings["mip_opt_out"] is True
    agent = settings["agent"]
    assert agent["think"]["provider"] == {"type": "anthropic", "model": "claude-sonnet-4-5"}
    listen = {"type": "deepgram", "version": "v1", "model": "nova-3", "keyterms": ["ACME"]}
    assert agent["listen"]["provider"] == listen
    assert agent["speak"]["provider"] == {"type": "deepgram", "model": "flux-kit-en", "version": "v2"}
    assert Driver(model="gpt-4o").settings()["agent"]["think"]["provider"]["model"] == "gpt-4o"


def test_another_language() -> None:
    agent = Driver(options(language="es-ES")).settings()["agent"]
    assert agent["listen"]["provider"]["model"] == "flux-general-multi"
    assert agent["listen"]["provider"]["language_hints"] == ["es-ES"]
    assert agent["speak"]["provider"]["model"].endswith("-es")
    listen = Driver(options(language="de"), transcription_model="nova-3").settings()["agent"]["listen"]["provider"]
    assert listen["language"] == "de"


def test_a_talk_that_goes_on_is_remembered_and_not_greeted_again() -> None:
    history = (Said("user", "Two nights."), ToolUsed("c1", "price", "{}", "240"), Said("assistant", "240 euros."))
    agent = Driver(options(history=history, greeting="Hello.")).settings()["agent"]
    assert "greeting" not in agent
    user, used, assistant = agent["context"]["messages"]
    assert (user["role"], user["content"]) == ("user", "Two nights.")
    assert used["function_calls"][0]["response"] == "240"
    assert assistant["role"] == "assistant"


@pytest.mark.parametrize(
    ("native", "rate", "audio"),
    [(PCMU, 8000, PCMU), (PCMA, 8000, PCMA), (None, 8000, PCM_8K), (None, 16000, PCM_16K), (None, 24000, PCM_24K)],
)
def test_no_telephone_needs_resampling(native: AudioFormat | None, rate: int, audio: AudioFormat) -> None:
    assert capabilities_of("deepgram").formats_for(native, rate) == (audio, audio)
    settings = Driver(AgentOptions(input_format=audio, output_format=audio)).settings()
    assert settings["audio"]["input"]["sample_rate"] == rate


def test_where_it_connects_to_and_with_what() -> None:
    endpoint = Driver().dialect.endpoints()["realtime"]
    assert isinstance(endpoint, WebSocketEndpoint)
    assert endpoint.url == "wss://agent.deepgram.com/v1/agent/converse"
    assert endpoint.headers == {"Authorization": "Token dg-test-0123456789"}
    assert "dg-test" not in repr(endpoint)
    with pytest.raises(ConfigError, match="api_key"):
        DeepgramDialect({"provider": "deepgram"}, OPTIONS)


def test_settings_that_are_refused() -> None:
    driver = Driver()
    driver.settings()
    driver.server("Error", code="INVALID_SETTINGS", description="no such model")
    assert driver.take_events() == [
        AgentError("no such model", "INVALID_SETTINGS", fatal=True),
        SessionClosed("INVALID_SETTINGS", again=False),
    ]


# --- talking ----------------------------------------------------------------------------------------------------------


def test_a_call_that_is_told_twice_is_handed_out_once() -> None:
    """A second answer would be refused, and what a tool does is not to be done twice."""
    driver = Driver(replace(OPTIONS, tools=(LOOKUP,))).open()
    driver.call("f1")
    driver.command("send_tool_result", "f1", "42")
    driver.call("f1")
    driver.command("send_tool_result", "f1", "43")
    assert [event.call_id for event in driver.take_events() if isinstance(event, ToolCall)] == ["f1"]
    assert [message["content"] for message in driver.take_sent() if message["type"] == "FunctionCallResponse"] == ["42"]


def test_words_that_were_refused_are_not_forgotten_for_another_answer() -> None:
    """They were sent again without any."""
    driver = Driver().open()
    driver.command("send_text", "5")
    driver.command("create_response")
    driver.server("InjectionRefused", message="the user is speaking")
    driver.text("assistant", "About something else.")
    driver.raw(SOUND)
    driver.server("AgentAudioDone")
    driver.advance(10.0)
    sent = [message["content"] for message in driver.take_sent() if message["type"] == "InjectUserMessage"]
    assert sent == ["5", "5"]


def test_a_sample_that_two_frames_split_is_whole() -> None:
    driver = Driver(AgentOptions(input_format=PCM_24K, output_format=PCM_24K)).open()
    driver.raw(b"\x01\x02\x03")
    driver.raw(b"\x04\x05\x06\x07")
    assert audio_of(driver.take_events()) == b"\x01\x02\x03\x04\x05\x06"
    driver.server("AgentAudioDone")
    driver.raw(b"\x08\x09")
    assert audio_of(driver.take_events()) == b"\x08\x09", "a reply's rest is no part of the next one"


def test_a_turn() -> None:
    driver = Driver().open()
    driver.server("UserStartedSpeaking")
    driver.text("user", "Two nights, please.")
    driver.server("AgentThinking", content="hm")
    driver.text("assistant", "Certainly.")
    driver.raw(SOUND)
    driver.text("assistant", "From when?")
    driver.raw(SOUND)
    driver.advance(2)
    driver.server("AgentAudioDone")
    assert driver.take_events() == [
        UserSpeechStarted(),
        UserSpeechEnded(),
        UserTranscript("Two nights, please.", final=True),
        AssistantTurnStarted("reply-1"),
        AssistantText("reply-1", "Certainly.", final=False),
        AssistantAudio("reply-1", "reply-1-item", SOUND),
        AssistantText("reply-1", " From when?", final=False),
        AssistantAudio("reply-1", "reply-1-item", SOUND),
        AssistantText("reply-1", "Certainly. From when?", final=True),
        AssistantTurnEnd("reply-1"),
        Usage("", {"session_seconds": 2.0}),
    ]


def test_the_vendor_stops_by_itself_and_what_is_late_is_dropped() -> None:
    driver = Driver().open()
    driver.text("assistant", "A long story.")
    driver.raw(SOUND)
    driver.server("UserStartedSpeaking")
    driver.command("cancel", [Played("reply-1", "reply-1-item", 10)])
    driver.raw(SOUND)
    driver.text("assistant", "and more of it")
    driver.text("user", "Stop.")
    driver.text("assistant", "Yes?")
    driver.raw(SOUND)
    driver.server("AgentAudioDone")
    events = driver.take_events()
    assert [event for event in events if isinstance(event, AssistantTurnStarted | AssistantTurnEnd)] == [
        AssistantTurnStarted("reply-1"),
        AssistantTurnEnd("reply-1", "cancelled"),
        AssistantTurnStarted("reply-2"),
        AssistantTurnEnd("reply-2"),
    ]
    assert AssistantInterrupted("reply-1") in events
    assert audio_of(events, "reply-1") == SOUND
    assert AssistantText("reply-2", "Yes?", final=True) in events
    assert driver.dialect.counters["late_audio_bytes"] == 160


def test_a_key_cuts_what_the_vendor_goes_on_with() -> None:
    driver = Driver().open()
    driver.text("assistant", "A long story.")
    driver.raw(SOUND)
    driver.command("cancel", [Played("reply-1", "reply-1-item", 10)])
    driver.command("send_text", "The caller pressed 5.")
    assert driver.take_sent() == []
    driver.command("create_response")
    assert driver.take_sent() == [{"type": "InjectUserMessage", "content": "The caller pressed 5."}]
    driver.raw(SOUND)
    driver.server("InjectionRefused", message="the agent is speaking")
    driver.raw(SOUND)
    driver.server("AgentAudioDone")
    driver.advance(0.001)
    assert driver.take_sent() == [{"type": "InjectUserMessage", "content": "The caller pressed 5."}]
    driver.text("user", "The caller pressed 5.")
    driver.text("assistant", "Five.")
    driver.raw(SOUND)
    driver.server("AgentAudioDone")
    events = driver.take_events()
    assert audio_of(events) == SOUND * 2
    assert not any(isinstance(event, UserTranscript) for event in events), "our own words are none of the caller's"
    assert AssistantTurnEnd("reply-1", "cancelled") in events


def test_words_that_are_refused_are_not_repeated_for_ever() -> None:
    driver = Driver().open()
    driver.command("create_response")
    for _ in range(20):
        driver.server("InjectionRefused", message="busy")
        driver.advance(1.1)
    injected = [message for message in driver.take_sent() if message["type"] == "InjectUserMessage"]
    assert len(injected) == 6
    assert driver.dialect.counters["injection_refused"] == 20


def test_what_it_is_to_say() -> None:
    driver = Driver(options(greeting="Hello.")).open()
    driver.command("say", "Hello.")
    assert driver.take_sent() == [], "it went with the settings"
    driver.command("say", "One moment.")
    assert driver.take_sent() == [{"type": "InjectAgentMessage", "message": "One moment.", "behavior": "queue"}]
    driver.text("assistant", "A long story.")
    driver.raw(SOUND)
    driver.command("cancel", [])
    driver.command("say", "Goodbye.")
    assert driver.take_sent() == [{"type": "InjectAgentMessage", "message": "Goodbye.", "behavior": "interrupt"}]
    driver.raw(SOUND)
    driver.text("assistant", "Goodbye.")
    driver.raw(SOUND)
    driver.server("AgentAudioDone")
    assert audio_of(driver.take_events(), "reply-2") == SOUND


def test_new_instructions() -> None:
    driver = Driver().open()
    driver.command("update_instructions", "Be formal.")
    assert driver.take_sent() == [{"type": "UpdatePrompt", "prompt": "Be formal."}]
    driver.server("PromptUpdated")
    assert not driver.dialect.counters


def test_sound_is_binary_and_silence_of_ours_is_filled() -> None:
    driver = Driver().open()
    for _ in range(400):
        driver.command("push_audio", SOUND)
        driver.advance(0.02)
    assert driver.take_sent() == [SOUND] * 400
    driver.advance(20)
    assert driver.take_sent() == [{"type": "KeepAlive"}] * 2


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_call_in_silence_is_a_reply_of_its_own() -> None:
    driver = Driver(options(tools=(LOOKUP,))).open()
    driver.call("c1", "c2")
    assert [event for event in driver.take_events() if isinstance(event, ToolCall)] == [
        ToolCall("c1", "lookup", '{"n":1}', "reply-1"),
        ToolCall("c2", "lookup", '{"n":1}', "reply-2"),
    ]
    driver.command("send_tool_result", "c1", "found")
    assert driver.take_sent() == [{"type": "FunctionCallResponse", "id": "c1", "name": "lookup", "content": "found"}]
    driver.server("FunctionCallCancelled", functions=[{"id": "c2", "name": "lookup"}])
    assert driver.take_events() == [ToolCallCancelled("c2")]
    driver.command("send_tool_result", "c2", "too late")
    assert driver.take_sent() == []
    assert driver.dialect.counters["tool_result_unexpected"] == 1


def test_a_call_goes_with_the_speech_that_it_came_with() -> None:
    driver = Driver(options(tools=(LOOKUP,))).open()
    driver.text("assistant", "Let me look.")
    driver.raw(SOUND)
    driver.call("c1")
    driver.server("UserStartedSpeaking")
    driver.command("cancel", [Played("reply-1", "reply-1-item", 10)])
    assert ToolCallCancelled("c1") in driver.take_events()
    [answer] = driver.take_sent()
    assert answer["type"] == "FunctionCallResponse", "it is answered, or the vendor would wait"


def test_a_call_right_after_what_was_said_is_cut_with_it() -> None:
    driver = Driver(options(tools=(LOOKUP,))).open()
    driver.text("assistant", "Let me look.")
    driver.raw(SOUND)
    driver.server("AgentAudioDone")
    driver.call("c1")
    driver.command("cancel", [Played("reply-1", "reply-1-item", 10)])
    assert ToolCallCancelled("c1") in driver.take_events()


def test_what_the_vendor_calls_itself_is_not_ours() -> None:
    driver = Driver().open()
    driver.call("c1", client_side=False)
    driver.raw('{"type":"FunctionCallResponse","name":"lookup","content":"x"}')
    assert driver.take_events() == []


# --- errors and the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "again"), [("FAILED_TO_THINK", True), ("INVALID_SETTINGS", False)])
def test_an_error_and_the_close_that_follows(code: str, again: bool) -> None:
    driver = Driver().open()
    driver.text("assistant", "Well")
    driver.take_events()
    driver.server("Error", code=code, description="it broke")
    assert driver.take_events() == [AgentError("it broke", code, fatal=False)]
    driver.channel_closed(driver.dialect.channel, 1011)
    assert driver.take_events() == [
        AgentError("it broke", code, fatal=True),
        AssistantText("reply-1", "Well", final=True),
        AssistantTurnEnd("reply-1", "failed"),
        SessionClosed(code, again=again),
    ]
    driver.order.done()


def test_a_warning_is_counted() -> None:
    driver = Driver().open()
    driver.server("Warning", code="VOICE_PROMPT_ADDED", description="words")
    assert driver.take_events() == []
    assert driver.dialect.counters["warnings"] == 1


def test_goodbye() -> None:
    driver = Driver().open()
    driver.server("UserStartedSpeaking")
    driver.advance(3)
    driver.take_events()
    driver.command("close")
    assert driver.take_events() == [
        UserSpeechEnded(),
        Usage("", {"session_seconds": 3.0}),
        SessionClosed("closed", expected=True),
    ]
    assert driver.dialect.get_timer() is None
    driver.order.done()


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        '{"type":7}',
        '{"type":"ConversationText"}',
        '{"type":"FunctionCallRequest","functions":[{"id":7,"name":"x"}]}',
        '{"type":"FunctionCallRequest","functions":null}',
        '{"type":"FunctionCallCancelled","functions":[{}]}',
        '{"type":"OfTheFuture"}',
    ],
)
def test_what_can_not_be_read_is_counted_and_passed_over(data: str) -> None:
    driver = Driver().open()
    driver.raw(data)
    assert driver.take_events() == []
    assert driver.dialect.counters["malformed"] + driver.dialect.counters["unknown"] == 1
    driver.text("user", "Still there?")
    assert driver.take_events() == [UserTranscript("Still there?", final=True)]
