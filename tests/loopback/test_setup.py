"""Setting up a call: 180 while the model connects, 200 when it can hear, and what may come between."""

from __future__ import annotations

import asyncio

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Fault, Script
from tests.loopback.house import house, within
from tests.loopback.phone import describe


async def test_rings_until_the_model_can_hear_then_answers() -> None:
    async with house(Script(fault=Fault("slow", "300"))) as bench:
        phone = await bench.phone()
        phone.invite()
        trying, ringing = await phone.expect(100), await phone.expect(180)
        assert ringing.at - trying.at < 0.2
        answered = await phone.expect(200)
        assert answered.at - ringing.at > 0.25
        assert "session.update" in [message["type"] for message in bench.model.sessions[0].messages()]
        assert answered.to_tag == ringing.to_tag != ""
        phone.ack(answered)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        assert phone.statuses() == [100, 180, 200]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status:401", "401"),
        ("silence", "timeout"),
        ("no_update", "timeout"),
        ("refuse_setup", "invalid_value"),
    ],
)
async def test_a_model_that_cannot_hear_is_480_with_a_reason_and_never_200(fault: str, said: str) -> None:
    tenant = "deadlines: {connect_seconds: 0.3}"
    async with house(Script(fault=Fault.parse(fault)), tenant=tenant) as bench:
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert f"agent_not_ready: {said}" in refused["Reason"]
        assert refused["Reason"].startswith("Q.850;cause=")
        assert (await bench.report()).ended is Ended.AGENT_NOT_READY
        assert phone.statuses() == [100, 180, 480]
        for record in bench.model.sessions:
            await within(1.0, record.closed)


async def test_nothing_listening_where_the_model_should_be_is_480() -> None:
    async with house(url=lambda model: "ws://127.0.0.1:9/v1/realtime") as bench:
        phone = await bench.phone()
        phone.invite()
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert "agent_not_ready: refused" in refused["Reason"]
        assert phone.statuses() == [100, 180, 480]


async def test_names_in_latin_1_and_an_escaped_number_are_read_and_answered() -> None:
    tenant = """
        match: {to: ["+15550100"]}
        agent: {instructions: 'Member: {{ header["X-Member"] | default("none") }}, dialled: {{ call.to }}'}
    """
    async with house(tenant=tenant) as bench:
        phone = await bench.phone()
        phone.user = "%2B15550100"
        phone.invite(headers=(("X-Member", "J\udcfcrgen"),))
        phone.ack(await phone.expect(200))
        update = next(message for message in bench.model.sessions[0].messages() if message["type"] == "session.update")
        assert update["session"]["instructions"] == "Member: J\u00fcrgen, dialled: +15550100"
        await phone.hang_up()
        await bench.report()


async def test_an_invite_received_three_times_is_one_call() -> None:
    async with house(Script(fault=Fault("slow", "100"))) as bench:
        phone = await bench.phone()
        phone.invite()
        phone.send(phone.invite_text)
        phone.send(phone.invite_text)
        answered = await phone.expect(200)
        phone.send(phone.invite_text)  # its 200 was lost, says the phone; the next is due after T1 (RFC 6026 §7.1)
        bench.pass_time(0.5)
        again = await phone.expect(200)
        assert again.body == answered.body
        phone.ack(answered)
        phone.send(phone.invite_text)  # and late copies of it
        phone.send(phone.invite_text)
        await phone.hang_up()
        await bench.report()
        assert len(bench.model.sessions) == 1
        assert len(bench.reports) == 1
        assert {message.to_tag for message in phone.messages if message.status > 100} == {answered.to_tag}


async def test_cancel_before_200() -> None:
    async with house(Script(fault=Fault("silence"))) as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(180)
        session = await bench.session()
        phone.cancel()
        await phone.expect(200, "CANCEL")
        refused = await phone.expect(487, "INVITE")
        phone.ack_failure(refused)
        await within(1.0, session.closed)
        assert (await bench.report()).ended is Ended.CALLER_CANCELLED
        assert phone.statuses() == [100, 180, 487]


async def test_cancel_in_the_same_datagrams_as_its_invite() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.invite()
        phone.cancel()
        await phone.expect(200, "CANCEL")
        phone.ack_failure(await phone.expect(487, "INVITE"))
        assert (await bench.report()).ended is Ended.CALLER_CANCELLED
        assert 200 not in phone.statuses()


@pytest.mark.parametrize("turns", range(6))
async def test_cancel_racing_the_200(turns: int) -> None:
    """Whoever wins, both sides agree, and nothing is left of the call."""
    async with house() as bench:
        phone = await bench.phone()
        phone.invite()
        session = await bench.session()
        await session.wait_until(lambda: len(session.sent) >= 2)  # session.updated is on its way
        for _ in range(turns):
            await asyncio.sleep(0)
        phone.cancel()
        await phone.expect(200, "CANCEL")
        await phone.until(lambda: phone.statuses()[-1] >= 200)
        if phone.statuses()[-1] == 487:
            phone.ack_failure(await phone.expect(487, "INVITE"))
            assert 200 not in phone.statuses()
            assert (await bench.report()).ended is Ended.CALLER_CANCELLED
        else:
            phone.ack(await phone.expect(200, "INVITE"))
            await phone.hang_up()
            assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        await within(1.0, session.closed)


async def test_a_cancel_after_the_200_changes_nothing() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.invite()
        answered = await phone.expect(200, "INVITE")
        phone.cancel()
        await phone.expect(200, "CANCEL")
        phone.ack(answered)
        phone.audio.connect(answered.rtp)
        await phone.audio.hear(5)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_200_is_repeated_until_its_ack() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.invite()
        answered = await phone.expect(200)
        for seconds in (0.5, 1.0, 2.0):  # RFC 3261 §13.3.1.4: T1, doubled
            bench.pass_time(seconds)
            assert (await phone.expect(200)).body == answered.body
        phone.ack(answered)
        await phone.hang_up()
        bench.pass_time(4.0)
        await bench.report()
        assert phone.statuses() == [100, 180, 200, 200, 200, 200]


async def test_a_200_that_is_never_acknowledged_ends_in_bye() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(200)
        session = await bench.session()
        bench.pass_time(33.0)
        await phone.expect("BYE")
        report = await bench.report()
        assert report.ended is Ended.SIGNALLING_FAILED
        assert "ack" in report.detail.lower()
        await within(1.0, session.closed)


async def test_bye_before_ack() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.invite()
        answered = await phone.expect(200)
        session = await bench.session()
        phone.target = answered["Contact"][1:-1]
        phone.bye(to=answered["To"])
        await phone.expect(200, "BYE")
        await within(1.0, session.closed)
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        bench.pass_time(1.0)
        assert phone.statuses().count(200) == 1, "no 200 is repeated for a call that is over"


async def test_bye_while_it_rings() -> None:
    async with house(Script(fault=Fault("silence"))) as bench:
        phone = await bench.phone()
        phone.invite()
        ringing = await phone.expect(180)
        session = await bench.session()
        phone.target = ringing["Contact"][1:-1]
        phone.bye(to=ringing["To"])
        await phone.expect(200, "BYE")
        phone.ack_failure(await phone.expect(487, "INVITE"))
        await within(1.0, session.closed)
        assert (await bench.report()).ended is Ended.CALLER_CANCELLED


async def test_an_offer_that_comes_with_the_ack() -> None:
    """RFC 3261 §13.2.1: an INVITE without a session description asks us for the offer."""
    async with house(tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        phone.invite(b"")
        answered = await phone.expect(200)
        assert [line.split()[3:] for line in answered.media_lines] == [["0", "8", "101"]]
        phone.audio.payload_type = 8
        phone.ack(answered, body=describe(phone.audio.address, formats=(8, 101)))
        phone.audio.connect(answered.rtp)
        packets = await phone.audio.hear_sound(10, hz=440)
        assert {packet.payload_type for packet in packets} == {8}
        await phone.hang_up()
        assert (await bench.report()).codec == "PCMA"


async def test_an_ack_without_the_answer_that_was_due_ends_the_call() -> None:
    async with house() as bench:
        phone = await bench.phone()
        phone.invite(b"")
        phone.ack(await phone.expect(200))
        bye = await phone.expect("BYE")
        assert "Reason" in bye
        assert (await bench.report()).ended is Ended.SIGNALLING_FAILED


async def test_over_tcp() -> None:
    async with house(tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone(transport="tcp")
        answered = await phone.call()
        assert "transport=tcp" in answered["Contact"]
        await phone.audio.hear_sound(5, hz=440)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP


async def test_record_route_is_mirrored_and_followed() -> None:
    async with house(tenant="tools: {hang_up: {}}") as bench:
        phone = await bench.phone()
        routes = (f"<sip:{phone.here};lr;p=1>", "<sip:outer.example.com;lr>")
        phone.invite(headers=tuple(("Record-Route", route) for route in routes))
        answered = await phone.expect(200)
        assert answered.all("Record-Route") == list(routes)
        phone.ack(answered)
        bench.gateway.calls.sessions[0].end(Ended.AGENT_HUNG_UP)
        bye = await phone.expect("BYE")
        assert bye.all("Route") == list(routes)
