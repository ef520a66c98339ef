"""Calls that are really made to fail, and what `sipbridge why` says of them."""

from __future__ import annotations

import asyncio

from sipbridge.history.reading.cause import Cause
from sipbridge.history.reading.evidence import Evidence
from sipbridge.history.reading.why import why
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from tests.loopback.house import house
from tests.loopback.notebook import Notebook
from tests.loopback.phone import describe
from tests.loopback.sound import tone

GREETING = "agent: {greeting: Hello.}"
WORD = Utterance(seconds=0.2)


async def causes(notebook: Notebook) -> list[Cause]:
    await notebook.ended()
    return why(Evidence(notebook.entries()))


async def test_a_caller_with_another_codec() -> None:
    notebook = Notebook()
    async with house(history=notebook.history) as bench:
        phone = await bench.phone()
        phone.invite(describe(phone.audio.address, formats=[18, 101]))
        phone.ack_failure(await phone.expect(488))
        (cause, *_) = await causes(notebook)
    assert cause.name == "no_common_codec"
    assert "offered: G729;" in cause.because
    assert "`media.codecs`" in cause.fix


async def test_a_model_that_does_not_take_the_key() -> None:
    notebook = Notebook()
    async with house(Script(fault=Fault.parse("status:401")), history=notebook.history) as bench:
        phone = await bench.phone()
        phone.invite()
        phone.ack_failure(await phone.expect(480))
        (cause, *_) = await causes(notebook)
    assert cause.name == "agent_not_ready"
    assert "401" in cause.because
    assert "the key (`agent.api_key`) is wrong" in cause.fix


async def test_a_model_where_nobody_listens() -> None:
    notebook = Notebook()
    async with house(url=lambda _: "ws://127.0.0.1:9/x", history=notebook.history) as bench:
        phone = await bench.phone()
        phone.invite()
        phone.ack_failure(await phone.expect(480))
        (cause, *_) = await causes(notebook)
    assert cause.name == "agent_not_ready"
    assert "nobody listens at `agent.url`" in cause.fix


async def test_a_caller_whose_sound_never_arrives() -> None:
    notebook = Notebook()
    config = "limits: {media_timeout_seconds: 2.2}"
    async with house(Script((WORD,)), tenant=GREETING, config=config, history=notebook.history) as bench:
        phone = await bench.phone()
        phone.invite()
        phone.ack(await phone.expect(200))  # it sends nothing
        await phone.expect("BYE")
        first, *others = await causes(notebook)
    assert first.name == "no_audio_received"
    assert "0 packets received" in first.because
    assert "`media.ports` through the firewall" in first.fix
    assert "media_timeout" not in [cause.name for cause in others]  # that is what it came to


async def test_a_caller_who_gives_up() -> None:
    notebook = Notebook()
    async with house(Script(fault=Fault("silence")), history=notebook.history) as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(180)
        phone.cancel()
        await phone.expect(200, "CANCEL")
        phone.ack_failure(await phone.expect(487))
        (cause, *_) = await causes(notebook)
    assert cause.name == "caller_cancelled"
    assert "it rang for" in cause.because


async def test_an_answer_that_is_never_confirmed() -> None:
    notebook = Notebook()
    async with house(Script((WORD,)), tenant=GREETING, history=notebook.history) as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(200)
        for _ in range(40):
            bench.pass_time(1.0)
        (cause, *_) = await causes(notebook)
    assert cause.name == "no_ack"
    assert "no ACK came" in cause.because
    assert "`sip.public_address`" in cause.fix


async def test_an_agent_that_answers_late() -> None:
    notebook = Notebook()
    script = Script((WORD, WORD), think_ms=1800, speed=0)
    async with house(script, tenant=GREETING, history=notebook.history) as bench:
        phone = await bench.phone()
        await phone.call()
        await notebook.until(lambda: len(notebook.of("turn")) == 1, within=5.0)
        phone.audio.say(tone(1000, 0.3))
        await notebook.until(lambda: len(notebook.of("turn")) == 3, within=6.0)
        await phone.hang_up()
        found = {cause.name: cause for cause in await causes(notebook)}
    assert "most of it is model" in found["slow_answers"].because


async def test_a_tool_that_fails() -> None:
    notebook = Notebook()
    script = Script((WORD,), tools={1: ToolUse("no_such_tool")}, speed=0)
    async with house(script, tenant=f"{GREETING}\ntools: {{hang_up: {{}}}}", history=notebook.history) as bench:
        phone = await bench.phone()
        await phone.call()
        await notebook.until(lambda: len(notebook.of("turn")) == 1, within=5.0)
        phone.audio.say(tone(1000, 0.3))
        await notebook.until(lambda: len(notebook.of("tool")) >= 1, within=5.0)
        await phone.hang_up()
        found = {cause.name: cause for cause in await causes(notebook)}
    assert "no_such_tool" in found["tool_failed"].what
    assert "made a tool up" in found["tool_failed"].fix


async def test_a_conversation_that_went_well() -> None:
    notebook = Notebook()
    async with house(Script((WORD,), speed=0), tenant=GREETING, history=notebook.history) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(0, 0.1))
        await notebook.until(lambda: len(notebook.of("turn")) == 1, within=5.0)
        await asyncio.sleep(0)
        await phone.hang_up()
        found = await causes(notebook)
    assert found[-1].name == "caller_hung_up"
