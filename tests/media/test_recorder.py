"""A call as one stereo stream, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from sipbridge import codecs
from sipbridge.audio import PCM_8K, PCM_16K, PCMA, PCMU, AudioFormat
from sipbridge.codecs import g711
from sipbridge.media.recorder import DELAY_SECONDS, Recorder
from sipbridge.media.rtp import RtpPacket
from tests.media.test_leg import PARAMS, Bench, tone

Samples = NDArray[np.int16]
BEGAN = 100.0
ulaw, linear = g711.MuLaw().encode, g711.MuLaw().decode


def sides(stereo: bytes) -> tuple[Samples, Samples]:
    both = np.frombuffer(stereo, "<i2").reshape(-1, 2)
    return both[:, 0], both[:, 1]


def clicks(samples: Samples, level: int = 5000) -> NDArray[np.intp]:
    """Where a sound begins after silence."""
    loud = np.flatnonzero(np.abs(samples.astype(int)) > level)
    return loud[np.diff(loud, prepend=-10_000) > 1000]


class Call:
    """What is sent and received in a call, by a clock of 20 ms."""

    def __init__(self, rate: int = 8000) -> None:
        self.recorder = Recorder(rate, BEGAN)
        self.now = BEGAN
        self.taken: list[bytes] = []

    def pass_time(
        self, packets: int, sent: bytes | None = None, received: bytes | None = None, audio_format: AudioFormat = PCMU
    ) -> None:
        for _ in range(packets):
            self.now += 0.02
            self.recorder.sent(sent, audio_format, self.now)
            if received is not None:
                self.recorder.received(received, audio_format, self.now)
            if len(self.taken) % 10 == 0:
                self.taken.append(self.recorder.take(self.now))

    def finish(self) -> tuple[Samples, Samples]:
        self.taken.append(self.recorder.finish(self.now))
        return sides(b"".join(self.taken))


class TestWhatWeSend:
    def test_it_stands_where_it_was_sent_octet_by_octet(self) -> None:
        call = Call()
        voice = ulaw(tone(440, 20, 8000))
        call.pass_time(10)
        call.pass_time(50, voice)
        call.pass_time(100)
        call.pass_time(1, voice)
        call.pass_time(20)
        _, ours = call.finish()
        expected = linear(ulaw(bytes(320)) * 11 + voice * 50 + ulaw(bytes(320)) * 100 + voice + ulaw(bytes(320)) * 19)
        assert ours.tobytes() == expected

    def test_packets_that_leave_late_leave_no_hole(self) -> None:
        recorder = Recorder(8000, BEGAN)
        for index in range(50):
            late = 0.03 if index % 7 == 3 else 0.0
            recorder.sent(b"\x00" * 160, PCMU, BEGAN + index * 0.02 + late)
        _, ours = sides(recorder.finish(BEGAN + 1))
        assert (ours == ours[0]).all()

    def test_nothing_is_sent_while_the_call_is_on_hold(self) -> None:
        recorder = Recorder(8000, BEGAN)
        recorder.sent(b"\x00" * 160, PCMU, BEGAN)
        recorder.sent(b"\x00" * 160, PCMU, BEGAN + 2.0)  # it was speaking then, and goes on speaking
        _, ours = sides(recorder.finish(BEGAN + 3))
        assert np.flatnonzero(ours).tolist() == [*range(160), *range(16000, 16160)]

    def test_the_rate_of_the_file_stays(self) -> None:
        call = Call(8000)
        call.pass_time(50, tone(500, 20, 8000), tone(300, 20, 8000), PCM_8K)
        call.pass_time(50, tone(500, 20, 16000), tone(300, 20, 16000), PCM_16K)
        call.pass_time(50, b"\xd5" * 160, b"\xd5" * 160, PCMA)
        far, ours = call.finish()
        assert len(ours) == len(far) == 24000
        for side, hz in ((far, 300), (ours, 500)):
            middle = side[9000:15000].astype(float)
            assert np.argmax(np.abs(np.fft.rfft(middle * np.hanning(6000)))) * 8000 / 6000 == pytest.approx(hz, abs=2)
            assert np.sqrt(2) * middle.std() == pytest.approx(8000, rel=0.02)


class TestWhatWeReceive:
    def test_it_stands_where_it_came_octet_by_octet(self) -> None:
        call = Call()
        voice = ulaw(tone(440, 20, 8000))
        call.pass_time(10, received=b"\xff" * 160)
        call.pass_time(50, received=voice)
        call.pass_time(50, received=b"\xff" * 160)
        far, _ = call.finish()
        edge = 40  # the first ms of the stream fade in
        assert far.tobytes()[2 * edge :] == linear(b"\xff" * 1600 + voice * 50 + b"\xff" * 8000)[2 * edge :]

    @pytest.mark.parametrize("minutes", [6, pytest.param(60, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("ppm", [200, -200])
    def test_both_sides_stay_together(self, ppm: float, minutes: int) -> None:
        """At the same moment, once a minute, both say something. Jitter included; the far end's clock is wrong."""
        recorder, random = Recorder(8000, BEGAN), np.random.default_rng(2)
        silence, click = b"\xff" * 160, b"\x80" * 160
        seconds, gaps, taken, arrived = minutes * 60, [], [], 0.0
        said = np.zeros(int((seconds + 1) * 8000 * 1.001) // 160 * 160, bool)
        for minute in range(1, minutes):
            place = round(minute * 60 * (1 + ppm * 1e-6) * 8000)
            said[place : place + 400] = True
        number = 0
        for index in range(seconds * 50):
            now = BEGAN + index * 0.02
            recorder.sent(click if index % 3000 < 2 and index > 2 else None, PCMU, now)
            while (due := BEGAN + (number + 1) * 0.02 / (1 + ppm * 1e-6)) <= now:
                arrived = max(arrived, due + 0.015 * float(random.random()))
                part = said[number * 160 : number * 160 + 160]
                octets = np.where(part, 0x80, 0xFF).astype(np.uint8).tobytes() if part.any() else silence
                recorder.received(octets, PCMU, arrived)
                number += 1
            if index % 100 == 0:
                taken.append(recorder.take(now))
        far, ours = sides(b"".join(taken))
        for left, right in zip(clicks(far), clicks(ours), strict=True):
            gaps.append((int(left) - int(right)) / 8)
        assert len(gaps) == minutes - 1
        assert max(gaps) - min(gaps) < 4, "ms"
        assert max(np.abs(gaps)) < 10

    def test_nothing_comes(self) -> None:
        call = Call()
        call.pass_time(100, b"\x00" * 160)
        far, ours = call.finish()
        assert not far.any()
        assert np.count_nonzero(ours) == 99 * 160


class Listening(Recorder):
    """As a leg's tap."""

    def ended(self, now: float) -> None:
        pass


class TestOfALeg:
    def test_what_was_flushed_is_not_on_it_but_the_fade_is(self) -> None:
        bench = Bench()
        recorder = Listening(8000, bench.now)
        bench.leg.listeners.use_tap(recorder, bench.now)
        voice = ulaw(tone(440, 1000, 8000))
        bench.leg.downlink.push(voice, "r", "i")
        bench.tick(10)
        bench.leg.downlink.discard()
        bench.tick(40)
        _, ours = sides(recorder.finish(bench.now))
        heard = linear(b"".join(bench.payloads()))
        assert ours.tobytes()[320:] == heard[: 2 * len(ours) - 320]
        assert np.count_nonzero(ours) <= 1600 + 80

    def test_hold_another_codec_and_keys(self) -> None:
        bench = Bench()
        recorder = Listening(8000, bench.now)
        bench.leg.listeners.use_tap(recorder, bench.now)
        began = bench.now

        def both(octets: bytes, packets: int) -> None:
            bench.leg.downlink.push(octets * packets, "r", f"i{bench.now}")
            for _ in range(packets):
                bench.tick(say=octets)
                recorder.received(octets, bench.leg.uplink.converter.source, bench.now)

        both(b"\x80" * 160, 25)
        bench.leg.update(replace(PARAMS, direction="inactive"), bench.now)
        bench.tick(100)
        bench.leg.update(replace(PARAMS, codec=codecs.PCMA, uplink=PCMA, downlink=PCMA), bench.now)
        bench.leg.downlink.send_key("5")
        bench.tick(25)
        both(b"\xaa" * 160, 25)
        far, ours = sides(recorder.finish(bench.now))
        assert len(ours) == round((bench.now - began) * 8000)
        assert clicks(ours).tolist() == [160, 160 * 151]

    @pytest.mark.parametrize("name", ["G722", "opus"])
    def test_wideband(self, name: str) -> None:
        """What narrowband cannot carry is on both sides; the codec's own frames are not asked for."""
        codec = codecs.lookup(name)
        assert codec is not None
        if not codec.load():
            pytest.skip(f"{name} cannot be had here")
        bench = Bench(replace(PARAMS, codec=codec, uplink=PCM_16K, downlink=PCM_16K))
        recorder = Listening(16000, bench.now)
        bench.leg.listeners.use_tap(recorder, bench.now)
        encoder, said = codec.new_encoder(codecs.NO_PARAMETERS, 16000), tone(5000, 2000, 16000)
        bench.leg.downlink.push(tone(6000, 2000, 16000), "r", "i")
        for number in range(100):
            payload = encoder.encode(said[640 * number : 640 * number + 640])
            packet = RtpPacket(0, number, number * codec.ticks(20), 1, payload)
            bench.now += 0.02
            bench.leg.next_packet(bench.now)
            bench.receive(packet)
            bench.leg.advance(bench.now, bench.events)
            recorder.received(bench.leg.uplink.take(), bench.leg.uplink.converter.source, bench.now)
        for side, hz in zip(sides(recorder.finish(bench.now)), (5000, 6000), strict=True):
            middle = side[8000:24000].astype(float)
            assert np.argmax(np.abs(np.fft.rfft(middle * np.hanning(16000)))) == pytest.approx(hz, abs=2)
            assert np.sqrt(2) * middle.std() == pytest.approx(8000, rel=0.15)

    def test_a_take_gives_what_is_ready(self) -> None:
        call = Call()
        call.pass_time(100)
        assert call.recorder.seconds <= 2.0 - DELAY_SECONDS
        call.finish()
        assert call.recorder.seconds == pytest.approx(2.0)

    @pytest.mark.parametrize(("pause", "limit_ms"), [("dtx", 0.5), ("hold", 0.5), ("other source", 10)])
    def test_both_sides_stay_together_after_a_pause(self, pause: str, limit_ms: float) -> None:
        """Of 20 s, in which the clock stands in for the far end; twice. Both say something at the same moments."""
        bench = Bench()
        recorder = Listening(8000, bench.now)
        bench.leg.listeners.use_tap(recorder, bench.now)
        taken = b""
        for number in range(60 * 50):
            second, packet = divmod(number, 50)
            bench.now += 0.02
            click = packet == 25 and second % 20 in (2, 12, 13, 16, 19)
            if click:
                bench.leg.downlink.push(b"\x80" * 160, "r", f"{number}")
            bench.leg.next_packet(bench.now)
            silent = 20 <= second < 30 or 40 <= second < 52
            if silent and pause == "hold" and packet == 0 and second in (20, 40):
                bench.leg.update(replace(PARAMS, direction="inactive"), bench.now)
            if not silent and packet == 0 and second in (30, 52):
                bench.leg.update(PARAMS, bench.now)
                if pause == "other source":
                    bench.number, bench.timestamp = 7 + second, 12345
            if silent:
                bench.timestamp += 160
            else:
                ssrc = second // 10 if pause == "other source" and second >= 30 else 1
                bench.say(b"\x80" * 160 if click else b"\xff" * 160, ssrc=9 if ssrc in (3, 4) else ssrc)
            bench.leg.advance(bench.now, bench.events)
            chunk = bench.leg.uplink.take()
            if chunk:
                bench.leg.listeners.tell(chunk, bench.now)
            if number % 15 == 0:
                taken += recorder.take(bench.now)
        far, ours = sides(taken + recorder.finish(bench.now))
        left, right = clicks(far), clicks(ours)
        gaps = [int(np.abs(right - place).min()) / 8 for place in left]
        assert len(left) >= 8
        assert max(gaps) - min(gaps) < limit_ms, gaps
