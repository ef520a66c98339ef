"""What an agent may do by words, and only with the caller's consent, as the phone sees it."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house
from tests.loopback.phone import Phone
from tests.loopback.sound import tone
from tests.loopback.test_transfers import bridged, calling

TARGET = "sip:desk@example.com"
TOOLS = f"tools: {{transfer_call: {{targets: {{desk: '{TARGET}'}}}}}}"
PHRASES = f"{TOOLS}\nphrases: {{hang_up: [have a nice day], transfer: {{desk: [I connect you]}}}}"
CONFIRM = TOOLS.replace("{targets", "{confirm: true, targets")
WORDS = Utterance("So, have a NICE day!", seconds=0.3, tone_hz=500)
CONNECTS = Utterance("I connect you.", seconds=0.3, tone_hz=500)
QUESTION = Utterance("Shall I?", seconds=0.2, tone_hz=600)
AFTER = Utterance("Now what?", seconds=0.2, tone_hz=800)
ASKS = ToolUse("transfer_call", '{"target": "desk"}')


def referred(phone: Phone) -> bool:
    return any(message.start_line.startswith("REFER") for message in phone.messages)


async def accept(bench: House, phone: Phone) -> None:
    refer = await phone.expect("REFER")
    assert refer["Refer-To"] == f"<{TARGET}>"
    phone.respond(refer, 202, "Accepted")
    phone.notify("SIP/2.0 200 OK\r\n", state="terminated;reason=noresource")
    await phone.expect("BYE")
    assert (await bench.report()).ended is Ended.TRANSFERRED
    assert (await bench.session()).violations == []


async def call(bench: House) -> Phone:
    phone = await bench.phone()
    await phone.call()
    phone.audio.say(tone(1000, 0.1))
    return phone


@pytest.mark.parametrize("provider", ["openai", "gemini", pytest.param("dashscope", marks=pytest.mark.slow)])
async def test_a_goodbye_in_words_is_heard_to_its_end(provider: str) -> None:
    async with house(Script((WORDS,), speed=0), tenant=f"agent: {{api_key: k}}\n{PHRASES}", provider=provider) as bench:
        phone = await call(bench)
        bye = await phone.expect("BYE", within=5)
        loud = [packet for packet in phone.audio.audio() if is_loud(packet, 500)]
        assert len(loud) == pytest.approx(15, abs=1)
        assert loud[-1].at < bye.at
        assert (await bench.report()).ended is Ended.AGENT_HUNG_UP


async def test_a_transfer_in_words() -> None:
    async with house(Script((CONNECTS,), speed=0), tenant=PHRASES) as bench:
        phone = await call(bench)
        await accept(bench, phone)


async def test_a_transfer_in_words_that_fails_is_told() -> None:
    async with house(Script((CONNECTS, AFTER), speed=0), tenant=PHRASES) as bench:
        phone = await call(bench)
        refer = await phone.expect("REFER")
        phone.respond(refer, 603, "Decline")
        await phone.audio.hear_sound(8, hz=800)
        item = await (await bench.session()).wait_for("conversation.item.create")
        assert "did not succeed" in item["item"]["content"][0]["text"]
        await phone.hang_up()


async def test_the_caller_agrees_and_is_put_through() -> None:
    script = Script((AFTER, QUESTION, AFTER), speed=0, tools={0: ASKS, 2: ASKS}, transcripts=("Help!", "Yes please."))
    async with house(script, tenant=CONFIRM) as bench:
        phone = await call(bench)
        await phone.audio.hear_sound(8, hz=600)
        assert not referred(phone)
        session = await bench.session()
        updates = [message["session"] for message in session.messages("session.update")]
        assert "has to agree" in updates[-1]["instructions"]
        assert updates[-1]["instructions"].startswith("You are a test.")
        phone.audio.say(tone(1000, 0.1))
        await accept(bench, phone)


async def test_a_second_no_ends_the_offer() -> None:
    """The model asks for the transfer after each answer; the caller says no to it each time."""
    tools = {number: ASKS for number in (0, 2, 4)}
    no = ("Help!", "No, thank you.", "No.", "Well.")
    script = Script((AFTER, QUESTION), speed=0, tools=tools, transcripts=no)
    async with house(script, tenant=CONFIRM) as bench:
        phone = await call(bench)
        session = await bench.session()
        for _ in range(2):
            await phone.audio.hear_sound(8, hz=600)
            phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(8, hz=600)
        updates = [message["session"] for message in session.messages("session.update")]
        assert "for the second time" in updates[-1]["instructions"]
        outputs = [message["item"] for message in session.messages("conversation.item.create")]
        said = [item["output"] for item in outputs if item["type"] == "function_call_output"]
        assert ["has to agree" in said[0], "has to agree" in said[1], "second time" in said[2]] == [True] * 3
        assert not referred(phone)
        assert session.violations == []
        await phone.hang_up()


async def test_who_has_agreed_waits_while_somebody_is_called_and_asked() -> None:
    """Consent, then an attended transfer over us, in one go."""
    consults = ToolUse("transfer_call", '{"target": "desk", "summary": "Somebody about an order."}', spoken=True)
    utterances = (AFTER, QUESTION, AFTER, Utterance("A caller about an order.", seconds=0.6, tone_hz=650))
    script = Script(utterances, speed=0, tools={0: ASKS, 2: consults}, transcripts=("Help!", "Yes please."))
    async with calling(script, tool="confirm: true, mode: attended, via: bridge") as (bench, phone, desk):
        await phone.audio.hear_sound(8, hz=600)
        assert desk.messages == []
        phone.audio.say(tone(1000, 0.1))
        invite = await desk.expect("INVITE", within=5)
        await desk.answer(invite)
        await desk.audio.hear_sound(25, hz=650)
        desk.audio.press("1")
        phone.audio.say(tone(1200, 1.5))
        await desk.audio.hear_sound(10, hz=1200)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.TRANSFERRED
        assert (await bench.session()).violations == []


async def test_a_phrase_where_the_caller_s_side_knows_no_refer() -> None:
    tenant = "phrases: {transfer: {desk: [I connect you]}}"
    async with calling(Script((CONNECTS,), speed=0), tenant=tenant) as (bench, phone, desk):
        await bridged(phone, desk)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.TRANSFERRED
