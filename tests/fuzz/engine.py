"""The loop: mutate, feed, judge. An input whose outcome is new joins the corpus, and the next ones go on from it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.mutation import Material, mutate

MAX_SECONDS = 0.050
"""Of processor time for one input, whatever it is: the loop also paces audio."""
_MAX_CORPUS = 2_000
_MAX_SEED = 4_000
"""Octets: large inputs are tried, but their offspring would be nothing but large."""


@dataclass(frozen=True)
class Target:
    """`feed` is given one input and checks what has to hold; it returns what distinguishes its outcome, and raises
    whatever the code raises that it should not."""

    name: str
    feed: Callable[[bytes], Hashable]
    corpus: Sequence[bytes]
    words: Sequence[bytes] = ()
    inputs: int = 3_000
    """How many are tried in the quick run."""
    limit: float = MAX_SECONDS
    """Of processor time for one input."""


@dataclass
class Found(Exception):
    """An input that breaks a rule."""

    target: str
    data: bytes
    why: str

    def __str__(self) -> str:
        shown = self.data if len(self.data) < 2_000 else self.data[:1_000] + b" ... " + self.data[-900:]
        return f"{self.target}: {self.why}\n{shown!r}"


@dataclass
class Report:
    inputs: int = 0
    slowest: float = 0.0
    outcomes: Counter[Hashable] = field(default_factory=Counter)


def fuzz(target: Target, *, seed: int, inputs: int | None = None, seconds: float | None = None) -> Report:
    """Feed so many inputs, or for so long. Raises Found."""
    random = Random(seed)
    material = Material(target.corpus, target.words)
    report = Report()
    for data in target.corpus:
        try_one(target, data, report)
    end = None if seconds is None else time.monotonic() + seconds
    while time.monotonic() < end if end is not None else report.inputs < (inputs or target.inputs):
        data = mutate(random, material)
        outcome = try_one(target, data, report)
        if report.outcomes[outcome] == 1 and len(material.corpus) < _MAX_CORPUS and len(data) < _MAX_SEED:
            material.corpus.append(data)
    return report


def try_one(target: Target, data: bytes, report: Report) -> Hashable:
    outcome, seconds = _timed(target, data)
    if seconds > target.limit:
        # Once more, and again: the machine may have been busy with something else.
        seconds = min(seconds, *(_timed(target, data)[1] for _ in range(3)))
        if seconds > target.limit:
            raise Found(target.name, data, f"took {seconds * 1000:.0f} ms")
    report.inputs += 1
    report.slowest = max(report.slowest, seconds)
    report.outcomes[outcome] += 1
    return outcome


def _timed(target: Target, data: bytes) -> tuple[Hashable, float]:
    started = time.process_time()
    try:
        outcome = target.feed(data)
    except Exception as error:
        raise Found(target.name, data, f"{type(error).__name__}: {error}") from error
    return outcome, time.process_time() - started
