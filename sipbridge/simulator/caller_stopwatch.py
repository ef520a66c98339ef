"""What the simulated caller notes and measures while a call runs. Pure; fills a `CallReport`.

Two clocks of the same pace: the time line counts seconds from the INVITE, what is said and heard counts milliseconds
from the answer, by position in the recording.
"""

from __future__ import annotations

from collections.abc import Callable

from sipbridge.simulator.caller_report import CallReport, TimelineEntry

_HEARD = {
    "greeting": "greeting heard after {:.0f} ms",
    "reply": "answer heard after {:.0f} ms",
    "key": "answer to the key heard after {:.0f} ms",
}
_EARLY_MS = 500


class Stopwatch:
    def __init__(self, report: CallReport, invited_at: float, on_entry: Callable[[TimelineEntry], None]) -> None:
        self._report = report
        self._invited_at = invited_at
        self._on_entry = on_entry
        self._answered_at: float | None = None
        self._awaited: tuple[str, float] | None = None
        self._interrupted_ms: float | None = None

    def note(self, text: str, now: float) -> None:
        self._on_entry(self._report.note(now - self._invited_at, text))

    # --- signalling ---------------------------------------------------------------------------------------------------

    def ringing(self, status: int, reason: str, now: float) -> None:
        self.note(f"{status} {reason}", now)
        if "ringing" not in self._report.figures:
            self._report.measure("ringing", (now - self._invited_at) * 1000)

    def answered(self, status: int, reason: str, now: float) -> None:
        self._answered_at = now
        self._awaited = ("greeting", 0.0)
        self._report.status, self._report.reason = status, reason
        self._report.measure("connect", (now - self._invited_at) * 1000)
        self.note(f"{status} {reason}", now)

    def ended(self, text: str, heard_ms: float, now: float) -> None:
        if self._answered_at is not None:
            self._report.measure("duration", (now - self._answered_at) * 1000)
            self._report.measure("heard", heard_ms)
        self.note(text, now)
        self._report.timeline.sort(key=lambda entry: entry.at)

    # --- what we do ---------------------------------------------------------------------------------------------------

    def says(self, at_ms: float, sound: tuple[int, int], *, over: bool) -> None:
        """The sentence begins at `at_ms`; its sound is between these ms of it. `over`: the other side is speaking."""
        first, last = at_ms + sound[0], at_ms + sound[1]
        self._awaited = ("reply", last)
        self._interrupted_ms = first if over else None
        self._note_ms("caller interrupts" if over else "caller speaks", first)

    def presses(self, key: str, at_ms: float) -> None:
        self._awaited = ("key", at_ms)
        self._note_ms(f"caller presses {key}", at_ms)

    # --- what we hear -------------------------------------------------------------------------------------------------

    def speech_started(self, at_ms: float) -> None:
        if self._awaited is None:
            return
        name, since_ms = self._awaited
        if at_ms < since_ms - _EARLY_MS:
            self._note_ms("speech heard while the caller speaks", at_ms)
            return
        # Somebody who answers before our last breath is out answers at once.
        waited_ms = max(0.0, at_ms - since_ms)
        self._awaited = None
        self._report.measure(name, waited_ms)
        self._note_ms(_HEARD[name].format(waited_ms), since_ms + waited_ms)

    def speech_ended(self, at_ms: float) -> None:
        if self._interrupted_ms is None:
            return
        interrupted_ms, self._interrupted_ms = self._interrupted_ms, None
        if at_ms < interrupted_ms:
            self._note_ms("the answer was over before the caller interrupted", at_ms)
            return
        self._report.measure("flush", at_ms - interrupted_ms)
        self._note_ms(f"barge-in flushed in {at_ms - interrupted_ms:.0f} ms", at_ms)

    def _note_ms(self, text: str, at_ms: float) -> None:
        assert self._answered_at is not None
        self.note(text, self._answered_at + at_ms / 1000)
