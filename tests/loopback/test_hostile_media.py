"""A thousand packets a second from strangers into a live call: truncated, oversized, spoofed, random, and what is meant
for other protocols. They change nothing but counters.

Nothing means nothing: G.711 passes through, so what the model hears is compared octet by octet with what the phone
said, and the other way round.
"""

from __future__ import annotations

import itertools
from base64 import b64decode, b64encode
from collections.abc import Sequence

import numpy as np
import pytest

from sipbridge.simulator.script import Script, Utterance
from tests.loopback.earpiece import FRAME, Packet
from tests.loopback.house import House, house
from tests.loopback.phone import Phone, describe
from tests.loopback.sound import ULAW, tone
from tests.loopback.srtp import MASTER_LENGTH, SUITE, Direction
from tests.loopback.strangers import ATTACKS, EVIL, SRTP_ATTACKS, Call, Strangers

DEAF = 1e9
ONE_MINUTE = 60.0


def counted(bench: House) -> int:
    """What was received and not used."""
    media = bench.media
    counts = (media.wrong_source, media.wrong_payload, media.malformed, media.non_rtp, media.rtcp_received)
    return sum(counts) + media.unauthenticated + media.replayed + media.dtls_ignored


async def under_fire(names: Sequence[str], seconds: float, *, encrypted: bool = False) -> None:
    """Phone, strangers and gateway share one loop here. Where the machine lets it stand still for so long that silence
    stands in for the phone, nothing can be said of gaps: then once more."""
    for _ in range(4):
        if await attempt(names, seconds, encrypted):
            return
    pytest.skip("this machine is too busy: the clock of the sound stood still four times")


async def attempt(names: Sequence[str], seconds: float, encrypted: bool) -> bool:
    """False: the clock stood still for long."""
    script = Script(utterances=(Utterance(seconds=ONE_MINUTE, tone_hz=440),), vad_rms=DEAF, speed=0)
    async with house(script, tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        await (call_encrypted(phone) if encrypted else phone.call())
        session = await bench.session()
        await phone.audio.hear_sound(3)
        before, began, heard = bench.media, len(phone.audio.packets), len(session.audio)
        call = Call(phone.audio)
        said = ULAW.encode(tone(1000, seconds, db=-12) + 0.05 * np.sin(np.arange(round(seconds * 8000)) ** 1.5))
        phone.audio.say_octets(said)
        with Strangers() as strangers:
            await strangers.flood(call, names, seconds=seconds + 0.1, seen=lambda: counted(bench))
            await phone.audio.said()
            await session.wait_until(lambda: said[-FRAME:] in session.audio[heard:])
            await phone.audio.hear(3)
            assert strangers.answers() == []

        assert EVIL[:20] not in session.audio
        after = bench.media
        assert after.source_changes == before.source_changes == 1
        assert after.remote == phone.audio.address
        stalled_ms = after.stalled_ms - before.stalled_ms
        if stalled_ms and after.filled_ms != before.filled_ms:
            await phone.hang_up()
            return False
        assert said in session.audio, "the model has heard every octet, in order, and nothing in between"
        packets = phone.audio.packets[began:]
        assert_gapless(packets, b"".join(spoken(session.sent)), stalled_ms)
        assert counted(bench) == sum(strangers.sent.values()), "each is counted, once"
        assert (after.lost, after.late, after.duplicate, after.reordered) == (0, 0, 0, 0)
        assert (after.filled_ms, after.skipped_ms, after.concealed_ms) == (
            before.filled_ms,
            before.skipped_ms,
            before.concealed_ms,
        )
        assert (after.flushes, after.underruns) == (0, 0)
        assert "press" not in str(session.messages()).lower(), "nobody's key was taken for the caller's"
        await phone.hang_up()
        report = await bench.report()
        assert (report.replies, report.barge_ins) == (1, 0)
        return True


async def call_encrypted(phone: Phone) -> None:
    """With SDES."""
    ours = bytes(range(MASTER_LENGTH))
    line = f"a=crypto:1 {SUITE} inline:{b64encode(ours).decode()}\r\n"
    offer = describe(phone.audio.address, more=line).replace(b"RTP/AVP", b"RTP/SAVP")
    phone.audio.protect = Direction(ours).protect
    phone.invite(offer)
    answered = await phone.expect(200, "INVITE")
    theirs = answered.body.decode().partition(f"a=crypto:1 {SUITE} inline:")[2].split()[0]
    phone.audio.unprotect = Direction(b64decode(theirs)).unprotect
    phone.ack(answered)
    phone.audio.sequence = 1000  # the index begins in its first half
    phone.audio.connect(answered.rtp)


def spoken(sent: Sequence[dict[str, object]]) -> list[bytes]:
    deltas = [message["delta"] for message in sent if message["type"] == "response.output_audio.delta"]
    return [b64decode(str(delta)) for delta in deltas]


def assert_gapless(packets: Sequence[Packet], speech: bytes, stalled_ms: int) -> None:
    """`stalled_ms`: the machine stood still for so long, and speech waited."""
    skipped = 0
    for before, after in itertools.pairwise(packets):
        assert after.sequence == (before.sequence + 1) & 0xFFFF
        skipped += (after.timestamp - before.timestamp - FRAME) & 0xFFFF_FFFF
    assert abs(skipped - 8 * stalled_ms) <= 2 * FRAME, "what stands still at the first or the last packet"
    assert len({(packet.ssrc, packet.source, packet.payload_type) for packet in packets}) == 1
    assert b"".join(packet.payload for packet in packets) in speech


async def test_everything_at_once() -> None:
    await under_fire(list(ATTACKS), 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
async def test_one_kind_for_long(name: str) -> None:
    await under_fire([name], 8.0)


async def test_everything_at_once_encrypted() -> None:
    """Even at the phone's own address: what is not genuine is counted, and never decoded."""
    await under_fire(list(SRTP_ATTACKS), 2.0, encrypted=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SRTP_ATTACKS)
async def test_one_kind_for_long_encrypted(name: str) -> None:
    await under_fire([name], 8.0, encrypted=True)
