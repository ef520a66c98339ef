"""How many tools may run: in one call, and in a minute of all calls of a tenant. Pure, in the time of `now`."""

from __future__ import annotations

from collections import deque

_MINUTE_S = 60.0


class MinuteQuota:
    """So many runs in any 60 seconds; those that are refused don't count."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._runs: deque[float] = deque()

    def take(self, now: float) -> bool:
        while self._runs and now - self._runs[0] >= _MINUTE_S:
            self._runs.popleft()
        if len(self._runs) >= self.most:
            return False
        self._runs.append(now)
        return True


class Quota:
    """Of one call. `minute` is shared by all calls of its tenant."""

    def __init__(self, per_call: int, minute: MinuteQuota) -> None:
        self._per_call = per_call
        self._left = per_call
        self._minute = minute

    def refusal(self, now: float) -> str | None:
        """Why nothing more may run now, or None; then one run has been taken."""
        if self._left <= 0:
            return f"no more tools may be used in this call: {self._per_call} were"
        if not self._minute.take(now):
            return f"too many tools at the moment ({self._minute.most} in a minute); try again later"
        self._left -= 1
        return None
