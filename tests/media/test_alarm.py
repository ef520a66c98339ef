from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

import pytest

from sipbridge.media.alarm import Alarm, LoopTimer, TimerDescriptor, open_alarm

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
KINDS = [
    pytest.param(TimerDescriptor, id="timerfd", marks=LINUX),
    pytest.param(lambda: LoopTimer(time.monotonic), id="loop"),
]


@pytest.mark.parametrize("new_alarm", KINDS)
def test_it_wakes_at_its_moments_and_never_before(new_alarm: Callable[[], Alarm]) -> None:
    async def lateness() -> list[float]:
        alarm = new_alarm()
        late = []
        moment = time.monotonic()
        for _ in range(10):
            moment += 0.005
            await alarm.wait_until(moment)
            late.append(time.monotonic() - moment)
        alarm.close()
        return late

    late = asyncio.run(lateness())
    assert min(late) > -0.001  # a loop's clock has a resolution
    assert sorted(late)[5] < 0.02


@pytest.mark.parametrize("new_alarm", KINDS)
def test_a_moment_that_has_passed_lets_others_work_first(new_alarm: Callable[[], Alarm]) -> None:
    async def order() -> list[str]:
        alarm = new_alarm()
        done: list[str] = []
        asyncio.get_running_loop().call_soon(done.append, "other")
        await alarm.wait_until(0.0)
        done.append("woken")
        alarm.close()
        return done

    assert asyncio.run(order()) == ["other", "woken"]


@LINUX
def test_a_wait_that_was_cancelled_leaves_nothing_behind() -> None:
    async def descriptors() -> tuple[int, int]:
        before = len(os.listdir("/proc/self/fd"))
        alarm = TimerDescriptor()
        waiting = asyncio.create_task(alarm.wait_until(time.monotonic() + 0.005))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await alarm.wait_until(time.monotonic() + 0.01)  # the old one rings into nothing
        alarm.close()
        return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(descriptors())
    assert after == before


def test_a_clock_of_ones_own_is_kept_by_the_loop() -> None:
    async def kind() -> Alarm:
        return open_alarm(lambda: 1.0)

    assert isinstance(asyncio.run(kind()), LoopTimer)
