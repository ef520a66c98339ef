"""What all calls of a tenant may be together: how many at a time, how many begin in a second, minutes and money in a
day.

Pure: `now` is a monotonic clock's, `wall` the time of day. Of a call there is a `Seat`, from its admission to its end.
Seconds count from the answer. A day is the tenant's (`limits.timezone`), and a call that lasts over midnight is counted
in both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from sipbridge.tenant_file.limits import CallLimits

_MOST_REMEMBERED = 1000
"""Moments at which calls began, of a tenant that may have more in a second."""


@dataclass(eq=False, slots=True)
class Seat:
    """One call's."""

    tenant: str
    limits: CallLimits
    since: float | None = None
    """From when its seconds count that are not counted yet; None: it is not answered."""
    spent: float = 0.0
    """Of its money, what is counted."""
    vacant: bool = False
    """Whoever it was has gone: another may have it, though what the call has used is not known to the end."""


@dataclass(frozen=True, slots=True)
class Used:
    """By a tenant, in one day."""

    day: str = ""
    seconds: float = 0.0
    spend: float = 0.0


@dataclass(slots=True)
class _Tenant:
    seats: list[Seat] = field(default_factory=list)
    began: deque[float] = field(default_factory=deque)
    zone: tzinfo = UTC
    """As of the newest call: calls of before a change count in the same day."""
    day: str = ""
    seconds: float = 0.0
    spend: float = 0.0
    unsaved_seconds: float = 0.0
    unsaved_spend: float = 0.0


class TenantLimits:
    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._remembered: dict[str, dict[str, Used]] = {}
        """Of days before this process, by tenant and day."""

    # --- calls --------------------------------------------------------------------------------------------------------

    def admit(self, tenant: str, limits: CallLimits, now: float, wall: float) -> Seat | str:
        """A seat for a call that begins now; or which limit is in its way, in words."""
        self._tenants.setdefault(tenant, _Tenant()).zone = _zone(limits)
        its = self._counted(tenant, now, wall)
        if (why := _full(its, limits)) or (why := _too_quick(its, limits, now)) or (why := _used_up(its, limits)):
            return why
        seat = Seat(tenant, limits)
        its.seats.append(seat)
        its.began.append(now)
        while len(its.began) > _MOST_REMEMBERED:
            its.began.popleft()
        return seat

    def answered(self, seat: Seat, now: float) -> None:
        seat.since = now

    def spends(self, seat: Seat, total: float, now: float, wall: float) -> None:
        """It has cost so much by now."""
        its = self._counted(seat.tenant, now, wall)
        more, seat.spent = max(0.0, total - seat.spent), max(seat.spent, total)
        its.spend += more
        its.unsaved_spend += more

    def over(self, seat: Seat, now: float, wall: float) -> None:
        its = self._counted(seat.tenant, now, wall)
        if seat in its.seats:
            its.seats.remove(seat)
        if not its.seats and not _has_any(seat.limits):
            del self._tenants[seat.tenant]

    # --- what is used up ----------------------------------------------------------------------------------------------

    def exhausted(self, seat: Seat, now: float, wall: float) -> str | None:
        """What of a day its tenant has used up, in words: its calls are to end."""
        return _used_up(self._counted(seat.tenant, now, wall), seat.limits)

    def seconds_left(self, seat: Seat, now: float, wall: float) -> float | None:
        """Until the day's minutes are used up, if the calls that are up now go on; None: there is no such limit."""
        if seat.limits.minutes_per_day is None:
            return None
        its = self._counted(seat.tenant, now, wall)
        talking = sum(each.since is not None for each in its.seats)
        return max(0.0, seat.limits.minutes_per_day * 60 - its.seconds) / max(1, talking)

    def calls(self, tenant: str) -> int:
        its = self._tenants.get(tenant)
        return 0 if its is None else len(its.seats)

    # --- what is kept -------------------------------------------------------------------------------------------------

    def unsaved(self) -> Iterator[tuple[str, Used]]:
        """What tenants have used since this was asked last: to be added to what is kept."""
        for tenant, its in self._tenants.items():
            if its.unsaved_seconds or its.unsaved_spend:
                yield tenant, Used(its.day, its.unsaved_seconds, its.unsaved_spend)
                its.unsaved_seconds = its.unsaved_spend = 0.0

    def not_saved(self, tenant: str, used: Used) -> None:
        """That could not be kept."""
        its = self._tenants.get(tenant)
        if its is not None and its.day == used.day:
            its.unsaved_seconds += used.seconds
            its.unsaved_spend += used.spend

    def remember(self, tenant: str, days: Iterable[Used]) -> None:
        """What is kept from before; while nothing is known of the tenant yet."""
        self._remembered[tenant] = {used.day: used for used in days}

    def kept(self, tenant: str, used: Used) -> None:
        """So much is kept of a day, what others have added among it."""
        its = self._tenants.get(tenant)
        if its is not None and its.day == used.day:
            its.seconds = used.seconds + its.unsaved_seconds
            its.spend = used.spend + its.unsaved_spend

    def count(self, now: float, wall: float) -> None:
        """What is talked up to now counts as used."""
        for tenant, its in self._tenants.items():
            if its.seats:
                self._counted(tenant, now, wall)

    def _counted(self, tenant: str, now: float, wall: float) -> _Tenant:
        """With what its calls have talked up to now. No day comes back, whatever becomes of clock and zone: what was
        used in it would be forgotten."""
        its = self._tenants.setdefault(tenant, _Tenant())
        moment = datetime.fromtimestamp(wall, its.zone)
        day = f"{moment:%Y-%m-%d}"
        if day > its.day:
            if its.day:
                midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
                for seat in its.seats:
                    if seat.since is not None:
                        seat.since = max(seat.since, now - max(0.0, wall - midnight))
            before = self._remembered.get(tenant, {}).get(day, Used())
            its.day, its.seconds, its.spend = day, before.seconds, before.spend
            its.unsaved_seconds = its.unsaved_spend = 0.0
        for seat in its.seats:
            if seat.since is not None:
                talked, seat.since = max(0.0, now - seat.since), now
                its.seconds += talked
                its.unsaved_seconds += talked
        return its


def _has_any(limits: CallLimits) -> bool:
    of_all = (limits.concurrent_calls, limits.calls_per_second, limits.minutes_per_day, limits.spend_per_day)
    return any(limit is not None for limit in of_all)


def _zone(limits: CallLimits) -> tzinfo:
    return UTC if limits.timezone is None else ZoneInfo(limits.timezone)


def _full(its: _Tenant, limits: CallLimits) -> str | None:
    most, taken = limits.concurrent_calls, sum(not seat.vacant for seat in its.seats)
    return f"concurrent_calls: {most}" if most is not None and taken >= most else None


def _too_quick(its: _Tenant, limits: CallLimits, now: float) -> str | None:
    """In no window of a second more than so many; below one: none sooner after another than that."""
    rate = limits.calls_per_second
    if rate is None:
        return None
    if rate == 0:
        return "calls_per_second: 0"
    most = min(max(1, int(rate)), _MOST_REMEMBERED)
    if len(its.began) >= most and now - its.began[-most] < most / rate:
        return f"calls_per_second: {rate:g}"
    return None


def _used_up(its: _Tenant, limits: CallLimits) -> str | None:
    if limits.minutes_per_day is not None and its.seconds >= limits.minutes_per_day * 60:
        return f"minutes_per_day: {limits.minutes_per_day:g}"
    if limits.spend_per_day is not None and its.spend >= limits.spend_per_day:
        return f"spend_per_day: {limits.spend_per_day:g} USD"
    return None
