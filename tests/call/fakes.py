"""A scripted agent, a leg that only takes notes and what joins them: a whole call without a socket, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self, cast

from sipbridge.agent import AgentEvent, AgentOptions, Capabilities, HistoryItem, SessionClosed, SessionOpen
from sipbridge.audio import PCM_16K, PCM_24K, AudioFormat, Played
from sipbridge.call import CallSession
from sipbridge.call_fields import CallFields
from sipbridge.codecs import PCMU, Codec
from sipbridge.configfile import parse
from sipbridge.conversation.bridge import SecondLeg, nobody_to_call
from sipbridge.leg import SipLeg
from sipbridge.media.events import MediaStats
from sipbridge.media.vad import Detector
from sipbridge.outcome import CallReport
from sipbridge.prices import Prices
from sipbridge.providers import register
from sipbridge.referring import Referred
from sipbridge.tenant_config import TenantConfig
from sipbridge.tenants import Tenant
from tests import virtual


class ScriptedAgent:
    """Emits what the test tells it to and notes every command."""

    slug = "scripted"
    capabilities = Capabilities(input_format=PCM_16K, output_format=PCM_24K, native_formats=frozenset())
    uplink_dropped_ms = 0.0
    counters: Counter[str] = Counter()
    history: tuple[HistoryItem, ...] = ()

    def __init__(self, options: AgentOptions, *, start: BaseException | float | None = None) -> None:
        self.options = options
        self.commands: list[tuple[Any, ...]] = []
        self.closed = False
        self._start = start
        self._events: asyncio.Queue[AgentEvent | None] = asyncio.Queue()
        self._finished = False
        self.last: tuple[AgentEvent, ...] = ()
        """What it has to say when it is closed."""

    @classmethod
    def capabilities_for(cls, credential: Mapping[str, Any]) -> Capabilities:
        return cls.capabilities

    def emit(self, *events: AgentEvent) -> None:
        for event in events:
            self._events.put_nowait(event)

    def die(self, reason: str = "1006") -> None:
        self.emit(SessionClosed(reason))
        self._events.put_nowait(None)

    async def start(self) -> None:
        if isinstance(self._start, BaseException):
            raise self._start
        if self._start is not None:
            await virtual.pass_time(self._start)
        self.emit(SessionOpen())

    async def close(self) -> None:
        self.closed = True
        self.emit(*self.last)
        self.die("closed")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AgentEvent:
        event = None if self._finished else await self._events.get()
        if event is None:
            self._finished = True
            raise StopAsyncIteration
        return event

    def _note(self, *command: Any) -> None:
        assert not self.closed, command
        self.commands.append(command)

    def push_audio(self, pcm: bytes) -> None:
        self._note("audio", len(pcm))

    def commit_input_audio(self) -> None:
        self._note("commit")

    def cancel(self, played: Sequence[Played]) -> None:
        self._note("cancel", tuple(played))

    def update_instructions(self, text: str) -> None:
        self._note("instructions", text)

    def send_text(self, text: str) -> None:
        self._note("text", text)

    def send_image(self, data: bytes, media_type: str) -> None:
        self._note("image", media_type)

    def say(self, text: str) -> None:
        self._note("say", text)

    def create_response(self) -> None:
        self._note("respond")

    def send_tool_result(self, call_id: str, output: str) -> None:
        self._note("result", call_id, output)


@dataclass
class FakeStream:
    """Notes what is played; what was heard the test decides."""

    given: list[tuple[str, str, int]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    discards: int = 0
    moves: list[str] = field(default_factory=list)
    """Pauses, resumptions, discards, in their order."""
    detector: Detector | None = None
    heard: tuple[Played, ...] = ()
    started: dict[str, float] = field(default_factory=dict)

    def play(self, pcm: bytes, reply_id: str, item_id: str) -> None:
        self.given.append((reply_id, item_id, len(pcm)))

    def finish(self, item_id: str) -> None:
        self.finished.append(item_id)

    def listen(self, detector: Detector | None) -> None:
        self.detector = detector

    def pause(self) -> None:
        self.moves.append("pause")

    def resume(self) -> None:
        self.moves.append("resume")

    def started_at(self, item_id: str) -> float | None:
        return self.started.get(item_id)

    def played(self) -> tuple[Played, ...]:
        return self.heard

    def discard(self) -> tuple[Played, ...]:
        self.discards += 1
        self.moves.append("discard")
        return self.heard


class FakeLeg:
    """A SipLeg's surface. `refusal` is what `negotiate` raises, `transfer` what `refer` answers."""

    outbound = False
    hears_early = False

    def __init__(self, *, codec: Codec = PCMU, refusal: Exception | None = None) -> None:
        self.codec = codec
        self.steps: list[tuple[Any, ...]] = []
        self.stream: FakeStream | None = None
        self.figures: MediaStats | None = None
        self.media_open = asyncio.Event()
        self.transfer_accepted = False
        self.machine = ""
        self.failure = ""
        self.transfer: asyncio.Future[str | Referred] | None = None
        self._refusal = refusal
        self.press_failure = ""

    @property
    def likely_codec(self) -> Codec:
        return self.codec

    def owns(self, call: object) -> bool:
        return True

    def negotiate(self) -> None:
        if self._refusal:
            raise self._refusal

    def begin(self, uplink: AudioFormat, downlink: AudioFormat, *, early_media: bool = False) -> None:
        self.formats = uplink, downlink
        self.steps.append(("183" if early_media else "180",))
        if early_media:
            self.stream = FakeStream()

    def use_formats(self, uplink: AudioFormat, downlink: AudioFormat) -> None:
        self.formats = uplink, downlink

    async def answer(self) -> None:
        self.steps.append(("200", *self.formats))
        self.stream = self.stream or FakeStream()
        self.media_open.set()

    def reject(self, status: int, reason: str) -> None:
        self.steps.append((status, reason))

    def sip_event(self, event: object) -> None:
        pass

    async def refer(self, target: str, *, seconds: float = 0, replaces: object = None) -> Referred:
        """`transfer` may be given just the failure."""
        self.steps.append(("refer", target) if replaces is None else ("refer", target, replaces))
        self.transfer = asyncio.get_running_loop().create_future()
        outcome = await self.transfer
        return outcome if isinstance(outcome, Referred) else Referred(outcome)

    async def press(self, keys: str) -> str:
        self.steps.append(("press", keys, asyncio.get_running_loop().time()))
        await asyncio.sleep(0.2 * len(keys))
        return self.press_failure

    def close(self, reason: str, status: int | None = None) -> None:
        self.steps.append(("close", reason))


@cache
def _config(text: str) -> TenantConfig:
    """A tenant's file that hundreds of cases have in common is read once."""
    return parse(text, TenantConfig, "t.yaml")


class Call:
    """One CallSession under test, its leg and its agent."""

    def __init__(
        self,
        tenant: str = "",
        leg: FakeLeg | None = None,
        start: BaseException | float | None = None,
        prices: Prices | None = None,
        second_leg: SecondLeg = nobody_to_call,
    ) -> None:
        self.leg = leg or FakeLeg()
        self.agents: list[ScriptedAgent] = []
        self._start = start
        register(cast(Any, ScriptedAgent), "scripted")
        config = _config(tenant or "agent: {provider: scripted}")
        self.session = CallSession(
            cast(SipLeg, self.leg),
            Tenant("t", config),
            CallFields(to="agent", caller="+15550123", call_id="c1"),
            new_agent=self._new_agent,
            max_seconds=600,
            clock=asyncio.get_running_loop().time,
            prices=prices,
            second_leg=second_leg,
        )
        self._task: asyncio.Task[CallReport] | None = None

    def _new_agent(
        self, credential: Mapping[str, Any], options: AgentOptions, *, connect_timeout: float
    ) -> ScriptedAgent:
        agent = ScriptedAgent(options, start=self._start)
        self.agents.append(agent)
        return agent

    @property
    def agent(self) -> ScriptedAgent:
        return self.agents[0]

    @property
    def stream(self) -> FakeStream:
        assert self.leg.stream is not None
        return self.leg.stream

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.session.run())

    async def up(self) -> Self:
        """Run until it is answered and the conversation goes on."""
        self.begin()
        await self.leg.media_open.wait()
        await settle()
        return self

    async def over(self) -> CallReport:
        assert self._task is not None
        return await self._task


async def settle() -> None:
    """Let everything that can happen now happen."""
    for _ in range(20):
        await asyncio.sleep(0)
