"""A whole call over IPv6, with its sound: the soft phone that ships, the gateway, the model."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import parse_expectations
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.endpoints import needs_ipv6
from tests.loopback.house import house
from tests.loopback.sound import loudest, peak_hz, samples_of


@needs_ipv6
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_conversation(transport: str, tmp_path: Path) -> None:
    listen = "{sip: {listen: ['udp://[::1]:0', 'tcp://[::1]:0']}, media: {address: '::1'}}"
    script = Script((Utterance(seconds=0.5, tone_hz=600),))
    async with house(script, tenant="agent: {greeting: Hello.}", config=listen) as bench:
        _, port = bench.gateway.transport.address("udp" if transport == "udp" else "tcp")
        report = await place_call(
            CallOptions(
                f"sip:agent@[::1]:{port};transport={transport}",
                record=tmp_path / "heard.wav",
                seconds=1.0,
                expect=parse_expectations("answered,connect<1000,greeting<500"),
            )
        )
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        await bench.report()
    with wave.open(str(tmp_path / "heard.wav")) as file:
        heard = samples_of(file.readframes(file.getnframes()))
    assert peak_hz(loudest(heard, 0.2)) == pytest.approx(600, abs=20)
