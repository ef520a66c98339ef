"""How one link follows another, in virtual time, with a vendor that does what the test says: planned changes, handles,
losses while a change is under way."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Capabilities,
    Reconnecting,
    Resumed,
    Said,
    SessionClosed,
    SessionOpen,
    ToolCall,
    ToolUsed,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCMU, Played
from sipbridge.errors import AgentStartError, ConfigError
from sipbridge.providers import Dialect, Endpoint, Lifetime, Outgoing
from sipbridge.providers.session import Session
from tests import virtual
from tests.providers.order import OrderChecker

OPTIONS = AgentOptions(instructions="Be brief.", input_format=PCMU, output_format=PCMU)
CAPABILITIES = Capabilities(native_formats=frozenset({PCMU}))
BLOCK = b"\xff" * 160


class Vendor:
    """Makes dialects, and says how they behave; `made` are those so far."""

    def __init__(self, capabilities: Capabilities = CAPABILITIES) -> None:
        self.capabilities = capabilities
        self.made: list[Actor] = []
        self.opens_in = 0.2
        self.refusal: AgentStartError | None = None
        self.refuses_handles = False
        self.up = 0
        self.most_up = 0

    def __call__(self, options: AgentOptions) -> Actor:
        actor = Actor(self, options)
        self.made.append(actor)
        return actor


class Actor:
    """A dialect without a socket: it notes what it is told."""

    def __init__(self, vendor: Vendor, options: AgentOptions) -> None:
        self.vendor = vendor
        self.options = options
        self.capabilities = vendor.capabilities
        self.counters: Counter[str] = Counter()
        self.lifetime: Lifetime | None = None
        self.resume_handle = ""
        self.told: list[tuple[Any, ...]] = []
        self.uplink = b""
        self.closed = False
        self._events: deque[AgentEvent] = deque()
        self._open: list[str] = []
        self._wake: Callable[[], None] = lambda: None

    # what the test makes it say

    def say_events(self, *events: AgentEvent) -> None:
        for event in events:
            if isinstance(event, AssistantTurnStarted):
                self._open.append(event.reply_id)
            if isinstance(event, AssistantTurnEnd):
                self._open.remove(event.reply_id)
            self._events.append(event)

    def die(self, *, again: bool = True) -> None:
        self._events.append(AgentError("the line broke", "closed", fatal=True))
        self._finish("failed", SessionClosed("1006", again=again))

    def _finish(self, status: Any, closed: SessionClosed) -> None:
        if not self.closed:
            self.closed = True
            self.vendor.up -= 1
            self._events.extend(AssistantTurnEnd(reply_id, status) for reply_id in self._open)
            self._events.append(closed)

    # the dialect

    async def prepare(self) -> None:
        await virtual.pass_time(self.vendor.opens_in)
        if self.vendor.refusal is not None:
            raise self.vendor.refusal

    def start(self, now: float) -> None:
        if self.options.resume_handle and self.vendor.refuses_handles:
            self._events.append(AgentError("expired", "1008", fatal=True))
            self._events.append(SessionClosed("1008"))
            return
        self.vendor.up += 1
        self.vendor.most_up = max(self.vendor.most_up, self.vendor.up)
        self._events.append(SessionOpen())

    def endpoints(self) -> Mapping[str, Endpoint]:
        return {}

    def channel_opened(self, channel: str, now: float) -> None: ...

    def receive(self, channel: str, message: str | bytes, now: float) -> None: ...

    def channel_closed(self, channel: str, code: int, reason: str, now: float) -> None: ...

    def messages_to_send(self) -> list[Outgoing]:
        return []

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None: ...

    def next_event(self) -> AgentEvent | None:
        return self._events.popleft() if self._events else None

    def push_audio(self, pcm: bytes, now: float) -> None:
        self.uplink += pcm

    def commit_input_audio(self, now: float) -> None:
        self.told.append(("commit",))

    def cancel(self, played: Sequence[Played], now: float) -> None:
        self.told.append(("cancel", tuple(played)))

    def heard(self, reply_id: str, text: str, now: float) -> None: ...

    def update_instructions(self, text: str, now: float) -> None:
        self.told.append(("instructions", text))

    def send_text(self, text: str, now: float) -> None:
        self.told.append(("text", text))

    def send_image(self, data: bytes, media_type: str, now: float) -> None:
        self.told.append(("image", media_type))

    def say(self, text: str, now: float) -> None:
        self.told.append(("say", text))

    def create_response(self, now: float) -> None:
        self.told.append(("respond",))

    def send_tool_result(self, call_id: str, output: str, now: float) -> None:
        self.told.append(("result", call_id, output))

    def close(self, now: float) -> None:
        if not self.closed:
            self._events.append(Usage("", {"session_seconds": 7.0}))
        self._finish("cancelled", SessionClosed("closed", expected=True))


class Talk:
    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.seen: list[AgentEvent] = []
        self._order = OrderChecker()
        first: Dialect = vendor(OPTIONS)
        self.agent = Session(
            first,
            slug="actor",
            options=OPTIONS,
            clock=asyncio.get_running_loop().time,
            successor=vendor,
        )

    async def begin(self) -> Talk:
        await self.agent.start()
        self._listening = asyncio.create_task(self._listen())
        await asyncio.sleep(0)
        return self

    async def _listen(self) -> None:
        async for event in self.agent:
            self._order.feed([event])
            self.seen.append(event)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def says(self, *events: AgentEvent, of: int = -1) -> None:
        """The vendor's side says this."""
        actor = self.vendor.made[of]
        actor.say_events(*events)
        await self.notice()

    async def notice(self) -> None:
        """Whatever can happen now happens. (Here no socket brings the events.)"""
        for _ in range(10):
            self.agent.wake()
            await asyncio.sleep(0)

    async def dies(self, *, again: bool = True) -> None:
        self.vendor.made[-1].die(again=again)
        await self.notice()

    async def passes(self, seconds: float) -> None:
        await virtual.pass_time(seconds)
        await self.notice()

    async def over(self) -> None:
        await self.agent.close()
        await self._listening
        self._order.done()
        assert self.vendor.up == 0
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kinds)]


def reply(reply_id: str, text: str = "Hello there.") -> tuple[AgentEvent, ...]:
    return (
        AssistantTurnStarted(reply_id),
        AssistantAudio(reply_id, "i", BLOCK * 10),
        AssistantText(reply_id, text, final=True),
        AssistantTurnEnd(reply_id),
    )


@virtual.timed
async def test_before_a_session_has_to_end_another_one_takes_its_place_unheard() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    await talk.says(*reply("r1"))
    vendor.made[0].lifetime = Lifetime(talk.now + 60, talk.now + 120)
    await talk.notice()
    await talk.passes(59.9)
    assert len(vendor.made) == 1
    await talk.passes(0.2)
    assert len(vendor.made) == 2, "it is quiet: at once"
    assert vendor.made[1].options == replace(OPTIONS, history=(Said("assistant", "Hello there."),))
    talk.agent.push_audio(b"1" * 160)
    assert not talk.of(Resumed)
    await talk.passes(0.2)
    assert talk.of(Resumed, Reconnecting, AgentError) == [Resumed(context_kept=True)]
    assert vendor.made[0].closed
    assert vendor.made[0].uplink == vendor.made[1].uplink == b"1" * 160, "what came meanwhile both have heard"
    talk.agent.push_audio(b"2" * 160)
    assert vendor.made[1].uplink == b"1" * 160 + b"2" * 160
    assert vendor.made[1].told == []
    assert Usage("", {"session_seconds": 7.0}) in talk.seen, "what the old one cost is known"
    await talk.says(*reply("r1"))
    assert [event.reply_id for event in talk.of(AssistantTurnStarted)] == ["r1", "s2-r1"]
    assert talk.of(AssistantAudio)[-1].item_id == "s2-i"
    await talk.over()


@pytest.mark.parametrize(
    "unquiet",
    [
        [AssistantTurnStarted("r1")],
        [UserSpeechStarted()],
        [UserSpeechStarted(), UserSpeechEnded()],
        [AssistantTurnStarted("r1"), ToolCall("c1", "a", "{}", "r1"), AssistantTurnEnd("r1")],
        [AssistantTurnStarted("r1"), AssistantAudio("r1", "i", BLOCK * 500), AssistantTurnEnd("r1")],
    ],
)
@virtual.timed
async def test_a_change_waits_for_a_quiet_moment(unquiet: list[AgentEvent]) -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.says(*unquiet)
    await talk.passes(5.0)
    assert len(vendor.made) == 1
    await talk.over()


@virtual.timed
async def test_at_the_last_moment_it_is_changed_in_the_middle_of_a_reply_which_is_asked_for_again() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 20)
    await talk.says(AssistantTurnStarted("r1"), AssistantText("r1", "Once upon", final=False))
    await talk.passes(14.9)
    assert len(vendor.made) == 1
    await talk.passes(0.5)
    assert len(vendor.made) == 2
    assert talk.of(AssistantTurnEnd, Resumed) == [AssistantTurnEnd("r1", "cancelled"), Resumed(True)]
    assert vendor.made[1].told == [("respond",)]
    await talk.over()


@virtual.timed
async def test_a_successor_that_has_missed_something_is_not_used() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.notice()
    await talk.passes(1.1)
    assert len(vendor.made) == 2
    await talk.says(UserTranscript("One more thing.", final=True), of=0)
    await talk.passes(0.3)
    assert talk.of(Resumed) == []
    assert vendor.made[1].closed
    await talk.says(*reply("r1"), of=0)
    await talk.passes(5.0)
    assert talk.of(Resumed) == [Resumed(True)]
    assert len(vendor.made) == 3
    assert vendor.made[2].options.history == (Said("user", "One more thing."), Said("assistant", "Hello there."))
    assert talk.agent.counters["successors_discarded"] == 1
    await talk.over()


@virtual.timed
async def test_a_change_that_fails_is_not_noticed_and_tried_again() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    vendor.refusal = AgentStartError("busy", code="503", again=True)
    await talk.notice()
    await talk.passes(8.0)
    assert len(vendor.made) == 3
    assert talk.of(Reconnecting, Resumed, AgentError) == []
    talk.agent.say("Still here.")
    assert vendor.made[0].told == [("say", "Still here.")]
    await talk.says(*reply("r1"), of=0)
    vendor.refusal = None
    await talk.passes(6.0)
    assert talk.of(Reconnecting, Resumed) == [Resumed(True)]
    await talk.over()


@virtual.timed
async def test_where_only_one_may_be_up_the_old_one_is_closed_first_and_no_sound_is_lost() -> None:
    vendor = Vendor(replace(CAPABILITIES, successor_overlaps=False))
    talk = await Talk(vendor).begin()
    vendor.opens_in = 1.5
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.notice()
    await talk.passes(1.1)
    assert vendor.made[0].closed
    said = b""
    for number in range(70):
        talk.agent.push_audio(bytes([number]) * 160)
        said += bytes([number]) * 160
        await talk.passes(0.02)
    await talk.passes(0.2)
    assert talk.of(Reconnecting, Resumed) == [Resumed(True)]
    assert vendor.made[1].uplink == said
    assert talk.agent.uplink_dropped_ms == 0
    assert vendor.most_up == 1
    await talk.over()


@virtual.timed
async def test_where_only_one_may_be_up_a_change_that_fails_is_an_outage() -> None:
    vendor = Vendor(replace(CAPABILITIES, successor_overlaps=False))
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    vendor.refusal = AgentStartError("busy", code="503", again=True)
    await talk.notice()
    await talk.passes(1.25)
    vendor.refusal = None
    await talk.passes(1.0)
    assert talk.of(Reconnecting, Resumed) == [Reconnecting(1), Resumed(True)]
    await talk.over()


@virtual.timed
async def test_where_only_one_may_be_up_what_the_old_one_had_open_is_ended_and_what_it_cost_is_told() -> None:
    """In mid-reply, because its time is up; and nobody comes after it."""
    vendor = Vendor(replace(CAPABILITIES, successor_overlaps=False))
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 1)
    vendor.refusal = AgentStartError("no", code="403")
    await talk.says(AssistantTurnStarted("r1"))
    await talk.passes(1.1)
    assert talk.of(AssistantTurnEnd, Usage) == [
        Usage("", {"session_seconds": 7.0}),
        AssistantTurnEnd("r1", "cancelled"),
    ]
    await talk.passes(0.5)
    assert talk.of(SessionClosed)
    await talk.over()


@virtual.timed
async def test_where_only_one_may_be_up_a_reply_that_was_cut_is_asked_for_again() -> None:
    vendor = Vendor(replace(CAPABILITIES, successor_overlaps=False))
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 1)
    await talk.says(AssistantTurnStarted("r1"))
    await talk.passes(1.5)
    assert vendor.made[1].told == [("respond",)]
    await talk.over()


@virtual.timed
async def test_a_successor_that_was_not_used_has_cost_something_too() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.notice()
    await talk.passes(1.1)
    await talk.says(UserTranscript("One more thing.", final=True), of=0)
    await talk.passes(0.3)
    assert vendor.made[1].closed
    assert talk.of(Usage) == [Usage("", {"session_seconds": 7.0})]
    await talk.over()


@virtual.timed
async def test_closing_while_the_old_one_is_still_being_closed_leaves_nothing() -> None:
    vendor = Vendor(replace(CAPABILITIES, successor_overlaps=False))
    talk = await Talk(vendor).begin()
    link = talk.agent._succession.link
    assert link is not None

    class Slow:
        dropped_ms = 0.0
        closed = False

        async def close(self) -> None:
            await virtual.pass_time(0.5)
            self.closed = True

    link._channels["slow"] = slow = Slow()  # type: ignore[assignment]
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.notice()
    await talk.passes(1.1)
    await talk.agent.close()
    assert slow.closed
    await talk.over()


@virtual.timed
async def test_a_loss_while_the_successor_is_being_opened() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.notice()
    await talk.passes(1.1)
    vendor.made[0].die()
    await talk.notice()
    await talk.passes(0.2)
    assert talk.of(AgentError, Reconnecting, Resumed) == [
        AgentError("the line broke", "closed", fatal=False),
        Reconnecting(1),
        Resumed(True),
    ]
    assert len(vendor.made) == 2
    await talk.over()


@virtual.timed
async def test_a_handle_spares_the_history() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    await talk.says(*reply("r1"))
    await talk.says(AssistantTurnStarted("r2"), ToolCall("c1", "a", "{}", "r2"), AssistantTurnEnd("r2"))
    vendor.made[0].resume_handle = "h7"
    await talk.dies()
    talk.agent.send_tool_result("c1", "done")
    await talk.passes(1.0)
    assert vendor.made[1].options.resume_handle == "h7"
    assert talk.of(Resumed) == [Resumed(True)]
    words = "The tool a that you called with {} has answered: done"
    assert vendor.made[1].told == [("text", words), ("respond",)], "its record ends before that"
    await talk.over()


@virtual.timed
async def test_a_handle_that_is_refused_is_done_without() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    await talk.says(*reply("r1"))
    vendor.made[0].resume_handle = "h7"
    vendor.refuses_handles = True
    await talk.dies()
    await talk.passes(0.5)
    assert [made.options.resume_handle for made in vendor.made] == ["", "h7", ""]
    assert vendor.made[2].options.history == (Said("assistant", "Hello there."),)
    assert talk.of(Reconnecting, Resumed) == [Reconnecting(1), Resumed(True)]
    assert talk.agent.counters["resume_handles_refused"] == 1
    await talk.over()


@virtual.timed
async def test_a_vendor_that_tells_no_words_keeps_no_context() -> None:
    vendor = Vendor(replace(CAPABILITIES, transcribes=False))
    talk = await Talk(vendor).begin()
    await talk.dies()
    await talk.passes(0.5)
    assert talk.of(Resumed) == [Resumed(context_kept=False)]
    await talk.over()


@virtual.timed
async def test_a_refusal_while_reconnecting_is_the_end() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.refusal = AgentStartError("no such key", code="401")
    await talk.dies()
    await talk.passes(0.3)
    assert talk.seen[-2:] == [AgentError("no such key", "401", fatal=True), SessionClosed("1006")]
    assert len(vendor.made) == 2
    await talk.over()


@virtual.timed
async def test_what_is_lost_for_good_is_not_reconnected() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    await talk.says(AssistantTurnStarted("r1"))
    await talk.dies(again=False)
    assert talk.seen[1:] == [
        AssistantTurnStarted("r1"),
        AssistantTurnEnd("r1", "failed"),
        AgentError("the line broke", "closed", fatal=True),
        SessionClosed("1006"),
    ]
    await talk.over()


@virtual.timed
async def test_options_that_no_dialect_can_be_made_of_any_more_are_a_failure_like_others() -> None:
    class Strict(Vendor):
        def __call__(self, options: AgentOptions) -> Actor:
            if options.history:
                raise ConfigError("no history, please")
            return super().__call__(options)

    talk = await Talk(Strict()).begin()
    await talk.says(*reply("r1"))
    await talk.dies()
    await talk.passes(0.3)
    assert talk.seen[-2:] == [AgentError("no history, please", "config", fatal=True), SessionClosed("1006")]
    await talk.over()


@virtual.timed
async def test_a_result_in_words_where_the_wire_takes_no_other() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    await talk.says(AssistantTurnStarted("r1"), ToolCall("c1", "a", "{}", "r1"), ToolCall("c2", "b", "{}", "r1"))
    await talk.dies()
    await talk.passes(0.5)
    new = vendor.made[1]
    assert new.options.history == (ToolUsed("c1", "a", "{}"), ToolUsed("c2", "b", "{}"))
    talk.agent.send_tool_result("c1", "one")
    assert new.told == [("text", "The tool a that you called with {} has answered: one")]
    talk.agent.send_tool_result("c2", "two")
    assert new.told[1:] == [("text", "The tool b that you called with {} has answered: two"), ("respond",)]
    await talk.over()


@virtual.timed
async def test_commands_that_wait_have_a_bound() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    await talk.dies()
    for number in range(60):
        talk.agent.send_text(str(number))
    await talk.passes(0.5)
    assert vendor.made[1].told == [("text", str(number)) for number in range(50)]
    assert talk.agent.counters["commands_lost"] == 10
    await talk.over()


@virtual.timed
async def test_closing_while_a_successor_is_being_opened_leaves_nothing() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.made[0].lifetime = Lifetime(talk.now + 1, talk.now + 100)
    await talk.notice()
    await talk.passes(1.1)
    await talk.over()
    assert talk.seen[-1] == SessionClosed("closed", expected=True)
    assert talk.of(Resumed) == []


@virtual.timed
async def test_closing_between_two_tries() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    vendor.refusal = AgentStartError("busy", code="503", again=True)
    await talk.dies()
    await talk.passes(0.3)
    await talk.over()
    assert len(vendor.made) == 2
    assert talk.seen[-1] == SessionClosed("closed", expected=True)


@virtual.timed
async def test_an_hour_of_changes() -> None:
    vendor = Vendor()
    talk = await Talk(vendor).begin()
    for number in range(60):
        vendor.made[-1].lifetime = Lifetime(talk.now + 1, talk.now + 60)
        await talk.says(*reply("r1", f"Sentence {number}."))
        await talk.passes(60.0)
    assert len(talk.of(Resumed)) == 60
    assert len(vendor.made[-1].options.history) == 60
    assert len({event.reply_id for event in talk.of(AssistantTurnStarted)}) == 60
    assert vendor.most_up == 2
    await talk.over()
