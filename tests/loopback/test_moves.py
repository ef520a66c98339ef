"""A conversation that moves: REFER and Replaces from a trunk that may, and from those that may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.callee import Callee
from tests.loopback.house import House, house
from tests.loopback.phone import Message, Phone, describe
from tests.loopback.sound import ULAW, level_db, loudest, tone

LONG = Script(utterances=(Utterance(seconds=6, tone_hz=600),), speed=0, vad_rms=1e9)
GREETS = "agent: {greeting: Hello.}"
ALLOWED = "accept_refer: true, refer_targets: ['+1555010*', desk]"


@asynccontextmanager
async def called(trunk: str = ALLOWED, *, ring_seconds: float = 5) -> AsyncIterator[tuple[House, Phone, Callee]]:
    """A phone in conversation with the agent, and whom it may be transferred to."""
    callee = await Callee.listen()
    config = (
        "trunks: [{name: pbx, sources: ['127.0.0.1'], "
        f"outbound: {{proxy: '{callee.trunk}', ping_seconds: 0, ring_seconds: {ring_seconds}}}, {trunk}}}]"
    )
    async with house(LONG, tenant=GREETS, config=config, phones=[callee]) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(3, hz=600)
        yield bench, phone, callee


def refer(phone: Phone, target: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
    phone.send(phone.request("REFER", headers=(("Refer-To", f"<{target}>"), *headers)))


async def notified(phone: Phone) -> list[str]:
    """What the NOTIFYs say, up to the last."""
    told = []
    while True:
        notify = await phone.expect("NOTIFY")
        phone.respond(notify, 200)
        told.append(notify.body.decode().strip())
        if notify["Subscription-State"].startswith("terminated"):
            return told


async def heard_by_model(bench: House) -> bool:
    """Whether what is said from now on reaches the model."""
    model = await bench.session()
    start = len(model.audio)
    await model.wait_until(lambda: len(model.audio) > start + 2400)
    return level_db(loudest(ULAW.decode(bytes(model.audio[start:])), 0.1)) > -20


async def test_a_transfer_moves_the_conversation_with_its_agent() -> None:
    async with called() as (bench, phone, callee):
        refer(phone, f"sip:+1-555-0101@{callee.here}")
        await phone.expect(202, "REFER")
        invite = await callee.expect("INVITE")
        assert invite.start_line.startswith(f"INVITE sip:+15550101@{callee.here} ")
        callee.reply(invite, 180, "Ringing")
        await phone.audio.hear_sound(5, hz=600)  # meanwhile the old telephone is talked to
        last = phone.audio.packets[-1]
        callee.reply(invite, 200, "OK", body=describe(callee.audio.address))
        callee.audio.connect(invite.rtp)
        callee.audio.say(tone(1000, 1.0))
        await callee.expect("ACK")
        first = (await callee.audio.hear_sound(1, hz=600))[0]
        silence = first.at - max(packet.at for packet in phone.audio.packets)
        assert silence < 0.2
        assert first.ssrc == last.ssrc, "the same stream goes on"
        told = await notified(phone)
        assert told[0] == "SIP/2.0 100 Trying"
        assert told[-1] == "SIP/2.0 200 OK"
        assert await heard_by_model(bench)
        before = len(phone.audio.packets)
        await callee.audio.hear(5)
        assert len(phone.audio.packets) == before, "nothing more goes to the old one"
        await phone.hang_up()
        await callee.audio.hear_sound(5, hz=600)
        await callee.hang_up()
        report = await bench.report()
        assert (report.ended, len(bench.reports), len(bench.model.sessions)) == (Ended.CALLER_HUNG_UP, 1, 1)
        assert report.call_id != callee.call_id
        ladder = bench.gateway.ladders.get(callee.call_id)
        assert ladder is bench.gateway.ladders.get(report.call_id)
        assert ladder is not None
        assert "REFER" in "\n".join(ladder.lines())


async def test_who_asked_for_a_transfer_and_does_not_hang_up_is_hung_up() -> None:
    async with called() as (bench, phone, callee):
        refer(phone, "tel:+15550101")
        await callee.answer(await callee.expect("INVITE"))
        await notified(phone)
        await phone.expect("BYE", within=4)
        await callee.audio.hear_sound(3, hz=600)
        await callee.hang_up()
        await bench.report()


@pytest.mark.parametrize(("status", "said"), [(486, "SIP/2.0 486"), (302, "SIP/2.0 302")])
async def test_a_transfer_that_fails_leaves_the_conversation_where_it_was(status: int, said: str) -> None:
    async with called() as (bench, phone, callee):
        refer(phone, "tel:+15550101")
        invite = await callee.expect("INVITE")
        callee.reply(invite, status, headers=(("Contact", "<sip:+15550199@127.0.0.9>"),))
        await callee.expect("ACK")
        assert (await notified(phone))[-1].startswith(said)
        await phone.audio.hear_sound(5, hz=600)
        phone.audio.say(tone(1000, 0.4))
        assert await heard_by_model(bench)
        refer(phone, "tel:+15550101")  # once more, and now it is free
        await callee.answer(await callee.expect("INVITE"))
        await notified(phone)
        await phone.hang_up()
        await callee.audio.hear_sound(3, hz=600)
        await callee.hang_up()


async def test_a_target_that_does_not_answer() -> None:
    async with called(ring_seconds=0.4) as (bench, phone, callee):
        refer(phone, "tel:+15550101")
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        callee.respond(await callee.expect("CANCEL"), 200)
        callee.reply(invite, 487)
        assert (await notified(phone))[-1].startswith("SIP/2.0 487")
        await phone.audio.hear_sound(3, hz=600)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_who_hangs_up_before_the_transfer_is_through_has_transferred() -> None:
    async with called() as (bench, phone, callee):
        refer(phone, "sip:desk@127.0.0.1")
        await phone.expect(202, "REFER")
        invite = await callee.expect("INVITE")
        phone.bye()
        await phone.expect(200, "BYE")
        await callee.answer(invite)
        await callee.audio.hear_sound(5, hz=600)
        callee.audio.say(tone(1000, 0.4))
        assert await heard_by_model(bench)
        await callee.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_who_hangs_up_before_a_transfer_that_fails_has_ended_the_call() -> None:
    async with called() as (bench, phone, callee):
        refer(phone, "sip:desk@127.0.0.1")
        invite = await callee.expect("INVITE")
        phone.bye()
        await phone.expect(200, "BYE")
        callee.reply(invite, 486)
        report = await bench.report()
        assert report.ended is Ended.CALLER_HUNG_UP
        assert "486" in report.detail


async def test_an_attended_transfer_replaces_the_call_that_it_names() -> None:
    async with called() as (bench, phone, callee):
        refer(
            phone, f"sip:desk@{callee.here}?Replaces=abc%40x%3Bto-tag%3D1%3Bfrom-tag%3D2&Route=%3Csip:evil@192.0.2.9%3E"
        )
        await phone.expect(202, "REFER")
        invite = await callee.expect("INVITE")
        assert invite["Replaces"] == "abc@x;to-tag=1;from-tag=2"
        assert "replaces" in invite["Require"]
        assert "Route" not in invite
        await callee.answer(invite)
        await notified(phone)
        await phone.hang_up()
        await callee.audio.hear_sound(3, hz=600)
        await callee.hang_up()


@pytest.mark.parametrize(
    "target",
    [
        "sip:+19005550100@127.0.0.1",
        "sip:+15550101@other.example.com",
        "sip:+15550201@127.0.0.1",
        "tel:+1-900-555-0100",
        "sip:%2b1900@127.0.0.1",
        "sip:desk@192.0.2.1",
        "sip:desk@127.0.0.1;method=BYE",
    ],
)
async def test_nobody_else_is_called(target: str) -> None:
    async with called() as (bench, phone, callee):
        refer(phone, target)
        await phone.expect(403, "REFER")
        await phone.audio.hear_sound(2, hz=600)
        assert callee.messages == []
        await phone.hang_up()


async def test_a_trunk_that_may_not_transfer_does_not() -> None:
    async with called("refer_targets: ['+1555010*']") as (bench, phone, callee):
        refer(phone, "tel:+15550101")
        await phone.expect(403, "REFER")
        second = await bench.phone()
        second.invite(headers=replaces(phone))
        second.ack_failure(await second.expect(403))
        assert callee.messages == []
        await phone.hang_up()


async def test_a_call_of_another_trunk_replaces_none() -> None:
    other = "accept_refer: true, refer_targets: [desk]}, {name: other, sources: ['127.0.0.2']"
    async with called(other) as (bench, phone, callee):
        stranger = await bench.phone(host="127.0.0.2")
        stranger.invite(headers=replaces(phone))
        stranger.ack_failure(await stranger.expect(403))
        await phone.audio.hear_sound(3, hz=600)
        await phone.hang_up()


def replaces(phone: Phone, *, early: bool = False) -> tuple[tuple[str, str], ...]:
    ours = phone.to.partition("tag=")[2]
    value = f"{phone.call_id};to-tag={ours};from-tag={phone.tag}{';early-only' if early else ''}"
    return (("Replaces", value), ("Require", "replaces"))


@pytest.mark.parametrize("late", [False, True])
async def test_a_call_replaces_another(late: bool) -> None:
    async with called() as (bench, phone, callee):
        second = await bench.phone()
        second.invite(b"" if late else None, headers=replaces(phone))
        answered = await second.expect(200, "INVITE")
        second.ack(answered, body=describe(second.audio.address) if late else b"")
        second.audio.connect(answered.rtp)
        second.audio.say(tone(1000, 0.8))
        first = (await second.audio.hear_sound(1, hz=600))[0]
        bye = await phone.expect("BYE")
        assert "transferred" in bye["Reason"]
        assert first.at - max(packet.at for packet in phone.audio.packets) < 0.2
        assert await heard_by_model(bench)
        phone.audio.hush()
        await second.audio.hear_sound(5, hz=600)
        await second.hang_up()
        report = await bench.report()
        assert (report.ended, len(bench.reports), len(bench.model.sessions)) == (Ended.CALLER_HUNG_UP, 1, 1)


async def test_a_replacement_without_a_codec_of_ours_changes_nothing() -> None:
    async with called() as (bench, phone, callee):
        second = await bench.phone()
        second.invite(describe(second.audio.address, formats=(18,)), headers=replaces(phone))
        second.ack_failure(await second.expect(488))
        await phone.audio.hear_sound(3, hz=600)
        await phone.hang_up()


async def test_a_replacement_that_is_never_acknowledged_with_its_answer_changes_nothing() -> None:
    async with called() as (bench, phone, callee):
        second = await bench.phone()
        second.invite(b"", headers=replaces(phone))
        second.ack(await second.expect(200, "INVITE"))  # without the answer that was due
        await second.expect("BYE")
        await phone.audio.hear_sound(3, hz=600)
        await phone.hang_up()


async def test_a_call_that_is_not_there_is_not_replaced() -> None:
    async with called() as (bench, phone, callee):
        second = await bench.phone()
        wrong = (("Replaces", f"{phone.call_id};to-tag=x;from-tag=y"), ("Require", "replaces"))
        second.invite(headers=wrong)
        refused: Message = await second.expect(481)
        second.ack_failure(refused)
        await phone.hang_up()
