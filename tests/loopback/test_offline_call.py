"""The first call that anybody makes: the soft phone calls a gateway whose model is the embedded one."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

from sipbridge.config import load_config
from sipbridge.gateway import Gateway
from sipbridge.simulator.caller import CallOptions, CallReport, place_call
from sipbridge.simulator.caller_report import parse_expectations
from sipbridge.tenant_source.directory import TenantDirectory
from tests.media.test_vad import silence, tone

CONFIG = """
sip: {listen: ["udp://127.0.0.1:0"]}
media: {address: 127.0.0.1, ports: 32000-32100, codecs: [PCMU, PCMA]}
tenants: {source: directory, directory: tenants}
"""
TENANT = """
match: {to: agent}
agent: {provider: offline, greeting: "One moment, please.", turn_detection: {type: server_vad, silence_ms: 300}}
tools: {hang_up: {}}
"""


def test_greeting_echo_barge_in_key_and_hang_up(tmp_path: Path) -> None:
    (tmp_path / "sipbridge.yaml").write_text(CONFIG)
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "demo.yaml").write_text(TENANT)
    sentence, heard = tmp_path / "sentence.wav", tmp_path / "heard.wav"
    with wave.open(str(sentence), "wb") as file:
        file.setsampwidth(2)
        file.setnchannels(1)
        file.setframerate(16000)
        file.writeframes(tone(1200, hertz=700) + silence(100))

    async def main() -> CallReport:
        config = load_config(tmp_path / "sipbridge.yaml")
        async with Gateway(config, TenantDirectory.load(config, tmp_path)) as gateway:
            _, (host, port) = gateway.transport.addresses[0]
            options = CallOptions(
                f"sip:agent@{host}:{port}",
                wav=sentence,
                record=heard,
                dtmf="#",
                barge_in=True,
                turn_gap_s=0.6,
                expect=parse_expectations("ringing,greeting<500,reply<700,flush<250,key<2000,bye"),
            )
            return await place_call(options)

    report = asyncio.run(main())
    assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
    assert report.timeline[-1].text.startswith("BYE received")
    assert "agent_hung_up" in report.timeline[-1].text
    with wave.open(str(heard)) as file:
        assert file.getnframes() / 8000 > 5
