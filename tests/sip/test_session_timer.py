"""Session timers (RFC 4028): what the two sides agree on, and when something has to be done."""

from __future__ import annotations

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.message import Headers, Request, Response
from sipbridge.sip.session_timer import (
    Due,
    Interval,
    SessionTimer,
    SessionTimers,
    is_too_brief,
    min_se,
    session_expires,
)


def asking(expires: str | None = None, *, supported: str = "timer", min_se: str | None = None) -> Request:
    headers = Headers()
    for name, value in (("Session-Expires", expires), ("Supported", supported), ("Min-SE", min_se)):
        if value is not None:
            headers.add(name, value)
    return Request("INVITE", "sip:a@b.example", headers)


def granting(expires: str | None, *, min_se: str | None = None, status: int = 200) -> Response:
    return Response(status, "", asking(expires, min_se=min_se).headers)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("1800", Interval(1800)),
        (" 90 ;refresher=uac", Interval(90, "uac")),
        ("90; x=y ;Refresher = UAS;z", Interval(90, "uas")),
        ("90;refresher=nobody", Interval(90)),
        ("99999999999"[:10], Interval(2**31 - 1)),
    ],
)
def test_session_expires_is_read(text: str, interval: Interval) -> None:
    assert session_expires(asking(text)) == interval


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "90,100", "1" * 50])
def test_a_malformed_interval_is_an_error(text: str) -> None:
    with pytest.raises(SipParseError):
        session_expires(asking(text))
    with pytest.raises(SipParseError):
        min_se(asking(min_se=text))


def test_only_a_caller_that_knows_timers_is_told_that_its_interval_is_too_small() -> None:
    settings = SessionTimers(min_s=120)
    assert is_too_brief(asking("119"), settings)
    assert not is_too_brief(asking("120"), settings)
    assert not is_too_brief(asking("119", supported="100rel"), settings)
    assert not is_too_brief(asking(None), settings)


@pytest.mark.parametrize(
    ("expires", "supported", "prefer", "answered"),
    [
        # RFC 4028 §9, table 2
        ("600", "timer", None, "600;refresher=uac"),
        ("600", "timer", "us", "600;refresher=uas"),
        ("600;refresher=uac", "timer", "us", "600;refresher=uac"),
        ("600;refresher=uas", "timer", "peer", "600;refresher=uas"),
        ("600", "100rel", "peer", "600;refresher=uas"),
        (None, "timer", "us", None),
        ("30", "", None, "90;refresher=uas"),
    ],
)
def test_as_callee_we_take_what_the_caller_wants(
    expires: str | None, supported: str, prefer: str | None, answered: str | None
) -> None:
    timer = SessionTimer(SessionTimers(prefer=prefer))  # type: ignore[arg-type]
    headers = dict(timer.accept(asking(expires, supported=supported), 0.0))
    assert headers.get("Session-Expires") == answered
    assert (headers.get("Require") == "timer") == (answered is not None and supported == "timer")


@pytest.mark.parametrize(("seconds", "end"), [(1800, 1768), (90, 60), (96, 64)])
def test_who_refreshes_does_so_half_way_and_both_hang_up_before_the_end(seconds: int, end: float) -> None:
    timer = SessionTimer(SessionTimers())
    timer.accept(asking(f"{seconds};refresher=uas"), 100.0)
    assert timer.get_timer() == 100 + seconds / 2
    assert timer.due(100 + seconds / 2) is Due.REFRESH
    assert timer.due(100 + seconds / 2) is None
    assert timer.get_timer() == 100 + end
    assert timer.due(100.0 + end) is Due.EXPIRED
    assert timer.get_timer() is None
    timer.accept(asking(f"{seconds};refresher=uac"), 100.0)
    assert timer.get_timer() == 100 + end


def test_a_running_timer_survives_a_request_that_says_nothing_about_it() -> None:
    timer = SessionTimer(SessionTimers())
    timer.accept(asking("600;refresher=uac"), 0.0)
    assert dict(timer.accept(asking(None), 100.0))["Session-Expires"] == "600;refresher=uac"
    assert timer.get_timer() == 100 + 600 - 32
    assert dict(timer.accept(asking(None, supported=""), 200.0))["Session-Expires"] == "600;refresher=uas"
    assert timer.get_timer() == 200 + 300


def test_as_caller_we_ask_and_then_go_by_the_answer() -> None:
    timer = SessionTimer(SessionTimers(expires_s=1800))
    headers = timer.request_headers()
    assert headers == [("Session-Expires", "1800")]
    assert timer.get_timer() is None
    timer.accepted(asking("1800"), granting("600;refresher=uas"), 0.0)
    assert timer.get_timer() == 600 - 32
    assert timer.request_headers() == [("Session-Expires", "600;refresher=uas")]
    timer.accepted(asking("600"), granting("600;refresher=uac"), 10.0)
    assert timer.get_timer() == 310
    timer.accepted(asking("600"), granting("600"), 20.0)  # against §7.2; then it is for us to do
    assert timer.get_timer() == 320


@pytest.mark.parametrize("answer", [None, "garbage"])
def test_a_callee_without_timers_is_refreshed_all_the_same(answer: str | None) -> None:
    timer = SessionTimer(SessionTimers())
    timer.accepted(asking("1800"), granting(answer), 0.0)
    assert timer.due(900.0) is Due.REFRESH
    timer.refresh_failed(901.0)  # 488, say: but somebody is there
    assert timer.get_timer() == 901 + 900


def test_a_refused_refresh_is_tried_again_as_long_as_there_is_time() -> None:
    timer = SessionTimer(SessionTimers())
    timer.accepted(asking("100"), granting("100;refresher=uac"), 0.0)
    assert timer.due(50.0) is Due.REFRESH
    timer.refresh_failed(50.0)
    assert timer.get_timer() == pytest.approx(50 + (68 - 50) / 2)
    timer.due(59.0)
    timer.refresh_failed(67.9)
    assert timer.get_timer() == 68


def test_a_larger_interval_is_asked_for_when_it_is_demanded() -> None:
    timer = SessionTimer(SessionTimers(expires_s=300))
    assert timer.raise_to(granting(None, min_se="400", status=422))
    assert timer.request_headers() == [("Session-Expires", "400"), ("Min-SE", "400")]
    assert not timer.raise_to(granting(None, min_se="400", status=422))  # it was heeded, and refused again
    assert not timer.raise_to(granting(None, min_se="x", status=422))
    assert not timer.raise_to(granting(None, status=422))


def test_a_peer_cannot_make_us_refresh_all_the_time() -> None:
    timer = SessionTimer(SessionTimers())
    timer.accepted(asking("1800"), granting("0;refresher=uac"), 0.0)
    assert timer.get_timer() == 10


def test_without_an_interval_of_our_own_nothing_is_asked_for() -> None:
    timer = SessionTimer(SessionTimers(expires_s=0))
    assert timer.request_headers() == []
    timer.accepted(asking(None), granting(None), 0.0)
    assert timer.get_timer() is None
    timer.accepted(asking(None), granting("600;refresher=uac"), 0.0)  # a proxy wants it
    assert timer.get_timer() == 300
