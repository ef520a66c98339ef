"""Keys that a caller presses: from RTP or SIP INFO, one press counted once, quick ones together as one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TOGETHER_S = 1.0
"""Keys pressed in quicker succession than this reach the model as one message."""
_MOST = 64
"""Of a caller who never stops, the last so many."""
_SAME_PRESS_S = 0.5
"""Some phones tell of one press by telephone-event and by INFO."""


class Keypad:
    """`send` is given the keys that belong together, once no more follow."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._keys = ""
        self._last: tuple[str, str, float] = ("", "", 0.0)
        self._timer: asyncio.TimerHandle | None = None

    def press(self, digit: str, way: str, now: float) -> bool:
        """False: it was told before, another way."""
        last, last_way, at = self._last
        if digit == last and way != last_way and now - at < _SAME_PRESS_S:
            return False
        self._last = (digit, way, now)
        self._keys = (self._keys + digit)[-_MOST:]
        self._wait_no_longer()
        self._timer = asyncio.get_running_loop().call_later(_TOGETHER_S, self._flush)
        return True

    def close(self) -> None:
        """Send nothing more, and let go of whom it would be sent to."""
        self._wait_no_longer()
        self._send = _unheard

    def _wait_no_longer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        keys, self._keys = self._keys, ""
        self._send(keys)


def _unheard(keys: str) -> None: ...
