"""One conversation with an agent over a simulated server: what a scenario does and looks at, through `Agent` alone."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from unittest.mock import patch

import numpy as np

from sipbridge.agent import (
    Agent,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    SessionClosed,
    ToolDeclaration,
)
from sipbridge.audio import AudioFormat, Played
from sipbridge.codecs import PCMU, Codec
from sipbridge.codecs import lookup as codec_of
from sipbridge.providers import Dialect, Lifetime, capabilities_of, new_agent_from_credential, new_dialect
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Script, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.judges import judge_of_part
from tests.providers.order import OrderChecker
from tests.providers.scenarios.bench import Bench
from tests.providers.scenarios.tasks import left_by, own

E = TypeVar("E", bound=AgentEvent)

WAIT_S = 15.0
"""For one thing; none takes a second, but on a busy machine many conversations share what there is of a processor."""
CALLER_HZ = 700.0
TOOL = ToolDeclaration(
    "price", "What a stay costs.", {"type": "object", "properties": {"nights": {"type": "integer"}}, "required": []}
)


@dataclass(frozen=True)
class Heard:
    """One reply, as it reached whoever plays it."""

    id: str
    pcm: bytes
    text: str
    status: str
    audio: AudioFormat

    @property
    def hz(self) -> float:
        return peak_hz(self.pcm, self.audio)


class Talk:
    """`async with Talk(bench, script) as talk:` opens an agent; on leaving it, everything must be over and in order."""

    def __init__(
        self,
        bench: Bench,
        script: Script,
        *,
        codec: Codec = PCMU,
        make_dialect: Callable[[Mapping[str, Any], AgentOptions], Dialect] = new_dialect,
        **options: Any,
    ) -> None:
        self.bench = bench
        self.server = bench.server()
        self.server.script = script
        self._end: Lifetime | None = None
        self._make_dialect = make_dialect
        self.dialects: list[Dialect] = []
        """In use until now; for what no agent tells."""
        self.order = OrderChecker()
        self._codec = codec
        self._options = options
        self.agent: Agent
        self.options: AgentOptions

    async def __aenter__(self) -> Talk:
        self._owner = own()
        await self.server.__aenter__()
        try:
            credential = self.bench.credential_for(self.server)
            up, down = capabilities_of(self.bench.slug, credential).formats_for(
                self._codec.audio_format, min(self._codec.sample_rate, 24000)
            )
            given: dict[str, Any] = {"instructions": "You run a hotel.", "tools": (TOOL,), **self.bench.options}
            self.options = AgentOptions(input_format=up, output_format=down, **(given | self._options))
            with patch("sipbridge.providers.new_dialect", self._new_dialect):
                self.agent = new_agent_from_credential(credential, self.options, connect_timeout=WAIT_S)
            await self.agent.start()
        except BaseException:
            await self.server.__aexit__(None, None, None)
            raise
        return self

    def _new_dialect(self, credential: Mapping[str, Any], options: AgentOptions) -> Dialect:
        dialect: Any = self._make_dialect(credential, options)
        if not self.dialects:
            kind = type(dialect)
            ending = property(lambda one: self._end or kind.lifetime.fget(one))
            dialect.__class__ = type(kind.__name__, (kind,), {"lifetime": ending})
        self.dialects.append(dialect)
        return cast(Dialect, dialect)

    def end_in(self, seconds: float) -> None:
        """From now on the first session says that it has to end then: no test waits for an hour."""
        now = time.monotonic()
        self._end = Lifetime(now, now + seconds)
        self.hush(0.1)

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        try:
            await self.agent.close()
            if error is None:
                async with asyncio.timeout(WAIT_S):
                    self.order.feed([event async for event in self.agent])
                self.order.done()
        finally:
            await self.server.__aexit__(None, None, None)
        if error is None:
            self._judge()
            await self._nothing_left()

    def _judge(self) -> None:
        """What the vendor would have refused, and what went wrong within."""
        assert [record.violations for record in self.server.sessions if record.violations] == []
        if self.bench.parts is not None:
            for record in self.server.sessions:
                if (judge := judge_of_part(record.path)) is not None:
                    for entry in record.received:
                        judge(entry.message)
        counters = self.agent.counters
        assert not counters["dialect_error"]
        assert not counters["malformed"]
        assert not counters["unknown"]
        assert not [name for name in counters if name.startswith("unsupported")]

    async def _nothing_left(self) -> None:
        if others := left_by(self._owner):
            _, pending = await asyncio.wait(others, timeout=WAIT_S)
            assert not pending, f"tasks left behind: {pending}"

    # --- what the caller does -----------------------------------------------------------------------------------------

    def speak(self, seconds: float = 0.6) -> bytes:
        sound = speech(Utterance(seconds=seconds, tone_hz=CALLER_HZ), self.options.input_format)
        self._push(sound)
        return sound

    def hush(self, seconds: float = 1.5) -> None:
        """Whoever speaks no more is silent: the vendors' voice detection counts samples, not time."""
        audio = self.options.input_format
        self._push(audio.silence * (round(seconds * 1000) * audio.bytes_per_ms // audio.bytes_per_sample))

    def _push(self, pcm: bytes) -> None:
        """As a call does: 20 ms at once."""
        size = 20 * self.options.input_format.bytes_per_ms
        for start in range(0, len(pcm), size):
            self.agent.push_audio(pcm[start : start + size])

    async def turn(self) -> Heard:
        """The caller says something and is answered."""
        here = self.here
        self.speak()
        self.hush()
        return await self.reply(since=here)

    def cancel(self, played: list[Played]) -> None:
        """As a call does when it is interrupted."""
        self.order.cancelled()
        self.agent.cancel(played)

    # --- what is seen -------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return self.agent.capabilities

    @property
    def seen(self) -> list[AgentEvent]:
        return self.order.seen

    @property
    def here(self) -> int:
        """To be given as `since`."""
        return len(self.order.seen)

    def count(self, kind: type[AgentEvent], since: int = 0) -> int:
        return sum(isinstance(event, kind) for event in self.seen[since:])

    def those(self, kind: type[E], since: int = 0) -> Iterator[E]:
        return (event for event in self.seen[since:] if isinstance(event, kind))

    async def until(self, kind: type[E], since: int | None = None, where: Callable[[E], bool] = lambda _: True) -> E:
        """The first such event from `since` on (None: of those to come)."""
        position = self.here if since is None else since
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    while position < len(self.seen):
                        event = self.seen[position]
                        if isinstance(event, kind) and where(event):
                            return event
                        position += 1
                    self.order.feed([await anext(self.agent)])
        except (TimeoutError, StopAsyncIteration):
            raise AssertionError(f"no {getattr(kind, '__name__', kind)}; there was {self._story()}") from None

    def _story(self) -> str:
        names: list[str] = []
        for event in self.seen:
            name = str(event) if isinstance(event, SessionClosed) else type(event).__name__
            if not names or names[-1] != name:
                names.append(name)
        return ", ".join(names) or "nothing"

    async def reply(self, since: int | None = None) -> Heard:
        """The next reply that is heard, whole. Replies that say nothing (they only call a tool) are passed over."""
        position = self.here if since is None else since
        while True:
            began = await self.until(AssistantTurnStarted, position)
            end = await self.until(AssistantTurnEnd, position, lambda end, began=began: end.reply_id == began.reply_id)  # type: ignore[misc]
            heard = self.heard(began.reply_id, end.status)
            if heard.pcm:
                return heard
            position = self.seen.index(began) + 1

    def heard(self, reply_id: str, status: str = "") -> Heard:
        pcm = b"".join(event.pcm for event in self.those(AssistantAudio) if event.reply_id == reply_id)
        texts = [event for event in self.those(AssistantText) if event.reply_id == reply_id]
        whole = [event.text for event in texts if event.final]
        text = " ".join(whole) if whole else "".join(event.text for event in texts)
        return Heard(reply_id, pcm, text, status, self.options.output_format)

    @property
    def told_until_now(self) -> dict[int, int]:
        """How much each server was told; to be given as `since`."""
        return {id(record): len(record.received) for record in self.server.sessions}

    @property
    def everything_told(self) -> str:
        """By all messages and addresses, but for sound."""
        records = self.server.sessions
        messages = [_shortened(entry.message) for record in records for entry in record.received]
        return json.dumps([messages, [record.path for record in records]], ensure_ascii=False)

    async def told(self, words: str, since: Mapping[int, int] | None = None) -> None:
        """Until a server has been told these words, in whatever message."""
        past = since or {}

        def said() -> bool:
            return any(
                words in json.dumps(entry.message, ensure_ascii=False)
                for record in self.server.sessions
                for entry in record.received[past.get(id(record), 0) :]
            )

        if not said():
            waiting = [asyncio.create_task(record.wait_until(said)) for record in self.server.sessions]
            done, _ = await asyncio.wait(waiting, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert done, f"the model was never told {words!r}"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return "..." if isinstance(value, str) and len(value) > 500 else value


def peak_hz(data: bytes, audio: AudioFormat) -> float:
    """The strongest tone."""
    codec = codec_of(audio.encoding)
    pcm = data if codec is None else codec.new_decoder().decode(data)
    samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2").astype(float)
    if not len(samples):
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * audio.rate / len(samples))


def open_sockets() -> int:
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    return found


__all__ = ["CALLER_HZ", "TOOL", "WAIT_S", "Heard", "ModelServer", "Talk", "peak_hz"]
