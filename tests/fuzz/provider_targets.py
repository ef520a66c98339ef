"""Every dialect against a vendor gone mad: conversations as its simulator holds them, mutated, cut, doubled and out of
order, with our own commands in between. Nothing raises, and events keep their order."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache, partial
from random import Random
from typing import Any, cast, overload
from zlib import crc32

from sipbridge.agent import AgentOptions, AssistantAudio, AssistantTurnEnd, ToolCall
from sipbridge.audio import Played
from sipbridge.providers import Dialect, capabilities_of, new_dialect
from sipbridge.simulator.script import Script, ToolUse, Utterance
from tests.fuzz.engine import Target
from tests.providers.order import OrderChecker
from tests.providers.scenarios.bench import BENCHES, Bench
from tests.providers.scenarios.talk import TOOL, Talk

LINE = b"\r\n"
"""Between messages, as the mutations know lines."""
_SHORT = Utterance("Hello there.", 0.04)
_SCRIPT = Script((_SHORT,), delta_ms=20, speed=0.0, tools={1: ToolUse(TOOL.name, '{"nights":2}', spoken=True)})
_MOST_SENT = 200
"""Messages of ours that may follow from one of theirs."""


# --- what a simulator says --------------------------------------------------------------------------------------------


_credentials: dict[Bench, Mapping[str, Any]] = {}
"""With which each was recorded."""


@cache
def recorded(bench: Bench) -> tuple[bytes, ...]:
    """Conversations as the dialect received them: lines of `CHANNEL TEXT`, or `CHANNEL base64:OCTETS`."""
    lines: list[bytes] = []

    def spied(credential: Mapping[str, Any], options: AgentOptions) -> Dialect:
        _credentials[bench] = credential
        dialect: Any = new_dialect(credential, options)
        receive = dialect.receive

        def noted(channel: str, message: str | bytes, now: float) -> None:
            lines.append(to_line(channel, message))
            receive(channel, message, now)

        dialect.receive = noted
        return cast(Dialect, dialect)

    asyncio.run(_converse(bench, spied))
    return (LINE.join(lines), LINE.join(lines[: len(lines) // 2]), LINE.join(lines[:6]))


async def _converse(bench: Bench, spied: Callable[[Mapping[str, Any], AgentOptions], Dialect]) -> None:
    async with Talk(bench, _SCRIPT, make_dialect=spied) as talk:
        if talk.capabilities.can_say:
            talk.agent.say("Hello.")
            await talk.reply(since=0)
        if not talk.capabilities.takes_tools:
            await talk.turn()
            return
        talk.speak(0.2)
        talk.hush(1.2)
        call = await talk.until(ToolCall, 0)
        here = talk.here
        talk.agent.send_tool_result(call.call_id, "{}")
        await talk.until(AssistantTurnEnd, here)


def to_line(channel: str, message: str | bytes) -> bytes:
    if isinstance(message, bytes):
        try:
            return channel.encode() + b" " + message.decode().encode()
        except UnicodeDecodeError:
            return channel.encode() + b" base64:" + b64encode(message)
    return channel.encode() + b" " + message.encode("utf-8", "replace")


def from_line(line: bytes) -> tuple[str, str | bytes]:
    channel, _, rest = line.partition(b" ")
    if rest.startswith(b"base64:"):
        try:
            return channel.decode("ascii", "replace"), b64decode(rest[7:])
        except Base64Error:
            pass
    try:
        return channel.decode("ascii", "replace"), rest.decode()
    except UnicodeDecodeError:
        return channel.decode("ascii", "replace"), rest


# --- the dialect alone ------------------------------------------------------------------------------------------------


class Alone:
    """A dialect without a network: what a driver owes it, and commands between the messages."""

    def __init__(self, bench: Bench) -> None:
        recorded(bench)
        credential = _credentials[bench]
        up, down = capabilities_of(bench.slug, credential).formats_for(None, 16000)
        self.up = up
        given: dict[str, Any] = {"tools": (TOOL,), "interim_transcripts": True, **bench.options}
        self.dialect: Dialect = new_dialect(credential, AgentOptions(input_format=up, output_format=down, **given))
        self.order = OrderChecker()
        self.now = 0.0
        self._audio: AssistantAudio | None = None
        self._call: str | None = None
        self.dialect.start(self.now)
        self.channels = list(self.dialect.endpoints())
        for channel in self.channels:
            self.dialect.channel_opened(channel, self.now)
            self.after()

    def after(self) -> None:
        sent = self.dialect.messages_to_send()
        assert len(sent) <= _MOST_SENT, f"{len(sent)} messages at once"
        fresh = []
        while (event := self.dialect.next_event()) is not None:
            fresh.append(event)
            if isinstance(event, AssistantAudio):
                self._audio = event
            elif isinstance(event, ToolCall):
                self._call = event.call_id
        self.order.feed(fresh)
        due = self.dialect.get_timer()
        if due is not None and due <= self.now:
            self.dialect.handle_timer(self.now)

    def receive(self, channel: str, message: str | bytes) -> None:
        self.now += 0.05
        self.dialect.receive(channel if channel in self.channels else self.channels[0], message, self.now)
        self.after()

    def answer(self) -> None:
        """What the tool says that was called last."""
        if self._call is not None:
            self.dialect.send_tool_result(self._call, "{}", self.now)
            self._call = None
            self.after()

    def command(self, number: int) -> None:
        """One of ours; only once the session is open, as a driver does."""
        if not self.order.seen or self.order.closed:
            return
        match number % 8:
            case 0:
                self.dialect.push_audio(bytes(20 * self.up.bytes_per_ms), self.now)
            case 1:
                self.dialect.create_response(self.now)
            case 2:
                heard = self._audio
                self.order.cancelled()
                self.dialect.cancel([Played(heard.reply_id, heard.item_id, 20)] if heard else [], self.now)
            case 3:
                self.dialect.say("Hello.", self.now)
            case 4:
                self.dialect.send_tool_result(self._call or "none", "{}", self.now)
            case 5:
                self.dialect.send_text("One.", self.now)
            case 6:
                self.dialect.update_instructions("Be brief.", self.now)
            case _:
                self.dialect.commit_input_audio(self.now)
        self.after()

    def close(self) -> None:
        self.dialect.close(self.now)
        self.after()
        self.order.done()


def converse(bench: Bench, data: bytes) -> Hashable:
    """Feed one conversation, a command behind every few messages, and hang up. Of what is JSON still, some is twisted:
    the random mutation of octets hardly ever leaves a message that can be read."""
    alone, random = Alone(bench), Random(crc32(data))
    for number, line in enumerate(data.split(LINE)[:400]):
        channel, message = from_line(line)
        alone.receive(channel, _twisted(random, message) if random.random() < 0.2 else message)
        if number % 3 == 2:
            alone.command(number // 3 + len(line))
    alone.close()
    kinds = sorted({type(event).__name__ for event in alone.order.seen})
    return (tuple(kinds), min(alone.dialect.counters["malformed"], 2), min(alone.dialect.counters["unknown"], 2))


_ODD: tuple[Any, ...] = (None, True, -1, 2**70, 1e300, "", "x" * 5000, [], {}, [None], {"type": "x"}, "\ud800", [[]])


def _twisted(random: Random, message: str | bytes) -> str | bytes:
    """The same with one value replaced by something else, left out or doubled, at any depth."""
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        return message
    places: list[tuple[Any, Any]] = []
    _gather(content, places)
    if not places:
        return json.dumps(random.choice(_ODD))
    container, key = random.choice(places)
    match random.randrange(3):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container *= 50
        case _:
            container[key] = random.choice(_ODD)
    return json.dumps(content)


def _gather(value: Any, places: list[tuple[Any, Any]], depth: int = 0) -> None:
    if depth > 50 or not isinstance(value, dict | list):
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        places.append((value, key))
        _gather(inner, places, depth + 1)


# --- targets ----------------------------------------------------------------------------------------------------------


class _Recorded(Sequence[bytes]):
    """Asked for when the target is run, not when it is imported."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        return recorded(self._bench)[index]

    def __len__(self) -> int:
        return len(recorded(self._bench))

    def __iter__(self) -> Iterator[bytes]:
        return iter(recorded(self._bench))


_WORDS = [b"null", b"true", b"[]", b"{}", b'""', b"1e400", b"-1", b"\\ud800", b"[" * 500, b'{"type":' * 300]
_WORDS += [json.dumps({"type": "of.the.future"}).encode(), b"base64:AP8="]

PROVIDER_TARGETS = [
    Target(f"provider {bench.name}", partial(converse, bench), _Recorded(bench), _WORDS, inputs=600)
    for bench in BENCHES
]
