"""How a call ended, from what the far end says: its status, its Reason header field."""

from __future__ import annotations

import pytest

from sipbridge.errors import CallNotAnsweredError
from sipbridge.outcome import Ended, given_up, q850_cause, unanswered


@pytest.mark.parametrize(
    ("status", "cause", "rang", "ended"),
    [
        (486, None, True, Ended.BUSY),
        (600, None, False, Ended.BUSY),
        (480, 17, False, Ended.BUSY),
        (480, None, True, Ended.NO_ANSWER),
        (480, 20, True, Ended.UNREACHABLE),
        (487, None, True, Ended.NO_ANSWER),
        (408, None, True, Ended.NO_ANSWER),
        (408, None, False, Ended.UNREACHABLE),
        (408, 18, False, Ended.NO_ANSWER),
        (603, None, True, Ended.DECLINED),
        (603, 17, True, Ended.BUSY),
        (403, None, False, Ended.DECLINED),
        (401, None, False, Ended.DECLINED),
        (404, 1, False, Ended.UNREACHABLE),
        (404, 16, False, Ended.UNREACHABLE),
        (410, None, False, Ended.UNREACHABLE),
        (503, 34, False, Ended.UNREACHABLE),
        (500, None, False, Ended.UNREACHABLE),
        (488, None, False, Ended.REFUSED),
        (302, None, False, Ended.REDIRECTED),
        (400, None, False, Ended.SIGNALLING_FAILED),
    ],
)
def test_a_call_that_nobody_answered(status: int, cause: int | None, rang: bool, ended: Ended) -> None:
    assert unanswered(CallNotAnsweredError("", status=status, cause=cause, rang=rang)) is ended


@pytest.mark.parametrize(
    ("header", "ended"),
    [
        (None, Ended.CALLER_CANCELLED),
        ('SIP;cause=200;text="Call completed elsewhere"', Ended.ANSWERED_ELSEWHERE),
        ("Q.850;cause=26", Ended.ANSWERED_ELSEWHERE),
        ("SIP;cause=487", Ended.CALLER_CANCELLED),
        ("SIP;cause=603", Ended.CALLER_CANCELLED),
    ],
)
def test_a_call_that_was_taken_back(header: str | None, ended: Ended) -> None:
    assert given_up(header) is ended


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (None, None),
        ("SIP;cause=486", None),
        ("SIP;cause=486, Q.850;cause=17", 17),
        ('q.850;text="a;cause=1";cause=16', 16),
    ],
)
def test_the_cause_of_a_reason(header: str | None, cause: int | None) -> None:
    assert q850_cause(header) == cause
