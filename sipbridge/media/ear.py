"""One leg's own ear: what the far end sends, brought to a detector's rate, and what that finds as events.

Only where somebody asked for it (`MediaEngine.listen`): most models tell themselves when the caller speaks.
"""

from __future__ import annotations

from sipbridge.audio import AudioFormat
from sipbridge.media import vad
from sipbridge.media.convert import Converter
from sipbridge.media.events import Handle, MediaEvent, SpeechEnded, SpeechStarted


class Ear:
    def __init__(self, detector: vad.Detector) -> None:
        self._detector = detector
        self._converter: Converter | None = None

    def hear(self, audio: bytes, wire: AudioFormat, handle: Handle, events: list[MediaEvent]) -> None:
        """What came, as it came from the wire: after a re-INVITE that may be another format."""
        converter = self._converter
        if converter is None or converter.source != wire:
            converter = self._converter = Converter(wire, AudioFormat("pcm16", self._detector.rate))
        for found in self._detector.feed(converter.process(audio)):
            began = isinstance(found, vad.SpeechStarted)
            events.append(SpeechStarted(handle) if began else SpeechEnded(handle))
