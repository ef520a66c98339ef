"""Offers within a call: hold and resume, another address, another codec; and the m= lines we do not want."""

from __future__ import annotations

import pytest

from sipbridge.simulator.script import Script, Utterance
from tests.loopback.earpiece import Earpiece
from tests.loopback.house import house
from tests.loopback.phone import Message, Phone, describe
from tests.loopback.sound import ULAW, join, level_db, loudest, samples_of, snr_db, tone

LONG = Script(utterances=(Utterance(seconds=5, tone_hz=600),), speed=0, vad_rms=1e9)
GREETING = "agent: {greeting: Hello.}"


async def renegotiate(phone: Phone, offer: bytes) -> Message:
    phone.reinvite(offer)
    answered = await phone.expect(200, "INVITE")
    phone.ack(answered)
    return answered


async def test_a_reinvite_is_answered_in_the_same_call() -> None:
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        first = await phone.call()
        again = await renegotiate(phone, describe(phone.audio.address))
        assert again.to_tag == first.to_tag
        assert again["Call-ID"] == first["Call-ID"]
        assert again.body == first.body, "nothing changed, so it is the same description of the same version"
        await phone.audio.hear_sound(5, hz=600)
        await phone.hang_up()
        await bench.report()
        assert len(bench.model.sessions) == len(bench.reports) == 1


@pytest.mark.parametrize(("held", "answer"), [("sendonly", "recvonly"), ("inactive", "inactive")])
async def test_hold_and_resume(held: str, answer: str) -> None:
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        first = await phone.call()
        await phone.audio.hear_sound(5)
        session = await bench.session()
        holding = await renegotiate(phone, describe(phone.audio.address, direction=held, version=2))
        assert holding.direction == answer
        assert holding.rtp == first.rtp
        with pytest.raises(TimeoutError):
            await phone.audio.hear(3, within=0.2)  # one may have been under way
        start = len(session.audio)
        await session.wait_until(lambda: len(session.audio) > start + 800)  # the model's time goes on
        resumed = await renegotiate(phone, describe(phone.audio.address, version=3))
        assert resumed.direction == "sendrecv"
        versions = [message.version for message in (first, holding, resumed)]
        assert versions == [versions[0], versions[0] + 1, versions[0] + 2], "each says something else (RFC 3264 §8)"
        packets = await phone.audio.hear_sound(5)
        assert snr_db(join([packet.samples for packet in packets[1:]]), 600) > 30
        await phone.hang_up()
        sequence = [packet.sequence for packet in phone.audio.packets]
        assert sequence == [(sequence[0] + n) & 0xFFFF for n in range(len(sequence))], "held packets are none"


async def test_a_phone_that_holds_and_sends_nothing_is_not_given_up() -> None:
    async with house(config="limits: {media_timeout_seconds: 0.2}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(3)
        await renegotiate(phone, describe(phone.audio.address, direction="sendonly", version=2))
        phone.audio.hush()
        with pytest.raises(AssertionError, match="no BYE"):
            await phone.expect("BYE", within=0.4)
        await renegotiate(phone, describe(phone.audio.address, version=3))
        await phone.expect("BYE")  # held no more, and still nothing comes


async def test_music_on_hold_does_not_reach_the_model_when_inactive() -> None:
    async with house(LONG) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(3)
        session = await bench.session()
        await renegotiate(phone, describe(phone.audio.address, direction="inactive", version=2))
        start = len(session.audio)
        phone.audio.say(tone(1000, 0.4))
        await session.wait_until(lambda: len(session.audio) > start + 2400)
        assert level_db(ULAW.decode(bytes(session.audio[start:]))) < -70
        assert bench.media.unwanted > 5
        await phone.hang_up()


async def test_a_new_rtp_port_is_followed() -> None:
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        answered = await phone.call()
        await phone.audio.hear_sound(5)
        second = await Earpiece.open()
        await renegotiate(phone, describe(second.address, version=2))
        await second.hear_sound(3, hz=600)
        phone.audio.hush()
        second.connect(answered.rtp)
        second.say(tone(1000, 0.4))
        session = await bench.session()
        start = len(session.audio)
        await session.wait_until(lambda: len(session.audio) > start + 2400)
        assert level_db(loudest(ULAW.decode(bytes(session.audio[start:])), 0.1)) > -15
        last = len(phone.audio.packets)
        await second.hear(5)
        assert len(phone.audio.packets) == last, "the old address gets nothing more"
        second.close()
        await phone.hang_up()


async def test_a_change_of_codec_in_the_middle_of_a_sentence() -> None:
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call(describe(phone.audio.address, formats=(0, 101)))
        await phone.audio.hear_sound(5, hz=600)
        answered = await renegotiate(phone, describe(phone.audio.address, formats=(8, 101), version=2))
        assert answered.media_lines[0].split()[3:] == ["8", "101"]
        phone.audio.payload_type = 8
        phone.audio.say(tone(1000, 0.4))
        packets = await phone.audio.hear(10)
        assert {packet.payload_type for packet in packets[2:]} == {8}
        assert snr_db(join([packet.samples for packet in packets[2:]]), 600) > 30
        session = await bench.session()
        start = len(session.audio)
        await session.wait_until(lambda: len(session.audio) > start + 800)
        # The session with the model was opened with the first codec, and stays with it.
        heard = loudest(ULAW.decode(bytes(session.audio)), 0.1)
        assert level_db(heard) == pytest.approx(-12, abs=0.5)
        assert snr_db(heard, 1000) > 30
        await phone.hang_up()


async def test_every_m_line_is_answered() -> None:
    others = ("m=video 5000 RTP/AVP 96", "a=rtpmap:96 VP8/90000", "m=audio 5002 RTP/AVP 0", "m=application 5004 udp wb")
    more = "".join(f"{line}\r\n" for line in others)
    async with house() as bench:
        phone = await bench.phone()
        answered = await phone.call(describe(phone.audio.address, more=more))
        kinds = [(line.split()[0], line.split()[1] != "0") for line in answered.media_lines]
        assert kinds == [("audio", True), ("video", False), ("audio", False), ("application", False)]
        await phone.audio.hear(3)
        await phone.hang_up()


async def test_the_codec_answered_is_the_codec_sent() -> None:
    async with house(tenant=GREETING) as bench:
        phone = await bench.phone()
        offer = describe(phone.audio.address, formats=(18, 97, 98)).replace(
            b"a=sendrecv", b"a=rtpmap:97 PCMA/8000\r\na=rtpmap:98 telephone-event/8000\r\na=sendrecv"
        )
        answered = await phone.call(offer)
        assert answered.media_lines[0].split()[3:] == ["97", "98"]
        packets = await phone.audio.hear(5)
        assert {packet.payload_type for packet in packets} == {97}
        await phone.hang_up()


async def test_a_reinvite_without_an_offer_gets_ours() -> None:
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        first = await phone.call()
        phone.reinvite(b"")
        answered = await phone.expect(200, "INVITE")
        assert answered.rtp == first.rtp
        phone.ack(answered, body=describe(phone.audio.address, formats=(0, 101), version=2))
        await phone.audio.hear_sound(5, hz=600)
        await phone.hang_up()


async def test_an_offer_that_cannot_be_met_leaves_the_call_as_it_was() -> None:
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        phone.reinvite(describe(phone.audio.address, formats=(18,), version=2))
        refused = await phone.expect(488, "INVITE")
        branch = refused["Via"].partition("branch=")[2].partition(";")[0]
        phone.send(phone.request("ACK", sequence=phone.sequence, branch=branch))
        await phone.audio.hear_sound(5, hz=600)
        await phone.hang_up()


async def test_over_pcm_a_change_of_codec_goes_unnoticed_by_the_model() -> None:
    async with house(LONG, tenant="agent: {greeting: Hello., native_audio: false}") as bench:
        phone = await bench.phone()
        await phone.call(describe(phone.audio.address, formats=(0, 101)))
        await renegotiate(phone, describe(phone.audio.address, formats=(8, 101), version=2))
        phone.audio.payload_type = 8
        await phone.audio.hear_sound(5, hz=600)
        phone.audio.say(tone(1000, 0.3))
        await phone.audio.said()
        session = await bench.session()
        start = len(session.audio)
        await session.wait_until(lambda: len(session.audio) > start + 4800)
        heard = loudest(samples_of(bytes(session.audio)), 0.1, 24000)
        assert snr_db(heard, 1000, 24000) > 30
        await phone.hang_up()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_a_refresh_of_the_session_does_not_touch_the_sound(method: str) -> None:
    """RFC 4028: the same description again. Nobody can take the call over because of it, as after a change."""
    async with house(LONG, tenant=GREETING) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=600)
        phone.send(phone.request(method, body=describe(phone.audio.address)))
        answered = await phone.expect(200, method)
        if method == "INVITE":
            phone.ack(answered)
        before = bench.media.source_changes
        thief = await Earpiece.open("127.0.0.2")
        thief.connect(answered.rtp)
        phone.audio.hush()  # for less than the two seconds after which anybody may be believed
        await thief.hear(0)
        for _ in range(8):
            thief.send(b"\x00" * 160)
        packets = await phone.audio.hear_sound(8, hz=600)
        sequence = [packet.sequence for packet in packets]
        assert sequence == [(sequence[0] + n) & 0xFFFF for n in range(8)]
        assert bench.media.source_changes == before
        assert bench.media.wrong_source >= 8
        assert thief.packets == []
        thief.close()
        await phone.hang_up()
