"""What a recording says of itself: a line of JSON in the comment that WAV and FLAC have room for.

By it a recording is found again that no history knows (any more), whatever has become of the file's name: who called,
whom, when, for which tenant. Where recordings are sealed it is sealed with them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from hashlib import blake2s
from pathlib import Path

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
    outbound: bool = False
    """We have called."""
    began: float = 0
    """Unix time."""
    retention_days: int | None = None
    """What the tenant wanted when it was recorded."""

    @property
    def person(self) -> str:
        """Whose call it was: who called us, or whom we called."""
        return self.to if self.outbound else self.caller

    @property
    def file_name(self) -> str:
        """Without its suffix. A Call-ID is a stranger's text: what of it is plain, and a hash of the whole."""
        return f"{_plain(self.call_id)[:60]}.{_digest(self.call_id)}"

    @property
    def folder(self) -> str:
        return folder_name(self.tenant)

    def belongs_at(self, path: Path) -> bool:
        """Whether a file of this call may lie there; of one with a Call-ID beyond measure nobody knows."""
        if len(self.call_id) >= _MOST_TEXT:
            return path.parent.name == self.folder
        return path.parent.name == self.folder and path.name.startswith(f"{self.file_name}.")

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
            outbound=known.get("outbound") is True,
            began=began if isinstance(began, (int, float)) else 0,
            retention_days=days if isinstance(days, int) and days > 0 else None,
        )


def folder_name(tenant: str) -> str:
    """Where a tenant's recordings lie: his id, told apart from others that look alike where it is more than letters and
    digits."""
    plain = _plain(tenant)
    return plain if plain == tenant else f"{plain}.{_digest(tenant)}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def _digest(text: str) -> str:
    return blake2s(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
