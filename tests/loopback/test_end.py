"""How a call ends, whoever ends it and whenever: the model's socket is closed within a second, and nobody sits in dead
air."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Phone
from tests.loopback.sound import tone

GREETING = "agent: {greeting: Hello.}"
LONG = Utterance(seconds=5, tone_hz=440)


@pytest.fixture
def short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is 0.3 s of 900 Hz."""

    def load(name: str, rate: int) -> bytes:
        return np.round(tone(900, 0.3, rate=rate) * 32767).astype("<i2").tobytes()

    monkeypatch.setattr("sipbridge.conversation.floor.load_prompt", load)


async def hang_up_and_time(bench: House, phone: Phone) -> None:
    session = await bench.session()
    began = time.monotonic()
    await phone.hang_up()
    await within(1.0, session.closed)
    assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("speed", [0, 2])
async def test_bye_in_the_middle_of_the_greeting(speed: float) -> None:
    async with house(Script((LONG,), speed=speed), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5)
        await hang_up_and_time(bench, phone)


async def test_bye_right_after_the_ack() -> None:
    async with house(Script((LONG,)), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await hang_up_and_time(bench, phone)


async def test_bye_while_the_model_thinks() -> None:
    async with house(Script((LONG,), think_ms=60_000), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await (await bench.session()).wait_for("response.create")
        await hang_up_and_time(bench, phone)


async def test_bye_while_the_caller_speaks() -> None:
    async with house() as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 1.0))
        session = await bench.session()
        await session.wait_until(lambda: any(m["type"].endswith("speech_started") for m in session.sent))
        await hang_up_and_time(bench, phone)


@pytest.mark.parametrize("spoken", [True, False])
async def test_bye_while_a_tool_runs(spoken: bool) -> None:
    tools = {0: ToolUse("hang_up", spoken=spoken)}
    async with house(Script((LONG,), speed=0, tools=tools), tenant="tools: {hang_up: {}}") as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(3, hz=440)  # the goodbye, for which the tool waits
        await hang_up_and_time(bench, phone)


async def test_bye_to_a_model_that_does_not_even_read_a_close() -> None:
    async with house(Script(fault=Fault("stall"))) as bench:
        phone = await bench.phone()
        await phone.call()
        began = time.monotonic()
        await phone.hang_up()
        await bench.report()
        assert time.monotonic() - began < 1.0


async def test_bye_to_a_model_that_hangs() -> None:
    async with house(Script((LONG,), fault=Fault("hang")), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(15)
        await phone.audio.hear(5)
        await hang_up_and_time(bench, phone)


# --- the model ends ---------------------------------------------------------------------------------------------------


async def answered(phone: Phone) -> None:
    ok = await phone.expect(200)
    phone.ack(ok)
    phone.audio.connect(ok.rtp)


async def no_other(bench: House) -> None:
    """Whoever comes after the session that is up is refused."""
    await bench.session()
    bench.model.script = Script(fault=Fault("status", "401"))


async def test_a_model_that_dies_in_mid_reply_is_excused_in_a_sentence() -> None:
    """With the real prompt: three seconds of somebody speaking, which is no tone."""
    async with house(Script((LONG,), fault=Fault("close", "1011")), tenant=GREETING) as bench:
        phone = await bench.phone()
        phone.invite()
        await no_other(bench)
        await answered(phone)
        bye = await phone.expect("BYE", within=6)
        loud = [packet for packet in phone.audio.audio() if is_loud(packet)]
        said = [packet for packet in loud if not is_loud(packet, 440)]
        assert len(loud) - len(said) >= 13, "what had come of the reply is heard"
        assert len(said) * 0.02 > 1.5
        assert bye.at - said[-1].at < 0.5, "no dead air"
        assert "provider_failed" in bye["Reason"]
        report = await bench.report()
        assert report.ended is Ended.PROVIDER_FAILED
        assert "1011" in report.detail


@pytest.mark.parametrize(
    ("fault", "native"), [("drop", "true"), ("close:1000", "false"), ("error:insufficient_quota", "true")]
)
@pytest.mark.usefixtures("short_prompts")
async def test_other_ways_to_lose_the_model(fault: str, native: str) -> None:
    tenant = f"agent: {{greeting: Hello., native_audio: {native}}}"
    async with house(Script((LONG,), fault=Fault.parse(fault)), tenant=tenant) as bench:
        phone = await bench.phone()
        phone.invite()
        await no_other(bench)
        await answered(phone)
        prompt = await phone.audio.hear_sound(14, hz=900)
        bye = await phone.expect("BYE")
        assert bye.at > prompt[-1].at
        assert "provider_failed" in bye["Reason"]
        assert (await bench.report()).ended is Ended.PROVIDER_FAILED


@pytest.mark.usefixtures("short_prompts")
async def test_bye_during_that_sentence() -> None:
    async with house(Script((LONG,), fault=Fault("drop")), tenant=GREETING) as bench:
        phone = await bench.phone()
        phone.invite()
        await no_other(bench)
        await answered(phone)
        await phone.audio.hear_sound(3, hz=900)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


@pytest.mark.parametrize("fault", ["error:server_error", "error:invalid_value", "garbage"])
async def test_a_fault_that_is_not_the_end(fault: str) -> None:
    """It is all heard, and the call goes on."""
    script = Script(
        (Utterance(seconds=0.6, tone_hz=440), Utterance(seconds=0.2, tone_hz=700)), fault=Fault.parse(fault)
    )
    async with house(script, tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(29, hz=440)
        phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(9, hz=700)
        assert sum(is_loud(packet, 440) for packet in phone.audio.audio()) in (29, 30, 31)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_a_reply_refused_for_its_rate_is_asked_for_again() -> None:
    async with house(Script((Utterance(seconds=0.2),), fault=Fault("rate_limit", "1")), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(9, hz=440)
        await phone.hang_up()


# --- we end -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_prompts")
async def test_the_longest_that_a_call_may_last() -> None:
    async with house(config="limits: {max_call_seconds: 0.3}") as bench:
        phone = await bench.phone()
        await phone.call()
        prompt = await phone.audio.hear_sound(14, hz=900)
        bye = await phone.expect("BYE")
        assert bye.at > prompt[-1].at
        assert (await bench.report()).ended is Ended.TOO_LONG


async def test_the_longest_that_a_call_may_last_with_words_of_the_agent() -> None:
    script = Script((Utterance(seconds=0.3, tone_hz=700),))
    async with house(script, tenant="agent: {farewell: Bye.}", config="limits: {max_call_seconds: 0.2}") as bench:
        phone = await bench.phone()
        await phone.call()
        farewell = await phone.audio.hear_sound(14, hz=700)
        bye = await phone.expect("BYE")
        assert bye.at > farewell[-1].at
        assert (await bench.report()).ended is Ended.TOO_LONG


async def test_a_caller_from_whom_nothing_comes_any_more() -> None:
    async with house(config="limits: {media_timeout_seconds: 0.3}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(5)
        phone.audio.hush()
        bye = await phone.expect("BYE")
        assert "media_timeout" in bye["Reason"]
        assert (await bench.report()).ended is Ended.MEDIA_TIMEOUT


async def test_shutting_down_says_bye() -> None:
    async with house(Script((LONG,)), tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(3)
        for session in bench.gateway.calls.sessions:
            session.end(Ended.SHUTDOWN)
        assert "shutdown" in (await phone.expect("BYE"))["Reason"]
        await within(1.0, (await bench.session()).closed)


async def test_draining() -> None:
    async with house() as bench:
        first, second = await bench.phone(), await bench.phone()
        await first.call()
        draining = asyncio.create_task(bench.gateway.drain(5))
        await asyncio.sleep(0)
        second.invite()
        full = await second.expect(503)
        second.ack_failure(full)
        assert "Retry-After" in full
        await first.audio.hear(2)
        await first.hang_up()
        await draining
