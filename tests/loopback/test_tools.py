"""hang_up and transfer_call, as the phone sees them: what is said is heard to its last packet first."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Message, Phone
from tests.loopback.sound import level_db, tone

GOODBYE = Utterance("Goodbye.", seconds=0.4, tone_hz=500)
AFTER = Utterance("Now what?", seconds=0.2, tone_hz=800)
TARGET = "sip:desk@example.com"
TENANT = f"tools: {{hang_up: {{}}, transfer_call: {{targets: {{desk: '{TARGET}'}}}}}}"


async def ask(bench: House) -> Phone:
    """A call whose caller has said something."""
    phone = await bench.phone()
    await phone.call()
    phone.audio.say(tone(1000, 0.1))
    return phone


def assert_heard_whole(phone: Phone, seconds: float, hz: float, until: float) -> None:
    loud = [packet for packet in phone.audio.audio() if is_loud(packet, hz)]
    assert len(loud) == pytest.approx(seconds / 0.02, abs=1)
    assert loud[-1].at < until
    following = [packet for packet in phone.audio.audio() if loud[-1].at < packet.at]
    assert all(level_db(packet.samples) < -70 for packet in following[1:])


@pytest.mark.parametrize("spoken", [True, False], ids=["in the same reply", "asked for"])
@pytest.mark.parametrize("speed", [0, pytest.param(1.5, marks=pytest.mark.slow)])
async def test_hang_up_lets_the_goodbye_be_heard(spoken: bool, speed: float) -> None:
    script = Script((GOODBYE,), speed=speed, tools={0: ToolUse("hang_up", '{"reason": "done"}', spoken=spoken)})
    async with house(script, tenant=TENANT) as bench:
        phone = await ask(bench)
        bye = await phone.expect("BYE")
        assert_heard_whole(phone, 0.4, 500, bye.at)
        assert bye["Reason"].startswith("Q.850;cause=16")
        report = await bench.report()
        assert report.ended is Ended.AGENT_HUNG_UP
        assert report.detail == "done"
        session = await bench.session()
        await within(1.0, session.closed)
        assert session.violations == []


async def test_nothing_interrupts_the_goodbye() -> None:
    script = Script((GOODBYE, AFTER), speed=0, tools={0: ToolUse("hang_up", spoken=True)})
    async with house(script, tenant=TENANT) as bench:
        phone = await ask(bench)
        await phone.audio.hear_sound(3, hz=500)
        phone.audio.say(tone(1000, 0.1))
        bye = await phone.expect("BYE")
        heard = [packet for packet in phone.audio.audio() if is_loud(packet, 500)]
        assert len(heard) == pytest.approx(20, abs=1)
        assert heard[-1].at < bye.at
        assert (await bench.report()).barge_ins == 0


async def transfer(bench: House) -> tuple[Phone, Message]:
    phone = await ask(bench)
    refer = await phone.expect("REFER")
    assert refer["Refer-To"] == f"<{TARGET}>"
    return phone, refer


SCRIPT = Script((GOODBYE, AFTER), speed=0, tools={0: ToolUse("transfer_call", '{"target": "desk"}', spoken=True)})
"""Announces, transfers; and speaks again where that failed."""


@pytest.mark.parametrize("spoken", [True, False], ids=["in the same reply", "asked for"])
async def test_a_transfer_that_succeeds(spoken: bool) -> None:
    tools = {0: ToolUse("transfer_call", '{"target": "desk"}', spoken=spoken)}
    async with house(Script((GOODBYE,), speed=0, tools=tools), tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        assert_heard_whole(phone, 0.4, 500, refer.at)
        assert "Contact" in refer
        phone.respond(refer, 202, "Accepted")
        phone.notify("SIP/2.0 100 Trying\r\n")
        await phone.expect(200, "NOTIFY")
        await phone.audio.hear(3)
        phone.notify("SIP/2.0 200 OK\r\n", state="terminated;reason=noresource")
        await phone.expect(200, "NOTIFY")
        await phone.expect("BYE")
        report = await bench.report()
        assert report.ended is Ended.TRANSFERRED
        await within(1.0, (await bench.session()).closed)


async def told_and_goes_on(bench: House, phone: Phone, said: str) -> None:
    session = await bench.session()
    await session.wait_until(lambda: bool(outputs(session.messages("conversation.item.create"))))
    assert said in outputs(session.messages("conversation.item.create"))[0]
    await phone.audio.hear_sound(8, hz=800)
    assert session.violations == []
    await phone.hang_up()
    assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


def outputs(messages: list[dict[str, dict[str, str]]]) -> list[str]:
    items = [message["item"] for message in messages]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


async def test_a_refused_transfer_is_told_to_the_agent_and_the_call_goes_on() -> None:
    async with house(SCRIPT, tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        phone.respond(refer, 603, "Decline")
        await told_and_goes_on(bench, phone, "603")


@pytest.mark.parametrize("state", ["terminated;reason=noresource", "active;expires=60"])
async def test_a_transfer_that_fails_is_told_to_the_agent(state: str) -> None:
    async with house(SCRIPT, tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        phone.respond(refer, 202, "Accepted")
        phone.notify("SIP/2.0 100 Trying\r\n")
        phone.notify("SIP/2.0 486 Busy Here\r\n", state=state)
        await phone.expect(200, "NOTIFY")
        await told_and_goes_on(bench, phone, "486 Busy Here")


async def test_a_phone_that_hangs_up_itself_once_it_is_transferred() -> None:
    async with house(SCRIPT, tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        phone.respond(refer, 202, "Accepted")
        phone.notify("SIP/2.0 100 Trying\r\n")
        await phone.expect(200, "NOTIFY")
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.TRANSFERRED
        phone.notify("SIP/2.0 200 OK\r\n", state="terminated")  # late: whatever the answer, nothing breaks
        await phone.until(lambda: len(phone.statuses("NOTIFY")) == 2)


async def test_a_phone_that_hangs_up_instead_of_answering_the_refer() -> None:
    async with house(SCRIPT, tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        phone.respond(refer, 202, "Accepted")


async def test_a_second_transfer_after_a_failed_one() -> None:
    tools = {n: ToolUse("transfer_call", '{"target": "desk"}', spoken=True) for n in (0, 1)}
    async with house(Script((GOODBYE, GOODBYE, AFTER), speed=0, tools=tools), tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        phone.respond(refer, 603, "Decline")
        again = await phone.expect("REFER")
        assert int(again["CSeq"].split()[0]) > int(refer["CSeq"].split()[0])
        phone.respond(again, 202, "Accepted")
        phone.notify("SIP/2.0 200 OK\r\n", state="terminated")
        await phone.expect("BYE")
        assert (await bench.report()).ended is Ended.TRANSFERRED


async def test_a_target_that_is_not_the_tenant_s_is_never_called() -> None:
    tools = {0: ToolUse("transfer_call", '{"target": "sip:555-0199@example.com"}')}
    async with house(Script((AFTER,), speed=0, tools=tools), tenant=TENANT) as bench:
        phone = await ask(bench)
        await told_and_goes_on(bench, phone, "there is no such target")
        assert not [message for message in phone.messages if message.start_line.startswith("REFER")]


async def test_two_transfers_in_one_reply_are_one() -> None:
    tools = {0: ToolUse("transfer_call", '{"target": "desk"}', spoken=True, times=2)}
    async with house(Script((GOODBYE, AFTER), speed=0, tools=tools), tenant=TENANT) as bench:
        phone, refer = await transfer(bench)
        phone.respond(refer, 603, "Decline")
        session = await bench.session()
        await session.wait_until(lambda: len(outputs(session.messages("conversation.item.create"))) == 2)
        assert len([message for message in phone.messages if message.start_line.startswith("REFER")]) == 1
        await phone.audio.hear_sound(8, hz=800)
        assert session.violations == []
        await phone.hang_up()
