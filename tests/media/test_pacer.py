"""The ring of agent speech: what is heard, what is counted, what a barge-in leaves."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from sipbridge.audio import PCM_8K, PCMA, PCMU, AudioFormat, Played
from sipbridge.codecs import lookup
from sipbridge.media.cushion import LEAST_MS
from sipbridge.media.pacer import Pacer

FRAME = 160  # 20 ms of G.711


def speech(ms: int, first: int = 0) -> bytes:
    """G.711 octets that tell their place: byte n is n modulo 101, none of them silence in either law."""
    return bytes((first * 8 + n) % 101 for n in range(ms * 8))


def pcm(octets: bytes, audio_format: AudioFormat) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    codec = lookup(audio_format.encoding)
    data = codec.new_decoder().decode(octets) if codec else octets
    return np.frombuffer(data, "<i2")


def frames(pacer: Pacer, count: int) -> list[bytes | None]:
    return [pacer.next_frame(FRAME) for _ in range(count)]


def test_nothing_pushed_is_no_sound() -> None:
    pacer = Pacer(PCMU)
    assert frames(pacer, 3) == [None, None, None]
    assert pacer.position() == ()
    assert pacer.underruns == 0


@pytest.mark.parametrize("piece_ms", [1, 7, 20, 33, 100, 400])
def test_any_pieces_make_one_stream(piece_ms: int) -> None:
    pacer = Pacer(PCMU)
    for start in range(0, 400, piece_ms):
        pacer.push(speech(min(piece_ms, 400 - start), start), "r", "i")
    pacer.finish("i")
    assert b"".join(frame or b"" for frame in frames(pacer, 20)) == speech(400)
    assert pacer.next_frame(FRAME) is None


def test_items_of_a_reply_follow_without_a_gap() -> None:
    pacer = Pacer(PCMU)
    pacer.push(speech(30), "r", "one")
    pacer.finish("one")
    pacer.push(speech(30, 30), "r", "two")
    pacer.finish("two")
    assert b"".join(frame or b"" for frame in frames(pacer, 3)) == speech(60)


@pytest.mark.parametrize(("audio_format", "silence"), [(PCMU, b"\xff"), (PCMA, b"\xd5"), (PCM_8K, b"\x00\x00")])
def test_the_last_frame_is_padded_with_silence(audio_format: AudioFormat, silence: bytes) -> None:
    pacer = Pacer(audio_format)
    sound = speech(5)[: 5 * 8] * audio_format.bytes_per_sample
    pacer.push(sound, "r", "i")
    pacer.finish("i")
    size = 20 * audio_format.bytes_per_ms
    assert pacer.next_frame(size) == sound + silence * (8 * 15)
    assert pacer.next_frame(size) is None


def test_minutes_fit_and_cost_nothing_to_append() -> None:
    pacer = Pacer(PCMU)
    for start in range(0, 600_000, 100):
        pacer.push(speech(100, start), "r", "i")
    assert pacer.buffered == 600_000 * 8
    assert pacer.next_frame(FRAME) == speech(20)
    assert pacer.discard() == (Played("r", "i", 30),)  # the fade of 10 ms was heard, too


class TestDrained:
    def test_once_with_the_last_frame(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(50), "r", "i")
        pacer.finish("i")
        seen = []
        for _ in range(5):
            pacer.next_frame(FRAME)
            seen.append(pacer.take_drained())
        assert [list(ids) for ids in seen] == [[], [], ["i"], [], []]
        pacer.finish("i")
        assert not pacer.take_drained()

    def test_a_frame_that_ends_exactly_with_the_item(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(40), "r", "i")
        pacer.finish("i")
        pacer.next_frame(FRAME)
        assert not pacer.take_drained()
        pacer.next_frame(FRAME)
        assert pacer.take_drained() == ["i"]
        assert pacer.underruns == 0

    def test_finish_after_all_was_heard(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(20), "r", "i")
        pacer.next_frame(FRAME)
        assert not pacer.take_drained()
        pacer.finish("i")
        assert pacer.take_drained() == ["i"]

    def test_two_items_that_end_in_one_frame(self) -> None:
        pacer = Pacer(PCMU)
        for item in ("one", "two"):
            pacer.push(speech(8), "r", item)
            pacer.finish(item)
        pacer.next_frame(FRAME)
        assert pacer.take_drained() == ["one", "two"]

    def test_an_item_without_audio_is_drained_when_it_is_finished(self) -> None:
        pacer = Pacer(PCMU)
        pacer.finish("text only")
        pacer.push(b"", "r", "empty")
        pacer.finish("empty")
        assert pacer.take_drained() == ["text only", "empty"]
        pacer.finish("text only")
        assert not pacer.take_drained()

    def test_a_discarded_item_is_never_drained(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(100), "r", "i")
        pacer.discard()
        pacer.finish("i")
        assert not pacer.take_drained()

    def test_an_item_id_that_comes_back_in_another_reply(self) -> None:
        pacer = Pacer(PCMU)
        for reply in ("a", "b"):
            pacer.push(speech(20), reply, "item")
            pacer.finish("item")
            pacer.next_frame(FRAME)
            assert pacer.take_drained() == ["item"]


class TestUnderrun:
    def test_counted_once_and_the_item_goes_on(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(30), "r", "i")
        sound = frames(pacer, 4)
        assert sound[1] is not None
        assert sound[1][:80] == speech(10, 20)
        assert sound[1][80:] != speech(10, 30)
        assert sound[2:] == [None, None]
        assert pacer.underruns == 1
        pacer.push(speech(60, 30), "r", "i")
        frame = next(filter(None, frames(pacer, 4)))
        assert frame[80:] == speech(10, 40)
        assert pacer.position() == (Played("r", "i", 70),)

    def test_an_empty_ring_is_none_while_audio_comes_in_time(self) -> None:
        pacer = Pacer(PCMU)
        for start in range(0, 100, 20):
            pacer.push(speech(20, start), "r", "i")
            assert pacer.next_frame(FRAME) == speech(20, start)
        assert pacer.underruns == 0

    def test_the_end_of_an_item_is_none_and_as_it_was_made(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(30), "r", "i")
        pacer.finish("i")
        assert frames(pacer, 4) == [speech(20), speech(10, 20) + b"\xff" * 80, None, None]
        assert pacer.underruns == 0

    @pytest.mark.parametrize("audio_format", [PCMU, PCMA, PCM_8K])
    @pytest.mark.parametrize("ms", [20, 21, 25, 30, 38, 39.875, 40])
    def test_no_click_wherever_it_stops_and_goes_on(self, audio_format: AudioFormat, ms: float) -> None:
        """A loud low tone: its own steps are small, a cut through it is none."""
        codec = lookup(audio_format.encoding)
        tone = np.rint(12000 * np.cos(2 * np.pi * 100 * np.arange(8 * 200) / 8000)).astype("<i2").tobytes()
        sound = codec.new_encoder().encode(tone) if codec else tone
        cut = int(ms * audio_format.bytes_per_ms)
        size = 20 * audio_format.bytes_per_ms
        pacer = Pacer(audio_format)
        pacer.push(sound[:cut], "r", "i")
        heard = [pacer.next_frame(size) for _ in range(4)]
        pacer.push(sound[cut:], "r", "i")
        heard += [pacer.next_frame(size) for _ in range(4)]
        silence = audio_format.silence * 160
        samples = pcm(b"".join(frame or silence for frame in heard), audio_format).astype(int)
        assert np.abs(samples).max() > 11000
        assert np.abs(np.diff(samples)).max() < 2500  # the tone's own steps are under 950, G.711 rounds by up to 512
        fading = samples[int(8 * ms) :][:80]
        assert np.abs(fading[-4:]).max() < 1500
        assert np.abs(samples[int(8 * ms) + 81 : 8 * 80]).max() <= 8
        assert pacer.underruns == 1

    def test_barge_in_where_the_ring_is_just_empty_is_no_click_either(self) -> None:
        pacer = Pacer(PCM_8K)
        pacer.push(np.full(160, 9000, "<i2").tobytes(), "r", "i")
        pacer.next_frame(320)
        assert pacer.discard() == (Played("r", "i", 20),)
        frame = pacer.next_frame(320)
        assert frame is not None
        level = pcm(frame, PCM_8K).astype(int)
        assert level[0] > 8500
        assert np.abs(np.diff(level)).max() < 200
        assert not level[80:].any()


class RealTime:
    """A model that speaks as it goes: pieces that should come every `piece_ms`, and a clock of 5 ms for both."""

    def __init__(self, piece_ms: int) -> None:
        self.pacer = Pacer(PCMU)
        self.piece_ms = piece_ms
        self.frames: list[bytes | None] = []
        self.now = 0

    def say(self, late_ms: Sequence[int], item: str = "i") -> None:
        """So many pieces, each late by so much; played until all is heard, and then a pause."""
        arrivals = [self.now + n * self.piece_ms + late for n, late in enumerate(late_ms)]
        first = self.now
        while self.now <= arrivals[-1] or self.pacer.buffered:
            for n, arrival in enumerate(arrivals):
                if arrival == self.now:
                    self.pacer.push(speech(self.piece_ms, n * self.piece_ms), "r", item)
                    if n == len(arrivals) - 1:
                        self.pacer.finish(item)
            if (self.now - first) % 20 == 0:
                self.frames.append(self.pacer.next_frame(FRAME))
            self.now += 5
        self.now += 100 - self.now % 20
        self.frames += [self.pacer.next_frame(FRAME) for _ in range(4)]


class TestCushion:
    def test_a_burst_begins_with_its_first_piece(self) -> None:
        pacer = Pacer(PCMU)
        for reply in range(5):
            pacer.push(speech(20), "r", f"i{reply}")
            assert pacer.ready
            pacer.push(speech(980, 20), "r", f"i{reply}")
            pacer.finish(f"i{reply}")
            assert all(frames(pacer, 50))
            assert frames(pacer, 3) == [None] * 3
        assert pacer.cushion.ms == pacer.underruns == 0

    @pytest.mark.parametrize("piece_ms", [20, 40, 100])
    def test_after_an_underrun_10_to_40_ms_are_gathered(self, piece_ms: int) -> None:
        model = RealTime(piece_ms)
        model.say([0] * 5 + [25] + [0] * 20)
        assert model.pacer.underruns == 1
        assert 10 <= model.pacer.cushion.ms <= 40
        heard = [frame is not None for frame in model.frames[:-4]]
        assert 1 <= heard.count(False) <= 3

    def test_the_next_item_begins_with_what_has_been_learned(self) -> None:
        model = RealTime(20)
        model.say([0] * 5 + [35] + [0] * 20)
        once = model.pacer.underruns
        for n in range(10):
            model.say([0, 15, 0, 15, 0, 15, 0], f"again {n}")
        assert model.pacer.underruns == once == 1

    def test_what_comes_after_a_hole_in_one_go_does_not_wait(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(40), "r", "i")
        frames(pacer, 5)
        pacer.push(speech(20, 40), "r", "i")
        assert not pacer.ready
        pacer.push(speech(100, 60), "r", "i")
        assert pacer.ready
        assert pacer.next_frame(FRAME) is not None

    def test_it_has_a_bound_and_is_given_back(self) -> None:
        chance = random.Random(1)
        model = RealTime(20)
        for n in range(40):
            model.say([chance.choice((0, 0, 0, 60)) for _ in range(20)], f"i{n}")
        most = model.pacer.cushion.ms
        assert 40 <= most <= 120
        for n in range(120):
            model.say([0] * 50, f"calm {n}")
        assert model.pacer.cushion.ms == 0

    def test_a_model_that_is_ahead_after_all_has_none(self) -> None:
        model = RealTime(20)
        model.say([0] * 5 + [35] + [0] * 20)
        assert model.pacer.cushion.ms
        model.pacer.push(speech(600), "r", "burst")
        assert model.pacer.cushion.ms == 0

    def test_a_long_silence_of_the_model_teaches_no_more_than_the_least(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(40), "r", "i")
        frames(pacer, 200)
        pacer.push(speech(40, 40), "r", "i")
        assert pacer.cushion.ms == LEAST_MS

    def test_the_end_of_an_item_is_no_hole(self) -> None:
        pacer = Pacer(PCMU)
        for n in range(5):
            pacer.push(speech(40), "r", f"i{n}")
            frames(pacer, 5)
            pacer.finish(f"i{n}")  # late, as where the model says so only then
        assert pacer.cushion.ms == 0

    def test_pause_and_discard_while_it_gathers(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(40), "r", "i")
        frames(pacer, 4)
        pacer.push(speech(20, 40), "r", "i")
        assert pacer.next_frame(FRAME) is None
        pacer.pause()
        assert pacer.discard() == (Played("r", "i", 40),)
        pacer.push(speech(20), "r", "j")
        pacer.finish("j")
        assert pacer.next_frame(FRAME) == speech(20)


class TestPause:
    @pytest.mark.parametrize("audio_format", [PCMU, PCMA, PCM_8K])
    def test_fades_out_within_10_ms_then_silence(self, audio_format: AudioFormat) -> None:
        loud = np.full(8 * 100, 8000, "<i2").tobytes()
        codec = lookup(audio_format.encoding)
        pacer = Pacer(audio_format)
        pacer.push(codec.new_encoder().encode(loud) if codec else loud, "r", "i")
        size = 20 * audio_format.bytes_per_ms
        pacer.next_frame(size)
        pacer.pause()
        frame = pacer.next_frame(size)
        assert frame is not None
        level = np.abs(pcm(frame, audio_format).astype(int))
        assert level[0] > 7000
        assert np.all(np.diff(level[:80]) <= 0)
        assert level[79] < 300
        assert np.all(level[80:] <= 8)  # A-law has no zero
        assert [pacer.next_frame(size) for _ in range(3)] == [None] * 3
        assert pacer.position() == (Played("r", "i", 30),)

    def test_resume_goes_on_where_it_stopped(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(200), "r", "i")
        pacer.next_frame(FRAME)
        pacer.pause()
        frames(pacer, 3)
        pacer.resume()
        frame = pacer.next_frame(FRAME)
        assert frame is not None
        assert frame[80:] == speech(10, 30)  # before it the 10 ms that had faded out, fading in
        assert np.abs(pcm(frame[:8], PCMU).astype(int)).max() < np.abs(pcm(speech(1, 20), PCMU).astype(int)).max()
        assert pacer.next_frame(FRAME) == speech(20, 40)
        assert pacer.position() == (Played("r", "i", 60),)  # what was repeated counts once

    def test_pause_and_resume_before_the_next_frame_change_nothing(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(100), "r", "i")
        pacer.next_frame(FRAME)
        pacer.pause()
        pacer.resume()
        assert pacer.next_frame(FRAME) == speech(20, 20)

    def test_before_the_first_frame_nothing_is_heard(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(100), "r", "i")
        pacer.pause()
        assert frames(pacer, 2) == [None, None]
        assert pacer.position() == (Played("r", "i", 0),)
        pacer.resume()
        assert pacer.next_frame(FRAME) == speech(20)

    def test_what_is_pushed_meanwhile_waits(self) -> None:
        pacer = Pacer(PCMU)
        pacer.pause()
        pacer.push(speech(20), "r", "i")
        assert pacer.paused
        assert pacer.next_frame(FRAME) is None
        pacer.resume()
        assert pacer.next_frame(FRAME) == speech(20)

    def test_an_item_that_ends_within_the_fade_is_drained(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(25), "r", "i")
        pacer.finish("i")
        pacer.next_frame(FRAME)
        pacer.pause()
        assert pacer.next_frame(FRAME) is not None
        assert pacer.take_drained() == ["i"]
        pacer.resume()
        assert pacer.next_frame(FRAME) is None
        assert not pacer.take_drained()

    def test_finish_while_all_that_came_has_faded_out(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(25), "r", "i")
        pacer.next_frame(FRAME)
        pacer.pause()
        pacer.next_frame(FRAME)
        pacer.finish("i")
        assert pacer.take_drained() == ["i"]
        pacer.resume()
        assert pacer.next_frame(FRAME) is None

    @pytest.mark.parametrize("paused_frames", [1, 2, 5])
    def test_again_and_again_loses_and_repeats_nothing_of_the_count(self, paused_frames: int) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(1000), "r", "i")
        pacer.finish("i")
        drained: list[str] = []
        for _ in range(100):
            pacer.next_frame(FRAME)
            drained += pacer.take_drained()
            pacer.pause()
            frames(pacer, paused_frames)
            drained += pacer.take_drained()
            pacer.resume()
        assert drained == ["i"]
        assert pacer.buffered == 0


class TestDiscard:
    def test_reports_every_item_that_is_not_drained(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(20), "r", "drained")
        pacer.finish("drained")
        pacer.push(speech(20), "r", "heard, its end unknown")
        pacer.push(speech(100), "r", "half")
        pacer.finish("half")
        pacer.push(speech(100), "r", "queued")
        frames(pacer, 4)
        expected = (
            Played("r", "heard, its end unknown", 20),
            Played("r", "half", 40),
            Played("r", "queued", 0),
        )
        assert pacer.position() == expected
        assert pacer.discard() == (expected[0], Played("r", "half", 50), expected[2])
        assert pacer.position() == ()
        assert pacer.discard() == ()

    def test_the_next_frame_is_the_fade_and_then_silence(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(500), "r", "i")
        frames(pacer, 2)
        pacer.pause()
        assert pacer.discard() == (Played("r", "i", 50),)
        assert pacer.buffered == 0
        fade = pacer.next_frame(FRAME)
        assert fade is not None
        assert fade[80:] == b"\xff" * 80
        assert frames(pacer, 2) == [None, None]

    def test_after_the_fade_of_a_pause_nothing_more_is_heard(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(500), "r", "i")
        frames(pacer, 2)
        pacer.pause()
        frames(pacer, 2)
        assert pacer.discard() == (Played("r", "i", 50),)
        assert pacer.next_frame(FRAME) is None

    def test_the_next_reply_follows_the_fade_at_once(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(500), "old", "i")
        pacer.next_frame(FRAME)
        pacer.pause()
        pacer.discard()
        pacer.push(speech(100, 500), "new", "j")
        frame = pacer.next_frame(FRAME)
        assert frame is not None
        assert frame[80:] == speech(10, 500)
        assert pacer.next_frame(FRAME) == speech(20, 510)
        assert pacer.position() == (Played("new", "j", 30),)

    def test_never_more_than_was_pushed(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(24)[:-3], "r", "i")
        pacer.push_tail(speech(2))  # the filter's tail is heard, but it is no more of the item
        frames(pacer, 5)
        assert pacer.position() == (Played("r", "i", 23),)

    def test_the_tail_belongs_to_what_must_be_sent_before_drained(self) -> None:
        pacer = Pacer(PCMU)
        pacer.push(speech(20), "r", "i")
        pacer.push_tail(speech(2, 20))
        pacer.finish("i")
        assert pacer.ending
        pacer.next_frame(FRAME)
        assert not pacer.take_drained()
        assert pacer.next_frame(FRAME) == speech(2, 20) + b"\xff" * 144
        assert pacer.take_drained() == ["i"]


def test_no_fade_when_it_is_set_to_0() -> None:
    pacer = Pacer(PCMU, fade_ms=0)
    pacer.push(speech(100), "r", "i")
    pacer.next_frame(FRAME)
    pacer.pause()
    assert pacer.next_frame(FRAME) is None
    assert pacer.discard() == (Played("r", "i", 20),)


def test_another_codec_keeps_what_waits_and_what_was_heard() -> None:
    pacer = Pacer(PCMU)
    pacer.push(speech(100), "r", "i")
    pacer.push(speech(100, 100), "r", "j")
    pacer.next_frame(FRAME)
    decode = lookup("pcmu")
    assert decode is not None
    pacer.convert(PCM_8K, decode.new_decoder().decode)
    assert pacer.position() == (Played("r", "i", 20), Played("r", "j", 0))
    assert pacer.next_frame(320) == decode.new_decoder().decode(speech(20, 20))
    for _ in range(7):
        pacer.next_frame(320)
    assert pacer.position() == (Played("r", "i", 100), Played("r", "j", 80))
