"""The ElevenLabs dialect in memory: every message of ours goes past the vendor's SDK."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any

import pytest
from elevenlabs import ClientToolConfigInput

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
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMU, Played
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers import WebSocketEndpoint
from sipbridge.providers.elevenlabs import ElevenLabsDialect
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from tests.providers.drive import Driver, Json
from tests.providers.elevenlabs_sdk import check_client_event
from tests.providers.order import audio_of
from tests.providers.strict import nothing_unknown

CREDENTIAL = {"provider": "elevenlabs", "agent_id": "agent_1"}
PRICE = ToolDeclaration(
    "price",
    "What it costs.",
    {"type": "object", "properties": {"nights": {"type": "integer", "description": "How many"}}},
)


def driver(**options: Any) -> Driver[ElevenLabsDialect]:
    values: dict[str, Any] = {"input_format": PCM_16K, "output_format": PCM_16K, **options}
    return Driver(ElevenLabsDialect(CREDENTIAL, AgentOptions(**values)), "conversation", check_client_event)


def opened(given: str = "pcm_16000", taken: str = "pcm_16000", **options: Any) -> Driver[ElevenLabsDialect]:
    drive = driver(**options)
    drive.server(metadata(given, taken))
    assert drive.take_events() == [SessionOpen("conv_1")]
    drive.take_sent()
    return drive


def event(kind: str, name: str = "", **values: Any) -> Json:
    return {"type": kind, name or f"{kind}_event": values}


def metadata(given: str, taken: str) -> Json:
    formats = {"agent_output_audio_format": given, "user_input_audio_format": taken}
    return event("conversation_initiation_metadata", conversation_id="conv_1", **formats)


def audio(event_id: int, pcm: bytes = b"\1\0" * 1600) -> Json:
    return event("audio", audio_base_64=b64encode(pcm).decode(), event_id=event_id)


def words(text: str) -> Json:
    return event("agent_response", agent_response=text)


def heard(text: str) -> Json:
    return event("user_transcript", "user_transcription_event", user_transcript=text)


def tool(call_id: str) -> Json:
    return event(
        "client_tool_call", "client_tool_call", tool_name="price", tool_call_id=call_id, parameters={"nights": 2}
    )


# --- the setup --------------------------------------------------------------------------------------------------------


def test_only_what_is_set_is_overridden() -> None:
    assert driver().take_sent() == [{"type": "conversation_initiation_client_data"}]
    drive = driver(
        instructions="Be kind.", voice="v1", language="de-AT", greeting="Hello", extra={"dynamic_variables": {"a": 1}}
    )
    agent = {"prompt": {"prompt": "Be kind."}, "first_message": "Hello", "language": "de"}
    assert drive.take_sent() == [
        {
            "type": "conversation_initiation_client_data",
            "conversation_config_override": {"agent": agent, "tts": {"voice_id": "v1"}},
            "dynamic_variables": {"a": 1},
        }
    ]


def test_who_goes_on_with_a_conversation_knows_it_and_does_not_greet() -> None:
    drive = driver(greeting="Hello", history=(Said("assistant", "Hello"), Said("user", "two nights")))
    (setup,) = drive.take_sent()
    agent = setup["conversation_config_override"]["agent"]
    assert agent["first_message"] == ""
    assert "Caller: two nights" in agent["prompt"]["prompt"]


def test_nothing_is_told_before_the_formats_are_known() -> None:
    drive = driver()
    drive.server(audio(1), words("Hello"), tool("t1"), event("interruption", event_id=1), heard("two nights"))
    assert drive.take_events() == []
    assert drive.dialect.counters == {"too_early": 5}


def test_the_greeting_is_said_once() -> None:
    drive = opened(greeting="Hello")
    drive.command("say", "Hello")
    assert drive.take_sent() == []
    drive.command("say", "Hello")
    (message,) = drive.take_sent()
    assert message["text"].endswith("\n\nHello")


def endpoint(credential: Json) -> WebSocketEndpoint:
    found = ElevenLabsDialect(credential, AgentOptions(output_format=PCM_16K)).endpoints()["conversation"]
    assert isinstance(found, WebSocketEndpoint)
    return found


def test_where_it_connects_to() -> None:
    public = endpoint(CREDENTIAL)
    assert (public.url, public.headers) == ("wss://api.elevenlabs.io/v1/convai/conversation?agent_id=agent_1", {})
    own = endpoint({"url": "ws://127.0.0.1:1/talk", "model": "agent 2", "api_key": "secret"})
    assert (own.url, own.headers) == ("ws://127.0.0.1:1/talk?agent_id=agent%202", {"xi-api-key": "secret"})
    residency = endpoint({"url": "https://api.eu.example.com/", "agent_id": "a"})
    assert residency.url == "wss://api.eu.example.com/v1/convai/conversation?agent_id=a"
    with pytest.raises(ConfigError, match="agent_id"):
        ElevenLabsDialect({}, AgentOptions(output_format=PCM_16K))


def test_a_signed_url_that_is_not_to_be_had() -> None:
    credential = CREDENTIAL | {"api_key": "secret", "url": "http://127.0.0.1:1"}
    dialect = ElevenLabsDialect(credential, AgentOptions(output_format=PCM_16K))
    with pytest.raises(AgentStartError) as failure:
        asyncio.run(dialect.prepare())
    assert failure.value.again
    assert "secret" not in str(failure.value)


def test_tools_as_they_are_added_to_the_agent() -> None:
    (declared,) = ElevenLabsDialect.tools_for_session([PRICE])
    assert declared.pop("type") == "client"
    nothing_unknown(ClientToolConfigInput.model_validate(declared))


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bytes_per_ms"), [("pcm_8000", 16), ("pcm_24000", 48), ("ulaw_8000", 8)])
def test_the_agents_formats_are_the_ones_spoken(name: str, bytes_per_ms: int) -> None:
    drive = opened(name, name, output_format=PCM_24K, input_format=PCMU)
    for _ in range(10):
        drive.command("push_audio", b"\x55" * 160)
    up = b"".join(b64decode(message["user_audio_chunk"]) for message in drive.take_sent())
    assert abs(len(up) - 200 * bytes_per_ms) <= 4 * bytes_per_ms, "but for what the filter holds back"
    drive.server(words("Hi"), audio(1, b"\x55" * 200 * bytes_per_ms))
    drive.advance(5)
    assert abs(len(audio_of(drive.take_events())) - 200 * 48) <= 3 * 48, "with what the filter held back"


def test_a_format_that_no_call_can_use_says_what_to_set() -> None:
    drive = driver()
    drive.server(metadata("pcm_44100", "pcm_16000"))
    error, closed = drive.take_events()
    assert isinstance(error, AgentError)
    assert (error.fatal, error.code) == (True, "format")
    assert "pcm_44100" in error.message
    assert "pcm_16000" in error.message
    assert closed == SessionClosed("format")


# --- a conversation ---------------------------------------------------------------------------------------------------


def test_a_reply_is_over_when_it_is_quiet() -> None:
    drive = opened()
    drive.server(words(" Hello. "), audio(1), audio(2))
    drive.advance(0.5)
    drive.server(audio(3))
    drive.advance(0.79)
    assert not any(isinstance(e, AssistantTurnEnd) for e in drive.events)
    drive.advance(0.02)
    events = drive.take_events()
    assert [type(e) for e in events] == [AssistantTurnStarted, AssistantText] + 3 * [AssistantAudio] + [
        AssistantTurnEnd
    ]
    assert events[1] == AssistantText("reply-1", "Hello.", final=True)
    assert events[-1] == AssistantTurnEnd("reply-1", "completed")


def test_words_without_sound_and_sound_without_words_are_waited_for_longer() -> None:
    drive = opened()
    drive.server(audio(1))
    drive.advance(2.9)
    assert AssistantTurnEnd("reply-1") not in drive.take_events()
    drive.advance(0.2)
    assert AssistantTurnEnd("reply-1") in drive.take_events()
    drive.server(words("Hello"))
    drive.advance(2.9)
    drive.server(audio(2))
    drive.advance(0.9)
    assert drive.take_events()[-1] == AssistantTurnEnd("reply-2", "completed")


def test_the_last_sound_says_so_where_it_does() -> None:
    drive = opened()
    last = audio(2)
    last["audio_event"]["is_final"] = True
    drive.server(words("Hello"), audio(1), last)
    assert drive.take_events()[-1] == AssistantTurnEnd("reply-1", "completed")
    assert drive.dialect.get_timer() is None


def test_words_in_parts() -> None:
    drive = opened()
    for kind, text in (("start", ""), ("delta", "Hel"), ("delta", "lo"), ("stop", "")):
        drive.server(event("agent_chat_response_part", "text_response_part", type=kind, text=text))
    drive.server(words("Hello"), audio(1))
    drive.server(event("agent_chat_response_part", "text_response_part", type="start", text=""))
    texts = [e for e in drive.take_events() if isinstance(e, AssistantText)]
    assert [(text.text, text.final) for text in texts] == [("Hel", False), ("lo", False), ("Hello", True)]
    assert drive.order.open_replies == []


def test_the_callers_words_end_a_reply_and_the_next_words_begin_one() -> None:
    drive = opened()
    drive.server(words("One"), audio(1), heard(" two nights "), words("Two"), audio(2), words("Three"), audio(3))
    ends = [e.reply_id for e in drive.events if isinstance(e, AssistantTurnEnd)]
    assert ends == ["reply-1", "reply-2"]
    assert UserTranscript("two nights", final=True) in drive.take_events()


def test_transcripts_only_as_far_as_they_are_wanted() -> None:
    interim = event("tentative_user_transcript", "tentative_user_transcription_event", user_transcript="two")
    drive = opened()
    drive.server(interim, heard(""))
    assert drive.take_events() == []
    drive = opened(interim_transcripts=True)
    drive.server(interim)
    assert drive.take_events() == [UserTranscript("two", final=False)]
    drive = opened(transcription=False)
    drive.server(heard("two nights"))
    assert drive.take_events() == []


def test_an_interruption_and_what_comes_late_of_it() -> None:
    drive = opened()
    drive.server(words("A long story"), audio(1), audio(2))
    drive.take_events()
    drive.server(event("interruption", event_id=2))
    assert drive.take_events() == [
        UserSpeechStarted(),
        AssistantInterrupted("reply-1"),
        AssistantTurnEnd("reply-1", "cancelled"),
    ]
    drive.command("cancel", [Played("reply-1", "reply-1-item", 70)])
    drive.server(audio(2))
    assert drive.dialect.counters["late_audio_bytes"] == 3200
    correction = {"original_agent_response": "A long story", "corrected_agent_response": "A long"}
    drive.server(event("agent_response_correction", **correction), heard("stop"), audio(3))
    assert drive.take_events()[:3] == [
        UserSpeechEnded(),
        UserTranscript("stop", final=True),
        AssistantTurnStarted("reply-2"),
    ]
    assert drive.take_sent() == []


def test_an_interruption_of_what_was_generated_before() -> None:
    drive = opened()
    drive.server(words("Hello"), audio(1))
    drive.advance(1)
    drive.take_events()
    drive.server(event("interruption", event_id=1))
    assert drive.take_events() == [UserSpeechStarted()], "the call throws away what was not played yet"


def test_our_own_cut() -> None:
    drive = opened()
    drive.server(words("A long story"), audio(1))
    drive.command("cancel", [Played("reply-1", "reply-1-item", 70)])
    drive.server(audio(2))
    drive.advance(1)
    assert drive.take_events()[-1] == AssistantTurnEnd("reply-1", "cancelled")
    drive.server(words("Next"), audio(3))
    assert any(isinstance(e, AssistantAudio) for e in drive.take_events())


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_call_is_a_reply_of_its_own_and_is_answered() -> None:
    drive = opened(tools=(PRICE,), output_format=PCM_24K)
    drive.server(tool("t1"))
    assert drive.take_events() == [
        AssistantTurnStarted("reply-1"),
        ToolCall("t1", "price", '{"nights": 2}', "reply-1"),
        AssistantTurnEnd("reply-1", "completed"),
    ]
    drive.command("cancel", [])
    drive.command("send_tool_result", "t1", "240 euro")
    drive.command("send_tool_result", "t1", "again")
    assert drive.take_sent() == [
        {"type": "client_tool_result", "tool_call_id": "t1", "result": "240 euro", "is_error": False}
    ]
    assert drive.dialect.counters["tool_result_unexpected"] == 1


def test_a_call_of_a_reply_that_is_cut_is_cut_with_it() -> None:
    drive = opened()
    drive.server(words("Let me see"), audio(1), tool("t1"))
    drive.command("cancel", [Played("reply-1", "reply-1-item", 10)])
    assert ToolCallCancelled("t1") in drive.take_events()
    (answer,) = drive.take_sent()
    assert answer["result"] == CANCELLED_OUTPUT


# --- what we say ------------------------------------------------------------------------------------------------------


def test_a_text_waits_to_be_asked_about() -> None:
    drive = opened()
    drive.command("send_text", "The caller pressed 5.")
    drive.command("create_response")
    assert drive.take_sent() == [{"type": "user_message", "text": "The caller pressed 5."}]
    drive.command("send_text", "The caller pressed 6.")
    drive.advance(2)
    assert drive.take_sent() == [{"type": "contextual_update", "text": "The caller pressed 6."}]
    drive.command("create_response")
    (go_on,) = drive.take_sent()
    assert go_on["type"] == "user_message"


def test_new_instructions_are_told() -> None:
    drive = opened()
    drive.command("update_instructions", "Be brief.")
    (told,) = drive.take_sent()
    assert told["type"] == "contextual_update"
    assert told["text"].endswith("Be brief.")


def test_pings_are_answered_with_their_own_id() -> None:
    drive = opened()
    drive.server(event("ping", event_id=7, ping_ms=50))
    assert drive.take_sent() == [{"type": "pong", "event_id": 7}]


# --- ends and bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name", "again"),
    [(1006, "closed", True), (1011, "closed", True), (1008, "closed", False), (3000, "401", False)],
)
def test_ends(code: int, name: str, again: bool) -> None:
    drive = opened()
    drive.server(words("Hello"), audio(1))
    drive.advance(0.25)
    drive.drop(code, "why")
    error, end, usage, closed = drive.take_events()[-4:]
    assert isinstance(error, AgentError)
    assert (error.code, error.fatal) == (name, True)
    assert usage == Usage("", {"session_seconds": 0.25})
    assert end == AssistantTurnEnd("reply-1", "failed")
    assert closed == SessionClosed(f"{code} why", again=again)
    drive.order.done()


def test_the_agent_hangs_up() -> None:
    drive = opened()
    drive.drop(1000, "bye")
    assert drive.take_events() == [Usage("", {"session_seconds": 0.0}), SessionClosed("1000 bye")]


def test_we_hang_up() -> None:
    drive = opened()
    drive.server(words("Hello"), audio(1))
    drive.command("close")
    assert drive.take_events()[-1] == SessionClosed("closed", expected=True)
    drive.server(audio(2))
    drive.order.done()


def test_what_cannot_be_read_is_counted() -> None:
    drive = opened()
    for data in ('{"type":', "[]", b"\xff\xfe", '{"type":"audio"}', '{"type":7}', '{"no":"type"}', "7"):
        drive.raw(data)
    drive.server({"type": "audio", "audio_event": {"audio_base_64": "%%%", "event_id": 1}}, {"type": "of.the.future"})
    drive.server({"type": "vad_score", "vad_score_event": {"vad_score": 0.5}})
    assert drive.take_events() == []
    assert drive.dialect.counters == {"malformed": 7, "unknown": 2}
