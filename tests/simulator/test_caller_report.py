from __future__ import annotations

import pytest

from sipbridge.errors import ConfigError
from sipbridge.simulator.caller_report import CallReport, parse_expectations


def a_call() -> CallReport:
    report = CallReport(status=200, reason="OK", figures={"connect": 20, "greeting": 80, "reply": 700, "heard": 5400})
    report.measure("reply", 650)
    report.measure("flush", 120.04)
    return report


@pytest.mark.parametrize(
    "term",
    [
        "answered",
        "greeting",
        "reply",
        "flush",
        "heard",
        "greeting<100",
        "reply<=700",
        "heard > 5000",
        "answer",
        "speech>5000",
        "2xx",
        "200",
        "flush>=120",
    ],
)
def test_what_came_true(term: str) -> None:
    report = a_call()
    report.expected = parse_expectations(term)
    assert report.ok


@pytest.mark.parametrize(
    "term", ["ringing", "key", "silence", "bye", "busy", "greeting<80", "reply<700", "4xx", "480", "key<500"]
)
def test_what_did_not(term: str) -> None:
    report = a_call()
    report.expected = parse_expectations(f"answered, {term}")
    assert not report.ok
    assert report.unmet == (term,)
    assert any(line.endswith("NO") for line in report.summary())


@pytest.mark.parametrize(("status", "term"), [(480, "480"), (480, "4xx"), (486, "busy"), (600, "busy"), (603, "6xx")])
def test_a_refusal_can_be_expected(status: int, term: str) -> None:
    report = CallReport(status=status, reason="Declined", expected=parse_expectations(term))
    assert report.ok
    report.expected = ()
    assert not report.ok
    assert report.outcome == f"refused with {status} Declined"


def test_a_silent_call_and_one_that_they_ended() -> None:
    report = CallReport(status=200, ended_by_them=True, expected=parse_expectations("silence,BYE"))
    assert report.ok
    report.figures["heard"] = 0.0
    assert report.ok


def test_an_error_is_never_what_was_expected() -> None:
    assert not CallReport(status=200, error="no sound card", expected=parse_expectations("answered")).ok


@pytest.mark.parametrize("text", ["answer me", "hello", "reply=3", "answered<3", "780", "4x", "bye,nothing", "480<3"])
def test_what_cannot_be_expected_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="nothing to expect"):
        parse_expectations(text)


def test_no_expectation_is_none() -> None:
    assert parse_expectations(" , ") == ()
