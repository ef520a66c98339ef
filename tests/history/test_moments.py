"""Moments as people write them, in their zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from sipbridge.history.reading.moments import lasted, parse_moment, told

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 0, 30, tzinfo=UTC)  # 01:30 there


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", "2026-11-22T00:30:00+00:00"),
        ("2h", "2026-11-21T22:30:00+00:00"),
        ("30m", "2026-11-22T00:00:00+00:00"),
        ("45 s", "2026-11-22T00:29:15+00:00"),
        ("7D", "2026-11-15T00:30:00+00:00"),
        ("1w", "2026-11-15T00:30:00+00:00"),
        ("today", "2026-11-22T00:00:00+01:00"),
        ("yesterday", "2026-11-21T00:00:00+01:00"),
        ("9:05", "2026-11-22T09:05:00+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("2026-07-01 08:00", "2026-07-01T08:00:00+02:00"),
        ("2026-07-01T08:00:00Z", "2026-07-01T08:00:00+00:00"),
        ("2026-07-01T08:00:00-05:00", "2026-07-01T08:00:00-05:00"),
    ],
)
def test_what_can_be_written(text: str, moment: str) -> None:
    assert parse_moment(text, NOW, BERLIN) == at(moment)


def test_a_day_as_an_end_is_with_all_of_it_also_when_it_has_25_hours() -> None:
    assert parse_moment("yesterday", NOW, BERLIN, end=True) == at("2026-11-22T00:00:00+01:00")
    assert parse_moment("2026-10-25", NOW, BERLIN, end=True) == at("2026-10-26T00:00:00+01:00")
    assert parse_moment("2026-10-25 00:00", NOW, BERLIN, end=True) == at("2026-10-25T00:00:00+02:00")


@pytest.mark.parametrize("text", ["", "soon", "2h ago", "25:00", "2026-13-01", "-2h", "999999w", "²h"])
def test_what_is_no_moment_is_told_with_what_is_one(text: str) -> None:
    with pytest.raises(ValueError, match="no moment: 2h, 30m|too long ago"):
        parse_moment(text, NOW, BERLIN)


def test_moments_are_told_in_the_zone() -> None:
    assert told(NOW.timestamp(), BERLIN) == "2026-11-22 01:30:00"
    assert told(NOW.timestamp() + 0.0625, BERLIN, precise=True) == "2026-11-22T01:30:00.062+01:00"
    assert told(None) == told(1e300) == ""


def test_how_long_something_lasted() -> None:
    assert [lasted(seconds) for seconds in (None, 0, 4.25, 59.9, 187, 3729)] == [
        "",
        "0.0 s",
        "4.2 s",
        "59.9 s",
        "3:07 min",
        "1:02:09 h",
    ]
