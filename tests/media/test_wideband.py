"""Legs that speak something better than G.711: what reaches the agent and the caller, by FFT and by PESQ; a change of
codec in mid-call; keys beside a clock of 48000."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bench.listening import SENTENCES, ListeningError, Sound, pesq, speech
from sipbridge.audio import PCM_16K, PCM_24K, AudioFormat, Played
from sipbridge.codecs import G722, L16_8K, L16_16K, OPUS, PCMA, PCMU, Codec
from sipbridge.media.dtmf import key_packets
from sipbridge.media.events import KeyPressed
from sipbridge.media.params import MediaParams
from sipbridge.media.resample import Resampler
from sipbridge.media.rtp import RtpPacket
from tests.interop.peers import LAB
from tests.media.impairments import Network, Receiver, packets_of
from tests.media.test_leg import PHONE, Bench, spectrum, tone

pytestmark = pytest.mark.skipif(not (OPUS.load() and G722.load()), reason="not all codecs are there")

WIDE = [G722, OPUS, L16_16K]
FEC = {"useinbandfec": "1"}


def name(codec: object) -> str:
    return codec.name if isinstance(codec, Codec) else str(codec)


def params(codec: Codec, *, uplink: AudioFormat = PCM_16K, downlink: AudioFormat = PCM_24K) -> MediaParams:
    number = 96 if codec.static_payload_type is None else codec.static_payload_type
    return MediaParams(
        codec,
        PHONE,
        payload_type_send=number,
        payload_type_receive=number,
        event_payload_type_send=101,
        event_payload_type_receive=101,
        uplink=uplink,
        downlink=downlink,
    )


@cache
def spoken(rate: int, number: int = 1) -> Sound:
    """Skips without speaker or listener; fails in continuous integration, where both have to be there."""
    program = LAB / "bin" / "espeak-ng"
    voice, text = SENTENCES[number]
    try:
        sound = speech(voice, text, rate=rate, program=str(program) if program.exists() else "espeak-ng")
        pesq(sound, sound, rate=rate if rate < 24000 else 16000)
    except ListeningError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return sound


def samples(pcm: bytes) -> Sound:
    return np.frombuffer(pcm, "<i2").astype(np.int16)


def at(sound: Sound, rate: int, target: int) -> Sound:
    """At another rate, the filter's delay taken off."""
    resampler = Resampler(rate, target)
    delay = round(resampler.delay_ms * target / 1000)
    return samples(resampler.process(sound.astype("<i2").tobytes()) + resampler.flush())[delay:]


def payloads_of(codec: Codec, sound: Sound, rate: int, parameters: dict[str, str] | None = None) -> list[bytes]:
    encoder, size, pcm = codec.new_encoder(parameters or {}, rate), rate // 25, sound.astype("<i2").tobytes()
    return [encoder.encode(pcm[start : start + size]) for start in range(0, len(pcm) // size * size, size)]


def decoded(codec: Codec, payloads: list[bytes], rate: int) -> Sound:
    decoder = codec.new_decoder(rate)
    return samples(b"".join(map(decoder.decode, payloads)))


def heard(codec: Codec, payloads: list[bytes], uplink: AudioFormat, network: Network | None = None) -> Sound:
    """What the agent gets of these packets."""
    settings = params(codec, uplink=uplink)
    receiver = Receiver(replace(settings, remote=Receiver.SOURCE))
    packets = packets_of(payloads, codec.ticks(20), payload_type=settings.payload_type_receive)
    arrivals = (network or Network()).arrivals(len(payloads), 0.02)
    return samples(receiver.run(packets, arrivals, len(payloads) * 0.02 + 0.2))


def said(codec: Codec, sound: Sound, parameters: dict[str, str] | None = None) -> list[bytes]:
    """What a caller gets of an agent's speech at 24 kHz."""
    bench = Bench(replace(params(codec), parameters_send=parameters or {}))
    pcm = sound.astype("<i2").tobytes()
    for start in range(0, len(pcm), 4800):
        bench.leg.downlink.push(pcm[start : start + 4800], "r", "i")
    bench.leg.downlink.finish("i")
    bench.tick(len(sound) // 480 + 1)
    return bench.payloads()


# What a line of 8 kHz could not carry.


@pytest.mark.parametrize("uplink", [PCM_16K, PCM_24K], ids=lambda audio: str(audio.rate))
@pytest.mark.parametrize("hertz", [5000, 6800])
@pytest.mark.parametrize("codec", WIDE, ids=name)
def test_the_agent_hears_high_tones(codec: Codec, hertz: int, uplink: AudioFormat) -> None:
    wave = samples(tone(hertz, 1000, 16000))
    found = heard(codec, payloads_of(codec, wave, 16000), uplink)
    frequency, level = spectrum(found[uplink.rate // 4 : uplink.rate * 3 // 4].tobytes(), uplink.rate)
    assert frequency == pytest.approx(hertz, abs=4)
    assert level == pytest.approx(8000, rel=0.12)


@pytest.mark.parametrize("hertz", [5000, 6800])
@pytest.mark.parametrize("codec", WIDE, ids=name)
def test_the_caller_hears_high_tones(codec: Codec, hertz: int) -> None:
    found = decoded(codec, said(codec, samples(tone(hertz, 1000, 24000))), 16000)
    frequency, level = spectrum(found[4000:12000].tobytes(), 16000)
    assert frequency == pytest.approx(hertz, abs=4)
    assert level == pytest.approx(8000, rel=0.12)


@pytest.mark.parametrize(
    ("codec", "payload"),
    [(OPUS, bytes((15 << 3 | 3, 6)) + bytes(range(200)) * 6), (G722, bytes(2000))],
    ids=["opus", "G722"],
)
def test_what_comes_faster_than_time_passes_is_not_even_decoded(
    codec: Codec, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To decode 100 ms takes 100 us: whoever sends thousands of them a second would be all that we hear."""
    settings = params(codec)
    bench, ticks = Bench(settings), codec.duration(payload)
    bench.receive(RtpPacket(settings.payload_type_receive, 0, 0, 1, payload))
    decoder = bench.leg.uplink._decoder
    assert decoder is not None
    decode, decoded = decoder.decode, [payload]

    def count(payload: bytes) -> bytes:
        decoded.append(payload)
        return decode(payload)

    monkeypatch.setattr(decoder, "decode", count)
    for index in range(1, 1000):
        bench.receive(RtpPacket(settings.payload_type_receive, index, index * ticks & 0xFFFFFFFF, 1, payload))
    assert len(decoded) <= codec.clock_rate // ticks
    assert bench.leg.stats().skipped_ms == pytest.approx((1000 - len(decoded)) * ticks * 1000 / codec.clock_rate, abs=1)


# What speech loses beyond what the codec takes.


@pytest.mark.parametrize("codec", WIDE, ids=name)
def test_speech_to_the_agent_is_as_good_as_the_bare_codec(codec: Codec) -> None:
    sound = spoken(16000)
    payloads = payloads_of(codec, sound, 16000)
    bare = pesq(sound, decoded(codec, payloads, 16000), rate=16000, wideband=True)
    assert pesq(sound, heard(codec, payloads, PCM_16K), rate=16000, wideband=True) >= bare - 0.1
    wide = at(heard(codec, payloads, PCM_24K), 24000, 16000)
    assert pesq(sound, wide, rate=16000, wideband=True) >= bare - 0.1


@pytest.mark.parametrize("codec", WIDE, ids=name)
def test_speech_to_the_caller_is_as_good_as_the_bare_codec(codec: Codec) -> None:
    sound = spoken(24000)
    reference = at(sound, 24000, 16000)
    rate = 24000 if codec is OPUS else 16000
    bare = decoded(codec, payloads_of(codec, sound if rate == 24000 else reference, rate), 16000)
    best = pesq(reference, bare, rate=16000, wideband=True)
    assert pesq(reference, decoded(codec, said(codec, sound), 16000), rate=16000, wideband=True) >= best - 0.1


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=name)
def test_narrowband_speech_is_as_good_as_one_pass_of_g711(codec: Codec) -> None:
    sound = spoken(8000)
    payloads = payloads_of(codec, sound, 8000)
    once = pesq(sound, decoded(codec, payloads, 8000))
    for uplink in (PCM_16K, PCM_24K):
        assert pesq(sound, at(heard(codec, payloads, uplink), uplink.rate, 8000)) >= once - 0.1
    assert pesq(sound, decoded(codec, said(codec, at(sound, 8000, 24000)), 8000)) >= once - 0.1


def test_what_opus_loses_on_the_way_is_recovered() -> None:
    """In-band FEC and concealment of the codec, through the whole leg: against silence, and against no FEC."""
    sound = spoken(16000)
    network = Network(loss=0.05, seed=3)

    def score(parameters: dict[str, str]) -> float:
        found = heard(OPUS, payloads_of(OPUS, sound, 16000, parameters), PCM_16K, network)
        return pesq(sound, found, rate=16000, wideband=True)

    payloads = payloads_of(OPUS, sound, 16000, FEC)
    left_out = decoded(OPUS, payloads, 16000).copy()
    for number, lost in enumerate(network.losses(len(payloads))):
        if lost:
            left_out[number * 320 : (number + 1) * 320] = 0
    silent = pesq(sound, left_out, rate=16000, wideband=True)
    assert score(FEC) > score({}) + 0.1
    assert score({}) > silent + 0.25


# In mid-call.


def test_from_pcmu_to_opus_and_back_no_word_is_lost() -> None:
    bench = Bench(params(PCMU))
    bench.leg.downlink.push(tone(500, 600, 24000), "r", "i")
    bench.leg.downlink.finish("i")
    for codec in (PCMU, OPUS, PCMU):
        bench.leg.update(params(codec), bench.now)
        bench.tick(10)
    bench.tick(1)
    assert [packet.payload_type for packet in bench.sent] == [0] * 10 + [96] * 10 + [0] * 11
    assert bench.leg.downlink.pacer.position() == ()
    for codec, part in ((PCMU, slice(0, 10)), (OPUS, slice(10, 20)), (PCMU, slice(20, 29))):
        sound = decoded(codec, bench.payloads()[part], 8000)[480:]
        frequency, level = spectrum(sound.tobytes(), 8000)
        assert frequency == pytest.approx(500, abs=8)
        assert level == pytest.approx(8000, rel=0.1)
    steps = {
        (later.timestamp - earlier.timestamp) & 0xFFFFFFFF
        for earlier, later in zip(bench.sent, bench.sent[1:], strict=False)
    }
    assert steps == {160, 960}


def test_positions_are_milliseconds_whatever_the_codec() -> None:
    bench = Bench(params(OPUS))
    bench.leg.downlink.push(tone(500, 600, 24000), "r", "i")
    bench.tick(10)
    bench.leg.update(params(G722), bench.now)
    bench.tick(5)
    assert bench.leg.downlink.discard() == (Played("r", "i", 310),), "with the fade of 10 ms"


def test_an_unchanged_codec_keeps_its_coders() -> None:
    """A re-INVITE that holds and resumes must not click."""
    through, apart = Bench(params(G722)), Bench(params(G722))
    for bench in (through, apart):
        bench.leg.downlink.push(tone(500, 400, 24000), "r", "i")
        bench.tick(10)
    apart.leg.update(params(G722), apart.now)
    for bench in (through, apart):
        bench.tick(8)
    assert through.payloads() == apart.payloads()


# What is not sound.


@pytest.mark.parametrize(("event_rate", "step"), [(48000, 960), (8000, 160), (None, 960)])
def test_keys_beside_opus(event_rate: int | None, step: int) -> None:
    """Durations are in the events' clock, timestamps in the stream's: one for all of a press."""
    bench = Bench(replace(params(OPUS), event_clock_rate=event_rate))
    assert bench.leg.downlink.send_key("5")
    bench.tick(8)
    events = [packet for packet in bench.sent if packet.payload_type == 101]
    assert [int.from_bytes(packet.payload[2:]) for packet in events] == [step * n for n in (1, 2, 3, 4, 5, 5, 5)]
    assert len({packet.timestamp for packet in events}) == 1
    for packet in key_packets("7", clock_rate=event_rate or 48000):
        if packet is not None:
            bench.receive(RtpPacket(101, bench.number, bench.timestamp & 0xFFFFFFFF, 1, packet.payload, packet.marker))
        bench.number += 1
    assert [event.digit for event in bench.events if isinstance(event, KeyPressed)] == ["7"]


def test_a_long_press_whose_timestamp_runs_on_is_one_press() -> None:
    """Some senders let it, and with events at 8000 beside Opus it runs in the codec's clock."""
    bench = Bench(replace(params(OPUS), event_clock_rate=8000))
    for number in range(20):
        payload = bytes((5, 10)) + (160 * (number + 1)).to_bytes(2)
        bench.receive(RtpPacket(101, number, 960 * number, 1, payload, number == 0))
    assert [event.digit for event in bench.events if isinstance(event, KeyPressed)] == ["5"]


def test_nothing_is_sent_in_silence_to_who_wants_dtx() -> None:
    bench = Bench(replace(params(OPUS), parameters_send={"usedtx": "1"}))
    sent = [packet for _ in range(200) if (packet := bench.leg.next_packet(bench.now))]
    assert len(sent) < 60
    assert bench.leg.stats().packets_sent == len(sent)
    first, second = (RtpPacket.parse(packet) for packet in sent[-2:])
    assert (second.sequence_number - first.sequence_number) & 0xFFFF == 1
    assert (second.timestamp - first.timestamp) & 0xFFFFFFFF == 20 * 960
    assert second.marker is False
    bench.leg.downlink.push(tone(500, 200, 24000), "r", "i")
    assert RtpPacket.parse(bench.leg.next_packet(bench.now) or b"").marker


def test_what_the_sender_left_out_is_time_all_the_same() -> None:
    """DTX: timestamps jump, numbers do not."""
    payloads = payloads_of(OPUS, samples(tone(500, 1000, 16000)), 16000)
    bench = Bench(params(OPUS))
    for number, payload in enumerate(payloads):
        stamp = 960 * (number if number < 25 else number + 20)
        bench.now = 100 + stamp / 48000
        bench.receive(RtpPacket(96, number, stamp, 1, payload))
        bench.take()
    assert len(bench.heard) == 32 * 1400
    assert bench.leg.stats().lost == 0
    # The decoder makes the pause itself: it is as quiet as its background, not as the tone.
    assert np.abs(samples(bench.heard[32 * 600 : 32 * 890])).max() < 33  # -60 dB


def test_what_cannot_be_decoded_is_silence_and_counted() -> None:
    payloads = payloads_of(OPUS, samples(tone(500, 400, 16000)), 16000)
    bench = Bench(params(OPUS))
    broken = (b"\x4b\x41", b"", b"\x0b\x00")  # padding cut off; nothing at all; no frames
    for number, payload in enumerate((*payloads[:5], *broken, *payloads[8:])):
        bench.now += 0.02
        bench.receive(RtpPacket(96, number, 960 * number, 1, payload))
        bench.take()
    assert len(bench.heard) == 640 * 20
    assert bench.leg.stats().undecodable == 3
    for codec in (OPUS, G722, PCMU):
        bench.leg.update(params(codec), bench.now)
        assert bench.leg.stats().undecodable == 3


def test_linear_samples_at_8_khz() -> None:
    found = heard(L16_8K, payloads_of(L16_8K, samples(tone(1000, 500, 8000)), 8000), PCM_16K)
    assert spectrum(found[2000:6000].tobytes(), 16000) == pytest.approx((1000, 8000), rel=0.01)
