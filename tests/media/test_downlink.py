"""The sending half of a leg in virtual time: long speech in slices, bounds, packet times, keys."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_8K, PCM_24K, PCMU, AudioFormat, Played
from sipbridge.media.convert import Converter, convert_together
from sipbridge.media.downlink import Downlink
from sipbridge.media.params import MediaParams
from sipbridge.media.rtp import RtpPacket, Sequencer
from tests.media.test_leg import PARAMS, VOICE, Bench, tone

SPEECH = tone(500, 60_000, 24000)
PCM = replace(PARAMS, downlink=PCM_24K)


def sent(downlink: Downlink, count: int) -> bytes:
    return b"".join(RtpPacket.parse(downlink.next_packet(0.0)).payload for _ in range(count))


def downlink_of(params: MediaParams = PCM) -> Downlink:
    return Downlink(params, Sequencer(1, 2, 3))


class TestSlices:
    def test_a_minute_at_once_is_not_converted_at_once_and_is_the_same_in_the_end(self) -> None:
        downlink = downlink_of()
        downlink.push(SPEECH, "r", "i")
        assert downlink.pacer.buffered == 0
        assert downlink.pacer.waiting_ms == 60_000
        assert downlink.backlog
        whole = Converter(PCM_24K, PCMU).process(SPEECH)
        assert sent(downlink, 2950) == whole[: 2950 * 160]
        assert downlink.pacer.waiting_ms == pytest.approx(1000, abs=1)

    @pytest.mark.parametrize("milliseconds", [20, 100, 5000])
    def test_speech_of_an_odd_rate_is_as_long_as_it_was(self, milliseconds: int) -> None:
        odd = AudioFormat("pcm16", 22050)
        downlink = downlink_of(replace(PARAMS, downlink=odd))
        second = tone(500, 1000, 22050)
        for start in range(0, len(second) * 5, milliseconds * 44100 // 1000 // 2 * 2):
            downlink.push((second * 5)[start : start + milliseconds * 44100 // 1000 // 2 * 2], "r", "i")
        downlink.finish("i")
        whole = Converter(odd, PCMU).process(second * 5)
        assert sent(downlink, 248) == whole[: 248 * 160]
        assert downlink.pacer.waiting_ms <= 60

    @pytest.mark.parametrize("legs", [1, 2, 3, 7])
    def test_by_the_owner_for_many_legs_it_is_the_same_too(self, legs: int) -> None:
        downlinks = [downlink_of() for _ in range(legs)]
        for n, downlink in enumerate(downlinks):
            downlink.push(SPEECH[4800 * n :][: 48 * 777], "r", "i")
        while downlinks[0].backlog:
            slices = [downlink.next_slice() for downlink in downlinks]
            together = convert_together([downlink.converter for downlink in downlinks], slices)
            for downlink, data in zip(downlinks, together, strict=True):
                downlink.keep_slice(data)
        for n, downlink in enumerate(downlinks):
            alone = Converter(PCM_24K, PCMU).process(SPEECH[4800 * n :][: 48 * 777])
            assert sent(downlink, 38) == alone[: 38 * 160]

    def test_an_item_that_is_finished_early_is_drained_with_its_last_packet(self) -> None:
        downlink = downlink_of()
        downlink.push(SPEECH[: 48 * 500], "r", "i")
        downlink.finish("i")
        downlink.push(SPEECH[: 48 * 500], "r", "j")
        downlink.finish("j")
        drained = []
        for n in range(60):
            downlink.next_packet(0.0)
            drained += [(item, n) for item in downlink.pacer.take_drained()]
        # A filter holds back 2 ms, so that of the last item ends in a packet of its own.
        assert drained == [("i", 24), ("j", 50)]

    def test_discard_throws_away_what_was_not_converted_either(self) -> None:
        downlink = downlink_of()
        downlink.push(SPEECH, "r", "i")
        sent(downlink, 10)
        downlink.push(SPEECH[:4800], "r", "j")
        assert downlink.discard() == (Played("r", "i", 210), Played("r", "j", 0))
        assert not downlink.backlog
        assert downlink.pacer.waiting_ms == 0
        assert downlink.flushed_ms == 60_000 - 200 + 100
        assert sent(downlink, 2)[80:] == b"\xff" * 240

    @pytest.mark.parametrize("change", [{"codec": codecs.PCMA, "payload_type_send": 8}, {"downlink": PCM_8K}])
    def test_a_new_offer_keeps_it(self, change: dict[str, object]) -> None:
        downlink = downlink_of()
        downlink.push(SPEECH[: 48 * 1000], "r", "i")
        downlink.finish("i")
        sent(downlink, 10)
        downlink.update(replace(PCM, **change))  # type: ignore[arg-type]
        sent(downlink, 41)
        assert downlink.pacer.take_drained() == ["i"]

    def test_ten_minutes_wait_and_the_newest_is_left_out(self) -> None:
        downlink = downlink_of(replace(PARAMS, downlink=PCMU))
        for n in range(11):
            downlink.push(bytes(8 * 60_000), "r", f"i{n}")
        assert downlink.pacer.waiting_ms == 600_000
        assert downlink.dropped_ms == 60_000
        downlink.finish("i10")
        assert downlink.pacer.take_drained() == ["i10"]  # nobody waits for what is not there

    def test_empty_pieces_and_single_samples(self) -> None:
        downlink = downlink_of()
        downlink.push(b"", "r", "empty")
        for n in range(480):
            downlink.push(SPEECH[2 * n : 2 * n + 2], "r", "i")
        downlink.finish("empty")
        downlink.finish("i")
        assert sent(downlink, 1) == Converter(PCM_24K, PCMU).process(SPEECH[:960]).ljust(160, b"\xff")[:160]
        sent(downlink, 2)
        assert downlink.pacer.take_drained() == ["empty", "i"]
        assert downlink.pacer.waiting_ms == 0


class TestPacketTime:
    def test_changes_in_mid_sentence(self) -> None:
        """Nothing is lost or repeated, and each timestamp is where the packet before it ended."""
        bench = Bench()
        speech = bytes(n % 250 for n in range(8 * 400))
        bench.leg.downlink.push(speech, "r", "i")
        for ptime_ms in (20, 10, 60, 30, 40, 20):
            bench.leg.update(replace(PARAMS, ptime_ms=ptime_ms), bench.now)
            bench.tick(120 // ptime_ms if ptime_ms != 20 else 2)
        assert b"".join(bench.payloads())[: len(speech)] == speech
        for before, after in zip(bench.sent, bench.sent[1:], strict=False):
            assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == len(before.payload)

    @pytest.mark.parametrize("ptime_ms", [10, 15, 20, 30, 40, 60])
    def test_every_one_gives_whole_packets_of_every_format(self, ptime_ms: int) -> None:
        for downlink_format in (PCMU, PCM_8K, PCM_24K, AudioFormat("pcm16", 16000)):
            downlink = downlink_of(replace(PARAMS, downlink=downlink_format, ptime_ms=ptime_ms))
            downlink.push(bytes(downlink_format.bytes_per_ms * 300), "r", "i")
            assert len(sent(downlink, 5)) == 5 * 8 * ptime_ms


class TestKeys:
    @pytest.mark.parametrize(
        ("clock_rate", "ptime_ms"), [(8000, 20), (8000, 30), (16000, 20), (48000, 20), (48000, 10)]
    )
    def test_at_the_codecs_clock(self, clock_rate: int, ptime_ms: int) -> None:
        """RFC 4733 §2.3: duration counts in the units of the timestamp."""
        codec = replace(codecs.PCMU, clock_rate=clock_rate)
        bench = Bench(replace(PARAMS, codec=codec, ptime_ms=ptime_ms))
        bench.tick(2)
        assert bench.leg.downlink.send_key("7")
        bench.tick(20)
        step = clock_rate * ptime_ms // 1000
        events = [packet for packet in bench.sent if packet.payload_type == 101]
        fields = [struct.unpack("!BBH", packet.payload) for packet in events]
        durations = [duration for _, _, duration in fields]
        pressed = -(-100 // ptime_ms)
        assert durations == [n * step for n in range(1, pressed + 1)] + [pressed * step] * 2
        assert [bool(flags & 0x80) for _, flags, _ in fields] == [False] * (pressed - 1) + [True] * 3
        assert {packet.timestamp for packet in events} == {(bench.sent[1].timestamp + step) & 0xFFFFFFFF}
        assert [packet.marker for packet in events] == [True] + [False] * (len(events) - 1)
        after = bench.sent[2 + len(events)]
        assert (after.timestamp - events[0].timestamp) & 0xFFFFFFFF == len(events) * step

    def test_two_presses_are_two(self) -> None:
        bench = Bench()
        bench.leg.downlink.send_key("1")
        bench.leg.downlink.send_key("1")
        bench.tick(30)
        starts = [packet for packet in bench.sent if packet.payload_type == 101 and packet.marker]
        assert len(starts) == 2
        assert (starts[1].timestamp - starts[0].timestamp) & 0xFFFFFFFF == (7 + 3) * 160


class TestStarts:
    def test_only_after_silence(self) -> None:
        downlink = downlink_of(PARAMS)
        assert downlink.starts_in_ms is None
        sent(downlink, 1)
        downlink.push(VOICE * 3, "r", "i")
        assert downlink.starts_in_ms == 0
        sent(downlink, 1)
        downlink.push(VOICE, "r", "i")
        assert downlink.starts_in_ms is None

    def test_not_while_keys_are_sent_or_it_is_paused(self) -> None:
        downlink = downlink_of(PARAMS)
        downlink.send_key("1")
        downlink.push(VOICE * 3, "r", "i")
        assert downlink.starts_in_ms is None
        downlink = downlink_of(PARAMS)
        downlink.pacer.pause()
        downlink.push(VOICE * 3, "r", "i")
        assert downlink.starts_in_ms is None
