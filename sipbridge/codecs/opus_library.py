"""libopus through ctypes: where it is, and its few functions with their types.

The one that comes with PyAV's wheel is taken, else the system's: the wheel's is the newer one nearly everywhere, and
speech with in-band FEC sounds clearly better for the same work since libopus 1.5. It is called directly because PyAV
gives the decoder neither FEC nor concealment. Calls keep the interpreter's lock: they take a tenth of a millisecond,
and to get the lock back from another thread can take five.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_SYSTEM = {"darwin": "libopus.0.dylib", "win32": "opus.dll"}.get(sys.platform, "libopus.so.0")
_BESIDE_AV = ("../av.libs", ".dylibs")

_INT, _STATE, _BYTES = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
_FUNCTIONS = {
    "opus_encoder_get_size": [_INT],
    "opus_encoder_init": [_STATE, _INT, _INT, _INT],
    "opus_encode": [_STATE, _BYTES, _INT, _STATE, ctypes.c_int32],
    "opus_encoder_ctl": [_STATE, _INT],  # and one more, by request
    "opus_decoder_get_size": [_INT],
    "opus_decoder_init": [_STATE, _INT, _INT],
    "opus_decode": [_STATE, _BYTES, ctypes.c_int32, _STATE, _INT, _INT],
}


@cache
def load() -> ctypes.PyDLL | None:
    """The library; None where there is none that can be used."""
    for name in _candidates():
        try:
            library = ctypes.PyDLL(name)
            for function, arguments in _FUNCTIONS.items():
                getattr(library, function).argtypes = arguments
        except (OSError, AttributeError):
            continue
        return library
    return None


def _candidates() -> Iterator[str]:
    spec = find_spec("av")
    if spec is not None and spec.origin is not None:
        for folder in _BESIDE_AV:
            yield from sorted(str(path) for path in (Path(spec.origin).parent / folder).glob("*opus*"))
    yield _SYSTEM
