"""How a call ended, from what the far end says: its status, its Reason header field."""

from __future__ import annotations

import pytest

from sipbridge.errors import CallNotAnsweredError
from sipbridge.outcome import Ended, given_up, hung_up, unanswered


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
    reason = None if cause is None else f"SIP;cause={status}, Q.850;cause={cause}"
    assert unanswered(CallNotAnsweredError("", status=status, reason=reason, rang=rang)) is ended


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
    ("header", "ended"),
    [
        (None, Ended.CALLEE_HUNG_UP),
        ('Q.850;cause=16;text="Normal call clearing"', Ended.CALLEE_HUNG_UP),
        ("SIP;cause=200, Q.850;cause=31", Ended.CALLEE_HUNG_UP),
        ("Q.850;cause=102", Ended.SIGNALLING_FAILED),
        ('Q.850;cause=41;text="Temporary failure"', Ended.SIGNALLING_FAILED),
        ("nonsense", Ended.CALLEE_HUNG_UP),
    ],
)
def test_a_call_that_was_up(header: str | None, ended: Ended) -> None:
    assert hung_up(header, outbound=True) is ended
