"""openai_compatible: what is assumed of a server that nobody vouches for, one by one."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    SessionClosed,
    SessionOpen,
    ToolCall,
    ToolDeclaration,
    TurnDetection,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMU, AudioFormat, Played
from sipbridge.errors import ConfigError
from sipbridge.providers import WebSocketEndpoint, capabilities_of, new_agent_from_credential
from sipbridge.providers.openai_compatible import CompatibleDialect, apart, shape_of
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, Utterance
from tests.providers import openai_sdk, voicelive_sdk
from tests.providers.openai_driver import Driver, audio, call, created, done, error, speech_started

Json = dict[str, Any]
HERE: Json = {"url": "ws://127.0.0.1:8000/some/path", "model": "qwen3-omni"}
TOOLS = (ToolDeclaration("hang_up", "End the call", {}),)
PCM = AgentOptions(input_format=PCM_24K, output_format=PCM_24K, tools=TOOLS, voice="shimmer", instructions="Be brief.")
GA_CREATED: Json = {"type": "session.created", "session": {"id": "s", "type": "realtime", "audio": {}}}
BETA_CREATED: Json = {"type": "session.created", "session": {"id": "s", "modalities": ["text", "audio"]}}
UPDATED: Json = {"type": "session.updated", "session": {}}


def either(message: Json) -> None:
    """The judge of a server whose shape is not known in advance."""
    older = message["type"] == "session.update" and "type" not in message["session"]
    (voicelive_sdk if older else openai_sdk).check_client_event(message)


def driver(options: AgentOptions = PCM, **credential: Any) -> Driver:
    return Driver(options, HERE | credential, CompatibleDialect, either)


def opened(options: AgentOptions = PCM, **credential: Any) -> Driver:
    it = driver(options, **credential)
    it.server(GA_CREATED, UPDATED)
    assert it.take_events() == [SessionOpen("s")]
    it.take_sent()
    return it


def endpoint(**credential: Any) -> WebSocketEndpoint:
    (found,) = CompatibleDialect(HERE | credential, PCM).endpoints().values()
    assert isinstance(found, WebSocketEndpoint)
    return found


# --- 1: any address, and no key or another one ------------------------------------------------------------------------


def test_any_address_and_no_key() -> None:
    assert endpoint().url == "ws://127.0.0.1:8000/some/path?model=qwen3-omni"
    assert endpoint().headers == {}
    assert endpoint(model=None).url == "ws://127.0.0.1:8000/some/path"
    with pytest.raises(ConfigError, match="url: is needed"):
        CompatibleDialect({"model": "m"}, PCM)


@pytest.mark.parametrize(
    ("credential", "headers"),
    [
        ({"api_key": "k-0123456789"}, {"Authorization": "Bearer k-0123456789"}),
        ({"api_key": "Basic dTpw"}, {"Authorization": "Basic dTpw"}),
        ({"api_key": "k-0123456789", "key_header": "X-API-Key"}, {"X-API-Key": "k-0123456789"}),
    ],
)
def test_keys_of_all_kinds(credential: Json, headers: Json) -> None:
    assert endpoint(**credential).headers == headers


# --- 2: answers that are late or never come ---------------------------------------------------------------------------


def test_an_update_that_is_not_answered_is_not_waited_for_longer_than_two_seconds() -> None:
    it = driver()
    it.server(GA_CREATED)
    assert [message["type"] for message in it.take_sent()] == ["session.update"]
    it.advance(1.9)
    assert it.take_events() == []
    it.advance(0.1)
    assert it.take_events() == [SessionOpen("s")]
    assert it.dialect.counters["setup_unanswered"] == 1
    it.server(UPDATED)
    it.command("say", "Welcome.")
    assert [message["type"] for message in it.take_sent()] == ["response.create"]
    assert it.take_events() == [], "late, it changes nothing"


def test_a_server_that_waits_for_us_is_configured_and_in_time_for_a_call() -> None:
    it = driver()
    it.advance(1.0)
    assert [message["type"] for message in it.take_sent()] == ["session.update"]
    it.advance(1.5)
    assert it.take_events() == [SessionOpen("")]


def test_over_a_socket_a_call_gets_through_to_a_server_that_never_answers_the_set_up() -> None:
    async def scenario() -> None:
        script = Script(fault=Fault("no_update"), speed=0.0, utterances=(Utterance(seconds=0.1),))
        async with asyncio.timeout(20), ModelServer(script, wire="openai_compatible") as server:
            credential = {"provider": "openai_compatible", "url": server.url, "output_rate": 16000}
            agent = new_agent_from_credential(credential, AgentOptions(input_format=PCM_24K, output_format=PCM_16K))
            await agent.start()
            agent.say("Welcome.")
            heard = 0
            async for event in agent:
                heard += len(event.pcm) if isinstance(event, AssistantAudio) else 0
                if isinstance(event, AssistantTurnEnd):
                    break
            await agent.close()
            assert heard == 3200
            assert agent.counters["setup_unanswered"] == 1

    asyncio.run(scenario())


# --- 3: either naming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "shape"),
    [
        ({}, "ga"),
        ({"id": "s", "object": "realtime.session"}, "ga"),
        ({"type": "realtime", "output_modalities": ["audio"]}, "ga"),
        ({"modalities": ["audio", "text"]}, "beta"),
        ({"input_audio_format": "pcm16"}, "beta"),
        ({"modalities": ["audio"], "audio": {"input": {}}}, "ga"),
    ],
)
def test_the_shape_is_what_the_server_begins_with(session: Json, shape: str) -> None:
    assert shape_of(session) == shape


@pytest.mark.parametrize(
    ("wanted", "first", "older"),
    [
        ("auto", GA_CREATED, False),
        ("auto", BETA_CREATED, True),
        ("auto", {"type": "session.created"}, False),
        ("ga", BETA_CREATED, False),
        ("beta", GA_CREATED, True),
    ],
)
def test_the_configuration_has_the_server_s_shape(wanted: str, first: Json, older: bool) -> None:
    it = driver(shape=wanted)
    it.server(first)
    (update,) = it.take_sent()
    assert ("modalities" in update["session"]) == older
    assert ("type" in update["session"]) != older
    with pytest.raises(ConfigError, match="shape"):
        CompatibleDialect(HERE | {"shape": "other"}, PCM)


def test_events_of_the_older_names_are_understood() -> None:
    it = driver()
    it.server(BETA_CREATED, UPDATED)
    it.take_events()
    it.server(created("r1"), audio("r1", "i1", 10) | {"type": "response.audio.delta"}, done("r1"))
    assert [type(event) for event in it.take_events()] == [AssistantTurnStarted, AssistantAudio, AssistantTurnEnd]


def test_nothing_is_said_of_transcription_unless_its_model_is_named() -> None:
    for shape in ("ga", "beta"):
        it = driver(shape=shape)
        it.server(GA_CREATED)
        assert "transcription" not in str(it.take_sent()[0]["session"])
    it = driver(transcription_model="whisper-large")
    it.server(GA_CREATED)
    assert it.take_sent()[0]["session"]["audio"]["input"]["transcription"] == {"model": "whisper-large"}
    it = driver(AgentOptions(input_format=PCM_24K, transcription=False))
    it.server(GA_CREATED)
    assert it.take_sent()[0]["session"]["audio"]["input"]["transcription"] is None


# --- 4: other rates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 48000])
def test_the_output_s_rate_is_an_option(rate: int) -> None:
    capabilities = capabilities_of("openai_compatible", HERE | {"output_rate": rate})
    assert capabilities.formats_for(PCMU, 8000) == (PCM_24K, AudioFormat("pcm16", rate))
    options = AgentOptions(input_format=PCM_24K, output_format=AudioFormat("pcm16", rate))
    it = opened(options, output_rate=rate)
    second = audio("r1", "i1", 0) | {"delta": b64encode(bytes(rate * 2)).decode()}
    it.server(created("r1"), second, done("r1"))
    it.command("cancel", [Played("r1", "i1", 999)])
    assert it.take_sent()[-1]["audio_end_ms"] == 999
    it.server(created("r2"), second | {"response_id": "r2", "item_id": "i2"}, done("r2"))
    it.command("cancel", [Played("r2", "i2", 1001)])
    assert it.take_sent() == [], "a second was sent, and all of it was heard"


def test_g711_only_where_the_operator_says_so() -> None:
    assert not capabilities_of("openai_compatible", HERE).native_formats
    assert PCMU in capabilities_of("openai_compatible", HERE | {"g711": True}).native_formats
    with pytest.raises(ConfigError):
        CompatibleDialect(HERE, AgentOptions(input_format=PCMU, output_format=PCMU))
    with pytest.raises(ConfigError, match="output_rate"):
        CompatibleDialect(HERE | {"output_rate": 12345}, PCM)


# --- 5: events and members that are missing ---------------------------------------------------------------------------


def test_a_bare_stream_of_deltas_is_a_reply() -> None:
    it = opened()
    bare = {"type": "response.output_audio.delta", "delta": audio("", "", 10)["delta"]}
    it.server(bare, bare, {"type": "response.done", "response": {}})
    started, first, second, end = it.take_events()
    assert isinstance(started, AssistantTurnStarted)
    assert isinstance(first, AssistantAudio)
    assert isinstance(second, AssistantAudio)
    assert first.item_id == second.item_id != ""
    assert end == AssistantTurnEnd(started.reply_id)


def test_what_the_server_gave_no_name_cannot_be_truncated() -> None:
    it = opened()
    it.server(created("r1"), audio("r1", "", 1000))
    (_, heard) = it.take_events()
    assert isinstance(heard, AssistantAudio)
    it.command("cancel", [Played("r1", heard.item_id, 100)])
    assert [message["type"] for message in it.take_sent()] == ["response.cancel"]


def test_a_tool_s_name_may_be_told_with_its_item_only() -> None:
    it = opened()
    item = {"type": "function_call", "id": "i", "call_id": "a", "name": "hang_up", "arguments": ""}
    added = {"type": "response.output_item.added", "item": item}
    it.server(created("r1"), added, call("r1", "a", name=""), done("r1"))
    assert ToolCall("a", "hang_up", "{}", "r1") in it.take_events()


# --- 6: a configuration refused for one field -------------------------------------------------------------------------


@pytest.mark.parametrize("first", [GA_CREATED, BETA_CREATED])
@pytest.mark.parametrize("named", [True, False])
def test_a_configuration_that_is_refused_is_tried_again_with_less(first: Json, named: bool) -> None:
    it = driver(AgentOptions(**{**_values(PCM), "turn_detection": TurnDetection(silence_ms=700)}))
    it.server(first)
    (whole,) = it.sent
    it.take_sent()
    it.server(error("unknown_parameter", whole["event_id"] if named else None))
    (least,) = it.take_sent()
    assert "tools" not in least["session"]
    assert "turn_detection" not in str(least["session"])
    assert least["session"]["instructions"] == "Be brief."
    assert "shimmer" in str(least["session"])
    assert it.take_events() == []
    it.server(UPDATED)
    assert it.take_events() == [SessionOpen("s")]
    rest = [message["session"] for message in it.take_sent()]
    assert len(rest) == 2
    assert "silence_duration_ms" in str(rest)
    assert [part["tools"][0]["name"] for part in rest if "tools" in part] == ["hang_up"]
    assert it.dialect.counters["setup_refused"] == 1
    it.server(error("unknown_parameter"))
    assert it.take_events() == [AgentError("about unknown_parameter", "unknown_parameter", fatal=False)]


def _values(options: AgentOptions) -> Json:
    return {name: getattr(options, name) for name in AgentOptions.__dataclass_fields__}


def test_less_is_tried_once() -> None:
    it = driver()
    it.server(GA_CREATED, error("invalid_value"), error("invalid_value"))
    assert it.take_events() == [
        AgentError("about invalid_value", "invalid_value", fatal=True),
        SessionClosed("invalid_value"),
    ]


def test_a_key_that_is_refused_is_no_field() -> None:
    it = driver()
    it.server(GA_CREATED, error("invalid_api_key"))
    assert it.take_events()[-1] == SessionClosed("invalid_api_key")


def test_a_refusal_that_comes_late_is_met_as_well() -> None:
    it = driver()
    it.server(GA_CREATED)
    (whole,) = it.sent
    it.advance(2.0)
    it.take_sent()
    it.server(error("unknown_parameter", whole["event_id"]))
    assert [message["type"] for message in it.take_sent()] == ["session.update"] * 3
    assert it.take_events() == [SessionOpen("s")]


def test_the_pieces_make_the_whole() -> None:
    whole: Json = {
        "type": "realtime",
        "instructions": "x",
        "audio": {
            "input": {"format": {}, "turn_detection": None},
            "output": {"format": {}, "voice": "v", "speed": 1.1},
        },
        "tools": [{"name": "t"}],
        "tool_choice": "auto",
        "truncation": "auto",
    }
    least, rest = apart(whole)
    assert least == {
        "type": "realtime",
        "instructions": "x",
        "audio": {"input": {"format": {}}, "output": {"format": {}, "voice": "v"}},
    }
    assert rest == [
        {"type": "realtime", "truncation": "auto"},
        {"type": "realtime", "tools": [{"name": "t"}], "tool_choice": "auto"},
        {"type": "realtime", "audio": {"input": {"turn_detection": None}}},
        {"type": "realtime", "audio": {"output": {"speed": 1.1}}},
    ]


# --- 7: what it does not know -----------------------------------------------------------------------------------------


def test_a_server_that_cannot_truncate_is_asked_once() -> None:
    it = opened()
    it.server(created("r1"), audio("r1", "i1", 1000), speech_started())
    it.command("cancel", [Played("r1", "i1", 20)])
    (cut,) = it.sent
    assert cut["type"] == "conversation.item.truncate"
    it.take_sent()
    it.take_events()
    it.server(error("unknown_event", cut["event_id"]), done("r1", "cancelled", "turn_detected"))
    assert not [event for event in it.take_events() if isinstance(event, AgentError)]
    it.server(created("r2"), audio("r2", "i2", 1000), speech_started())
    it.command("cancel", [Played("r2", "i2", 20)])
    assert it.take_sent() == []
    assert it.dialect.counters["truncate_refused"] == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_server_that_takes_no_word_about_a_response_is_told_in_the_conversation(named: bool) -> None:
    it = opened()
    it.command("say", "Welcome.")
    (asked,) = it.sent
    it.take_sent()
    it.server(error("unknown_parameter", asked["event_id"] if named else None))
    item, plain = it.take_sent()
    assert item["item"]["role"] == "system"
    assert item["item"]["content"][0]["text"].endswith("Welcome.")
    assert plain == {"type": "response.create"}
    assert it.take_events() == []
    it.server(created("r1"), done("r1"))
    it.command("say", "Goodbye.")
    assert [message["type"] for message in it.take_sent()] == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "server_error"])
def test_trouble_of_the_server_s_is_no_lack_of_its(code: str) -> None:
    it = opened()
    it.command("say", "Welcome.")
    (asked,) = it.sent
    it.take_sent()
    it.server(error(code, asked["event_id"]))
    assert it.take_events() == [AgentError(f"about {code}", code, fatal=False)]
    assert it.take_sent() == []
    assert not it.dialect.counters["response_refused"]


# --- 8: no hurry ------------------------------------------------------------------------------------------------------


def test_speech_at_the_pace_of_speech_is_cut_where_it_is_heard() -> None:
    """What has come is hardly more than what was played: never is more cut off than was sent."""
    it = opened()
    it.server(created("r1"))
    for _ in range(10):
        it.advance(0.1)
        it.server(audio("r1", "i1", 600))  # octets of 100 ms
    it.server(speech_started())
    it.command("cancel", [Played("r1", "i1", 1040)])
    assert it.take_sent()[-1]["audio_end_ms"] == 1000


def test_nobody_knows_how_long_a_session_may_live() -> None:
    assert opened().dialect.lifetime is None
