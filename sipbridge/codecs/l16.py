"""L16 (RFC 3551 §4.5.11): 16-bit samples in network byte order, uncompressed. Its static types 10 and 11 are 44.1 kHz,
which nobody here hears; mono at 8 and 16 kHz has dynamic ones.

A packet must fit an Ethernet frame: 40 ms at most.
"""

from __future__ import annotations

from sipbridge.codecs.codec import Codec, Memoryless
from sipbridge.codecs.g711 import audioop


class Linear(Memoryless):
    __slots__ = ()

    def encode(self, pcm: bytes, /) -> bytes:
        return audioop.byteswap(pcm, 2)

    def decode(self, payload: bytes, /) -> bytes:
        """An octet too many is left out."""
        return audioop.byteswap(payload[: len(payload) & ~1], 2)


_LINEAR = Linear()


def _duration(payload: bytes) -> int:
    return len(payload) // 2


def _at(rate: int) -> Codec:
    return Codec(
        "L16", None, rate, rate, lambda *_: _LINEAR, lambda _: _LINEAR, _duration, packet_times=(10, 20, 30, 40)
    )


L16_16K = _at(16000)
L16_8K = _at(8000)
