"""What all calls of a tenant may be together, in numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sipbridge.config import Config
from sipbridge.configfile import parse
from sipbridge.errors import ConfigError
from sipbridge.tenant_checks import faults
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenant_file.limits import CallLimits
from sipbridge.tenant_gate import Allowance, TenantGate
from sipbridge.tenant_limits import Seat, TenantLimits, Used
from sipbridge.tenant_usage import TenantUsage
from sipbridge.tenants import Tenant
from tests.virtual import pass_time, timed

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
DAY = "2026-11-20"


class Bench:
    """Two clocks that go alike."""

    def __init__(self, **limits: Any) -> None:
        self.limits = CallLimits(**limits)
        self.core = TenantLimits()
        self.now = 100.0

    @property
    def wall(self) -> float:
        return NOON + self.now - 100.0

    def call(self, tenant: str = "acme") -> Seat | str:
        return self.core.admit(tenant, self.limits, self.now, self.wall)

    def seat(self, *, answered: bool = True) -> Seat:
        seat = self.call()
        assert isinstance(seat, Seat)
        if answered:
            self.core.answered(seat, self.now)
        return seat

    def over(self, seat: Seat) -> None:
        self.core.over(seat, self.now, self.wall)

    def exhausted(self, seat: Seat) -> str | None:
        return self.core.exhausted(seat, self.now, self.wall)


def test_whoever_has_hung_up_is_in_nobodys_way() -> None:
    b = Bench(concurrent_calls=1)
    first = b.seat()
    first.vacant = True
    second = b.seat()
    assert b.call() == "concurrent_calls: 1"
    b.over(first)
    assert b.call() == "concurrent_calls: 1"
    b.over(second)
    b.seat()


def test_so_many_at_a_time() -> None:
    b = Bench(concurrent_calls=2)
    first = b.seat()
    b.seat(answered=False)
    assert b.call() == "concurrent_calls: 2"
    assert isinstance(b.call("other"), Seat)
    b.over(first)
    b.over(first)
    assert isinstance(b.call(), Seat)
    assert b.call() == "concurrent_calls: 2"


@pytest.mark.parametrize("name", ["concurrent_calls", "calls_per_second", "minutes_per_day", "spend_per_day"])
def test_none_at_all(name: str) -> None:
    assert str(Bench(**{name: 0}).call()).startswith(name)


def test_so_many_begin_in_any_second() -> None:
    b = Bench(calls_per_second=3)
    admitted = []
    for step in range(40):
        b.now = 100 + step / 10
        if isinstance(b.call(), Seat):
            admitted.append(step)
    assert all(later - earlier >= 10 for earlier, later in zip(admitted, admitted[3:], strict=False))
    assert len(admitted) == 12


def test_one_in_ten_seconds() -> None:
    b = Bench(calls_per_second=0.1)
    b.seat()
    b.now += 9.9
    assert b.call() == "calls_per_second: 0.1"
    b.now += 0.1
    assert isinstance(b.call(), Seat)


def test_minutes_count_from_the_answer_of_all_calls() -> None:
    b = Bench(minutes_per_day=1)
    first, second = b.seat(), b.seat(answered=False)
    b.now += 20
    b.core.answered(second, b.now)
    assert b.core.seconds_left(first, b.now, b.wall) == 20  # two of them use it up
    b.now += 19
    assert b.exhausted(first) is None
    b.now += 1
    assert b.exhausted(first) == b.exhausted(second) == "minutes_per_day: 1"
    b.over(first)
    b.over(second)
    assert b.call() == "minutes_per_day: 1"


def test_a_day_ends_at_its_midnight_and_calls_go_on_in_the_next() -> None:
    b = Bench(minutes_per_day=10, timezone="Asia/Tokyo")  # 21:00 there
    b.now += 3 * 3600 - 300
    seat = b.seat()
    b.now += 300
    assert b.core.seconds_left(seat, b.now, b.wall) == 600
    b.now += 60
    assert b.core.seconds_left(seat, b.now, b.wall) == 540


def test_midnight_that_nobody_looked_at() -> None:
    b = Bench(minutes_per_day=100)
    b.now += 12 * 3600 - 300
    seat = b.seat()
    b.now += 400
    assert b.core.seconds_left(seat, b.now, b.wall) == 6000 - 100


def test_money_of_all_calls() -> None:
    b = Bench(spend_per_day=1)
    first, second = b.seat(), b.seat()
    b.core.spends(first, 0.4, b.now, b.wall)
    b.core.spends(first, 0.5, b.now, b.wall)
    assert b.exhausted(second) is None
    b.core.spends(second, 0.5, b.now, b.wall)
    assert b.exhausted(first) == "spend_per_day: 1 USD"
    assert b.call() == "spend_per_day: 1 USD"
    b.now += 12 * 3600
    assert isinstance(b.call(), Seat)
    b.core.spends(second, 0.6, b.now, b.wall)
    ((name, used),) = b.core.unsaved()
    assert (name, used.day, round(used.spend, 6)) == ("acme", "2026-11-21", 0.1)


def test_what_was_used_before_counts_on_its_day() -> None:
    b = Bench(minutes_per_day=1)
    b.core.remember("acme", [Used("2026-11-19", 100, 0), Used(DAY, 59, 0)])
    seat = b.seat()
    b.now += 1
    assert b.exhausted(seat) is not None
    assert list(b.core.unsaved()) == [("acme", Used(DAY, 1, 0))]
    assert list(b.core.unsaved()) == []
    b.core.kept("acme", Used(DAY, 90, 0))  # another process has added to it
    assert b.core.seconds_left(seat, b.now, b.wall) == 0
    b.now += 12 * 3600
    assert b.exhausted(seat) is None


def test_nothing_stays_of_a_tenant_without_limits() -> None:
    b = Bench()
    b.over(b.seat())
    assert b.core._tenants == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "limits: {timezone: Europe/Berlim}",
            "limits.timezone: no time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'?",
        ),
        ("limits: {timezone: ../../etc/passwd}", "limits.timezone: no time zone"),
        ("limits: {concurrent_calls: -1}", "limits.concurrent_calls: "),
        ("limits: {concurrent_calls: yes}", "limits.concurrent_calls: a number is expected"),
        ("limits: {spoken: nowhere.wav}", "limits.spoken: nowhere.wav: No such file"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"agent: {{provider: offline}}\n{text}", TenantConfig, "t.yaml")
    assert f"t.yaml:2: {message}" in str(caught.value)


def tenant(**limits: Any) -> Tenant:
    config = TenantConfig.model_validate({"agent": {"provider": "offline"}, "limits": limits})
    return Tenant("acme", config)


class Kept(TenantUsage):
    """Without a file, and without a thread."""

    def __init__(self) -> None:
        pass

    async def add(self, more: Mapping[str, Used]) -> dict[str, Used] | None:
        return None

    def close(self) -> None:
        pass


@timed
async def test_each_call_is_told_in_time() -> None:
    loop = asyncio.get_running_loop()
    gate = TenantGate(Path("/dev/null/none"), loop.time, lambda: NOON + loop.time())
    gate._usage = Kept()
    told: list[tuple[str, float]] = []
    calls = []
    for name in ("first", "second"):
        call = gate.admit(tenant(minutes_per_day=2))
        assert isinstance(call, Allowance)
        call.on_low = lambda name=name: told.append((f"{name} low", loop.time()))  # type: ignore[misc]
        call.on_exhausted = lambda words, name=name: told.append((f"{name} {words}", loop.time()))  # type: ignore[misc]
        call.answered()
        calls.append(call)
    began = loop.time()
    await pass_time(61)
    when = {what: round(at - began, 1) for what, at in reversed(told)}
    assert set(when) == {"first low", "second low", "first minutes_per_day: 2", "second minutes_per_day: 2"}
    assert 30 <= when["first low"] <= 60
    assert 60 <= when["first minutes_per_day: 2"] <= 60.2
    for call in calls:
        call.over(None)
    assert gate.admit(tenant(minutes_per_day=2)) == "minutes_per_day: 2"
    await gate.close()


@timed
async def test_a_call_that_begins_while_the_last_one_is_written_is_written_too() -> None:
    loop = asyncio.get_running_loop()
    gate = TenantGate(Path("/dev/null/none"), loop.time, lambda: NOON + loop.time())
    written: list[float] = []
    calls: list[Allowance] = []

    def begin() -> None:
        call = gate.admit(tenant(minutes_per_day=60))
        assert isinstance(call, Allowance)
        call.answered()
        calls.append(call)

    class Slow(Kept):
        async def add(self, more: Mapping[str, Used]) -> dict[str, Used] | None:
            written.append(more["acme"].seconds)
            if len(written) == 1:
                await asyncio.sleep(1)
                calls[0].over(None)
            elif len(written) == 2:
                begin()
            return {}

    gate._usage = Slow()
    begin()
    await pass_time(30)
    assert [round(seconds) for seconds in written[:4]] == [5, 1, 5, 5]
    calls[1].over(None)
    await gate.close()


async def _used(path: Path, wall: float, limits: dict[str, float]) -> Allowance | str:
    gate = TenantGate(path, lambda: 0.0, lambda: wall)
    await gate.open()
    try:
        return gate.admit(tenant(**limits))
    finally:
        await gate.close()


def test_what_a_day_has_used_survives_a_restart(tmp_path: Path) -> None:
    async def use(spends: float) -> None:
        gate = TenantGate(tmp_path / "u.db", lambda: 0.0, lambda: NOON)
        await gate.open()
        call = gate.admit(tenant(spend_per_day=1))
        assert isinstance(call, Allowance)
        call.spends(spends)
        call.over(None)
        await gate.close()

    async def main() -> None:
        await use(0.4)
        await use(0.7)
        assert await _used(tmp_path / "u.db", NOON, {"spend_per_day": 1}) == "spend_per_day: 1 USD"
        assert isinstance(await _used(tmp_path / "u.db", NOON, {"spend_per_day": 1.2}), Allowance)
        assert isinstance(await _used(tmp_path / "u.db", NOON + 12 * 3600, {"spend_per_day": 1}), Allowance)

    asyncio.run(main())


def test_no_day_comes_back_when_the_zone_changes_or_the_clock_goes_back() -> None:
    """Noon in UTC is the 20th, and in Auckland the 21st already."""
    b = Bench(minutes_per_day=1)
    old = b.seat()
    b.now += 50
    b.limits = CallLimits(minutes_per_day=1, timezone="Pacific/Auckland")
    new = b.seat()
    b.now += 40
    assert b.exhausted(old) == b.exhausted(new) == "minutes_per_day: 1"  # both talk, since the day began
    b.limits = CallLimits(minutes_per_day=1)
    assert b.call() == "minutes_per_day: 1"
    assert b.core.admit("acme", b.limits, b.now, b.wall - 86_400) == "minutes_per_day: 1"


@pytest.mark.parametrize("when", ["at the start", "meanwhile"])
def test_a_damaged_file_is_set_aside_and_what_is_used_is_kept_again(tmp_path: Path, when: str) -> None:
    path = tmp_path / "u.db"
    damage = b"this is no database, but it is long enough to be taken for one" * 100

    async def main() -> None:
        if when == "at the start":
            path.write_bytes(damage)
        gate = TenantGate(path, lambda: 0.0, lambda: NOON)
        await gate.open()
        if when == "meanwhile":
            path.write_bytes(damage)
        call = gate.admit(tenant(spend_per_day=1))
        assert isinstance(call, Allowance)
        call.spends(1.1)
        await gate._write()
        call.over(None)
        await gate.close()
        assert await _used(path, NOON, {"spend_per_day": 1}) == "spend_per_day: 1 USD"

    asyncio.run(main())
    assert len(list(tmp_path.glob("u.db.damaged-??????"))) == 1


def test_a_day_s_money_needs_prices() -> None:
    config = TenantConfig.model_validate({"agent": {"provider": "openai"}, "limits": {"spend_per_day": 1}})
    assert [place for place, _ in faults(config, Config())] == [("limits", "spend_per_day")]
