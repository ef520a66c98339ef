"""The soft phone that ships, against a gateway whose model is the one that ships for OpenAI's wire."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sipbridge.simulator.caller import CallOptions, place_call
from sipbridge.simulator.caller_report import parse_expectations
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.sip.tls import TlsSettings
from tests.loopback.house import House, house
from tests.loopback.sound import Samples, level_db, loudest, peak_hz, samples_of, tone
from tests.sip.certificates import Authority

SCRIPT = Script(tuple(Utterance(seconds=seconds, tone_hz=hz) for seconds, hz in ((0.3, 400), (2.0, 600), (0.3, 800))))
GREETING = "agent: {greeting: Hello.}"


def target(bench: House, transport: Literal["udp", "tcp"] = "udp") -> str:
    host, port = bench.address(transport)
    return f"sip:agent@{host}:{port};transport={transport}"


def write(path: Path, samples: Samples) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(("transport", "codec"), [("tcp", "PCMA"), pytest.param("udp", "PCMU", marks=pytest.mark.slow)])
async def test_a_conversation(transport: Literal["udp", "tcp"], codec: str, tmp_path: Path) -> None:
    async with house(SCRIPT, tenant=GREETING) as bench:
        report = await place_call(
            CallOptions(
                target(bench, transport),
                wav=write(tmp_path / "said.wav", tone(1000, 0.5)),
                record=tmp_path / "heard.wav",
                codecs=(codec,),
                barge_in=True,
                barge_in_after_s=0.4,
                turn_gap_s=0.3,
                expect=parse_expectations("answered,ringing,connect<1000,greeting<500,reply<800,flush<250"),
            )
        )
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        gateway_report = await bench.report()
        assert gateway_report.codec == codec
        assert (gateway_report.barge_ins, gateway_report.replies) == (1, 3)
        session = await bench.session()
        assert session.violations == []
        cut = await session.wait_for("conversation.item.truncate")
        assert 300 < cut["audio_end_ms"] < 1000
    with wave.open(str(tmp_path / "heard.wav")) as file:
        heard = samples_of(file.readframes(file.getnframes()))
    assert peak_hz(loudest(heard, 0.2)) == pytest.approx(600, abs=220), "one of the model's tones"
    assert level_db(loudest(heard, 0.2)) == pytest.approx(-13.5, abs=0.5)


async def test_a_key_and_the_agent_s_hang_up(tmp_path: Path) -> None:
    script = Script((Utterance(seconds=0.3),), tools={1: ToolUse("hang_up", spoken=True)})
    async with house(script, tenant=f"{GREETING}\ntools: {{hang_up: {{}}}}") as bench:
        report = await place_call(
            CallOptions(target(bench), dtmf="9", turn_gap_s=0.3, expect=parse_expectations("answered,key<2000,bye"))
        )
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        item = (await (await bench.session()).wait_for("conversation.item.create"))["item"]
        assert item["content"][0]["text"] == "The caller pressed 9."


async def test_a_call_that_is_not_answered() -> None:
    async with house(Script(fault=Fault("status", "401"))) as bench:
        report = await place_call(CallOptions(target(bench), expect=parse_expectations("ringing,480")))
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        assert not report.answered


@pytest.mark.parametrize("scheme", ["sip", "sips"])
async def test_a_call_over_tls(tmp_path: Path, scheme: str) -> None:
    issued = Authority(tmp_path).issue("localhost", "127.0.0.1")
    keys = f"certificate: {issued.certificate}, key: {issued.key}"
    config = f"sip: {{listen: ['tls://127.0.0.1:0'], tls: {{{keys}}}}}"
    async with house(SCRIPT, tenant=GREETING, config=config) as bench:
        port = bench.gateway.transport.address("tls")[1]
        uri = f"{scheme}:agent@localhost:{port}" + (";transport=tls" if scheme == "sip" else "")
        expect = parse_expectations("answered,ringing,greeting<500")
        report = await place_call(CallOptions(uri, seconds=0.8, expect=expect, tls=TlsSettings(ca=issued.ca)))
        assert report.ok, "\n".join([*map(str, report.timeline), *report.summary()])
        assert not (await place_call(CallOptions(uri, tls=TlsSettings()))).answered, "an authority nobody knows"
        await bench.report()
