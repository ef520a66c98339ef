"""The same as `fakes`, but by themselves: a line on which what is played is heard in its time, agents that answer, or
fail to be opened. For tests of a call that nobody has to help along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from sipbridge.agent import AgentOptions, AssistantAudio, AssistantTurnEnd, AssistantTurnStarted
from sipbridge.audio import Played
from sipbridge.media.events import Drained, MediaEvent
from tests.call.fakes import Call, FakeLeg, FakeStream, ScriptedAgent

THINKS_S = 0.5
SPEAKS_S = 1.0


@dataclass(frozen=True)
class Heard:
    """What the caller heard of one item, or would have without being cut off."""

    item_id: str
    begins: float
    ends: float


class Line(FakeStream):
    """PCM at 24 kHz, in the order in which it came."""

    def __init__(self, told: Callable[[MediaEvent], None]) -> None:
        super().__init__()
        self._told = told
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._free_at = 0.0
        self.sounds: list[Heard] = []

    def play(self, pcm: bytes, reply_id: str, item_id: str) -> None:
        super().play(pcm, reply_id, item_id)
        begins = max(self._free_at, asyncio.get_running_loop().time())
        self._free_at = begins + len(pcm) / 48000
        self.sounds.append(Heard(item_id, begins, self._free_at))

    def finish(self, item_id: str) -> None:
        super().finish(item_id)
        ends = max((sound.ends for sound in self.sounds if sound.item_id == item_id), default=0.0)
        loop = asyncio.get_running_loop()
        self._timers[item_id] = loop.call_at(max(ends, loop.time()), self._told, Drained(1, item_id))

    def discard(self) -> tuple[Played, ...]:
        for timer in self._timers.values():
            timer.cancel()
        self._free_at = 0.0
        return super().discard()

    def heard_after(self, moment: float) -> Heard | None:
        """The first sound that there is after it, even if it began before."""
        return next((sound for sound in self.sounds if sound.ends > moment), None)


class LivelyLeg(FakeLeg):
    """`late`: the description of the far end's sound comes with the ACK only, which `acknowledge` is."""

    def __init__(self, *, late: bool = False) -> None:
        super().__init__()
        self._late = late
        self.session: Any = None

    async def answer(self) -> None:
        self.steps.append(("200", *self.formats))
        if not self._late:
            self.acknowledge()

    def acknowledge(self) -> None:
        self.stream = Line(lambda event: self.session.media_event(event))
        self.media_open.set()

    @property
    def line(self) -> Line:
        assert isinstance(self.stream, Line)
        return self.stream


class LivelyAgent(ScriptedAgent):
    """Answers what it is asked for after half a second, with a second of speech, as long as it is `well`."""

    def __init__(self, options: AgentOptions, *, start: BaseException | float | None, well: bool) -> None:
        super().__init__(options, start=start)
        self.well = well
        self.closed_at: float | None = None
        self._replies = count(1)
        self._timers: list[asyncio.TimerHandle] = []

    def say(self, text: str) -> None:
        super().say(text)
        self._answer()

    def create_response(self) -> None:
        super().create_response()
        self._answer()

    def send_tool_result(self, call_id: str, output: str) -> None:
        super().send_tool_result(call_id, output)
        self._answer()

    def _answer(self) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(THINKS_S, self._speak))

    def _speak(self) -> None:
        if self.well and not self.closed:
            reply = f"r{next(self._replies)}"
            audio = AssistantAudio(reply, f"{reply}-i", bytes(int(SPEAKS_S * 48000)))
            self.emit(AssistantTurnStarted(reply), audio, AssistantTurnEnd(reply))

    async def close(self) -> None:
        if self.closed_at is None:
            self.closed_at = asyncio.get_running_loop().time()
        await super().close()


class LivelyCall(Call):
    """`starts` says of each agent in its order how it starts, and `well` whether it answers; further ones do both."""

    leg: LivelyLeg

    def __init__(
        self,
        tenant: str,
        *,
        starts: Sequence[BaseException | float | None] = (),
        well: Sequence[bool] = (),
        late: bool = False,
    ) -> None:
        self._starts, self._well = starts, well
        super().__init__(tenant, leg=LivelyLeg(late=late))
        self.leg.session = self.session

    def _new_agent(
        self, credential: Mapping[str, Any], options: AgentOptions, *, connect_timeout: float
    ) -> ScriptedAgent:
        number = len(self.agents)
        agent = LivelyAgent(
            options,
            start=self._starts[number] if number < len(self._starts) else None,
            well=self._well[number] if number < len(self._well) else True,
        )
        self.agents.append(agent)
        return agent
