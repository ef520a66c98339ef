"""The words for audio that every layer shares: formats, and what of an item was really heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encoding = Literal["pcm16", "pcmu", "pcma"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono audio as it travels between a leg and an agent.

    `pcm16` is signed 16-bit little endian at `rate` Hz; `pcmu` and `pcma` are G.711 octets, always at 8000 Hz.
    """

    encoding: Encoding
    rate: int
    # Known from the above, and asked for with every packet.
    bytes_per_sample: int = field(init=False, repr=False, compare=False)
    bytes_per_ms: int = field(init=False, repr=False, compare=False)
    """Exact for every rate in use (multiples of 1000 Hz)."""

    def __post_init__(self) -> None:
        size = 2 if self.encoding == "pcm16" else 1
        object.__setattr__(self, "bytes_per_sample", size)
        object.__setattr__(self, "bytes_per_ms", self.rate // 1000 * size)

    @property
    def silence(self) -> bytes:
        """One sample of silence: 0x0000, 0xFF (mu-law) or 0xD5 (A-law)."""
        return {"pcm16": b"\x00\x00", "pcmu": b"\xff", "pcma": b"\xd5"}[self.encoding]

    def duration_ms(self, data: bytes) -> float:
        return len(data) / self.bytes_per_ms


PCM_8K = AudioFormat("pcm16", 8000)
PCM_16K = AudioFormat("pcm16", 16000)
PCM_24K = AudioFormat("pcm16", 24000)
PCMU = AudioFormat("pcmu", 8000)
PCMA = AudioFormat("pcma", 8000)


@dataclass(frozen=True, slots=True)
class Played:
    """How much of one item of agent speech was really sent to the caller as RTP."""

    reply_id: str
    item_id: str
    played_ms: int
    """Whole milliseconds sent, rounded down; never more than was pushed. 0: nothing of it was heard."""
