"""Sessions that are lost in mid-call, over real sockets: what the call sees, and what the next server is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from sipbridge.agent import (
    Agent,
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Reconnecting,
    Resumed,
    SessionClosed,
    ToolCall,
    ToolCallCancelled,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCMU, Played
from sipbridge.errors import AgentClosedError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.listener import Listener
from tests.providers.test_session import run

OPTIONS = AgentOptions(instructions="Be brief.", input_format=PCMU, output_format=PCMU)
SHORT = Utterance(text="This is what I say.", seconds=0.4)
CALM = Script(speed=0.0, utterances=(SHORT,), transcripts=("two nights",))
SLOW = replace(CALM, speed=4.0, utterances=(replace(SHORT, seconds=2.0),))
DROP = replace(CALM, fault=Fault("drop", after=2))
SPOKEN = speech(Utterance(seconds=0.6), PCMU)
SILENCE = b"\xff" * 160


class Talk(Listener):
    def __init__(self, agent: Agent, server: ModelServer) -> None:
        super().__init__(agent)
        self.server = server

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def rest(self) -> list[AgentEvent]:
        events = [event async for event in self.agent]
        self.order.feed(events)
        self.order.done()
        return events

    async def second(self) -> SessionRecord:
        return await self.server.session(1)

    def cut_the_line(self) -> None:
        """As a network does it."""
        assert self.server._server is not None
        for connection in list(self.server._server.connections):
            connection.transport.abort()


@asynccontextmanager
async def talking(first: Script = CALM, then: Script | None = CALM) -> AsyncIterator[Talk]:
    """`then` is how the server behaves to whoever comes after the first."""
    async with ModelServer(first) as server:
        agent = new_agent_from_credential({"provider": "openai", "url": server.url, "api_key": "sk-0123456"}, OPTIONS)
        await agent.start()
        if then is not None:
            server.script = then
        talk = Talk(agent, server)
        yield talk
        await agent.close()
        for record in server.sessions:
            assert record.violations == []


async def told(record: SessionRecord, count: int) -> list[tuple[str, str]]:
    """What a client put into the conversation, as soon as it is so much: role or kind, and words."""
    found = []
    await record.wait_for("conversation.item.create", count)
    for message in record.messages("conversation.item.create"):
        item = message["item"]
        if item["type"] == "message":
            found.append((item["role"], " ".join(part.get("text", "") for part in item["content"])))
        else:
            found.append((item["type"], item.get("output") or item.get("name")))
    return found


Scenario = Callable[[], Awaitable[None]]


def test_a_socket_that_drops_in_a_reply() -> None:
    async def scenario() -> None:
        async with talking(first=SLOW) as talk:
            talk.agent.say("Hello there.")
            await talk.until(AssistantText)
            talk.cut_the_line()
            lost = await talk.until(AssistantTurnEnd)
            assert lost.status == "failed"
            assert (await talk.until(Reconnecting)).attempt == 1
            assert (await talk.until(Resumed)).context_kept
            assert [(error.code, error.fatal) for error in talk.of(AgentError)] == [("closed", False)]
            again = await talk.until(AssistantTurnEnd)
            assert again.status == "completed", "what was owed to the caller is asked for again"
            assert again.reply_id != lost.reply_id
            record = await talk.second()
            assert await told(record, 1) == [("assistant", "Hello")]
            assert len(record.messages("response.create")) == 1
            await talk.agent.close()
            assert await talk.rest() == [SessionClosed("closed", expected=True)]
            assert talk.agent.counters["sessions_lost"] == 1

    run(scenario)


def test_the_new_session_knows_what_was_said_and_what_holds_now() -> None:
    async def scenario() -> None:
        async with talking() as talk:
            talk.agent.push_audio(SPOKEN + SILENCE * 60)
            await talk.until(UserTranscript)
            await talk.until(AssistantTurnEnd)
            talk.agent.send_text("The caller pressed 1.")
            talk.agent.update_instructions("Be long.")
            await talk.server.sessions[0].wait_for("session.update", 2)
            talk.cut_the_line()
            await talk.until(Resumed)
            record = await talk.second()
            assert await told(record, 3) == [
                ("user", "two nights"),
                ("assistant", SHORT.text),
                ("user", "The caller pressed 1."),
            ]
            assert record.messages("session.update")[0]["session"]["instructions"].startswith("Be long.")
            assert record.messages("response.create") == [], "nobody waited for an answer"

    run(scenario)


def test_an_answer_that_was_interrupted_is_known_as_far_as_it_was_heard() -> None:
    async def scenario() -> None:
        async with talking() as talk:
            talk.agent.create_response()
            first = await talk.until(AssistantAudio)
            await talk.until(AssistantTurnEnd)
            talk.agent.cancel([Played(first.reply_id, first.item_id, 200)])
            talk.cut_the_line()
            await talk.until(Resumed)
            assert await told(await talk.second(), 1) == [("assistant", "This is")]

    run(scenario)


def test_the_caller_was_in_the_middle_of_a_sentence() -> None:
    async def scenario() -> None:
        async with talking() as talk:
            talk.agent.push_audio(SPOKEN)
            await talk.until(UserSpeechStarted)
            talk.cut_the_line()
            await talk.until(Reconnecting)
            for start in range(0, len(SPOKEN), 160):
                talk.agent.push_audio(SPOKEN[start : start + 160])
            await talk.until(Resumed)
            talk.agent.push_audio(SILENCE * 60)
            await talk.until(UserSpeechEnded)
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            record = await talk.second()
            assert bytes(record.audio) == SPOKEN[-4000:] + SILENCE * 60, "of what waited the last half second"
            assert record.messages("response.create") == [], "he was heard out, and answered"
            assert talk.agent.uplink_dropped_ms == pytest.approx(100)

    run(scenario)


def test_the_caller_had_finished_and_nobody_heard_it() -> None:
    async def scenario() -> None:
        async with talking() as talk:
            talk.agent.push_audio(SPOKEN)
            await talk.until(UserSpeechStarted)
            talk.cut_the_line()
            await talk.until(Resumed)
            talk.agent.push_audio(SILENCE * 60)
            began = asyncio.get_running_loop().time()
            await talk.until(AssistantTurnStarted)
            assert asyncio.get_running_loop().time() - began > 0.5, "he was given the time to go on"

    run(scenario)


def test_a_turn_that_was_not_answered_is_answered_by_the_new_session() -> None:
    async def scenario() -> None:
        async with talking(first=replace(CALM, think_ms=60_000)) as talk:
            talk.agent.push_audio(SPOKEN + SILENCE * 60)
            await talk.until(UserTranscript)
            talk.cut_the_line()
            await talk.until(Resumed)
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            assert await told(await talk.second(), 1) == [("user", "two nights")]

    run(scenario)


def test_a_greeting_that_was_never_begun_is_said_by_the_new_session() -> None:
    async def scenario() -> None:
        async with talking(first=replace(CALM, fault=Fault("stall"))) as talk:
            talk.agent.say("Hotel Aster.")
            talk.cut_the_line()
            await talk.until(Resumed)
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            create = (await talk.second()).messages("response.create")
            assert len(create) == 1
            assert "Hotel Aster." in create[0]["response"]["instructions"]
            talk.cut_the_line()
            await talk.until(Resumed)
            assert (await talk.server.session(2)).messages("response.create") == [], "once"

    run(scenario)


def test_a_tool_that_was_running_is_answered_when_it_is_done() -> None:
    async def scenario() -> None:
        tool = ToolUse("price", '{"nights":2}')
        async with talking(first=replace(CALM, tools={0: tool})) as talk:
            talk.agent.create_response()
            call = await talk.until(ToolCall)
            await talk.until(AssistantTurnEnd)
            talk.cut_the_line()
            await talk.until(Resumed)
            record = await talk.second()
            assert record.messages("response.create") == [], "its result is waited for"
            assert await told(record, 1) == [("function_call", "price")]
            talk.agent.send_tool_result(call.call_id, '{"eur":240}')
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            assert (await told(record, 2))[1] == ("function_call_output", '{"eur":240}')
            assert len(record.messages("response.create")) == 1
            talk.agent.send_tool_result(call.call_id, "once more")
            assert talk.agent.counters["tool_result_unexpected"] == 1
            assert not talk.of(ToolCallCancelled)

    run(scenario)


def test_a_tool_that_is_done_while_there_is_no_session() -> None:
    async def scenario() -> None:
        async with talking(first=replace(CALM, tools={0: ToolUse("price", "{}")})) as talk:
            talk.agent.create_response()
            call = await talk.until(ToolCall)
            await talk.until(AssistantTurnEnd)
            talk.cut_the_line()
            await talk.until(AgentError)
            talk.agent.send_tool_result(call.call_id, "240")
            await talk.until(Resumed)
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            record = await talk.second()
            assert await told(record, 2) == [("function_call", "price"), ("function_call_output", "240")]
            assert len(record.messages("response.create")) == 1

    run(scenario)


def test_a_tool_of_the_new_session_is_its_own_though_the_names_are_the_same() -> None:
    async def scenario() -> None:
        asking = replace(CALM, tools={0: ToolUse("price", "{}")})
        async with talking(first=asking, then=asking) as talk:
            talk.agent.create_response()
            first = await talk.until(ToolCall)
            await talk.until(AssistantTurnEnd)
            talk.agent.send_tool_result(first.call_id, "1")
            await talk.until(AssistantTurnEnd)
            talk.cut_the_line()
            await talk.until(Resumed)
            talk.agent.create_response()
            second = await talk.until(ToolCall)
            await talk.until(AssistantTurnEnd)
            assert second.call_id != first.call_id
            talk.agent.send_tool_result(second.call_id, "2")
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            record = await talk.second()
            outputs = [item["item"] for item in record.messages("conversation.item.create")]
            assert outputs[-1]["type"] == "function_call_output"
            assert outputs[-1]["call_id"] == second.call_id.removeprefix("s2-")

    run(scenario)


def test_an_interruption_cancels_the_tools_of_the_lost_session_too() -> None:
    async def scenario() -> None:
        spoken = ToolUse("price", "{}", spoken=True)
        async with talking(first=replace(CALM, tools={0: spoken})) as talk:
            talk.agent.create_response()
            heard = await talk.until(AssistantAudio)
            call = await talk.until(ToolCall)
            await talk.until(AssistantTurnEnd)
            talk.cut_the_line()
            await talk.until(Resumed)
            talk.agent.cancel([Played(heard.reply_id, heard.item_id, 100)])
            assert (await talk.until(ToolCallCancelled)).call_id == call.call_id
            assert (await talk.second()).messages("conversation.item.truncate") == [], "it does not know that item"

    run(scenario)


def test_what_is_asked_for_while_there_is_no_session_waits_for_it() -> None:
    async def scenario() -> None:
        async with talking() as talk:
            talk.cut_the_line()
            await talk.until(AgentError)
            talk.agent.send_text("The caller pressed 2.")
            talk.agent.update_instructions("Be quick.")
            talk.agent.create_response()
            talk.agent.commit_input_audio()
            talk.agent.cancel([])
            await talk.until(Resumed)
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            record = await talk.second()
            assert await told(record, 1) == [("user", "The caller pressed 2.")]
            assert record.messages("session.update")[0]["session"]["instructions"].startswith("Be quick.")

    run(scenario)


def test_instructions_that_change_while_the_successor_is_being_opened() -> None:
    async def scenario() -> None:
        async with talking(then=replace(CALM, fault=Fault("slow", "100"))) as talk:
            talk.cut_the_line()
            await talk.until(Reconnecting)
            await talk.server.session(1)
            talk.agent.update_instructions("Be loud.")
            await talk.until(Resumed)
            record = await talk.second()
            await record.wait_for("session.update", 2)
            sent = [update["session"]["instructions"] for update in record.messages("session.update")]
            assert [text[:8] for text in sent] == ["Be brief", "Be loud."]

    run(scenario)


def test_two_drops_in_a_row() -> None:
    async def scenario() -> None:
        async with talking(first=SLOW, then=SLOW) as talk:
            talk.agent.create_response()
            await talk.until(AssistantText)
            talk.cut_the_line()
            await talk.until(Resumed)
            talk.server.script = CALM
            await talk.until(AssistantText)
            talk.cut_the_line()
            lost = await talk.until(AssistantTurnEnd)
            assert lost.status == "failed"
            assert (await talk.until(Reconnecting)).attempt == 2
            await talk.until(Resumed)
            assert (await talk.until(AssistantTurnEnd)).status == "completed"
            third = await talk.server.session(2)
            assert [role for role, _ in await told(third, 2)] == ["assistant", "assistant"]

    run(scenario)


@pytest.mark.slow
def test_a_server_that_drops_every_session_is_given_up() -> None:
    async def scenario() -> None:
        async with talking(first=DROP, then=DROP) as talk:
            talk.agent.create_response()
            events = await talk.rest()
            assert [event.attempt for event in events if isinstance(event, Reconnecting)] == [1, 2, 3]
            assert isinstance(events[-1], SessionClosed)
            assert not events[-1].expected
            assert [error.fatal for error in talk.of(AgentError)] == [False, False, False, True]
            assert len(talk.server.sessions) == 4

    run(scenario)


@pytest.mark.slow
def test_a_server_that_is_gone_is_given_up_within_five_seconds() -> None:
    async def scenario() -> None:
        async with talking(then=replace(CALM, fault=Fault("status", "503"))) as talk:
            talk.cut_the_line()
            began = asyncio.get_running_loop().time()
            events = await talk.rest()
            assert asyncio.get_running_loop().time() - began < 5.0
            assert [event.attempt for event in events if isinstance(event, Reconnecting)] == [1, 2, 3]
            assert talk.server.refused == 3
            assert [(error.code, error.fatal) for error in talk.of(AgentError)] == [("closed", False), ("503", True)]
            talk.agent.push_audio(SILENCE)
            talk.agent.say("Nobody hears this.")

    run(scenario)


def test_closing_while_it_reconnects() -> None:
    async def scenario() -> None:
        async with talking(then=replace(CALM, fault=Fault("silence"))) as talk:
            talk.agent.create_response()
            await talk.until(AssistantTurnEnd)
            talk.cut_the_line()
            await talk.until(Reconnecting)
            record = await talk.second()
            began = asyncio.get_running_loop().time()
            await talk.agent.close()
            assert asyncio.get_running_loop().time() - began < 1.0
            assert await talk.rest() == [SessionClosed("closed", expected=True)]
            await record.closed.wait()
            with pytest.raises(AgentClosedError):
                talk.agent.push_audio(SILENCE)

    run(scenario)
