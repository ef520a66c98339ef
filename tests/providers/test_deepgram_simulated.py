"""Deepgram's dialect and the vendor's own client, each in a conversation with the simulated service."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect

from sipbridge.agent import (
    AgentError,
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    SessionClosed,
    ToolCall,
    ToolCallCancelled,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_16K, PCMU, Played
from sipbridge.errors import AgentStartError
from sipbridge.providers import new_agent_from_credential
from sipbridge.simulator.model import ModelServer, SessionRecord
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers import listener
from tests.providers.deepgram_sdk import check_client_event, check_server_event
from tests.providers.in_loop import coroutine
from tests.providers.listener import Talk
from tests.providers.order import audio_of
from tests.providers.test_deepgram import LOOKUP, Driver, options

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from deepgram import AsyncDeepgramClient
    from deepgram.agent.v1.types import (
        AgentV1FunctionCallRequest,
        AgentV1SendFunctionCallResponse,
        AgentV1Settings,
    )
    from deepgram.environment import DeepgramClientEnvironment

SHORT = Script(
    utterances=(Utterance("One word.", 0.4), Utterance("Two words.", 0.4)), transcripts=("Two nights.",), speed=0
)
CALLER = speech(Utterance(seconds=0.4, tone_hz=700), PCMU)
QUIET = PCMU.silence * 8 * 800


@asynccontextmanager
async def talk(script: Script = SHORT, agent_options: AgentOptions | None = None) -> AsyncIterator[Talk]:
    async with listener.talk("deepgram", script, agent_options or options()) as conversation:
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
    async with talk(agent_options=options(greeting="Hotel Aster.")) as conversation:
        conversation.agent.say("Hotel Aster.")
        assert (await conversation.until(AssistantText, final=True)).text == "Hotel Aster."
        await conversation.until(AssistantTurnEnd)
        assert audio_of(conversation.order.seen) == speech(SHORT.utterances[0], PCMU), "untouched"
        conversation.agent.push_audio(CALLER + QUIET)
        await conversation.until(UserTranscript, text="Two nights.", final=True)
        await conversation.until(AssistantTurnEnd)
        assert bytes(conversation.record.audio) == CALLER + QUIET
        await conversation.agent.close()
        assert await conversation.until(SessionClosed) == SessionClosed("closed", expected=True)


@coroutine
async def test_the_caller_interrupts() -> None:
    script = Script(utterances=(Utterance("A long story.", 6.0), Utterance("Yes?", 0.2)), speed=4)
    async with talk(script, options(tools=(LOOKUP,))) as conversation:
        conversation.agent.say("A long story.")
        first = await conversation.until(AssistantAudio)
        conversation.agent.push_audio(CALLER)
        await conversation.until(UserSpeechStarted)
        conversation.order.cancelled()
        conversation.agent.cancel([Played(first.reply_id, first.item_id, 100)])
        conversation.agent.push_audio(QUIET)
        assert (await conversation.until(AssistantTurnEnd)).status == "cancelled"
        assert (await conversation.until(AssistantText, final=True)).text == "Yes?"


@pytest.mark.parametrize("calls", [1, 2])
@coroutine
async def test_tools(calls: int) -> None:
    script = Script(utterances=SHORT.utterances, tools={0: ToolUse("lookup", '{"n":1}', times=calls)}, speed=0)
    async with talk(script, options(tools=(LOOKUP,))) as conversation:
        conversation.agent.push_audio(CALLER + QUIET)
        for number in range(calls):
            call = await conversation.until(ToolCall)
            conversation.agent.send_tool_result(call.call_id, f"result {number}")
        said = await conversation.until(AssistantText, final=True)
        assert said.text == f"The tool said: result {calls - 1}"


@coroutine
async def test_keys_while_it_speaks() -> None:
    script = Script(utterances=(Utterance("A story.", 2.0), Utterance("Five.", 0.2)), speed=8)
    async with talk(script) as conversation:
        conversation.agent.say("A story.")
        first = await conversation.until(AssistantAudio)
        conversation.order.cancelled()
        conversation.agent.cancel([Played(first.reply_id, first.item_id, 100)])
        conversation.agent.send_text("The caller pressed 5.")
        conversation.agent.create_response()
        assert (await conversation.until(AssistantTurnEnd)).status == "cancelled"
        assert (await conversation.until(AssistantText, final=True)).text == "Five."
        assert conversation.agent.counters["injection_refused"] == 1
        assert len(conversation.record.messages("InjectUserMessage")) == 2


@coroutine
async def test_a_tool_that_is_cut_is_taken_back() -> None:
    script = Script(utterances=SHORT.utterances, tools={0: ToolUse("lookup", spoken=True)}, speed=0)
    async with talk(script, options(tools=(LOOKUP,))) as conversation:
        conversation.agent.push_audio(CALLER + QUIET)
        call = await conversation.until(ToolCall)
        conversation.agent.push_audio(CALLER)
        await conversation.until(UserSpeechStarted)
        conversation.agent.cancel([Played("reply-1", "reply-1-item", 100), Played(call.reply_id, "", 0)])
        await conversation.until(ToolCallCancelled, call_id=call.call_id)
        conversation.agent.push_audio(QUIET)
        await conversation.until(UserTranscript, final=True)


@pytest.mark.parametrize(("fault", "code"), [("refuse_setup", "INVALID_SETTINGS"), ("no_update", "timeout")])
@coroutine
async def test_a_start_that_fails(fault: str, code: str) -> None:
    async with ModelServer(Script(fault=Fault(fault)), wire="deepgram") as server:
        agent = new_agent_from_credential({"provider": "deepgram", "url": server.url}, options(), connect_timeout=0.3)
        with pytest.raises(AgentStartError) as failure:
            await agent.start()
        assert failure.value.code == code
        await agent.close()


@pytest.mark.parametrize("fault", ["error:FAILED_TO_SPEAK", "garbage"])
@coroutine
async def test_what_is_survived(fault: str) -> None:
    script = Script(utterances=(Utterance("One word.", 0.6),), fault=Fault.parse(fault), speed=0)
    async with talk(script) as conversation:
        conversation.agent.say("Hello.")
        if fault != "garbage":
            assert not (await conversation.until(AgentError)).fatal
        await conversation.until(AssistantTurnEnd, status="completed")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "Settings", "audio": {}, "agent": {}},
        {"type": "InjectAgentMessage", "message": "x", "behavior": "at once"},
        {"type": "FunctionCallResponse", "id": "call_9", "name": "x", "content": "y"},
        {"type": "UpdatePrompt", "prompt": "x", "instructions": "y"},
        {"type": "SettingsApplied"},
    ],
)
@coroutine
async def test_what_the_service_would_refuse_is_refused(message: dict[str, Any]) -> None:
    async with ModelServer(SHORT, wire="deepgram") as server, connect(server.url) as socket:
        assert json.loads(await socket.recv())["type"] == "Welcome"
        await socket.send(json.dumps(Driver().settings()))
        assert json.loads(await socket.recv())["type"] == "SettingsApplied"
        await socket.send(json.dumps(message))
        error = json.loads(await socket.recv())
        check_server_event(error)
        assert error["type"] == "Error"
        assert len(server.sessions[0].violations) == 1


# --- the vendor's own client ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@coroutine
async def test_the_vendors_client_holds_a_conversation() -> None:
    script = Script(utterances=SHORT.utterances, tools={1: ToolUse("lookup", '{"n":1}')}, speed=0)
    async with ModelServer(script, wire="deepgram") as server:
        base = server.url.removesuffix("/v1/agent/converse")
        client = AsyncDeepgramClient(
            api_key="dg-test",
            environment=DeepgramClientEnvironment(base=base, production=base, agent=base, agent_rest=base),
        )
        settings: Any = {
            "type": "Settings",
            "audio": {
                "input": {"encoding": "linear16", "sample_rate": 16000},
                "output": {"encoding": "linear16", "sample_rate": 16000, "container": "none"},
            },
            "agent": {
                "listen": {"provider": {"type": "deepgram", "version": "v2", "model": "flux-general-en"}},
                "think": {
                    "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
                    "functions": [{"name": "lookup", "parameters": {"type": "object"}}],
                },
                "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}},
                "greeting": "Hello.",
            },
        }
        caller = speech(Utterance(seconds=0.4, tone_hz=700), PCM_16K) + bytes(32 * 800)
        said, heard = [], b""
        async with asyncio.timeout(10), client.agent.v1.connect() as connection:
            async for message in connection:
                kind = "sound" if isinstance(message, bytes) else getattr(message, "type", "")
                if isinstance(message, bytes):
                    heard += message
                elif kind == "Welcome":
                    await connection.send_settings(AgentV1Settings.model_validate(settings))
                elif kind == "ConversationText":
                    said.append(getattr(message, "content", ""))
                elif isinstance(message, AgentV1FunctionCallRequest):
                    [function] = message.functions
                    answer = AgentV1SendFunctionCallResponse(id=function.id, name=function.name, content="found")
                    await connection.send_function_call_response(answer)
                elif kind == "AgentAudioDone" and said == ["Hello."]:
                    await connection.send_media(caller)
                elif kind == "AgentAudioDone":
                    break
        assert said == ["Hello.", "The caller said something.", "The tool said: found"]
        assert max(heard) > 0
        judge(server.sessions[0])
