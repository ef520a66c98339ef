"""Wideband calls through everything: tones that a line of 8 kHz could not carry, from phone to model and back."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from sipbridge import codecs
from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import parse_expectations
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.house import house
from tests.loopback.sound import level_db, loudest, peak_hz, samples_of, tone

SAID_HZ, HEARD_HZ = 5_500.0, 6_500.0
SCRIPT = Script((Utterance(seconds=0.6, tone_hz=HEARD_HZ),))


@pytest.mark.parametrize("codec", ["opus", "G722", pytest.param("L16", marks=pytest.mark.slow)])
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
