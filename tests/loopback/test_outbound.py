"""Calls that the gateway makes, to a hand-written telephone behind a trunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sipbridge.call import CallSession
from sipbridge.errors import CallNotPlacedError
from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.callee import Callee
from tests.loopback.house import House, house
from tests.loopback.phone import describe
from tests.loopback.sound import ULAW, level_db, loudest, tone

GREETS = "agent: {greeting: Hello.}"
SPEAKS = Script(utterances=(Utterance(seconds=3, tone_hz=600),), speed=0, vad_rms=1e9)


@asynccontextmanager
async def trunk(
    script: Script | None = None,
    *,
    tenant: str = GREETS,
    outbound: str = "",
    more: str = "",
    sources: str = "127.0.0.1",
) -> AsyncIterator[tuple[House, Callee]]:
    callee = await Callee.listen()
    config = (
        f"trunks: [{{name: pbx, sources: ['{sources}'], "
        f"outbound: {{proxy: '{callee.trunk}', from: '+15550199', ping_seconds: 0, {outbound}}}, {more}}}]"
    )
    async with house(script, tenant=tenant, config=config, phones=[callee]) as bench:
        yield bench, callee


def dial(bench: House, to: str = "+15550100") -> CallSession:
    return bench.gateway.dial("t", to, trunk="pbx")


async def test_somebody_is_called_and_the_agent_speaks_at_once() -> None:
    async with trunk(SPEAKS) as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        assert invite.start_line == f"INVITE sip:+15550100@{callee.here} SIP/2.0"
        assert invite["From"].startswith("<sip:+15550199@127.0.0.1>;tag=")
        assert invite["Call-ID"] == session.call_id
        assert invite.media_lines[0].split()[3:] == ["0", "8", "101"]
        callee.reply(invite, 180, "Ringing")
        model = await bench.session()  # the model is made ready while it rings
        await callee.answer(invite)
        first = (await callee.audio.hear_sound(1, hz=600))[0]
        assert first.at - callee.messages[-1].at < 0.3
        callee.audio.say(tone(1000, 0.4))
        start = len(model.audio)
        await model.wait_until(lambda: len(model.audio) > start + 3200)
        assert level_db(loudest(ULAW.decode(bytes(model.audio)), 0.1)) > -15
        await callee.hang_up()
        report = await session.report()
        assert (report.ended, report.direction, report.trunk) == (Ended.CALLEE_HUNG_UP, "outbound", "pbx")
        assert (report.codec, report.status) == ("PCMU", None)
        assert report.setup_ms is not None


@pytest.mark.parametrize(
    ("status", "headers", "ended"),
    [
        (486, (), Ended.BUSY),
        (600, (), Ended.BUSY),
        (480, (), Ended.NO_ANSWER),
        (603, (), Ended.DECLINED),
        (403, (), Ended.DECLINED),
        (404, (), Ended.UNREACHABLE),
        (503, (), Ended.UNREACHABLE),
        (500, (), Ended.UNREACHABLE),
        (488, (), Ended.REFUSED),
        (302, (("Contact", "<sip:+19005550100@127.0.0.9>"),), Ended.REDIRECTED),
        (480, (("Reason", 'Q.850;cause=17;text="User busy"'),), Ended.BUSY),
        (503, (("Reason", "SIP;cause=480, Q.850;cause=21"),), Ended.DECLINED),
        (420, (), Ended.SIGNALLING_FAILED),
    ],
)
async def test_a_refusal_has_a_clear_outcome(status: int, headers: tuple[tuple[str, str], ...], ended: Ended) -> None:
    async with trunk() as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        callee.reply(invite, status, headers=headers)
        await callee.expect("ACK")
        report = await session.report()
        assert (report.ended, report.status, report.setup_ms) == (ended, status, None)
        assert [message.start_line.split()[0] for message in callee.messages] == ["INVITE", "ACK"], "302: not followed"


async def test_nobody_answers() -> None:
    async with trunk(outbound="ring_seconds: 0.4") as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        cancel = await callee.expect("CANCEL")
        callee.respond(cancel, 200)
        callee.reply(invite, 487)
        report = await session.report()
        assert (report.ended, report.detail) == (Ended.NO_ANSWER, "no answer within 0.4 s")


async def test_we_give_it_up() -> None:
    async with trunk() as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        await bench.session()
        session.end(Ended.CANCELLED)
        cancel = await callee.expect("CANCEL")
        assert "cancelled" in cancel["Reason"]
        callee.respond(cancel, 200)
        callee.reply(invite, 487)
        assert (await session.report()).ended is Ended.CANCELLED


async def test_an_answer_that_crosses_our_cancel_is_acknowledged_and_hung_up() -> None:
    async with trunk() as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        await bench.session()
        session.end(Ended.CANCELLED)
        cancel = await callee.expect("CANCEL")
        callee.reply(invite, 200, "OK", body=describe(callee.audio.address))
        callee.respond(cancel, 200)
        await callee.expect("ACK")
        await callee.expect("BYE")


async def test_nobody_is_there() -> None:
    async with trunk(outbound="transport: tcp") as (bench, callee):
        session = dial(bench)  # it listens on UDP alone
        report = await session.report()
        assert (report.ended, report.codec) == (Ended.UNREACHABLE, None)
        assert callee.messages == []


async def test_an_answer_without_a_codec_of_ours_is_hung_up() -> None:
    async with trunk() as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 200, "OK", body=describe(callee.audio.address, formats=(18,)))
        await callee.expect("ACK")
        await callee.expect("BYE")
        assert (await session.report()).ended is Ended.REFUSED


async def test_a_machine_that_says_so_is_told_to_the_agent() -> None:
    tenant = """
        agent:
          greeting: "{% if call.machine %}Please call us back.{% else %}Hello.{% endif %}"
    """
    async with trunk(SPEAKS, tenant=tenant) as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        model = await bench.session()
        assert (await model.wait_for("session.update"))["session"]["instructions"] == "You are a test."
        await callee.answer(invite, contact=f'<sip:phone@{callee.here}>;automata;actor="msg-taker"')
        said = await model.wait_for("response.create")
        assert "Please call us back." in said["response"]["instructions"]
        told = [message["session"] for message in model.messages() if message["type"] == "session.update"][1:]
        assert [session["instructions"].split("\n\n")[0] for session in told] == ["You are a test."]
        assert "a machine has answered this call (voicemail)" in told[0]["instructions"]
        await callee.audio.hear_sound(3, hz=600)
        await callee.hang_up()
        report = await session.report()
        assert (report.ended, report.machine) == (Ended.CALLEE_HUNG_UP, "voicemail")


@pytest.mark.parametrize("heard", [False, True])
async def test_early_media(heard: bool) -> None:
    """An announcement before the answer. Its port is read in any case: what was said before is not heard later."""
    async with trunk(SPEAKS, outbound=f"early_media: {str(heard).lower()}") as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 183, body=describe(callee.audio.address))
        model = await bench.session()
        await callee.audio.hear(3)
        callee.audio.connect(invite.rtp)
        callee.audio.say(tone(1000, 0.3))
        await callee.audio.said()
        if heard:
            await model.wait_until(lambda: len(model.audio) > 2400)
        callee.reply(invite, 200, "OK")  # the description was that of the 183
        await callee.expect("ACK")
        await callee.audio.hear_sound(1, hz=600)
        start = len(model.audio)
        await model.wait_until(lambda: len(model.audio) > start + 1600)
        loud = level_db(loudest(ULAW.decode(bytes(model.audio)), 0.1)) > -30
        assert loud is heard
        session.end(Ended.AGENT_HUNG_UP)
        await callee.expect("BYE")


async def test_a_ringing_tone_without_a_description_is_not_heard_later() -> None:
    async with trunk(SPEAKS) as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        model = await bench.session()
        callee.audio.connect(invite.rtp)
        callee.audio.say(tone(1000, 0.4))
        await callee.audio.said()
        callee.audio.hush()
        callee.reply(invite, 200, "OK", body=describe(callee.audio.address))
        await callee.expect("ACK")
        callee.audio.connect(invite.rtp)
        start = len(model.audio)
        await model.wait_until(lambda: len(model.audio) > start + 1600)
        assert level_db(loudest(ULAW.decode(bytes(model.audio)), 0.1)) < -60
        session.end(Ended.AGENT_HUNG_UP)
        await callee.expect("BYE")


async def test_an_agent_that_cannot_be_had_takes_the_call_back() -> None:
    async with trunk(tenant="deadlines: {connect_seconds: 0.3}\nagent: {url: 'ws://127.0.0.1:1/x'}") as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        cancel = await callee.expect("CANCEL")
        callee.respond(cancel, 200)
        callee.reply(invite, 487)
        assert (await session.report()).ended is Ended.AGENT_NOT_READY


async def test_the_trunks_codecs_are_offered_and_its_budget_holds() -> None:
    async with trunk(outbound="max_calls: 1", more="codecs: [PCMA]") as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        assert invite.media_lines[0].split()[3:] == ["8", "101"]
        second = dial(bench)
        assert (await second.report()).ended is Ended.REFUSED
        assert "max_calls" in (await second.report()).detail
        await callee.answer(invite, describe(callee.audio.address, formats=(8, 101)))
        await callee.audio.hear(3)
        await callee.hang_up()
        assert (await session.report()).codec == "PCMA"
        third = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 486)
        assert (await third.report()).ended is Ended.BUSY


async def test_what_cannot_be_dialled_is_said_at_once() -> None:
    async with trunk() as (bench, callee):
        gateway = bench.gateway
        with pytest.raises(CallNotPlacedError, match="no trunk 'other'"):
            gateway.dial("t", "100", trunk="other")
        with pytest.raises(CallNotPlacedError, match="no tenant 'x'"):
            gateway.dial("x", "100")
        with pytest.raises(CallNotPlacedError, match="neither a number"):
            gateway.dial("t", "http://example.com")
        bench.gateway.user_agent.unavailable = 5
        with pytest.raises(CallNotPlacedError, match="about to stop"):
            gateway.dial("t", "100")
        assert callee.messages == []


async def test_a_call_that_rings_is_taken_back_when_the_gateway_closes() -> None:
    async with trunk() as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        callee.reply(invite, 180)
        await bench.session()
        bench.gateway.calls.end_all(Ended.SHUTDOWN)
        cancel = await callee.expect("CANCEL")
        callee.respond(cancel, 200)
        callee.reply(invite, 487)
        assert (await asyncio.wait_for(session.report(), 2)).ended is Ended.SHUTDOWN


async def test_a_redirection_is_followed_where_the_trunk_permits_it() -> None:
    async with trunk(SPEAKS, more="follow_redirects: true, refer_targets: ['+1555010*']") as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        contacts = "<sip:+19005550100@127.0.0.1>, <sip:+15550105@127.0.0.1:9;transport=tcp>"
        callee.reply(invite, 302, headers=(("Contact", contacts),))
        await callee.expect("ACK")
        again = await callee.expect("INVITE")
        assert again.start_line.startswith(f"INVITE sip:+15550105@{callee.here} "), "by way of the trunk's proxy"
        assert again["Call-ID"] != invite["Call-ID"]
        await callee.answer(again)
        await callee.audio.hear_sound(3, hz=600)
        await callee.hang_up()
        report = await session.report()
        assert (report.ended, report.call_id) == (Ended.CALLEE_HUNG_UP, invite["Call-ID"])


async def test_redirections_have_an_end() -> None:
    async with trunk(more="follow_redirects: true, refer_targets: ['+1555010*']") as (bench, callee):
        session = dial(bench)
        for _ in range(4):
            invite = await callee.expect("INVITE")
            callee.reply(invite, 302, headers=(("Contact", "<sip:+15550105@127.0.0.1>"),))
            await callee.expect("ACK")
        assert (await session.report()).ended is Ended.REDIRECTED


async def test_the_callee_holds_resumes_and_changes_its_codec() -> None:
    async with trunk(SPEAKS) as (bench, callee):
        session = dial(bench)
        await callee.answer(await callee.expect("INVITE"))
        await callee.audio.hear_sound(2, hz=600)
        callee.reinvite(describe(callee.audio.address, direction="sendonly", version=2))
        held = await callee.expect(200, "INVITE")
        callee.ack(held)
        assert held.direction == "recvonly"
        with pytest.raises(TimeoutError):
            await callee.audio.hear(3, within=0.2)
        callee.audio.payload_type = 8
        callee.reinvite(describe(callee.audio.address, formats=(8, 101), version=3))
        callee.ack(await callee.expect(200, "INVITE"))
        packets = await callee.audio.hear_sound(3, hz=600)
        assert {packet.payload_type for packet in packets} == {8}
        await callee.hang_up()
        assert (await session.report()).codec == "PCMA"


async def test_a_challenge_is_answered() -> None:
    async with trunk(SPEAKS, outbound="auth: {username: '7000', password: secret}") as (bench, callee):
        session = dial(bench)
        invite = await callee.expect("INVITE")
        challenge = 'Digest realm="pbx", nonce="n1", qop="auth", algorithm=SHA-256'
        callee.reply(invite, 407, headers=(("Proxy-Authenticate", challenge),))
        await callee.expect("ACK")
        again = await callee.expect("INVITE")
        assert again["Call-ID"] == invite["Call-ID"]
        assert 'username="7000"' in again["Proxy-Authorization"]
        await callee.answer(again)
        await callee.audio.hear_sound(2, hz=600)
        await callee.hang_up()
        assert (await session.report()).ended is Ended.CALLEE_HUNG_UP
        ladder = bench.gateway.ladders.get(session.call_id)
        assert ladder is not None
        text = "\n".join(ladder.transcript())
        assert "Proxy-Authorization: Digest ***" in text
        assert "response=" not in text


async def test_a_password_that_is_not_to_be_had_places_no_call() -> None:
    async with trunk(outbound="auth: {username: '7000', password: '${NO_SUCH_VARIABLE}'}") as (bench, callee):
        report = await dial(bench).report()
        assert (report.ended, "NO_SUCH_VARIABLE is not set" in report.detail) == (Ended.REFUSED, True)
        assert callee.messages == []


async def test_a_proxy_that_is_not_among_the_sources_may_answer_and_may_not_call() -> None:
    async with trunk(SPEAKS, sources="127.0.0.2") as (bench, callee):
        callee.towards(bench.address())
        callee.invite()
        with pytest.raises(AssertionError, match="no 100"):
            await callee.expect(100, within=0.2)
        session = dial(bench)
        await callee.answer(await callee.expect("INVITE"))
        await callee.audio.hear_sound(2, hz=600)
        stranger = await bench.phone()
        stranger.invite()
        stranger.ack_failure(await stranger.expect(403))
        await callee.hang_up()
        assert (await session.report()).ended is Ended.CALLEE_HUNG_UP
