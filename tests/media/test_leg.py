"""One leg in virtual time: a clock of 20 ms, datagrams as bytes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sipbridge import codecs
from sipbridge.audio import PCM_8K, PCM_16K, PCM_24K, PCMA, PCMU, AudioFormat, Played
from sipbridge.media.convert import Converter
from sipbridge.media.dtmf import key_packets
from sipbridge.media.events import Drained, KeyPressed, MediaEvent, MediaTimeout, SourceChanged
from sipbridge.media.leg import Leg
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import MAX_DATAGRAM, RtpPacket, Sequencer
from sipbridge.media.sdp import Direction

PHONE = ("192.0.2.1", 4000)
STRANGER = ("203.0.113.66", 666)
PARAMS = MediaParams(
    codec=codecs.PCMU,
    remote=PHONE,
    payload_type_send=0,
    payload_type_receive=0,
    event_payload_type_send=101,
    event_payload_type_receive=96,
    uplink=PCMU,
    downlink=PCMU,
)
VOICE = bytes(range(160))


def tone(frequency: float, ms: int, rate: int, level: int = 8000) -> bytes:
    samples = level * np.sin(2 * np.pi * frequency * np.arange(ms * rate // 1000) / rate)
    return bytes(np.rint(samples).astype("<i2"))


def spectrum(pcm: bytes, rate: int) -> tuple[float, float]:
    """The strongest frequency, and the level (peak) of a sine that has its power."""
    samples: NDArray[np.float64] = np.frombuffer(pcm, "<i2").astype(float)
    bins = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(bins)) * rate / len(samples), float(np.sqrt(2) * samples.std())


class Bench:
    """A leg with a phone at the other end and a clock."""

    def __init__(self, params: MediaParams = PARAMS, *, timeout: float | None = None) -> None:
        self.now = 100.0
        self.leg = Leg(7, params, Sequencer(0xABCD, 65534, 0xFFFFFFFF - 170), self.now, timeout_seconds=timeout)
        self.events: list[MediaEvent] = []
        self.heard = b""
        self.sent: list[RtpPacket] = []
        self.number, self.timestamp = 65000, 4_000_000_000

    def say(
        self, payload: bytes = VOICE, *, source: tuple[str, int] = PHONE, ssrc: int = 1, payload_type: int = 0
    ) -> None:
        """The phone's next packet of audio."""
        packet = RtpPacket(payload_type, self.number & 0xFFFF, self.timestamp & 0xFFFFFFFF, ssrc, payload)
        self.receive(packet, source)
        self.number += 1
        self.timestamp += len(payload)

    def receive(self, packet: RtpPacket | bytes, source: tuple[str, int] = PHONE) -> None:
        data = packet if isinstance(packet, bytes) else packet.serialize()
        self.leg.receive(data, source, self.now, self.events)

    def tick(self, count: int = 1, *, say: bytes | None = None) -> None:
        for _ in range(count):
            self.now += 0.02
            packet = self.leg.next_packet(self.now)
            if packet is not None:
                self.sent.append(RtpPacket.parse(packet))
                self.leg.sent(self.events)
            if say is not None:
                self.say(say)
            self.leg.advance(self.now, self.events)
            self.take()

    def take(self) -> None:
        self.heard += self.leg.uplink.converter.process(self.leg.uplink.take())

    def payloads(self) -> list[bytes]:
        return [packet.payload for packet in self.sent]


class TestUplink:
    def test_the_codecs_own_format_passes_untouched(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        assert bench.heard == VOICE * 5
        assert bench.events == [SourceChanged(7, PHONE)]

    @pytest.mark.parametrize("codec", [codecs.PCMU, codecs.PCMA])
    @pytest.mark.parametrize("uplink", [PCM_8K, PCM_16K, PCM_24K])
    def test_a_tone_arrives_as_pcm(self, codec: codecs.Codec, uplink: AudioFormat) -> None:
        bench = Bench(replace(PARAMS, codec=codec, uplink=uplink))
        wire = codec.new_encoder().encode(tone(1000, 1000, 8000))
        for start in range(0, 8000, 160):
            bench.tick(say=wire[start : start + 160])
        assert len(bench.heard) == uplink.bytes_per_ms * 1000
        frequency, level = spectrum(bench.heard[uplink.bytes_per_ms * 100 :], uplink.rate)
        assert frequency == pytest.approx(1000, abs=2)
        assert level == pytest.approx(8000, rel=0.03)

    def test_a_lost_packet_is_concealed_in_its_place_and_no_octet_around_it_changes(self) -> None:
        bench = Bench()
        bench.tick(3, say=VOICE)
        bench.number, bench.timestamp = bench.number + 1, bench.timestamp + 160
        bench.tick()
        bench.tick(3, say=VOICE)
        assert bench.heard[: 3 * 160] == bench.heard[4 * 160 :] == VOICE * 3
        assert set(bench.heard[3 * 160 : 4 * 160]) != {0xFF}
        stats = bench.leg.stats()
        assert (stats.lost, stats.filled_ms, stats.concealed_ms, stats.comfort_noise_ms) == (1, 20, 20, 0)

    def test_comfort_noise_is_noise_of_its_length_and_nothing_is_concealed(self) -> None:
        bench = Bench()
        bench.tick(3, say=VOICE)
        bench.say(b"\x32", payload_type=13)
        bench.timestamp += 30 * 160 - 1
        bench.tick(30)
        bench.tick(3, say=VOICE)
        assert bench.heard.startswith(VOICE * 3)
        assert bench.heard.endswith(VOICE * 3)
        noise = codecs.PCMU.new_decoder().decode(bench.heard[3 * 160 : -3 * 160])
        assert len(noise) == 2 * 30 * 160
        level = 20 * np.log10(np.frombuffer(noise, "<i2").astype(float).std() / 32768)
        assert level == pytest.approx(-50, abs=1)
        stats = bench.leg.stats()
        assert (stats.lost, stats.filled_ms, stats.concealed_ms, stats.comfort_noise_ms) == (0, 600, 0, 600)

    def test_what_the_sender_left_out_without_a_word_is_silence(self) -> None:
        bench = Bench()
        bench.tick(3, say=VOICE)
        bench.timestamp += 5 * 160
        bench.tick(5)
        bench.tick(3, say=VOICE)
        assert bench.heard == VOICE * 3 + b"\xff" * (5 * 160) + VOICE * 3
        assert bench.leg.stats().concealed_ms == 0

    @pytest.mark.parametrize("missed_ms", [200, 500, 1000, 10_000])
    def test_when_packets_stop_time_goes_on(self, missed_ms: int) -> None:
        bench = Bench()
        bench.tick(50, say=VOICE)
        bench.tick(missed_ms // 20)
        assert 1000 + missed_ms - 60 <= len(bench.heard) / 8 <= 1000 + missed_ms
        assert bench.heard.endswith(b"\xff" * 160)
        bench.timestamp += missed_ms * 8  # hold: they come back with the time that has passed
        bench.number += 1
        bench.tick(50, say=VOICE)
        assert len(bench.heard) / 8 == pytest.approx(2000 + missed_ms, abs=1)
        assert bench.heard.endswith(VOICE * 50)

    def test_a_burst_after_a_stall_of_the_network_is_not_lost(self) -> None:
        bench = Bench()
        bench.tick(10, say=VOICE)
        bench.tick(25)
        for _ in range(25):
            bench.say()
        bench.tick(say=VOICE)
        assert bench.heard.endswith(VOICE[32:] + VOICE * 25)  # the first one fades in, after the clock's silence
        assert bench.leg.stats().skipped_ms == 0

    def test_after_a_burst_pauses_bring_stream_time_back(self) -> None:
        bench = Bench()
        bench.tick(10, say=VOICE)
        bench.tick(25)
        for _ in range(25):
            bench.say()
        for _ in range(10):
            bench.tick(5, say=VOICE)
            bench.timestamp += 800
            bench.tick(5)
        assert len(bench.heard) / 8 - (10 + 25 + 100) * 20 < 300

    def test_a_flood_never_runs_more_than_a_second_ahead(self) -> None:
        bench = Bench()
        bench.tick(10, say=VOICE)
        for _ in range(100):
            for _ in range(5):
                bench.say()
            bench.tick()
        assert len(bench.heard) / 8 <= 110 * 20 + 1000
        assert bench.leg.stats().skipped_ms > 6000

    @pytest.mark.parametrize("jump_seconds", [2, 50, 3600])
    def test_a_jump_of_the_timestamp_fills_a_second_at_most(self, jump_seconds: int) -> None:
        bench = Bench()
        bench.tick(10, say=VOICE)
        bench.timestamp += jump_seconds * 8000
        bench.tick(10, say=VOICE)
        assert len(bench.heard) / 8 <= 400 + 1000
        assert bench.heard.endswith(VOICE * 10)

    def test_before_the_first_packet_there_is_silence(self) -> None:
        bench = Bench()
        bench.tick(50)
        assert set(bench.heard) == {0xFF}
        assert 900 <= len(bench.heard) / 8 <= 1000

    def test_a_new_ssrc_is_heard_within_200_ms_and_without_double_time(self) -> None:
        bench = Bench()
        bench.tick(50, say=VOICE)
        bench.number, bench.timestamp = 5, 77
        for _ in range(50):
            bench.now += 0.02
            bench.say(bytes([3]) * 160, ssrc=2)
            bench.leg.advance(bench.now, bench.events)
            bench.take()
        assert bench.heard.count(3) >= 160 * 41
        assert 1800 <= len(bench.heard) / 8 <= 2000
        assert bench.leg.stats().source_changes == 2

    @pytest.mark.parametrize("ptime_ms", [10, 20, 30, 60])
    def test_any_packet_time(self, ptime_ms: int) -> None:
        bench = Bench()
        voice = bytes(n % 256 for n in range(ptime_ms * 8))
        for n in range(1200 // ptime_ms):
            bench.now = 100.0 + (n + 1) * ptime_ms / 1000
            bench.say(voice)
            bench.leg.advance(bench.now, bench.events)
            bench.take()
        assert bench.heard == voice * (1200 // ptime_ms)


class TestUplinkBlocks:
    def blocks(self, block_ms: int, said: list[int], *, ptime_ms: int = 20, uplink: AudioFormat = PCMU) -> list[float]:
        """The lengths in which sound is handed on; `said` is 1 for each packet time in which the sender sends."""
        bench = Bench(replace(PARAMS, uplink_block_ms=block_ms, ptime_ms=ptime_ms, uplink=uplink))
        voice = VOICE[:8] * ptime_ms
        lengths = []
        for sends in said:
            bench.now += ptime_ms / 1000
            if sends:
                bench.say(voice)
            else:
                bench.timestamp += len(voice)
            for part in (bench.leg.uplink.take(), self.later(bench)):
                if part:
                    lengths.append(len(part) / 8)
        return lengths

    def later(self, bench: Bench) -> bytes:
        bench.leg.advance(bench.now, bench.events)
        return bench.leg.uplink.take()

    @pytest.mark.parametrize("block_ms", [10, 20, 40, 60, 80, 100])
    def test_whole_blocks_while_sound_comes(self, block_ms: int) -> None:
        assert self.blocks(block_ms, [1] * 60) == [max(20, block_ms)] * (1200 // max(20, block_ms))

    @pytest.mark.parametrize(("ptime_ms", "expected"), [(10, 60), (30, 60), (40, 80), (60, 60)])
    def test_of_any_packets(self, ptime_ms: int, expected: int) -> None:
        assert self.blocks(60, [1] * 24, ptime_ms=ptime_ms) == [expected] * (24 * ptime_ms // expected)

    def test_when_the_sender_pauses_the_rest_does_not_wait_for_him(self) -> None:
        lengths = self.blocks(60, [1] * 5 + [0] * 3)
        assert lengths == [60, 40]

    def test_silence_comes_in_blocks_too_and_no_time_is_lost(self) -> None:
        lengths = self.blocks(60, [1] * 10 + [0] * 100 + [1] * 10)
        assert sum(lengths) == pytest.approx(120 * 20, abs=60)
        assert sum(length < 60 for length in lengths) <= 4

    def test_a_new_offer_may_change_it(self) -> None:
        bench = Bench(replace(PARAMS, uplink_block_ms=60))
        bench.tick(6, say=VOICE)
        bench.leg.update(replace(PARAMS, uplink_block_ms=20), bench.now)
        bench.say()
        assert bench.leg.uplink.take() == VOICE


class TestSafety:
    @pytest.mark.parametrize(
        ("datagram", "counter"),
        [
            (b"", "non_rtp"),
            (b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), "non_rtp"),
            (b"\x16\xfe\xff" + bytes(40), "non_rtp"),
            (b"hello", "non_rtp"),
            (b"\x80", "non_rtp"),
            (b"\x80\x00\x00", "malformed"),
            (b"\x90\x00" + bytes(10), "malformed"),
            (b"\xa0\x00" + bytes(10) + b"\xff", "malformed"),
            (RtpPacket(0, 65005, 4_000_000_800, 1, bytes(MAX_DATAGRAM - 11)).serialize(), "malformed"),
            (b"\x80\xc8\x00\x06" + bytes(MAX_DATAGRAM), "malformed"),
            (b"\x16\xfe\xff" + bytes(MAX_DATAGRAM), "malformed"),
            (b"\x80\xc8\x00\x06" + bytes(24), "rtcp_received"),
            (RtpPacket(8, 1, 0, 1, VOICE).serialize(), "wrong_payload"),
            (RtpPacket(127, 1, 0, 1, VOICE).serialize(), "wrong_payload"),
            (RtpPacket(101, 1, 0, 1, b"\x01\x80\x00\xa0").serialize(), "wrong_payload"),
            (RtpPacket(0, 1, 0, 99, VOICE).serialize(), "wrong_source"),
        ],
    )
    def test_what_is_not_ours_changes_nothing_but_a_counter(self, datagram: bytes, counter: str) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        before = bench.leg.stats()
        for _ in range(3):
            bench.receive(datagram, PHONE)
            bench.receive(datagram, STRANGER)
            bench.tick(say=VOICE)
        after = bench.leg.stats()
        assert bench.heard == VOICE * 8
        assert getattr(after, counter) == getattr(before, counter) + 6
        assert after.remote == PHONE

    def test_the_longest_packet_is_heard(self) -> None:
        bench = Bench()
        bench.say(bytes(MAX_DATAGRAM - 12))
        bench.tick()
        assert bench.leg.stats().bytes_received == MAX_DATAGRAM - 12
        assert bench.leg.stats().malformed == 0

    def test_too_long_for_rtcp(self) -> None:
        bench = Bench()
        bench.leg.receive_rtcp(b"\x80\xc8\x00\x06" + bytes(MAX_DATAGRAM), PHONE, bench.now)
        stats = bench.leg.stats()
        assert (stats.rtcp_received, stats.rtcp_ignored) == (1, 1)

    def test_a_stranger_is_neither_heard_nor_answered(self) -> None:
        bench = Bench()
        for _ in range(100):
            bench.tick(say=VOICE)
            for number in range(9):
                bench.receive(RtpPacket(0, number, 160 * number, 1, b"\x00" * 160), STRANGER)
        assert bench.heard == VOICE * 100
        assert bench.leg.latch.target == PHONE
        assert bench.leg.stats().wrong_source == 900

    def test_symmetric_rtp_behind_a_nat(self) -> None:
        bench = Bench()
        nat = ("198.51.100.7", 31000)
        for _ in range(8):
            bench.tick()
            bench.say(source=nat)
        assert bench.events == [SourceChanged(7, nat)]
        assert bench.leg.latch.target == nat

    def test_padding_csrc_and_extension_are_not_sound(self) -> None:
        bench = Bench()
        packet = RtpPacket(0, 1, 0, 1, VOICE, csrcs=(1, 2), padding=8)
        bench.receive(packet)
        bench.tick()
        assert bench.heard == VOICE


@pytest.mark.parametrize("seed", range(10))
def test_nothing_a_stranger_sends_raises_or_is_heard(seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench(replace(PARAMS, uplink=PCM_16K))
    bench.tick(5, say=VOICE)
    for n in range(2000):
        data = bytearray(RtpPacket(chance.choice((0, 13, 96, 8)), n & 0xFFFF, n * 160, 77, VOICE).serialize())
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        bench.receive(bytes(data[: chance.randrange(len(data) + 1)]), STRANGER)
        bench.receive(chance.randbytes(chance.randrange(60)), PHONE)
        if n % 20 == 0:
            bench.tick(say=VOICE)
    stats = bench.leg.stats()
    assert stats.packets_received == 105
    assert len(bench.heard) == 105 * 640
    assert bench.leg.latch.target == PHONE


class TestKeys:
    def press(self, bench: Bench, key: str) -> None:
        timestamp = bench.timestamp
        for entry in key_packets(key):
            if entry is not None:
                bench.receive(
                    RtpPacket(96, bench.number & 0xFFFF, timestamp & 0xFFFFFFFF, 1, entry.payload, entry.marker)
                )
                bench.number += 1
            else:
                bench.receive(RtpPacket(0, bench.number & 0xFFFF, bench.timestamp & 0xFFFFFFFF, 1, b"\xff" * 160))
                bench.number += 1
            bench.timestamp += 160
            bench.tick()

    def test_one_event_per_press_and_silence_in_stream_time(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        for key in "1155#":
            self.press(bench, key)
        bench.tick(5, say=VOICE)
        pressed = [event.digit for event in bench.events if isinstance(event, KeyPressed)]
        assert pressed == ["1", "1", "5", "5", "#"]
        assert bench.heard.startswith(VOICE * 5 + b"\xff")
        assert bench.heard.endswith(b"\xff" + VOICE * 5)
        assert set(bench.heard[5 * 160 : -5 * 160]) == {0xFF}
        assert len(bench.heard) == bench.timestamp - 4_000_000_000

    def test_a_stranger_presses_no_keys(self) -> None:
        bench = Bench()
        bench.tick(5, say=VOICE)
        bench.receive(RtpPacket(96, 1, 0, 1, b"\x01\x0a\x00\xa0", True), STRANGER)
        assert not [event for event in bench.events if isinstance(event, KeyPressed)]

    def test_sent_in_place_of_audio_at_one_timestamp(self) -> None:
        bench = Bench()
        bench.leg.downlink.push(VOICE * 20, "r", "i")
        bench.tick(2)
        assert bench.leg.downlink.send_key("5")
        expected = key_packets("5")
        bench.tick(len(expected) + 2)
        events = [packet for packet in bench.sent if packet.payload_type == 101]
        assert len(events) == sum(entry is not None for entry in expected)
        assert {packet.timestamp for packet in events} == {(bench.sent[1].timestamp + 160) & 0xFFFFFFFF}
        assert [packet.marker for packet in events] == [True] + [False] * (len(events) - 1)
        assert [packet.payload[0] for packet in events] == [5] * len(events)
        numbers = [packet.sequence_number for packet in bench.sent]
        assert numbers == [(65534 + n) & 0xFFFF for n in range(len(numbers))]
        after = bench.sent[-1]
        assert after.payload == VOICE
        assert after.timestamp == (bench.sent[0].timestamp + 160 * (len(bench.sent) - 1)) & 0xFFFFFFFF
        assert bench.leg.downlink.pacer.position() == (Played("r", "i", 80),)  # speech waited meanwhile

    def test_not_where_the_other_side_takes_none(self) -> None:
        bench = Bench(replace(PARAMS, event_payload_type_send=None))
        assert not bench.leg.downlink.send_key("5")
        bench.tick(3)
        assert bench.payloads() == [b"\xff" * 160] * 3

    def test_what_is_no_key_is_our_mistake(self) -> None:
        with pytest.raises(ValueError, match="no key"):
            Bench().leg.downlink.send_key("x")


class TestDownlink:
    def test_silence_when_idle_and_numbers_that_wrap(self) -> None:
        bench = Bench(replace(PARAMS, codec=codecs.PCMA, payload_type_send=8, downlink=PCM_24K))
        bench.tick(4)
        assert bench.payloads() == [b"\xd5" * 160] * 4
        assert [packet.sequence_number for packet in bench.sent] == [65534, 65535, 0, 1]
        assert [packet.timestamp for packet in bench.sent] == [
            (0xFFFFFFFF - 170 + n * 160) & 0xFFFFFFFF for n in range(4)
        ]
        assert {packet.payload_type for packet in bench.sent} == {8}
        assert {packet.ssrc for packet in bench.sent} == {0xABCD}

    def test_the_marker_begins_a_talkspurt(self) -> None:
        bench = Bench()
        bench.tick(2)
        bench.leg.downlink.push(VOICE * 2, "r", "i")
        bench.leg.downlink.finish("i")
        bench.tick(3)
        bench.leg.downlink.push(VOICE, "r", "j")
        bench.tick()
        assert [packet.marker for packet in bench.sent] == [False, False, True, False, False, True]

    @pytest.mark.parametrize("codec", [codecs.PCMU, codecs.PCMA])
    @pytest.mark.parametrize("downlink", [PCM_8K, PCM_16K, PCM_24K, PCMU, PCMA])
    @pytest.mark.parametrize("piece_ms", [13, 20, 250])
    def test_a_tone_leaves_as_g711(self, codec: codecs.Codec, downlink: AudioFormat, piece_ms: int) -> None:
        bench = Bench(replace(PARAMS, codec=codec, downlink=downlink))
        pcm = tone(700, 1000, downlink.rate)
        audio = Converter(AudioFormat("pcm16", downlink.rate), downlink).process(pcm)
        step = downlink.bytes_per_ms * piece_ms
        for start in range(0, len(audio), step):
            bench.leg.downlink.push(audio[start : start + step], "r", "i")
        bench.leg.downlink.finish("i")
        bench.tick(53)
        heard = b"".join(codec.new_decoder().decode(payload) for payload in bench.payloads()[:50])
        frequency, level = spectrum(heard[1600:], 8000)
        assert frequency == pytest.approx(700, abs=2)
        assert level == pytest.approx(8000, rel=0.03)
        assert bench.events == [Drained(7, "i")]
        assert bench.payloads()[-1] == bench.leg.downlink.pacer.audio_format.silence * 160

    def test_an_item_is_drained_with_the_packet_that_holds_the_tail_of_its_filter(self) -> None:
        bench = Bench(replace(PARAMS, downlink=PCM_24K))
        bench.leg.downlink.push(tone(500, 100, 24000), "r", "i")
        bench.leg.downlink.finish("i")
        drained_at = []
        for n in range(8):
            bench.tick()
            drained_at += [n] * len(bench.events)
            bench.events.clear()
        assert drained_at == [5]
        assert bench.payloads()[5] != b"\xff" * 160
        assert bench.payloads()[6] == b"\xff" * 160

    def test_played_is_never_more_than_was_pushed(self) -> None:
        bench = Bench(replace(PARAMS, downlink=PCM_24K))
        bench.leg.downlink.push(tone(500, 95, 24000), "r", "i")
        bench.tick(10)
        assert bench.leg.downlink.discard() == (Played("r", "i", 95),)

    def test_after_discard_nothing_of_the_old_reply_is_left_in_the_filter(self) -> None:
        bench = Bench(replace(PARAMS, downlink=PCM_24K))
        bench.leg.downlink.push(tone(500, 500, 24000, 30000), "old", "i")
        bench.leg.downlink.pacer.pause()
        assert bench.leg.downlink.discard() == (Played("old", "i", 0),)
        bench.leg.downlink.push(bytes(48 * 40), "new", "j")
        bench.tick(2)
        assert bench.payloads() == [b"\xff" * 160] * 2

    def test_barge_in_within_one_packet(self) -> None:
        bench = Bench(replace(PARAMS, downlink=PCM_24K))
        bench.leg.downlink.push(tone(500, 2000, 24000), "r", "i")
        bench.tick(10)
        bench.leg.downlink.pacer.pause()
        bench.tick(1)
        played = bench.leg.downlink.discard()
        bench.tick(5)
        assert played == (Played("r", "i", 210),)
        assert bench.payloads()[10][80:] == b"\xff" * 80
        assert bench.payloads()[11:] == [b"\xff" * 160] * 5
        stats = bench.leg.stats()
        assert (stats.flushes, stats.flushed_ms) == (1, 1790)

    @pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
    def test_any_packet_time(self, ptime_ms: int) -> None:
        bench = Bench(replace(PARAMS, ptime_ms=ptime_ms))
        bench.leg.downlink.push(VOICE * 6, "r", "i")
        bench.tick(120 // ptime_ms)
        assert b"".join(bench.payloads()) == VOICE * 6
        assert (bench.sent[1].timestamp - bench.sent[0].timestamp) & 0xFFFFFFFF == ptime_ms * 8

    def test_time_that_the_clock_lost_is_missing_from_the_timestamps_only(self) -> None:
        bench = Bench()
        bench.leg.downlink.push(VOICE * 4, "r", "i")
        bench.tick(2)
        bench.leg.stalled(100)
        bench.tick(2)
        assert bench.payloads() == [VOICE] * 4
        assert (bench.sent[2].timestamp - bench.sent[1].timestamp) & 0xFFFFFFFF == 160 + 800
        assert (bench.sent[2].sequence_number - bench.sent[1].sequence_number) & 0xFFFF == 1
        assert bench.sent[2].marker
        assert bench.leg.stats().stalled_ms == 100


class TestUpdate:
    @pytest.mark.parametrize(
        ("direction", "sends", "receives"),
        [("sendrecv", True, True), ("sendonly", True, False), ("recvonly", False, True), ("inactive", False, False)],
    )
    def test_direction(self, direction: Direction, sends: bool, receives: bool) -> None:
        bench = Bench(replace(PARAMS, direction=direction))
        bench.leg.downlink.push(VOICE * 3, "r", "i")
        bench.tick(10, say=VOICE)
        assert len(bench.sent) == (10 if sends else 0)
        assert (VOICE in bench.heard) is receives
        assert bench.leg.stats().unwanted == (0 if receives else 10)
        assert bench.leg.downlink.pacer.position() == (Played("r", "i", 60 if sends else 0),)

    def test_hold_and_back(self) -> None:
        bench = Bench()
        bench.leg.downlink.push(VOICE * 10, "r", "i")
        bench.tick(4, say=VOICE)
        bench.leg.update(replace(PARAMS, direction="inactive"), bench.now)
        bench.tick(50)
        bench.timestamp += 50 * 160
        bench.leg.update(PARAMS, bench.now)
        bench.tick(4, say=VOICE)
        assert bench.payloads() == [VOICE] * 8
        assert (bench.sent[4].timestamp - bench.sent[3].timestamp) & 0xFFFFFFFF == 51 * 160
        assert bench.heard == VOICE * 4 + b"\xff" * (50 * 160) + VOICE * 4

    def test_another_codec_in_mid_sentence(self) -> None:
        bench = Bench(replace(PARAMS, downlink=PCM_24K, uplink=PCM_16K))
        bench.leg.downlink.push(tone(500, 400, 24000), "r", "i")
        bench.tick(10, say=VOICE)
        bench.leg.update(
            replace(bench.leg.params, codec=codecs.PCMA, payload_type_send=8, payload_type_receive=8), bench.now
        )
        for _ in range(10):
            bench.tick()
            bench.say(b"\xd5" * 160, payload_type=8)
        heard = b"".join(
            (codecs.PCMA if packet.payload_type == 8 else codecs.PCMU).new_decoder().decode(packet.payload)
            for packet in bench.sent
        )
        frequency, level = spectrum(heard[320:], 8000)
        assert [packet.payload_type for packet in bench.sent] == [0] * 10 + [8] * 10
        assert frequency == pytest.approx(500, abs=3)
        assert level == pytest.approx(8000, rel=0.05)
        assert bench.leg.stats().codec == "PCMA"


class TestTimeout:
    def timeouts(self, bench: Bench) -> list[float]:
        return [event.seconds for event in bench.events if isinstance(event, MediaTimeout)]

    def test_once_per_silence(self) -> None:
        bench = Bench(timeout=2.0)
        bench.tick(99)
        assert not self.timeouts(bench)
        bench.tick(200)
        assert self.timeouts(bench) == [pytest.approx(2.0, abs=0.03)]
        bench.tick(1, say=VOICE)
        bench.tick(200)
        assert len(self.timeouts(bench)) == 2

    def test_never_when_it_is_switched_off(self) -> None:
        bench = Bench(timeout=None)
        bench.tick(1000)
        assert not self.timeouts(bench)

    @pytest.mark.parametrize("direction", ["sendonly", "recvonly", "inactive"])
    def test_not_where_nothing_is_due(self, direction: Direction) -> None:
        bench = Bench(timeout=2.0)
        bench.leg.update(replace(PARAMS, direction=direction), bench.now)
        bench.tick(500)
        bench.leg.update(PARAMS, bench.now)
        bench.tick(90)
        assert not self.timeouts(bench)

    def test_strangers_do_not_keep_a_call_alive(self) -> None:
        bench = Bench(timeout=2.0)
        bench.tick(1, say=VOICE)
        for number in range(150):
            bench.tick()
            bench.receive(RtpPacket(0, number * 100 & 0xFFFF, 0, 5, VOICE), STRANGER)
        assert len(self.timeouts(bench)) == 1


class TestUnconfirmed:
    """Nothing is sent to somebody who is only known from an INVITE, whose source may be forged."""

    def bench(self) -> Bench:
        bench = Bench(replace(PARAMS, confirmed=False))
        bench.leg.downlink.push(VOICE * 5, "r", "i")
        bench.tick(100)
        assert bench.sent == []
        assert bench.leg.downlink.pacer.position() == (Played("r", "i", 0),)
        return bench

    def test_what_waited_is_heard_from_its_beginning(self) -> None:
        bench = self.bench()
        bench.leg.latch.confirm()
        bench.tick(5)
        assert bench.payloads() == [VOICE] * 5
        assert bench.sent[0].marker

    def test_a_packet_that_is_believed_is_as_good(self) -> None:
        bench = self.bench()
        bench.say()
        bench.tick(2)
        assert bench.payloads() == [VOICE] * 2

    def test_packets_of_strangers_are_not(self) -> None:
        bench = self.bench()
        for _ in range(4):
            bench.say(source=STRANGER)
        bench.say(payload_type=77)
        bench.receive(b"\x80\xc8\x00\x06" + bytes(24))
        bench.tick(3)
        assert bench.sent == []

    def test_a_new_offer_confirms_nothing_and_takes_nothing_back(self) -> None:
        bench = self.bench()
        bench.leg.update(PARAMS, bench.now)
        bench.tick(3)
        assert bench.sent == []
        bench.leg.latch.confirm()
        bench.leg.update(replace(PARAMS, confirmed=False), bench.now)
        bench.tick(3)
        assert len(bench.sent) == 3
