"""Speech that comes at the pace at which it is heard, kept from piling up.

A model that talks in turns is far ahead of what is heard of it, and that is as it should be. One that listens while it
speaks (`Capabilities.full_duplex`) sends a clocked stream: whatever waits to be heard is delay between the two, and
what a stalled line let pile up would stay for the rest of the reply. So there is a bound on it: silence is left out
first, then what waits is thrown away for what is new.
"""

from __future__ import annotations

from sipbridge.audio import AudioFormat
from sipbridge.media.stream import MediaStream

SILENCE_WAITS_MS = 150
"""With more than this in hand, silence is left out. The pacer's cushion has less (`media/cushion.py`)."""
SPEECH_WAITS_MS = 200
"""With more than this, what waits is given up."""


class PacedSpeech:
    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._silence = audio.silence[:1]
        self._given: dict[str, float] = {}
        """Item -> milliseconds given to the stream, of the items that are not heard to their end."""
        self.skipped_ms = 0.0
        """Sound that was never heard, silence included."""

    def play(self, stream: MediaStream, pcm: bytes, reply_id: str, item_id: str) -> None:
        """Like `MediaStream.play`, where that doesn't make the caller wait too long."""
        ms = self._audio.duration_ms(pcm)
        heard = {played.item_id: played.played_ms for played in stream.played()}
        self._given = {item: given for item, given in self._given.items() if item in heard}
        waiting = sum(given - heard[item] for item, given in self._given.items())
        alone = heard.keys() <= {item_id}
        if not alone and heard.keys() - self._given.keys():
            self.skipped_ms += ms  # somebody else is speaking: a prompt of ours
            return
        if waiting > SILENCE_WAITS_MS and not pcm.strip(self._silence):
            self.skipped_ms += ms
            return
        if waiting > SPEECH_WAITS_MS:
            if not alone:  # the end of a reply, which somebody may be waiting for
                self.skipped_ms += ms
                return
            stream.discard()
            self._given.clear()
            self.skipped_ms += waiting
        self._given[item_id] = self._given.get(item_id, 0.0) + ms
        stream.play(pcm, reply_id, item_id)
