"""What one side says is what the other hears: tones in both directions, and the packets that carry them."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from sipbridge.simulator.script import Script, Utterance
from tests.loopback.earpiece import Earpiece
from tests.loopback.house import House, house
from tests.loopback.phone import describe
from tests.loopback.sound import (
    ALAW,
    LAWS,
    ULAW,
    Samples,
    join,
    level_db,
    loudest,
    peak_hz,
    samples_of,
    snr_db,
    tone,
)

DEAF = 1e9
"""So loud must speech be for a model that is not to answer."""
MODEL_DB = 20 * np.log10(0.3 / np.sqrt(2))
"""The simulated model's tones: 0.3 of full scale at their peak."""
PCM = "agent: {native_audio: false}"


def assert_tone(samples: Samples, hz: float, db: float, *, rate: int = 8000) -> None:
    middle = loudest(samples, 0.3, rate)
    assert peak_hz(middle, rate) == pytest.approx(hz, abs=5)
    assert level_db(middle) == pytest.approx(db, abs=0.5)
    assert snr_db(middle, hz, rate) > 30


@pytest.mark.parametrize(
    ("payload_type", "tenant", "wire"),
    [
        (0, "", "audio/pcmu"),
        (8, "", "audio/pcma"),
        (0, PCM, "audio/pcm"),
        (8, PCM, "audio/pcm"),
    ],
    ids=["pcmu passes through", "pcma passes through", "pcmu as pcm", "pcma as pcm"],
)
async def test_the_caller_is_heard_by_the_model(payload_type: int, tenant: str, wire: str) -> None:
    async with house(Script(vad_rms=DEAF), tenant=tenant) as bench:
        phone = await bench.phone()
        phone.audio.payload_type = payload_type
        answered = await phone.call(describe(phone.audio.address, formats=(payload_type, 101)))
        assert answered.media_lines == [f"audio {answered.rtp[1]} RTP/AVP {payload_type} 101"]
        session = await bench.session()
        formats = session.messages("session.update")[0]["session"]["audio"]
        assert formats["input"]["format"]["type"] == formats["output"]["format"]["type"] == wire
        phone.audio.say(tone(1000, 0.4, db=-12))
        await phone.audio.said()
        rate, size = (24000, 2) if wire == "audio/pcm" else (8000, 1)
        enough = len(session.audio) + rate * size // 10
        await session.wait_until(lambda: len(session.audio) >= enough)
        data = bytes(session.audio)
        if wire != "audio/pcm":
            assert_tone(LAWS[payload_type].decode(data), 1000, -12)
            assert LAWS[payload_type].encode(tone(1000, 0.4, db=-12)) in data, "not an octet is changed"
        else:
            assert_tone(samples_of(data[: len(data) // 2 * 2]), 1000, -12, rate=rate)
        await phone.hang_up()


@pytest.mark.parametrize("tenant", ["", PCM], ids=["native", "pcm"])
@pytest.mark.parametrize("payload_type", [0, 8])
async def test_the_model_is_heard_by_the_caller(payload_type: int, tenant: str) -> None:
    script = Script(utterances=(Utterance(seconds=0.5, tone_hz=600),))
    async with house(
        script, tenant=f"{{agent: {{greeting: Hello., native_audio: {str(not tenant).lower()}}}}}"
    ) as bench:
        phone = await bench.phone()
        await phone.call(describe(phone.audio.address, formats=(payload_type, 101)))
        packets = await phone.audio.hear_sound(25)
        assert {packet.payload_type for packet in packets} == {payload_type}
        assert_tone(join([packet.samples for packet in packets]), 600, float(MODEL_DB))
        await phone.hang_up()


async def test_packets_leave_all_the_time_and_in_order() -> None:
    """Silence when idle, no gap in sequence numbers and timestamps, a marker where speech begins."""
    script = Script(utterances=(Utterance(seconds=0.2),), think_ms=100)
    async with house(script, tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(30)
        await phone.hang_up()
        packets = phone.audio.packets
        assert len({packet.ssrc for packet in packets}) == 1
        assert {packet.source for packet in packets} == {phone.audio.remote}
        for before, after in itertools.pairwise(packets):
            assert after.sequence == (before.sequence + 1) & 0xFFFF
            assert after.timestamp == (before.timestamp + 160) & 0xFFFF_FFFF
        assert {len(packet.payload) for packet in packets} == {160}
        silent = [packet for packet in packets if packet.payload == ULAW.silence]
        assert len(silent) >= 15
        speech = [number for number, packet in enumerate(packets) if packet.payload != ULAW.silence]
        assert [number for number, packet in enumerate(packets) if packet.marker] == speech[:1]
        assert speech == list(range(speech[0], speech[0] + 10)), "200 ms in one piece"
        duration = packets[-1].at - packets[0].at
        assert duration == pytest.approx(0.02 * (len(packets) - 1), abs=0.025)


async def test_no_packet_after_the_end() -> None:
    async with house() as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(3)
        await phone.hang_up()
        await bench.report()
        last = len(phone.audio.packets)
        with pytest.raises(TimeoutError):
            await phone.audio.hear(1, within=0.1)
        assert len(phone.audio.packets) == last


# --- who is believed --------------------------------------------------------------------------------------------------


async def heard_by_model(bench: House, seconds: float) -> Samples:
    """What comes to the model in the next so many seconds (of G.711)."""
    session = await bench.session()
    start = len(session.audio)
    await session.wait_until(lambda: len(session.audio) >= start + round(seconds * 8000))
    return ULAW.decode(bytes(session.audio[start:]))


async def test_a_stranger_s_packets_never_reach_the_model() -> None:
    async with house(Script(vad_rms=DEAF)) as bench:
        phone = await bench.phone()
        answered = await phone.call()
        await phone.audio.hear(5)
        stranger = await Earpiece.open()
        stranger.sequence, stranger.timestamp = phone.audio.sequence, phone.audio.timestamp
        stranger.connect(answered.rtp)
        stranger.say(tone(1000, 1.0))
        assert level_db(await heard_by_model(bench, 0.4)) < -70
        stranger.ssrc = phone.audio.ssrc
        assert level_db(await heard_by_model(bench, 0.2)) < -70
        assert bench.media.wrong_source > 20
        assert not stranger.packets, "nothing is sent to a stranger"
        stranger.close()
        await phone.hang_up()


async def test_wrong_payload_types_and_garbage_never_reach_the_model() -> None:
    async with house(Script(vad_rms=DEAF)) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(5)
        loud = ULAW.encode(tone(1000, 0.02))
        for number in range(20):
            phone.audio.send_raw(phone.audio.packet(loud, 18, False, phone.audio.sequence + 1 + number, 0, 7))
            phone.audio.send_raw(phone.audio.packet(loud, 8, False, phone.audio.sequence + 1 + number, 0, 7))
        for garbage in (
            b"",
            b"\0",
            b"\x80",
            b"\x80\0" * 5,
            b"\xff" * 300,
            b"\x8f\x00" + b"\x01" * 20,
            b"GET / HTTP/1.1\r\n",
        ):
            phone.audio.send_raw(garbage)
        phone.audio.send_raw(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"x" * 12)  # STUN
        phone.audio.send_raw(b"\x80\xc9\x00\x01" + b"\x00\x00\x00\x07")  # RTCP
        assert level_db(await heard_by_model(bench, 0.3)) < -70
        figures = bench.media
        assert figures.wrong_payload == 40
        assert figures.malformed + figures.non_rtp + figures.rtcp_received >= 8
        assert figures.wrong_source == 0
        phone.audio.say(tone(1000, 0.2))
        assert level_db(loudest(await heard_by_model(bench, 0.3), 0.1)) > -15, "and the call goes on"
        await phone.hang_up()


@pytest.mark.parametrize("told", [("127.0.0.1", 9), ("192.0.2.1", 4000), ("0.0.0.0", 4000)])
async def test_audio_goes_to_where_it_comes_from_where_sdp_lies(told: tuple[str, int]) -> None:
    async with house(tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        answered = await phone.call(describe(told))
        if told[0] == "0.0.0.0":
            assert answered.direction == "recvonly"
            phone.audio.say(tone(1000, 0.2))
            assert level_db(loudest(await heard_by_model(bench, 0.3), 0.1)) > -15
        else:
            await phone.audio.hear_sound(5, hz=440)
        await phone.hang_up()


async def test_packets_out_of_order_are_put_in_order() -> None:
    async with house(Script(vad_rms=DEAF)) as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear(5)
        phone.audio.hush()
        said = LAWS[0].encode(tone(700, 0.4))
        pieces = [said[start : start + 160] for start in range(0, len(said), 160)]
        session = await bench.session()
        base, time = phone.audio.sequence, phone.audio.timestamp
        for pair in range(0, len(pieces), 2):
            for number in (pair + 1, pair):
                sequence, timestamp = (base + number) & 0xFFFF, (time + 160 * number) & 0xFFFF_FFFF
                phone.audio.send_raw(
                    phone.audio.packet(pieces[number], 0, False, sequence, timestamp, phone.audio.ssrc)
                )
        await session.wait_until(lambda: said in session.audio)
        await phone.hang_up()


async def test_ten_calls_at_once_without_crosstalk() -> None:
    tones = [400 + 150 * number for number in range(10)]

    async def one(bench: House, hz: float) -> None:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(hz, 0.4))
        packets = await phone.audio.hear_sound(10, hz=440)
        assert min(snr_db(packet.samples, 440) for packet in packets[1:]) > 25
        await phone.hang_up()

    async with house(Script(vad_rms=DEAF), tenant="agent: {greeting: Hello.}") as bench:
        await asyncio.gather(*(one(bench, hz) for hz in tones))
        await bench.report(10)
        heard = [loudest(ULAW.decode(bytes(session.audio)), 0.1) for session in bench.model.sessions]
        assert sorted(round(peak_hz(samples)) for samples in heard) == tones
        for samples in heard:
            assert snr_db(samples, peak_hz(samples)) > 25


def test_the_tests_own_ears() -> None:
    for law in (ULAW, ALAW):
        assert_tone(law.decode(law.encode(tone(1234, 0.5, db=-20))), 1234, -20)
    assert snr_db(tone(1000, 0.5) + tone(1500, 0.5, db=-32), 1000) == pytest.approx(20, abs=0.5)
