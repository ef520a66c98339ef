"""A telephone talks to a model that listens while it speaks (GPT-Live): real sockets, real time."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from sipbridge.outcome import Ended
from sipbridge.simulator import model as simulator
from sipbridge.simulator.model import Connection, Opening, SessionRecord
from sipbridge.simulator.openai_live import LiveModel
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from tests.loopback.earpiece import is_loud
from tests.loopback.house import house
from tests.loopback.sound import join, snr_db, tone
from tests.providers.live_sdk import check_client_event

STORY, ANSWER = Utterance("A long story.", 5.0, 440), Utterance("Yes?", 1.5, 700)
GREETING = "agent: {greeting: Hello.}"


def judge(received: Any) -> None:
    for entry in received:
        check_client_event(entry.message)


async def test_the_caller_speaks_over_it_and_the_model_decides() -> None:
    async with house(Script((STORY, ANSWER), think_ms=600), tenant=GREETING, provider="openai_live") as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(10, hz=440)
        phone.audio.say(tone(1000, 0.3))
        await phone.audio.hear_sound(40, hz=700, within=5)
        await phone.hang_up()
        report = await bench.report()
        assert (report.barge_ins, report.late_bytes_dropped, report.replies) == (0, 0, 2)
        assert session.violations == []
        judge(session.received)
        loud = [packet.samples for packet in phone.audio.audio() if is_loud(packet, 700)]
        stretches = [loud[start : start + 10] for start in range(1, len(loud) - 10)]  # a busy machine leaves gaps
        assert max(snr_db(join(stretch), 700) for stretch in stretches) > 30, "G.711 went through untouched"


async def test_a_key_cuts_nothing_and_is_told() -> None:
    script = Script((Utterance("Hello.", 2.0, 440), ANSWER))
    async with house(script, tenant=GREETING, provider="openai_live") as bench:
        phone = await bench.phone()
        await phone.call()
        session = await bench.session()
        await phone.audio.hear_sound(5, hz=440)
        phone.audio.press("5")
        told = await session.wait_for("session.thinking.append")
        assert told["content"] == "The caller pressed 5."
        await phone.audio.hear_sound(10, hz=700, within=5)
        assert sum(is_loud(packet, 440) for packet in phone.audio.audio()) >= 75, (
            "nearly all of it, also on a busy machine"
        )
        assert session.violations == []
        await phone.hang_up()


async def test_a_goodbye_is_heard_to_its_end() -> None:
    script = Script(
        (ANSWER, Utterance("Goodbye.", 0.8, 440)),
        tools={0: ToolUse("hang_up", '{"reason":"done"}')},
    )
    async with house(script, tenant="tools: {hang_up: {}}", provider="openai_live") as bench:
        phone = await bench.phone()
        await phone.call()
        phone.audio.say(tone(1000, 0.3))
        report = await bench.report(within=6)
        assert (report.ended, report.detail) == (Ended.AGENT_HUNG_UP, "done")
        assert sum(is_loud(packet, 440) for packet in phone.audio.audio()) >= 25, "also on a busy machine"
        session = await bench.session()
        assert session.violations == []
        assert session.messages("session.close")


class Stalled(LiveModel):
    """For a second in the middle of its speech nothing gets through; then everything does at once."""

    last_loud = 0.0

    def __init__(self, connection: Connection, script: Script, opening: Opening) -> None:
        super().__init__(connection, script, opening)
        self._line = connection
        self._kept: list[dict[str, Any]] = []
        self.connection = cast(Connection, self)

    @property
    def record(self) -> SessionRecord:
        return self._line.record

    def send(self, message: dict[str, Any]) -> None:
        self._kept.append(message)
        if not self._pieces or not 10 <= self._pieces[0][0] < 20:
            for kept in self._kept:
                self._line.send(kept)
            self._kept.clear()

    def close_soon(self, fault: Fault) -> None:
        self._line.close_soon(fault)

    def _next_delta(self) -> None:
        if self._pieces:
            Stalled.last_loud = time.monotonic()
        super()._next_delta()


async def test_what_a_stalled_line_piled_up_does_not_delay_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulator.WIRES, "openai_live", Stalled)
    script = Script((Utterance("A story.", 3.0, 440),))
    async with house(script, tenant=GREETING, provider="openai_live") as bench:
        phone = await bench.phone()
        await phone.call()
        await phone.audio.hear_sound(5, hz=440)
        async with asyncio.timeout(6):
            while not Stalled.last_loud or time.monotonic() < Stalled.last_loud + 0.8:
                await phone.audio.hear(10)
        last = [packet for packet in phone.audio.audio() if is_loud(packet, 440)][-1]
        assert last.at - Stalled.last_loud < 0.45, "one piece, what may wait and the pacing"
        await phone.hang_up()
