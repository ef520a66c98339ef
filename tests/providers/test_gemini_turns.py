"""What the gemini dialect tells of turns, and what it sends and when: replies, the caller's speech, requests, tools."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AssistantAudio,
    AssistantInterrupted,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    ToolCallCancelled,
    TurnDetection,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played
from tests.providers.gemini_driver import (
    COMPLETE,
    CREDENTIAL,
    GENERATED,
    INTERRUPTED,
    VERTEX,
    Driver,
    Json,
    audio,
    call,
    content,
    heard,
    options,
    response,
    said,
    taken_back,
)
from tests.providers.genai_sdk import check_server_event
from tests.providers.order import audio_of

OLD = {**CREDENTIAL, "model": "gemini-2.5-flash-native-audio-preview-12-2025"}
PREVIEW = {**CREDENTIAL, "model": "gemini-3.1-flash-live-preview"}
BY_HAND = options(turn_detection=TurnDetection("none"))
PIECE = bytes(640)
GO_ON: Json = {"clientContent": {"turnComplete": True}}


def kinds(driver: Driver) -> list[str]:
    """What was told, by name; text and audio only as such."""
    return [type(event).__name__ for event in driver.take_events()]


def texts(driver: Driver) -> list[Any]:
    """The realtime texts that were sent, behind the last empty line; other messages by their field."""
    found = []
    for message in driver.take_sent():
        realtime = message.get("realtimeInput", {})
        if "text" in realtime:
            found.append(realtime["text"].rpartition("\n\n")[2])
        else:
            found.append(next(iter(realtime), next(iter(message))))
    return found


def test_the_vendor_s_messages_of_these_tests_are_the_vendor_s() -> None:
    for message in (audio(), said("x"), heard("x"), GENERATED, COMPLETE, INTERRUPTED, taken_back("1")):
        check_server_event(message)
    check_server_event(call(("1", "f", {"a": 1})))


# --- the model's turn -------------------------------------------------------------------------------------------------


def test_a_reply_is_over_when_it_is_generated() -> None:
    driver = Driver().open()
    driver.server(audio(100), said("Hotel Aster,"), audio(50), said(" good morning."), GENERATED)
    driver.advance(0.3)
    assert driver.take_events() == [
        AssistantTurnStarted("reply-1"),
        AssistantAudio("reply-1", "reply-1-item", b"\x01\x02" * 2400),
        AssistantText("reply-1", "Hotel Aster,", final=False),
        AssistantAudio("reply-1", "reply-1-item", b"\x01\x02" * 1200),
        AssistantText("reply-1", " good morning.", final=False),
        AssistantText("reply-1", "Hotel Aster, good morning.", final=True),
        AssistantTurnEnd("reply-1"),
    ]
    driver.server(COMPLETE)
    assert driver.take_events() == []


def test_the_last_words_may_come_after_the_last_sound() -> None:
    driver = Driver().open()
    driver.server(audio(), said("Good"), GENERATED, said(" morning."))
    driver.advance(0.1)
    assert AssistantTurnEnd("reply-1") not in driver.events
    driver.advance(0.2)
    assert driver.take_events()[-2:] == [
        AssistantText("reply-1", "Good morning.", final=True),
        AssistantTurnEnd("reply-1"),
    ]
    driver.server(said(" Too late."))
    assert driver.take_events() == []
    assert driver.dialect.counters["late_text"] == 1


def test_the_transcript_s_end_is_the_reply_s_where_the_service_says_so() -> None:
    driver = Driver().open()
    driver.server(audio(), GENERATED, said("Yes.", finished=True))
    assert driver.take_events()[-1] == AssistantTurnEnd("reply-1")


def test_words_that_come_before_the_sound_wait_for_it() -> None:
    driver = Driver().open()
    driver.server(said("Good"), said(" day"))
    assert driver.take_events() == []
    driver.server(audio())
    assert kinds(driver) == ["AssistantTurnStarted", "AssistantAudio", "AssistantText", "AssistantText"]


def test_thoughts_text_and_code_are_not_for_the_caller() -> None:
    driver = Driver().open()
    secret = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": b64encode(bytes(96)).decode()}}
    parts = [
        {"thought": True, "text": "hm"},
        {"text": "x"},
        {"executableCode": {"code": "1"}},
        secret | {"thought": True},
    ]
    driver.server(content(modelTurn={"role": "model", "parts": parts}))
    assert driver.take_events() == []


def test_a_turn_that_ends_in_one_frame() -> None:
    driver = Driver().open()
    frame = audio()
    frame["serverContent"] |= {
        "outputTranscription": {"text": "Yes."},
        "generationComplete": True,
        "turnComplete": True,
    }
    driver.server(frame | {"usageMetadata": {"promptTokenCount": 7}})
    assert kinds(driver) == [
        "AssistantTurnStarted",
        "AssistantAudio",
        "AssistantText",
        "AssistantText",
        "AssistantTurnEnd",
        "Usage",
    ]


@pytest.mark.parametrize(
    ("reason", "status"),
    [("RESPONSE_REJECTED", "failed"), ("MALFORMED_FUNCTION_CALL", "failed"), ("GENERATED_AUDIO_SAFETY", "incomplete")],
)
def test_a_turn_that_ends_for_a_reason(reason: str, status: Any) -> None:
    driver = Driver().open()
    driver.server(audio(), content(turnComplete=True, turnCompleteReason=reason))
    ended, error = driver.take_events()[-2:]
    assert ended == AssistantTurnEnd("reply-1", status)
    assert isinstance(error, AgentError)
    assert (error.code, error.fatal) == (reason.lower(), False)
    driver.server(content(turnComplete=True, turnCompleteReason="NEED_MORE_INPUT"))
    assert driver.take_events() == []


# --- the caller's turn ------------------------------------------------------------------------------------------------


def test_a_turn_that_interrupts_nothing_is_known_by_its_first_words() -> None:
    driver = Driver().open()
    driver.server(heard("How much"), heard(" for two nights?"))
    assert driver.take_events() == [UserSpeechStarted()]
    driver.server(audio())
    assert driver.take_events()[:2] == [
        UserTranscript("How much for two nights?", final=True),
        AssistantTurnStarted("reply-1"),
    ]
    driver.server(GENERATED, COMPLETE, heard("And three?"))
    assert driver.take_events()[-1] == UserSpeechStarted()


def test_interim_transcripts_where_they_are_wanted() -> None:
    driver = Driver(options(interim_transcripts=True)).open()
    driver.server(heard("How"), heard(" much?", finished=True))
    assert driver.take_events() == [
        UserSpeechStarted(),
        UserTranscript("How", final=False),
        UserTranscript(" much?", final=False),
        UserTranscript("How much?", final=True),
    ]
    driver.server(audio(), GENERATED, COMPLETE)
    driver.take_events()
    driver.server(content(interimInputTranscription={"text": "two"}), heard("Two."), COMPLETE)
    assert driver.take_events() == [
        UserSpeechStarted(),
        UserTranscript("two", final=False),
        UserTranscript("Two.", final=True),
    ]


def test_words_that_come_late_are_no_speech() -> None:
    driver = Driver().open()
    driver.server(heard("How"), audio(), heard(" much?"))
    assert driver.take_events()[-1] == AssistantAudio("reply-1", "reply-1-item", b"\x01\x02" * 2400)
    driver.server(GENERATED, COMPLETE)
    assert driver.take_events()[-1] == UserTranscript("much?", final=True)


def test_barge_in_while_it_generates() -> None:
    driver = Driver().open()
    driver.server(audio(), said("Once upon a time"))
    driver.take_events()
    driver.server(INTERRUPTED)
    assert driver.take_events() == [UserSpeechStarted(), AssistantInterrupted("reply-1")]
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.server(audio(), said(" there was"))
    assert audio_of(driver.take_events()) == b""
    assert driver.dialect.counters["late_audio_bytes"] == 4800
    driver.server(heard("Stop."), COMPLETE, heard(" Please."))
    ended = driver.take_events()
    assert ended[-1] == AssistantTurnEnd("reply-1", "cancelled")
    driver.server(audio())
    assert driver.take_events()[:2] == [
        UserTranscript("Stop. Please.", final=True),
        AssistantTurnStarted("reply-2"),
    ], "one turn of the caller's, told once"
    assert driver.take_sent() == []


def test_barge_in_between_the_end_of_generation_and_that_of_the_turn() -> None:
    driver = Driver().open()
    driver.server(audio(), GENERATED)
    driver.advance(1.0)
    driver.take_events()
    driver.server(INTERRUPTED)
    assert driver.take_events() == [UserSpeechStarted()], "what is still being played must stop"
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.server(COMPLETE, heard("Stop."), audio())
    assert kinds(driver) == ["UserTranscript", "AssistantTurnStarted", "AssistantAudio"]


def test_an_interruption_after_the_turn_still_stops_what_is_played() -> None:
    driver = Driver().open()
    driver.server(audio(), GENERATED, COMPLETE)
    driver.take_events()
    driver.server(INTERRUPTED, COMPLETE)
    assert driver.take_events() == [UserSpeechStarted()]


def test_activity_events_where_the_model_sends_them() -> None:
    driver = Driver().open()
    driver.server({"voiceActivity": {"type": "ACTIVITY_START", "audioOffset": "1.25s"}}, heard("How"))
    driver.server({"voiceActivity": {"voiceActivityType": "ACTIVITY_END", "audioOffset": "2s"}}, heard(" much?"))
    assert driver.take_events() == [UserSpeechStarted(1250), UserSpeechEnded(2000)]
    driver.server(audio())
    driver.take_events()
    driver.server({"voiceActivityDetectionSignal": {"vadSignalType": "VAD_SIGNAL_TYPE_SOS"}}, INTERRUPTED)
    assert driver.take_events() == [UserSpeechStarted(), AssistantInterrupted("reply-1")], "told once"
    driver.server({"voiceActivityDetectionSignal": {"vadSignalType": "VAD_SIGNAL_TYPE_EOS"}})
    assert driver.take_events() == [UserSpeechEnded()]


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_cancelling_what_the_server_did_not_interrupt_sends_nothing_and_drops_the_rest() -> None:
    driver = Driver().open()
    driver.server(audio())
    driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.server(audio(), audio())
    assert driver.take_events() == []
    assert driver.take_sent() == []
    assert driver.dialect.counters["late_audio_bytes"] == 9600
    driver.server(GENERATED, COMPLETE)
    assert driver.take_events() == [AssistantTurnEnd("reply-1", "cancelled")]
    driver.server(audio())
    assert kinds(driver) == ["AssistantTurnStarted", "AssistantAudio"]


# --- asking for replies -----------------------------------------------------------------------------------------------


def test_what_is_to_be_said_waits_for_the_reply_before_it() -> None:
    driver = Driver().open()
    driver.command("say", "Welcome.")
    driver.command("say", "One moment.")
    assert texts(driver) == ["Welcome."]
    driver.server(audio(), GENERATED)
    assert texts(driver) == [], "it would interrupt what is being heard"
    driver.server(COMPLETE)
    assert texts(driver) == ["One moment."]


def test_a_request_that_was_not_answered_does_not_hold_up_the_next_for_ever() -> None:
    driver = Driver().open()
    driver.command("say", "Welcome.")
    driver.command("say", "One moment.")
    driver.take_sent()
    driver.advance(10.0)
    assert texts(driver) == ["One moment."]


def test_a_turn_that_does_not_end_is_interrupted_after_a_while() -> None:
    driver = Driver().open()
    driver.server(audio())
    driver.command("say", "Goodbye.")
    driver.take_events()
    driver.advance(15.0)
    assert texts(driver) == ["Goodbye."]
    driver.server(INTERRUPTED)
    assert driver.take_events() == [AssistantInterrupted("reply-1")], "that was us, not the caller"


def test_words_of_the_user_are_told_and_then_answered() -> None:
    driver = Driver().open()
    driver.command("send_text", "The caller pressed 1.")
    told = {"turns": [{"role": "user", "parts": [{"text": "The caller pressed 1."}]}], "turnComplete": False}
    assert driver.take_sent() == [{"clientContent": told}]
    driver.command("create_response")
    driver.command("create_response")
    driver.command("create_response")
    assert driver.take_sent() == [GO_ON]
    driver.server(audio(), GENERATED, COMPLETE)
    assert driver.take_sent() == [GO_ON], "what waits twice is asked once"


def test_keys_interrupt_and_are_answered_at_once() -> None:
    driver = Driver().open()
    driver.server(audio())
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.take_events()
    driver.command("send_text", "The caller pressed 1.")
    driver.command("create_response")
    assert [next(iter(message)) for message in driver.take_sent()] == ["clientContent", "clientContent"]
    driver.server(INTERRUPTED, COMPLETE)
    assert driver.take_events() == [AssistantTurnEnd("reply-1", "cancelled")]
    driver.server(audio())
    assert kinds(driver) == ["AssistantTurnStarted", "AssistantAudio"]


def test_keys_need_not_wait_for_what_nobody_hears_to_be_played() -> None:
    driver = Driver().open()
    driver.server(audio(6000), GENERATED)
    driver.advance(1.0)
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.take_events()
    driver.command("send_text", "The caller pressed 1.")
    driver.command("create_response")
    assert [next(iter(message)) for message in driver.take_sent()] == ["clientContent", "clientContent"]
    driver.server(INTERRUPTED, COMPLETE, audio())
    assert kinds(driver) == ["AssistantTurnStarted", "AssistantAudio"]


def test_a_model_that_answers_every_text_is_sent_it_when_an_answer_is_wanted() -> None:
    driver = Driver(credential=PREVIEW).open()
    driver.command("send_text", "The caller pressed 1.")
    driver.command("send_text", "The caller pressed 2.")
    assert driver.take_sent() == []
    driver.command("create_response")
    assert driver.take_sent() == [{"realtimeInput": {"text": "The caller pressed 1.\nThe caller pressed 2."}}]
    driver.server(audio(), GENERATED, COMPLETE)
    driver.command("create_response")
    [message] = driver.take_sent()
    assert "Go on" in message["realtimeInput"]["text"]


def test_an_image() -> None:
    driver = Driver().open()
    driver.command("send_image", b"\x89PNG", "image/png")
    assert driver.take_sent() == [{"realtimeInput": {"video": {"data": "iVBORw==", "mimeType": "image/png"}}}]


@pytest.mark.parametrize(
    ("credential", "sent"),
    [
        (CREDENTIAL, [{"contextUpdate": {"systemInstruction": {"parts": [{"text": "Be brief."}]}}}]),
        (OLD, []),
        (PREVIEW, []),
        (
            VERTEX,
            [
                {
                    "clientContent": {
                        "turns": [{"role": "system", "parts": [{"text": "Be brief."}]}],
                        "turnComplete": False,
                    }
                }
            ],
        ),
    ],
)
def test_instructions_in_mid_call(credential: Json, sent: list[Json]) -> None:
    driver = Driver(credential=credential).open()
    driver.command("update_instructions", "Be brief.")
    assert driver.take_sent() == sent
    assert driver.dialect.counters["unsupported_update_instructions"] == (not sent)


def instructed(driver: Driver) -> int:
    return sum("system" in str(message) for message in driver.take_sent())


def test_instructions_that_would_interrupt_wait_until_the_reply_is_generated_not_until_it_is_heard() -> None:
    driver = Driver(credential=VERTEX).open()
    driver.server(audio())
    driver.command("update_instructions", "Be brief.")
    assert instructed(driver) == 0
    driver.server(GENERATED)
    driver.advance(0.3)
    assert instructed(driver) == 1
    driver.take_events()
    driver.server(INTERRUPTED, COMPLETE)
    assert driver.take_events() == [], "that was us: what is being heard goes on"


def test_what_asks_for_no_answer_does_not_come_between_the_caller_and_theirs() -> None:
    driver = Driver(credential=VERTEX).open()
    driver.server(heard("How much?"))
    driver.command("update_instructions", "Be brief.")
    assert instructed(driver) == 0
    driver.server(audio(), GENERATED)
    driver.advance(0.3)
    assert instructed(driver) == 1
    driver.server(COMPLETE, heard("And then?"))
    driver.command("send_text", "The caller pressed 1.")
    assert driver.take_sent() == []
    driver.command("create_response")
    assert len(driver.take_sent()) == 2, "with a question behind it there will be an answer"


# --- sound ------------------------------------------------------------------------------------------------------------


def test_the_caller_s_sound() -> None:
    driver = Driver().open()
    driver.command("push_audio", bytes(range(6)))
    assert driver.take_sent() == [
        {"realtimeInput": {"audio": {"data": "AAECAwQF", "mimeType": "audio/pcm;rate=16000"}}}
    ]


def test_sound_that_pauses_ends_the_stream_until_it_goes_on() -> None:
    driver = Driver().open()
    for _ in range(100):
        driver.command("push_audio", PIECE)
        driver.advance(0.02)
    assert set(texts(driver)) == {"audio"}
    driver.advance(0.9)
    assert texts(driver) == []
    driver.advance(0.2)
    assert texts(driver) == ["audioStreamEnd"]
    driver.advance(60)
    assert texts(driver) == []
    driver.command("push_audio", PIECE)
    driver.advance(1.1)
    assert texts(driver) == ["audio", "audioStreamEnd"]


def test_vertex_is_not_told_of_pauses() -> None:
    driver = Driver(credential=VERTEX).open()
    driver.command("push_audio", PIECE)
    driver.advance(10)
    assert texts(driver) == ["audio"]


# --- turns by hand ----------------------------------------------------------------------------------------------------


def test_by_hand_activity_begins_with_the_first_sound_and_ends_with_the_commit() -> None:
    driver = Driver(BY_HAND).open()
    driver.command("commit_input_audio")
    assert texts(driver) == [], "there is nothing to commit"
    driver.command("push_audio", PIECE)
    driver.command("push_audio", PIECE)
    driver.command("commit_input_audio")
    assert texts(driver) == ["activityStart", "audio", "audio", "activityEnd"]
    driver.advance(20)
    assert texts(driver) == [], "such a stream does not pause"


def test_by_hand_the_caller_s_sound_does_not_interrupt_the_model() -> None:
    driver = Driver(BY_HAND).open()
    driver.command("push_audio", PIECE)
    driver.command("commit_input_audio")
    driver.take_sent()
    for _ in range(30):
        driver.command("push_audio", PIECE)
    driver.server(audio(), GENERATED)
    driver.command("push_audio", PIECE)
    assert texts(driver) == []
    assert driver.dialect.counters["audio_outside_activity_bytes"] == 6 * 640
    driver.server(COMPLETE)
    driver.command("push_audio", PIECE)
    assert texts(driver) == ["activityStart", *["audio"] * 26], "with the newest half second"


def test_by_hand_a_model_that_stays_silent_gives_the_floor_back() -> None:
    driver = Driver(BY_HAND).open()
    driver.command("push_audio", PIECE)
    driver.command("commit_input_audio")
    driver.take_sent()
    driver.advance(10.1)
    driver.command("push_audio", PIECE)
    assert texts(driver) == ["activityStart", "audio"]


def test_by_hand_cancelling_is_the_caller_s_activity() -> None:
    driver = Driver(BY_HAND).open()
    driver.command("say", "Welcome.")
    assert texts(driver) == ["activityStart", "Welcome.", "activityEnd"]
    driver.server(audio())
    driver.command("push_audio", PIECE)
    driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    assert texts(driver) == ["activityStart", "audio"]
    driver.server(INTERRUPTED, COMPLETE)
    assert driver.take_events() == [AssistantTurnEnd("reply-1", "cancelled")]
    driver.command("commit_input_audio")
    assert texts(driver) == ["activityEnd"]


def test_under_the_server_s_detection_a_commit_is_nothing() -> None:
    driver = Driver().open()
    driver.command("push_audio", PIECE)
    driver.command("commit_input_audio")
    assert texts(driver) == ["audio"]


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_call_ends_its_reply_and_what_follows_the_result_is_another() -> None:
    driver = Driver().open()
    driver.server(audio(), said("One moment."), call(("c1", "room_price", {"nights": 2})))
    assert driver.take_events()[3:] == [
        ToolCall("c1", "room_price", '{"nights": 2}', "reply-1"),
        AssistantText("reply-1", "One moment.", final=True),
        AssistantTurnEnd("reply-1"),
    ]
    driver.command("send_tool_result", "c1", '{"eur": 240}')
    assert driver.take_sent() == [response("c1", "room_price", {"output": {"eur": 240}})]
    driver.server(audio(), GENERATED, COMPLETE)
    assert driver.take_events()[0] == AssistantTurnStarted("reply-2")


@pytest.mark.parametrize(
    ("output", "result"),
    [
        ("240 euros", {"output": "240 euros"}),
        ("[1]", {"output": [1]}),
        ('{"error": "no such room"}', {"error": "no such room"}),
        ('{"error": "x", "code": 7}', {"output": {"error": "x", "code": 7}}),
        ("", {"output": ""}),
    ],
)
def test_results_are_objects(output: str, result: Json) -> None:
    driver = Driver().open()
    driver.server(call(("c1", "f", {})))
    driver.command("send_tool_result", "c1", output)
    assert driver.take_sent() == [response("c1", "f", result)]


def test_several_calls_in_one_frame_are_answered_each() -> None:
    driver = Driver().open()
    driver.server(call(("c1", "f", {}), ("c2", "g", {})))
    assert kinds(driver) == ["AssistantTurnStarted", "ToolCall", "ToolCall", "AssistantTurnEnd"]
    driver.command("send_tool_result", "c2", "2")
    driver.command("send_tool_result", "c1", "1")
    driver.command("send_tool_result", "c1", "1")
    assert driver.take_sent() == [response("c2", "g", {"output": 2}), response("c1", "f", {"output": 1})]
    assert driver.dialect.counters["tool_result_unexpected"] == 1


@pytest.mark.parametrize("cut", [False, True])
def test_a_call_that_is_told_twice_is_handed_out_and_answered_once(cut: bool) -> None:
    """Also where the first was answered long ago: an id is a call's for the whole session."""
    driver = Driver(credential=OLD).open()
    if cut:
        driver.server(audio())
        driver.command("cancel", [])
    driver.server(call(("c1", "f", {})))
    driver.advance(2.0)
    driver.command("send_tool_result", "c1", "1")
    driver.take_sent()
    driver.server(call(("c1", "f", {})), COMPLETE, call(("c1", "f", {})))
    driver.command("send_tool_result", "c1", "2")
    driver.advance(5.0)
    assert driver.take_sent() == []
    assert len([event for event in driver.take_events() if isinstance(event, ToolCall)]) == (0 if cut else 1)


def test_calls_without_an_id_are_answered_by_name() -> None:
    driver = Driver(credential=VERTEX).open()
    driver.server({"toolCall": {"functionCalls": [{"name": "f"}, {"name": "g", "args": {}}]}})
    calls = [event for event in driver.take_events() if isinstance(event, ToolCall)]
    assert [(event.name, event.arguments) for event in calls] == [("f", "{}"), ("g", "{}")]
    driver.command("send_tool_result", calls[1].call_id, "2")
    answer = {"name": "g", "response": {"output": 2}}
    assert driver.take_sent() == [{"toolResponse": {"functionResponses": [answer]}}]


def test_a_call_that_the_service_takes_back_is_not_answered() -> None:
    driver = Driver().open()
    driver.server(call(("c1", "f", {}), ("c2", "f", {})))
    driver.take_events()
    driver.server(INTERRUPTED, taken_back("c1", "c2", "c9"))
    assert driver.take_events() == [UserSpeechStarted(), ToolCallCancelled("c1"), ToolCallCancelled("c2")]
    driver.command("send_tool_result", "c1", "1")
    driver.advance(5)
    assert driver.take_sent() == []
    driver.server(COMPLETE, heard("Stop."), audio())
    assert kinds(driver) == ["UserTranscript", "AssistantTurnStarted", "AssistantAudio"]


def test_a_call_taken_back_without_another_word_ends_the_turn() -> None:
    driver = Driver().open()
    driver.server(call(("c1", "f", {})), taken_back("c1"))
    driver.command("say", "Goodbye.")
    assert texts(driver) == ["Goodbye."]


def test_a_call_that_we_cut_is_left_to_the_service_first() -> None:
    driver = Driver().open()
    driver.server(audio(), call(("c1", "f", {})))
    driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    assert driver.take_events() == [ToolCallCancelled("c1")]
    driver.server(taken_back("c1"))
    driver.advance(5)
    assert driver.take_sent() == []


def test_a_call_that_we_cut_and_the_service_did_not_take_back_is_answered_so_that_it_can_go_on() -> None:
    driver = Driver().open()
    driver.server(audio(), call(("c1", "f", {})))
    driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.advance(1.0)
    assert driver.take_sent() == [response("c1", "f", {"output": {"cancelled": "the caller interrupted"}})]
    driver.take_events()
    driver.server(audio(), GENERATED, COMPLETE)
    assert driver.take_events() == [], "nobody asked for what it says to that"
    driver.server(audio())
    assert kinds(driver) == ["AssistantTurnStarted", "AssistantAudio"]


def test_a_silent_call_goes_on_when_something_else_is_cut() -> None:
    driver = Driver().open()
    driver.server(audio(), GENERATED, COMPLETE, call(("c1", "f", {})))
    driver.take_events()
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    assert driver.take_events() == []
    driver.command("send_tool_result", "c1", "1")
    assert driver.take_sent() == [response("c1", "f", {"output": 1})]
    driver.server(audio())
    assert kinds(driver) == ["AssistantTurnStarted", "AssistantAudio"]


def test_a_reply_that_is_not_heard_any_more_calls_in_vain() -> None:
    driver = Driver().open()
    driver.server(audio())
    driver.command("cancel", [])
    driver.take_events()
    driver.server(call(("c1", "f", {})))
    assert driver.take_events() == [AssistantTurnEnd("reply-1", "cancelled")]
    driver.advance(1.0)
    assert driver.take_sent() == [response("c1", "f", {"output": {"cancelled": "the caller interrupted"}})]


def test_calls_that_do_not_hold_up_the_talk() -> None:
    driver = Driver(credential={**CREDENTIAL, "tool_behavior": "non_blocking"}).open()
    driver.server(audio(), call(("c1", "f", {})), audio(), GENERATED, COMPLETE)
    assert kinds(driver) == [
        "AssistantTurnStarted",
        "AssistantAudio",
        "ToolCall",
        "AssistantTurnEnd",
        "AssistantTurnStarted",
        "AssistantAudio",
        "AssistantTurnEnd",
    ]
    driver.command("say", "Still there?")
    assert texts(driver) == ["Still there?"], "the turn is over though the call is not"
    driver.command("send_tool_result", "c1", "1")
    assert driver.take_sent() == [response("c1", "f", {"output": 1}, scheduling="WHEN_IDLE")]


def test_such_a_call_that_was_cut_is_answered_without_being_talked_about() -> None:
    driver = Driver(credential={**CREDENTIAL, "tool_behavior": "non_blocking"}).open()
    driver.server(audio(), call(("c1", "f", {})))
    driver.command("cancel", [Played("reply-1", "reply-1-item", 40)])
    driver.advance(1.0)
    [message] = driver.take_sent()
    assert message["toolResponse"]["functionResponses"][0]["scheduling"] == "SILENT"


def test_more_calls_than_anybody_can_mean_are_dropped() -> None:
    driver = Driver().open()
    for number in range(100):
        driver.server(call((f"c{number}", "f", {})))
    assert sum(isinstance(event, ToolCall) for event in driver.take_events()) == 64
    assert driver.dialect.counters["tool_calls_dropped"] == 36


# --- usage ------------------------------------------------------------------------------------------------------------


def usage(prompt: int, said_tokens: int, name: str = "response", **more: Any) -> Json:
    counts = {
        "promptTokenCount": prompt,
        f"{name}TokenCount": said_tokens,
        "promptTokensDetails": [
            {"modality": "AUDIO", "tokenCount": prompt - 10},
            {"modality": "TEXT", "tokenCount": 4},
            {"modality": "TEXT", "tokenCount": 6},
        ],
        f"{name}TokensDetails": [{"modality": "AUDIO", "tokenCount": said_tokens}],
    }
    return {"usageMetadata": counts | more}


@pytest.mark.parametrize("name", ["response", "candidates"])
def test_usage_of_both_apis(name: str) -> None:
    driver = Driver().open()
    driver.server(audio(), COMPLETE | usage(50, 20, name, thoughtsTokenCount=5, cachedContentTokenCount=8))
    assert driver.take_events()[-1] == Usage(
        "reply-1",
        {
            "input_tokens": 50,
            "input_audio_tokens": 40,
            "input_text_tokens": 10,
            "input_cached_tokens": 8,
            "output_tokens": 25,
            "output_audio_tokens": 20,
            "output_text_tokens": 5,
        },
    )


def test_usage_within_a_generation_runs_on_and_each_generation_counts_anew() -> None:
    driver = Driver().open()
    driver.server(audio(), usage(50, 20), usage(50, 30), COMPLETE | usage(50, 30))
    counts = [event.counts for event in driver.take_events() if isinstance(event, Usage)]
    assert [entry.get("input_tokens") for entry in counts] == [50, None]
    assert counts[1] == {"output_tokens": 10, "output_audio_tokens": 10}
    driver.server(audio(), COMPLETE | usage(80, 30))
    [event] = [event for event in driver.take_events() if isinstance(event, Usage)]
    assert event.counts["input_tokens"] == 80


@pytest.mark.parametrize("output", ["NaN", '{"price": NaN}', "[1e999]", "-Infinity", "[" * 150 + "]" * 150])
def test_a_result_that_the_wire_has_no_value_for_is_text(output: str) -> None:
    driver = Driver().open()
    driver.server(call(("c1", "f", {})), COMPLETE)
    driver.take_events()
    driver.command("send_tool_result", "c1", output)
    answer = {"id": "c1", "name": "f", "response": {"output": output}}
    assert driver.take_sent() == [{"toolResponse": {"functionResponses": [answer]}}]


def test_a_call_without_a_name_is_answered_by_some() -> None:
    driver = Driver().open()
    driver.server(call(("c1", "", {})), COMPLETE)
    assert [event.name for event in driver.take_events() if isinstance(event, ToolCall)] == [""]
    driver.command("send_tool_result", "c1", "1")
    answer = {"id": "c1", "name": "unknown", "response": {"output": 1}}
    assert driver.take_sent() == [{"toolResponse": {"functionResponses": [answer]}}]
