"""The session as a driver: what it owes any dialect, shown with one that needs no network."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, serve

from sipbridge.agent import (
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantTurnStarted,
    Capabilities,
    SessionClosed,
    SessionOpen,
    UserSpeechStarted,
)
from sipbridge.audio import Played
from sipbridge.errors import AgentStartError
from sipbridge.providers import Dialect, Endpoint, Outgoing, WebSocketEndpoint
from sipbridge.providers.session import Session
from sipbridge.simulator.model import ModelServer


class Parrot:
    """Opens at once, hears speech in any audio, begins a reply a while after `create_response`."""

    capabilities = Capabilities()
    lifetime = None
    resume_handle = ""

    def __init__(self, endpoints: Mapping[str, Endpoint] | None = None, *, refuses: bool = False) -> None:
        self.counters: Counter[str] = Counter()
        self.calls: list[tuple[str, float]] = []
        self.received = asyncio.Event()
        self._endpoints = endpoints or {}
        self._refuses = refuses
        self._events: deque[AgentEvent] = deque()
        self._due: float | None = None

    async def prepare(self) -> None:
        if self._refuses:
            raise AgentStartError("no token", code="token")

    def start(self, now: float) -> None:
        self._events.append(SessionOpen())

    def endpoints(self) -> Mapping[str, Endpoint]:
        return self._endpoints

    def channel_opened(self, channel: str, now: float) -> None:
        self.calls.append(("channel_opened", now))

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        self.received.set()
        raise RuntimeError("a bug in a dialect")

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        self._events.append(AgentError(reason, "closed", fatal=True))
        self._events.append(SessionClosed(reason))

    def messages_to_send(self) -> list[Outgoing]:
        return []

    def get_timer(self) -> float | None:
        return self._due

    def handle_timer(self, now: float) -> None:
        self.calls.append(("handle_timer", now))
        if self._due is not None and now >= self._due:
            self._due = None
            self._events.append(AssistantTurnStarted("r1"))

    def next_event(self) -> AgentEvent | None:
        return self._events.popleft() if self._events else None

    def push_audio(self, pcm: bytes, now: float) -> None:
        self._events.append(UserSpeechStarted())

    def commit_input_audio(self, now: float) -> None:
        self.calls.append(("commit_input_audio", now))

    def cancel(self, played: Sequence[Played], now: float) -> None:
        self._due = None

    def heard(self, reply_id: str, text: str, now: float) -> None: ...

    def update_instructions(self, text: str, now: float) -> None: ...

    def send_text(self, text: str, now: float) -> None: ...

    def send_image(self, data: bytes, media_type: str, now: float) -> None: ...

    def say(self, text: str, now: float) -> None: ...

    def create_response(self, now: float) -> None:
        self._due = now + 0.02

    def send_tool_result(self, call_id: str, output: str, now: float) -> None: ...

    def close(self, now: float) -> None:
        self._events.append(SessionClosed("closed", expected=True))


def test_a_dialect_without_endpoints_opens_at_once_and_events_come_from_commands() -> None:
    async def scenario() -> list[AgentEvent]:
        dialect: Dialect = Parrot()
        agent = Session(dialect, slug="parrot", options=AgentOptions())
        await agent.start()
        assert await anext(agent) == SessionOpen()
        waiting = asyncio.ensure_future(agent.__anext__())
        await asyncio.sleep(0)
        agent.push_audio(b"\x00\x00")
        assert await waiting == UserSpeechStarted(), "a command wakes whoever waits for events"
        await agent.close()
        return [event async for event in agent]

    assert asyncio.run(scenario()) == [SessionClosed("closed", expected=True)]


def test_one_timer_on_the_session_s_clock() -> None:
    async def scenario() -> None:
        dialect = Parrot()
        now = 1000.0
        agent = Session(dialect, slug="parrot", options=AgentOptions(), clock=lambda: now)
        await agent.start()
        await anext(agent)
        agent.create_response()
        now = 1000.5
        assert await anext(agent) == AssistantTurnStarted("r1")
        assert dialect.calls == [("handle_timer", 1000.5)]
        agent.create_response()
        agent.cancel([])
        agent.commit_input_audio()
        await agent.close()
        assert dialect.calls[1:] == [("commit_input_audio", 1000.5)], "a timer that is taken back does not ring"

    asyncio.run(scenario())


def test_what_cannot_be_prepared_is_no_start() -> None:
    async def scenario() -> None:
        agent = Session(Parrot(refuses=True), slug="parrot", options=AgentOptions())
        with pytest.raises(AgentStartError, match="no token"):
            await agent.start()
        assert [event async for event in agent] == [SessionClosed("token")]

    asyncio.run(scenario())


def test_one_of_several_channels_that_cannot_be_opened_ends_the_start() -> None:
    async def scenario() -> None:
        async with ModelServer() as server:
            channels = {"text": WebSocketEndpoint(server.url), "voice": WebSocketEndpoint("ws://127.0.0.1:1/")}
            with pytest.raises(AgentStartError, match="refused"):
                await Session(Parrot(channels), slug="parrot", options=AgentOptions()).start()
            for record in server.sessions:
                await record.closed.wait()

    asyncio.run(scenario())


def test_a_bug_in_a_dialect_costs_one_message_and_is_logged() -> None:
    async def scenario() -> None:
        async with ModelServer() as server:
            dialect = Parrot({"text": WebSocketEndpoint(server.url)})
            agent = Session(dialect, slug="parrot", options=AgentOptions())
            await agent.start()
            await dialect.received.wait()
            assert dialect.counters["dialect_error"] == 1
            await agent.close()

    with capture_logs() as logged:
        asyncio.run(scenario())
    assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == ["message not handled"]


class Voice(Parrot):
    """Lives on without its channel, and says on it what it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__({"voice": WebSocketEndpoint(url)})
        self.outbox: list[Outgoing] = []
        self.log: list[str] = []
        self.changed = asyncio.Event()

    def _note(self, what: str) -> None:
        self.log.append(what)
        self.changed.set()

    async def until(self, *log: str) -> None:
        while self.log != list(log):
            self.changed.clear()
            await self.changed.wait()

    def messages_to_send(self) -> list[Outgoing]:
        messages, self.outbox = self.outbox, []
        return messages

    def channel_opened(self, channel: str, now: float) -> None:
        self._note("opened")
        self.outbox.append(Outgoing("voice", "hello"))

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None:
        self._note(f"closed {code}")

    def receive(self, channel: str, message: str | bytes, now: float) -> None:
        self._note(str(message))

    def send_text(self, text: str, now: float) -> None:
        self.outbox.append(Outgoing("voice", text))


def test_a_channel_that_a_dialect_lives_on_without_is_opened_again_when_it_is_wanted() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "bye":
                await connection.close(1000, "idle")
            else:
                await connection.send(message)

    async def scenario() -> None:
        async with asyncio.timeout(10), serve(echo, "127.0.0.1", 0) as server:
            dialect = Voice(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            agent = Session(dialect, slug="voice", options=AgentOptions())
            await agent.start()
            agent.send_text("bye")
            await dialect.until("opened", "hello", "closed 1000")
            agent.send_text("one")
            agent.send_text("two")
            expected = ("opened", "hello", "closed 1000", "opened", "hello", "one", "two")
            await dialect.until(*expected)
            agent.send_text("bye")
            await dialect.until(*expected, "closed 1000")
            server.close()
            await server.wait_closed()
            agent.send_text("three")
            await dialect.until(*expected, "closed 1000", "closed 1006")
            await agent.close()

    asyncio.run(scenario())
