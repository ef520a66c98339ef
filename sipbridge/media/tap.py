"""What may listen to a leg: a recording, somebody who listens in."""

from __future__ import annotations

from typing import Protocol

from sipbridge.audio import AudioFormat


class Tap(Protocol):
    """Called in the engine's own time, for every packet: it hands over and does nothing else."""

    def sent(self, sound: bytes | None, audio_format: AudioFormat, now: float) -> None:
        """A packet of sound leaves, as it is before it is encoded (fades and mixing done); None where what leaves is
        silence or a key. `now` is when it was due, which late ticks do not blur. Not called while nothing is sent at
        all (hold)."""

    def received(self, sound: bytes, audio_format: AudioFormat, now: float, live: bool) -> None:
        """What the far end says, as the agent gets it, but before it is converted: in order and without holes. `live`:
        its end has come just now. What the clock puts into a pause is not, and says nothing of the far end's time."""

    def ended(self, now: float) -> None:
        """The leg is closed, or somebody else listens to it."""
