"""The caller is handed over to a telephone behind a trunk, by REFER or over us; and hold: what both of them hear."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.callee import Callee
from tests.loopback.earpiece import is_loud
from tests.loopback.house import House, house, within
from tests.loopback.phone import Headers, Message, Phone, describe
from tests.loopback.sound import level_db, tone

ANNOUNCES = Utterance("I put you through.", seconds=0.4, tone_hz=500)
SUMMARISES = Utterance("A caller about an order.", seconds=0.6, tone_hz=650)
GOES_ON = Utterance("Nobody is there.", seconds=2.0, tone_hz=800)
ASKS = ToolUse("transfer_call", '{"target": "desk"}', spoken=True)
BLIND = Script((ANNOUNCES, GOES_ON), speed=0, tools={0: ASKS})
CONSULTS = ToolUse("transfer_call", '{"target": "desk", "summary": "Somebody about an order."}', spoken=True)
ATTENDED = Script((ANNOUNCES, SUMMARISES, GOES_ON), speed=0, tools={0: CONSULTS})
KNOWS_NO_REFER = (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS"),)
KNOWS_ALL = (("Allow", "INVITE, ACK, BYE, CANCEL, REFER, NOTIFY"), ("Supported", "replaces, timer"))


@asynccontextmanager
async def calling(
    script: Script, *, target: str = "sip:desk@{}", tool: str = "", tenant: str = "", headers: Headers = KNOWS_NO_REFER
) -> AsyncIterator[tuple[House, Phone, Callee]]:
    """A caller who has said something to the agent, and a telephone behind the trunk."""
    desk = await Callee.listen()
    settings = f"tools: {{transfer_call: {{targets: {{desk: '{target.format(desk.here)}'}}, {tool}}}}}\n{tenant}"
    trunk = f"{{proxy: '{desk.trunk}', from: '+15550199', ping_seconds: 0}}"
    config = f"trunks: [{{name: pbx, sources: ['127.0.0.1'], outbound: {trunk}}}]"
    async with house(script, tenant=settings, config=config, phones=[desk]) as bench:
        phone = await bench.phone()
        phone.invite(headers=headers)
        answered = await phone.expect(200, "INVITE")
        phone.ack(answered)
        phone.audio.connect(answered.rtp)
        phone.audio.say(tone(1000, 0.1))
        yield bench, phone, desk


async def bridged(phone: Phone, desk: Callee, body: bytes | None = None) -> Message:
    """The desk answers, and the two hear each other."""
    invite = await desk.expect("INVITE", within=5)
    desk.reply(invite, 180, "Ringing")
    await desk.answer(invite, body)
    await hear_each_other(phone, desk)
    return invite


async def hear_each_other(phone: Phone, desk: Phone) -> None:
    phone.audio.say(tone(1200, 1.5))
    desk.audio.say(tone(700, 1.5))
    await asyncio.gather(desk.audio.hear_sound(20, hz=1200), phone.audio.hear_sound(20, hz=700))


def keys_of(phone: Phone) -> list[int]:
    """The telephone events that have ended, in order."""
    ends = [packet for packet in phone.audio.packets if packet.payload_type == 101 and packet.payload[1] & 0x80]
    return [event for event, _ in dict.fromkeys((packet.payload[0], packet.timestamp) for packet in ends)]


async def given_back(bench: House, phone: Phone, why: str) -> None:
    """The agent is told why, and goes on."""
    session = await bench.session()
    await session.wait_until(lambda: why in str(session.messages("conversation.item.create")))
    await phone.audio.hear_sound(8, hz=800)
    assert session.violations == []
    await phone.hang_up()
    assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


# --- who makes the transfer -------------------------------------------------------------------


@pytest.mark.parametrize("status", [405, 501, 603])
async def test_a_refer_that_is_refused_is_made_good_by_a_bridge(status: int) -> None:
    async with calling(BLIND, headers=()) as (bench, phone, desk):
        phone.respond(await phone.expect("REFER"), status, "No")
        invite = await bridged(phone, desk)
        assert invite.start_line == f"INVITE sip:desk@{desk.here} SIP/2.0"
        assert invite["From"].startswith("<sip:+15550199@127.0.0.1>")
        await within(1.0, (await bench.session()).closed)  # nobody is paid for listening
        await phone.hang_up()
        await desk.expect("BYE")
        report = await bench.report()
        assert (report.ended, len(report.audio.legs)) == (Ended.TRANSFERRED, 2)
        assert report.detail.startswith("desk: ")
        assert (await bench.session()).violations == []


async def test_who_hangs_up_instead_of_telling_how_it_goes() -> None:
    async with calling(BLIND, headers=()) as (bench, phone, _):
        phone.respond(await phone.expect("REFER"), 202, "Accepted")
        await phone.hang_up()
        report = await bench.report()
        assert report.ended is Ended.TRANSFERRED
        assert report.detail.startswith("desk: ")


async def test_who_does_not_allow_refer_is_not_asked() -> None:
    async with calling(BLIND) as (bench, phone, desk):
        await bridged(phone, desk)
        await desk.hang_up()
        await phone.expect("BYE")
        assert not [message for message in phone.messages if message.start_line.startswith("REFER")]
        report = await bench.report()
        assert report.ended is Ended.TRANSFERRED
        assert report.detail.startswith("desk: ")


async def test_a_refer_that_nobody_tells_of_any_more_ends_in_a_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.referring._A_WORD_S", 0.3)
    async with calling(BLIND, headers=()) as (_, phone, desk):
        phone.respond(await phone.expect("REFER"), 202, "Accepted")
        await bridged(phone, desk)
        await phone.hang_up()


async def test_a_notify_may_be_quicker_than_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipbridge.referring._A_WORD_S", 0.3)
    async with calling(BLIND, headers=()) as (bench, phone, desk):
        refer = await phone.expect("REFER")
        phone.notify("SIP/2.0 180 Ringing\r\n")
        await phone.expect(200, "NOTIFY")
        phone.respond(refer, 202, "Accepted")
        await phone.audio.hear(30)
        assert desk.messages == [], "it rings there already"
        phone.notify("SIP/2.0 200 OK\r\n", state="terminated;reason=noresource")
        assert (await bench.report()).ended is Ended.TRANSFERRED


async def test_what_the_target_said_to_a_refer_it_would_say_to_us() -> None:
    async with calling(BLIND, headers=()) as (bench, phone, desk):
        phone.respond(await phone.expect("REFER"), 202, "Accepted")
        phone.notify("SIP/2.0 486 Busy Here\r\n", state="terminated;reason=noresource")
        await given_back(bench, phone, "486 Busy Here")
        assert desk.messages == []


async def test_via_refer_never_calls() -> None:
    async with calling(BLIND, tool="via: refer", headers=()) as (bench, phone, desk):
        phone.respond(await phone.expect("REFER"), 603, "Decline")
        await given_back(bench, phone, "refused with 603")
        assert desk.messages == []


async def test_via_bridge_never_refers_and_a_tel_uri_goes_by_the_trunk() -> None:
    async with calling(BLIND, tool="via: bridge", target="tel:+1-555-0100", headers=KNOWS_ALL) as (_, phone, desk):
        invite = await bridged(phone, desk)
        assert invite.start_line == f"INVITE sip:+15550100@{desk.here} SIP/2.0"
        assert not [message for message in phone.messages if message.start_line.startswith("REFER")]
        await phone.hang_up()
        await desk.expect("BYE")


# --- while it rings ---------------------------------------------------------------------------


async def test_the_caller_hears_music_while_it_rings_and_the_model_hears_nothing() -> None:
    async with calling(BLIND) as (bench, phone, desk):
        desk.reply(await desk.expect("INVITE"), 180, "Ringing")
        session, start = await bench.session(), len(phone.audio.packets)
        heard = len(session.audio)
        phone.audio.say(tone(1000, 0.5))
        await phone.audio.hear(60)
        assert -40 < level_db(phone.audio.sound(start)) < -20
        assert set(session.audio[heard:]) == {0xFF}, "silence, and it goes on"
        await phone.hang_up()
        await desk.expect("CANCEL")
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


@pytest.mark.parametrize(("status", "reason"), [(486, "Busy Here"), (404, "Not Found"), (603, "Decline")])
async def test_a_target_that_does_not_take_the_call(status: int, reason: str) -> None:
    async with calling(BLIND) as (bench, phone, desk):
        desk.reply(await desk.expect("INVITE"), status, reason)
        await given_back(bench, phone, f"{status} {reason}")


async def test_a_target_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    async with calling(BLIND, tool="ring_seconds: 0.5") as (bench, phone, desk):
        desk.reply(await desk.expect("INVITE"), 180, "Ringing")
        await desk.expect("CANCEL")
        await given_back(bench, phone, "no answer within 0.5 s")


async def test_without_a_way_out_the_agent_is_told() -> None:
    tenant = "tools: {transfer_call: {targets: {desk: 'sip:desk@example.com'}, via: bridge}}"
    async with house(BLIND, tenant=tenant) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        await given_back(bench, phone, "no way to place a call")


async def test_a_target_that_answers_and_is_gone() -> None:
    async with calling(BLIND) as (bench, phone, desk):
        desk.reply(await desk.expect("INVITE"), 200, "OK", body=describe(desk.audio.address))
        desk.bye()
        await given_back(bench, phone, "the call was not taken")


# --- two who are connected --------------------------------------------------------------------


async def test_keys_go_through_both_ways() -> None:
    async with calling(BLIND) as (_, phone, desk):
        await bridged(phone, desk)
        for key in "42":
            phone.audio.press(key)
        await desk.audio.until(lambda: keys_of(desk) == [4, 2])
        desk.audio.press("#")
        await phone.audio.until(lambda: keys_of(phone) == [11])
        info = (("Content-Type", "application/dtmf-relay"),)
        phone.send(phone.request("INFO", headers=info).replace(b"Length: 0", b"Length: 9") + b"Signal=7\n")
        await desk.audio.until(lambda: keys_of(desk) == [4, 2, 7])
        await phone.hang_up()


async def test_keys_reach_one_who_takes_none_in_the_sound() -> None:
    async with calling(BLIND) as (_, phone, desk):
        await bridged(phone, desk, describe(desk.audio.address, formats=(0,)))
        phone.audio.press("5")
        told = await desk.expect("INFO")
        assert b"Signal=5" in told.body
        desk.respond(told, 200)
        await phone.hang_up()


async def test_codecs_may_differ() -> None:
    async with calling(BLIND) as (_, phone, desk):
        desk.audio.payload_type = 8
        await bridged(phone, desk, describe(desk.audio.address, formats=(8, 101)))
        assert {packet.payload_type for packet in desk.audio.audio()} == {8}
        assert {packet.payload_type for packet in phone.audio.audio()} == {0}
        await phone.hang_up()


@pytest.mark.parametrize("who", ["caller", "desk"])
async def test_hold_and_resume_of_either_side(who: str) -> None:
    async with calling(BLIND) as (_, phone, desk):
        await bridged(phone, desk)
        holder: Phone = phone if who == "caller" else desk
        other: Phone = desk if who == "caller" else phone
        for version, direction, answer in ((2, "sendonly", "recvonly"), (3, "sendrecv", "sendrecv")):
            holder.reinvite(describe(holder.audio.address, direction=direction, version=version))
            accepted = await holder.expect(200, "INVITE")
            assert accepted.direction == answer
            holder.ack(accepted)
        await hear_each_other(phone, desk)
        await other.hang_up()
        await holder.expect("BYE")


async def test_the_one_who_was_called_cannot_make_us_call_on() -> None:
    async with calling(BLIND) as (_, phone, desk):
        await bridged(phone, desk)
        desk.send(desk.request("REFER", headers=(("Refer-To", "<sip:+15550123@example.com>"),)))
        await desk.expect(403, "REFER")
        await hear_each_other(phone, desk)
        await phone.hang_up()


# --- attended ---------------------------------------------------------------------------------


async def consulted(desk: Callee) -> None:
    """It has answered, and heard what it is about in the agent's voice."""
    invite = await desk.expect("INVITE", within=5)
    await desk.answer(invite)
    await desk.audio.hear_sound(28, hz=650)


async def test_a_person_who_is_asked_first_and_takes_the_call() -> None:
    async with calling(ATTENDED, tool="mode: attended") as (bench, phone, desk):
        await consulted(desk)
        start = len(phone.audio.packets)
        desk.audio.say(tone(700, 0.5))
        await phone.audio.hear(20)
        heard = [packet for packet in phone.audio.audio(start)]
        assert all(level_db(packet.samples) < -15 for packet in heard), "music, and not the person"
        assert level_db(phone.audio.sound(start)) > -40
        session = await bench.session()
        assert "Somebody about an order. Press 1" in str(session.received)
        desk.audio.press("1")
        await hear_each_other(phone, desk)
        await within(1.0, session.closed)
        assert session.violations == []
        await phone.hang_up()
        await desk.expect("BYE")
        assert (await bench.report()).ended is Ended.TRANSFERRED


async def test_a_person_who_declines() -> None:
    async with calling(ATTENDED, tool="mode: attended") as (bench, phone, desk):
        await consulted(desk)
        desk.audio.press("2")
        await desk.expect("BYE")
        await given_back(bench, phone, "the call was declined")


async def test_nobody_who_could_press_a_key() -> None:
    async with calling(ATTENDED, tool="mode: attended, accept_seconds: 0.3") as (bench, phone, desk):
        await consulted(desk)
        await desk.expect("BYE")
        await given_back(bench, phone, "nobody took the call")


async def test_a_person_who_hangs_up_when_asked() -> None:
    async with calling(ATTENDED, tool="mode: attended") as (bench, phone, desk):
        await consulted(desk)
        await desk.hang_up()
        await given_back(bench, phone, "the call was not taken")


async def test_a_call_whose_time_is_up_while_somebody_is_asked() -> None:
    """The warning and the goodbye are for the caller."""
    farewell = "agent: {farewell: Goodbye.}\nlimits: {call_seconds: 2.5, warning_seconds: 1}"
    async with calling(ATTENDED, tool="mode: attended", tenant=farewell) as (bench, phone, desk):
        await consulted(desk)
        start = len(desk.audio.packets)
        await phone.audio.hear_sound(30, hz=800, within=5)
        await desk.expect("BYE")
        assert not any(is_loud(packet) for packet in desk.audio.audio(start + 10))
        session = await bench.session()
        assert "Goodbye." in str(session.messages("response.create"))
        assert session.violations == []
        await phone.expect("BYE", within=5)
        assert (await bench.report()).ended is Ended.TOO_LONG


async def test_a_caller_who_hangs_up_meanwhile() -> None:
    async with calling(ATTENDED, tool="mode: attended") as (bench, phone, desk):
        await consulted(desk)
        await phone.hang_up()
        await desk.expect("BYE")
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_an_attended_transfer_leaves_us_out_where_the_caller_s_side_can() -> None:
    async with calling(ATTENDED, tool="mode: attended", headers=KNOWS_ALL) as (bench, phone, desk):
        await consulted(desk)
        desk.audio.press("1")
        refer = await phone.expect("REFER")
        replaces = re.search(r"\?Replaces=([^&>]+)", refer["Refer-To"])
        assert replaces is not None
        assert replaces[1].startswith(desk.call_id.replace("@", "%40"))
        await hear_each_other(phone, desk)  # nobody waits for that
        phone.respond(refer, 202, "Accepted")
        phone.notify("SIP/2.0 100 Trying\r\n")
        await desk.hang_up()  # its call has been replaced
        await phone.expect("BYE")
        assert (await bench.report()).ended is Ended.TRANSFERRED


async def test_a_replacement_that_comes_to_nothing_leaves_the_two_connected() -> None:
    async with calling(ATTENDED, tool="mode: attended", headers=KNOWS_ALL) as (_, phone, desk):
        await consulted(desk)
        desk.audio.press("1")
        phone.respond(await phone.expect("REFER"), 603, "Decline")
        await hear_each_other(phone, desk)
        await phone.hang_up()
        await desk.expect("BYE")


# --- hold -------------------------------------------------------------------------------------

HOLDS = Script((ANNOUNCES, GOES_ON), speed=0, tools={0: ToolUse("hold", '{"seconds": 60}', spoken=True)})


@pytest.mark.parametrize("ended_by", ["speech", "key", "time"])
async def test_hold_ends_when_the_caller_wants_it_to(ended_by: str) -> None:
    script = HOLDS
    if ended_by == "time":
        script = Script(HOLDS.utterances, speed=0, tools={0: ToolUse("hold", '{"seconds": 0.5}', spoken=True)})
    async with house(script, tenant="tools: {hold: {seconds: 60}}") as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.1))
        await phone.audio.hear_sound(15, hz=500)
        await phone.audio.hear(10)
        start = len(phone.audio.packets)
        await phone.audio.hear(10)
        assert -45 < level_db(phone.audio.sound(start)) < -20
        if ended_by == "speech":
            phone.audio.say(tone(1000, 0.2))
        elif ended_by == "key":
            phone.audio.press("3")
        await phone.audio.hear_sound(8, hz=800)
        session = await bench.session()
        said = {"speech": "the caller speaks", "key": "the caller pressed a key", "time": "0.5 seconds are over"}
        assert said[ended_by] in str(session.messages("conversation.item.create"))
        assert session.violations == []
        await phone.hang_up()
