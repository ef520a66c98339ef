"""Privacy: while it lasts, nobody but the caller's telephone and we hear what is said.

The recording pauses (its time goes on), and the model is given silence of the same length instead of the caller's sound
(`Agents.hear`): so it neither hears nor transcribes a number that is read out while it is entered, or tones that a
telephone puts into the sound beside its key events.
"""

from __future__ import annotations

from sipbridge.recordings import Recording


class Privacy:
    def __init__(self) -> None:
        self.lasts = False
        self.recording: Recording | None = None
        """The call's, once there is one."""

    def begin(self) -> None:
        self.lasts = True
        if self.recording is not None:
            self.recording.pause()

    def end(self) -> None:
        self.lasts = False
        if self.recording is not None:
            self.recording.resume()
