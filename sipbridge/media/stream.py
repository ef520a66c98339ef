"""One leg's handle on the media engine: what a call talks to."""

from __future__ import annotations

from sipbridge.audio import Played
from sipbridge.media.engine import MediaEngine
from sipbridge.media.events import Handle, MediaStats
from sipbridge.media.params import MediaParams
from sipbridge.media.tap import Tap
from sipbridge.media.vad import Detector


class MediaStream:
    """Speech to the leg and figures of it; what the caller says comes as events of the engine with this `handle`.

    After `close()` commands do nothing: late speech of a model that has not heard of the hang-up is no error.
    """

    def __init__(self, engine: MediaEngine, handle: Handle) -> None:
        self.handle = handle
        self._engine = engine
        self._final: MediaStats | None = None

    @property
    def closed(self) -> bool:
        return self._final is not None

    def play(self, pcm: bytes, reply_id: str, item_id: str) -> None:
        """Speech of an item, in `MediaParams.downlink`; it is heard after all that was given before."""
        if self._final is None:
            self._engine.push(self.handle, pcm, reply_id, item_id)

    def finish(self, item_id: str) -> None:
        """The item is complete: `Drained` follows when its last packet has been sent (at once where it had no
        audio)."""
        if self._final is None:
            self._engine.finish(self.handle, item_id)

    def pause(self) -> None:
        """No old audio later than the next packet, which fades out. What is played meanwhile waits."""
        if self._final is None:
            self._engine.pause(self.handle)

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        if self._final is None:
            self._engine.resume(self.handle)

    def discard(self) -> tuple[Played, ...]:
        """Throw away what was not heard, and tell what was; ends a pause."""
        return () if self._final is not None else self._engine.discard(self.handle)

    def played(self) -> tuple[Played, ...]:
        """What was heard so far of each item that is not drained."""
        return () if self._final is not None else self._engine.position(self.handle)

    def started_at(self, item_id: str) -> float | None:
        """When the first packet of an item left, by the engine's clock; None: none has, or it is one of long ago."""
        return None if self._final is not None else self._engine.started_at(self.handle, item_id)

    def send_key(self, digit: str) -> bool:
        """False where the other side takes no telephone events. Raises ValueError where `digit` is no key."""
        return self._final is None and self._engine.send_key(self.handle, digit)

    def tap(self, sink: Tap | None) -> None:
        """From now on `sink` is told what is really sent and received; None: nobody is."""
        if self._final is None:
            self._engine.tap(self.handle, sink)

    def listen(self, detector: Detector | None) -> None:
        """From now on `SpeechStarted` and `SpeechEnded` tell when the far end speaks; None: no more."""
        if self._final is None:
            self._engine.listen(self.handle, detector)

    def route(self, sink: MediaStream, gain: float = 1.0) -> None:
        """What is said on this leg is played on the other, mixed with what it hears already; `unroute` ends that, and
        so does the end of either."""
        if not self.closed and not sink.closed:
            self._engine.route(self.handle, sink.handle, gain)

    def unroute(self, sink: MediaStream) -> None:
        if not self.closed and not sink.closed:
            self._engine.unroute(self.handle, sink.handle)

    def update(self, params: MediaParams) -> None:
        """After a new offer and answer."""
        if self._final is None:
            self._engine.update(self.handle, params)

    def confirm(self) -> None:
        """The far end has our answer: what `MediaParams.confirmed` held back may be sent."""
        if self._final is None:
            self._engine.confirm(self.handle)

    @property
    def stats(self) -> MediaStats:
        """Now, or at the end."""
        return self._final if self._final is not None else self._engine.stats(self.handle)

    def part(self) -> MediaStats:
        """The figures of the party that has been there so far; from now on it is another."""
        return self._final if self._final is not None else self._engine.part(self.handle)

    def close(self, reason: str = "") -> MediaStats:
        """End the leg, with a word for the far end; its final figures. May be called again."""
        if self._final is None:
            final = self._engine.stats(self.handle)
            self._engine.close(self.handle, reason)
            self._final = final
        return self._final
