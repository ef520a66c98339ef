"""RTP payload <-> 16-bit PCM: one table of codecs, by SDP name and by static payload type (RFC 3551 §6).

An entry (`codec.Codec`) describes a codec and makes its encoders and decoders: one of each per leg, because most codecs
keep state from packet to packet (G.711 does not, and shares one). A library that an entry needs is loaded when it is
first asked for, so that it costs nothing where it is not used; `prepare` does that ahead of the first call.
"""

from __future__ import annotations

from collections.abc import Iterable

from sipbridge.audio import AudioFormat
from sipbridge.codecs import g711
from sipbridge.codecs.codec import NO_PARAMETERS, Codec, Decoder, Encoder, Parameters
from sipbridge.codecs.g722 import G722
from sipbridge.codecs.l16 import L16_8K, L16_16K
from sipbridge.codecs.opus import OPUS

__all__ = [
    "G722",
    "L16_16K",
    "L16_8K",
    "NO_PARAMETERS",
    "OPUS",
    "PCMA",
    "PCMU",
    "Codec",
    "Decoder",
    "Encoder",
    "Parameters",
    "available_codecs",
    "lookup",
    "lookup_payload_type",
    "prepare",
    "select",
]

_MU_LAW = g711.MuLaw()
_A_LAW = g711.ALaw()

PCMU = Codec("PCMU", 0, 8000, 8000, lambda *_: _MU_LAW, lambda _: _MU_LAW, len, AudioFormat("pcmu", 8000))
PCMA = Codec("PCMA", 8, 8000, 8000, lambda *_: _A_LAW, lambda _: _A_LAW, len, AudioFormat("pcma", 8000))

_CODECS = (OPUS, G722, PCMU, PCMA, L16_16K, L16_8K)
_BY_NAME = {codec.name.lower(): tuple(c for c in _CODECS if c.name == codec.name) for codec in _CODECS}
_BY_PAYLOAD_TYPE = {codec.static_payload_type: codec for codec in _CODECS if codec.static_payload_type is not None}


def available_codecs() -> tuple[str, ...]:
    """The names of the codecs that can be spoken on this machine."""
    return tuple(dict.fromkeys(codec.name for codec in _CODECS if codec.load()))


def prepare(names: Iterable[str]) -> tuple[str, ...]:
    """Load what these codecs need, before a call has to wait for it: takes a while, so not on an event loop. Returns
    the names of those that cannot be had."""
    lacking = []
    for name in names:
        found = select((name,))
        if not found:
            lacking.append(name)
        for codec in found:  # the first of a kind costs milliseconds
            codec.new_encoder().encode(bytes(codec.sample_rate // 25))
            codec.new_decoder()
    return tuple(lacking)


def lookup(name: str, clock_rate: int | None = None) -> Codec | None:
    """The codec of that name, in any case, and of that clock rate, else the first one; None if there is none. Loads
    nothing."""
    known = _BY_NAME.get(name.lower(), ())
    return next((codec for codec in known if clock_rate is None or codec.clock_rate == clock_rate), None)


def lookup_payload_type(payload_type: int) -> Codec | None:
    """The codec that RFC 3551 assigns to a static payload type; None for dynamic and unknown ones."""
    return _BY_PAYLOAD_TYPE.get(payload_type)


def select(names: Iterable[str]) -> tuple[Codec, ...]:
    """The codecs of a preference list in its order, each once (L16 at all its rates); what this machine lacks is left
    out."""
    found = (codec for name in names for codec in _BY_NAME.get(name.lower(), ()) if codec.load())
    return tuple(dict.fromkeys(found))
