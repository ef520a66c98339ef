"""Session timers (RFC 4028): what the two sides agree on, and when something has to be done."""

from __future__ import annotations

import pytest

from sipbridge.errors import SipParseError
from sipbridge.sip.events import (
    Answered,
    CallEnded,
    EndCause,
    InviteReceived,
    ReinviteReceived,
    SessionAnswered,
    SipEvent,
)
from sipbridge.sip.invite import CallState, Invite
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
from sipbridge.sip.uas import IncomingInvite
from tests.sip.network import Network, Weather
from tests.sip.wire import ANSWER, OFFER, PEER, US, Wire, answer_to, from_callee, in_dialog, request


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


# --- on the wire ------------------------------------------------------------------------------------------------------

UPDATES = ("Allow", "INVITE, ACK, BYE, UPDATE")
WE = "1800;refresher=uac"
"""We refresh a call of ours."""


def granted(value: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("Session-Expires", value), ("Require", "timer"), *more)


def incoming(wire: Wire, *headers: str) -> tuple[IncomingInvite, Response, str]:
    """A call that came in with these headers and is up; with it our 200 and our tag."""
    wire.receive(request(headers=headers))
    call = wire.event(InviteReceived).call
    call.answer(ANSWER, wire.now)
    (ok,) = wire.sent()
    assert isinstance(ok, Response)
    assert ok.to.tag
    wire.receive(in_dialog("ACK", ok.to.tag, cseq=1))
    wire.events()
    return call, ok, ok.to.tag


def test_we_ask_for_half_an_hour() -> None:
    wire = Wire()
    _, invite = wire.calling()
    assert invite.headers.get("Session-Expires") == "1800"
    assert "timer" in invite.supported
    assert "Min-SE" not in invite.headers


def test_our_refresh_is_an_update_where_the_peer_takes_them() -> None:
    wire = Wire()
    _, invite = wire.called(*granted(WE, UPDATES))
    ((time, update),) = wire.advance(900.0)
    assert isinstance(update, Request)
    assert (time, update.method, update.body) == (900.0, "UPDATE", b"")
    assert update.headers.get("Session-Expires") == WE
    assert "timer" in update.supported
    wire.receive(answer_to(update, 200, headers=granted(WE)))
    ((time, update),) = wire.advance(1800.0)
    assert (time, update.cseq.method, update.cseq.number) == (1800.0, "UPDATE", invite.cseq.number + 2)
    assert wire.events() == []


def test_else_it_is_a_reinvite_with_the_session_as_it_is() -> None:
    wire = Wire()
    wire.called(*granted(WE))
    ((_, invite),) = wire.advance(900.0)
    assert isinstance(invite, Request)
    assert (invite.method, invite.body) == ("INVITE", OFFER)
    (ack,) = wire.receive(answer_to(invite, 200, body=ANSWER, headers=granted(WE)))
    assert ack.cseq.method == "ACK"
    assert wire.events() == []  # nothing has changed
    ((_, invite),) = wire.advance(1800.0)
    assert isinstance(invite, Request)
    wire.receive(answer_to(invite, 200, body=b"v=0\r\ns=moved\r\n", headers=granted(WE)))
    assert wire.event(SessionAnswered).answer == b"v=0\r\ns=moved\r\n"


def test_a_refresh_says_what_was_said_last_of_the_session() -> None:
    wire = Wire()
    call, invite = wire.called(*granted(WE))
    wire.receive(from_callee("INVITE", invite, body=b"v=0\r\ns=hold\r\n", headers=["Supported: timer"]))
    call.accept_reinvite(b"v=0\r\ns=held\r\n", 0.0)
    (ok,) = wire.sent()
    assert ok.headers.get("Session-Expires") == "1800;refresher=uas"  # we go on refreshing, now as UAS
    wire.receive(from_callee("ACK", invite))
    wire.events()
    ((_, refresh),) = wire.advance(900.0)
    assert refresh.body == b"v=0\r\ns=held\r\n"


@pytest.mark.parametrize("status", [481, 408])
def test_a_refresh_that_finds_nobody_ends_the_call(status: int) -> None:
    wire = Wire()
    wire.called(*granted(WE, UPDATES))
    ((_, update),) = wire.advance(900.0)
    assert isinstance(update, Request)
    (bye,) = wire.receive(answer_to(update, status))
    assert bye.cseq.method == "BYE"
    assert wire.event(CallEnded).cause is EndCause.LOST


def test_a_refresh_that_is_refused_is_tried_again_and_in_the_end_the_session_expires() -> None:
    wire = Wire()
    wire.called(*granted(WE, UPDATES))
    times = []
    while not (events := wire.events()):
        deadline = wire.user_agent.get_timer()
        assert deadline is not None
        for time, message in wire.advance(deadline):
            if message.cseq.method == "UPDATE":
                times.append(time)
                assert isinstance(message, Request)
                wire.receive(answer_to(message, 500))
    assert times[:3] == [900.0, 900 + 868 / 2, 900 + 868 * 3 / 4]
    assert len(times) < 15
    assert wire.now == 1800 - 32
    (ended,) = events
    assert isinstance(ended, CallEnded)
    assert ended.cause is EndCause.SESSION_EXPIRED


def test_the_peer_does_not_refresh() -> None:
    wire = Wire()
    _, ok, _ = incoming(wire, "Supported: timer", "Session-Expires: 300;refresher=uac")
    assert ok.headers.get("Session-Expires") == "300;refresher=uac"
    assert ok.headers.get("Require") == "timer"
    ((time, bye),) = wire.advance(268.0)
    assert isinstance(bye, Request)
    assert (time, bye.method) == (268.0, "BYE")
    assert "cause=408" in (bye.headers.get("Reason") or "")
    assert wire.event(CallEnded).cause is EndCause.SESSION_EXPIRED
    wire.advance(400.0)
    assert wire.user_agent.idle


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_the_peer_refreshes(method: str) -> None:
    wire = Wire()
    call, _, tag = incoming(wire, "Supported: timer", "Session-Expires: 300;refresher=uac")
    for number in range(2, 6):
        wire.advance(150.0 * (number - 1))
        headers = ["Supported: timer", "Session-Expires: 300;refresher=uac"]
        body = OFFER if method == "INVITE" else b""
        sent = wire.receive(in_dialog(method, tag, cseq=number, headers=headers, body=body))
        if method == "INVITE":
            assert wire.event(ReinviteReceived).offer == OFFER
            call.accept_reinvite(ANSWER, wire.now)
            sent = wire.sent()
            wire.receive(in_dialog("ACK", tag, cseq=number))
            wire.events()
        (ok,) = sent
        assert ok.headers.get("Session-Expires") == "300;refresher=uac"
    assert call.state is CallState.CONFIRMED
    assert wire.advance(600 + 267.9) == []


def test_a_caller_that_knows_no_timers_is_refreshed_for_the_proxy_that_does() -> None:
    wire = Wire()
    _, ok, _ = incoming(wire, "Session-Expires: 300")
    assert ok.headers.get("Session-Expires") == "300;refresher=uas"
    assert "Require" not in ok.headers
    ((time, refresh), *_) = wire.advance(150.0)
    assert (time, refresh.cseq.method, refresh.body) == (150.0, "INVITE", ANSWER)


def test_a_caller_that_asks_for_nothing_gets_nothing() -> None:
    wire = Wire()
    _, ok, _ = incoming(wire, "Supported: timer")
    assert "Session-Expires" not in ok.headers
    assert wire.user_agent.get_timer() == 32.0  # only the transaction's Timer L
    wire.advance(10_000.0)
    assert wire.user_agent.calls == 1


def test_a_callee_without_timers_is_asked_all_the_same_whether_it_is_there() -> None:
    wire = Wire()
    wire.called()
    ((time, refresh), *_) = wire.advance(900.0)
    assert isinstance(refresh, Request)
    assert (time, refresh.method) == (900.0, "INVITE")
    wire.receive(answer_to(refresh, 488))  # it is
    assert wire.events() == []
    times = [time for time, message in wire.advance(2000.0) if message.cseq.method == "INVITE"]
    assert times[0] == 1800.0


def test_a_callee_that_wants_a_longer_interval_gets_it() -> None:
    wire = Wire()
    call, invite = wire.calling()
    ack, again = wire.receive(answer_to(invite, 422, headers=[("Min-SE", "3600")]))
    assert ack.cseq.method == "ACK"
    assert isinstance(again, Request)
    assert (again.headers.get("Session-Expires"), again.headers.get("Min-SE")) == ("3600", "3600")
    assert (again.call_id, again.from_, str(again.cseq), again.to.tag) == (
        invite.call_id,
        invite.from_,
        "2 INVITE",
        None,
    )
    assert again.via.branch != invite.via.branch
    assert (again.body, again.uri) == (OFFER, invite.uri)
    assert wire.events() == []
    (ack,) = wire.receive(answer_to(again, 200, body=ANSWER, headers=granted("3600;refresher=uac")))
    assert str(ack.cseq) == "2 ACK"
    assert call.state is CallState.CONFIRMED
    ((time, refresh), *_) = wire.advance(1800.0)
    assert (time, refresh.headers.get("Session-Expires"), refresh.headers.get("Min-SE")) == (
        1800.0,
        "3600;refresher=uac",
        "3600",
    )


def test_a_callee_that_is_never_content_is_left() -> None:
    wire = Wire()
    _, invite = wire.calling()
    for number in range(3):
        _, again = wire.receive(answer_to(invite, 422, headers=[("Min-SE", str(3600 + number))]))
        assert isinstance(again, Request)
        invite = again
    wire.receive(answer_to(invite, 422, headers=[("Min-SE", "9999")]))
    ended = wire.event(CallEnded)
    assert (ended.cause, ended.status) == (EndCause.REJECTED, 422)
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_422_without_a_reason_is_a_refusal() -> None:
    wire = Wire()
    _, invite = wire.calling()
    wire.receive(answer_to(invite, 422))
    assert wire.event(CallEnded).status == 422


def test_a_422_after_we_gave_up_ends_it() -> None:
    wire = Wire()
    call, invite = wire.calling()
    wire.receive(answer_to(invite, 100))
    call.cancel(0.1)
    wire.sent()
    (ack,) = wire.receive(answer_to(invite, 422, headers=[("Min-SE", "3600")]))
    assert ack.cseq.method == "ACK"
    wire.advance(100.0)
    assert wire.user_agent.idle


def test_a_refresh_that_asks_for_too_little_asks_for_more() -> None:
    wire = Wire()
    wire.called(*granted(WE, UPDATES))
    ((_, update),) = wire.advance(900.0)
    assert isinstance(update, Request)
    (again,) = wire.receive(answer_to(update, 422, headers=[("Min-SE", "2400")]))
    assert again.headers.get("Session-Expires") == "2400;refresher=uac"


def test_our_own_change_refreshes_the_session_too() -> None:
    wire = Wire()
    call, _ = wire.called(*granted(WE))
    wire.advance(600.0)
    call.reinvite(b"v=0\r\ns=hold\r\n", 600.0)
    invite = wire.sent_request("INVITE")
    assert invite.headers.get("Session-Expires") == WE
    wire.receive(answer_to(invite, 200, body=ANSWER, headers=granted(WE)))
    assert [message.cseq.method for time, message in wire.advance(1499.9)] == []
    ((time, _),) = wire.advance(1500.0)
    assert time == 1500.0


def test_a_refresh_waits_behind_a_change_and_is_saved_by_it() -> None:
    wire = Wire()
    call, invite = wire.called(*granted(WE))
    wire.advance(899.0)
    wire.receive(from_callee("INVITE", invite))
    assert [message.cseq.method for _, message in wire.advance(901.0)] == []  # theirs waits for our answer
    call.accept_reinvite(ANSWER, 901.0)
    wire.sent()
    assert wire.receive(from_callee("ACK", invite)) == []
    ((time, refresh),) = wire.advance(1801.0)
    assert (time, refresh.cseq.method) == (1801.0, "INVITE")


def test_settings_of_the_user_agent() -> None:
    wire = Wire(session_timers=SessionTimers(expires_s=600, min_s=300, prefer="us"))
    _, invite = wire.calling()
    assert invite.headers.get("Session-Expires") == "600;refresher=uac"
    assert invite.headers.get("Min-SE") == "300"
    refused = wire.reply(request(headers=["Supported: timer", "Session-Expires: 299"]))
    assert (refused.status, refused.headers.get("Min-SE")) == (422, "300")
    _, ok, _ = incoming(wire, "Supported: timer", "Session-Expires: 300")
    assert ok.headers.get("Session-Expires") == "300;refresher=uas"


# --- two user agents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer", ["us", "peer"])
@pytest.mark.parametrize(
    "weather", [Weather(), Weather(loss=0.2), Weather(loss=0.1, duplication=0.3, delay=(0.01, 0.6))]
)
def test_long_calls_are_kept_alive_over_a_bad_network(weather: Weather, prefer: str) -> None:
    network = Network(weather, seed=4028)
    settings = SessionTimers(expires_s=120, prefer=prefer)  # type: ignore[arg-type]
    alice, bob = network.add("a", US, settings), network.add("b", PEER, settings)
    calls: list[Invite] = []
    causes: list[EndCause] = []

    def callee(event: SipEvent) -> None:
        match event:
            case InviteReceived(call=call):
                call.answer(ANSWER, network.now)
            case CallEnded(cause=cause):
                causes.append(cause)

    def caller(event: SipEvent) -> None:
        match event:
            case Answered(call=call):
                calls.append(call)

    def call() -> None:
        alice.user_agent.invite("sip:bob@192.0.2.2", from_="<sip:a@b.example>", offer=OFFER, now=network.now)

    alice.on_event, bob.on_event = caller, callee
    for number in range(20):
        network.at(number * 1.0, call)
    network.run(until=1500.0)
    assert len(calls) == 20
    assert causes == []
    # Then one side goes away without a word, and the other one finds out.
    network.cut(alice)
    network.run()
    assert len(causes) == 20
    assert set(causes) <= {EndCause.SESSION_EXPIRED, EndCause.LOST}
    assert bob.user_agent.idle
