"""The Live dialect and the vendor's own client, each in a conversation with the simulated service."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI

from sipbridge.agent import (
    AgentError,
    AssistantText,
    AssistantTurnEnd,
    SessionClosed,
    ToolCall,
    UserTranscript,
)
from sipbridge.audio import PCM_24K, PCMU
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.openai_live_check import check_message
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers import listener
from tests.providers.in_loop import coroutine
from tests.providers.listener import Talk
from tests.providers.live_driver import LOOKUP, options
from tests.providers.live_sdk import check_client_event, check_server_event
from tests.providers.order import audio_of

SHORT = Script(utterances=(Utterance("One word.", 0.4), Utterance("Two words.", 0.4)), transcripts=("Two nights.",))
CALLER = speech(Utterance(seconds=0.4, tone_hz=700), PCMU) + PCMU.silence * 8 * 1000


@asynccontextmanager
async def talk(script: Script, **changes: Any) -> AsyncIterator[Talk]:
    async with listener.talk("openai_live", script, options(**changes)) as conversation:
        yield conversation
    judge(conversation.record)


def judge(record: SessionRecord) -> None:
    assert record.violations == []
    for received in record.received:
        check_client_event(received.message)
    for sent in record.sent:
        check_server_event(sent)


@coroutine
async def test_a_greeting_and_a_turn() -> None:
    async with talk(SHORT) as conversation:
        conversation.agent.say("Hotel Aster.")
        assert (await conversation.until(AssistantText, final=True)).text == "Hotel Aster."
        greeting = await conversation.until(AssistantTurnEnd)
        heard = audio_of(conversation.order.seen, greeting.reply_id)
        spoken = speech(SHORT.utterances[0], PCMU)
        assert heard[: len(spoken)] == spoken, "untouched, from its first sample"
        assert set(heard[len(spoken) :]) <= set(PCMU.silence)
        conversation.agent.push_audio(CALLER)
        await conversation.until(UserTranscript, text="Two nights.", final=True)
        await conversation.until(AssistantTurnEnd)
        await conversation.agent.close()
        assert await conversation.until(SessionClosed) == SessionClosed("closed", expected=True)
        assert conversation.record.messages("session.close")


@coroutine
async def test_it_goes_quiet_by_itself_when_the_caller_speaks() -> None:
    script = Script(utterances=(Utterance("A long story.", 5.0), Utterance("Yes?", 0.2)))
    async with talk(script) as conversation:
        conversation.agent.say("A long story.")
        await conversation.until(AssistantText)
        conversation.agent.push_audio(CALLER)
        end = await conversation.until(AssistantTurnEnd)
        assert PCMU.duration_ms(audio_of(conversation.order.seen, end.reply_id)) < 3000


@pytest.mark.parametrize("calls", [1, 2])
@coroutine
async def test_tools(calls: int) -> None:
    script = Script(utterances=SHORT.utterances, tools={0: ToolUse("lookup", '{"n":1}', times=calls)})
    async with talk(script, tools=(LOOKUP,)) as conversation:
        conversation.agent.push_audio(CALLER)
        for number in range(calls):
            call = await conversation.until(ToolCall)
            conversation.agent.send_tool_result(call.call_id, f"result {number}")
        said = await conversation.until(AssistantText, final=True)
        assert said.text == f"The tool said: result {calls - 1}"
        assert len(conversation.record.messages("response.create")) == 1


@coroutine
async def test_without_a_text_model_its_work_is_answered() -> None:
    script = Script(utterances=SHORT.utterances, tools={0: ToolUse("lookup")})
    async with talk(script) as conversation:
        conversation.agent.push_audio(CALLER)
        assert (await conversation.until(AssistantText, final=True)).text == "Two words."
        [answer] = conversation.record.messages("session.commentary.append")
        assert answer["delegation_id"]


@coroutine
async def test_keys_and_new_instructions_reach_it() -> None:
    script = Script(utterances=SHORT.utterances)
    async with talk(script, tools=(LOOKUP,)) as conversation:
        conversation.agent.update_instructions("Be formal.")
        conversation.agent.send_text('call:lookup {"n":2}')
        conversation.agent.create_response()
        call = await conversation.until(ToolCall)
        assert call.arguments == '{"n":2}'
        conversation.agent.send_tool_result(call.call_id, "found")
        await conversation.until(AssistantText, text="The tool said: found", final=True)


@pytest.mark.parametrize(("fault", "code"), [("refuse_setup", "invalid_value"), ("no_update", "timeout")])
@coroutine
async def test_a_start_that_fails(fault: str, code: str) -> None:
    async with ModelServer(Script(fault=Fault(fault)), wire="openai_live") as server:
        credential = {"provider": "openai_live", "url": server.url}
        agent = new_agent_from_credential(credential, options(), connect_timeout=0.3)
        with pytest.raises(AgentStartError) as failure:
            await agent.start()
        assert failure.value.code == code
        await agent.close()


@pytest.mark.parametrize("fault", ["error:server_busy", "rate_limit:1"])
@coroutine
async def test_an_error_is_survived(fault: str) -> None:
    utterances = (Utterance("One word.", 0.6), Utterance("Two words.", 0.3))
    async with talk(Script(utterances=utterances, fault=Fault.parse(fault))) as conversation:
        conversation.agent.say("Hello.")
        assert not (await conversation.until(AgentError)).fatal
        conversation.agent.say("Again.")
        await conversation.until(AssistantText, text="Again.", final=False)


@coroutine
async def test_garbage_is_passed_over() -> None:
    async with talk(Script(utterances=(Utterance(seconds=0.6),), fault=Fault("garbage"))) as conversation:
        conversation.agent.say("Hello.")
        await conversation.until(AssistantText, text="Hello.", final=True)
        assert conversation.agent.counters["malformed"] + conversation.agent.counters["unknown"] == 6


# --- the simulator is as strict as the vendor's types -----------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.start", "session": {"audio": {}}},
        {"type": "session.start", "session": {"model": "m", "temperature": 1}},
        {"type": "session.start", "session": {"model": "m", "audio": {"format": {"type": "audio/pcmu"}}}},
        {"type": "session.start", "session": {"model": "m", "audio": {"format": {"type": "audio/pcm", "rate": 8000}}}},
        {"type": "session.start", "session": {"model": "m", "delegation": {"type": "responses", "responses": {}}}},
        {"type": "session.start", "session": {"model": "m", "tools": []}},
        {"type": "session.commentary.append", "content": "Hello."},
        {"type": "session.thinking.append", "content": "word " * 1000, "delegation_id": None},
        {"type": "response.create", "response": {}},
        {"type": "response.cancel"},
        {"type": "session.input_audio.append"},
    ],
)
def test_what_the_service_would_refuse_is_refused_by_both(message: dict[str, Any]) -> None:
    assert check_message(message) is not None
    with pytest.raises((ValueError, AssertionError, KeyError)):
        check_client_event(message)


# --- the vendor's own client ------------------------------------------------------------------------------------------


@coroutine
async def test_the_vendors_client_holds_a_conversation() -> None:
    script = Script(utterances=SHORT.utterances, tools={1: ToolUse("lookup", '{"n":1}')})
    async with ModelServer(script, wire="openai_live") as server:
        base = server.url.removesuffix("/live/sessions")
        client = AsyncOpenAI(api_key="sk-test", base_url=base.replace("ws:", "http:"), websocket_base_url=base)
        async with asyncio.timeout(10), client.live.connect() as connection:
            tool: Any = {"type": "function", "name": "lookup", "parameters": {}}
            await connection.session.start(
                session={
                    "model": "gpt-live-1",
                    "audio": {"format": {"type": "audio/pcm", "rate": 24000}},
                    "delegation": {"type": "responses", "responses": {"model": "gpt-5.5", "tools": [tool]}},
                }
            )
            await connection.session.commentary.append(content="Greet the caller.", delegation_id=None)
            caller = speech(Utterance(seconds=0.4, tone_hz=700), PCM_24K) + bytes(48 * 1000)
            heard, said, asked = b"", "", False
            async for event in connection:
                if event.type == "session.output_audio.delta":
                    heard += b64decode(event.delta)
                elif event.type == "session.output_transcript.delta":
                    said += event.delta
                elif event.type == "response.event" and event.event["type"] == "response.output_item.done":
                    item: Any = event.event["item"]
                    output: Any = {"type": "function_call_output", "call_id": item["call_id"], "output": "found"}
                    await connection.response.item.create(item=output)
                elif event.type == "response.event" and event.event["type"] == "response.completed" and not asked:
                    asked = True
                    await connection.response.create()
                elif event.type == "session.usage.updated" and said == "One word.":
                    said += " "
                    await connection.session.input_audio.append(audio=b64encode(caller).decode())
                elif event.type == "session.usage.updated" and "found" in said:
                    await connection.session.close()
                elif event.type == "session.closed":
                    break
        assert said == "One word. The tool said: found"
        assert max(heard) > 0
        judge(server.sessions[0])
