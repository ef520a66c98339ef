"""The conversation so far, as a session that goes on where another one ended is told it. Pure.

It is made of what the model's side said (`observe`) and of what we told it (`told`, `cut`, `answered`): the caller's
words, the agent's as far as they were heard, the tools that were used, and the instructions in force.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sipbridge.agent import (
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnStarted,
    HistoryItem,
    Said,
    ToolCall,
    ToolCallCancelled,
    ToolUsed,
    UserSpeechEnded,
    UserTranscript,
)
from sipbridge.audio import Played
from sipbridge.providers.phrases import CANCELLED_OUTPUT

MOST_ITEMS = 400
MOST_CHARACTERS = 60_000
"""Of a whole history: about 15,000 tokens. The oldest goes first."""
_LONGEST = 20_000
"""Characters of one item that are kept."""


@dataclass(slots=True)
class _Heard:
    """A turn of the caller's. Its words often come after the answer to it has begun."""

    text: str | None = None


@dataclass(slots=True)
class _Spoken:
    """A reply. Words and sound come apart; how much of it was heard is known in milliseconds."""

    reply_id: str
    items: list[str] = field(default_factory=list)
    delta: str = ""
    audio_ms: float = 0.0
    heard_ms: float | None = None
    """None: nobody cut it."""

    @property
    def whole(self) -> str:
        return " ".join(text for text in (*self.items, self.delta.strip()) if text)

    def words(self) -> str:
        """What the caller heard: of a reply that was cut, words in proportion to its sound."""
        text = self.whole
        if self.heard_ms is None or self.heard_ms >= self.audio_ms > 0:
            return text
        share = self.heard_ms / self.audio_ms if self.audio_ms else 0.0
        end = round(len(text) * share)
        if " " not in text:  # a script that needs none
            return text[:end]
        return text[: end + 1].rpartition(" ")[0].rstrip()


_STRANGE = re.compile(r"[^A-Za-z0-9_-]")
"""A model may ask for a tool by any name; no vendor takes it back as it is."""

_Item: TypeAlias = Said | ToolUsed | _Heard | _Spoken


class Memory:
    def __init__(self, options: AgentOptions) -> None:
        self.instructions = options.instructions
        self.version = 0
        """Changes whenever something is said or done: a history that was taken before lacks it."""
        self._format = options.output_format
        self._items: deque[_Item] = deque(options.history, maxlen=MOST_ITEMS)

    # --- what happens -------------------------------------------------------------------------------------------------

    def observe(self, event: AgentEvent) -> None:
        match event:
            case AssistantAudio(reply_id, _, pcm):
                if (spoken := self._spoken(reply_id)) is not None and spoken.heard_ms is None:
                    spoken.audio_ms += self._format.duration_ms(pcm)
            case AssistantText(reply_id, text, final):
                if (spoken := self._spoken(reply_id)) is not None:
                    self._said(spoken, text, final)
            case AssistantTurnStarted(reply_id):
                self._add(_Spoken(reply_id))
            case UserSpeechEnded():
                self._add(_Heard())
            case UserTranscript(text, True):
                self._transcribed(text)
            case ToolCall(call_id, name, arguments):
                self._add(ToolUsed(call_id, _STRANGE.sub("_", name)[:64] or "unknown", arguments[:_LONGEST]))
            case ToolCallCancelled(call_id):
                self.answered(call_id, CANCELLED_OUTPUT)
            case _:
                pass

    def told(self, text: str) -> None:
        """The model was told this in the caller's place."""
        self._add(Said("user", text[:_LONGEST]))

    def cut(self, played: Sequence[Played], open_replies: Sequence[str]) -> None:
        """The caller has interrupted. Of the replies that are still being generated he has heard nothing but what
        `played` names."""
        heard: dict[str, float] = dict.fromkeys(open_replies, 0.0)
        for part in played:
            heard[part.reply_id] = heard.get(part.reply_id, 0.0) + part.played_ms
        for reply_id, heard_ms in heard.items():
            spoken = self._spoken(reply_id)
            if spoken is not None and (spoken.heard_ms is None or heard_ms < spoken.heard_ms):
                spoken.heard_ms = heard_ms
                self.version += 1

    def answered(self, call_id: str, output: str) -> ToolUsed | None:
        """A tool has a result. None where no such call waits for one."""
        for place, item in enumerate(self._items):
            if isinstance(item, ToolUsed) and item.call_id == call_id and item.output is None:
                self._items[place] = replace(item, output=output[:_LONGEST])
                self.version += 1
                return replace(item, output=output)
        return None

    # --- what is told of it -------------------------------------------------------------------------------------------

    def history(self) -> tuple[HistoryItem, ...]:
        """Oldest first, and no more of it than `MOST_CHARACTERS`."""
        kept: list[HistoryItem] = []
        room = MOST_CHARACTERS
        for item in reversed(self._items):
            told = _as_history(item)
            if told is None:
                continue
            room -= len(told.text) if isinstance(told, Said) else len(told.arguments) + len(told.output or "")
            if room < 0:
                break
            kept.append(told)
        return tuple(reversed(kept))

    def results_lacking_in(self, history: Sequence[HistoryItem]) -> list[ToolUsed]:
        """Calls whose result has come since this history was taken."""
        waiting = {item.call_id for item in history if isinstance(item, ToolUsed) and item.output is None}
        calls = (item for item in self._items if isinstance(item, ToolUsed) and item.call_id in waiting)
        return [item for item in calls if item.output is not None]

    def used(self, call_id: str) -> ToolUsed | None:
        """The latest call of that id."""
        for item in reversed(self._items):
            if isinstance(item, ToolUsed) and item.call_id == call_id:
                return item
        return None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self.version += 1

    def _spoken(self, reply_id: str) -> _Spoken | None:
        for item in reversed(self._items):
            if isinstance(item, _Spoken) and item.reply_id == reply_id:
                return item
        return None

    def _said(self, spoken: _Spoken, text: str, final: bool) -> None:
        if spoken.heard_ms is not None and spoken.whole:
            return  # what comes after the cut is of words that nobody heard
        if len(spoken.whole) > _LONGEST:
            return
        if final:
            spoken.items.append(text.strip()[:_LONGEST])
            spoken.delta = ""
        else:
            spoken.delta += text
        self.version += 1

    def _transcribed(self, text: str) -> None:
        """It belongs to the latest turn whose words have not come."""
        turn = next((item for item in reversed(self._items) if isinstance(item, _Heard) and item.text is None), None)
        if turn is None:
            turn = _Heard()
            self._items.append(turn)
        turn.text = text.strip()[:_LONGEST]
        self.version += 1


def _as_history(item: _Item) -> HistoryItem | None:
    """None: nothing that could be told."""
    if isinstance(item, _Heard):
        return Said("user", item.text) if item.text else None
    if isinstance(item, _Spoken):
        words = item.words()
        return Said("assistant", words) if words else None
    return item
