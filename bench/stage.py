"""Phones and model of one scenario, and what all scenarios need: on one clock, both ends of a call in sight."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import astuple
from typing import Any

from bench import sounds
from bench.loop import MS, Loop
from bench.numbers import Spread
from bench.phones import PCMU, Call, Format, Phones
from bench.provider import Provider, Session

Results = dict[str, Any]
Tell = Callable[[str], None]
"""Says to whoever runs the bench that a point is reached, and waits for the word to go on."""

FRAME = 20 * MS
RATES = {"pcm": 24000, "g711": 8000, "judged": 24000}
"""Of what each tenant's model speaks."""


def speech(user: str, hertz: float, milliseconds: int) -> bytes:
    """A tone in the format that this tenant's model speaks."""
    pcm = sounds.tone(hertz, milliseconds, RATES[user])
    return sounds.mu_law(pcm) if user == "g711" else pcm


def spread(values: Iterable[int]) -> list[float]:
    """As JSON: the figures of a Spread."""
    return list(astuple(Spread.of_ns(values)))


class Stage:
    """Phones and model of one scenario."""

    def __init__(self, loop: Loop, phones: Phones, provider: Provider, tell: Tell, options: dict[str, Any]) -> None:
        self.loop = loop
        self.phones = phones
        self.provider = provider
        self.tell = tell
        self.options = options
        self.user: str = options["user"]
        self.calls: int = options["calls"]
        self.seconds: float = options["seconds"]
        self.random = random.Random(options["seed"])

    def set_up(
        self, count: int, rate: float, prepare: Callable[[Call, Session], None], format_: Format = PCMU
    ) -> list[Call]:
        """So many calls at that rate, each prepared when it is answered; returns when all are."""
        calls: list[Call] = []

        def answered(call: Call) -> None:
            prepare(call, self.provider.sessions[call.id])

        def dial(due: int) -> None:
            call = self.phones.dial(self.user, format_=format_)
            call.on_answer = answered
            calls.append(call)
            if len(calls) < count:
                self.loop.at(due + int(1e9 / rate), dial)

        self.loop.after(0, dial)
        self.loop.run_until(lambda: len(calls) == count and all(call.answered_at or call.failure for call in calls), 20)
        failures = [call.failure or "no answer" for call in calls if not call.answered_at]
        if failures:
            raise RuntimeError(f"{len(failures)} calls were not answered: {failures[0]}")
        return calls

    def tear_down(self, calls: list[Call]) -> None:
        for call in calls:
            if call.failure:
                raise RuntimeError(f"a call has failed: {call.failure}")
            call.hang_up()
        self.loop.run_until(lambda: all(call.ended_at for call in calls), 5)
