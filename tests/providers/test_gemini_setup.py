"""The gemini dialect's beginnings and ends: endpoint, setup, history, closes, resumption, rubbish on the wire."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    AssistantTurnEnd,
    Said,
    SessionClosed,
    SessionOpen,
    ToolDeclaration,
    ToolUsed,
    TurnDetection,
)
from sipbridge.audio import PCM_24K
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers import Lifetime, WebSocketEndpoint, capabilities_of, tools_for_session
from sipbridge.providers.gemini import GeminiDialect
from sipbridge.simulator.http import HttpAnswer, HttpRequest, HttpServer
from tests.providers.gemini_driver import (
    CHANNEL,
    COMPLETE,
    CREDENTIAL,
    GENERATED,
    VERTEX,
    Driver,
    Json,
    audio,
    call,
    options,
)

PRICE = ToolDeclaration("room_price", "Price of a room", {"type": "object", "properties": {"nights": {}}})
OLD = {**CREDENTIAL, "model": "gemini-2.5-flash-native-audio-preview-12-2025"}
PREVIEW = {**CREDENTIAL, "model": "gemini-3.1-flash-live-preview"}


def endpoint(credential: Json) -> WebSocketEndpoint:
    found = GeminiDialect(credential, options()).endpoints()[CHANNEL]
    assert isinstance(found, WebSocketEndpoint)
    return found


def setup(wanted: AgentOptions, credential: Json = CREDENTIAL) -> Json:
    [message] = Driver(wanted, credential).take_sent()
    described: Json = message["setup"]
    return described


# --- where, and with what ---------------------------------------------------------------------------------------------


def test_the_developer_api() -> None:
    there = endpoint(CREDENTIAL)
    service = "google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    assert there.url == f"wss://generativelanguage.googleapis.com/ws/{service}"
    assert there.headers == {"x-goog-api-key": "AIza-test-0123456789"}
    assert there.ping_interval is None, "it has answered pings after half a minute"
    assert "AIza-test" not in repr(there)


def test_an_ephemeral_token_is_for_another_method_of_another_version() -> None:
    there = endpoint({"api_key": "auth_tokens/abc"})
    service = "google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained"
    assert there.url == f"wss://generativelanguage.googleapis.com/ws/{service}"
    assert there.headers == {"Authorization": "Token auth_tokens/abc"}


@pytest.mark.parametrize(
    ("location", "host"),
    [("europe-west4", "europe-west4-aiplatform.googleapis.com"), ("global", "aiplatform.googleapis.com")],
)
def test_vertex(location: str, host: str) -> None:
    vertex = {"project": "acme-1", "location": location, "token": "ya29.secret", "quota_project": "payer"}
    credential = {"vertex": vertex, "model": "gemini-3.8-live"}
    there = endpoint(credential)
    assert there.url == f"wss://{host}/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
    assert there.headers == {"Authorization": "Bearer ya29.secret", "x-goog-user-project": "payer"}
    path = f"projects/acme-1/locations/{location}/publishers/google/models/gemini-3.8-live"
    assert setup(options(), credential)["model"] == path


def test_another_url() -> None:
    assert endpoint({"url": "ws://127.0.0.1:1/live"}).url == "ws://127.0.0.1:1/live"
    assert endpoint({"url": "ws://127.0.0.1:1/live"}).headers == {}


@pytest.mark.parametrize(
    ("credential", "wanted", "words"),
    [
        ({}, options(), "api_key"),
        ({"api_key": "k", "url": "https://example.com"}, options(), "ws://"),
        ({"vertex": {"project": "acme"}}, options(), "project and location"),
        ({"vertex": {"project": "acme", "location": "global"}}, options(), "service_account"),
        ({"api_key": "k"}, options(input_format=PCM_24K), "pcm16 at 16000 Hz"),
        ({"api_key": "k"}, options(modalities=("text",)), "only speak"),
        ({"api_key": "k"}, options(tools=(ToolDeclaration("room price", "", {}),)), "room price"),
        ({"api_key": "k", "tool_behavior": "maybe"}, options(), "tool_behavior"),
    ],
)
def test_what_cannot_work_is_refused_at_once(credential: Json, wanted: AgentOptions, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GeminiDialect(credential, wanted)


# --- a service account ------------------------------------------------------------------------------------------------


def key_file(directory: Path, token_uri: str) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = directory / "account.json"
    account = {"type": "service_account", "client_email": "bridge@example.com", "private_key": pem}
    path.write_text(json.dumps(account | {"token_uri": token_uri, "quota_project_id": "payer"}))
    return path


def test_a_service_account_is_asked_for_a_token_once(tmp_path: Path) -> None:
    async def answer(request: HttpRequest) -> HttpAnswer:
        assert "grant-type%3Ajwt-bearer" in request.body.decode()
        return HttpAnswer.of({"access_token": "ya29.fresh", "expires_in": 3599})

    async def scenario() -> None:
        async with HttpServer(answer) as server:
            path = key_file(tmp_path, f"{server.url}/token")
            vertex = {"project": "acme-1", "location": "global", "service_account": str(path)}
            for _ in range(2):
                dialect = GeminiDialect({"vertex": vertex}, options())
                await dialect.prepare()
                there = dialect.endpoints()[CHANNEL]
                assert isinstance(there, WebSocketEndpoint)
                assert there.headers == {"Authorization": "Bearer ya29.fresh", "x-goog-user-project": "payer"}
            assert len(server.requests) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("[]", "no key file"), ("{}", "no key file")])
def test_a_key_file_that_is_none(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    vertex = {"project": "acme-1", "location": "global", "service_account": str(path)}
    with pytest.raises(AgentStartError, match=words):
        asyncio.run(GeminiDialect({"vertex": vertex}, options()).prepare())


# --- the setup --------------------------------------------------------------------------------------------------------


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert setup(options(transcription=False)) == {
        "model": "models/gemini-3.8-live",
        "generationConfig": {"responseModalities": ["AUDIO"]},
        "outputAudioTranscription": {},
        "sessionResumption": {},
        "contextWindowCompression": {"slidingWindow": {}},
    }


def test_all_options() -> None:
    wanted = options(
        instructions="You are the desk of Hotel Aster.",
        voice="Kore",
        temperature=0.7,
        language="en-GB",
        turn_detection=TurnDetection(threshold=0.4, prefix_ms=20, silence_ms=700, interrupt_response=False),
        tools=(PRICE,),
        extra={"proactivity": {"proactiveAudio": True}, "generationConfig": {"topP": 0.9}},
    )
    assert setup(wanted) == {
        "model": "models/gemini-3.8-live",
        "generationConfig": {
            "responseModalities": ["AUDIO"],
            "temperature": 0.7,
            "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}, "languageCode": "en-GB"},
            "topP": 0.9,
        },
        "systemInstruction": {"parts": [{"text": "You are the desk of Hotel Aster."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "room_price",
                        "description": "Price of a room",
                        "parametersJsonSchema": dict(PRICE.parameters),
                        "behavior": "BLOCKING",
                    }
                ]
            }
        ],
        "realtimeInputConfig": {
            "automaticActivityDetection": {
                "startOfSpeechSensitivity": "START_SENSITIVITY_HIGH",
                "prefixPaddingMs": 20,
                "silenceDurationMs": 700,
            },
            "activityHandling": "NO_INTERRUPTION",
        },
        "inputAudioTranscription": {"languageCodes": ["en-GB"]},
        "outputAudioTranscription": {},
        "sessionResumption": {},
        "contextWindowCompression": {"slidingWindow": {}},
        "proactivity": {"proactiveAudio": True},
    }


def test_turns_by_hand() -> None:
    described = setup(options(turn_detection=TurnDetection("none")))
    assert described["realtimeInputConfig"] == {"automaticActivityDetection": {"disabled": True}}


def test_a_native_audio_model_finds_the_language_itself() -> None:
    described = setup(options(language="de-DE", voice="Kore"), OLD)
    assert "languageCode" not in described["generationConfig"]["speechConfig"]
    assert described["inputAudioTranscription"] == {}
    assert not capabilities_of("gemini", OLD).takes_language


@pytest.mark.parametrize(
    ("model", "wanted", "behavior"),
    [
        ("gemini-3.8-live", None, "BLOCKING"),
        ("gemini-3.8-live", "non_blocking", None),
        ("gemini-3.8-live-extended-thinking", None, None),
        ("gemini-3.8-live-extended-thinking", "blocking", None),
        ("gemini-3.1-flash-live-preview", None, None),
        ("gemini-2.5-flash-native-audio-preview-12-2025", "non_blocking", "NON_BLOCKING"),
        ("gemini-live", None, "BLOCKING"),
    ],
)
def test_how_a_tool_behaves_is_said_where_it_is_not_the_model_s_default(
    model: str, wanted: str | None, behavior: str | None
) -> None:
    credential = {**CREDENTIAL, "model": model, "tool_behavior": wanted}
    [tool] = setup(options(tools=(PRICE,)), credential)["tools"]
    assert tool["functionDeclarations"][0].get("behavior") == behavior


def test_the_vendor_s_tools_array() -> None:
    assert tools_for_session("gemini", []) == []
    [tool] = tools_for_session("gemini", [ToolDeclaration("hang_up", "Hang up", {})])
    schema = {"type": "object", "properties": {}}
    assert tool == {
        "functionDeclarations": [{"name": "hang_up", "description": "Hang up", "parametersJsonSchema": schema}]
    }


# --- opening ----------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_and_nothing_told_before_the_setup_is_complete() -> None:
    driver = Driver()
    assert [next(iter(message)) for message in driver.take_sent()] == ["setup"]
    driver.server(audio(), {"goAway": {"timeLeft": "50s"}})
    assert driver.take_sent() == []
    assert driver.take_events() == []
    driver.server({"setupComplete": {}})
    assert driver.take_events() == [SessionOpen("")]
    driver.server({"setupComplete": {}})
    assert driver.take_events() == []


HISTORY = (
    Said("user", "How much for two nights?"),
    ToolUsed("c1", "room_price", '{"nights":2}', '{"eur":240}'),
    Said("assistant", "240 euros."),
    Said("assistant", "Anything else?"),
)
TOLD = [
    {
        "role": "user",
        "parts": [
            {"text": "How much for two nights?"},
            {"text": '(Function room_price, called with {"nights":2}: {"eur":240})'},
        ],
    },
    {"role": "model", "parts": [{"text": "240 euros."}, {"text": "Anything else?"}]},
]


@pytest.mark.parametrize(("credential", "announced"), [(CREDENTIAL, False), (OLD, False), (PREVIEW, True)])
def test_the_conversation_so_far_is_told_and_not_answered(credential: Json, announced: bool) -> None:
    driver = Driver(options(history=HISTORY), credential)
    driver.server({"setupComplete": {}})
    first, second = driver.take_sent()
    assert (first["setup"].get("historyConfig") == {"initialHistoryInClientContent": True}) == announced
    assert second == {"clientContent": {"turns": TOLD, "turnComplete": announced}}


def test_with_a_handle_the_service_knows_it_itself() -> None:
    driver = Driver(options(history=HISTORY, resume_handle="h1"), PREVIEW)
    driver.server({"setupComplete": {}})
    [message] = driver.take_sent()
    assert message["setup"]["sessionResumption"] == {"handle": "h1"}
    assert "historyConfig" not in message["setup"]
    assert driver.dialect.resume_handle == "h1"


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "told", "again"),
    [
        (1007, "API key not valid. Please pass a valid API key.", "invalid_api_key", False),
        (1008, "models/x is not found for API version v1beta", "model_not_found", False),
        (1011, "You exceeded your current quota, please check your plan", "insufficient_quota", False),
        (1008, "Your project has been denied access.", "permission_denied", False),
        (1007, "Request contains an invalid argument.", "invalid_argument", False),
        (1011, "Internal error encountered.", "closed", True),
        (1006, "", "closed", True),
    ],
)
def test_a_refused_setup(code: int, reason: str, told: str, again: bool) -> None:
    driver = Driver()
    driver.drop(code, reason)
    error, closed = driver.take_events()
    assert isinstance(error, AgentError)
    assert (error.code, error.fatal) == (told, True)
    assert closed == SessionClosed(f"{code} {reason}".strip(), again=again)


@pytest.mark.parametrize(("code", "reason"), [(1008, "Requested entity was not found."), (1007, "invalid argument")])
def test_a_refused_handle_is_worth_another_try_without_it(code: int, reason: str) -> None:
    driver = Driver(options(resume_handle="old"))
    driver.drop(code, reason)
    error, closed = driver.take_events()
    assert isinstance(error, AgentError)
    assert error.code == "resume_refused"
    assert isinstance(closed, SessionClosed)
    assert closed.again


@pytest.mark.parametrize(
    ("code", "reason", "told", "again"),
    [
        (1011, "Deadline expired before operation could complete.", "session_expired", True),
        (1008, "The operation was aborted.", "closed", True),
        (1007, "Request contains an invalid argument.", "closed", True),
        (1011, "Quota exceeded", "insufficient_quota", False),
        (1006, "", "closed", True),
    ],
)
def test_a_close_in_mid_call_ends_the_reply_that_was_open(code: int, reason: str, told: str, again: bool) -> None:
    driver = Driver().open()
    driver.server(audio())
    driver.take_events()
    driver.drop(code, reason)
    error, ended, closed = driver.take_events()
    assert isinstance(error, AgentError)
    assert (error.code, error.fatal) == (told, True)
    assert ended == AssistantTurnEnd("reply-1", "failed")
    assert isinstance(closed, SessionClosed)
    assert closed.again == again
    driver.order.done()


def test_a_key_is_not_quoted() -> None:
    driver = Driver()
    driver.drop(1008, "key AIza-test-0123456789 is blocked")
    assert "AIza-test" not in repr(driver.events)


def test_closing() -> None:
    driver = Driver().open()
    driver.server(audio())
    driver.take_events()
    driver.command("close")
    assert driver.take_events() == [
        AssistantTurnEnd("reply-1", "cancelled"),
        SessionClosed("closed", expected=True),
    ]
    assert driver.take_sent() == []
    driver.drop()
    driver.server(audio())
    driver.order.done()


# --- going on ---------------------------------------------------------------------------------------------------------


def handle(name: str) -> Json:
    return {"sessionResumptionUpdate": {"newHandle": name, "resumable": True}}


def test_a_handle_is_of_a_moment_at_which_nothing_is_under_way() -> None:
    driver = Driver(options(tools=(PRICE,))).open()
    assert driver.dialect.resume_handle == ""
    driver.server(handle("h1"))
    assert driver.dialect.resume_handle == "h1"
    driver.server(audio())
    assert driver.dialect.resume_handle == "", "it speaks"
    driver.server(GENERATED, COMPLETE)
    assert driver.dialect.resume_handle == "h1"
    driver.server(call(("c1", "room_price", {})))
    assert driver.dialect.resume_handle == "", "it waits for a result"
    driver.command("send_tool_result", "c1", "240")
    driver.server(audio(), GENERATED, COMPLETE, handle("h2"))
    assert driver.dialect.resume_handle == "h2"
    driver.server({"sessionResumptionUpdate": {"resumable": False}})
    assert driver.dialect.resume_handle == ""


def test_go_away_is_the_end_of_this_connection() -> None:
    driver = Driver().open()
    driver.advance(600)
    assert driver.dialect.lifetime == Lifetime(55 * 60.0, 58 * 60.0)
    driver.server({"goAway": {"timeLeft": "50s"}})
    assert driver.dialect.lifetime == Lifetime(600.0, 650.0)
    driver.server({"goAway": {"timeLeft": "soon"}})
    assert driver.dialect.lifetime == Lifetime(600.0, 610.0)


def test_go_away_at_the_beginning_is_no_reason_to_hurry() -> None:
    driver = Driver().open()
    driver.advance(2)
    driver.server({"goAway": {"timeLeft": "50s"}})
    assert driver.dialect.lifetime == Lifetime(10.0, 52.0)
    driver.server({"goAway": {"timeLeft": "6s"}})
    assert driver.dialect.lifetime == Lifetime(5.0, 8.0)


def test_what_it_can_do_depends_on_the_model() -> None:
    assert capabilities_of("gemini").takes_instructions
    assert not capabilities_of("gemini", OLD).takes_instructions
    assert not capabilities_of("gemini", PREVIEW).takes_instructions
    assert capabilities_of("gemini", VERTEX).takes_instructions
    can = capabilities_of("gemini")
    assert can.can_resume
    assert not can.successor_overlaps
    assert not can.speech_events
    assert len(set(can.voices)) == 30
    by_hand = GeminiDialect(CREDENTIAL, options(turn_detection=TurnDetection("none")))
    assert not by_hand.capabilities.interrupts_by_itself


# --- rubbish ----------------------------------------------------------------------------------------------------------

RUBBISH: list[Any] = [
    {"serverContent": 7},
    {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm", "data": "%%"}}]}}},
    {"serverContent": {"modelTurn": {"parts": "x"}}},
    {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": 7, "data": None}}]}}},
    {"serverContent": {"inputTranscription": "words"}},
    {"serverContent": {"interrupted": "yes", "turnComplete": 1}},
    {"toolCall": {}},
    {"toolCall": {"functionCalls": [None]}},
    {"toolCallCancellation": {"ids": 7}},
    {"usageMetadata": {"promptTokensDetails": ["x"], "promptTokenCount": 1e400}},
    {"goAway": "soon"},
    {"sessionResumptionUpdate": [1]},
    {"voiceActivity": {"type": 9, "audioOffset": {}}},
    {"ofTheFuture": {}},
    [1],
    "word",
    None,
]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda rubbish: json.dumps(rubbish)[:50])
def test_whatever_comes_the_session_goes_on(rubbish: Any) -> None:
    driver = Driver().open()
    driver.raw(json.dumps(rubbish).encode())
    driver.take_events()
    driver.server(COMPLETE, audio(), GENERATED, COMPLETE)
    assert any(isinstance(event, AssistantTurnEnd) for event in driver.take_events())


@pytest.mark.parametrize("data", [b"\xff\xfe", b"", "{", b'{"serverContent":{"turnComplete"'])
def test_what_is_no_json_is_counted(data: bytes | str) -> None:
    driver = Driver().open()
    driver.raw(data)
    assert driver.dialect.counters["malformed"] == 1


def test_unknown_fields_are_counted() -> None:
    driver = Driver().open()
    driver.server({"ofTheFuture": {}, "serverContent": {"newThing": 1}})
    assert driver.dialect.counters["unknown"] == 1


def test_any_order_of_messages_keeps_the_order_of_events() -> None:
    messages = [
        audio(20),
        {"serverContent": {"outputTranscription": {"text": "w"}}},
        {"serverContent": {"inputTranscription": {"text": "u"}}},
        GENERATED,
        COMPLETE,
        {"serverContent": {"interrupted": True}},
        call(("c1", "room_price", {})),
        call(("c2", "room_price", {}), ("c3", "room_price", {})),
        {"toolCallCancellation": {"ids": ["c1", "c3"]}},
        {"voiceActivity": {"type": "ACTIVITY_START"}},
        {"voiceActivity": {"type": "ACTIVITY_END"}},
        {"usageMetadata": {"promptTokenCount": 5}},
    ]
    commands: list[tuple[str, tuple[Any, ...]]] = [
        ("cancel", ([],)),
        ("say", ("x",)),
        ("send_text", ("x",)),
        ("create_response", ()),
        ("push_audio", (bytes(640),)),
        ("commit_input_audio", ()),
        ("send_tool_result", ("c1", "r")),
        ("send_tool_result", ("c2", "r")),
        ("update_instructions", ("x",)),
    ]
    for seed in range(150):
        dice = random.Random(seed)
        detection = TurnDetection(dice.choice(["server_vad", "none"]))
        credential: Json = dice.choice([CREDENTIAL, OLD, PREVIEW, VERTEX])
        driver = Driver(options(tools=(PRICE,), turn_detection=detection), credential).open()
        for _ in range(60):
            if dice.random() < 0.6:
                driver.server(dice.choice(messages))
            else:
                name, arguments = dice.choice(commands)
                driver.command(name, *arguments)
            driver.advance(dice.choice([0.0, 0.0, 0.1, 1.5]))
        driver.command("close")
        driver.order.done()
