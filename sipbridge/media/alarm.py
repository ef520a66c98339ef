"""Wakes one task at a given moment, as precisely as the system can.

Event loops round their timers to whole milliseconds, and two such errors between two packets of a call are heard by its
jitter buffer. Linux has a timer that is a file descriptor (timerfd): the loop sees it become readable within some tens
of microseconds. Elsewhere the loop's own timer has to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from math import modf
from typing import Protocol

_CLOCK_MONOTONIC = 1  # what time.monotonic reads
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_ABSOLUTE = 1


class Alarm(Protocol):
    async def wait_until(self, moment: float) -> None:
        """One task at a time. A moment that has passed still lets the loop do its other work first."""

    def close(self) -> None: ...


def open_alarm(clock: Callable[[], float] = time.monotonic) -> Alarm:
    """For the running loop; moments are those of `clock`."""
    if clock is time.monotonic and sys.platform == "linux" and ctypes.sizeof(ctypes.c_long) == 8:
        try:
            return TimerDescriptor()
        except (OSError, AttributeError):
            pass  # a sandbox or a C library without it
    return LoopTimer(clock)


class LoopTimer:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    async def wait_until(self, moment: float) -> None:
        woken = self._loop.create_future()
        timer = self._loop.call_later(max(0.0, moment - self._clock()), _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()

    def close(self) -> None:
        """There is nothing to give back."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerDescriptor:
    """Raises OSError where the system has none to give, AttributeError where its C library knows none."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._set_time = libc.timerfd_settime  # os has it, but only from Python 3.13 on
        self._set_time.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Itimerspec), ctypes.c_void_p)
        self._descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._setting = _Itimerspec()
        self._pointer = ctypes.byref(self._setting)
        self._woken: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._ring)

    async def wait_until(self, moment: float) -> None:
        fraction, seconds = modf(moment)
        value = self._setting.value
        value.seconds = int(seconds)
        value.nanoseconds = int(fraction * 1e9) or 1  # all zero would disarm it
        self._set_time(self._descriptor, _ABSOLUTE, self._pointer, None)
        self._woken = self._loop.create_future()
        await self._woken

    def _ring(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set anew since
        if self._woken is not None:
            _wake(self._woken)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
