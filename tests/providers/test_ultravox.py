"""The Ultravox dialect in memory: the call that it asks for and every message of its pass the vendor's documented
fields."""

from __future__ import annotations

import asyncio
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
    TurnDetection,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_8K, PCM_16K, PCMU, Played
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers import Lifetime, WebSocketEndpoint
from sipbridge.providers.base import MOST_CALLS
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from sipbridge.providers.ultravox import UltravoxDialect
from sipbridge.simulator.http import HttpAnswer, HttpRequest, HttpServer
from sipbridge.simulator.ultravox_check import check_call, check_message
from tests.providers.drive import Driver, Json

KEY = "uv-0123456789"
JOINED = {"provider": "ultravox", "url": "wss://call.example.com/join/1"}
SCHEMA = {
    "type": "object",
    "properties": {"nights": {"type": "integer"}, "room": {"type": "string"}},
    "required": ["nights"],
}
PRICE = ToolDeclaration("price", "What it costs.", SCHEMA)


def judge(message: Json) -> None:
    assert check_message(message) == ""


def opened(**options: Any) -> Driver[UltravoxDialect]:
    values: dict[str, Any] = {"input_format": PCM_8K, "output_format": PCM_8K, **options}
    drive = Driver(UltravoxDialect(JOINED, AgentOptions(**values)), "call", judge)
    drive.server({"type": "call_started", "callId": "c1"})
    assert drive.take_events() == [SessionOpen("c1")]
    return drive


def created(**options: Any) -> Json:
    """What a call with these options is created with."""
    values: dict[str, Any] = {"input_format": PCM_8K, "output_format": PCM_16K, **options}
    bodies: list[Json] = []

    async def answer(request: HttpRequest) -> HttpAnswer:
        assert (request.method, request.path) == ("POST", "/api/calls")
        assert request.headers["x-api-key"] == KEY
        bodies.append(request.json())
        return HttpAnswer.of({"callId": "c1", "joinUrl": "wss://call.example.com/2"}, 201)

    async def scenario() -> None:
        async with HttpServer(answer) as server:
            dialect = UltravoxDialect({"url": server.url, "api_key": KEY, "model": "m1"}, AgentOptions(**values))
            await dialect.prepare()
            assert dialect.endpoints() == {"call": WebSocketEndpoint("wss://call.example.com/2")}

    asyncio.run(scenario())
    assert check_call(bodies[0]) == ""
    return bodies[0]


def state(name: str) -> Json:
    return {"type": "state", "state": name}


def said(ordinal: int, delta: str | None = None, *, text: str | None = None, final: bool = False) -> Json:
    words = {"role": "agent", "medium": "voice", "text": text, "delta": delta, "final": final, "ordinal": ordinal}
    return {"type": "transcript", **words}


def heard(text: str, *, final: bool = True) -> Json:
    return {"type": "transcript", "role": "user", "medium": "voice", "text": text, "final": final, "ordinal": 1}


def tool(call_id: str) -> Json:
    place = {"toolName": "price", "invocationId": call_id}
    return {"type": "client_tool_invocation", **place, "parameters": {"nights": 2}}


# --- the call ---------------------------------------------------------------------------------------------------------


def test_a_call_with_nothing_set() -> None:
    medium = {"inputSampleRate": 8000, "outputSampleRate": 16000, "clientBufferSizeMs": 30000}
    assert created() == {
        "systemPrompt": "",
        "model": "m1",
        "medium": {"serverWebSocket": medium},
        "firstSpeakerSettings": {"user": {}},
        "maxDuration": "3600s",
    }


def test_a_call_with_everything_set() -> None:
    call = created(
        instructions="Be kind.",
        voice="Mark",
        temperature=1.7,
        language="de-AT",
        greeting="Hello",
        tools=(PRICE, ToolDeclaration("bye", "Ends it.", {})),
        turn_detection=TurnDetection(silence_ms=640, threshold=0.3),
        extra={"maxDuration": "7200s", "recordingEnabled": True},
    )
    assert call["firstSpeakerSettings"] == {"agent": {"text": "Hello"}}
    assert call["temperature"] == 1.0
    assert call["vadSettings"] == {"turnEndpointDelay": "0.64s", "frameActivationThreshold": 0.3}
    assert (call["languageHint"], call["voice"], call["maxDuration"]) == ("de-AT", "Mark", "7200s")
    price, bye = (selected["temporaryTool"] for selected in call["selectedTools"])
    assert [(p["name"], p["required"]) for p in price["dynamicParameters"]] == [("nights", True), ("room", False)]
    assert bye["dynamicParameters"] == []


def test_a_conversation_that_goes_on() -> None:
    history = (Said("assistant", "Hello"), Said("user", "two nights"), ToolUsed("t1", "price", '{"nights":2}', "240"))
    call = created(greeting="Hello", history=history)
    assert call["firstSpeakerSettings"] == {"user": {}}, "it has greeted already"
    place = {"toolName": "price", "invocationId": "t1"}
    assert call["initialMessages"] == [
        {"role": "MESSAGE_ROLE_AGENT", "text": "Hello"},
        {"role": "MESSAGE_ROLE_USER", "text": "two nights"},
        {"role": "MESSAGE_ROLE_TOOL_CALL", "text": '{"nights":2}', **place},
        {"role": "MESSAGE_ROLE_TOOL_RESULT", "text": "240", **place},
    ]


def test_what_it_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="api_key"):
        UltravoxDialect({}, AgentOptions())
    with pytest.raises(ConfigError, match="pcmu"):
        UltravoxDialect(JOINED, AgentOptions(input_format=PCMU))


def test_an_answer_without_a_url() -> None:
    async def scenario() -> None:
        async def answer(request: HttpRequest) -> HttpAnswer:
            return HttpAnswer.of({"callId": "c1"})

        async with HttpServer(answer) as server:
            with pytest.raises(AgentStartError) as failure:
                await UltravoxDialect({"url": server.url, "api_key": KEY}, AgentOptions()).prepare()
            assert failure.value.code == "answer"

    asyncio.run(scenario())


def test_its_time() -> None:
    assert opened().dialect.lifetime == Lifetime(3540.0, 3595.0)
    assert opened(extra={"maxDuration": "600s"}).dialect.lifetime == Lifetime(540.0, 595.0)


def test_a_call_that_never_says_that_it_has_begun() -> None:
    for first in (state("idle"), said(1, "Hello"), {"type": "playback_clear_buffer"}, tool("t1"), bytes(320)):
        drive = Driver(UltravoxDialect(JOINED, AgentOptions(input_format=PCM_8K, output_format=PCM_8K)), "call", judge)
        drive.server(first)
        assert drive.take_events()[0] == SessionOpen()


# --- a conversation ---------------------------------------------------------------------------------------------------


def test_a_reply_lasts_as_long_as_the_agent_speaks() -> None:
    drive = opened()
    drive.server(state("thinking"), state("speaking"), said(2, "Hel"), b"\1\0\2", said(2, "lo"), b"\0\3\0")
    drive.advance(20)
    drive.server(state("listening"), said(2, text="Hello", final=True))
    assert drive.take_events() == [
        AssistantTurnStarted("reply-1"),
        AssistantText("reply-1", "Hel", final=False),
        AssistantAudio("reply-1", "reply-1-item", b"\1\0"),
        AssistantText("reply-1", "lo", final=False),
        AssistantAudio("reply-1", "reply-1-item", b"\2\0\3\0"),
        AssistantText("reply-1", "Hello", final=True),
        AssistantTurnEnd("reply-1", "completed"),
    ]


def test_sound_that_no_state_announced() -> None:
    drive = opened()
    drive.server(said(2, text="Hel"), said(2, text="Hello"))
    drive.advance(2)
    drive.server(bytes(320), said(2, text="Hello!", final=True))
    drive.advance(0.9)
    assert drive.order.open_replies == ["reply-1"]
    drive.advance(0.2)
    events = drive.take_events()
    assert [e.text for e in events if isinstance(e, AssistantText)] == ["Hel", "lo", "Hello!"]
    assert events[-1] == AssistantTurnEnd("reply-1", "completed")


def test_an_interruption() -> None:
    drive = opened()
    drive.server(state("speaking"), said(2, "A long story"), bytes(320))
    drive.take_events()
    drive.server({"type": "playback_clear_buffer"})
    assert drive.take_events() == [
        UserSpeechStarted(),
        AssistantInterrupted("reply-1"),
        AssistantText("reply-1", "A long story", final=True),
        AssistantTurnEnd("reply-1", "cancelled"),
    ]
    drive.command("cancel", [Played("reply-1", "reply-1-item", 5)])
    drive.server(said(2, text="A long", final=True), state("listening"), heard("stop"), state("thinking"))
    assert drive.take_events() == [UserSpeechEnded(), UserTranscript("stop", final=True)]


def test_our_own_cut_lasts_until_the_agent_is_silent() -> None:
    drive = opened()
    drive.server(state("speaking"), bytes(320))
    drive.command("cancel", [Played("reply-1", "reply-1-item", 5)])
    drive.server(bytes(320), state("listening"), state("speaking"), bytes(320))
    ends = [e for e in drive.take_events() if isinstance(e, AssistantTurnEnd)]
    assert ends == [AssistantTurnEnd("reply-1", "cancelled")]
    assert drive.dialect.counters["late_audio_bytes"] == 320


def test_transcripts_only_as_far_as_they_are_wanted() -> None:
    drive = opened()
    drive.server(heard("two", final=False), heard(" two nights "))
    assert drive.take_events() == [UserTranscript("two nights", final=True)]
    drive = opened(interim_transcripts=True)
    drive.server(heard("two", final=False))
    assert drive.take_events() == [UserTranscript("two", final=False)]


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_call_and_its_result() -> None:
    drive = opened()
    drive.server(state("thinking"), tool("t1"))
    assert drive.take_events() == [
        AssistantTurnStarted("reply-1"),
        ToolCall("t1", "price", '{"nights": 2}', "reply-1"),
        AssistantTurnEnd("reply-1", "completed"),
    ]
    drive.command("send_tool_result", "t1", "240 euro")
    (answer,) = drive.take_sent()
    assert (answer["invocationId"], answer["result"], answer["agentReaction"]) == ("t1", "240 euro", "speaks")


def test_calls_have_a_bound() -> None:
    drive = opened()
    drive.server(*(tool(f"t{number}") for number in range(MOST_CALLS + 3)))
    assert len([e for e in drive.take_events() if isinstance(e, ToolCall)]) == MOST_CALLS
    assert drive.dialect.counters["too_many_calls"] == 3


def test_a_call_that_is_cut_with_its_reply_is_not_spoken_about() -> None:
    drive = opened()
    drive.server(state("speaking"), bytes(320), tool("t1"))
    drive.command("cancel", [Played("reply-1", "reply-1-item", 5)])
    assert ToolCallCancelled("t1") in drive.take_events()
    (answer,) = drive.take_sent()
    assert (answer["result"], answer["agentReaction"]) == (CANCELLED_OUTPUT, "listens")


# --- what we say ------------------------------------------------------------------------------------------------------


def test_what_we_send() -> None:
    drive = opened(greeting="Hello")
    drive.command("push_audio", b"\1\0" * 160)
    assert drive.sent_audio == [b"\1\0" * 160]
    drive.command("say", "Hello")
    drive.command("say", "Goodbye")
    drive.command("send_text", "The caller pressed 5.")
    drive.command("create_response")
    drive.command("send_text", "The caller pressed 6.")
    drive.advance(2)
    drive.command("create_response")
    drive.command("update_instructions", "Be brief.")
    drive.command("close")
    assert drive.take_sent() == [
        {"type": "forced_agent_message", "content": "Goodbye", "urgency": "soon"},
        {"type": "user_text_message", "text": "The caller pressed 5.", "urgency": "soon"},
        {"type": "user_text_message", "text": "The caller pressed 6.", "urgency": "later"},
        {"type": "user_text_message", "text": "Please go on.", "urgency": "soon"},
        {"type": "hang_up"},
    ]
    assert drive.dialect.counters == {"unsupported_update_instructions": 1}


# --- ends and bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "again"), [(1006, True), (1011, True), (1008, False)])
def test_ends(code: int, again: bool) -> None:
    drive = opened()
    drive.server(state("speaking"), bytes(320))
    drive.advance(2.5)
    drive.drop(code, "why")
    error, end, usage, closed = drive.take_events()[-4:]
    assert isinstance(error, AgentError)
    assert error.fatal
    assert (end, usage) == (AssistantTurnEnd("reply-1", "failed"), Usage("", {"session_seconds": 2.5}))
    assert closed == SessionClosed(f"{code} why", again=again)


def test_the_agent_hangs_up() -> None:
    drive = opened()
    drive.drop(1000)
    assert drive.take_events()[-1] == SessionClosed("1000")
    drive.order.done()


def test_what_cannot_be_read_is_counted() -> None:
    drive = opened()
    for data in ('{"type":', "[]", '{"type":"transcript"}', '{"type":7}', '{"no":"type"}', "7"):
        drive.raw(data)
    drive.server(
        {"type": "of.the.future"}, {"type": "debug", "message": "x"}, {"type": "pong", "timestamp": 1.0}, b"\1"
    )
    assert drive.take_events() == []
    assert drive.dialect.counters == {"malformed": 5, "unknown": 2}
