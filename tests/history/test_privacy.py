"""What each storage level keeps: nobody is to be found in what is kept below `everything`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from sipbridge.call_fields import CallFields
from sipbridge.history.call_journal import CallJournal
from sipbridge.history.facts import (
    Ended,
    Entry,
    Fact,
    Noted,
    RecordingReady,
    Started,
    Summarised,
    ToolUsed,
    Transferred,
    Turn,
)
from sipbridge.history.masking import Masker
from sipbridge.history.privacy import Storage, discreet
from sipbridge.history.refusals import report_of_none
from sipbridge.history.sip_masking import without_persons
from sipbridge.outcome import Ended as Reason
from sipbridge.outcome import Latency, ToolRun

NUMBER, NAME = "+15550123", "Alice Example"
CANARIES = ("15550123", "5550123", "alice", "example", "4111", "secret street", "order-77", "smith", "12345")
RUN = ToolRun("order_status", json.dumps({"name": "Alice", "numbers": [12345], "none": None}), 1.0, 20, "ok", "12345!")
INVITE = (
    "INVITE sip:agent@198.51.100.1 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1\r\n"
    f'From: "{NAME}" <sip:{NUMBER}@pbx.test>;tag=1\r\n'
    f"P-Asserted-Identity: {NAME} <tel:{NUMBER}>\r\n"
    "Identity: eyJhbGciOi.secret street\r\n"
    "X-Order: order-77\r\n continued order-77\r\n"
    "CSeq: 1 INVITE\r\n"
    "Content-Type: application/sdp\r\n\r\n"
    f"v=0\r\no=alice 1 1 IN IP4 198.51.100.7\r\ns=order-77\r\ne=alice@example.test\r\nc=IN IP4 198.51.100.7\r\n"
)


def report(**more: Any) -> dict[str, Any]:
    fields = CallFields(to="agent", caller=NUMBER, call_id="c1")
    made = report_of_none(fields, Reason.CALLER_HUNG_UP, None, detail=f"said by {NUMBER}").to_json()
    return {**made, "tool_runs": [RUN.to_json()], "fallback": [f"openai failed: 401 for {NUMBER}"], **more}


def facts(direction: Any = "inbound", caller: str = NUMBER, to: str = "agent") -> list[Fact]:
    return [
        Started("c1", direction, caller, to, "pbx", "t", 3, "openai", "m", caller_name=NAME),
        Turn(1, "caller", "Alice here, my name is John Smith, card 4111 1111 1111 1111.", 0, 1, False),
        Turn(1, "caller", "Alice here, my name is John Smith, card 4111 1111 1111 1111.", 0, 1),
        Turn(2, "agent", "Thank you, John.", 1, 2, latency=Latency(1, 2, 3), heard_ms=900),
        ToolUsed(RUN),
        ToolUsed(ToolRun("send_dtmf", '{"keys": "12345"}', 1.0, 20, "ok")),
        Transferred("desk", "refer", False, f"{NUMBER}: 603 Decline"),
        Noted("agent", "main"),
        Noted("agent_error", f"500: no caller {NUMBER}"),
        RecordingReady("t/c1.wav", 2.0, True),
        Summarised("John Smith ordered 12345 of them", "openai", "m"),
        Ended(
            report(direction=direction, caller=caller, to=to),
            ({"at": 0.0, "sent": False, "peer": "198.51.100.7:5060", "title": "INVITE +sdp", "text": INVITE},),
        ),
    ]


def kept(storage: Storage, given: list[Fact] | None = None) -> list[Entry]:
    journal = CallJournal(wall=0.0, clock=lambda: 0.0, storage=storage)
    for fact in facts() if given is None else given:
        journal.note(fact)
    return journal.take()


def of(entries: list[Entry], kind: str) -> list[Any]:
    return [entry.data for entry in entries if entry.kind == f"call.{kind}"]


@pytest.mark.parametrize("storage", ["no_personal_data", "attributes"])
@pytest.mark.parametrize("outbound", [False, True])
def test_nobody_is_found_in_what_is_kept(storage: Storage, outbound: bool) -> None:
    given = facts("outbound", "agent", NUMBER) if outbound else facts()
    text = json.dumps([entry.data for entry in kept(storage, given)]).lower()
    assert [canary for canary in CANARIES if canary in text] == []


def test_everything_is_everything_but_for_keys() -> None:
    entries = kept("everything")
    assert len(entries) == len(facts())
    assert of(entries, "tool")[1]["arguments"] == '{"keys": "*****"}'
    assert of(entries, "ended")[0]["ladder"][0]["text"] == INVITE
    run = ToolRun("send_dtmf", '{"keys": "12345"}', 1.0, 20, "ok").to_json()
    (end,) = kept("everything", [Ended(report(tool_runs=[run]))])
    assert end.data["report"]["tool_runs"][0]["arguments"] == '{"keys": "*****"}'


def test_without_personal_data_the_conversation_can_still_be_read() -> None:
    entries = kept("no_personal_data")
    started = of(entries, "started")[0]
    assert (started["caller"], started["caller_name"], started["to"]) == ("***", "***", "agent")
    assert [turn["text"] for turn in of(entries, "turn")] == [
        "*** here, my name is *** ***, card ***.",
        "Thank you, ***.",
    ]
    assert json.loads(of(entries, "tool")[0]["arguments"]) == {"name": "***", "numbers": ["***"], "none": None}
    assert of(entries, "transferred")[0]["detail"] == "***: 603 Decline"
    assert of(entries, "note")[1]["detail"] == "500: no caller ***"
    end = of(entries, "ended")[0]
    assert end["report"]["fallback"] == ["openai failed: 401 for ***"]
    text = end["ladder"][0]["text"]
    assert "Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1" in text
    assert "c=IN IP4 198.51.100.7" in text
    assert "sip:***@pbx.test>;tag=1" in text
    assert "X-Order: ***" in text


def test_attributes_have_no_words_and_all_figures() -> None:
    entries = kept("attributes")
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert of(entries, "summary") == []
    turns = of(entries, "turn")
    assert [(turn["number"], turn["text"]) for turn in turns] == [(1, ""), (2, "")]
    assert turns[1]["latency"] == {"endpointing_ms": 1, "model_ms": 2, "playout_ms": 3}
    tool = of(entries, "tool")[0]
    assert (tool["name"], tool["ms"], tool["outcome"], tool["arguments"]) == ("order_status", 20, "ok", "")
    end = of(entries, "ended")[0]
    assert end["ladder"] == []
    assert (end["report"]["ended"], end["report"]["detail"], end["report"]["fallback"]) == ("caller_hung_up", "", [])
    assert of(entries, "note")[0]["detail"] == "main"


def test_an_address_of_the_callers_is_no_attribute() -> None:
    audio = {"legs": [{"remote": "198.51.100.7:4000", "lost": 3}], "first_audio_ms": 12}
    (end,) = kept("attributes", [Ended(report(audio=audio))])
    assert end.data["report"]["audio"] == {"legs": [{"remote": "***", "lost": 3}], "first_audio_ms": 12}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Call me at +1 (555) 010-0123 or 555.0100.", "Call me at *** or ***."),
        ("five five five, oh one two three", "***"),
        ("null eins fünf fünf", "***"),
        ("in 5 minutes, two pizzas at 10:30", "in 5 minutes, two pizzas at 10:30"),
        ("john.smith@example.com", "***"),
        ("john dot smith at example dot com", "***"),
        ("my name is maria garcía, how are you", "my name is *** ***, how are you"),
        ("Guten Tag, ich heiße Anna Schmidt-Weber.", "Guten Tag, ich heiße *** ***-***."),
        ("Frau Dr. Schulz bitte", "Frau Dr. *** bitte"),
        ("This is Peter Müller. Peter!", "This is *** ***. ***!"),
        ("I am sorry, it's fine.", "I am sorry, it's fine."),
        ("sip:alice@example.com", "sip:***"),
        ("", ""),
    ],
)
def test_what_is_hidden_of_what_is_said(said: str, left: str) -> None:
    assert Masker().words(said) == left


@pytest.mark.parametrize(
    "nasty", ["a.", "1 ", "one ", "my name is ", "x@", " dot a", "sip:", "mr A ", "((((", "zehn zig ", '"\\', "é"]
)
def test_nothing_that_a_stranger_says_takes_long(nasty: str) -> None:
    text = (nasty * 20_000)[:20_000]
    began = time.process_time()
    Masker().words(text)
    without_persons(f"INVITE sip:a@b SIP/2.0\r\nFrom: {text}\r\n\r\n{text}")
    assert time.process_time() - began < 1.0


def test_a_masker_does_not_grow() -> None:
    masker = Masker()
    for number in range(1000):
        masker.words(f"my name is Name{'x' * number}")
    assert len(masker._known) <= 200


def test_lines_in_the_log_are_discreet() -> None:
    assert discreet("everything", NUMBER)(f"to {NUMBER}") == f"to {NUMBER}"
    assert discreet("attributes", NUMBER)(f"to {NUMBER}: 401") == "to ***: 401"
    assert discreet("no_personal_data", "bob")("bob was here") == "*** was here"
