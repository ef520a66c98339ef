"""Opus (RFC 6716) as RTP carries it (RFC 7587): mono speech, with in-band FEC, DTX and the codec's own concealment.

Encoder and decoder work at the rate of the sound that they are given or give, from 8 to 48 kHz: libopus does the
conversion for less than a resampler of ours would cost, without a delay of its own. The RTP clock is 48000 throughout.

Their state is memory of ours, so it is freed with the objects.
"""

from __future__ import annotations

import ctypes

from sipbridge.codecs.codec import Codec, Parameters
from sipbridge.codecs.opus_library import load

RATES = (48000, 24000, 16000, 12000, 8000)
_CLOCK_RATE = 48000
_MAX_MS = 120  # of one packet (RFC 6716 §3.2.5)
_MAX_PACKET = 1275  # of one frame (§3.2.1)

_OK = 0
_VOIP = 2048
_VOICE = 3001
_SET_BITRATE, _SET_MAX_BANDWIDTH, _SET_VBR, _SET_COMPLEXITY = 4002, 4004, 4006, 4010
_SET_INBAND_FEC, _SET_PACKET_LOSS, _SET_DTX, _SET_SIGNAL = 4012, 4014, 4016, 4024
_NARROW, _MEDIUM, _WIDE, _SUPER_WIDE, _FULL = 1101, 1102, 1103, 1104, 1105
_BANDWIDTHS = ((8000, _NARROW), (12000, _MEDIUM), (16000, _WIDE), (24000, _SUPER_WIDE), (48000, _FULL))

_BITRATE = 48_000  # speech up to 12 kHz, with room for FEC
_LEAST_BITRATE = 6_000
_COMPLEXITY = 6  # what libopus does more from 7 on costs half as much again, and is hardly heard at this bit rate
_EXPECTED_LOSS = 3
"""In percent, until the far end reports any: how much of the bit rate goes into FEC, where it makes use of that."""
_MOST_LOSS = 20  # percent: FEC for more leaves too little for the speech itself
_SETTLED = 25  # packets of silence, after which nothing of speech is left in the encoder's memory
_DTX_REFRESH = 20  # packets: so often one is sent all the same, 400 ms apart as libopus does it


class OpusEncoder:
    """Does as the far end's format parameters wish (RFC 7587 §6.1), as far as that saves it something: `useinbandfec`,
    `usedtx`, `cbr`, `maxaveragebitrate` and `maxplaybackrate`. What it sends is mono, which every decoder takes."""

    def __init__(self, parameters: Parameters, sample_rate: int) -> None:
        library = load()
        assert library is not None
        self._state = ctypes.create_string_buffer(library.opus_encoder_get_size(1))
        if library.opus_encoder_init(self._state, sample_rate, 1, _VOIP) != _OK:
            raise ValueError(f"no Opus at {sample_rate} Hz")
        self._control = library.opus_encoder_ctl
        self._encode = library.opus_encode
        self._packet = ctypes.create_string_buffer(_MAX_PACKET)
        self._view = memoryview(self._packet)
        self._fec = parameters.get("useinbandfec") == "1"
        self._dtx = parameters.get("usedtx") == "1"
        self._loss = 0
        self._silent = 0  # packets of silence in a row
        self._silence = self._last = b""
        playback_rate = _number(parameters.get("maxplaybackrate"), _CLOCK_RATE)
        bitrate = min(max(_number(parameters.get("maxaveragebitrate"), _BITRATE), _LEAST_BITRATE), _BITRATE)
        self._set(_SET_BITRATE, bitrate)
        self._set(_SET_COMPLEXITY, _COMPLEXITY)
        self._set(_SET_SIGNAL, _VOICE)
        self._set(_SET_INBAND_FEC, self._fec)
        self.expect_loss(_EXPECTED_LOSS)
        self._set(_SET_DTX, self._dtx)
        self._set(_SET_VBR, parameters.get("cbr") != "1")
        self._set(_SET_MAX_BANDWIDTH, next((name for rate, name in _BANDWIDTHS if playback_rate <= rate), _FULL))

    def _set(self, request: int, value: int) -> None:
        self._control(self._state, request, ctypes.c_int32(value))

    def expect_loss(self, percent: int, /) -> None:
        """Loss comes in bursts: what is expected rises at once, and halves with each report of less."""
        self._loss = min(max(percent, self._loss // 2), _MOST_LOSS)
        self._set(_SET_PACKET_LOSS, self._loss if self._fec else 0)

    def encode(self, pcm: bytes, /) -> bytes:
        """`pcm` lasts 10, 20, 40 or 60 ms."""
        if len(pcm) != len(self._silence):
            self._silence = bytes(len(pcm))
        if pcm == self._silence:
            self._silent += 1
            if self._silent > _SETTLED:
                # Half a call is silence, and to encode it costs as much as speech. Encoder and decoder have come to
                # rest: the same packet again leaves them where they are.
                return b"" if self._dtx and self._silent % _DTX_REFRESH else self._last
        else:
            self._silent = 0
        size = self._encode(self._state, pcm, len(pcm) // 2, self._packet, _MAX_PACKET)
        if size <= 2:  # DTX (RFC 6716 §2.1.9): no more than the news that there is none
            return b""
        self._last = self._view[:size].tobytes()
        return self._last


class OpusDecoder:
    """Stereo becomes mono."""

    def __init__(self, sample_rate: int) -> None:
        library = load()
        assert library is not None
        self._state = ctypes.create_string_buffer(library.opus_decoder_get_size(1))
        if library.opus_decoder_init(self._state, sample_rate, 1) != _OK:
            raise ValueError(f"no Opus at {sample_rate} Hz")
        self._decode = library.opus_decode
        self._rate = sample_rate
        self._step = sample_rate // 400  # 2.5 ms, the unit of concealment
        self._most = sample_rate * _MAX_MS // 1000
        self._pcm = ctypes.create_string_buffer(2 * self._most)
        self._view = memoryview(self._pcm)
        self.broken = 0

    def decode(self, payload: bytes, /) -> bytes:
        # No payload at all would mean concealment to libopus.
        samples = self._decode(self._state, payload, len(payload), self._pcm, self._most, 0) if payload else -1
        if samples < 0:
            self.broken += 1
            return bytes(2 * (duration(payload) * self._rate // _CLOCK_RATE))
        return self._view[: 2 * samples].tobytes()

    def conceal(self, samples: int, /) -> bytes:
        parts: list[bytes] = []
        missing = samples
        while missing > 0:
            step = min(-(-missing // self._step) * self._step, self._most)
            made = self._decode(self._state, None, 0, self._pcm, step, 0)
            if made <= 0:
                parts.append(bytes(2 * missing))
                break
            parts.append(self._view[: 2 * min(made, missing)].tobytes())
            missing -= made
        return b"".join(parts)

    def recover(self, next_payload: bytes, samples: int, /) -> bytes:
        if samples % self._step or not 0 < samples <= self._most or not has_fec(next_payload):
            return b""
        made = self._decode(self._state, next_payload, len(next_payload), self._pcm, samples, 1)
        return self._view[: 2 * made].tobytes() if made == samples else b""


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else default


# --- what a packet says of itself (RFC 6716 §3.1) ---------------------------------------------------------------------

_SILK_MS = (10, 20, 40, 60)
_HYBRID_MS = (10, 20)
_CELT_MS = (2.5, 5, 10, 20)
# By configuration number, in ticks.
_FRAME_TICKS = tuple(
    int(48 * (_SILK_MS[n % 4] if n < 12 else _HYBRID_MS[n % 2] if n < 16 else _CELT_MS[n % 4])) for n in range(32)
)
_MAX_TICKS = 48 * _MAX_MS


def duration(payload: bytes) -> int:
    """In ticks; 0 for what is no packet."""
    if not payload:
        return 0
    count = (1, 2, 2, payload[1] & 0x3F if len(payload) > 1 else 0)[payload[0] & 3]
    ticks = count * _FRAME_TICKS[payload[0] >> 3]
    return ticks if ticks <= _MAX_TICKS else 0


def has_fec(payload: bytes) -> bool:
    """Whether its first frame carries a second, coarser copy of the frame before (§4.2.3, LBRR flag)."""
    if len(payload) < 2:
        return False
    toc = payload[0]
    if toc & 0x80:
        return False  # CELT alone has none
    start = _first_frame(payload)
    if start >= len(payload):
        return False
    silk_frames = max(1, _FRAME_TICKS[toc >> 3] // 960)  # each has a bit that says whether there is voice in it
    flags = payload[start]
    mid = flags >> (7 - silk_frames) & 1
    side = flags >> (6 - 2 * silk_frames) & 1 if toc & 4 else 0
    return bool(mid | side)


def _first_frame(payload: bytes) -> int:
    """Where its octets begin (§3.2); the length of the payload where there are none."""
    none = len(payload)
    match payload[0] & 3:
        case 0 | 1:
            return 1
        case 2:
            return 2 if payload[1] < 252 else 3
    count, position = payload[1], 2
    if count & 0x40:  # padding, whose length comes first
        while position < none:
            position += 1
            if payload[position - 1] != 255:
                break
    if count & 0x80:  # lengths of all frames but the last
        for _ in range((count & 0x3F) - 1):
            if position >= none:
                return none
            position += 1 if payload[position] < 252 else 2
    return position


OPUS = Codec(
    "opus",
    None,
    _CLOCK_RATE,
    _CLOCK_RATE,
    OpusEncoder,
    OpusDecoder,
    duration,
    channels=2,
    conceals=True,
    other_rates=RATES[1:],
    packet_times=(10, 20, 40, 60),
    format_parameters="useinbandfec=1",
    load=lambda: load() is not None,
)
