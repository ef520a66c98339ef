"""What DNS said, and who waits for what it will say; the questions themselves are asked outside (`DnsNeeded`).

Time is a number here. Answers are kept for their TTL, that there is none as well, and an answer that was good outlives
its TTL where the servers fail: a call should not depend on a name server that is away for a minute (RFC 8767). The same
question is asked once, however many wait for it. A stranger can make none of the tables grow without bound.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sipbridge.sip.timers import Schedule

Kind: TypeAlias = Literal["NAPTR", "SRV", "A", "AAAA"]

MAX_ENTRIES = 1024
"""Names and kinds; beyond that the one that was not used for longest is forgotten."""
MAX_RECORDS = 64
LONGEST_S = 86_400.0
"""However long the TTL, a day; and so long is an answer kept after its TTL, in case the servers fail."""
NEGATIVE_S = (5.0, 300.0)
"""Bounds for how long it is believed that there is no such record (RFC 2308 §5)."""
FAILURE_S = 5.0
"""How long a failure is believed where there is no older answer."""
STALE_S = 30.0
"""How long an older answer is used after a failure before the servers are asked again (RFC 8767 §5)."""
PATIENCE_S = 1.8
"""How long a new answer is waited for where there is an older one (RFC 8767 §5)."""
QUESTION_S = 15.0
"""When a question that nobody answers counts as failed; whoever asks outside should give up before that."""


@dataclass(frozen=True, slots=True)
class Naptr:
    """RFC 3403 §4.1; of its fields those that RFC 3263 §4.1 uses."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782."""

    priority: int
    weight: int
    port: int
    target: str


Record: TypeAlias = Naptr | Srv | str
"""An address (A, AAAA) is text."""
Records: TypeAlias = tuple[Record, ...]
Found: TypeAlias = Callable[[Records, float], None]


@dataclass(frozen=True, slots=True)
class DnsNeeded:
    """Ask DNS this one question, then call `UserAgent.dns_answered`, whatever came of it."""

    name: str
    kind: Kind


Key: TypeAlias = tuple[str, Kind]


@dataclass(slots=True)
class _Answer:
    records: Records
    expires: float
    """From then on it is asked again."""
    usable: float
    """Until then it may stand in for an answer that does not come."""


@dataclass(slots=True)
class _Question:
    asked: float
    waiting: list[Found] = field(default_factory=list)


class DnsCache:
    """`ask` puts a question; the answer comes by `answered`. One timer of the schedule is its own."""

    def __init__(self, ask: Callable[[DnsNeeded], None], schedule: Schedule, counters: Counter[str]) -> None:
        self._ask = ask
        self._schedule = schedule
        self._counters = counters
        self._answers: OrderedDict[Key, _Answer] = OrderedDict()
        self._questions: dict[Key, _Question] = {}

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def waiting(self) -> int:
        return sum(len(question.waiting) for question in self._questions.values())

    def look_up(self, name: str, kind: Kind, found: Found, now: float) -> None:
        """Call `found`, once, with the records, none where there are none: at once if they are known."""
        key = (name.rstrip(".").lower(), kind)
        answer = self._answers.get(key)
        if answer is not None and now < answer.expires:
            self._answers.move_to_end(key)
            found(answer.records, now)
            return
        question = self._questions.get(key)
        if question is not None:
            question.waiting.append(found)
        elif len(self._questions) >= MAX_ENTRIES:
            self._counters["dns_too_many_questions"] += 1
            found((), now)
        else:
            self._questions[key] = _Question(now, [found])
            self._ask(DnsNeeded(*key))
        self._schedule.update(self)

    def answered(
        self, name: str, kind: Kind, records: Sequence[Record], ttl: float, now: float, error: str | None = None
    ) -> None:
        """`error` says that the question was not answered, as opposed to: there is no such record."""
        key = (name.rstrip(".").lower(), kind)
        question = self._questions.pop(key, None)
        if question is None:
            return  # not asked, or too late
        known = self._answers.get(key)
        if error is None:
            lowest, highest = (0.0, LONGEST_S) if records else NEGATIVE_S
            expires = now + min(max(ttl, lowest), highest)
            answer = _Answer(tuple(records[:MAX_RECORDS]), expires, expires + LONGEST_S if records else expires)
        elif known is not None and now < known.usable:
            self._counters["dns_stale_answer"] += 1
            answer = _Answer(known.records, now + STALE_S, known.usable)
        else:
            self._counters["dns_failed"] += 1
            answer = _Answer((), now + FAILURE_S, now)
        self._keep(key, answer)
        self._tell(question, answer.records, now)
        self._schedule.update(self)

    # time

    def get_timer(self) -> float | None:
        return min((self._deadline(*item) for item in self._questions.items()), default=None)

    def handle_timer(self, now: float) -> None:
        due = [(key, question) for key, question in self._questions.items() if self._deadline(key, question) <= now]
        for key, question in due:
            if now >= question.asked + QUESTION_S:
                self.answered(*key, (), 0.0, now, "nobody answered the question")
            else:
                self._counters["dns_stale_answer"] += 1
                self._tell(question, self._answers[key].records, now)

    def _deadline(self, key: Key, question: _Question) -> float:
        answer = self._answers.get(key)
        if question.waiting and answer is not None and question.asked + PATIENCE_S < answer.usable:
            return question.asked + PATIENCE_S
        return question.asked + QUESTION_S

    # private

    def _tell(self, question: _Question, records: Records, now: float) -> None:
        waiting, question.waiting = question.waiting, []
        for found in waiting:
            found(records, now)

    def _keep(self, key: Key, answer: _Answer) -> None:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > MAX_ENTRIES:
            self._answers.popitem(last=False)
