"""xai: where Grok's protocol is not OpenAI's."""

from __future__ import annotations

from typing import Any

import pytest

from sipbridge.agent import AgentOptions, Said, SessionOpen, ToolDeclaration, TurnDetection, UserTranscript
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, PCMU, AudioFormat
from sipbridge.providers import WebSocketEndpoint, capabilities_of
from sipbridge.providers.xai import XaiDialect
from tests.providers.judges import judge_of
from tests.providers.openai_driver import CREDENTIAL, Driver, created, done, options

Json = dict[str, Any]
JUDGE = judge_of("xai", "")
UPDATED: Json = {"type": "session.updated", "session": {}}


def driver(wanted: AgentOptions | None = None) -> Driver:
    assert JUDGE is not None
    return Driver(wanted or options(), CREDENTIAL, XaiDialect, JUDGE)


def session(wanted: AgentOptions) -> Json:
    it = driver(wanted)
    it.server({"type": "session.created", "session": {"id": "s"}})
    (update,) = it.take_sent()
    described: Json = update["session"]
    return described


def test_the_vendor_s_endpoint() -> None:
    (there,) = XaiDialect(CREDENTIAL, options()).endpoints().values()
    assert isinstance(there, WebSocketEndpoint)
    assert there.url == "wss://api.x.ai/v1/realtime?model=grok-voice-latest"
    assert there.headers == {"Authorization": "Bearer sk-test-0123456789"}


def test_the_session_object() -> None:
    tool = ToolDeclaration("hang_up", "End the call", {"type": "object", "properties": {}})
    wanted = options(instructions="Be brief.", voice="ara", language="en-GB", temperature=0.7, tools=(tool,))
    assert session(wanted) == {
        "instructions": "Be brief.",
        "voice": "ara",
        "turn_detection": {"type": "server_vad"},
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "grok-transcribe", "language_hint": "en"},
            },
            "output": {"format": {"type": "audio/pcmu"}},
        },
        "tools": [
            {"type": "function", "name": "hang_up", "description": "End the call", "parameters": tool.parameters}
        ],
    }


@pytest.mark.parametrize(("wanted", "sent"), [(0.0, 0.1), (0.5, 0.5), (1.0, 0.9)])
def test_a_threshold_is_brought_into_the_vendor_s_range(wanted: float, sent: float) -> None:
    assert session(options(turn_detection=TurnDetection(threshold=wanted)))["turn_detection"]["threshold"] == sent


def test_turn_detection_that_it_does_not_know() -> None:
    assert session(options(turn_detection=TurnDetection("semantic_vad", eagerness="low")))["turn_detection"] == {
        "type": "server_vad"
    }
    assert session(options(turn_detection=TurnDetection("none")))["turn_detection"] is None


def test_it_can_t_be_told_to_let_the_caller_speak_into_its_replies() -> None:
    """The vendor documents no such member, so nothing is sent, and the dialect expects to be cut all the same."""
    wanted = options(turn_detection=TurnDetection(interrupt_response=False))
    assert session(wanted)["turn_detection"] == {"type": "server_vad"}
    assert XaiDialect(CREDENTIAL, wanted).capabilities.interrupts_by_itself
    assert not capabilities_of("xai").can_leave_interrupting


@pytest.mark.parametrize(
    ("rate", "taken"), [(8000, PCM_8K), (16000, PCM_16K), (24000, PCM_24K), (48000, AudioFormat("pcm16", 48000))]
)
def test_no_phone_s_rate_needs_a_resampler(rate: int, taken: AudioFormat) -> None:
    assert capabilities_of("xai").formats_for(None, rate) == (taken, taken)
    described = session(options(input_format=taken, output_format=taken))
    assert described["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": rate}
    assert capabilities_of("xai").formats_for(PCMU, 8000) == (PCMU, PCMU)


@pytest.mark.parametrize(
    "first",
    [
        [{"type": "session.created", "session": {"id": "s"}}],
        [{"type": "conversation.created", "conversation": {"id": "c"}}],
        [{"type": "conversation.created"}, {"type": "session.created", "session": {"id": "s"}}],
    ],
)
def test_either_first_word_will_do(first: list[Json]) -> None:
    it = driver()
    it.server(*first, UPDATED)
    assert [message["type"] for message in it.take_sent()] == ["session.update"]
    (event,) = it.take_events()
    assert isinstance(event, SessionOpen)


def test_interim_transcripts_are_told_as_what_is_new() -> None:
    def updated(text: str, item: str = "i") -> Json:
        kind = "conversation.item.input_audio_transcription.updated"
        return {"type": kind, "item_id": item, "transcript": text}

    it = driver(options(interim_transcripts=True))
    it.server({"type": "conversation.created"}, UPDATED)
    it.take_events()
    it.server(updated("How"), updated("How much"), updated("How much"), updated("Now much"), updated("Yes", "j"))
    assert it.take_events() == [
        UserTranscript("How", final=False, item_id="i"),
        UserTranscript(" much", final=False, item_id="i"),
        UserTranscript("Yes", final=False, item_id="j"),
    ]
    it = driver()
    it.server({"type": "conversation.created"}, UPDATED)
    it.take_events()
    it.server(updated("How"))
    assert it.take_events() == []
    assert it.dialect.counters["unknown"] == 0


def test_pings_are_no_news() -> None:
    it = driver()
    it.server({"type": "conversation.created"}, {"type": "ping", "timestamp": 1}, UPDATED, {"type": "ping"})
    assert len(it.take_events()) == 1
    assert it.dialect.counters["unknown"] == 0


def test_it_is_asked_to_speak_like_the_others_and_goes_on_where_it_was() -> None:
    it = driver(options(history=(Said("assistant", "Hello."),)))
    it.server({"type": "session.created", "session": {"id": "s"}}, UPDATED)
    assert [message["type"] for message in it.take_sent()] == ["session.update", "conversation.item.create"]
    it.command("say", "Welcome.")
    assert it.take_sent()[0]["response"]["instructions"].endswith("Welcome.")
    it.server(created("r1"), done("r1"))
    it.command("update_instructions", "Be long.")
    assert it.take_sent() == [{"type": "session.update", "session": {"instructions": "Be long."}}]
    lifetime = it.dialect.lifetime
    assert lifetime is not None
    assert lifetime.expires_at < 3600
