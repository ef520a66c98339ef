"""Moments as people write and read them: `2h`, `yesterday`, `2026-11-20 14:00`; in the machine's zone. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, tzinfo

_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
_DAYS = {"today": 0, "yesterday": 1}
FORMS = "2h, 30m, 7d, today, yesterday, 14:30, 2026-11-20 or 2026-11-20T14:30:00+01:00"


def parse_moment(text: str, now: datetime, zone: tzinfo | None = None, *, end: bool = False) -> float:
    """Unix time of what somebody wrote; `zone` is the one that he lives in, None: the machine's.

    A day is its beginning, with `end` the beginning of the next one: `--until yesterday` is with all of yesterday.
    Raises `ValueError`, whose text says what can be written.
    """
    word = text.strip().lower()
    if word == "now":
        return now.timestamp()
    if ago := _AGO.fullmatch(word):
        try:
            return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
        except OverflowError as error:
            raise ValueError(f"{text!r} is too long ago") from error
    today = now.astimezone(zone).date()
    try:
        if word in _DAYS:
            return _day(today - timedelta(days=_DAYS[word]), zone, end)
        if _CLOCK.fullmatch(word):
            return _local(datetime.combine(today, time.fromisoformat(word.zfill(5))), zone)
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", word):
            return _day(date.fromisoformat(word), zone, end)
        return _local(datetime.fromisoformat(text.strip()), zone)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no moment: {FORMS}") from error


def _day(day: date, zone: tzinfo | None, end: bool) -> float:
    return _local(datetime.combine(day + timedelta(days=end), time()), zone)


def _local(moment: datetime, zone: tzinfo | None) -> float:
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    return moment.timestamp()  # without a zone: the machine's


def told(at: float | None, zone: tzinfo | None = None, *, precise: bool = False) -> str:
    """Unix time as date and time; `precise`: ISO 8601 with milliseconds and the zone's offset. "" where there is none,
    or what is no time that anybody can have meant."""
    if at is None:
        return ""
    try:
        moment = datetime.fromtimestamp(at, zone).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return ""
    return moment.isoformat(timespec="milliseconds") if precise else f"{moment:%F %T}"


def lasted(seconds: float | None) -> str:
    """`4.2 s`, `3:07 min`, `1:02:09 h`; "" where nobody knows."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02} h"
