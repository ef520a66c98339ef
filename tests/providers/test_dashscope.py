"""DashScope: what is sent, in virtual time and held against what the vendor's SDK sends."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Said,
    SessionClosed,
    ToolCall,
    ToolDeclaration,
    TurnDetection,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, Played
from sipbridge.errors import ConfigError
from sipbridge.providers import Lifetime, WebSocketEndpoint, capabilities_of
from sipbridge.providers.dashscope import DashScopeDialect
from sipbridge.providers.openai import CHANNEL
from sipbridge.simulator.dashscope_check import TABLES, ModelCheck
from sipbridge.simulator.openai_check import check_message
from tests.providers.dashscope_sdk import check_client_event
from tests.providers.openai_driver import Driver, call, created, done, speech_started

OPTIONS = AgentOptions(input_format=PCM_16K, output_format=PCM_24K)
CREDENTIAL = {"provider": "dashscope", "api_key": "sk-test-0123456789"}
PLUS, FLASH_3, TURBO, AUDIO = (
    "qwen3.5-omni-plus-realtime",
    "qwen3-omni-flash-realtime",
    "qwen-omni-turbo-realtime",
    "qwen-audio-3.1-realtime-plus",
)
TOOL = ToolDeclaration("price", "Price of a room", {"type": "object", "properties": {"nights": {"type": "integer"}}})
GREETING = (
    "Say the following text aloud, word for word, in the language it is written in. "
    "Add nothing, leave nothing out, and do not answer it:\n\nHotel Aster."
)


def checked(model: str) -> Any:
    """By the vendor's SDK and by the simulator, for this model."""

    def check(message: dict[str, Any]) -> None:
        if message["type"] != "input_audio_buffer.append" or "event_id" in message:
            check_client_event(message)
        assert check_message(message, TABLES) is None
        if message["type"] == "session.update":
            assert ModelCheck(model).session(message["session"]) is None
        if message["type"] == "conversation.item.create":
            assert ModelCheck(model).item(message["item"]) is None

    return check


def driver(wanted: AgentOptions = OPTIONS, model: str = PLUS, **credential: Any) -> Driver:
    return Driver(wanted, {**CREDENTIAL, "model": model, **credential}, dialect=DashScopeDialect, check=checked(model))


def options(**changes: Any) -> AgentOptions:
    return AgentOptions(**{"input_format": PCM_16K, "output_format": PCM_24K, **changes})


def session_of(wanted: AgentOptions = OPTIONS, model: str = PLUS) -> dict[str, Any]:
    talk = driver(wanted, model)
    talk.server({"type": "session.created", "session": {"id": "sess_1"}})
    session: dict[str, Any] = talk.take_sent()[0]["session"]
    return session


def url_of(**credential: Any) -> str:
    endpoint = DashScopeDialect({**CREDENTIAL, **credential}, OPTIONS).endpoints()[CHANNEL]
    assert isinstance(endpoint, WebSocketEndpoint)
    return endpoint.url


def audio(reply_id: str, item_id: str, milliseconds: int) -> dict[str, Any]:
    delta = b64encode(bytes(PCM_24K.bytes_per_ms * milliseconds)).decode()
    place = {"response_id": reply_id, "item_id": item_id, "output_index": 0, "content_index": 0}
    return {"type": "response.audio.delta", "delta": delta, **place}


def refused(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """As the service words it: without the id of the event."""
    detail = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
    return {"type": "error", "event_id": "e", "error": detail}


STOPPED = {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "item_user"}
BUSY = refused("invalid_value", "Cannot create response while another response is in progress.", "response.create")


# --- where it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credential", "host"),
    [
        ({}, "dashscope.aliyuncs.com"),
        ({"region": "intl"}, "dashscope-intl.aliyuncs.com"),
        ({"workspace": "ws-1"}, "ws-1.cn-beijing.maas.aliyuncs.com"),
        ({"workspace": "ws-1", "region": "intl"}, "ws-1.ap-southeast-1.maas.aliyuncs.com"),
    ],
)
def test_the_endpoint(credential: dict[str, Any], host: str) -> None:
    assert url_of(model=PLUS, **credential) == f"wss://{host}/api-ws/v1/realtime?model={PLUS}"


def test_who_asks() -> None:
    endpoint = DashScopeDialect({**CREDENTIAL, "workspace": "ws-1"}, OPTIONS).endpoints()[CHANNEL]
    assert isinstance(endpoint, WebSocketEndpoint)
    assert endpoint.headers == {"Authorization": "Bearer sk-test-0123456789", "X-DashScope-WorkSpace": "ws-1"}


@pytest.mark.parametrize(
    ("credential", "problem"),
    [
        ({"region": "us"}, "region: 'us' is none of cn, intl"),
        ({"model": "qwen3.8-omni-flash-realtime"}, "workspace: is needed"),
        ({"api_key": None}, "api_key: is needed"),
    ],
)
def test_what_is_missing_is_named(credential: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        DashScopeDialect({**CREDENTIAL, **credential}, OPTIONS)


def test_an_endpoint_of_ones_own_needs_neither_key_nor_workspace() -> None:
    url = url_of(url="ws://127.0.0.1:9/api-ws/v1/realtime", model="qwen3.8-omni-flash-realtime", api_key=None)
    assert url == "ws://127.0.0.1:9/api-ws/v1/realtime?model=qwen3.8-omni-flash-realtime"


# --- the session ------------------------------------------------------------------------------------------------------


def test_the_whole_session() -> None:
    wanted = options(
        instructions="You are the desk of Hotel Aster.",
        voice="Ethan",
        language="en",
        temperature=2.0,
        tools=(TOOL,),
        turn_detection=TurnDetection("semantic_vad", threshold=0.4, prefix_ms=200, silence_ms=9000, eagerness="low"),
        extra={"top_p": 0.8},
    )
    assert session_of(wanted) == {
        "modalities": ["text", "audio"],
        "voice": "Ethan",
        "instructions": "You are the desk of Hotel Aster.",
        "turn_detection": {
            "type": "semantic_vad",
            "threshold": 0.4,
            "prefix_padding_ms": 200,
            "silence_duration_ms": 6000,
        },
        "audio": {
            "input": {"format": {"type": "pcm", "sample_rate": 16000}},
            "output": {"format": {"type": "pcm", "sample_rate": 24000}},
        },
        "temperature": 1.99,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "price",
                    "description": "Price of a room",
                    "parameters": {"type": "object", "properties": {"nights": {"type": "integer"}}},
                },
            }
        ],
        "top_p": 0.8,
    }


@pytest.mark.parametrize(
    ("model", "voice", "objects"),
    [
        (PLUS, "Tina", True),
        ("qwen3.8-omni-flash-realtime", "Tina", True),
        (FLASH_3, "Cherry", False),
        ("qwen3-omni-flash-realtime-2025-12-01", "Cherry", False),
        (TURBO, "Cherry", False),
        (AUDIO, "longanqian", False),
    ],
)
def test_each_family_has_its_voice_and_one_form_of_formats(model: str, voice: str, objects: bool) -> None:
    talk = driver(OPTIONS, model, workspace="ws-1")
    talk.server({"type": "session.created", "session": {"id": "s"}})
    session = talk.take_sent()[0]["session"]
    assert session["voice"] == voice
    assert ("audio" in session) is objects
    assert (session.get("input_audio_format") == session.get("output_audio_format") == "pcm") is not objects


def test_what_a_family_does_not_take_is_left_out() -> None:
    session = session_of(options(tools=(TOOL,), temperature=0.5, turn_detection=TurnDetection("semantic_vad")), TURBO)
    assert {"tools", "temperature"}.isdisjoint(session)
    assert session["turn_detection"] == {"type": "server_vad"}
    for model, tools, texts, images, semantic in (
        (PLUS, True, True, True, True),
        (FLASH_3, False, False, True, False),
        (TURBO, False, False, True, False),
        (AUDIO, True, True, False, True),
    ):
        possible = capabilities_of("dashscope", {"model": model})
        assert (possible.takes_tools, possible.takes_text, possible.takes_images) == (tools, texts, images)
        assert ("semantic_vad" in possible.turn_detection) is semantic
    assert capabilities_of("dashscope").formats_for(None, PCM_8K.rate) == (PCM_16K, PCM_24K)


def test_turns_by_hand_and_by_the_models_own_ear() -> None:
    assert session_of(options(turn_detection=TurnDetection("none")))["turn_detection"] is None
    smart = TurnDetection("semantic_vad", threshold=0.3, silence_ms=300)
    assert session_of(options(turn_detection=smart), AUDIO)["turn_detection"] == {"type": "smart_turn"}
    kept = TurnDetection(interrupt_response=False)
    assert session_of(options(turn_detection=kept))["turn_detection"]["interrupt_response"] is False
    assert "create_response" not in session_of(options(turn_detection=kept))["turn_detection"]
    unanswered = TurnDetection(create_response=False)
    assert session_of(options(turn_detection=unanswered))["turn_detection"]["create_response"] is False
    assert session_of(options(transcription=False))["input_audio_transcription"] is None
    assert session_of(options(modalities=("text",)))["modalities"] == ["text"]


def test_a_turn_by_hand() -> None:
    talk = driver(options(turn_detection=TurnDetection("none"))).open()
    talk.command("push_audio", bytes(3200))
    talk.command("commit_input_audio")
    assert [message["type"] for message in talk.take_sent()] == [
        "input_audio_buffer.append", "input_audio_buffer.commit", "response.create",
    ]  # fmt: skip


def test_a_successor_is_told_the_past_in_its_instructions() -> None:
    talk = driver(options(instructions="Be brief.", history=(Said("user", "Two nights?"),)))
    talk.server({"type": "session.created", "session": {"id": "s"}}, {"type": "session.updated", "session": {}})
    (update,) = talk.take_sent()
    assert update["session"]["instructions"].startswith("Be brief.\n\nThe conversation so far")
    talk.command("update_instructions", "Be polite.")
    (update,) = talk.take_sent()
    assert update["session"]["instructions"].startswith("Be polite.\n\nThe conversation so far")
    assert set(update["session"]) == {"instructions"}


# --- a call -----------------------------------------------------------------------------------------------------------


def test_a_call_from_greeting_to_goodbye() -> None:
    talk = driver(options(tools=(TOOL,), interim_transcripts=True)).open()
    talk.command("say", "Hotel Aster.")
    assert talk.take_sent() == [{"type": "response.create", "response": {"instructions": GREETING}}]
    text = {
        "type": "response.audio_transcript.done",
        "response_id": "r1",
        "item_id": "i1",
        "transcript": "Hotel Aster.",
    }
    usage = {"total_tokens": 9, "input_tokens": 4, "output_tokens": 5, "input_tokens_details": {"audio_tokens": 3}}
    talk.server(created("r1"), text, done("r1", usage=usage))
    assert talk.take_events() == [
        AssistantTurnStarted("r1"),
        AssistantText("r1", "Hotel Aster.", final=True),
        Usage("r1", {"total_tokens": 9, "input_tokens": 4, "output_tokens": 5, "input_audio_tokens": 3}),
        AssistantTurnEnd("r1"),
    ]
    place = {"item_id": "item_user", "content_index": 0}
    heard = "conversation.item.input_audio_transcription"
    talk.server(
        speech_started(300),
        {"type": f"{heard}.delta", "text": "two", "stash": " nigh", **place},
        STOPPED,
        {"type": f"{heard}.completed", "transcript": "two nights", **place},
        created("r2"),
        call("r2", "c1", '{"nights":2}', "price"),
        done("r2"),
    )
    assert talk.take_events() == [
        UserSpeechStarted(300, "item_user"),
        UserTranscript("two nigh", final=False, item_id="item_user"),
        UserSpeechEnded(900),
        UserTranscript("two nights", final=True, item_id="item_user"),
        AssistantTurnStarted("r2"),
        ToolCall("c1", "price", '{"nights":2}', "r2"),
        AssistantTurnEnd("r2"),
    ]
    talk.command("send_tool_result", "c1", "240")
    item = {"type": "function_call_output", "call_id": "c1", "output": "240"}
    assert talk.take_sent() == [{"type": "conversation.item.create", "item": item}, {"type": "response.create"}]
    talk.command("close")
    assert talk.take_sent() == [{"type": "session.finish"}]
    assert talk.take_events() == [SessionClosed("closed", expected=True)]
    talk.order.done()


def test_a_tool_result_waits_for_the_reply_that_asked() -> None:
    talk = driver(options(tools=(TOOL,))).open()
    talk.server(created("r1"), call("r1", "c1"), call("r1", "c2"))
    talk.command("send_tool_result", "c1", "1")
    talk.command("send_tool_result", "c2", "2")
    assert [message["type"] for message in talk.take_sent()] == ["conversation.item.create"] * 2
    talk.server(done("r1"))
    assert talk.take_sent() == [{"type": "response.create"}], "one for both"


def test_qwen_audio_is_told_what_to_say_in_the_conversation() -> None:
    talk = driver(model=AUDIO).open()
    talk.command("say", "Hotel Aster.")
    content = [{"type": "input_text", "text": GREETING}]
    assert talk.take_sent() == [
        {"type": "conversation.item.create", "item": {"type": "message", "role": "system", "content": content}},
        {"type": "response.create"},
    ]


def test_barge_in_sends_no_more_than_the_service_knows() -> None:
    talk = driver().open()
    talk.server(created("r1"), audio("r1", "i1", 2000), speech_started())
    talk.command("cancel", [Played("r1", "i1", 700)])
    assert talk.take_sent() == [], "the service cuts by itself, and nothing can be truncated"
    talk.server(audio("r1", "i1", 500), done("r1", "cancelled"))
    assert talk.take_events()[-2:] == [AssistantInterrupted("r1"), AssistantTurnEnd("r1", "cancelled")]
    talk.server(created("r2"), audio("r2", "i2", 2000))
    talk.command("cancel", [Played("r2", "i2", 700)])
    assert talk.take_sent() == [{"type": "response.cancel"}]


def test_a_cancelled_reply_that_is_never_done_ends_all_the_same() -> None:
    talk = driver().open()
    talk.server(created("r1"), audio("r1", "i1", 2000))
    talk.command("cancel", [])
    talk.command("say", "Goodbye.")
    talk.take_events()
    assert [message["type"] for message in talk.take_sent()] == ["response.cancel"]
    talk.advance(1.4)
    assert talk.take_events() == []
    talk.advance(0.2)
    assert talk.take_events() == [AssistantTurnEnd("r1", "cancelled")]
    assert [message["type"] for message in talk.take_sent()] == ["response.create"], "what waited for it goes on"
    talk.server(done("r1", "cancelled"), audio("r1", "i1", 20))
    assert talk.take_events() == []


def test_nothing_is_asked_for_while_the_caller_speaks_or_is_about_to_be_answered() -> None:
    talk = driver().open()
    talk.server(speech_started())
    talk.command("say", "One moment.")
    talk.advance(30)
    talk.server(STOPPED)
    assert talk.take_sent() == []
    talk.server(created("r1"), done("r1"))
    assert [message["type"] for message in talk.take_sent()] == ["response.create"]
    talk.server(created("r2"), done("r2"), speech_started(), STOPPED)
    talk.command("say", "Are you there?")
    assert talk.take_sent() == []
    talk.advance(2.1)
    assert [message["type"] for message in talk.take_sent()] == ["response.create"], "the service did not answer"


def test_sounds_that_are_no_turn_hold_up_nothing() -> None:
    talk = driver(options(turn_detection=TurnDetection("semantic_vad")), AUDIO).open()
    talk.server(speech_started(), STOPPED | {"reason": "turn_invalid"})
    talk.command("create_response")
    assert talk.take_sent() == [{"type": "response.create"}]


# --- pictures and words -----------------------------------------------------------------------------------------------

JPEG = b"\xff\xd8\xff\xe0"


def test_pictures_come_after_the_first_sound() -> None:
    talk = driver().open()
    for number in range(6):
        talk.command("send_image", JPEG + bytes([number]), "image/jpeg")
    assert talk.take_sent() == []
    talk.command("push_audio", bytes(640))
    sent = talk.take_sent()
    assert [message["type"] for message in sent] == ["input_audio_buffer.append"] + ["input_image_buffer.append"] * 4
    assert sent[-1]["image"] == b64encode(JPEG + b"\x05").decode(), "the last ones"
    talk.command("send_image", JPEG, "image/jpeg")
    assert [message["type"] for message in talk.take_sent()] == ["input_image_buffer.append"]


@pytest.mark.parametrize(
    ("model", "data", "kind"),
    [(PLUS, JPEG, "image/png"), (PLUS, JPEG + bytes(200_000), "image/jpeg"), (AUDIO, JPEG, "image/jpeg")],
)
def test_pictures_that_it_would_refuse_are_not_sent(model: str, data: bytes, kind: str) -> None:
    talk = driver(model=model).open()
    talk.command("push_audio", bytes(640))
    talk.take_sent()
    talk.command("send_image", data, kind)
    assert talk.take_sent() == []
    assert talk.dialect.counters["image_unsupported"] == 1


def test_written_words_go_where_they_are_taken() -> None:
    talk = driver().open()
    talk.command("send_text", "two nights")
    content = [{"type": "input_text", "text": "two nights"}]
    assert talk.take_sent() == [
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
    ]
    talk = driver(model=FLASH_3).open()
    talk.command("send_text", "two nights")
    assert talk.take_sent() == []
    assert talk.dialect.counters["text_unsupported"] == 1


# --- errors, and the end ----------------------------------------------------------------------------------------------


def test_a_refused_request_is_asked_again_when_the_other_is_done() -> None:
    talk = driver().open()
    talk.command("say", "Hotel Aster.")
    talk.take_sent()
    talk.server(BUSY, created("r1"), done("r1"))
    talk.advance(1.0)
    assert [message["type"] for message in talk.take_sent()] == ["response.create"]
    assert not [event for event in talk.take_events() if isinstance(event, AgentError)]


def test_a_cancel_that_came_too_late_is_nothing() -> None:
    talk = driver().open()
    talk.server(refused("invalid_value", "Cannot cancel response, no active response found.", "response.cancel"))
    assert talk.take_events() == []
    assert talk.dialect.counters["cancel_too_late"] == 1


def test_a_request_that_is_refused_for_good_does_not_hold_up_the_next() -> None:
    talk = driver().open()
    talk.command("say", "Hotel Aster.")
    talk.server(refused("invalid_value", "Invalid modalities.", "response.modalities"))
    talk.take_sent()
    talk.command("say", "Once more.")
    assert [message["type"] for message in talk.take_sent()] == ["response.create"]
    assert [event.fatal for event in talk.take_events() if isinstance(event, AgentError)] == [False]


@pytest.mark.parametrize(
    ("code", "again"),
    [("Throttling.RateQuota", True), ("InternalError", True), ("InvalidApiKey", False), ("InvalidParameter", False)],
)
def test_the_gateways_word_at_the_beginning(code: str, again: bool) -> None:
    talk = driver()
    talk.raw(json.dumps({"code": code, "message": "so it is", "request_id": "q"}))
    assert talk.take_events() == [AgentError("so it is", code, fatal=True), SessionClosed(code, again=again)]


def test_throttled_in_mid_call_it_asks_again() -> None:
    talk = driver().open()
    talk.command("say", "Hotel Aster.")
    talk.take_sent()
    talk.raw(json.dumps({"code": "Throttling.RateQuota", "message": "slower", "request_id": "q"}))
    assert talk.take_events() == [AgentError("slower", "Throttling.RateQuota", fatal=False)]
    assert talk.take_sent() == []
    talk.advance(1.0)
    assert [message["type"] for message in talk.take_sent()] == ["response.create"]


def test_a_drop_and_a_lifetime() -> None:
    talk = driver()
    assert talk.dialect.lifetime is None
    talk.now = 100.0
    talk.open()
    lifetime = talk.dialect.lifetime
    assert isinstance(lifetime, Lifetime)
    assert 100 + 6000 < lifetime.rotate_at < lifetime.expires_at < 100 + 7200
    talk.drop(1011, "upstream")
    closed = talk.take_events()[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.again


# --- the simulator's strictness ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 1}, "type"),
        ({"type": "conversation.item.delete", "item_id": "i"}, "type"),
        ({"type": "response.cancel", "response_id": "r"}, "response_id"),
        ({"type": "response.create", "response": {"tool_choice": "none"}}, "response.tool_choice"),
        ({"type": "session.update", "session": {"modalities": ["audio"]}}, "session.modalities"),
        ({"type": "session.update", "session": {"temperature": 2}}, "session.temperature"),
        ({"type": "session.update", "session": {"audio": {}, "input_audio_format": "pcm"}}, "session.audio"),
        (
            {"type": "session.update", "session": {"tools": [{"type": "function", "name": "x"}]}},
            "session.tools[0].name",
        ),
        ({"type": "session.update", "session": {"tool_choice": "auto"}}, "session.tool_choice"),
        (
            {
                "type": "session.update",
                "session": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 50}},
            },
            "session.turn_detection.silence_duration_ms",
        ),
    ],
)
def test_what_the_simulator_refuses_of_any_model(message: dict[str, Any], param: str) -> None:
    refusal = check_message(message, TABLES)
    assert refusal is not None
    assert refusal.param == param


@pytest.mark.parametrize(
    ("model", "session", "param"),
    [
        (PLUS, {"voice": "Cherry"}, "session.voice"),
        (FLASH_3, {"voice": "Tina"}, "session.voice"),
        (FLASH_3, {"audio": {}}, "session.audio"),
        (FLASH_3, {"tools": [{}]}, "session.tools"),
        (TURBO, {"temperature": 0.5}, "session.temperature"),
        (AUDIO, {"turn_detection": {"type": "semantic_vad"}}, "session.turn_detection.type"),
    ],
)
def test_what_the_simulator_refuses_of_some(model: str, session: dict[str, Any], param: str) -> None:
    refusal = ModelCheck(model).session(session)
    assert refusal is not None
    assert refusal.param == param
