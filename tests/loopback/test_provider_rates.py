"""Telephones and models of every rate: what the one says the other hears, with one conversion each way at most."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.audio import PCM_16K, PCM_24K, PCMU, AudioFormat
from sipbridge.media.convert import Converter
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import parse_expectations
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.callee import Callee
from tests.loopback.house import House, house
from tests.loopback.sound import ULAW, loudest, peak_hz, samples_of, tone

SAID_HZ, HEARD_HZ = 1_500.0, 2_500.0
SCRIPT = Script((Utterance(seconds=0.6, tone_hz=HEARD_HZ),))
GREETS = "agent: {greeting: Hello.}"
PHONES = [
    ("dashscope", "G722", PCM_16K, PCM_24K),
    ("xai", "G722", PCM_16K, PCM_16K),
    pytest.param("openai", "PCMU", PCMU, PCMU, marks=pytest.mark.slow),
    pytest.param("openai", "G722", PCM_24K, PCM_24K, marks=pytest.mark.slow),
    pytest.param("dashscope", "PCMU", PCM_16K, PCM_24K, marks=pytest.mark.slow),
    pytest.param("dashscope", "opus", PCM_16K, PCM_24K, marks=pytest.mark.slow),
    pytest.param("xai", "opus", PCM_24K, PCM_24K, marks=pytest.mark.slow),
]


def conversions(bench: House) -> list[Converter]:
    """Of the one leg that is up: towards the model, and from it."""
    (seat,) = bench.gateway._engine._seats.values()
    return [seat.leg.uplink.converter, seat.leg.downlink.converter]


def heard_by(session: bytes, audio: AudioFormat) -> float:
    samples = ULAW.decode(session) if audio is PCMU else samples_of(session[: len(session) & ~1])
    return peak_hz(loudest(samples, 0.2, audio.rate), audio.rate)


@pytest.mark.parametrize(("provider", "codec", "up", "down"), PHONES)
async def test_a_call(provider: str, codec: str, up: AudioFormat, down: AudioFormat, tmp_path: Path) -> None:
    if not codecs.select((codec,)):
        pytest.skip(f"no {codec} on this machine")
    said = tmp_path / "said.wav"
    with wave.open(str(said), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.round(tone(SAID_HZ, 0.6, rate=16000) * 32767).astype("<i2").tobytes())
    config = "media: {codecs: [opus, G722, PCMU]}"
    async with house(SCRIPT, tenant=GREETS, config=config, provider=provider) as bench:
        address = f"sip:agent@127.0.0.1:{bench.address()[1]}"
        expected = parse_expectations("answered,reply<1500")
        options = CallOptions(
            address, wav=said, record=tmp_path / "heard.wav", codecs=(codec,), turn_gap_s=0.3, expect=expected
        )
        report = await place_call(options)
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        session = await bench.session()
        assert session.violations == []
        assert heard_by(bytes(session.audio), up) == pytest.approx(SAID_HZ, abs=10)
    with wave.open(str(tmp_path / "heard.wav")) as file:
        rate = file.getframerate()
        heard = samples_of(file.readframes(file.getnframes()))
    assert peak_hz(loudest(heard, 0.2, rate), rate) == pytest.approx(HEARD_HZ, abs=10)


@pytest.mark.parametrize(("provider", "up", "down"), [("dashscope", PCM_16K, PCM_24K), ("xai", PCMU, PCMU)])
async def test_a_call_of_ours(provider: str, up: AudioFormat, down: AudioFormat) -> None:
    callee = await Callee.listen()
    config = (
        "trunks: [{name: pbx, sources: ['127.0.0.1'], "
        f"outbound: {{proxy: '{callee.trunk}', from: '+15550199', ping_seconds: 0}}}}]"
    )
    script = Script((Utterance(seconds=3, tone_hz=HEARD_HZ),), speed=0, vad_rms=1e9)
    async with house(script, tenant=GREETS, config=config, provider=provider, phones=[callee]) as bench:
        call = bench.gateway.dial("t", "+15550100", trunk="pbx")
        invite = await callee.expect("INVITE")
        session = await bench.session()
        await callee.answer(invite)
        await callee.audio.hear_sound(3, hz=HEARD_HZ)
        towards, back = conversions(bench)
        assert (towards.target, back.source) == (up, down)
        callee.audio.say(tone(SAID_HZ, 0.4))
        enough = len(session.audio) + 500 * up.bytes_per_ms
        await session.wait_until(lambda: len(session.audio) >= enough)
        assert heard_by(bytes(session.audio), up) == pytest.approx(SAID_HZ, abs=10)
        await callee.hang_up()
        await call.report()
        assert session.violations == []
