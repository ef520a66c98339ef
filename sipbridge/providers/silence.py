"""For vendors that do not say when a reply is over, and that answer at once whatever the user writes: a reply ends
after some silence, and texts are held until an answer is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sipbridge.agent import AgentOptions
from sipbridge.providers.base import BaseDialect, earliest
from sipbridge.providers.phrases import GO_ON


class HeldTexts:
    """What the user has written, while `send_text` asks for no answer: it is held until one is asked for, or its time
    is over."""

    WAIT = 1.0

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When they have to go, whether an answer is wanted or not."""
        return self._due if self._texts else None

    def add(self, text: str, now: float) -> None:
        if not self._texts:
            self._due = now + self.WAIT
        self._texts.append(text)

    def take(self) -> str:
        """All of them; "" where there are none."""
        texts, self._texts = self._texts, []
        return "\n".join(texts)


class SilenceDialect(BaseDialect):
    """Set `_over_at` with whatever comes of a reply; implement `_tell_unasked`, and send `_to_answer()` where an answer
    is asked for."""

    def __init__(self, credential: Mapping[str, Any], options: AgentOptions) -> None:
        super().__init__(credential, options)
        self._over_at: float | None = None
        """When the reply under way is taken to be over."""
        self._texts_held = HeldTexts()

    def _over(self) -> None:
        """Nothing more of the reply under way comes, if there is one."""
        self._over_at = None
        self._reply_ended()

    def _tell_unasked(self, text: str) -> None:
        """Send a text that nobody has asked an answer to in time."""
        raise NotImplementedError

    def _to_answer(self) -> str:
        return self._texts_held.take() or GO_ON

    def get_timer(self) -> float | None:
        return earliest(self._over_at, self._texts_held.due) if self._state == "open" else None

    def handle_timer(self, now: float) -> None:
        if self._over_at is not None and now >= self._over_at:
            self._over()
        if self._texts_held.due is not None and now >= self._texts_held.due:
            self._tell_unasked(self._texts_held.take())

    def send_text(self, text: str, now: float) -> None:
        self._texts_held.add(text, now)
