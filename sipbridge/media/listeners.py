"""Who hears a leg beside the agent that it talks to: a tap, and other legs; and which legs it hears itself."""

from __future__ import annotations

from sipbridge.media.downlink import Downlink
from sipbridge.media.events import Handle
from sipbridge.media.mixer import Mixer, Route
from sipbridge.media.tap import Tap
from sipbridge.media.uplink import Uplink


class Listeners:
    """One leg's."""

    def __init__(self, handle: Handle, uplink: Uplink, downlink: Downlink) -> None:
        self.tap: Tap | None = None
        self.routes: dict[Listeners, Route] = {}
        """By whom it is heard."""
        self._hears: dict[Handle, Listeners] = {}
        self._handle = handle
        self._uplink = uplink
        self._downlink = downlink

    def use_tap(self, tap: Tap | None, now: float) -> None:
        if self.tap is not None:
            self.tap.ended(now)
        self.tap = self._downlink.tap = tap

    def tell(self, chunk: bytes, now: float) -> None:
        """What the uplink has given."""
        uplink = self._uplink
        audio_format, live = uplink.converter.source, uplink.audio_at == now
        if self.tap is not None:
            self.tap.received(chunk, audio_format, now, live)
        for route in self.routes.values():
            route.hear(chunk, audio_format, now, live)

    def add(self, other: Listeners, gain: float) -> None:
        """What this leg says is played to the other one, beside whatever else that hears."""
        route = self.routes.setdefault(other, Route(gain))
        route.gain = gain
        if other._downlink.mixer is None:
            other._downlink.mixer = Mixer()
        other._downlink.mixer.routes[self._handle] = route
        other._hears[self._handle] = self

    def remove(self, other: Listeners) -> None:
        """No more. Nothing, where there is no such route."""
        mixer = other._downlink.mixer
        if self.routes.pop(other, None) is None or mixer is None:
            return
        del mixer.routes[self._handle], other._hears[self._handle]
        if not mixer.routes:
            other._downlink.mixer = None

    def end(self, now: float) -> None:
        """Nobody listens to this leg any more, nor does it to anybody."""
        self.use_tap(None, now)
        for other in tuple(self.routes):
            self.remove(other)
        for other in tuple(self._hears.values()):
            other.remove(self)
