"""The model's side goes wrong, seen from the telephone: how soon a caller is told, and what outlives a session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Fault, Script, Utterance
from tests.loopback.house import House, house
from tests.loopback.sound import tone

GREETING = "agent: {greeting: Hello.}"


class Vendor:
    """Listens, and answers every request with this (None: never); notes when it did."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.asked_at = self.answered_at = 0.0
        self.url = ""
        self._done: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._done.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        self.asked_at = time.monotonic()
        if self._answer is not None:
            writer.write(self._answer)
            await writer.drain()
            self.answered_at = time.monotonic()
        else:
            await reader.read()
        writer.close()

    async def over(self) -> None:
        await asyncio.gather(*(task for task in self._done if task))


@asynccontextmanager
async def a_house_with(answer: bytes | None) -> AsyncIterator[tuple[House, Vendor]]:
    vendor = Vendor(answer)
    async with await asyncio.start_server(vendor.serve, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with house(url=lambda _: url) as bench:
            yield bench, vendor
        await vendor.over()


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "429 Too Many", "503 Busy"])
async def test_a_refusal_reaches_the_caller_within_half_a_second(status: str) -> None:
    async with a_house_with(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as (bench, vendor):
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert refused.at - vendor.answered_at < 0.5
        assert f"agent_not_ready: {status[:3]}" in refused["Reason"]
        report = await bench.report()
        assert report.ended is Ended.AGENT_NOT_READY
        assert f"HTTP {status[:3]}" in report.detail


async def test_a_port_where_nobody_listens_is_no_wait_either() -> None:
    async with house(url=lambda _: "ws://127.0.0.1:1/") as bench:
        phone = await bench.phone()
        began = time.monotonic()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert refused.at - began < 0.5
        assert "refused" in refused["Reason"]


async def test_a_silent_vendor_is_given_up_at_the_deadline() -> None:
    async with a_house_with(None) as (bench, vendor):
        phone = await bench.phone()
        began = time.monotonic()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert vendor.asked_at > began
        assert 0.9 < refused.at - began < 1.5, "connect_seconds is 1 here"
        assert "timeout" in refused["Reason"]
        assert bench.gateway.breaker.connects == {("openai", "timeout"): 1}


async def test_a_vendor_that_is_gone_is_not_asked_by_every_caller() -> None:
    async with house(Script(fault=Fault("status", "503"))) as bench:
        for count in range(1, 8):
            phone = await bench.phone()
            phone.invite()
            phone.ack_failure(await phone.expect(480))
            await bench.report(count)
        assert bench.model.refused == 5
        assert "breaker_open" in (await bench.report(7)).detail or "too often" in (await bench.report(7)).detail
        text = bench.gateway.metrics.render()
        assert 'sipbridge_provider_connects_total{provider="openai",result="503"} 5.0' in text
        assert 'sipbridge_provider_connects_total{provider="openai",result="breaker_open"} 2.0' in text
        server = urlsplit(bench.model.url).netloc
        assert f'sipbridge_provider_breaker_open{{host="{server}",provider="openai"}} 1.0' in text


async def test_a_call_outlives_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had come of the reply is heard, then a word of ours (here 900 Hz), then the model goes on."""

    def load(name: str, rate: int) -> bytes:
        assert name == "one-moment"
        return np.round(tone(900, 0.3, rate=rate) * 32767).astype("<i2").tobytes()

    monkeypatch.setattr("sipbridge.conversation.meanwhile.load_prompt", load)
    script = Script((Utterance(seconds=5, tone_hz=440),), fault=Fault("drop"))
    config = 'prices: {openai: {"*": {output_audio_tokens: 64}}}'
    async with house(script, tenant=GREETING, config=config) as bench:
        phone = await bench.phone()
        phone.invite()
        await bench.session()
        bench.model.script = Script((Utterance(seconds=0.4, tone_hz=600),), think_ms=700)
        ok = await phone.expect(200)
        phone.ack(ok)
        phone.audio.connect(ok.rtp)
        word = await phone.audio.hear_sound(14, hz=900)
        reply = await phone.audio.hear_sound(17, hz=600)
        assert reply[0].at > word[-1].at
        phone.audio.say(tone(1000, 0.3))
        await phone.audio.hear_sound(15, hz=600)
        await phone.hang_up()
        report = await bench.report()
        assert (report.ended, report.reconnects) == (Ended.CALLER_HUNG_UP, 1)
        assert report.usage["output_audio_tokens"] > 0
        assert report.cost_usd == pytest.approx(report.usage["output_audio_tokens"] * 64 / 1e6, abs=1e-6)
        for record in bench.model.sessions:
            assert record.violations == []


@pytest.mark.parametrize("provider", ["deepgram", "elevenlabs", "ultravox"])
async def test_who_charges_by_the_second_charges_to_the_end(provider: str) -> None:
    """What is only known when the session is closed is in the report, too."""
    tenant = "agent: {api_key: key-0123456789, agent_id: agent_sim}"
    asked = provider != "deepgram"
    config = f'prices: {{{provider}: {{"*": {{session_seconds: 6}}}}}}'
    async with house(
        tenant=tenant, provider=provider, config=config, url=lambda model: model.http_url if asked else model.url
    ) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.3))
        await phone.audio.hear_sound(15, hz=440)
        await phone.hang_up()
        report = await bench.report()
        opening = (report.setup_ms or 0) / 1000  # somewhere in it the session begins
        assert report.seconds - opening - 0.3 < report.usage["session_seconds"] < report.seconds + 0.3
        assert report.cost_usd == pytest.approx(report.usage["session_seconds"] / 10, abs=1e-4)
