"""Opus, heard and looked at: nothing here but libopus is trusted to know what is in a packet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sipbridge.audio import PCM_8K, PCM_24K, PCMU, AudioFormat
from sipbridge.codecs import OPUS, Decoder, Parameters
from sipbridge.codecs.opus import OpusDecoder, OpusEncoder, duration, has_fec

pytestmark = pytest.mark.skipif(not OPUS.load(), reason="no libopus")

Samples = NDArray[np.float64]
FEC = {"useinbandfec": "1"}


def voice(rate: int, seconds: float = 2.0) -> bytes:
    """Something that Opus takes for speech: a buzz with formants that comes and goes."""
    time = np.arange(int(rate * seconds)) / rate
    pitch = np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * time)) / rate
    sound = sum(np.sin(2 * np.pi * n * pitch) / n for n in range(1, 25))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * time)
    return np.rint(3000 * envelope * sound).astype("<i2").tobytes()


def packets(pcm: bytes, rate: int, parameters: Parameters, ms: int = 20) -> list[bytes]:
    encoder, size = OPUS.new_encoder(parameters, rate), 2 * rate * ms // 1000
    return [encoder.encode(pcm[start : start + size]) for start in range(0, len(pcm) - size + 1, size)]


def decoded(payloads: list[bytes], rate: int) -> Samples:
    decoder = OPUS.new_decoder(rate)
    return samples(b"".join(map(decoder.decode, payloads)))


def samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def strength(sound: Samples, rate: int, low: float, high: float) -> float:
    """The power between two frequencies."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / rate)
    return float(spectrum[(frequencies >= low) & (frequencies < high)].sum())


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("ms", [10, 20, 40, 60])
def test_what_goes_in_comes_out_at_once(rate: int, ms: int) -> None:
    tone = np.rint(8000 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype("<i2").tobytes()
    payloads = packets(tone, rate, {}, ms)
    assert {duration(payload) for payload in payloads} == {48 * ms}
    heard = decoded(payloads, rate)
    assert len(heard) == len(payloads) * rate * ms // 1000
    assert np.argmax(np.abs(np.fft.rfft(heard[-rate // 2 :]))) == 500


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_either_side_has_a_rate_of_its_own(rate: int) -> None:
    heard = decoded(packets(voice(24000), 24000, {}), rate)
    assert len(heard) == 2 * rate
    assert strength(heard, rate, 100, 3000) > 0.9 * strength(heard, rate, 0, rate)


def test_the_rate_is_that_of_whoever_speaks_or_listens() -> None:
    assert OPUS.wire_format(PCM_24K) == PCM_24K
    assert OPUS.wire_format(PCM_8K) == PCM_8K
    assert OPUS.wire_format(PCMU) == AudioFormat("pcm16", 8000)
    assert OPUS.wire_format(AudioFormat("pcm16", 44000)) == AudioFormat("pcm16", 48000)


@pytest.mark.parametrize(("limit", "least", "most"), [("8000", 0, 4000), ("16000", 5000, 8000), ("24000", 9000, 12000)])
def test_no_more_is_sent_than_the_far_end_can_play(limit: str, least: int, most: int) -> None:
    rng = np.random.default_rng(1)
    noise = np.rint(3000 * rng.standard_normal(48000)).astype("<i2").tobytes()
    heard = decoded(packets(noise, 24000, {"maxplaybackrate": limit}), 24000)
    whole = strength(heard, 24000, 0, 12000)
    assert strength(heard, 24000, most * 1.1, 12000) < 0.001 * whole
    assert strength(heard, 24000, least, most) > 0.02 * whole


def test_the_bit_rate_is_what_the_far_end_allows() -> None:
    def bit_rate(parameters: Parameters) -> float:
        return 8 * sum(map(len, packets(voice(16000), 16000, parameters))) / 2.0

    assert bit_rate({"maxaveragebitrate": "8000"}) < 0.6 * bit_rate({})
    assert bit_rate({"maxaveragebitrate": "510000"}) < 60_000
    assert bit_rate({"maxaveragebitrate": "much"}) == bit_rate({})
    assert len({len(payload) for payload in packets(voice(16000), 16000, {"cbr": "1"})}) == 1


def test_fec_is_sent_where_it_is_wanted_and_needed() -> None:
    pcm, size = voice(16000), 640
    assert not any(map(has_fec, packets(pcm, 16000, {})))
    assert sum(map(has_fec, packets(pcm, 16000, FEC))) > 50
    encoder = OPUS.new_encoder(FEC, 16000)
    encoder.expect_loss(0)
    encoder.expect_loss(0)
    assert not any(has_fec(encoder.encode(pcm[start : start + size])) for start in range(0, len(pcm), size))
    encoder.expect_loss(10)
    assert sum(has_fec(encoder.encode(pcm[start : start + size])) for start in range(0, len(pcm), size)) > 50
    encoder = OPUS.new_encoder({}, 16000)
    encoder.expect_loss(10)
    assert not any(has_fec(encoder.encode(pcm[start : start + size])) for start in range(0, len(pcm), size))


def with_losses(payloads: list[bytes], lost: set[int], fill: str) -> Samples:
    decoder, parts = OPUS.new_decoder(16000), []
    for number, payload in enumerate(payloads):
        if number not in lost:
            parts.append(decoder.decode(payload))
        elif fill == "recover":
            parts.append(decoder.recover(payloads[number + 1], 320) or decoder.conceal(320))
        else:
            parts.append(decoder.conceal(320) if fill == "conceal" else bytes(640))
    return samples(b"".join(parts))


def test_a_lost_packet_is_recovered_better_than_concealed_better_than_left_out() -> None:
    payloads = packets(voice(16000, 4.0), 16000, FEC)
    lost = set(range(20, 190, 10))
    whole = decoded(payloads, 16000)

    def error(fill: str) -> float:
        return float(((with_losses(payloads, lost, fill) - whole) ** 2).sum())

    assert error("recover") < 0.7 * error("conceal")
    assert error("conceal") < 0.7 * error("nothing")


@pytest.mark.parametrize("count", [1, 39, 40, 320, 321, 1920, 16000])
def test_concealment_is_as_long_as_the_loss(count: int) -> None:
    decoder = OPUS.new_decoder(16000)
    assert len(decoder.conceal(count)) == 2 * count
    for payload in packets(voice(16000, 0.2), 16000, {}):
        decoder.decode(payload)
    assert len(decoder.conceal(count)) == 2 * count


def test_recovery_only_where_there_is_something_to_recover() -> None:
    plain, careful = packets(voice(16000), 16000, {}), packets(voice(16000), 16000, FEC)
    decoder = OPUS.new_decoder(16000)
    decoder.decode(plain[30])
    assert decoder.recover(plain[32], 320) == b""
    assert decoder.recover(b"", 320) == b""
    assert decoder.recover(careful[32], 321) == b""
    assert decoder.recover(careful[32], 0) == b""
    assert decoder.recover(careful[32], 1_000_000) == b""
    assert len(decoder.recover(careful[32], 320)) == 640


def test_dtx_leaves_out_what_says_nothing_and_refreshes_it() -> None:
    encoder = OPUS.new_encoder({"usedtx": "1"}, 16000)
    sent = [encoder.encode(bytes(640)) for _ in range(500)]
    assert all(sent[:3])
    assert 10 < sum(map(bool, sent[100:])) < 40
    assert encoder.encode(voice(16000)[:640])


def test_settled_silence_goes_on_without_being_encoded_and_speech_after_it_is_whole() -> None:
    speech = voice(16000)
    heard = decoded(packets(speech + bytes(32000 * 3) + speech, 16000, FEC), 16000)
    assert np.abs(heard[48000:79000]).max() < 30
    again = heard[80000:]
    assert strength(again, 16000, 100, 3000) == pytest.approx(strength(heard[:32000], 16000, 100, 3000), rel=0.1)


# Packets as strangers make them.


class Count:
    """Decoded length and what the packet says of itself have to agree."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.decoder: Decoder = OPUS.new_decoder(rate)

    def check(self, payload: bytes) -> None:
        broken = self.decoder.broken
        pcm = self.decoder.decode(payload)
        assert len(pcm) == 2 * (duration(payload) * self.rate // 48000)
        if self.decoder.broken > broken:
            assert not any(pcm)
        self.decoder.recover(payload, self.rate // 50)
        assert duration(payload) <= 5760


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.lists(st.binary(max_size=400), max_size=6), st.sampled_from([8000, 16000, 24000, 48000]))
def test_any_bytes_are_silence_or_sound(payloads: list[bytes], rate: int) -> None:
    count = Count(rate)
    for payload in payloads:
        count.check(payload)


@pytest.mark.parametrize("head", range(256))
def test_every_first_octet(head: int) -> None:
    count = Count(16000)
    for body in (b"", b"\0", b"\x3f", b"\xff", b"\x41\xff\xff\x01", b"\x83\xfc\x01\x02" * 9, bytes(200)):
        count.check(bytes((head,)) + body)


def test_what_is_broken_is_counted() -> None:
    decoder = OpusDecoder(16000)
    decoder.decode(b"\x0b\x00")  # three frames without any
    decoder.decode(b"")
    assert decoder.broken == 2
    assert duration(b"") == duration(b"\x0b") == duration(b"\x1b\x3f") == 0


def test_stereo_becomes_mono() -> None:
    mono = packets(voice(16000, 0.5), 16000, {})
    stereo = [bytes((payload[0] | 4,)) + payload[1:] for payload in mono]  # no real stereo, but told to be
    assert len(decoded(stereo, 16000)) == 8000


def test_the_state_is_freed_with_its_owner() -> None:
    """It is memory of Python's; a leak of libopus' would be 300 MB."""
    for _ in range(10_000):
        OpusEncoder(FEC, 16000)
