"""A telephone talks to an agent whose sound comes in binary frames (Deepgram): real sockets."""

from __future__ import annotations

from sipbridge.outcome import Ended
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import house
from tests.loopback.sound import join, snr_db, tone

OLD, NEW = Utterance("Hello.", 4.0, 440), Utterance("Yes?", 0.6, 700)


async def test_greeted_interrupting_and_hung_up_on() -> None:
    script = Script((OLD, NEW, Utterance("Goodbye.", 0.4, 520)), tools={2: ToolUse("hang_up", spoken=True)}, speed=8)
    tenant = "agent: {greeting: Hello.}\ntools: {hang_up: {}}"
    async with house(script, tenant=tenant, provider="deepgram") as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(10, hz=440)
        phone.audio.say(tone(1000, 0.3))
        new = await phone.audio.hear_sound(25, hz=700, within=5)
        assert snr_db(join([packet.samples for packet in new[1:-1]]), 700) > 30, "G.711 went through untouched"
        phone.audio.say(tone(1000, 0.3))
        report = await bench.report(within=6)
        assert report.ended is Ended.AGENT_HUNG_UP
        assert report.barge_ins >= 1
        assert sum(is_loud(packet, 520) for packet in phone.audio.audio()) >= 18, "heard to its end"
        assert session.violations == []
        assert not session.messages("InjectAgentMessage"), "the greeting went with the settings"
