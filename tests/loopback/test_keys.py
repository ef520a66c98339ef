"""Keys by RFC 4733: told to the model in words; and the embedded model, which reacts to them by itself."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sipbridge.prompts import load_prompt
from sipbridge.simulator.model import SessionRecord
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house
from tests.loopback.phone import Phone, describe
from tests.loopback.sound import Samples, level_db, loudest, samples_of, share_of_tone, tone


async def told(session: SessionRecord, count: int = 1) -> str:
    item = (await session.wait_for("conversation.item.create", count))["item"]
    assert item["role"] == "user"
    return str(item["content"][0]["text"])


@pytest.mark.parametrize(("payload_type", "event_type"), [pytest.param(0, 101, marks=pytest.mark.slow), (8, 97)])
async def test_keys_reach_the_model_in_words(payload_type: int, event_type: int) -> None:
    async with house(Script((Utterance(seconds=0.1),)), tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        phone.audio.payload_type = payload_type
        offer = describe(phone.audio.address, formats=(payload_type, 101)).replace(b"101", b"%d" % event_type)
        await phone.call(offer)
        await phone.audio.hear_sound(3)
        session = await bench.session()
        for digit in "4#":
            phone.audio.press(digit, payload_type=event_type)
        async with asyncio.timeout(3):
            assert await told(session) == "The caller pressed 4 #."
            await session.wait_for("response.create", 2)
        phone.audio.press("0", payload_type=event_type)
        await phone.audio.hear_sound(3)  # what it says to 4 and #
        async with asyncio.timeout(3):
            assert await told(session, 2) == "The caller pressed 0."
        assert session.violations == []
        await phone.hang_up()


async def test_the_sound_of_a_key_does_not_reach_the_model() -> None:
    """Its packets are no audio, and the time they take is silence."""
    async with house(Script(vad_rms=1e9)) as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear(5)
        start = len(session.audio)
        phone.audio.press("7")
        await session.wait_until(lambda: len(session.audio) > start + 2400)
        assert set(session.audio) == {0xFF}
        await phone.hang_up()


# --- the embedded model -----------------------------------------------------------------------------------------------

OFFLINE = """
agent: {greeting: "You said:", turn_detection: {silence_ms: 100}}
tools: {hang_up: {}, transfer_call: {targets: {desk: "sip:desk@example.com"}}}
"""


def contains(heard: Samples, prompt: str) -> bool:
    """Whether these words were said: by correlation with the prompt's own sound, wherever it begins."""
    words = samples_of(load_prompt(prompt, 8000))
    if len(heard) < len(words):
        return False
    size = 1 << (len(heard) + len(words)).bit_length()
    matched = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(words, size)), size)[: len(heard)]
    energy = np.concatenate(([0.0], np.cumsum(np.square(heard))))
    start = int(np.argmax(matched[: len(heard) - len(words) + 1]))
    there = np.sqrt((energy[start + len(words)] - energy[start]) * np.sum(np.square(words))) or 1.0
    return bool(matched[start] / there > 0.9)


async def hear_words(phone: Phone, prompt: str, start: int = 0) -> None:
    """Until they have been said whole."""
    needed = len(load_prompt(prompt, 8000)) // 320

    def heard() -> bool:
        if len(phone.audio.packets) - start < needed or len(phone.audio.packets) % 5:
            return False
        return contains(phone.audio.sound(start), prompt)

    await phone.audio.until(heard, within=8)


async def a_whole_call(bench: House) -> None:
    phone = await bench.phone()
    await phone.call()
    await hear_words(phone, "you-said")
    start = len(phone.audio.packets)
    phone.audio.say(tone(600, 0.4))
    await phone.audio.hear_sound(15, hz=600, within=5)
    await hear_words(phone, "you-said", start)
    echo = loudest(phone.audio.sound(start), 0.2)
    assert share_of_tone(echo, 600) > 0.95
    assert level_db(echo) == pytest.approx(-12, abs=1.5)
    start = len(phone.audio.packets)
    phone.audio.press("5")
    await hear_words(phone, "key-5", start)
    phone.audio.press("#")
    await phone.expect("BYE", within=5)
    assert contains(phone.audio.sound(), "goodbye")


async def an_interruption(bench: House) -> None:
    phone = await bench.phone()
    await phone.call()
    phone.audio.say(tone(600, 1.0))
    await phone.audio.said()
    await phone.audio.hear_sound(10, hz=600, within=5)
    start = len(phone.audio.packets)
    phone.audio.say(tone(900, 0.3))
    await hear_words(phone, "interrupted", start)
    old = [packet for packet in phone.audio.audio(start) if is_loud(packet, 600)]
    assert len(old) * 0.02 < 0.25, "its ear takes a moment"
    await phone.hang_up()


async def a_transfer(bench: House) -> None:
    phone = await bench.phone()
    await phone.call()
    await phone.audio.hear_sound(3)
    phone.audio.press("*")
    refer = await phone.expect("REFER", within=6)
    assert contains(phone.audio.sound(), "transferring")
    phone.respond(refer, 603, "Decline")
    await hear_words(phone, "transfer-failed", len(phone.audio.packets))
    await phone.hang_up()


async def test_three_calls_to_the_embedded_model() -> None:
    """It greets, repeats, names a key and says goodbye; is interrupted; transfers. At once, for they take seconds."""
    async with house(provider="offline", tenant=OFFLINE) as bench:
        await asyncio.gather(a_whole_call(bench), an_interruption(bench), a_transfer(bench))
        await bench.report(3)
        ended = sorted(report.ended.value for report in bench.reports)
        assert ended == ["agent_hung_up", "caller_hung_up", "caller_hung_up"]
        assert "the caller pressed pound" in [report.detail for report in bench.reports]
        assert max(report.barge_ins for report in bench.reports) >= 2, "the greeting and the answer"


async def tell(phone: Phone, kind: str, body: str) -> None:
    text = phone.request("INFO", headers=(("Content-Type", kind),))
    phone.send(text.replace(b"Content-Length: 0", b"Content-Length: %d" % len(body)) + body.encode())
    await phone.expect(200, "INFO")


async def press_by_info(phone: Phone, digit: str) -> None:
    await tell(phone, "application/dtmf-relay", f"Signal={digit}\r\nDuration=160\r\n")


@pytest.mark.parametrize(
    ("kind", "body"), [("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"), ("application/dtmf", "5")]
)
async def test_keys_by_info(kind: str, body: str) -> None:
    async with house() as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await tell(phone, kind, body)
        async with asyncio.timeout(3):
            assert await told(session) == "The caller pressed 5."
        ladder = bench.gateway.ladders.get(phone.call_id)
        assert ladder is not None
        assert "Signal=5" not in "\n".join(ladder.transcript())
        await phone.hang_up()
