"""What a recording says of itself: a line of JSON in the comment that WAV and FLAC have room for.

By it a recording is found again that no history knows (any more), whatever has become of the file's name: who called,
whom, when, for which tenant. Where recordings are sealed it is sealed with them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_MARK = '{"sipbridge":1,'
_MOST_TEXT = 200
"""Of what strangers say of themselves."""
HEAD_BYTES = 8192
"""At the beginning of a plain file: enough for it."""


@dataclass(frozen=True, slots=True)
class About:
    call_id: str
    tenant: str
    record: str = ""
    """As the history knows it."""
    caller: str = ""
    to: str = ""
    began: float = 0
    """Unix time."""
    retention_days: int | None = None
    """What the tenant wanted when it was recorded."""

    def to_text(self) -> str:
        known = {name: value[:_MOST_TEXT] if isinstance(value, str) else value for name, value in asdict(self).items()}
        return _MARK + json.dumps(known, separators=(",", ":"))[1:]

    @classmethod
    def find(cls, head: bytes) -> About | None:
        """In the beginning of a file, plain. It may be anybody's."""
        at = head.find(_MARK.encode())
        if at < 0:
            return None
        try:
            known, _ = json.JSONDecoder().raw_decode(head[at:].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
        texts = {name: str(known.get(name, "")) for name in ("call_id", "tenant", "record", "caller", "to")}
        began, days = known.get("began"), known.get("retention_days")
        return cls(
            **texts,
            began=began if isinstance(began, (int, float)) else 0,
            retention_days=days if isinstance(days, int) and days > 0 else None,
        )
