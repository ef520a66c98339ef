"""What comes out of the uplink for what goes in, packet by packet: the odd ones, and every kind of hole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_16K, PCM_24K, PCMU, AudioFormat
from sipbridge.codecs import Codec
from sipbridge.media.rtp import HeaderExtension, RtpPacket
from tests.media.test_leg import PARAMS, PHONE, VOICE, Bench, tone

SILENCE = b"\xff" * 160


def packet(number: int, timestamp: int, payload: bytes = VOICE, payload_type: int = 0, ssrc: int = 1) -> RtpPacket:
    return RtpPacket(payload_type, number & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload)


def rms(octets: bytes) -> float:
    return float(np.frombuffer(codecs.PCMU.new_decoder().decode(octets), "<i2").astype(float).std())


class TestCraftedPackets:
    """Each one is a whole stream's second packet; after it the stream goes on."""

    def outcome(self, crafted: RtpPacket | bytes) -> tuple[Bench, bytes]:
        """The bench, and what was heard between the packet before and those after it."""
        bench = Bench()
        bench.tick(2, say=VOICE)
        bench.tick()
        bench.receive(crafted)
        bench.number += 1
        bench.timestamp += 160
        bench.tick(4, say=VOICE)
        assert bench.heard.startswith(VOICE * 2)
        assert bench.heard.endswith(VOICE * 4)
        return bench, bench.heard[320:-640]

    def next(self, payload: bytes = bytes(range(160, 80, -1)) * 2) -> RtpPacket:
        return packet(65002, 4_000_000_320, payload)

    @pytest.mark.parametrize(
        "changes",
        [
            {"extension": HeaderExtension(0xBEDE, b"\x10\xff\x00\x00")},
            {"extension": HeaderExtension(0xBEDE, b"")},
            {"extension": HeaderExtension(0x1000, bytes(400))},
            {"padding": 1},
            {"padding": 255},
            {"csrcs": (1,)},
            {"csrcs": tuple(range(15))},
            {"csrcs": (7, 8), "extension": HeaderExtension(1, bytes(8)), "padding": 4, "marker": True},
        ],
        ids=str,
    )
    def test_what_stands_around_the_payload_is_not_heard(self, changes: dict[str, object]) -> None:
        crafted = replace(self.next(), **changes)  # type: ignore[arg-type]
        bench, heard = self.outcome(crafted)
        assert heard == crafted.payload
        assert bench.leg.stats().malformed == 0

    @pytest.mark.parametrize(
        ("spoil", "counter"),
        [
            pytest.param(lambda data: data[:11], "malformed", id="no whole header"),
            pytest.param(lambda data: b"\xa0" + data[1:-1] + b"\x00", "malformed", id="padding of nothing"),
            pytest.param(lambda data: b"\xa0" + data[1:-1] + b"\xff", "malformed", id="more padding than packet"),
            pytest.param(lambda data: b"\x8f" + data[1:40], "malformed", id="CSRCs cut off"),
            pytest.param(lambda data: b"\x90" + data[1:14], "malformed", id="extension cut off"),
            pytest.param(
                lambda data: b"\x90" + data[1:14] + b"\xff\xff" + data[16:], "malformed", id="extension too long"
            ),
            pytest.param(lambda data: b"\x40" + data[1:], "non_rtp", id="version 1"),
            pytest.param(lambda data: data[:1] + b"\x48" + data[2:], "rtcp_received", id="RTCP on the RTP port"),
            pytest.param(lambda data: data[:1] + b"\x12" + data[2:], "wrong_payload", id="another payload type"),
            pytest.param(lambda data: data[:8] + b"\x00\x00\x00\x63" + data[12:], "wrong_source", id="another SSRC"),
        ],
    )
    def test_a_broken_one_is_counted_and_lost(self, spoil: Callable[[bytes], bytes], counter: str) -> None:
        data = self.next().serialize()
        if counter == "rtcp_received":
            data = data[:1] + bytes((200,)) + data[2:]
            bench, heard = self.outcome(data)
        else:
            bench, heard = self.outcome(spoil(data))
        stats = bench.leg.stats()
        assert getattr(stats, counter) == 1
        assert len(heard) == 160
        assert (stats.lost, stats.concealed_ms) == (1, 20)

    def test_without_payload_it_holds_its_place_and_its_time_is_silence(self) -> None:
        bench, heard = self.outcome(self.next(b""))
        assert heard == SILENCE
        assert (bench.leg.stats().lost, bench.leg.stats().concealed_ms) == (0, 0)

    def test_a_longer_one_than_before_is_heard_and_time_goes_on(self) -> None:
        long = bytes(n % 251 for n in range(1400))
        bench, heard = self.outcome(self.next(long))
        assert heard == long  # what follows overlaps it in time: a sender that does this means what it sends
        assert bench.leg.stats().lost == 0

    def test_cut_short_on_the_way_it_is_heard_as_far_as_it_goes(self) -> None:
        _, heard = self.outcome(self.next(VOICE[:37]))
        assert heard[:37] == VOICE[:37]
        assert len(heard) in (37 + 120, 160)  # holes are filled in whole milliseconds

    @pytest.mark.parametrize("jump", [-1_000_000, 0x80000000, 61 * 8000])
    def test_a_timestamp_that_begins_anew_is_no_hole(self, jump: int) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.timestamp += jump
        bench.tick(5, say=VOICE)
        assert bench.heard == VOICE * 10

    def test_both_numbers_wrap_in_one_packet(self) -> None:
        bench = Bench()
        bench.number, bench.timestamp = 65533, 0x100000000 - 480
        bench.tick(6, say=VOICE)
        assert bench.heard == VOICE * 6
        assert bench.leg.stats().lost == 0

    def test_a_loss_across_both_wraps(self) -> None:
        bench = Bench()
        bench.number, bench.timestamp = 65533, 0x100000000 - 480
        bench.tick(2, say=VOICE)
        bench.number, bench.timestamp = bench.number + 2, bench.timestamp + 320
        bench.tick(2)
        bench.tick(4, say=VOICE)
        assert len(bench.heard) == 8 * 160
        assert bench.heard.endswith(VOICE * 4)
        assert (bench.leg.stats().lost, bench.leg.stats().concealed_ms) == (2, 40)


class TestHoles:
    def test_when_nothing_comes_at_all_the_sound_fades_and_time_goes_on(self) -> None:
        bench = Bench()
        wire = codecs.PCMU.new_encoder().encode(tone(200, 400, 8000))
        for start in range(0, len(wire), 160):
            bench.tick(say=wire[start : start + 160])
        bench.tick(50)
        made = bench.heard[3200:]
        assert 940 <= len(made) / 8 <= 1000
        assert rms(made[:160]) > 4000
        assert rms(made[80 * 8 : 100 * 8]) < 1500
        assert set(made[100 * 8 :]) == {0xFF}
        stats = bench.leg.stats()
        assert (stats.concealed_ms, stats.lost) == (100, 0)

    def test_a_packet_that_comes_after_its_time_is_counted_and_not_heard(self) -> None:
        bench = Bench()
        bench.tick(3, say=VOICE)
        late = packet(bench.number, bench.timestamp, b"\x01" * 160)
        bench.number, bench.timestamp = bench.number + 1, bench.timestamp + 160
        bench.tick()
        bench.tick(3, say=VOICE)
        bench.receive(late)
        bench.tick(3, say=VOICE)
        assert b"\x01" * 10 not in bench.heard
        assert len(bench.heard) == 10 * 160
        assert (bench.leg.stats().lost, bench.leg.stats().late) == (1, 1)

    def test_a_long_burst_is_silent_in_its_middle_and_as_long_as_it_was(self) -> None:
        bench = Bench()
        wire = codecs.PCMU.new_encoder().encode(tone(200, 2000, 8000))
        frames = [wire[start : start + 160] for start in range(0, len(wire), 160)]
        for number, frame in enumerate(frames):
            if 30 <= number < 45:
                bench.tick()
                bench.number, bench.timestamp = bench.number + 1, bench.timestamp + 160
            else:
                bench.tick(say=frame)
        assert len(bench.heard) == len(wire)
        assert rms(bench.heard[4800 : 4800 + 160]) > 4000
        assert set(bench.heard[4800 + 160 * 5 : 4800 + 160 * 10]) == {0xFF}
        assert bench.leg.stats().lost == 15

    def test_on_hold_nothing_is_continued(self) -> None:
        bench = Bench()
        bench.tick(10, say=VOICE)
        bench.leg.update(replace(PARAMS, direction="inactive"), bench.now)
        bench.tick(50)
        assert set(bench.heard[1600:]) == {0xFF}
        assert bench.leg.stats().concealed_ms == 0

    def test_while_a_key_is_pressed_nothing_is_continued(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        for n in range(20):
            bench.receive(packet(bench.number, bench.timestamp, b"\x01\x0a" + (160 * n).to_bytes(2), 96))
            bench.number += 1
            bench.tick()
        assert set(bench.heard[800:]) == {0xFF}
        assert bench.leg.stats().concealed_ms == 0

    def test_another_source_is_not_continued_from_the_last(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.tick(20)
        concealed = bench.leg.stats().concealed_ms
        for _ in range(5):  # it is learned by these
            bench.say(ssrc=2)
            bench.tick()
        bench.number, bench.timestamp = bench.number + 1, bench.timestamp + 160
        bench.say(ssrc=2)
        bench.tick(3)
        assert bench.leg.stats().concealed_ms == concealed + 20
        assert bench.leg.stats().source_changes == 2


@pytest.mark.parametrize("skew", [-400e-6, 400e-6])
def test_a_sender_whose_clock_is_not_ours_is_heard_for_hours(skew: float) -> None:
    """Half an hour at twice what crystals differ by, so 0.7 s: nothing is left out or put in, a loss is still filled,
    and a pause is no longer than it was."""
    bench = Bench()
    uplink = bench.leg.uplink
    packets = 90_000
    for number in range(packets):
        now = 100 + number * 0.02 * (1 + skew)
        uplink.receive(packet(number, number * 160).serialize(), PHONE, now)
        uplink.advance(now)
        if number % 1000 == 0:
            uplink.take()
    uplink.take()
    stats = bench.leg.stats()
    assert (stats.skipped_ms, stats.filled_ms, stats.lost) == (0, 0, 0)
    for number in range(packets + 1, packets + 4):
        uplink.receive(packet(number, number * 160).serialize(), PHONE, now + (number - packets + 1) * 0.02)
    uplink.advance(now + 0.1)
    assert bench.leg.stats().concealed_ms == 20
    uplink.take()
    for tick in range(5, 30):
        uplink.advance(now + tick * 0.02)
    assert len(uplink.take()) / 8 == pytest.approx(500 - 40, abs=65)


class TestComfortNoise:
    """RFC 3389: the background of a caller who is silent."""

    def test_it_goes_on_by_the_clock_without_waiting(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.say(b"\x28", payload_type=13)
        bench.tick(10)
        noise = bench.heard[800:]
        assert 160 * 7 <= len(noise) <= 160 * 10
        assert 20 * np.log10(rms(noise) / 32768) == pytest.approx(-40, abs=1)
        assert bench.leg.stats().concealed_ms == 0

    def test_until_sound_comes_and_then_no_more(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.say(b"\x28", payload_type=13)
        bench.tick(10)
        bench.timestamp += 10 * 160 - 1
        bench.tick(5, say=VOICE)
        assert bench.heard.endswith(VOICE * 5)
        assert len(bench.heard) == 20 * 160
        noise_ms = bench.leg.stats().comfort_noise_ms
        assert noise_ms == 200
        bench.timestamp += 10 * 160  # a pause without a word
        bench.tick(10)
        bench.tick(5, say=VOICE)
        assert bench.leg.stats().comfort_noise_ms == noise_ms
        assert len(bench.heard) == 35 * 160

    def test_a_new_description_changes_it(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        for octet in (0x46, 0x1E):
            bench.say(bytes((octet,)), payload_type=13)
            bench.timestamp += 20 * 160 - 1
            bench.tick(20)
        noise = bench.heard[800:]
        assert rms(noise[: 160 * 15]) == pytest.approx(32768 * 10 ** (-70 / 20), rel=0.5)
        assert rms(noise[-160 * 10 :]) == pytest.approx(32768 * 10 ** (-30 / 20), rel=0.2)

    @pytest.mark.parametrize("payload", [b"", b"\xff", b"\x7f", b"\x28" + bytes(range(256)) * 4])
    def test_odd_ones_change_nothing_but_the_noise(self, payload: bytes) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.say(payload, payload_type=13)
        bench.timestamp += 10 * 160 - len(payload)
        bench.tick(10)
        bench.tick(5, say=VOICE)
        assert len(bench.heard) == 20 * 160
        assert bench.heard.endswith(VOICE * 5)

    def test_a_packet_that_is_lost_in_a_pause_is_noise_as_well(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.say(b"\x28", payload_type=13)
        bench.timestamp += 10 * 160 - 1
        bench.tick(10)
        bench.number += 1
        bench.timestamp += 160
        bench.tick()
        bench.tick(5, say=VOICE)
        stats = bench.leg.stats()
        assert (stats.lost, stats.concealed_ms, stats.comfort_noise_ms) == (1, 0, 220)

    def test_where_it_has_another_number(self) -> None:
        bench = Bench(replace(PARAMS, comfort_noise_payload_type=98))
        bench.tick(5, say=VOICE)
        bench.say(b"\x28", payload_type=98)
        bench.tick(10)
        assert bench.leg.stats().comfort_noise_ms > 100


def sine_packets(codec: Codec, rate: int, count: int) -> list[bytes]:
    encoder = codec.new_encoder({"useinbandfec": "1"}, rate)
    pcm = tone(300, 20 * count, rate)
    size = rate // 50 * 2
    return [encoder.encode(pcm[start : start + size]) for start in range(0, len(pcm), size)]


def available(name: str) -> Codec:
    codec = codecs.lookup(name)
    if codec is None or name not in codecs.available_codecs():
        pytest.skip(f"no {name} on this machine")
    return codec


class TestOtherCodecs:
    @pytest.mark.parametrize(("name", "ticks"), [("G722", 160), ("opus", 960)])
    @pytest.mark.parametrize("uplink", [PCM_16K, PCM_24K])
    def test_order_is_restored_before_decoding_and_a_loss_is_hardly_heard(
        self, name: str, ticks: int, uplink: AudioFormat
    ) -> None:
        codec = available(name)
        bench = Bench(replace(PARAMS, codec=codec, payload_type_receive=97, uplink=uplink))
        payloads = sine_packets(codec, 16000, 50)
        order = [0, 1, 2, 3, 5, 4, *range(6, 20), *range(21, 50)]  # 20 is lost
        for number in order:
            bench.tick()
            if number == 21:
                bench.tick()
            bench.receive(packet(number, number * ticks, payloads[number], 97))
        bench.tick(3)
        stats = bench.leg.stats()
        assert (stats.lost, stats.late, stats.reordered) == (1, 0, 1)
        assert stats.concealed_ms + stats.fec_ms == 20
        heard = np.frombuffer(bench.heard, "<i2").astype(float)[: uplink.rate]
        assert len(heard) >= uplink.rate - uplink.rate // 100
        frames = heard[: len(heard) // (uplink.rate // 50) * (uplink.rate // 50)].reshape(-1, uplink.rate // 50)
        levels = frames[5:45].std(axis=1)
        assert levels.min() > 0.5 * np.median(levels)  # nowhere a hole
        assert np.abs(np.diff(heard[uplink.rate // 10 :])).max() < 2.5 * 8000 * 2 * np.pi * 300 / uplink.rate

    def test_what_opus_carries_of_the_packet_before_is_used(self) -> None:
        codec = available("opus")
        encoder = codec.new_encoder({"useinbandfec": "1"}, 16000)
        expect_loss = getattr(encoder, "expect_loss", None)
        if expect_loss is not None:
            expect_loss(20)
        noise = np.random.default_rng(1)
        pcm = (tone_like_speech(noise) * 1.0).astype("<i2").tobytes()
        payloads = [encoder.encode(pcm[start : start + 640]) for start in range(0, len(pcm), 640)]
        bench = Bench(replace(PARAMS, codec=codec, payload_type_receive=97, uplink=PCM_16K))
        for number, payload in enumerate(payloads):
            bench.tick()
            if number % 10 != 9:
                bench.receive(packet(number, number * 960, payload, 97))
        stats = bench.leg.stats()
        assert stats.lost >= 8
        assert stats.fec_ms >= 20
        assert stats.fec_ms + stats.concealed_ms >= 20 * stats.lost


def tone_like_speech(noise: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Two seconds at 16 kHz of a voice that swells: what Opus takes for speech."""
    time = np.arange(32000) / 16000
    sound = np.zeros(32000)
    for harmonic in range(1, 25):
        sound += np.sin(2 * np.pi * 130 * harmonic * time + harmonic) / harmonic
    swelling = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = 5000 * sound * swelling + 50 * noise.standard_normal(32000)
    return np.clip(result, -32000, 32000)


def test_pass_through_and_pcm_hear_the_same_concealment() -> None:
    wire = codecs.PCMU.new_encoder().encode(tone(150, 400, 8000))
    heard = []
    for uplink in (PCMU, codecs.PCMU.pcm_format):
        bench = Bench(replace(PARAMS, uplink=uplink))
        for start in range(0, len(wire), 160):
            if start == 1600:
                bench.number, bench.timestamp = bench.number + 1, bench.timestamp + 160
                bench.tick()
            else:
                bench.tick(say=wire[start : start + 160])
        heard.append(bench.heard)
    assert codecs.PCMU.new_decoder().decode(heard[0]) == heard[1]
    assert bench.leg.latch.target == PHONE


def test_packets_of_single_octets_are_not_concealed() -> None:
    """It costs fifty times what they do: five callers with 3,000 of them a second were enough to hold up all others."""
    bench = Bench()
    for index in range(400):
        bench.now += 0.001
        bench.receive(packet(2 * index, 9 * index, b"\x12"))
        bench.leg.advance(bench.now, bench.events)
    bench.take()
    assert bench.leg.stats().concealed_ms == 0
    assert bench.leg.stats().lost > 300
    assert bench.leg.stats().filled_ms > 100
