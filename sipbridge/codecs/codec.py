"""What the media engine and SDP need to know of a codec, whichever it is.

*Clock rate* is the unit of the RTP timestamp, *sample rate* is that of the audio; for G.722 they differ (8000 and
16000, RFC 3551 §4.5.2), and Opus can be coded and decoded at several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeAlias

from sipbridge.audio import AudioFormat

Parameters: TypeAlias = Mapping[str, str]
"""Of a=fmtp, names in lower case. An encoder is given those of the far end: they say what it wants to receive."""

NO_PARAMETERS: Parameters = MappingProxyType({})


class Encoder(Protocol):
    def encode(self, pcm: bytes, /) -> bytes:
        """The payload for one packet. `pcm` is whole little-endian samples at the rate that the encoder was made for,
        as many as the packet time has. b"": this packet need not be sent, its time passes all the same (DTX)."""
        ...

    def expect_loss(self, percent: int, /) -> None:
        """The far end reports that it lost so many of our packets: in-band FEC has to help with that."""
        ...


class Decoder(Protocol):
    """Payloads are given in their order, each once, because most codecs keep state from packet to packet. Nothing
    raises, whatever the payload: it comes from a stranger."""

    broken: int
    """Payloads that could not be decoded."""

    def decode(self, payload: bytes, /) -> bytes:
        """PCM of one packet. A payload that cannot be decoded becomes silence, as long as `Codec.duration` says."""
        ...

    def conceal(self, samples: int, /) -> bytes:
        """So much sound in place of packets that are missing; b"" where `Codec.conceals` is False."""
        ...

    def recover(self, next_payload: bytes, samples: int, /) -> bytes:
        """The last `samples` before `next_payload`, out of that packet, which `decode` is given afterwards; b"" where
        it does not carry them (no in-band FEC): then `conceal`."""
        ...


class Memoryless:
    """A coder that knows nothing of other packets: what is missing has to be concealed by others."""

    __slots__ = ()
    broken = 0

    def expect_loss(self, percent: int, /) -> None:
        pass

    def conceal(self, samples: int, /) -> bytes:
        return b""

    def recover(self, next_payload: bytes, samples: int, /) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Codec:
    name: str
    """The encoding name as registered for SDP; compared without regard to case (RFC 8866 §6.6)."""
    static_payload_type: int | None
    """Its number in RFC 3551 table 4, or None where the number is always dynamic."""
    clock_rate: int
    sample_rate: int
    make_encoder: Callable[[Parameters, int], Encoder]
    """Of the far end's format parameters and a sample rate; see `new_encoder`."""
    make_decoder: Callable[[int], Decoder]
    duration: Callable[[bytes], int]
    """How long a payload's sound lasts, in ticks of the clock, without decoding it; 0 where it cannot be told."""
    audio_format: AudioFormat | None = None
    """The format whose bytes are the payload itself, so that audio may pass untouched; None if there is none."""
    channels: int = 1
    """As written in a=rtpmap (Opus: always 2, RFC 7587 §7); the PCM of the coders is mono all the same."""
    conceals: bool = False
    """Its decoder knows best what to put in place of what was lost."""
    other_rates: tuple[int, ...] = ()
    """At which it can be coded and decoded, besides `sample_rate`."""
    packet_times: tuple[int, ...] = (10, 20, 30, 40, 50, 60)
    """In ms, that a packet of ours may last."""
    format_parameters: str = ""
    """What a=fmtp says of what we receive."""
    load: Callable[[], bool] = lambda: True
    """Loads the library that it needs; whether it is there. Quick from the second time on."""

    def new_encoder(self, parameters: Parameters = NO_PARAMETERS, sample_rate: int | None = None) -> Encoder:
        return self.make_encoder(parameters, sample_rate or self.sample_rate)

    def new_decoder(self, sample_rate: int | None = None) -> Decoder:
        return self.make_decoder(sample_rate or self.sample_rate)

    def ticks(self, duration_ms: int) -> int:
        """RTP timestamp units in so many milliseconds."""
        return self.clock_rate * duration_ms // 1000

    @property
    def pcm_format(self) -> AudioFormat:
        """What encoders take and decoders give, where nothing else is asked for."""
        return AudioFormat("pcm16", self.sample_rate)

    def wire_format(self, other: AudioFormat) -> AudioFormat:
        """What a leg should keep of this codec's sound that is to be given to, or comes from, somebody with format
        `other`: payload octets where they are audio, else PCM at a rate that leaves little or nothing to be done."""
        if self.audio_format is not None:
            return self.audio_format
        return AudioFormat("pcm16", other.rate) if other.rate in self.other_rates else self.pcm_format
