"""Privacy: while it lasts, nobody but the caller's telephone and we hear what is said.

The recording pauses (its time goes on), and the model is given silence of the same length instead of the caller's sound
(`Agents.hear`): so it neither hears nor transcribes a number that is read out while it is entered, or tones that a
telephone puts into the sound beside its key events.
"""

from __future__ import annotations

from collections.abc import Callable

from sipbridge.recordings import Recording


class Privacy:
    """`recording` gives the call's, if there is one by then."""

    def __init__(self, recording: Callable[[], Recording | None]) -> None:
        self._recording = recording
        self.lasts = False

    def begin(self) -> None:
        self.lasts = True
        if (recording := self._recording()) is not None:
            recording.pause()

    def end(self) -> None:
        self.lasts = False
        if (recording := self._recording()) is not None:
            recording.resume()
