"""Keys that a caller presses: from RTP or SIP INFO, one press counted once, quick ones together as one message."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

_TOGETHER_S = 1.0
"""Keys pressed in quicker succession than this reach the model as one message."""
_MOST = 64
"""Of a caller who never stops, the last so many."""
_SAME_PRESS_S = 0.5
"""Some phones tell of one press by telephone-event and by INFO."""

_relay = re.compile(rb"^\s*signal\s*=\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_NAMES = {"10": "*", "11": "#", "STAR": "*", "POUND": "#", "HASH": "#"}


def key_of_info(content_type: str, body: bytes) -> str | None:
    """The key that an INFO tells of (`application/dtmf-relay`, `application/dtmf`), or None."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/dtmf-relay":
        match = _relay.search(body[:256])
        text = match[1] if match else b""
    elif kind == "application/dtmf":
        text = body[:16].strip()
    else:
        return None
    key = text.decode("ascii", "replace").upper()
    key = _NAMES.get(key, key)
    return key if len(key) == 1 and key in "0123456789*#ABCD" else None


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
        self.close()
        self._timer = asyncio.get_running_loop().call_later(_TOGETHER_S, self._flush)
        return True

    def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        keys, self._keys = self._keys, ""
        self._send(keys)
