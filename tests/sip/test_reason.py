"""Reason header fields, causes of Q.850, and the words for what became of a call (RFC 3326, RFC 3398, RFC 6432)."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended, reason_header
from sipbridge.sip.reason import (
    FarEnd,
    Reason,
    outcome_of_bye,
    outcome_of_cancel,
    outcome_of_failure,
    parse_reasons,
    q850,
)
from sipbridge.sip.usage import LOSSES, Loss, ends_call, loss

# --- the header field -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Q.850;cause=16", [Reason("Q.850", 16)]),
        ('Q.850;cause=17;text="User busy"', [Reason("Q.850", 17, "User busy")]),
        ('q.850 ; cause = 16 ; text = "NORMAL_CLEARING"', [Reason("Q.850", 16, "NORMAL_CLEARING")]),
        ('SIP ;cause=200 ;text="Call completed elsewhere"', [Reason("SIP", 200, "Call completed elsewhere")]),
        ('SIP;cause=580;text="a, \\"b\\"; c", Q.850;cause=58', [Reason("SIP", 580, 'a, "b"; c'), Reason("Q.850", 58)]),
        ("X.int;reasoncode=0x00000A41;add-info=07CC.0001", [Reason("X.INT")]),
        ("Q.850;cause=16;text=bare", [Reason("Q.850", 16, "bare")]),
        ('Q.850;CAUSE="34"', [Reason("Q.850", 34)]),
        ('preemption;cause=5;text="Network Preemption"', [Reason("PREEMPTION", 5, "Network Preemption")]),
        ("Q.850;cause=99999", [Reason("Q.850")]),
        ("Q.850;cause=١٦", [Reason("Q.850")]),
        ("Q.850;cause=-1", [Reason("Q.850")]),
        (";cause=16", []),
        ("@;cause=16, SIP;cause=486", [Reason("SIP", 486)]),
        ('Q.850;cause=16;text="open', []),
        ("", []),
        (None, []),
    ],
)
def test_values_as_peers_write_them(value: str | None, expected: list[Reason]) -> None:
    assert list(parse_reasons(value)) == expected


def test_many_values_are_a_few_and_a_long_text_is_cut() -> None:
    assert len(parse_reasons(", ".join(["Q.850;cause=16"] * 30))) == 8
    assert len(parse_reasons(f'Q.850;cause=16;text="{"x" * 5000}"')[0].text) == 120


def test_what_is_written_can_be_read() -> None:
    reasons = (Reason("SIP", 200, 'Call "completed" elsewhere'), q850(26))
    text = ", ".join(map(str, reasons))
    assert text.endswith('Q.850;cause=26;text="Non-selected user clearing"')
    assert parse_reasons(text) == reasons
    assert str(Reason("SIP")) == "SIP"


def test_what_goes_to_strangers_is_plain() -> None:
    assert str(q850(16, 'a"b\\c\r\nd\u00e9')) == 'Q.850;cause=16;text="abcd"'
    assert reason_header(Ended.MEDIA_TIMEOUT) == 'Q.850;cause=102;text="media_timeout"'
    assert (
        reason_header(Ended.AGENT_NOT_READY, "no_such\nmodel") == 'Q.850;cause=41;text="agent_not_ready: no_suchmodel"'
    )


# --- the tables -------------------------------------------------------------------------------------------------------


Q = "Q.850;cause={}".format


@pytest.mark.parametrize(
    ("status", "header", "outcome"),
    [
        (486, None, FarEnd.BUSY),
        (486, Q(17), FarEnd.BUSY),
        (600, None, FarEnd.BUSY),
        (480, None, FarEnd.NO_ANSWER),
        (480, Q(19), FarEnd.NO_ANSWER),
        (480, Q(20), FarEnd.UNREACHABLE),
        (480, Q(17), FarEnd.BUSY),
        (408, None, FarEnd.NO_ANSWER),
        (603, None, FarEnd.REFUSED),
        (603, Q(17), FarEnd.BUSY),
        (603, "SIP;cause=603, Q.850;cause=21", FarEnd.REFUSED),
        (403, None, FarEnd.NOT_ALLOWED),
        (403, Q(21), FarEnd.REFUSED),
        (404, None, FarEnd.NO_SUCH_NUMBER),
        (404, Q(1), FarEnd.NO_SUCH_NUMBER),
        (487, None, FarEnd.CANCELLED),
        (488, Q(17), FarEnd.INCOMPATIBLE),
        (500, None, FarEnd.FAILED),
        (500, Q(38), FarEnd.UNREACHABLE),
        (500, Q(16), FarEnd.FAILED),
        (503, None, FarEnd.CONGESTED),
        (503, Q(34), FarEnd.CONGESTED),
        (503, Q(127), FarEnd.CONGESTED),
        (302, None, FarEnd.MOVED),
        (399, None, FarEnd.MOVED),
        (499, None, FarEnd.FAILED),
        (608, None, FarEnd.REFUSED),
        (486, "garbage", FarEnd.BUSY),
    ],
)
def test_a_refusal_in_words(status: int, header: str | None, outcome: FarEnd) -> None:
    assert outcome_of_failure(status, parse_reasons(header)) is outcome


@pytest.mark.parametrize(
    ("header", "outcome"),
    [
        (None, FarEnd.CANCELLED),
        ('SIP;cause=200;text="Call completed elsewhere"', FarEnd.ANSWERED_ELSEWHERE),
        ('SIP ;cause=200 ;text="Call completed elsewhere"', FarEnd.ANSWERED_ELSEWHERE),
        (Q(26), FarEnd.ANSWERED_ELSEWHERE),
        ('SIP;cause=603;text="Declined elsewhere"', FarEnd.REFUSED),
        ("SIP;cause=600", FarEnd.BUSY),
        ('SIP;cause=487;text="ORIGINATOR_CANCEL"', FarEnd.CANCELLED),
        (Q(16), FarEnd.CANCELLED),
        ("SIP;text=x", FarEnd.CANCELLED),
    ],
)
def test_a_cancel_in_words(header: str | None, outcome: FarEnd) -> None:
    assert outcome_of_cancel(parse_reasons(header)) is outcome


@pytest.mark.parametrize(
    ("header", "outcome"),
    [(None, FarEnd.HUNG_UP), (Q(16), FarEnd.HUNG_UP), (Q(31), FarEnd.HUNG_UP), (Q(38), FarEnd.FAILED)]
    + [(Q(102), FarEnd.FAILED), ("SIP;cause=200", FarEnd.HUNG_UP)],
)
def test_a_bye_in_words(header: str | None, outcome: FarEnd) -> None:
    assert outcome_of_bye(parse_reasons(header)) is outcome


# --- what a failed request takes with it (RFC 5057) -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status", "lost", "ends"),
    [
        ("INVITE", 481, Loss.USAGE, True),
        ("INVITE", 408, Loss.USAGE, True),
        ("INVITE", 404, Loss.DIALOG, True),
        ("INVITE", 488, Loss.TRANSACTION, False),
        ("INVITE", 491, Loss.TRANSACTION, False),
        ("INVITE", 503, Loss.TRANSACTION, False),
        ("UPDATE", 481, Loss.USAGE, True),
        ("REFER", 404, Loss.TRANSACTION, False),
        ("REFER", 405, Loss.TRANSACTION, False),
        ("REFER", 408, Loss.USAGE, True),
        ("REFER", 481, Loss.USAGE, True),
        ("INFO", 405, Loss.TRANSACTION, False),
        ("INFO", 481, Loss.USAGE, True),
        ("NOTIFY", 481, Loss.USAGE, False),
        ("NOTIFY", 489, Loss.USAGE, False),
        ("NOTIFY", 500, Loss.TRANSACTION, False),
        ("NOTIFY", 404, Loss.DIALOG, True),
        ("INVITE", 200, Loss.TRANSACTION, False),
        ("INVITE", 699, Loss.TRANSACTION, False),
    ],
)
def test_what_a_failed_request_takes_with_it(method: str, status: int, lost: Loss, ends: bool) -> None:
    assert loss(method, status) is lost
    assert ends_call(method, status) is ends


def test_the_table_lists_losses_only() -> None:
    assert Loss.TRANSACTION not in LOSSES.values()
