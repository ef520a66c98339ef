"""LastWords: how calls ended, noted when the last message about it has come: their BYE's answer, or the ACK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from sipbridge.history.facts import Ended
from sipbridge.history.journal import NOWHERE, Journal
from sipbridge.outcome import CallReport
from sipbridge.sip.headers import format_host
from sipbridge.sip.ladder import Ladder, Step

_LINGER_S = 1.0
"""After that it does not come any more."""
_MOST_WAITING = 200


class LastWords:
    """Of one gateway."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[Ladder, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}

    def note(self, journal: Journal, report: CallReport, ladder: Ladder | None) -> None:
        """A call is over. It is noted as of now."""
        if journal is NOWHERE:
            return
        say = partial(self._say, journal, report, ladder, self._clock())
        if ladder is None or settled(ladder.steps) or len(self._waiting) >= _MOST_WAITING:
            say()
            return
        if ladder in self._waiting:  # a Call-ID that was used again at once
            self._now(ladder)
        timer = asyncio.get_running_loop().call_later(_LINGER_S, self._now, ladder)
        self._waiting[ladder] = timer, say
        ladder.on_step = partial(self._look, ladder)

    def close(self) -> None:
        """Nothing more will come."""
        for ladder in tuple(self._waiting):
            self._now(ladder)

    def _look(self, ladder: Ladder) -> None:
        if settled(ladder.steps):
            self._now(ladder)

    def _now(self, ladder: Ladder) -> None:
        if ladder not in self._waiting:
            return
        timer, say = self._waiting.pop(ladder)
        timer.cancel()
        ladder.on_step = None
        say()

    def _say(self, journal: Journal, report: CallReport, ladder: Ladder | None, ended_at: float) -> None:
        steps = () if ladder is None else ladder_of(ladder.steps)
        journal.note(Ended.of(report, steps), ago=self._clock() - ended_at)


def settled(steps: Iterable[Step]) -> bool:
    """Every INVITE, BYE and CANCEL has its final answer, and every answer to an INVITE its ACK (RFC 3261 §13, §17)."""
    open_requests: set[tuple[object, bool, str]] = set()
    for step in steps:
        words = step.text.partition("\r\n")[0].split(" ", 2)
        if words[0] in _ANSWERED:
            open_requests.add((step.flow.remote, step.sent, words[0]))
        elif words[0] == "ACK":
            open_requests.discard((step.flow.remote, step.sent, "INVITE"))
        elif words[0] == "SIP/2.0" and words[1:2] >= ["200"]:
            method = step.title.partition("(")[2].partition(")")[0]
            if method != "INVITE":
                open_requests.discard((step.flow.remote, not step.sent, method))
    return not open_requests


_ANSWERED = frozenset({"INVITE", "BYE", "CANCEL"})


def ladder_of(steps: Iterable[Step]) -> tuple[Mapping[str, Any], ...]:
    """As `Ended.ladder` has it."""
    told: list[Mapping[str, Any]] = []
    began: float | None = None
    for step in steps:
        began = step.at if began is None else began
        told.append(
            {
                "at": round(step.at - began, 3),
                "sent": step.sent,
                "peer": format_host(*step.flow.remote),
                "title": step.title,
                "text": "" if step.repeated else step.text,
            }
        )
    return tuple(told)
