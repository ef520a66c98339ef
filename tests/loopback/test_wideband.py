"""Wideband calls through everything: tones that a line of 8 kHz could not carry, from phone to model and back."""

from __future__ import annotations

import itertools
import wave
from pathlib import Path

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import parse_expectations
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.house import house
from tests.loopback.phone import describe
from tests.loopback.sound import level_db, loudest, peak_hz, samples_of, tone

SAID_HZ, HEARD_HZ = 5_500.0, 6_500.0
SCRIPT = Script((Utterance(seconds=0.6, tone_hz=HEARD_HZ),))


@pytest.mark.parametrize("codec", ["opus", *(pytest.param(codec, marks=pytest.mark.slow) for codec in ("G722", "L16"))])
async def test_what_is_above_4_khz_is_heard_on_both_sides(codec: str, tmp_path: Path) -> None:
    if not codecs.select((codec,)):
        pytest.skip(f"no {codec} on this machine")
    said = tmp_path / "said.wav"
    with wave.open(str(said), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.round(tone(SAID_HZ, 0.6, rate=16000) * 32767).astype("<i2").tobytes())
    config = "media: {codecs: [opus, G722, L16, PCMU]}"
    async with house(SCRIPT, tenant="agent: {greeting: Hello.}", config=config) as bench:
        report = await place_call(
            CallOptions(
                f"sip:agent@127.0.0.1:{bench.address()[1]}",
                wav=said,
                record=tmp_path / "heard.wav",
                codecs=("PCMU", codec),  # the gateway's order counts
                turn_gap_s=0.3,
                expect=parse_expectations("answered,reply<1500"),
            )
        )
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        assert (await bench.report()).codec == codec
        model = samples_of(bytes((await bench.session()).audio))
    middle = loudest(model, 0.2, 24000)
    assert peak_hz(middle, 24000) == pytest.approx(SAID_HZ, abs=10)
    assert level_db(middle) == pytest.approx(-12, abs=1)
    with wave.open(str(tmp_path / "heard.wav")) as file:
        assert file.getframerate() == 16000
        heard = samples_of(file.readframes(file.getnframes()))
    middle = loudest(heard, 0.2, 16000)
    assert peak_hz(middle, 16000) == pytest.approx(HEARD_HZ, abs=10)
    assert level_db(middle) == pytest.approx(-13.5, abs=1)


async def test_every_codec_in_one_call() -> None:
    """The far end changes it by re-INVITE, as a PBX does that connects its next leg: after each change both tones are
    there, in one stream of packets whose time goes on by the new codec's clock."""
    formats = {"opus": 96, "PCMU": 0, "G722": 9}
    if len(codecs.select(tuple(formats))) < len(formats):
        pytest.skip("not all codecs on this machine")
    script = Script((Utterance(seconds=60, tone_hz=700),), vad_rms=1e9, speed=0)
    config = "media: {codecs: [opus, G722, PCMU]}"
    async with house(script, tenant="agent: {greeting: Hello.}", config=config) as bench:
        phone = await bench.phone()
        ear = phone.audio

        def offer(codec: str, version: int) -> bytes:
            more = "a=rtpmap:96 opus/48000/2\r\n" if codec == "opus" else ""
            return describe(ear.address, formats=(formats[codec],), more=more, version=version)

        answered = await phone.call(offer("opus", 1))
        ear.hush()
        session = await bench.session()
        for version, name in enumerate(("opus", "PCMU", "G722", "opus", "G722", "PCMU"), 2):
            phone.reinvite(offer(name, version))
            answered = await phone.expect(200, "INVITE")
            phone.ack(answered)
            assert answered.media_lines[0].split()[3:] == [str(formats[name])]
            (codec,) = codecs.select((name,))
            encoder, decoder = codec.new_encoder(), codec.new_decoder()
            hertz = 500.0 + 100 * version
            said = np.round(tone(hertz, 0.6, rate=codec.sample_rate) * 32767).astype("<i2").tobytes()
            size = len(said) // 30
            start, heard = len(session.audio), b""
            for number in range(30):
                payload = encoder.encode(said[number * size : (number + 1) * size])
                ear.send_raw(ear.packet(payload, formats[name], number == 0, ear.sequence, ear.timestamp, ear.ssrc))
                ear.sequence = (ear.sequence + 1) & 0xFFFF
                ear.timestamp = (ear.timestamp + codec.ticks(20)) & 0xFFFFFFFF
                (packet,) = await ear.hear(1)
                heard += decoder.decode(packet.payload) if packet.payload_type == formats[name] and number > 1 else b""
            await session.wait_until(lambda start=start: len(session.audio) >= start + 24000)  # type: ignore[misc]
            middle = loudest(samples_of(bytes(session.audio[start : start + 28800])), 0.25, 24000)
            assert peak_hz(middle, 24000) == pytest.approx(hertz, abs=10), f"{name}: what the model heard"
            assert level_db(middle) == pytest.approx(-12, abs=1)
            middle = loudest(samples_of(heard), 0.25, codec.sample_rate)
            assert peak_hz(middle, codec.sample_rate) == pytest.approx(700, abs=10), f"{name}: what the phone heard"
            assert level_db(middle) == pytest.approx(-13.5, abs=1)
        numbers = [packet.sequence for packet in ear.packets]
        assert all((b - a) & 0xFFFF == 1 for a, b in itertools.pairwise(numbers))
        assert len({packet.ssrc for packet in ear.packets}) == 1
        assert bench.media.lost == 0
        await phone.hang_up()
