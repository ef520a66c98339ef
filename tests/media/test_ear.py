"""A leg's own ear: whichever codec, and whichever detector."""

from __future__ import annotations

import audioop
import math
import struct

import pytest

from sipbridge.audio import PCM_16K, PCMU, AudioFormat
from sipbridge.media.ear import Ear
from sipbridge.media.events import MediaEvent, SpeechEnded, SpeechStarted
from sipbridge.media.silero import SileroVad
from sipbridge.media.vad import Detector, Vad, VadSettings
from sipbridge.prompts import load_prompt


def sine(ms: int, rate: int, hz: float = 500) -> bytes:
    return b"".join(
        struct.pack("<h", round(8000 * math.sin(2 * math.pi * hz * n / rate))) for n in range(rate * ms // 1000)
    )


def heard(detector: Detector, audio: bytes, wire: AudioFormat, packet_ms: int = 20) -> list[tuple[int, MediaEvent]]:
    """Each event, with the milliseconds of sound after which it was known."""
    ear, size = Ear(detector), wire.bytes_per_ms * packet_ms
    found: list[tuple[int, MediaEvent]] = []
    for start in range(0, len(audio), size):
        events: list[MediaEvent] = []
        ear.hear(audio[start : start + size], wire, 7, events)
        found += [(start // wire.bytes_per_ms + packet_ms, event) for event in events]
    return found


@pytest.mark.parametrize("wire", [PCMU, PCM_16K, AudioFormat("pcm16", 8000), AudioFormat("pcm16", 48000)])
def test_speech_is_found_in_every_format(wire: AudioFormat) -> None:
    rate = wire.rate
    pcm = bytes(rate) + sine(600, rate) + bytes(rate)
    audio = audioop.lin2ulaw(pcm, 2) if wire.encoding == "pcmu" else pcm
    (began, start), (ended, end) = heard(Vad(8000, VadSettings(silence_ms=150)), audio, wire)
    assert (start, end) == (SpeechStarted(7), SpeechEnded(7))
    assert 560 <= began <= 600
    assert 1240 <= ended <= 1300


def test_after_a_re_invite_it_may_be_another_format() -> None:
    ear, events = Ear(Vad(8000)), list[MediaEvent]()
    ear.hear(bytes(8000), AudioFormat("pcm16", 8000), 1, events)
    ear.hear(sine(300, 16000), PCM_16K, 1, events)
    assert events == [SpeechStarted(1)]


def test_the_network_knows_speech_from_a_tone() -> None:
    speech = load_prompt("greeting", 8000)
    audio = bytes(16000) + speech + bytes(16000)
    events = heard(SileroVad(silence_ms=150), audio, AudioFormat("pcm16", 8000))
    assert events[0][1] == SpeechStarted(7)
    assert 1000 < events[0][0] < 1400
    assert events[-1][1] == SpeechEnded(7)
    hum = bytes(16000) + sine(3000, 8000, 50) + bytes(16000)
    assert heard(SileroVad(), hum, AudioFormat("pcm16", 8000)) == []


def test_what_the_network_finds_does_not_depend_on_how_sound_is_cut() -> None:
    audio = bytes(8000) + load_prompt("goodbye", 8000) + bytes(8000)
    one, other = SileroVad(), SileroVad()
    in_one = one.feed(audio)
    in_pieces = [event for start in range(0, len(audio), 74) for event in other.feed(audio[start : start + 74])]
    assert in_one == in_pieces
    assert in_one
