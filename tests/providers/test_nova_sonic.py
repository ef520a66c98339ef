"""The Nova Sonic dialect in memory. Its events are read by the simulated model, which keeps the vendor's order."""

from __future__ import annotations

import json
from base64 import b64encode
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
    HistoryItem,
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
from sipbridge.errors import ConfigError
from sipbridge.providers import BedrockEndpoint, Lifetime, capabilities_of
from sipbridge.providers.nova_channel import sdk_is_there
from sipbridge.providers.nova_sonic import HISTORY_ALL, NovaSonicDialect
from sipbridge.providers.phrases import CANCELLED_OUTPUT
from sipbridge.simulator.model import Opening, SessionRecord
from sipbridge.simulator.nova import NovaModel
from sipbridge.simulator.script import Script
from tests.providers.bedrock_stub import SocketlessConnection
from tests.providers.drive import Driver, Json

SOCKET = {"provider": "nova_sonic", "url": "ws://127.0.0.1:1/nova-sonic"}
PRICE = ToolDeclaration("price", "What it costs.", {"type": "object", "properties": {"nights": {"type": "integer"}}})


class Judge:
    """The simulated model, which never says a word of its own here."""

    def __init__(self) -> None:
        self.record = SessionRecord({}, "")
        self._model = NovaModel(SocketlessConnection(self.record), Script(think_ms=10**6), Opening("", {}, {}))
        self._model.answer = lambda text="": None  # type: ignore[method-assign]

    def __call__(self, message: Json) -> None:
        self._model.receive(json.dumps(message))
        assert self.record.violations == []

    def waits_for(self, call_id: str) -> None:
        self.record.open_calls.append(call_id)


def driver(credential: Json | None = None, judge: Judge | None = None, **options: Any) -> Driver[NovaSonicDialect]:
    values: dict[str, Any] = {"input_format": PCM_8K, "output_format": PCM_16K, **options}
    dialect = NovaSonicDialect({**SOCKET, **(credential or {})}, AgentOptions(**values))
    return Driver(dialect, "stream", judge or Judge())


def opened(**options: Any) -> Driver[NovaSonicDialect]:
    drive = driver(**options)
    assert drive.take_events() == [SessionOpen()]
    drive.take_sent()
    return drive


def names(messages: list[Json]) -> list[str]:
    return [next(iter(message["event"])) for message in messages]


def blocks(messages: list[Json]) -> list[tuple[str, str]]:
    """(role, text) of each block of text."""
    roles, found = {}, []
    for message in messages:
        ((kind, event),) = message["event"].items()
        if kind == "contentStart":
            roles[event["contentName"]] = event["role"]
        elif kind == "textInput":
            found.append((roles[event["contentName"]], event["content"]))
    return found


# the service's events


def event(kind: str, **fields: Any) -> Json:
    return {"event": {kind: {"completionId": "c1", "promptName": "prompt-1", "sessionId": "s1", **fields}}}


def start(content_id: str, kind: str, role: str, stage: str = "") -> Json:
    fields = {"additionalModelFields": json.dumps({"generationStage": stage})} if stage else {}
    return event("contentStart", contentId=content_id, type=kind, role=role, **fields)


def end(content_id: str, kind: str, stop: str) -> Json:
    return event("contentEnd", contentId=content_id, type=kind, stopReason=stop)


def text(content_id: str, role: str, stage: str, words: str, stop: str = "PARTIAL_TURN") -> list[Json]:
    said = event("textOutput", contentId=content_id, role=role, content=words)
    return [start(content_id, "TEXT", role, stage), said, end(content_id, "TEXT", stop)]


def sound(content_id: str, pcm: bytes = bytes(640)) -> Json:
    return event("audioOutput", contentId=content_id, content=b64encode(pcm).decode())


def tool(content_id: str, call_id: str) -> list[Json]:
    use = event("toolUse", contentId=content_id, toolName="price", toolUseId=call_id, content='{"nights":2}')
    return [start(content_id, "TOOL", "TOOL"), use, end(content_id, "TOOL", "TOOL_USE")]


INTERRUPTED = '{ "interrupted" : true }'


# --- the setup --------------------------------------------------------------------------------------------------------


def test_the_order_of_the_setup() -> None:
    sent = driver(instructions="Be kind.").take_sent()
    assert names(sent) == [
        "sessionStart",
        "promptStart",
        "contentStart",
        "textInput",
        "contentEnd",
        "contentStart",
    ]
    assert sent[0]["event"]["sessionStart"] == {"inferenceConfiguration": {"maxTokens": 1024, "topP": 0.9}}
    prompt = sent[1]["event"]["promptStart"]
    assert prompt["audioOutputConfiguration"]["sampleRateHertz"] == 16000
    assert prompt["audioOutputConfiguration"]["voiceId"] == "matthew"
    assert "toolConfiguration" not in prompt
    assert blocks(sent) == [("SYSTEM", "Be kind.")]
    block = sent[5]["event"]["contentStart"]
    assert (block["type"], block["role"], block["interactive"]) == ("AUDIO", "USER", True)
    assert block["audioInputConfiguration"]["sampleRateHertz"] == 8000


def test_options() -> None:
    sent = driver(
        temperature=1.4,
        voice="tiffany",
        tools=(PRICE,),
        turn_detection=TurnDetection(type="semantic_vad", eagerness="low"),
        extra={"inferenceConfiguration": {"maxTokens": 512}},
    ).take_sent()
    session, prompt = sent[0]["event"]["sessionStart"], sent[1]["event"]["promptStart"]
    assert session["inferenceConfiguration"] == {"maxTokens": 512, "topP": 0.9, "temperature": 1.0}
    assert session["turnDetectionConfiguration"] == {"endpointingSensitivity": "LOW"}
    assert prompt["audioOutputConfiguration"]["voiceId"] == "tiffany"
    (spec,) = prompt["toolConfiguration"]["tools"]
    assert json.loads(spec["toolSpec"]["inputSchema"]["json"]) == PRICE.parameters
    assert prompt["toolUseOutputConfiguration"] == {"mediaType": "application/json"}


def test_the_first_generation() -> None:
    first = {"model": "amazon.nova-sonic-v1:0"}
    drive = driver(first, turn_detection=TurnDetection(type="semantic_vad", eagerness="high"))
    assert drive.take_sent()[0]["event"]["sessionStart"]["endpointingSensitivity"] == "HIGH"
    for command, arguments in (("send_text", ["5"]), ("create_response", []), ("say", ["Hello"])):
        drive.command(command, *arguments)
    assert drive.take_sent() == []
    capabilities = capabilities_of("nova_sonic", first)
    assert not capabilities.takes_text
    assert not capabilities.can_say
    assert "greta" in capabilities.voices


def test_history_in_blocks_and_the_rest_behind_the_instructions() -> None:
    history: tuple[HistoryItem, ...] = (
        Said("assistant", "Hotel Aster."),
        Said("user", "two nights"),
        ToolUsed("t1", "price", '{"nights":2}', "240"),
        Said("assistant", "That is 240."),
        Said("user", "ä" * 800),
    )
    system, *rest = blocks(driver(instructions="Be kind.", history=history).take_sent())
    assert system[0] == "SYSTEM"
    assert "You: Hotel Aster." in system[1]
    assert "You called price" in system[1]
    assert "two nights" not in system[1]
    assert rest == [("USER", "two nights"), ("ASSISTANT", "That is 240."), ("USER", "ä" * 500)]


def test_history_has_a_bound() -> None:
    history = tuple(Said("user" if n % 2 else "assistant", f"{n:04} " + "x" * 900) for n in range(100))
    _, *rest = blocks(driver(history=history).take_sent())
    assert sum(len(words) for _, words in rest) <= HISTORY_ALL
    assert rest[0][0] == "USER"
    assert rest[-1][1].startswith("0099")


def test_what_it_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="together"):
        NovaSonicDialect({**SOCKET, "aws": {"access_key_id": "AK"}}, AgentOptions())
    with pytest.raises(ConfigError, match="pcmu"):
        NovaSonicDialect(SOCKET, AgentOptions(input_format=PCMU))
    if not sdk_is_there():
        with pytest.raises(ConfigError, match="extra `nova`"):
            NovaSonicDialect({}, AgentOptions())


def test_where_it_connects_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.providers.nova_sonic.sdk_is_there", lambda: True)
    keys = {"access_key_id": "AK", "secret_access_key": "SECRET", "session_token": "TOKEN"}
    nested = NovaSonicDialect({"aws": {"region": "eu-north-1", **keys}, "model": "m"}, AgentOptions()).endpoints()
    assert nested == {"stream": BedrockEndpoint("eu-north-1", "m", "", "AK", "SECRET", "TOKEN")}
    assert "SECRET" not in str(nested)
    assert "TOKEN" not in str(nested)
    flat = NovaSonicDialect({"region": "eu-north-1", "model": "m", "aws": None, **keys}, AgentOptions())
    assert flat.endpoints() == nested
    other = NovaSonicDialect({"url": "https://vpce.example.com"}, AgentOptions()).endpoints()["stream"]
    assert other == BedrockEndpoint("us-east-1", "amazon.nova-2-sonic-v1:0", "https://vpce.example.com")


def test_it_is_open_when_the_stream_is_taken_or_nobody_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.providers.nova_sonic.sdk_is_there", lambda: True)
    drive = driver({"url": ""})
    assert drive.take_events() == []
    drive.raw(b"")
    assert drive.take_events() == [SessionOpen()]
    drive = driver({"url": ""})
    drive.advance(0.9)
    assert drive.take_events() == []
    drive.advance(0.2)
    assert drive.take_events() == [SessionOpen()]
    drive = driver({"url": ""})
    drive.drop(403, "AccessDeniedException: no")
    error, closed = drive.take_events()
    assert isinstance(error, AgentError)
    assert error.code == "403"
    assert closed == SessionClosed("AccessDeniedException: no")


def test_its_time() -> None:
    assert opened().dialect.lifetime == Lifetime(360.0, 470.0)


# --- a conversation ---------------------------------------------------------------------------------------------------


def test_a_reply_in_two_sentences() -> None:
    drive = opened()
    drive.server(event("completionStart"), *text("1", "USER", "FINAL", " two nights "))
    assert drive.take_events() == [UserTranscript("two nights", final=True)]
    drive.server(*text("2", "ASSISTANT", "SPECULATIVE", "One."), start("3", "AUDIO", "ASSISTANT"), sound("3"))
    drive.server(end("3", "AUDIO", "PARTIAL_TURN"), *text("4", "ASSISTANT", "SPECULATIVE", "Two."))
    drive.server(start("5", "AUDIO", "ASSISTANT"), sound("5"), end("5", "AUDIO", "END_TURN"))
    drive.server(*text("6", "ASSISTANT", "FINAL", "One."), *text("7", "ASSISTANT", "FINAL", "Two.", "END_TURN"))
    assert drive.take_events() == [
        AssistantTurnStarted("reply-1"),
        AssistantText("reply-1", "One.", final=False),
        AssistantAudio("reply-1", "reply-1-item", bytes(640)),
        AssistantText("reply-1", " Two.", final=False),
        AssistantAudio("reply-1", "reply-1-item", bytes(640)),
        AssistantText("reply-1", "One. Two.", final=True),
        AssistantTurnEnd("reply-1", "completed"),
    ]
    assert drive.dialect.get_timer() is None


def test_a_reply_that_nobody_ends() -> None:
    drive = opened()
    drive.server(start("3", "AUDIO", "ASSISTANT"), sound("3"), end("3", "AUDIO", "PARTIAL_TURN"))
    drive.advance(1.9)
    assert drive.order.open_replies
    drive.advance(0.2)
    assert drive.take_events()[-1] == AssistantTurnEnd("reply-1", "completed")


def test_an_interruption_is_told_twice_and_counts_once() -> None:
    drive = opened()
    drive.server(*text("2", "ASSISTANT", "SPECULATIVE", "A long story."), start("3", "AUDIO", "ASSISTANT"), sound("3"))
    drive.take_events()
    drive.server(end("3", "AUDIO", "INTERRUPTED"), *text("4", "ASSISTANT", "FINAL", INTERRUPTED, "INTERRUPTED"))
    assert drive.take_events() == [
        UserSpeechStarted(),
        AssistantInterrupted("reply-1"),
        AssistantText("reply-1", "A long story.", final=True),
        AssistantTurnEnd("reply-1", "cancelled"),
    ]
    drive.command("cancel", [Played("reply-1", "reply-1-item", 5)])
    drive.server(*text("5", "USER", "FINAL", "stop"), *text("6", "ASSISTANT", "SPECULATIVE", "Yes?"))
    assert drive.take_events()[:3] == [
        UserSpeechEnded(),
        UserTranscript("stop", final=True),
        AssistantTurnStarted("reply-2"),
    ]
    assert drive.take_sent() == []


def test_an_interruption_of_what_was_generated_before() -> None:
    drive = opened()
    drive.server(*text("4", "ASSISTANT", "FINAL", INTERRUPTED, "INTERRUPTED"))
    assert drive.take_events() == [UserSpeechStarted()]


def test_our_own_cut() -> None:
    drive = opened()
    drive.server(start("3", "AUDIO", "ASSISTANT"), sound("3"))
    drive.command("cancel", [Played("reply-1", "reply-1-item", 5)])
    drive.server(sound("3"), end("3", "AUDIO", "END_TURN"), start("4", "AUDIO", "ASSISTANT"), sound("4"))
    heard = [e.reply_id for e in drive.take_events() if isinstance(e, AssistantAudio)]
    assert heard == ["reply-1", "reply-2"]
    assert drive.dialect.counters["late_audio_bytes"] == 640


def test_usage_by_what_came_on_top() -> None:
    drive = opened()
    counts = {"speechTokens": 40, "textTokens": 0}
    details = {"delta": {"input": counts, "output": {"speechTokens": 7, "textTokens": 3}}, "total": {}}
    drive.server(event("usageEvent", details=details, totalTokens=1000))
    assert drive.take_events() == [
        Usage("", {"input_audio_tokens": 40, "output_audio_tokens": 7, "output_text_tokens": 3})
    ]


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_call_and_its_result() -> None:
    judge = Judge()
    drive = driver(judge=judge)
    drive.take_events()
    drive.take_sent()
    drive.server(*tool("2", "t1"))
    judge.waits_for("t1")
    assert drive.take_events() == [
        AssistantTurnStarted("reply-1"),
        ToolCall("t1", "price", '{"nights":2}', "reply-1"),
        AssistantTurnEnd("reply-1", "completed"),
    ]
    drive.command("send_tool_result", "t1", '{"eur":240}')
    sent = drive.take_sent()
    assert names(sent) == ["contentStart", "toolResult", "contentEnd"]
    assert sent[0]["event"]["contentStart"]["toolResultInputConfiguration"]["toolUseId"] == "t1"
    assert sent[1]["event"]["toolResult"]["content"] == '{"eur":240}'


def test_a_call_of_a_reply_that_is_cut_is_cut_with_it() -> None:
    judge = Judge()
    drive = driver(judge=judge)
    drive.server(start("1", "AUDIO", "ASSISTANT"), sound("1"), *tool("2", "t1"))
    judge.waits_for("t1")
    drive.command("cancel", [Played("reply-1", "reply-1-item", 5)])
    assert ToolCallCancelled("t1") in drive.take_events()
    assert drive.take_sent()[-2]["event"]["toolResult"]["content"] == CANCELLED_OUTPUT


# --- what we send -----------------------------------------------------------------------------------------------------


def test_texts_are_answered_so_they_wait_to_be_asked_about() -> None:
    drive = opened()
    drive.command("send_text", "The caller pressed 5.")
    assert drive.take_sent() == []
    drive.command("create_response")
    drive.command("create_response")
    drive.command("say", "Hello")
    drive.command("send_text", "The caller pressed 6.")
    drive.advance(2)
    sent = blocks(drive.take_sent())
    assert [role for role, _ in sent] == ["USER"] * 4
    assert sent[0][1] == "The caller pressed 5."
    assert sent[2][1].endswith("\n\nHello")
    assert sent[3][1] == "The caller pressed 6."


def test_sound_and_goodbye() -> None:
    drive = opened()
    drive.command("push_audio", b"\1\0" * 160)
    drive.command("close")
    sent = drive.take_sent()
    assert names(sent) == ["audioInput", "contentEnd", "promptEnd", "sessionEnd"]
    assert sent[0]["event"]["audioInput"]["content"] == b64encode(b"\1\0" * 160).decode()
    assert drive.take_events() == [SessionClosed("closed", expected=True)]


# --- ends and bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "again"), [(400, False), (403, False), (404, False), (408, True), (424, True), (429, True), (503, True)]
)
def test_errors_of_the_service(status: int, again: bool) -> None:
    drive = opened()
    drive.server(start("3", "AUDIO", "ASSISTANT"), sound("3"))
    drive.drop(status, "why")
    error, reply, closed = drive.take_events()[-3:]
    assert isinstance(error, AgentError)
    assert (error.code, error.fatal) == (str(status), True)
    assert (reply, closed) == (AssistantTurnEnd("reply-1", "failed"), SessionClosed("why", again=again))
    drive.order.done()


def test_what_cannot_be_read_is_counted() -> None:
    drive = opened()
    for data in ('{"event":', "[]", '{"event":{}}', '{"event":{"audioOutput":{}}}', '{"event":{"a":{},"b":{}}}', "7"):
        drive.raw(data)
    drive.server(event("ofTheFuture"), start("9", "TEXT", "USER", "FINAL") | {"more": 1})
    assert drive.take_events() == []
    assert drive.dialect.counters == {"malformed": 6, "unknown": 1}
