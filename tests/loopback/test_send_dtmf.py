"""Keys that the agent presses, as a telephone gets them: events in the sound, or INFO where it takes none."""

from __future__ import annotations

import json
import struct

import pytest

from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.loopback.earpiece import Packet
from tests.loopback.house import House, house
from tests.loopback.phone import Message, Phone, describe
from tests.loopback.sound import tone
from tests.loopback.test_tools import outputs

TENANT = "tools: {send_dtmf: {}}"
EVENTS = 101


def pressing(keys: str, *, spoken: bool = False) -> Script:
    said = (Utterance(seconds=0.3, tone_hz=500), Utterance(seconds=0.5, tone_hz=800))
    return Script(said, tools={0: ToolUse("send_dtmf", json.dumps({"digits": keys}), spoken=spoken)}, speed=0)


async def called(bench: House, formats: tuple[int, ...] = (0, EVENTS)) -> Phone:
    phone = await bench.phone()
    await phone.call(describe(phone.audio.address, formats=formats))
    phone.audio.say(tone(1000, 0.1))
    return phone


async def result(bench: House) -> dict[str, str]:
    session = await bench.session()
    await session.wait_until(lambda: bool(outputs(session.messages("conversation.item.create"))))
    assert session.violations == []
    answer: dict[str, str] = json.loads(outputs(session.messages("conversation.item.create"))[0])
    return answer


def events(phone: Phone) -> list[tuple[Packet, str, bool]]:
    """Packets of telephone events: the key, and whether it ends."""
    found = []
    for packet in phone.audio.packets:
        if packet.payload_type == EVENTS:
            event, flags, _ = struct.unpack("!BBH", packet.payload)
            found.append((packet, "0123456789*#ABCD"[event], bool(flags & 0x80)))
    return found


async def test_keys_in_the_sound_when_the_words_were_heard() -> None:
    async with house(pressing("1,4#", spoken=True), tenant=TENANT) as bench:
        phone = await called(bench)
        await phone.audio.hear_sound(14, hz=500)
        assert events(phone) == []
        assert await result(bench) == {"pressed": "1,4#"}
        await phone.audio.hear_sound(5, hz=800)
        await phone.hang_up()
    found = events(phone)
    presses = [(packet, key) for packet, key, _ in found if packet.marker]
    assert "".join(key for _, key in presses) == "14#"
    ends = [packet.at for packet, _, ends in found if ends]
    assert len(ends) == 9, "each end three times"
    assert presses[1][0].at - presses[0][0].at == pytest.approx(2.2, abs=0.15), "a press and a pause of two seconds"
    assert len({packet.timestamp for packet, _, _ in found}) == 3, "one for each press"


async def answer_infos(phone: Phone, count: int, status: int = 200) -> list[bytes]:
    bodies = []
    for _ in range(count):
        info: Message = await phone.expect("INFO")
        assert info["Content-Type"] == "application/dtmf-relay"
        bodies.append(info.body)
        phone.respond(info, status, "Whatever")
    return bodies


async def test_keys_by_info_where_the_far_end_takes_none_in_the_sound() -> None:
    async with house(pressing("0#d"), tenant=TENANT) as bench:
        phone = await called(bench, formats=(0,))
        assert await answer_infos(phone, 3) == [b"Signal=%s\r\nDuration=160\r\n" % key for key in (b"0", b"#", b"D")]
        assert await result(bench) == {"pressed": "0#d"}
        ladder = bench.gateway.ladders.get(phone.call_id)
        assert ladder is not None
        assert "Signal=***" in "\n".join(ladder.transcript())
        assert "Signal=0" not in "\n".join(ladder.transcript())
        await phone.hang_up()
        report = await bench.report()
    assert [run["arguments"] for run in report.to_json()["tool_runs"]] == ['{"digits": "***"}']


async def test_who_takes_no_keys_at_all() -> None:
    async with house(pressing("123"), tenant=TENANT) as bench:
        phone = await called(bench, formats=(0,))
        await answer_infos(phone, 1, 415)
        assert "takes no keys: no telephone-event, and 415 to INFO" in (await result(bench))["error"]
        await phone.audio.hear_sound(5, hz=800)
        assert len([message for message in phone.messages if message.start_line.startswith("INFO")]) == 1
        await phone.hang_up()


async def test_who_hangs_up_while_keys_are_pressed() -> None:
    async with house(pressing("123"), tenant=TENANT) as bench:
        phone = await called(bench, formats=(0,))
        await phone.expect("INFO")
        await phone.hang_up()
        assert (await bench.report()).ended.value == "caller_hung_up"
