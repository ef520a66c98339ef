"""What a simulated model does: its words and sounds, the tools it calls, and how it misbehaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Utterance:
    """One reply's speech: a WAV file, or a tone."""

    text: str = "This is the simulated model speaking."
    seconds: float = 2.0
    tone_hz: float = 440.0
    wav: Path | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    name: str
    arguments: str = "{}"
    """JSON text, sent as it is: it may be wrong on purpose."""
    spoken: bool = False
    """Whether the model says its utterance first, in the same reply."""
    times: int = 1
    """How many calls in the one reply."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong. As text: `name` or `name:argument`, e.g. `status:401`, `close:1011`, `slow:250`.

    In the handshake: `status:CODE`, `silence` (never a word), `slow:MS`.
    In the setup: `no_update` (no answer to it), `refuse_setup`.
    In a reply, after `after` deltas of audio: `close:CODE`, `drop` (the TCP connection), `expire` (the session's time
    is up; `expire:MS`: so long after its set-up, whatever goes on), `error:CODE` (an error event; the socket stays),
    `hang` (never another message), `garbage` (no JSON, binary, unknown events; then it goes on).
    In the session: `go_away:MS` (after the first turn it is announced that the connection ends in so long).
    At any time: `stall` (open, but nothing is read any more, not even a close), `rate_limit:N` (the first N replies).
    """

    name: str
    argument: str = ""
    after: int = 3

    NAMES: ClassVar[tuple[str, ...]] = (
        "status",
        "silence",
        "slow",
        "no_update",
        "refuse_setup",
        "close",
        "drop",
        "expire",
        "error",
        "hang",
        "garbage",
        "stall",
        "rate_limit",
        "go_away",
    )

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Raises `ValueError`, which names the faults there are."""
        name, _, argument = text.partition(":")
        if name not in cls.NAMES:
            raise ValueError(f"unknown fault {name!r}: there are {', '.join(cls.NAMES)}")
        return cls(name, argument)

    @property
    def number(self) -> int:
        return int(self.argument) if self.argument.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Script:
    """The default is a model that behaves: it listens, and answers every turn with two seconds of 440 Hz."""

    utterances: tuple[Utterance, ...] = (Utterance(),)
    """One for each reply, over and over."""
    transcripts: tuple[str, ...] = ("The caller said something.",)
    """What it claims to have heard, turn by turn, over and over."""
    tools: Mapping[int, ToolUse] = field(default_factory=dict)
    """Reply number (from 0) -> the tool it calls. A user's text item `call:NAME {json}` calls one as well."""
    delta_ms: int = 100
    speed: float = 8.0
    """How much faster than realtime speech is generated; 0: as fast as it goes."""
    think_ms: int = 0
    """Before the first delta of a reply."""
    vad_rms: float = 300.0
    """Loudness, in 16-bit samples, from which the caller is taken to speak."""
    fault: Fault | None = None

    def with_query(self, query: Mapping[str, list[str]]) -> Script:
        """The same with what a URL's query asks for: `?fault=close:1011&speed=0&seconds=5&tone=600`.

        Raises `ValueError`.
        """
        script = self
        if fault := query.get("fault"):
            script = replace(script, fault=Fault.parse(fault[0]))
        if speed := query.get("speed"):
            script = replace(script, speed=float(speed[0]))
        if delta_ms := query.get("delta_ms"):
            script = replace(script, delta_ms=max(10, int(delta_ms[0])))
        if think_ms := query.get("think_ms"):
            script = replace(script, think_ms=int(think_ms[0]))
        first = script.utterances[0]
        if seconds := query.get("seconds"):
            first = replace(first, seconds=float(seconds[0]))
        if tone := query.get("tone"):
            first = replace(first, tone_hz=float(tone[0]))
        if first is not script.utterances[0]:
            script = replace(script, utterances=(first, *script.utterances[1:]))
        return script
