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

__all__ = [
    "NO_PARAMETERS",
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

_CODECS = (PCMU, PCMA)
_BY_NAME = {codec.name.lower(): codec for codec in _CODECS}
_BY_PAYLOAD_TYPE = {codec.static_payload_type: codec for codec in _CODECS if codec.static_payload_type is not None}


def available_codecs() -> tuple[str, ...]:
    """The names of the codecs that can be spoken on this machine."""
    return tuple(codec.name for codec in _CODECS if codec.load())


def prepare(names: Iterable[str]) -> tuple[str, ...]:
    """Load what these codecs need, before a call has to wait for it: takes a while, so not on an event loop. Returns
    the names of those that cannot be had."""
    return tuple(name for name in names if (codec := lookup(name)) is None or not codec.load())


def lookup(name: str) -> Codec | None:
    """The codec of that name, in any case; None if this build has none. Loads nothing."""
    return _BY_NAME.get(name.lower())


def lookup_payload_type(payload_type: int) -> Codec | None:
    """The codec that RFC 3551 assigns to a static payload type; None for dynamic and unknown ones."""
    return _BY_PAYLOAD_TYPE.get(payload_type)


def select(names: Iterable[str]) -> tuple[Codec, ...]:
    """The codecs of a preference list in its order, each once; names that this machine lacks are left
    out."""
    found = (lookup(name) for name in names)
    return tuple(dict.fromkeys(codec for codec in found if codec is not None and codec.load()))
