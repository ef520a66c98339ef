"""How a simulated call went: its time line, its figures, and whether they are what was expected. Pure.

What can be expected of a call (`sipbridge call --expect`), several with commas between them. A phone recognises no
words, so these are facts and times, in milliseconds where a number is compared (`greeting<2000`, `heard>=1500`):

    answered      the call was answered                 connect   INVITE to 200
    ringing       180 or 183 came                                 INVITE to 180
    greeting      speech before we had said anything              200 to its first sound
    reply         speech after our sentence                       our last sound to its first (the slowest, if several)
    key           speech after a key                              the press to its first sound (the slowest)
    flush         our interruption silenced the other side        our first sound to its last
    heard         any speech at all                               how much of it, all in all
    duration                                                      200 to the end of the call
    silence       no speech at all
    bye           the other side hung up
    busy          the call was refused with 486 or 600
    480, 4xx      the final status, or its class

`answer` is another word for `reply`, `speech` for `heard`, `hangup` for `bye`. Times are good for about 20 ms, the
length of a packet.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sipbridge.errors import ConfigError

FIGURES = {
    "connect": "INVITE to 200",
    "ringing": "INVITE to ringing",
    "greeting": "200 to the greeting's first sound",
    "reply": "caller's last sound to the answer's first",
    "key": "key to the answer's first sound",
    "flush": "interruption's first sound to the last old one",
    "heard": "speech heard, all in all",
    "duration": "200 to the end",
}
_ALIASES = {"answer": "reply", "speech": "heard", "hangup": "bye"}
_WORDS = {"answered", "silence", "encrypted", "bye", "busy"}
_TERM = re.compile(r"(?P<name>[a-z]+|[1-6](?:\d\d|xx))(?:(?P<compare><=|>=|<|>)(?P<number>\d+(?:\.\d+)?))?")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    at: float
    """Seconds since the INVITE."""
    text: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} s  {self.text}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One term of `--expect`."""

    term: str
    name: str
    compare: str | None = None
    number: float = 0.0

    def is_met(self, report: CallReport) -> bool:
        if self.compare is not None:
            figure = report.figures.get(self.name)
            return figure is not None and _COMPARE[self.compare](figure, self.number)
        match self.name:
            case "answered":
                return report.answered
            case "silence":
                return report.answered and not report.figures.get("heard")
            case "heard":
                return bool(report.figures.get("heard"))
            case "encrypted":
                return bool(report.encryption)
            case "bye":
                return report.ended_by_them
            case "busy":
                return report.status in (486, 600)
            case name if name in FIGURES:
                return name in report.figures
            case name:
                return str(report.status)[: len(name.rstrip("x"))] == name.rstrip("x")


def parse_expectations(text: str) -> tuple[Expectation, ...]:
    """Raises `ConfigError` that names what can be expected."""
    found = []
    for term in filter(None, (part.strip() for part in text.lower().split(","))):
        match = _TERM.fullmatch(term.replace(" ", ""))
        name = _ALIASES.get(match["name"], match["name"]) if match else ""
        known = (
            name in FIGURES if match and match["compare"] else name in FIGURES or name in _WORDS or name[:1].isdigit()
        )
        if match is None or not known:
            words = ", ".join([*sorted(_WORDS), *FIGURES])
            raise ConfigError(f"nothing to expect: {term!r}; there are {words}, a status (480, 4xx), greeting<2000")
        found.append(Expectation(term, name, match["compare"], float(match["number"] or 0)))
    return tuple(found)


@dataclass(slots=True)
class CallReport:
    """Filled while the call runs; whole when `place_call` returns it."""

    status: int = 0
    """The INVITE's final status; 0: there was none."""
    reason: str = ""
    ended_by_them: bool = False
    cause: str = ""
    """Why it ended, in the word of the SIP core."""
    codec: str = ""
    encryption: str = ""
    """The SRTP suite; empty: in the clear."""
    figures: dict[str, float] = field(default_factory=dict)
    """In milliseconds, by the names of `FIGURES`; what was not measured is not there."""
    timeline: list[TimelineEntry] = field(default_factory=list)
    packets: Mapping[str, int] = field(default_factory=dict)
    recording: Path | None = None
    ladder: list[str] = field(default_factory=list)
    """The SIP messages, drawn."""
    expected: tuple[Expectation, ...] = ()
    error: str = ""
    """What made it fail, where that was neither a SIP answer nor the other side."""

    @property
    def answered(self) -> bool:
        return 200 <= self.status < 300

    @property
    def unmet(self) -> tuple[str, ...]:
        return tuple(expectation.term for expectation in self.expected if not expectation.is_met(self))

    @property
    def ok(self) -> bool:
        """All that was expected came true; where nothing was, the call was answered."""
        if self.error:
            return False
        return not self.unmet if self.expected else self.answered

    @property
    def outcome(self) -> str:
        if self.error:
            return f"failed: {self.error}"
        if self.answered:
            return "the other side hung up" if self.ended_by_them else "completed"
        return f"refused with {self.status} {self.reason}" if self.status else f"no answer ({self.cause})"

    def note(self, at: float, text: str) -> TimelineEntry:
        entry = TimelineEntry(at, text)
        self.timeline.append(entry)
        return entry

    def measure(self, name: str, milliseconds: float) -> None:
        """Of several, the slowest counts."""
        self.figures[name] = max(self.figures.get(name, 0.0), round(max(0.0, milliseconds), 1))

    def summary(self) -> list[str]:
        """What a person wants to read after the time line."""
        lines = [f"outcome    {self.outcome}"]
        if self.figures:
            lines += [
                f"{name:10} {self.figures[name]:.0f} ms  ({FIGURES[name]})" for name in FIGURES if name in self.figures
            ]
        if self.packets:
            lines.append("packets    " + ", ".join(f"{count} {name}" for name, count in self.packets.items()))
        if self.encryption:
            lines.append(f"encryption {self.encryption}")
        if self.recording:
            lines.append(f"recording  {self.recording}")
        lines += [f"expected   {e.term}: {'yes' if e.is_met(self) else 'NO'}" for e in self.expected]
        return lines
