"""G.722 and L16: what goes in comes out at once, and no bytes do harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sipbridge import codecs
from sipbridge.codecs import G722, L16_8K, L16_16K, Codec

NEEDS_AV = pytest.mark.skipif(not G722.load(), reason="no PyAV with G.722")


def tone(frequency: float, seconds: float = 1.0, rate: int = 16000) -> bytes:
    sound: NDArray[np.float64] = 8000 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)
    return bytes(np.rint(sound).astype("<i2").tobytes())


def through(codec: Codec, pcm: bytes, ms: int = 20) -> tuple[list[bytes], NDArray[np.int16]]:
    encoder, decoder, size = codec.new_encoder(), codec.new_decoder(), 2 * codec.sample_rate * ms // 1000
    payloads = [encoder.encode(pcm[start : start + size]) for start in range(0, len(pcm) - size + 1, size)]
    return payloads, np.frombuffer(b"".join(map(decoder.decode, payloads)), "<i2")


@NEEDS_AV
@pytest.mark.parametrize("ms", G722.packet_times)
def test_every_packet_comes_out_as_it_goes_in(ms: int) -> None:
    payloads, heard = through(G722, tone(1000, 1.2), ms)
    assert {len(payload) for payload in payloads} == {8 * ms}
    assert {G722.duration(payload) for payload in payloads} == {G722.ticks(ms)}
    assert len(heard) == len(payloads) * 16 * ms


@NEEDS_AV
@pytest.mark.parametrize("frequency", [300, 3000, 5000, 6500])
def test_a_wideband_tone_passes(frequency: int) -> None:
    _, heard = through(G722, tone(frequency, 1.2))
    spectrum = np.abs(np.fft.rfft(heard[3200:19200] * np.hanning(16000)))
    assert np.argmax(spectrum) == frequency
    assert spectrum[frequency] == pytest.approx(8000 * 16000 / 4, rel=0.1)


@NEEDS_AV
def test_the_delay_is_that_of_its_filters() -> None:
    rng = np.random.default_rng(1)
    noise = np.rint(3000 * rng.standard_normal(16000))
    _, heard = through(G722, noise.astype("<i2").tobytes())
    correlation = [float(np.dot(noise[:8000], heard[lag : lag + 8000])) for lag in range(100)]
    assert np.argmax(correlation) == 22


@NEEDS_AV
def test_a_packet_time_may_change() -> None:
    encoder = G722.new_encoder()
    assert [len(encoder.encode(tone(500)[: 32 * ms])) for ms in (20, 60, 10, 20)] == [160, 480, 80, 160]


@NEEDS_AV
@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_any_bytes_are_sound(payloads: list[bytes]) -> None:
    decoder = G722.new_decoder()
    for payload in payloads:
        assert len(decoder.decode(payload)) == 4 * len(payload)
    assert decoder.conceal(320) == decoder.recover(b"12", 320) == b""


@pytest.mark.parametrize("codec", [L16_8K, L16_16K])
def test_linear_samples_are_in_network_byte_order(codec: Codec) -> None:
    assert codec.new_encoder().encode(b"\x01\x02\x03\x04") == b"\x02\x01\x04\x03"
    assert codec.new_decoder().decode(b"\x02\x01\x04\x03\x05") == b"\x01\x02\x03\x04"
    assert codec.duration(bytes(641)) == 320
    assert max(codec.packet_times) * codec.sample_rate // 500 < 1400, "a packet fits an Ethernet frame"


def test_names_choose_codecs() -> None:
    assert codecs.select(["L16"]) == (L16_16K, L16_8K)
    assert codecs.lookup("l16", 8000) is L16_8K
    assert codecs.lookup("L16", 44100) is None
    assert codecs.lookup_payload_type(11) is None
    assert codecs.lookup_payload_type(9) is G722
    assert codecs.prepare(["PCMU", "nonesuch"]) == ("nonesuch",)


def test_what_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import sipbridge.codecs.opus as opus

    monkeypatch.setattr(opus, "load", lambda: None)
    assert codecs.select(["opus", "PCMU"]) == (codecs.PCMU,)
    assert "opus" not in codecs.available_codecs()
    assert codecs.prepare(["opus", "PCMU"]) == ("opus",)
