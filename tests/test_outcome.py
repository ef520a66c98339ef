"""How a call ended, from what the far end says: its status, its Reason header field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sipbridge.errors import CallNotAnsweredError
from sipbridge.outcome import ENDINGS, Ended, ended_by, given_up, hung_up, reason_header, unanswered
from sipbridge.sip.events import CallEnded, EndCause
from sipbridge.sip.reason import CAUSES, parse_reasons


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


def test_every_reason_is_explained_and_the_page_says_what_the_code_does() -> None:
    page = (Path(__file__).parents[1] / "docs" / "ended-reasons.md").read_text()
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `.*$", page, flags=re.MULTILINE)
    ]
    said = {name.strip("`"): (int(status) if status else None, int(cause)) for name, _, status, cause, _ in rows}
    assert len(rows) == len(said)
    assert said == {ended.value: (ending.status, ending.cause) for ended, ending in ENDINGS.items()}
    assert list(ENDINGS) == list(Ended), "in the same order, none forgotten"
    assert all(when for _, when, *_ in rows)


@pytest.mark.parametrize("ended", Ended)
def test_a_reason_goes_out_as_a_cause_that_exists_and_its_name(ended: Ended) -> None:
    (reason,) = parse_reasons(reason_header(ended))
    assert (reason.protocol, reason.text) == ("Q.850", ended.value)
    assert reason.cause in CAUSES


def test_only_the_node_itself_says_503() -> None:
    assert [ended for ended, ending in ENDINGS.items() if ending.status == 503] == [Ended.SHUTDOWN]


@pytest.mark.parametrize(
    ("cause", "status", "answered", "ended"),
    [
        (EndCause.TIMEOUT, 487, False, Ended.NO_ANSWER),
        (EndCause.ACK_TIMEOUT, 504, False, Ended.SIGNALLING_FAILED),
        (EndCause.CANCELLED, 487, False, Ended.CALLER_CANCELLED),
        (EndCause.TIMEOUT, 408, True, Ended.SIGNALLING_FAILED),
        (EndCause.SESSION_EXPIRED, None, True, Ended.SIGNALLING_FAILED),
        (EndCause.LOST, 481, True, Ended.SIGNALLING_FAILED),
        (EndCause.REMOTE_BYE, None, True, Ended.CALLER_HUNG_UP),
    ],
)
def test_a_call_that_came_in(cause: EndCause, status: int | None, answered: bool, ended: Ended) -> None:
    event = CallEnded(None, cause, status, "")  # type: ignore[arg-type]  # nobody looks at the call
    assert ended_by(event, outbound=False, transferred=None, answered=answered)[0] is ended
