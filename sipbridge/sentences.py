"""Sentences that no model speaks: played on a leg as if one did, so that the floor and interruptions know of them."""

from __future__ import annotations

from sipbridge.audio import AudioFormat
from sipbridge.media.convert import Converter
from sipbridge.media.stream import MediaStream
from sipbridge.turn import Turn


def play_sentence(stream: MediaStream, turn: Turn, name: str, pcm: bytes, downlink: AudioFormat, now: float) -> None:
    """`pcm` is at the rate of `downlink`, which is what the stream takes; `name` is that of the reply and its item."""
    data = Converter(AudioFormat("pcm16", downlink.rate), downlink).process(pcm)
    if turn.may_play(name, name, len(data), now):
        turn.reply_ended(name)
        stream.play(data, name, name)
        stream.finish(name)
