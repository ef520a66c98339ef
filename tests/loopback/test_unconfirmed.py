"""A forged INVITE names the address of somebody else: nothing is sent there before we know that our answer arrived."""

from __future__ import annotations

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, Utterance
from tests.loopback.house import house
from tests.loopback.sound import snr_db

GREETING = Utterance(seconds=0.4, tone_hz=440)


@pytest.mark.parametrize("proof", ["ACK", "RTP"])
async def test_the_greeting_waits_for_a_sign_that_our_answer_arrived(proof: str) -> None:
    async with house(Script((GREETING,), speed=0), tenant="agent: {greeting: Hello.}") as bench:
        phone = await bench.phone()
        phone.invite()
        answered = await phone.expect(200)
        await phone.expect(200, within=1.0)  # it comes again, half a second later, because there was no ACK
        assert not phone.audio.packets
        assert bench.media.packets_sent == 0
        if proof == "ACK":
            phone.ack(answered)
        else:
            phone.audio.connect(answered.rtp)
        heard = await phone.audio.hear_sound(20, hz=440)
        assert snr_db(heard[10].samples, 440) > 25
        assert len(heard) == 20  # all of it: nothing was thrown away while it waited
        phone.audio.connect(answered.rtp)
        if proof == "RTP":
            phone.ack(answered)
        await phone.hang_up()
        assert (await bench.report()).ended is Ended.CALLER_HUNG_UP
