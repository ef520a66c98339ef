"""When a call's end is noted: not before its last message, and not much later."""

from __future__ import annotations

import pytest

from sipbridge.call_fields import CallFields
from sipbridge.history.call_journal import CallJournal
from sipbridge.history.last_words import LastWords, ladder_of, settled
from sipbridge.history.refusals import Refusals, report_of_none
from sipbridge.outcome import Ended
from sipbridge.sip.flow import Flow
from sipbridge.sip.ladder import Ladder
from tests import virtual

_FLOW = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5070))


def _message(start: str, method: str) -> str:
    return f"{start}\r\nCSeq: 1 {method}\r\n\r\n"


def ladder(*steps: tuple[bool, str, str]) -> Ladder:
    """`sent`, first line, method."""
    made = Ladder("c1")
    for number, (sent, start, method) in enumerate(steps):
        add(made, float(number), sent, start, method)
    return made


def add(made: Ladder, at: float, sent: bool, start: str, method: str) -> None:
    made.add(at, sent, _FLOW, _message(start, method), most_messages=100, most_size=100_000)


INVITE = (False, "INVITE sip:agent@example.com SIP/2.0", "INVITE")
OK = (True, "SIP/2.0 200 OK", "INVITE")
ACK = (False, "ACK sip:agent@example.com SIP/2.0", "ACK")
BYE = (True, "BYE sip:caller@example.com SIP/2.0", "BYE")
BYE_OK = (False, "SIP/2.0 200 OK", "BYE")
TRYING = (True, "SIP/2.0 100 Trying", "INVITE")


@pytest.mark.parametrize(
    ("steps", "over"),
    [
        ((INVITE, TRYING), False),
        ((INVITE, OK), False),
        ((INVITE, OK, ACK), True),
        ((INVITE, OK, ACK, BYE), False),
        ((INVITE, OK, ACK, BYE, BYE_OK), True),
        ((INVITE, (True, "SIP/2.0 404 Not Found", "INVITE")), False),
        ((INVITE, (True, "SIP/2.0 404 Not Found", "INVITE"), ACK), True),
        ((), True),
    ],
)
def test_whether_more_is_to_come(steps: tuple[tuple[bool, str, str], ...], over: bool) -> None:
    assert settled(ladder(*steps).steps) is over


class Bench:
    def __init__(self) -> None:
        self.clock = 10.0
        self.last = LastWords(lambda: self.clock)
        self.journal = CallJournal(wall=1000.0, clock=lambda: self.clock)
        self.report = report_of_none(CallFields(to="agent"), Ended.NO_TENANT, 404, journal=self.journal)


@virtual.timed
async def test_it_waits_for_the_answer_to_bye_and_is_noted_as_of_the_end() -> None:
    bench, made = Bench(), ladder(INVITE, OK, ACK, BYE)
    bench.last.note(bench.journal, bench.report, made)
    assert bench.journal.take() == []
    bench.clock += 0.25
    add(made, 4.0, *BYE_OK)
    (entry,) = bench.journal.take()
    assert entry.at == 1000.0
    assert [step["title"] for step in entry.data["ladder"]][-1] == "200 OK (BYE)"
    assert entry.data["report"]["outcome"] == "refused"
    assert made.on_step is None
    await virtual.pass_time(5)
    assert bench.journal.take() == [], "once"


@virtual.timed
async def test_an_answer_that_never_comes_is_not_waited_for_long() -> None:
    bench = Bench()
    bench.last.note(bench.journal, bench.report, ladder(INVITE, OK, ACK, BYE))
    await virtual.pass_time(0.9)
    assert bench.journal.take() == []
    await virtual.pass_time(0.2)
    assert [entry.kind for entry in bench.journal.take()] == ["call.ended"]


@virtual.timed
async def test_the_end_of_the_gateway_waits_for_nothing() -> None:
    bench = Bench()
    bench.last.note(bench.journal, bench.report, ladder(INVITE, OK, ACK, BYE))
    bench.last.close()
    assert len(bench.journal.take()) == 1


def test_a_ladder_is_told_in_times_of_its_own() -> None:
    made = ladder(INVITE, TRYING)
    add(made, 7.5, *INVITE)
    assert [(step["at"], step["sent"], step["peer"], step["title"]) for step in ladder_of(made.steps)] == [
        (0.0, False, "127.0.0.1:5070", "INVITE"),
        (1.0, True, "127.0.0.1:5070", "100 Trying (INVITE)"),
        (7.5, False, "127.0.0.1:5070", "INVITE (repeated)"),
    ]
    assert ladder_of(made.steps)[2]["text"] == ""


def test_a_flood_of_refused_calls_has_so_many_records() -> None:
    rate = Refusals(burst=3, per_second=2)
    assert [rate.allowed(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [rate.allowed(0.5), rate.allowed(0.5)] == [True, False]
    assert rate.left_out == 3
