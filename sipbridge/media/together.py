"""What the engine does for all legs at once because that costs less than one by one: bringing audio into another
format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sipbridge.media.convert import Converter, convert_together
from sipbridge.media.downlink import Downlink
from sipbridge.media.events import Audio, Handle, MediaEvent
from sipbridge.media.leg import Leg


def convert_slices(downlinks: Sequence[Downlink]) -> None:
    """One slice of the speech that waits in each."""
    slices = [downlink.next_slice() for downlink in downlinks]
    converted = convert_together([downlink.converter for downlink in downlinks], slices)
    for downlink, data in zip(downlinks, converted, strict=True):
        downlink.keep_slice(data)


def take_audio(legs: Iterable[Leg], now: float, events: list[MediaEvent]) -> None:
    """What their callers have said, as their agents take it, appended to `events`."""
    handles: list[Handle] = []
    converters: list[Converter] = []
    chunks: list[bytes] = []
    for leg in legs:
        chunk = leg.uplink.take()
        if chunk:
            if leg.ear is not None:
                leg.ear.hear(chunk, leg.uplink.converter.source, leg.handle, events)
            listeners = leg.listeners
            if listeners.tap is not None or listeners.routes:
                listeners.tell(chunk, now)
            handles.append(leg.handle)
            converters.append(leg.uplink.converter)
            chunks.append(chunk)
    for handle, audio in zip(handles, convert_together(converters, chunks), strict=True):
        if audio:
            events.append(Audio(handle, audio))
