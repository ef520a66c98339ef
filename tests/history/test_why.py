"""The table of causes: what is seen of a call, and what it is told to come from.

tests/loopback/test_why.py has calls that were really made to fail like that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipbridge.audio_health import AudioHealth
from sipbridge.history.facts import KINDS, Answered, Entry, Fact, Latency, Noted, ToolUsed, Transferred, Turn
from sipbridge.history.reading.cures import CURES
from sipbridge.history.reading.evidence import Evidence
from sipbridge.history.reading.why import told, why
from sipbridge.media.events import MediaStats
from sipbridge.outcome import CallReport, ToolRun
from sipbridge.outcome import Ended as Reason
from tests.history.calls import BEGAN, RECORD, a_call, ended, entries, leg, started, step

DIRECTORY = Path(__file__).parents[2] / "sipbridge" / "history" / "reading"
SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nm=audio 4000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n"


def names(*facts: tuple[float, Fact], **given_start: Any) -> list[str]:
    return [cause.name for cause in why(Evidence(entries((0.0, started(**given_start)), *facts)))]


def of(reason: str, *legs: dict[str, Any], answered: bool = True, more: tuple[Fact, ...] = (), **report: Any) -> str:
    facts: list[tuple[float, Fact]] = [(0.5, Answered(500, "PCMU"))] if answered else []
    facts += [(float(at), fact) for at, fact in enumerate(more, 1)]
    return names(*facts, (20.0, ended(reason, *legs, **report)))[0]


def test_the_cures_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ended-reasons.md").read_text()
    rows = [[cell.strip() for cell in row[1:-1].split("|")] for row in re.findall(r"^\| `.*\|$", page, re.MULTILINE)]
    assert {row[0].strip("`"): row[4] for row in rows} == {ended.value: cure for ended, (_, cure) in CURES.items()}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_to_end_is_told_in_words(reason: Reason) -> None:
    causes = why(Evidence(entries((0.0, started()), (9.0, ended(reason.value, status=None)))))
    assert causes
    assert all(cause.what[0].isupper() or cause.what[0] in "`0123456789" for cause in causes)
    assert "\n".join(told(causes))


def test_a_conversation_that_went_well_has_no_cause_but_its_end() -> None:
    good = leg()
    assert names((0.5, Answered(500, "PCMU")), (20.0, ended("caller_hung_up", good, audio=_audio(good)))) == [
        "caller_hung_up"
    ]


def _audio(*legs: dict[str, Any], first: int | None = 400) -> dict[str, Any]:
    return {"first_audio_ms": 900, "first_audio_after_answer_ms": first, "legs": list(legs)}


def test_a_call_that_is_up_is_told_to_be() -> None:
    assert names() == ["up"]


@pytest.mark.parametrize(
    ("figures", "cause"),
    [
        ({"packets_received": 0}, "no_audio_received"),
        ({"packets_received": 0, "unauthenticated": 900}, "wrong_keys"),
        ({"packets_received": 0, "wrong_source": 900}, "wrong_source"),
        ({"packets_sent": 0}, "no_audio_sent"),
        ({"send_errors": 40}, "cannot_send"),
        ({"remote_loss_percent": 99.0}, "one_way"),
        ({"remote_loss_percent": 8.0}, "loss_outbound"),
        ({"loss_percent": 8.0, "lost": 120, "late": 3}, "loss"),
        ({"loss_percent": 8.0, "lost": 120, "late": 110}, "jitter"),
        ({"stalled_ms": 400}, "machine_busy"),
        ({"late_max_ms": 90.0}, "machine_busy"),
        ({"underruns": 6}, "underruns"),
    ],
)
def test_what_the_sound_says(figures: dict[str, Any], cause: str) -> None:
    bad = leg(**figures)
    assert of("caller_hung_up", audio=_audio(bad)) == cause


def test_an_address_that_nobody_can_reach_is_named() -> None:
    ladder = (
        step(0.0, False, "INVITE +sdp", SDP.format("8.8.8.9"), "8.8.8.8:5060"),
        step(0.5, True, "200 OK (INVITE) +sdp", SDP.format("10.0.0.5"), "8.8.8.8:5060"),
    )
    silent = leg(packets_received=0)
    causes = why(
        Evidence(
            entries(
                (0.0, started()),
                (0.5, Answered(500, "PCMU")),
                (30.0, ended("media_timeout", silent, seconds=30.0, ladder=ladder)),
            )
        )
    )
    assert [cause.name for cause in causes] == ["our_address"]
    assert "our SDP says 10.0.0.5, and the far end is at 8.8.8.8" in causes[0].because
    assert "sip.public_address" in causes[0].fix


def test_an_answer_that_nobody_confirmed() -> None:
    answer = "SIP/2.0 200 OK\r\nContact: <sip:agent@192.168.1.5:5060;transport=udp>\r\n\r\n"
    ladder = (
        step(0.0, False, "INVITE", "", "8.8.8.8:5060"),
        step(0.5, True, "200 OK (INVITE)", answer, "8.8.8.8:5060"),
        step(1.0, True, "200 OK (INVITE) (repeated)", answer, "8.8.8.8:5060"),
    )
    causes = why(
        Evidence(entries((0.0, started()), (32.0, ended("signalling_failed", detail="no ACK", ladder=ladder))))
    )
    assert [cause.name for cause in causes] == ["no_ack"]
    assert "sent 2 times" in causes[0].because
    assert "Contact says 192.168.1.5" in causes[0].because
    assert "sip.public_address" in causes[0].fix


@pytest.mark.parametrize(
    ("detail", "fix"),
    [
        ("the environment variable OPENAI_API_KEY is not set", "set that variable"),
        ("wss://api.example.com does not accept the key: HTTP 401", "the key (`agent.api_key`)"),
        ("wss://api.example.com takes no more sessions at the moment: HTTP 429", "limit is reached"),
        ("wss://api.example.com is in trouble: HTTP 503", "status page"),
        ("wss://api.example.com: the host name can't be resolved (x)", "DNS does not work"),
        ("wss://api.example.com: connection refused", "nobody listens"),
        ("wss://api.example.com: no answer", "`deadlines.connect_seconds`"),
        ("nothing came of it in time (replying)", "fell silent"),
        ("the model's connection closed: 1011 out of memory", "ended the session"),
        ("something new", "`sipbridge check`"),
    ],
)
@pytest.mark.parametrize("reason", ["agent_not_ready", "provider_failed"])
def test_what_a_provider_said_has_its_fix(reason: str, detail: str, fix: str) -> None:
    (cause, *_) = why(Evidence(entries((0.0, started()), (3.0, ended(reason, detail=detail, status=480)))))
    assert cause.name == reason
    assert cause.because == detail
    assert fix in cause.fix
    assert cause.fix.count("sipbridge check") == 1


def test_an_error_of_the_model_that_did_not_end_the_call_is_told() -> None:
    told_of = (Noted("agent_error", "rate_limit_exceeded: slow down"),)
    assert of("caller_hung_up", audio=_audio(leg()), more=told_of) == "agent_error"


@pytest.mark.parametrize("limit", ["concurrent_calls", "calls_per_second", "minutes_per_day", "spend_per_day"])
def test_a_limit_is_named_with_the_key_that_raises_it(limit: str) -> None:
    (cause,) = why(Evidence(entries((0.0, started()), (0.1, ended("tenant_limit", detail=f"{limit}: 0", status=486)))))
    assert cause.name == "tenant_limit"
    assert f"`limits.{limit}`" in cause.fix
    assert "0 is none at all" in cause.because


@pytest.mark.parametrize(
    "detail", ["SRTP without a key or fingerprint that could be used", "SRTP is switched off here", "encryption"]
)
def test_encryption_that_one_side_lacks_is_no_matter_of_codecs(detail: str) -> None:
    ladder = (step(0.0, False, "INVITE +sdp", SDP.format("127.0.0.1")),)
    call = entries((0.0, started()), (0.1, ended("refused", detail=detail, status=488, ladder=ladder)))
    assert [cause.name for cause in why(Evidence(call))] == ["encryption_wanted"]


def test_an_offer_without_sound_is_no_matter_of_codecs() -> None:
    ladder = (step(0.0, False, "INVITE +sdp", "v=0\r\nm=video 4000 RTP/AVP 31\r\n"),)
    call = entries((0.0, started()), (0.1, ended("refused", detail="no audio", status=488, ladder=ladder)))
    assert [cause.name for cause in why(Evidence(call))] == ["no_audio_offered"]


def test_what_says_it_better_stands_for_the_rest() -> None:
    mute = leg(packets_received=0, packets_sent=0)
    assert of("caller_hung_up", mute, audio=_audio(mute)) == "no_audio_sent"
    strange = leg(packets_received=0, unauthenticated=200)
    answered = (0.5, Answered(500, "PCMU"))
    assert names(answered, (20.0, ended("media_timeout", strange, audio=_audio(strange)))) == ["wrong_keys"]


def test_a_short_gap_is_not_why_a_call_ended() -> None:
    click, gaps = leg(stalled_ms=100), leg(stalled_ms=900)
    assert of("caller_hung_up", click, audio=_audio(click)) == "caller_hung_up"
    assert of("too_long", gaps, audio=_audio(gaps)) == "too_long"


def test_no_codec_in_common_names_what_was_offered() -> None:
    ladder = (step(0.0, False, "INVITE +sdp", SDP.format("127.0.0.1")),)
    (cause,) = why(
        Evidence(entries((0.0, started()), (0.1, ended("refused", detail="no codec", status=488, ladder=ladder))))
    )
    assert cause.name == "no_common_codec"
    assert "offered: G729" in cause.because


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 410, 484, 488, 503])
def test_what_the_far_end_answered_to_a_call_of_ours(status: int) -> None:
    found = names((1.0, ended("declined", status=status)), direction="outbound")
    assert found[0] == f"far_end_{status}"


def test_what_else_goes_wrong() -> None:
    good = leg()
    slow = Turn(2, "agent", "Yes.", 5, 6, latency=Latency(300, 2600, 20))
    assert of("caller_hung_up", audio=_audio(good), more=(slow,)) == "slow_answers"
    assert of("caller_hung_up", audio=_audio(good, first=4000)) == "late_greeting"
    assert of("caller_hung_up", audio=_audio(good, first=None)) == "nothing_was_said"
    run = ToolUsed(ToolRun("lookup", "{}", 1.0, 10_000, "timeout"))
    assert of("caller_hung_up", audio=_audio(good), more=(run,)) == "tool_failed"
    slow_run = ToolUsed(ToolRun("lookup", "{}", 1.0, 6000, "ok"))
    assert of("caller_hung_up", audio=_audio(good), more=(slow_run,)) == "slow_tool"
    not_through = Transferred("desk", "refer", False, "486 Busy Here")
    assert of("caller_hung_up", audio=_audio(good), more=(not_through,)) == "transfer_failed"
    assert of("caller_hung_up", audio=_audio(good), fallback=["main: lost"], more=(Noted("fallback"),)) == "fell_back"
    assert of("caller_cancelled", answered=False, seconds=14.0) == "caller_cancelled"


def test_nobodys_number_is_told_with_what_each_tenant_lacks() -> None:
    call = entries((0.0, started(tenant="")), (0.1, ended("no_tenant", status=404)))
    (cause,) = why(Evidence(call, route=[("acme", "to: +15550100 is none of +1555020*")]))
    assert "acme: to: +15550100 is none of" in cause.because
    assert "sipbridge route --to '+15550100'" in cause.fix


def test_a_number_that_is_somebodys_by_now_says_so() -> None:
    call = entries((0.0, started(tenant="")), (0.1, ended("no_tenant", status=404)))
    (cause,) = why(Evidence(call, route=[("acme", "chosen: the most specific match")]))
    assert "today it would be for acme" in cause.because


def test_the_words_fit_the_terminal_and_the_likely_cause_comes_first() -> None:
    lines = list(told(why(Evidence(a_call())), 60))
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("The caller could not be put through to desk")


_value = st.none() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.none() | st.text(max_size=3))
_report = st.dictionaries(
    st.sampled_from(["ended", "detail", "status", "seconds", "audio", "fallback", "legs"]),
    _value | st.dictionaries(st.sampled_from(["legs", "first_audio_after_answer_ms"]), _value),
)


@given(
    st.sampled_from([reason.value for reason in Reason]), _report, st.lists(_report, max_size=2), st.sampled_from(KINDS)
)
def test_whatever_was_written_there_is_an_answer(
    reason: str, report: dict[str, Any], legs: list[dict[str, Any]], kind: str
) -> None:
    told_report = {"ended": reason, "audio": {"legs": legs}} | report
    call = [
        Entry(RECORD, 0, BEGAN, "call.started", report),
        Entry(RECORD, 1, BEGAN, kind, report),
        Entry(RECORD, 2, BEGAN + 1, "call.ended", {"report": told_report, "ladder": [report]}),
    ]
    assert all(line.isprintable() for line in told(why(Evidence(call)), 80))


def test_the_figures_that_the_rules_look_for_are_those_of_the_report() -> None:
    assert {"ended", "detail", "status", "seconds", "fallback", "audio"} <= set(CallReport.__dataclass_fields__)
    assert {"legs", "first_audio_ms", "first_audio_after_answer_ms"} <= set(AudioHealth().to_json())
    sources = [(DIRECTORY / f"{name}.py").read_text() for name in ("why_sound", "timeline")]
    asked = {name for source in sources for name in re.findall(r'(?:total|most)\("(\w+)"\)|\("(\w+)", "\{:', source)}
    figures = set(MediaStats.__dataclass_fields__) | {"loss_percent", "remote_loss_percent"}
    assert {name for pair in asked for name in pair if name} <= figures
