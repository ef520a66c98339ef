"""How a call is answered, and what is heard until then, over real sockets."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, Utterance
from tests.loopback.house import House, house
from tests.loopback.phone import Message, Phone, describe
from tests.loopback.sound import level_db, peak_hz, tone

RINGING, AGENT, WELCOME = 425.0, 800.0, 1300.0
GREETS = "agent: {greeting: Hello.}\n"


def says(fault: str = "", seconds: float = 2.0) -> Script:
    return Script(
        (Utterance(seconds=seconds, tone_hz=AGENT),), speed=0, vad_rms=1e9, fault=Fault.parse(fault) if fault else None
    )


def a_wav(path: Path, seconds: float, hz: float = WELCOME) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.round(tone(hz, seconds) * 32767).astype("<i2").tobytes())
    return path


async def dialled(bench: House) -> tuple[Phone, Message]:
    phone = await bench.phone()
    answered = await phone.call()
    return phone, answered


# --- immediately ------------------------------------------------------------------------------------------------------


async def test_answered_at_once_and_a_tone_until_the_model_speaks() -> None:
    async with house(says("slow:700"), tenant=f"{GREETS}answer: immediately") as bench:
        phone = await bench.phone()
        phone.invite()
        trying, answered = await phone.expect(100), await phone.expect(200)
        assert answered.at - trying.at < 0.2
        phone.ack(answered)
        phone.audio.connect(answered.rtp)
        ringing = await phone.audio.hear_sound(10, hz=RINGING)
        assert ringing[0].at - answered.at < 0.3
        spoken = await phone.audio.hear_sound(20, hz=AGENT)
        assert spoken[0].at - answered.at > 0.6
        assert level_db(phone.audio.sound()[-800:]) > -20, "the tone is over, the voice is not"
        await phone.hang_up()
        report = await bench.report()
        assert report.ended is Ended.CALLER_HUNG_UP
        assert report.setup_ms is not None
        assert report.setup_ms < 200


async def test_a_sentence_of_the_tenants_own_is_heard_to_its_end_and_the_agent_right_behind(tmp_path: Path) -> None:
    sound = a_wav(tmp_path / "welcome.wav", 0.8)
    async with house(says(), tenant=f"{GREETS}answer: immediately\nwaiting_sound: {sound}") as bench:
        phone, _ = await dialled(bench)
        welcome = await phone.audio.hear_sound(39, hz=WELCOME)
        assert welcome[-1].at - welcome[0].at == pytest.approx(0.76, abs=0.1)
        spoken = await phone.audio.hear_sound(20, hz=AGENT)
        assert spoken[0].at - welcome[-1].at < 0.1, "it was ready meanwhile"
        await phone.hang_up()
        await bench.report()


async def test_music_ends_with_the_agents_first_word(tmp_path: Path) -> None:
    sound = a_wav(tmp_path / "music.wav", 6)
    async with house(says("slow:300"), tenant=f"{GREETS}answer: immediately\nwaiting_sound: {sound}") as bench:
        phone, answered = await dialled(bench)
        await phone.audio.hear_sound(5, hz=WELCOME)
        spoken = await phone.audio.hear_sound(10, hz=AGENT)
        assert spoken[0].at - answered.at < 1.0
        await phone.hang_up()
        await bench.report()


async def test_the_caller_begins_where_the_agent_has_no_greeting() -> None:
    script = Script((Utterance(seconds=1, tone_hz=AGENT),), speed=0, fault=Fault.parse("slow:300"))
    async with house(script, tenant="answer: immediately") as bench:
        phone, _ = await dialled(bench)
        await phone.audio.hear_sound(10, hz=RINGING)
        await bench.session()
        await phone.audio.until(lambda: level_db(phone.audio.sound()[-1600:]) < -70)
        phone.audio.say(tone(1000, 0.5))
        await phone.audio.hear_sound(20, hz=AGENT)
        await phone.hang_up()
        await bench.report()


async def test_answered_and_no_model_is_a_sentence_and_bye() -> None:
    tenant = f"{GREETS}answer: immediately\ndeadlines: {{connect_seconds: 0.3}}"
    async with house(says("status:401"), tenant=tenant) as bench:
        phone, answered = await dialled(bench)
        spoken = await phone.audio.hear_sound(40)
        assert spoken[0].at - answered.at < 2
        bye = await phone.expect("BYE", within=6)
        assert bye["Reason"] == 'Q.850;cause=41;text="agent_not_ready"'
        report = await bench.report()
        assert (report.ended, report.status) == (Ended.AGENT_NOT_READY, None)


async def test_an_invite_without_an_offer_hears_it_after_the_ack() -> None:
    async with house(says("slow:500"), tenant=f"{GREETS}answer: immediately") as bench:
        phone = await bench.phone()
        phone.invite(b"")
        answered = await phone.expect(200)
        phone.ack(answered, body=describe(phone.audio.address))
        phone.audio.connect(answered.rtp)
        await phone.audio.hear_sound(5, hz=RINGING)
        await phone.audio.hear_sound(5, hz=AGENT)
        await phone.hang_up()
        await bench.report()


# --- ring_then_answer -------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_one_ring() -> None:
    async with house(says(), tenant=f"{GREETS}answer: ring_then_answer\nrings: 1") as bench:
        phone = await bench.phone()
        phone.invite()
        ringing = await phone.expect(180)
        answered = await phone.expect(200, within=6)
        assert answered.at - ringing.at == pytest.approx(5.0, abs=0.3)
        phone.ack(answered)
        phone.audio.connect(answered.rtp)
        spoken = await phone.audio.hear_sound(5, hz=AGENT)
        assert spoken[0].at - answered.at < 0.5, "it was ready"
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        assert phone.statuses() == [100, 180, 200]


# --- early media ------------------------------------------------------------------------------------------------------


async def test_early_media_is_183_with_a_description_and_sound_before_the_answer() -> None:
    async with house(says("slow:600"), tenant=f"{GREETS}early_media: true") as bench:
        phone = await bench.phone()
        phone.invite()
        early = await phone.expect(183)
        phone.audio.connect(early.rtp)
        ringing = await phone.audio.hear_sound(15, hz=RINGING)
        assert ringing[0].at - early.at < 0.2
        answered = await phone.expect(200)
        assert ringing[-1].at < answered.at
        assert (answered.rtp, answered.version, answered.to_tag) == (early.rtp, early.version, early.to_tag)
        phone.ack(answered)
        spoken = await phone.audio.hear_sound(15, hz=AGENT)
        assert {packet.ssrc for packet in ringing} == {packet.ssrc for packet in spoken}, "one stream"
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        assert phone.statuses() == [100, 183, 200]


async def test_a_file_in_early_media(tmp_path: Path) -> None:
    sound = a_wav(tmp_path / "sound.wav", 0.3)
    async with house(says("slow:900"), tenant=f"{GREETS}early_media: true\nwaiting_sound: {sound}") as bench:
        phone = await bench.phone()
        phone.invite()
        phone.audio.connect((await phone.expect(183)).rtp)
        await phone.audio.hear_sound(30, hz=WELCOME)  # more than it has: over and over
        phone.ack(await phone.expect(200))
        await phone.audio.hear_sound(15, hz=AGENT)
        assert peak_hz(phone.audio.sound()[-800:]) == pytest.approx(AGENT, abs=15)
        await phone.hang_up()
        await bench.report()


async def test_early_media_that_is_sure_to_arrive() -> None:
    """A caller that knows RFC 3262 gets the description once, reliably: no 200 before the PRACK, and none in it."""
    async with house(says("slow:300"), tenant=f"{GREETS}early_media: true") as bench:
        phone = await bench.phone()
        phone.invite(headers=(("Supported", "100rel"),))
        early = await phone.expect(183)
        assert early["Require"] == "100rel"
        phone.audio.connect(early.rtp)
        await phone.audio.hear_sound(5, hz=RINGING)
        phone.target = early["Contact"].partition("<")[2].partition(">")[0]
        phone.to = early["To"]
        number = phone.sequence
        phone.send(phone.request("PRACK", headers=(("RAck", f"{early['RSeq']} {number} INVITE"),)))
        await phone.expect(200, "PRACK")
        answered = await phone.expect(200, "INVITE")
        assert answered.body == b""
        phone.ack(answered)
        await phone.audio.hear_sound(5, hz=AGENT)
        await phone.hang_up()
        await bench.report()


async def test_without_an_offer_there_is_no_early_media() -> None:
    async with house(says("slow:100"), tenant=f"{GREETS}early_media: true") as bench:
        phone = await bench.phone()
        phone.invite(b"")
        await phone.expect(180)
        phone.cancel()
        phone.ack_failure(await phone.expect(487, "INVITE"))
        await bench.report()


async def test_a_model_that_cannot_hear_is_480_after_early_media() -> None:
    tenant = f"{GREETS}early_media: true\ndeadlines: {{connect_seconds: 0.4}}"
    async with house(says("silence"), tenant=tenant) as bench:
        phone = await bench.phone()
        phone.invite()
        phone.audio.connect((await phone.expect(183)).rtp)
        await phone.audio.hear_sound(5, hz=RINGING)
        refused = await phone.expect(480)
        phone.ack_failure(refused)
        assert refused["Reason"] == 'Q.850;cause=41;text="agent_not_ready: timeout"'
        report = await bench.report()
        assert (report.ended, report.status, report.setup_ms) == (Ended.AGENT_NOT_READY, 480, None)


# --- given up at each moment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", ["answer: ring_then_answer", "early_media: true", "answer: when_ready"])
@pytest.mark.parametrize("how", ["CANCEL", "BYE"])
async def test_given_up_while_it_rings(tenant: str, how: str) -> None:
    async with house(says("silence"), tenant=f"{GREETS}{tenant}") as bench:
        phone = await bench.phone()
        phone.invite()
        ringing = await phone.expect(183 if "early" in tenant else 180)
        if how == "CANCEL":
            phone.cancel()
        else:
            phone.target = ringing["Contact"][1:-1]
            phone.bye(to=ringing["To"])
        await phone.expect(200, how)
        phone.ack_failure(await phone.expect(487, "INVITE"))
        report = await bench.report()
        assert (report.ended, report.status, report.setup_ms) == (Ended.CALLER_CANCELLED, 487, None)
        assert 200 not in phone.statuses()


@pytest.mark.parametrize("tenant", ["answer: immediately", "early_media: true", "answer: when_ready"])
async def test_given_up_at_any_moment(tenant: str) -> None:
    """Whoever wins, both sides agree on it, the report says it, and nothing is left of the call."""
    async with house(says(), tenant=f"{GREETS}{tenant}") as bench:
        for turns in range(0, 60, 4):
            phone = await bench.phone()
            phone.invite()
            for _ in range(turns):
                await asyncio.sleep(0)
            phone.cancel()
            await phone.expect(200, "CANCEL")
            await phone.until(lambda phone=phone: phone.statuses()[-1] >= 200)  # type: ignore[misc]
            cancelled = phone.statuses()[-1] == 487
            if cancelled:
                phone.ack_failure(await phone.expect(487, "INVITE"))
            else:
                phone.ack(await phone.expect(200, "INVITE"))
                await phone.hang_up()
            report = await bench.report(turns // 4 + 1)
            assert report.ended is (Ended.CALLER_CANCELLED if cancelled else Ended.CALLER_HUNG_UP)
            assert (report.setup_ms is None) is cancelled


async def test_given_up_as_somebody_elsewhere_answered() -> None:
    async with house(says("silence"), tenant="answer: ring_then_answer") as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(180)
        cancel = phone.request(
            "CANCEL",
            sequence=phone.sequence,
            branch=phone.branch,
            headers=(("Reason", 'SIP;cause=200;text="Call completed elsewhere"'),),
        )
        phone.send(cancel)
        phone.ack_failure(await phone.expect(487, "INVITE"))
        assert (await bench.report()).ended is Ended.ANSWERED_ELSEWHERE


async def test_hung_up_while_the_model_still_connects() -> None:
    async with house(says("silence"), tenant=f"{GREETS}answer: immediately") as bench:
        phone, _ = await dialled(bench)
        await phone.audio.hear_sound(5, hz=RINGING)
        session = await bench.session()
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
        async with asyncio.timeout(1):
            await session.closed.wait()


async def test_an_invite_that_may_ring_for_two_seconds() -> None:
    async with house(says("silence"), tenant="answer: ring_then_answer") as bench:
        phone = await bench.phone()
        phone.invite(headers=(("Expires", "2"),))
        await phone.expect(180)
        bench.pass_time(2.1)
        phone.ack_failure(await phone.expect(487, "INVITE"))
        report = await bench.report()
        assert (report.ended, report.status) == (Ended.NO_ANSWER, 487)


async def test_a_gateway_that_stops_sends_callers_elsewhere() -> None:
    async with house(says("silence"), tenant="answer: ring_then_answer") as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(180)
        bench.gateway.calls.end_all(Ended.SHUTDOWN)
        refused = await phone.expect(503)
        phone.ack_failure(refused)
        assert refused["Reason"] == 'Q.850;cause=41;text="shutdown"'
        assert int(refused["Retry-After"]) > 0
        report = await bench.report()
        assert report.ended is Ended.SHUTDOWN


# --- with what else there is ------------------------------------------------------------------------------------------


async def test_who_stands_in_is_heard_after_the_welcome(tmp_path: Path) -> None:
    """The first model cannot be had; the caller has been answered and hears nothing of that."""
    sound = a_wav(tmp_path / "welcome.wav", 0.6)
    async with ModelServer(says("slow:900")) as second:
        tenant = (
            f"{GREETS}answer: immediately\nwaiting_sound: {sound}\n"
            f"fallback: [{{agent: {{provider: openai, url: '{second.url}'}}}}]\n"
        )
        async with house(tenant=tenant, url=lambda _: "ws://127.0.0.1:9/none") as bench:
            phone, answered = await dialled(bench)
            await phone.audio.hear_sound(25, hz=WELCOME)
            await phone.audio.hear_sound(5, hz=RINGING)
            spoken = await phone.audio.hear_sound(10, hz=AGENT)
            assert spoken[0].at - answered.at < 2
            await phone.hang_up()
            report = await bench.report()
            assert report.ended is Ended.CALLER_HUNG_UP


async def test_a_prompt_of_the_fallback_answers_a_call_that_is_to_ring(tmp_path: Path) -> None:
    sound = a_wav(tmp_path / "sorry.wav", 0.6)
    tenant = f"{GREETS}early_media: true\nfallback: [{{prompt: {sound}}}]\n"
    async with house(tenant=tenant, url=lambda _: "ws://127.0.0.1:9/none") as bench:
        phone = await bench.phone()
        phone.invite()
        await phone.expect(183)
        answered = await phone.expect(200)
        phone.ack(answered)
        phone.audio.connect(answered.rtp)
        await phone.audio.hear_sound(25, hz=WELCOME)
        await phone.expect("BYE", within=8)
        assert (await bench.report()).ended is Ended.AGENT_NOT_READY
        loud = [packet for packet in phone.audio.audio() if packet.at > answered.at + 1.0]
        assert loud, "and a goodbye"


async def test_nobody_is_asked_whether_he_is_there_while_he_hears_a_tone() -> None:
    tenant = f"{GREETS}answer: immediately\nsilence: {{seconds: 0.3, hang_up: false}}\n"
    async with house(says("slow:900"), tenant=tenant) as bench:
        phone, _ = await dialled(bench)
        await phone.audio.hear_sound(40, hz=RINGING)
        await phone.audio.hear_sound(10, hz=AGENT)
        requests = [message for message in bench.model.sessions[0].messages() if message["type"] == "response.create"]
        assert len(requests) == 1, "the greeting"
        await phone.hang_up()
        await bench.report()


async def test_what_is_heard_before_the_agent_is_recorded(tmp_path: Path) -> None:
    sound = a_wav(tmp_path / "welcome.wav", 0.6)
    tenant = f"{GREETS}answer: immediately\nwaiting_sound: {sound}\nrecording: {{enabled: true}}\n"
    async with house(
        says("slow:500"), tenant=tenant, config=f"recordings: {{directory: {tmp_path / 'calls'}}}"
    ) as bench:
        phone, _ = await dialled(bench)
        await phone.audio.hear_sound(10, hz=AGENT)
        await phone.hang_up()
        await bench.report()
    (path,) = (tmp_path / "calls").rglob("*.wav")
    with wave.open(str(path)) as file:
        pair = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32768
    assert peak_hz(pair[1600:3200, 1]) == pytest.approx(WELCOME, abs=10)
    assert peak_hz(pair[-1600:, 1]) == pytest.approx(AGENT, abs=15)
