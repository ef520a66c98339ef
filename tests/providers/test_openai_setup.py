"""The openai dialect's beginnings and ends: endpoint, session object, errors, rubbish on the wire."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from pathlib import Path
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeServerEvent
from structlog.testing import capture_logs

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Said,
    SessionClosed,
    SessionOpen,
    ToolDeclaration,
    ToolUsed,
    TurnDetection,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCM_24K, PCMA, PCMU
from sipbridge.errors import ConfigError
from sipbridge.providers import WebSocketEndpoint, tools_for_session
from sipbridge.providers import openai_wire as wire
from sipbridge.providers.openai import CHANNEL, OpenAIDialect
from tests.providers.openai_driver import CREDENTIAL, Driver, audio, created, done, error, options

SESSION_CREATED = {"type": "session.created", "session": {"id": "sess_1"}}


def endpoint(**credential: Any) -> WebSocketEndpoint:
    found = OpenAIDialect({**CREDENTIAL, **credential}, options()).endpoints()[CHANNEL]
    assert isinstance(found, WebSocketEndpoint)
    return found


def session(wanted: AgentOptions) -> dict[str, Any]:
    driver = Driver(wanted)
    driver.server(SESSION_CREATED)
    update = driver.take_sent()
    assert [message["type"] for message in update] == ["session.update"]
    described: dict[str, Any] = update[0]["session"]
    return described


# --- endpoint ---------------------------------------------------------------------------------------------------------


def test_the_vendor_s_endpoint() -> None:
    there = endpoint(organization="org-1", project="proj-1")
    assert there.url == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"
    assert there.headers == {
        "Authorization": "Bearer sk-test-0123456789",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
    }
    assert "sk-test" not in repr(there)


def test_another_url_and_model() -> None:
    assert endpoint(url="ws://127.0.0.1:1/rt", model="a b").url == "ws://127.0.0.1:1/rt?model=a%20b"
    assert endpoint(url="ws://127.0.0.1:1/rt?fault=drop").url == "ws://127.0.0.1:1/rt?fault=drop&model=gpt-realtime-2.1"


def test_a_server_of_one_s_own_needs_no_key() -> None:
    there = OpenAIDialect({"url": "ws://127.0.0.1:1/rt"}, options()).endpoints()[CHANNEL]
    assert isinstance(there, WebSocketEndpoint)
    assert "Authorization" not in there.headers


@pytest.mark.parametrize(
    ("credential", "wanted", "words"),
    [
        ({}, options(), "api_key"),
        ({"api_key": "k", "url": "https://example.com"}, options(), "ws://"),
        ({"api_key": "k"}, options(input_format=PCM_16K), "pcm16 at 16000 Hz"),
    ],
)
def test_what_cannot_work_is_refused_at_once(credential: dict[str, str], wanted: AgentOptions, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OpenAIDialect(credential, wanted)


# --- session object ---------------------------------------------------------------------------------------------------


def test_a_temperature_is_never_sent() -> None:
    assert "temperature" not in json.dumps(session(options(temperature=0.7)))


@pytest.mark.parametrize(
    ("audio_format", "named"),
    [
        (PCM_24K, {"type": "audio/pcm", "rate": 24000}),
        (PCMU, {"type": "audio/pcmu"}),
        (PCMA, {"type": "audio/pcma"}),
    ],
)
def test_formats_are_chosen_apart(audio_format: Any, named: dict[str, Any]) -> None:
    described = session(options(input_format=audio_format, output_format=PCMU))
    assert described["audio"]["input"]["format"] == named
    assert described["audio"]["output"]["format"] == {"type": "audio/pcmu"}


@pytest.mark.parametrize(
    ("detection", "sent"),
    [
        (TurnDetection(), {"type": "server_vad", "create_response": True, "interrupt_response": True}),
        (
            TurnDetection(threshold=0.4, prefix_ms=200, silence_ms=700, interrupt_response=False),
            {
                "type": "server_vad",
                "threshold": 0.4,
                "prefix_padding_ms": 200,
                "silence_duration_ms": 700,
                "create_response": True,
                "interrupt_response": False,
            },
        ),
        (
            TurnDetection("semantic_vad", eagerness="low", silence_ms=700),
            {"type": "semantic_vad", "eagerness": "low", "create_response": True, "interrupt_response": True},
        ),
        (
            TurnDetection(interrupt_response=False, create_response=False),
            {"type": "server_vad", "create_response": False, "interrupt_response": False},
        ),
        (TurnDetection("none"), None),
        (TurnDetection("local_vad"), {"type": "server_vad", "create_response": True, "interrupt_response": True}),
    ],
)
def test_turn_detection(detection: TurnDetection, sent: dict[str, Any] | None) -> None:
    assert session(options(turn_detection=detection))["audio"]["input"]["turn_detection"] == sent


def test_transcription_and_its_language() -> None:
    assert session(options())["audio"]["input"]["transcription"] == {"model": "gpt-transcribe"}
    spoken = session(options(language="pt-BR"))["audio"]["input"]["transcription"]
    assert spoken == {"model": "gpt-transcribe", "language": "pt"}
    assert "transcription" not in session(options(transcription=False))["audio"]["input"]


def test_a_voice_of_one_s_own_is_named_by_its_id() -> None:
    assert session(options(voice="cedar"))["audio"]["output"]["voice"] == "cedar"
    assert session(options(voice="voice_1234"))["audio"]["output"]["voice"] == {"id": "voice_1234"}


def test_a_session_that_only_writes_says_nothing_of_a_voice() -> None:
    described = session(options(modalities=("text",), voice="marin"))
    assert described["output_modalities"] == ["text"]
    assert "output" not in described["audio"]


def test_vendor_extras_are_merged_object_by_object() -> None:
    extra = {"audio": {"input": {"noise_reduction": {"type": "near_field"}}}, "truncation": "disabled"}
    described = session(options(extra=extra))
    assert described["audio"]["input"]["noise_reduction"] == {"type": "near_field"}
    assert described["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert described["truncation"] == "disabled"


def test_the_operator_s_tools_come_beside_ours() -> None:
    server = {"type": "mcp", "server_label": "shop", "server_url": "https://example.com/mcp"}
    described = session(options(tools=(ToolDeclaration("hang_up", "", {}),), extra={"tools": [server]}))
    assert [tool["type"] for tool in described["tools"]] == ["function", "mcp"]


def test_tools_are_flat() -> None:
    tool = ToolDeclaration("hang_up", "End the call", {})
    flat = {"type": "function", "name": "hang_up", "description": "End the call"}
    flat_tool = flat | {"parameters": {"type": "object", "properties": {}}}
    assert tools_for_session("openai", [tool]) == [flat_tool]
    assert session(options(tools=(tool,)))["tools"] == [flat_tool]


def test_capabilities_say_who_interrupts() -> None:
    def of(detection: TurnDetection) -> tuple[bool, bool]:
        capabilities = OpenAIDialect(CREDENTIAL, options(turn_detection=detection)).capabilities
        return capabilities.speech_events, capabilities.interrupts_by_itself

    assert of(TurnDetection()) == (True, True)
    assert of(TurnDetection(interrupt_response=False)) == (True, False)
    assert of(TurnDetection("none")) == (False, False)
    assert OpenAIDialect.capabilities.takes_temperature is None


# --- commands ---------------------------------------------------------------------------------------------------------


def test_messages_of_the_user() -> None:
    driver = Driver().open()
    driver.command("send_text", "Key 1 was pressed. \u00e9\u2028")
    driver.command("send_image", b"\xff\xd8", "image/jpeg")
    texts = [message["item"]["content"][0] for message in driver.take_sent()]
    assert texts == [
        {"type": "input_text", "text": "Key 1 was pressed. \u00e9\u2028"},
        {"type": "input_image", "image_url": "data:image/jpeg;base64,/9g="},
    ]


def test_the_end_of_an_utterance_is_ours_to_say_only_where_nobody_listens_for_it() -> None:
    driver = Driver().open()
    driver.command("commit_input_audio")
    assert driver.take_sent() == []
    driver = Driver(options(turn_detection=TurnDetection("none"))).open()
    driver.command("push_audio", bytes(8 * 100))
    driver.take_sent()
    driver.command("commit_input_audio")
    assert driver.take_sent() == [{"type": "input_audio_buffer.commit"}, {"type": "response.create"}]


def test_less_than_the_server_takes_is_no_utterance() -> None:
    driver = Driver(options(turn_detection=TurnDetection("none"))).open()
    for length_ms in (99, 100, 99):
        driver.command("push_audio", bytes(8 * length_ms))
        driver.command("commit_input_audio")
    assert [message["type"] for message in driver.take_sent()] == [
        "input_audio_buffer.append",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "response.create",
        "input_audio_buffer.append",
    ]
    assert driver.dialect.counters["commit_too_short"] == 2


def test_interim_transcripts_come_when_asked_for() -> None:
    delta = {"type": "conversation.item.input_audio_transcription.delta", "item_id": "i", "delta": "two "}
    driver = Driver(options(interim_transcripts=True)).open()
    driver.server(delta)
    assert driver.take_events() == [UserTranscript("two ", final=False, item_id="i")]
    driver = Driver().open()
    driver.server(delta)
    assert driver.take_events() == []


# --- errors and ends --------------------------------------------------------------------------------------------------


def test_an_error_in_the_setup_ends_it() -> None:
    driver = Driver()
    driver.server(SESSION_CREATED)
    driver.server(error("unknown_parameter", driver.sent[0]["event_id"]))
    assert driver.take_events() == [
        AgentError("about unknown_parameter", "unknown_parameter", fatal=True),
        SessionClosed("unknown_parameter"),
    ]


@pytest.mark.parametrize("code", ["insufficient_quota", "invalid_api_key", "session_expired", "account_deactivated"])
def test_errors_that_no_retry_helps(code: str) -> None:
    driver = Driver().open()
    driver.server(error("whatever", kind=code) if code == "insufficient_quota" else error(code))
    told, closed = driver.take_events()
    assert isinstance(told, AgentError)
    assert told.fatal
    assert isinstance(closed, SessionClosed)
    assert not closed.expected


@pytest.mark.parametrize("kind", ["invalid_request_error", "server_error"])
@pytest.mark.parametrize("code", sorted(wire.FATAL_CODES))
def test_a_session_whose_time_is_up_may_be_followed_by_another_one_that_was_refused_may_not(
    code: str, kind: str
) -> None:
    driver = Driver().open()
    driver.server(error(code, kind=kind))
    assert driver.take_events()[-1] == SessionClosed(code, again=code == "session_expired")


@pytest.mark.parametrize(
    ("code", "again"), [("invalid_value", False), ("server_error", True), ("rate_limit_exceeded", True)]
)
def test_a_setup_that_failed_says_whether_it_may_be_tried_again(code: str, again: bool) -> None:
    driver = Driver()
    driver.server(error(code))
    assert driver.take_events()[-1] == SessionClosed(code, again=again)


@pytest.mark.parametrize("code", ["insufficient_quota", "credit_balance_exhausted"])
def test_a_reply_that_failed_for_good_ends_the_session(code: str) -> None:
    driver = Driver().open()
    details = {"type": "failed", "error": {"type": code, "code": code, "message": "no money"}}
    driver.server(created("r1"), done("r1", "failed", status_details=details))
    assert driver.take_events()[1:] == [
        AgentError("no money", code, fatal=True),
        AssistantTurnEnd("r1", "failed"),
        SessionClosed(code),
    ]
    driver.order.done()


@pytest.mark.parametrize(
    ("code", "reason", "again"),
    [
        (1006, "", True),
        (1011, "keepalive ping timeout", True),
        (1013, "", True),
        (1001, "session_expired", True),
        (1008, "policy", False),
        (4000, "invalid_request_error.beta_api_shape_disabled", False),
        (4000, "invalid_request_error.invalid_api_key", False),
    ],
)
def test_a_close_says_whether_another_session_has_a_chance(code: int, reason: str, again: bool) -> None:
    driver = Driver().open()
    driver.drop(code, reason)
    assert driver.take_events()[-1] == SessionClosed(f"{code} {reason}".strip(), again=again)


@pytest.mark.parametrize(
    "code",
    ["cannot_update_voice", "input_audio_buffer_commit_empty", "item_truncate_invalid_item_id", "unknown_parameter"],
)
def test_errors_that_cost_one_message_only(code: str) -> None:
    driver = Driver().open()
    driver.server(error(code), error(code, kind="server_error"))
    assert driver.take_events() == [AgentError(f"about {code}", code, fatal=False)] * 2


def test_an_error_without_a_type_is_one() -> None:
    driver = Driver().open()
    driver.server({"code": "InternalError", "message": "try later", "request_id": "1"})
    assert driver.take_events() == [AgentError("try later", "InternalError", fatal=False)]


def test_a_session_lives_for_an_hour_from_the_server_s_first_word() -> None:
    driver = Driver()
    assert driver.dialect.lifetime is None
    driver.advance(7.0)
    driver.server(SESSION_CREATED)
    lifetime = driver.dialect.lifetime
    assert lifetime is not None
    assert 7.0 + 3000 <= lifetime.rotate_at < lifetime.expires_at < 7.0 + 3600


# --- a session that goes on where another one ended -------------------------------------------------------------------

PAST = (
    Said("user", "How much for two nights?"),
    ToolUsed("call_1", "room_price", '{"nights":2}', '{"eur":240}'),
    Said("assistant", "Two nights are"),
    Said("user", " "),
    ToolUsed("call_2", "book", "{}"),
)


def _create(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item}


def _words(role: str, kind: str, text: str) -> dict[str, Any]:
    return _create({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})


def test_what_was_said_before_is_put_back_before_the_session_is_open() -> None:
    driver = Driver(options(history=PAST))
    driver.server(SESSION_CREATED)
    driver.take_sent()
    driver.server({"type": "session.updated", "session": {}})
    assert driver.take_events() == [SessionOpen("sess_1")]
    call = {"type": "function_call", "call_id": "call_1", "name": "room_price", "arguments": '{"nights":2}'}
    assert driver.take_sent() == [
        _words("user", "input_text", "How much for two nights?"),
        _create(call),
        _create({"type": "function_call_output", "call_id": "call_1", "output": '{"eur":240}'}),
        _words("assistant", "output_text", "Two nights are"),
        _create({"type": "function_call", "call_id": "call_2", "name": "book", "arguments": "{}"}),
    ]


def test_a_result_that_was_still_to_come_is_sent_to_the_session_that_goes_on() -> None:
    driver = Driver(options(history=PAST))
    driver.server(SESSION_CREATED, {"type": "session.updated", "session": {}})
    driver.take_sent()
    driver.command("send_tool_result", "call_2", "done")
    output = {"type": "function_call_output", "call_id": "call_2", "output": "done"}
    assert driver.take_sent() == [_create(output), {"type": "response.create"}]
    driver.command("send_tool_result", "call_1", "late")
    assert driver.take_sent() == []


def test_a_lost_connection_ends_the_open_reply_first() -> None:
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 20))
    driver.take_events()
    driver.drop(1011, "keepalive")
    error_, end, closed = driver.take_events()
    assert isinstance(error_, AgentError)
    assert error_.fatal
    assert end == AssistantTurnEnd("r1", "failed")
    assert closed == SessionClosed("1011 keepalive", again=True)
    driver.drop()
    driver.command("close")
    assert driver.take_events() == []
    driver.order.done()


def test_a_sample_that_two_deltas_split_is_whole() -> None:
    """Dropping its halves would turn all that follows in the second delta into noise."""
    driver = Driver(options(output_format=PCM_24K)).open()
    first = audio("r1", "i1", 1) | {"delta": b64encode(b"\x01\x02\x03").decode()}
    second = audio("r1", "i1", 1) | {"delta": b64encode(b"\x04\x05\x06\x07").decode()}
    other = audio("r1", "i2", 1) | {"delta": b64encode(b"\x08\x09").decode()}
    driver.server(created("r1"), first, second, other)
    heard = [event.pcm for event in driver.take_events() if isinstance(event, AssistantAudio)]
    assert heard == [b"\x01\x02", b"\x03\x04\x05\x06", b"\x08\x09"]


def test_every_octet_of_audio_arrives() -> None:
    octets = bytes(range(256))
    driver = Driver().open()
    driver.server(created("r1"), audio("r1", "i1", 1) | {"delta": b64encode(octets).decode()})
    assert AssistantAudio("r1", "i1", octets) in driver.take_events()


RUBBISH: list[str | bytes] = [
    "",
    "{",
    "[]",
    "null",
    "7",
    '"text"',
    b"\xff\xfe\x00",
    b'{"type":"response.done","response":{"id":"r1"',
    '{"type":7}',
    '{"no":"type"}',
    '{"type":{"a":1}}',
    '{"type":"error"}',
    '{"type":"error","error":"no object"}',
    '{"type":"response.created"}',
    '{"type":"response.created","response":[]}',
    '{"type":"response.done","response":{"id":7,"output":[1,2]}}',
    '{"type":"response.output_audio.delta","response_id":"r1","item_id":"i1","delta":"AAAAA"}',
    '{"type":"response.output_audio.delta","response_id":"r1","item_id":"i1","delta":null}',
    '{"type":"response.output_audio.delta","response_id":"r1","item_id":"i1","delta":"caf\u00e9"}',
    '{"type":"response.output_item.done","item":"no object"}',
    '{"type":"response.done","response":{"id":"r1","status":["odd"],"usage":7,"status_details":"odd"}}',
]


@pytest.mark.parametrize("data", RUBBISH)
def test_rubbish_is_counted_and_passed_over(data: str | bytes) -> None:
    driver = Driver().open()
    driver.server(created("r1"))
    driver.take_events()
    with capture_logs() as logged:
        driver.raw(data)
        driver.raw(data)
    assert driver.dialect.counters["malformed"] == 2
    assert len(logged) == 1, "logged once"
    driver.server(audio("r1", "i1", 20))
    assert len(driver.take_events()) == 1, "and the conversation goes on"


def test_a_number_that_is_none_does_not_hide_that_the_caller_speaks() -> None:
    driver = Driver().open()
    driver.take_events()
    driver.raw('{"type":"input_audio_buffer.speech_started","audio_start_ms":1e400}')
    assert driver.take_events() == [UserSpeechStarted(None)]


def test_text_with_half_a_surrogate_pair_can_be_sent() -> None:
    driver = Driver().open()
    driver.sent.clear()
    driver.command("send_text", "caf\u00e9 \udcff")
    assert driver.sent[0]["item"]["content"] == [{"type": "input_text", "text": "caf\u00e9 ?"}]


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN", '"soon"', "[]", "true"])
def test_a_time_that_is_none_is_left_out(number: str) -> None:
    driver = Driver().open()
    driver.raw(f'{{"type":"input_audio_buffer.speech_started","audio_start_ms":{number}}}')
    (event,) = driver.take_events()
    assert event in (UserSpeechStarted(None), UserSpeechStarted(1))


def test_every_event_that_the_vendor_s_sdk_knows_is_known() -> None:
    (kinds, *_) = get_args(RealtimeServerEvent)
    names = {name for kind in get_args(kinds) for name in get_args(kind.model_fields["type"].annotation)}
    assert len(names) > 40
    driver = Driver().open()
    for name in sorted(names):
        driver.server({"type": name})
    assert driver.dialect.counters["unknown"] == 0


def test_a_caller_who_says_nothing_is_spoken_to_by_the_server() -> None:
    """`idle_timeout_ms`, a vendor's key: it commits the silence and answers by itself."""
    driver = Driver().open()
    idle = {"type": "input_audio_buffer.timeout_triggered", "item_id": "u", "audio_start_ms": 0, "audio_end_ms": 9}
    driver.server(idle, created("r1"))
    assert driver.take_events() == [AssistantTurnStarted("r1")]


def test_events_of_the_future_are_ignored_and_logged_once() -> None:
    driver = Driver().open()
    with capture_logs() as logged:
        for _ in range(3):
            driver.server({"type": "of.the.future", "x": 1})
    assert driver.dialect.counters["unknown"] == 3
    assert [entry["type"] for entry in logged] == ["of.the.future"]


def test_mutilated_conversations_never_raise_and_keep_the_order() -> None:
    """The recorded conversations with members removed, swapped and cut: an event or nothing, never an exception."""
    dice = random.Random(20261)
    lines = [
        json.loads(line)["server"]
        for path in sorted((Path(__file__).parent / "data").glob("openai_*.jsonl"))
        for line in path.read_text().splitlines()
        if '"server"' in line
    ]
    for _ in range(60):
        driver = Driver()
        for message in dice.choices(lines, k=40):
            text = json.dumps(message)
            match dice.randrange(4):
                case 0:
                    text = text[: dice.randrange(len(text))]
                case 1:
                    message = {key: value for key, value in message.items() if dice.random() > 0.2}
                    text = json.dumps(message)
                case 2:
                    victim = dice.choice(list(message))
                    text = json.dumps(message | {victim: dice.choice([None, 7, [], {}, "x", True])})
                case _:
                    pass
            driver.raw(text)
            if dice.random() < 0.1:
                driver.command("cancel", [])
        driver.drop()
        driver.order.done()


def test_the_session_opens_once() -> None:
    driver = Driver()
    updated = {"type": "session.updated", "session": {}}
    driver.server(updated, SESSION_CREATED, SESSION_CREATED, updated, updated)
    assert driver.take_events() == [SessionOpen("sess_1")]
    assert len(driver.take_sent()) == 1
