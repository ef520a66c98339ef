"""The SIP ladder: what is kept, what is not, what has an end, and how it is drawn."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from sipbridge.sip.flow import Flow
from sipbridge.sip.ladder import Ladders, redact
from tests.sip.wire import ANSWER, OFFER, UDP, Wire, in_dialog, request

OTHER = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.3", 5080))


def traced(ladders: Ladders) -> Wire:
    wire = Wire()
    times = itertools.count()
    wire.user_agent.trace = lambda flow, sent, data: ladders.trace(flow, sent, data, next(times) / 1000)
    return wire


def test_a_call_is_drawn_with_its_times() -> None:
    ladders = Ladders()
    wire = traced(ladders)
    _, tag = wire.answered()
    wire.receive(in_dialog("BYE", tag))
    ladder = ladders.get("call1")
    assert ladder is not None
    heads, *arrows = ladder.lines()
    assert heads.split() == ["192.0.2.2:5060", "sipbridge"]
    assert len({line.rindex("|") for line in arrows}) == 1
    assert [re.sub("--+", "--", line) for line in arrows] == [
        "   0.000                 |-- INVITE +sdp -->|",
        "   0.001                 |<-- 100 Trying (INVITE) --|",
        "   0.002                 |<-- 200 OK (INVITE) +sdp --|",
        "   0.003                 |-- ACK -->|",
        "   0.004                 |-- BYE -->|",
        "   0.005                 |<-- 200 OK (BYE) --|",
    ]


def test_only_calls_make_ladders() -> None:
    ladders = Ladders()
    wire = traced(ladders)
    wire.receive(request("OPTIONS", call_id="ping"))
    wire.receive(b"\r\n\r\n")
    wire.receive(b"nonsense")
    wire.receive(request("BYE", call_id="stray", to="<sip:agent@192.0.2.1>;tag=x"))
    assert len(ladders) == 0
    assert ladders.get("ping") is None


def test_a_repetition_is_said_to_be_one_and_costs_no_room() -> None:
    ladders = Ladders()
    invite = request(body=OFFER)
    for _ in range(3):
        ladders.trace(UDP, False, invite, 0.0)
    ladder = ladders.get("call1")
    assert ladder is not None
    assert [step.title for step in ladder.steps] == ["INVITE +sdp", *["INVITE +sdp (repeated)"] * 2]
    assert ladder.size == len(invite)
    assert sum("s=offer" in line for line in ladder.transcript()) == 1


def test_the_legs_of_a_conversation_stand_on_one_ladder() -> None:
    ladders = Ladders()
    ladders.trace(UDP, False, request(call_id="a"), 1.0)
    ladders.trace(OTHER, True, request(call_id="b", cseq=7), 2.0)
    ladders.trace(UDP, False, request("BYE", call_id="a", cseq=2), 3.0)
    ladders.opened("a")
    ladders.joined("a", "b")
    ladder = ladders.get("b")
    assert ladder is ladders.get("a")
    assert ladder is not None
    assert ladder.call_ids == ["a", "b"]
    heads, *arrows = ladder.lines()
    assert heads.split() == ["192.0.2.2:5060", "sipbridge", "192.0.2.3:5080"]
    assert [line.index(">") for line in arrows] == [54, 84, 54]
    ladders.trace(OTHER, True, request("ACK", call_id="b", cseq=7), 4.0)
    assert len(ladder.steps) == 4
    assert len(ladders) == 1
    ladders.joined("a", "b")
    ladders.joined("a", "unknown")
    assert ladders.ended("b") is ladder


def test_calls_that_are_refused_push_out_no_call_that_was_up() -> None:
    ladders = Ladders(calls=3)
    ladders.trace(UDP, False, request(call_id="real"), 0.0)
    ladders.opened("real")
    ladders.ended("real")
    for number in range(5):
        ladders.trace(UDP, False, request(call_id=f"scan{number}"), 1.0)
    assert [call_id for call_id in ("real", "scan2", "scan3", "scan4") if ladders.get(call_id)] == [
        "real",
        "scan3",
        "scan4",
    ]


SUITE = "a=crypto:1 AES_CM_128_HMAC_SHA1_80"
INFO = "INFO sip:a SIP/2.0\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('Authorization: Digest username="u", response="SECRET"\r\nTo: x', "Authorization: Digest ***\r\nTo: x"),
        ('proxy-authorization : digest a="S",\r\n b="S"\r\nTo: x', "proxy-authorization : digest ***\r\nTo: x"),
        ("Authorization:\r\n Digest SECRET\r\nTo: x", "Authorization:\r\n Digest ***\r\nTo: x"),
        ("AUTHORIZATION: Basic SECRET", "AUTHORIZATION: Basic ***"),
        ("Authorization: SECRET", "Authorization:  ***"),
        ("To: <sip:bob:SECRET@example.com>", "To: <sip:bob:***@example.com>"),
        ("To: <sip:b;ob,?:SECRET@example.com>", "To: <sip:b;ob,?:***@example.com>"),
        ("To:sip:sip:SECRET@example.com", "To:sip:sip:***@example.com"),
        ("To:sip:bob@example.com, sips:c:SECRET@[::1]", "To:sip:bob@example.com, sips:c:***@[::1]"),
        (
            f"X: y\r\n\r\nv=0\r\n{SUITE} inline:SECRET|2^20;inline:SECRET\r\na=a",
            f"X: y\r\n\r\nv=0\r\n{SUITE} ***\r\na=a",
        ),
        (f"X: y\n\nv=0\n{SUITE} inline:SECRET\n", f"X: y\n\nv=0\n{SUITE} ***\n"),
        ("X: y\r\n\r\nv=0\r\na=crypto:SECRET\r\n", "X: y\r\n\r\nv=0\r\na=crypto: ***\r\n"),
        ("X: y\r\n\r\nv=0\r\na=crypto:1 inline:SECRET\r\n", "X: y\r\n\r\nv=0\r\na=crypto: ***\r\n"),
        ("X: y\r\n\r\nk=base64:SECRET\r\na=ice-pwd:SECRET\r\n", "X: y\r\n\r\nk=base64:***\r\na=ice-pwd:***\r\n"),
        (f"{INFO}Signal=5\r\nDuration=160\r\n", f"{INFO}Signal=***\r\nDuration=160\r\n"),
        (f"{INFO}5", f"{INFO}***"),
        ("INFO sip:a SIP/2.0\n\nSignal=5\n", "INFO sip:a SIP/2.0\n\nSignal=***\n"),
        ('NOTIFY sip:a SIP/2.0\r\n\r\n<kpml digits="55"/>', 'NOTIFY sip:a SIP/2.0\r\n\r\n<kpml digits="***"/>'),
    ],
)
def test_no_secret_is_kept(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Route: <sip:example.com:5060;lr>, <sip:b@example.com>\r\nCall-ID: a@b\r\nContact: sips:c@[2001:db8::1]:5061",
        "X: y\r\n\r\nv=0\r\na=rtpmap:101 telephone-event/8000\r\n",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_line_ends_before_a_message_hide_no_secret_from_redaction() -> None:
    ladders = Ladders()
    auth = 'Authorization: Digest username="u", nonce="n", uri="sip:a", response="5EC2E7"'
    ladders.trace(UDP, False, request(), 0.0)
    ladders.trace(UDP, False, b"\r\n\r\n" + request(headers=[auth]), 1.0)
    ladders.trace(UDP, False, b"\r\n" + request("INFO", cseq=2, body=b"Signal=9\r\nDuration=100\r\n"), 2.0)
    ladder = ladders.get("call1")
    assert ladder is not None
    assert len(ladder.steps) == 3
    text = "\n".join(ladder.transcript())
    assert "5EC2E7" not in text
    assert "Signal=9" not in text


@pytest.mark.parametrize(
    "data",
    [
        b"INVITE sip:a SIP/2.0\r\nCall-ID: a" + b" " * 60_000 + b"b\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nCall-ID" + b" " * 60_000 + b"\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nCall-ID: a\r\nX: " + b"sip:" * 1900 + b" x:y:z@\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nCall-ID: a\r\n\r\n\n" + b"a=crypto:" * 870,
        b"INFO sip:a SIP/2.0\r\nCall-ID: call1\r\n\r\n" + b"\r\n" * 3900,
        b"INFO sip:a SIP/2.0\r\nCall-ID: call1\r\n\r\n" + b"\n" * 7900,
    ],
)
def test_no_message_takes_long(data: bytes) -> None:
    """It is kept before anybody has been asked who he is."""
    ladders = Ladders()
    ladders.trace(UDP, False, request(), 0.0)
    began = time.process_time()
    ladders.trace(UDP, False, data, 1.0)
    assert time.process_time() - began < 0.02


def test_a_secret_that_was_sent_is_in_no_ladder() -> None:
    ladders = Ladders()
    crypto = b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:U0VDUkVU\r\n"
    auth = 'Authorization: Digest username="u", nonce="n", uri="sip:a", response="5EC2E7"'
    traced(ladders).receive(request(body=crypto, headers=[auth]))
    ladder = ladders.get("call1")
    assert ladder is not None
    text = "\n".join(ladder.transcript())
    assert "5EC2E7" not in text
    assert "U0VDUkVU" not in text
    assert "a=crypto:1 AES_CM_128_HMAC_SHA1_80 ***" in text


def test_calls_that_are_over_make_room_and_calls_that_are_up_stay() -> None:
    ladders = Ladders(calls=3)
    ladders.trace(UDP, False, request(call_id="up"), 0.0)
    ladders.opened("up")
    for number in range(10):
        ladders.trace(UDP, False, request(call_id=f"c{number}"), 1.0)
    assert [name for name in ("up", "c6", "c7", "c8", "c9") if ladders.get(name)] == ["up", "c7", "c8", "c9"]
    ladders.ended("up")
    assert [name for name in ("up", "c7", "c8", "c9") if ladders.get(name)] == ["up", "c8", "c9"]
    assert len(ladders) == 3


def test_messages_and_bytes_have_an_end() -> None:
    ladders = Ladders(messages=3, size=100_000, message=1000, total=10_000)
    long = request(body=b"v=0\r\n" + b"x" * 100_000)
    for number in range(5):
        ladders.trace(UDP, False, long.replace(b"CSeq: 1", b"CSeq: %d" % number), 0.0)
    ladder = ladders.get("call1")
    assert ladder is not None
    assert (len(ladder.steps), ladder.left_out) == (3, 2)
    assert ladder.size < 3200
    assert ladder.lines()[-1] == "(2 more messages were not kept)"
    for number in range(50):
        ladders.trace(UDP, False, long.replace(b"call1", b"other%d" % number), 0.0)
    assert len(ladders) <= 10


def test_what_a_stranger_writes_does_not_move_the_cursor() -> None:
    ladders = Ladders()
    ladders.trace(UDP, False, request(from_="\x1b[2J<sip:a@example.com>;tag=1"), 0.0)
    ladders.trace(UDP, False, b"SIP/2.0 200 \x1b[2J\r\nCall-ID: call1\r\n\r\n", 0.0)
    ladder = ladders.get("call1")
    assert ladder is not None
    assert "\x1b" not in "\n".join([*ladder.lines(), *ladder.transcript()])


def test_the_answer_is_marked_as_having_a_description() -> None:
    ladders = Ladders()
    wire = traced(ladders)
    wire.incoming().answer(ANSWER, 0.0)
    wire.sent()
    ladder = ladders.get("call1")
    assert ladder is not None
    assert ladder.steps[-1].title == "200 OK (INVITE) +sdp"
