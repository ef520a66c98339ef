"""A card's number, entered by keys that sound, in a call that is recorded: it reaches the tool that is named, and
whoever listens, reads or keeps anything else does not have it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.dtmf import dtmf, keys_in
from tests.loopback.house import House, house
from tests.loopback.phone import Phone
from tests.loopback.sound import ULAW, Samples, join, peak_hz, samples_of, share_of_tone, tone
from tests.loopback.test_keys import press_by_info
from tests.tools import shop

CARD = "4929013258764006"
SCRIPT = Script(
    (
        Utterance("Please enter your card's number.", seconds=0.4, tone_hz=500),
        Utterance("", seconds=0.2, tone_hz=560),
        Utterance("Thank you.", seconds=1.0, tone_hz=800),
    ),
    tools={
        0: ToolUse("collect_digits", '{"field": "card"}', spoken=True),
        1: ToolUse("pay_by_card", '{"amount": 12.5}'),
    },
    speed=0,
)
TENANT = """
agent: {transcripts: {interim: true}}
recording: {enabled: true}
tools:
  collect_digits: {fields: {card: {digits: 16, secure: true, tool: pay_by_card}}}
  python: ["tests.tools.shop:pay_by_card"]
"""


@pytest.fixture
def paid() -> list[dict[str, Any]]:
    shop.PAID.clear()
    return shop.PAID


async def enter(phone: Phone, digits: str) -> Samples:
    """Each key by an event or, from the ninth on, by INFO, and all by their tones, too. What that sounded like."""
    tones = []
    for number, digit in enumerate(digits):
        if number >= 8:
            await press_by_info(phone, digit)
        else:
            phone.audio.press(digit)
        tones += [dtmf(digit, 0.08), np.zeros(480)]
        phone.audio.say(join(tones[-2:]))
        await phone.audio.said()
    return join(tones)


async def the_call(bench: House) -> tuple[Samples, str]:
    """What the caller's keys sounded like, and the call's ladder."""
    phone = await bench.phone()
    await phone.call()
    phone.audio.say(tone(1000, 0.2))
    await phone.audio.hear_sound(18, hz=500)
    entered = await enter(phone, CARD)
    phone.audio.press("#")  # a habit
    await phone.audio.hear_sound(15, hz=800)
    session = await bench.session()
    start = len(session.audio)
    await session.wait_until(lambda: len(session.audio) > start + 14_000)
    phone.audio.say(tone(600, 0.4))
    await phone.audio.said()
    await session.wait_until(lambda: share(heard_by(session.audio), 600) > 0.2)
    await phone.hang_up()
    await bench.report()
    ladder = bench.gateway.ladders.get(phone.call_id)
    assert ladder is not None
    return entered, "\n".join(ladder.transcript())


def heard_by(audio: bytearray) -> Samples:
    return samples_of(ULAW.to_pcm(bytes(audio), 2))


def share(sound: Samples, hz: float) -> float:
    """How many seconds of it are this tone."""
    frames = [sound[start : start + 160] for start in range(0, len(sound) - 159, 160)]
    return sum(share_of_tone(frame, hz) > 0.9 and peak_hz(frame) > 0 for frame in frames) * 0.02


@pytest.mark.slow
async def test_the_number_reaches_the_tool_and_nothing_else(
    tmp_path: Path, paid: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    config = f"recordings: {{directory: {tmp_path}}}"
    with capture_logs() as logs, caplog.at_level(logging.DEBUG):
        async with house(SCRIPT, tenant=TENANT, config=config) as bench:
            entered, ladder = await the_call(bench)
            session = await bench.session()
            report = await bench.report()
    assert paid == [{"amount": 12.5, "card": CARD}]
    assert keys_in(entered) == CARD, "a listener who may listen has it"

    sound, rate = soundfile.read(next((tmp_path / "t").iterdir()), dtype="float64")
    assert rate == 8000
    given = heard_by(session.audio)
    for name, side in (("caller", sound[:, 0]), ("agent", sound[:, 1]), ("model", given)):
        assert keys_in(side) == "", name
        if name != "agent":
            assert share(side, 1000) > 0.1, f"{name}: what was said before is there"
            assert share(side, 600) > 0.2, f"{name}: and what is said afterwards"

    said = json.dumps([*session.messages(), *session.sent])
    for where, text in {
        "to the model": said,
        "log": repr(logs),
        "libraries' logs": caplog.text,
        "report": json.dumps(report.to_json()) + repr(report.to_log()),
        "ladder": ladder,
    }.items():
        assert CARD not in text, where
        assert CARD[-8:] not in text, where
        assert " ".join(CARD[:4]) not in text, where
    assert "pressed" not in said, "not one key of it, nor the # behind it"
    assert "Signal=" in ladder
    assert not any(f"Signal={digit}" in ladder for digit in CARD)
    assert "paid 12.5 with ***" in said
    assert session.violations == []


# --- every kind of tool may be the one --------------------------------------------------------------------------------

PIN = "4713"


def ask_and_use(tool: str) -> Script:
    said = (Utterance(seconds=0.2, tone_hz=500), Utterance(seconds=0.1), Utterance(seconds=0.6, tone_hz=800))
    tools = {0: ToolUse("collect_digits", '{"field": "number"}', spoken=True), 1: ToolUse(tool, "{}")}
    return Script(said, tools=tools, speed=0)


def secret_for(tool: str, declared: str) -> str:
    field = f"number: {{digits: 4, secure: true, tool: {tool}}}"
    return f"tools: {{collect_digits: {{fields: {{{field}}}}}, {declared}}}"


async def results_of_entering(bench: House) -> list[str]:
    phone = await bench.phone()
    await phone.call()
    phone.audio.say(tone(1000, 0.2))
    await phone.audio.hear_sound(8, hz=500)
    for digit in PIN:
        phone.audio.press(digit)
    await phone.audio.hear_sound(10, hz=800, within=6)
    session = await bench.session()
    assert session.violations == []
    assert PIN not in json.dumps([*session.messages(), *session.sent])
    items = [message["item"] for message in session.messages("conversation.item.create")]
    await phone.hang_up()
    await bench.report()
    return [item["output"] for item in items if item["type"] == "function_call_output"]


async def test_an_http_tool_is_given_the_digits() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        asked.append(head.split(b"\r\n")[0] + b" " + await reader.readexactly(length))
        answer = b'{"state": "unlocked with 4713"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        schema = "{type: object, properties: {number: {type: string}}, required: [number]}"
        http = f"name: unlock, description: Unlock., parameters: {schema}, url: 'http://127.0.0.1:{port}/unlock'"
        tenant = secret_for("unlock", f"http: [{{{http}, allow_private: true}}]")
        async with house(ask_and_use("unlock"), tenant=tenant) as bench:
            results = await results_of_entering(bench)
    assert asked == [b'POST /unlock HTTP/1.1 {"number": "4713"}']
    assert results[1] == '{"state": "unlocked with ***"}'


@pytest.mark.slow
async def test_a_tool_of_an_mcp_server_is_given_the_digits() -> None:
    program = Path(__file__).parents[1] / "tools" / "mcp_server.py"
    server = f"mcp: [{{name: shop, command: {sys.executable}, args: [{program}]}}]"
    async with house(ask_and_use("orders_state"), tenant=secret_for("orders_state", server)) as bench:
        results = await results_of_entering(bench)
    assert results[1] == "order *** has been sent"


@pytest.mark.parametrize("provider", ["gemini", pytest.param("openai_live", marks=pytest.mark.slow)])
async def test_models_of_other_kinds(provider: str) -> None:
    """One that says nothing before its request is answered, and one that hears and speaks at once."""
    tenant = secret_for("unlock", "pass_through: [{name: unlock, description: Unlock.}]") + "\nagent: {api_key: none}"
    script = replace(ask_and_use("unlock"), speed=float(provider == "openai_live"))
    async with house(script, tenant=tenant, provider=provider) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.2))
        await phone.audio.hear_sound(8, hz=500)
        session = await bench.session()
        for digit in PIN:
            phone.audio.press(digit)
        await session.wait_until(lambda: "nobody is there to do unlock" in json.dumps(session.messages()))
        assert PIN not in json.dumps([*session.messages(), *session.sent])
        assert session.violations == []
        await phone.hang_up()
        report = await bench.report()
    assert [run["name"] for run in report.to_json()["tool_runs"]] == ["collect_digits", "unlock"]
