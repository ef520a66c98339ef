"""ITU-T G.722 at 64 kbit/s: an octet for two samples at 16 kHz, while its RTP clock counts 8000 (RFC 3551 §4.5.2, an
old mistake that is here to stay).

FFmpeg does the work, through PyAV: what goes in comes out at once, 1.4 ms later for the filters.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from sipbridge.codecs.codec import Codec, Memoryless

_RATE = 16000


@cache
def load() -> ModuleType | None:
    """PyAV; None where it is missing or has no G.722."""
    try:
        import av

        av.CodecContext.create("g722", "w")
        av.CodecContext.create("g722", "r")
    except (ImportError, ValueError):  # an unknown codec is a ValueError
        return None
    return av


class G722Encoder:
    def __init__(self) -> None:
        self._open(320)

    def _open(self, samples: int) -> None:
        """FFmpeg wants to know how long packets are, and they are alike until the packet time changes."""
        av = load()
        assert av is not None
        self._samples = samples
        self._context: Any = av.CodecContext.create("g722", "w")
        self._context.sample_rate = _RATE
        self._context.layout = "mono"
        self._context.format = "s16"
        self._context.options = {"frame_size": str(samples)}
        self._context.open()
        self._frame: Any = av.AudioFrame(format="s16", layout="mono", samples=samples)
        self._frame.sample_rate = _RATE
        self._plane: Any = self._frame.planes[0]

    def expect_loss(self, percent: int, /) -> None:
        pass

    def encode(self, pcm: bytes, /) -> bytes:
        if len(pcm) != 2 * self._samples:
            self._open(len(pcm) // 2)
        self._plane.update(pcm)
        packets = self._context.encode(self._frame)
        return bytes(packets[0]) if len(packets) == 1 else b"".join(map(bytes, packets))


class G722Decoder(Memoryless):
    def __init__(self) -> None:
        av = load()
        assert av is not None
        self._av_error: type[Exception] = av.FFmpegError
        self._new_packet: Any = av.Packet
        self._context: Any = av.CodecContext.create("g722", "r")
        self._context.sample_rate = _RATE
        self._context.layout = "mono"
        self._context.open()
        self.broken = 0

    def decode(self, payload: bytes, /) -> bytes:
        if not payload:
            return b""  # to FFmpeg it would be the end
        try:
            frames = self._context.decode(self._new_packet(payload))
        except self._av_error:
            self.broken += 1
            return bytes(4 * len(payload))
        return b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)


G722 = Codec(
    "G722", 9, 8000, _RATE, lambda *_: G722Encoder(), lambda _: G722Decoder(), len, load=lambda: load() is not None
)
