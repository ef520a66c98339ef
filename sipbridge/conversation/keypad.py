"""Keys that a caller presses: from RTP or SIP INFO, one press counted once, quick ones together as one message.

Whoever waits for keys takes them over (`take`): each then goes to him at once, and nobody else hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

_TOGETHER_S = 1.0
"""Keys pressed in quicker succession than this reach the model as one message."""
_MOST = 64
"""Of a caller who never stops, the last so many."""
_SAME_PRESS_S = 0.5
"""Some phones tell of one press by telephone-event and by INFO."""

Taker: TypeAlias = Callable[[str], None]


class Keypad:
    """`send` is given the keys that belong together, once no more follow; None: nobody is."""

    def __init__(self, send: Callable[[str], None] | None) -> None:
        self._send = send
        self._taker: Taker | None = None
        self.on_press: Callable[[], None] = lambda: None
        """Told of every press, but not of which key."""
        self._keys = ""
        self._last: tuple[str, str, float] = ("", "", 0.0)
        self._timer: asyncio.TimerHandle | None = None

    def take(self, taker: Taker) -> None:
        """Every key from now on goes to him, first those that nobody has been told of yet."""
        self._taker = taker
        self._wait_no_longer()
        keys, self._keys = self._keys, ""
        for key in keys:
            taker(key)

    def give_back(self, taker: Taker) -> None:
        """He has no use for keys any more. Nothing, where somebody else has taken them since."""
        if self._taker == taker:
            self._taker = None

    def press(self, digit: str, way: str, now: float) -> bool:
        """Whether it counts as a word of the caller's. False: it was told before, another way, or somebody has taken
        it."""
        last, last_way, at = self._last
        if digit == last and way != last_way and now - at < _SAME_PRESS_S:
            return False
        self._last = (digit, way, now)
        self.on_press()
        if self._taker is not None:
            self._taker(digit)
            return False
        if self._send is None:
            return True
        self._keys = (self._keys + digit)[-_MOST:]
        self._wait_no_longer()
        self._timer = asyncio.get_running_loop().call_later(_TOGETHER_S, self._flush)
        return True

    def close(self) -> None:
        """Send nothing more, and let go of whom it would be sent to."""
        self._wait_no_longer()
        self._send = self._taker = None
        self.on_press = lambda: None
        self._keys = ""

    def _wait_no_longer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        keys, self._keys = self._keys, ""
        if self._send is not None:
            self._send(keys)
