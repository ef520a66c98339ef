"""Who said what, when, and how long the caller waited for it: what models and legs tell, as turns. Pure.

A turn of the caller's is told when its words have come, one of the agent's when it was heard to its end or cut. Numbers
are given when somebody begins, so they stand in the order of the conversation, whenever the words come. Times come in
by the call's clock and go out in seconds since `began`.

What a caller waits for is told in three parts (`Latency`): from his last sound until his turn is taken for over, until
the first sound of the answer is there, until its first packet leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from sipbridge.audio import Played
from sipbridge.history.facts import Turn
from sipbridge.outcome import Latency

_MOST_OPEN = 16
"""Of the caller's turns whose words have not come; of replies likewise."""
_MOST_TEXT = 100_000
"""Characters of one turn."""


@dataclass(slots=True)
class _Speech:
    number: int
    began: float
    ended: float | None = None
    item_id: str = ""
    interim: str = ""


@dataclass(slots=True)
class _Reply:
    agent: str
    number: int = 0
    """0: nothing of it was heard or written yet."""
    began: float = 0.0
    ended: float = 0.0
    texts: list[str] = field(default_factory=list)
    """Of items that are complete."""
    delta: str = ""
    """Of the one that is not."""
    size: int = 0
    generating: bool = True
    interrupted: bool = False
    pushed_ms: dict[str, float] = field(default_factory=dict)
    heard_ms: dict[str, int] = field(default_factory=dict)
    """By item; of one that is in the former and not in this, nobody knows yet."""
    answers: _Over | None = None
    first_item: str = ""
    first_audio: float = 0.0


@dataclass(frozen=True, slots=True)
class _Over:
    """The caller's turn is."""

    at: float
    last_sound: float | None


def last_sound(
    now: float, *, ear: float | None = None, lag: float | None = None, silence: float | None = None
) -> float | None:
    """When the caller was heard last, where a model says now that his turn is over; None: nobody knows.

    `ear`: when our own ear heard him last. `lag`: how far behind the audio that it has been given the place is at which
    the vendor says that he stopped. `silence`: how long it waits before it says so. That place is either the last
    sound, and then at least the silence lies behind it, or the silence's end (OpenAI: "this will correspond to the end
    of audio sent to the model, and thus includes the min_silence_duration_ms").
    """
    if ear is not None:
        return min(ear, now)
    if lag is not None and 0 <= lag < 10:
        return now - lag if silence is None or lag >= 0.8 * silence else now - lag - silence
    return None if silence is None else now - silence


class Spoken:
    """Of one call. `note` is given each turn when it is complete, `answered` what the caller waited for one of the
    agent's; `started_at` says when the first packet of an item left, as far as that is known."""

    def __init__(
        self,
        began: float,
        note: Callable[[Turn], None],
        answered: Callable[[int, Latency], None],
        started_at: Callable[[str], float | None],
    ) -> None:
        self._began = began
        self._note = note
        self._answered = answered
        self._started_at = started_at
        self._numbers = count(1)
        self._speeches: list[_Speech] = []
        """Of which words are still to come."""
        self._replies: dict[str, _Reply] = {}
        self._over: _Over | None = None
        """What the caller waits for an answer to."""

    # --- the caller -------------------------------------------------------------------------------------------------

    def caller_began(self, now: float, item_id: str = "") -> None:
        self._over = None
        self._speeches.append(_Speech(next(self._numbers), now, item_id=item_id))
        del self._speeches[:-_MOST_OPEN]

    def caller_ended(self, now: float, last_sound: float | None) -> None:
        """His turn is over, as the model or our own ear has it."""
        self._over = _Over(now, last_sound)
        if self._speeches and self._speeches[-1].ended is None:
            self._speeches[-1].ended = now if last_sound is None else last_sound

    def asked(self, now: float) -> None:
        """The model is asked for its answer only now: until then his turn might have gone on."""
        if self._over is not None:
            self._over = _Over(now, self._over.last_sound)

    def no_turn(self) -> None:
        """What he said was none."""
        self._over = None

    def caller_said(self, text: str, now: float, *, final: bool, item_id: str = "", interim: bool = False) -> None:
        """`interim`: what is not final is told as well."""
        if not (final or interim):
            return
        if not text.strip():
            if final and item_id:  # it was no speech
                self._speeches = [speech for speech in self._speeches if speech.item_id != item_id]
            return
        speech = self._speech_of(item_id, now)
        if final:
            self._speeches.remove(speech)
        else:
            # Vendors differ: it is all of it so far, or what is new.
            whole = text if text.startswith(speech.interim) else speech.interim + text
            text = speech.interim = whole[:_MOST_TEXT]
        ended = now if speech.ended is None else speech.ended
        began, ended = self._since(speech.began), self._since(max(speech.began, ended))
        self._note(Turn(speech.number, "caller", text.strip()[:_MOST_TEXT], began, ended, final))

    def _speech_of(self, item_id: str, now: float) -> _Speech:
        """By its name; else, of those that have none, the latest that is over, or the one that goes on. A model that
        tells nothing of speech begins one with its first words."""
        for speech in self._speeches:
            if item_id and speech.item_id == item_id:
                return speech
        nameless = [speech for speech in self._speeches if not (item_id and speech.item_id)]
        over = [speech for speech in nameless if speech.ended is not None]
        if not nameless:
            nameless = [_Speech(next(self._numbers), now)]
            self._speeches = [*self._speeches, *nameless][-_MOST_OPEN:]
        found = (over or nameless)[-1]
        found.item_id = found.item_id or item_id
        return found

    # --- the agent --------------------------------------------------------------------------------------------------

    def reply_began(self, reply_id: str, agent: str) -> None:
        if reply_id not in self._replies:
            self._replies[reply_id] = _Reply(agent)
            while len(self._replies) > _MOST_OPEN:
                self._finish(next(iter(self._replies)))

    def plays(self, reply_id: str, item_id: str, ms: float, now: float, agent: str = "") -> None:
        """More of an item waits to be heard."""
        self.reply_began(reply_id, agent)
        reply = self._replies[reply_id]
        if not reply.first_item:
            reply.first_item, reply.first_audio = item_id, now
            reply.answers, self._over = self._over, None
            self._appears(reply, now)
        reply.pushed_ms[item_id] = reply.pushed_ms.get(item_id, 0.0) + ms

    def agent_said(self, reply_id: str, text: str, now: float, *, final: bool, agent: str = "") -> None:
        self.reply_began(reply_id, agent)
        reply = self._replies[reply_id]
        if text.strip():
            self._appears(reply, now)
        if final:
            reply.texts.append(text.strip()[: max(0, _MOST_TEXT - reply.size)])
            reply.size += len(text)
            reply.delta = ""
        elif len(reply.delta) < _MOST_TEXT:
            reply.delta += text

    def _appears(self, reply: _Reply, now: float) -> None:
        if not reply.number:
            reply.number, reply.began, reply.ended = next(self._numbers), now, now

    def reply_ended(self, reply_id: str) -> None:
        """All of it has come."""
        if (reply := self._replies.get(reply_id)) is not None:
            reply.generating = False
            self._finish_if_heard(reply_id)

    def nothing_more(self) -> None:
        """Whoever spoke says no more: what has come of it is still heard."""
        for reply_id in tuple(self._replies):
            self.reply_ended(reply_id)

    def heard_out(self, item_id: str, now: float) -> None:
        """The last packet of an item has left."""
        for reply_id, reply in self._replies.items():
            if item_id in reply.pushed_ms:
                reply.heard_ms[item_id] = round(reply.pushed_ms[item_id])
                self._heard_until(reply, now)
                self._finish_if_heard(reply_id)
                return

    def discarded(self, played: Sequence[Played], now: float) -> None:
        """Nothing more will be heard of what has been said so far: so much was."""
        for item in played:
            if (reply := self._replies.get(item.reply_id)) is not None:
                reply.heard_ms[item.item_id] = item.played_ms
        for reply_id, reply in tuple(self._replies.items()):
            cut = reply.generating or self._unheard(reply) or any(item.reply_id == reply_id for item in played)
            if not cut:
                continue
            for item_id in self._unheard(reply):
                reply.heard_ms[item_id] = 0
            reply.interrupted = True
            self._heard_until(reply, now)
            self._finish_if_heard(reply_id)

    def close(self, played: Sequence[Played], now: float) -> None:
        """The call is over; what was being said then was heard so far."""
        self.discarded(played, now)
        for reply_id in tuple(self._replies):
            self._finish(reply_id)

    # --- a turn of the agent's is complete --------------------------------------------------------------------------

    def _heard_until(self, reply: _Reply, now: float) -> None:
        reply.ended = now
        if reply.first_item and (left := self._started_at(reply.first_item)) is not None:
            reply.began = left

    def _unheard(self, reply: _Reply) -> list[str]:
        return [item_id for item_id in reply.pushed_ms if item_id not in reply.heard_ms]

    def _finish_if_heard(self, reply_id: str) -> None:
        reply = self._replies[reply_id]
        if not reply.generating and not self._unheard(reply):
            self._finish(reply_id)

    def _finish(self, reply_id: str) -> None:
        reply = self._replies.pop(reply_id)
        if not reply.number:
            return  # it only called tools
        latency = self._latency(reply)
        text = " ".join(part for part in (*reply.texts, reply.delta.strip()) if part)
        self._note(
            Turn(
                reply.number,
                "agent",
                text,
                self._since(reply.began),
                self._since(max(reply.began, reply.ended)),
                agent=reply.agent,
                interrupted=reply.interrupted,
                heard_ms=sum(reply.heard_ms.values()),
                latency=latency,
            )
        )
        if latency is not None:
            self._answered(reply.number, latency)

    def _latency(self, reply: _Reply) -> Latency | None:
        over = reply.answers
        if over is None:
            return None
        left = self._started_at(reply.first_item)
        return Latency(
            None if over.last_sound is None else _ms(over.at - over.last_sound),
            _ms(reply.first_audio - over.at),
            None if left is None else _ms(left - reply.first_audio),
        )

    def _since(self, at: float) -> float:
        return round(max(0.0, at - self._began), 3)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
