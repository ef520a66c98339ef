"""RTP payload <-> 16-bit PCM: one table of codecs, by SDP name and by static payload type (RFC 3551 §6).

An entry describes a codec and makes its encoders and decoders: one of each per leg, because most codecs keep state from
packet to packet (G.711 does not, and shares one). Entries import what they need when the first coder is made, so that a
heavy library costs nothing until a call uses it.

*Clock rate* is the unit of the RTP timestamp, *sample rate* is that of the audio; for G.722 they differ (8000 and
16000, RFC 3551 §4.5.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from sipbridge.audio import AudioFormat
from sipbridge.codecs import g711


class Encoder(Protocol):
    def encode(self, pcm: bytes, /) -> bytes:
        """The payload for one packet. `pcm` is whole little-endian samples at the codec's sample rate."""
        ...


class Decoder(Protocol):
    def decode(self, payload: bytes, /) -> bytes:
        """PCM of one packet at the codec's sample rate. Anything may be passed: the payload comes from a stranger."""
        ...


@dataclass(frozen=True, slots=True)
class Codec:
    """What SDP and the media engine need to know of a codec."""

    name: str
    """The encoding name as registered for SDP; compared without regard to case (RFC 8866 §6.6)."""
    static_payload_type: int | None
    """Its number in RFC 3551 table 4, or None where the number is always dynamic."""
    clock_rate: int
    sample_rate: int
    new_encoder: Callable[[], Encoder]
    new_decoder: Callable[[], Decoder]
    audio_format: AudioFormat | None = None
    """The format whose bytes are the payload itself, so that audio may pass untouched; None if there is none."""
    channels: int = 1
    """As written in a=rtpmap (Opus: always 2, RFC 7587 §7); the PCM of the coders is mono all the same."""

    def ticks(self, duration_ms: int) -> int:
        """RTP timestamp units in so many milliseconds."""
        return self.clock_rate * duration_ms // 1000

    @property
    def pcm_format(self) -> AudioFormat:
        """What encoders take and decoders give."""
        return AudioFormat("pcm16", self.sample_rate)


_MU_LAW = g711.MuLaw()
_A_LAW = g711.ALaw()

PCMU = Codec("PCMU", 0, 8000, 8000, lambda: _MU_LAW, lambda: _MU_LAW, AudioFormat("pcmu", 8000))
PCMA = Codec("PCMA", 8, 8000, 8000, lambda: _A_LAW, lambda: _A_LAW, AudioFormat("pcma", 8000))

_CODECS = (PCMU, PCMA)
_BY_NAME = {codec.name.lower(): codec for codec in _CODECS}
_BY_PAYLOAD_TYPE = {codec.static_payload_type: codec for codec in _CODECS if codec.static_payload_type is not None}


def available_codecs() -> tuple[str, ...]:
    """The names of the codecs that this build can speak."""
    return tuple(codec.name for codec in _CODECS)


def lookup(name: str) -> Codec | None:
    """The codec of that name, in any case; None if this build has none."""
    return _BY_NAME.get(name.lower())


def lookup_payload_type(payload_type: int) -> Codec | None:
    """The codec that RFC 3551 assigns to a static payload type; None for dynamic and unknown ones."""
    return _BY_PAYLOAD_TYPE.get(payload_type)


def select(names: Iterable[str]) -> tuple[Codec, ...]:
    """The codecs of a preference list in its order, each once; names that this build lacks are left out."""
    found = (lookup(name) for name in names)
    return tuple(dict.fromkeys(codec for codec in found if codec is not None))
