"""The session over real sockets on loopback, with the simulated model at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from sipbridge.agent import (
    Agent,
    AgentError,
    AgentEvent,
    AgentOptions,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    SessionClosed,
    SessionOpen,
    ToolCall,
    TurnDetection,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCM_24K, PCMU, Played
from sipbridge.errors import AgentClosedError, AgentStartError, ProviderError
from sipbridge.providers import new_agent_from_credential
from sipbridge.providers.link import Link
from sipbridge.simulator.model import ModelServer
from sipbridge.simulator.script import Fault, Script, ToolUse, Utterance
from sipbridge.simulator.voice import speech
from tests.providers.listener import until

KEY = "sk-test-0123456789abcdef"
G711 = AgentOptions(input_format=PCMU, output_format=PCMU)
QUICK = Script(speed=0.0, utterances=(Utterance(seconds=0.5),))
SPOKEN = speech(Utterance(seconds=0.6), PCMU)
SILENCE = b"\xff" * 160

FAULTS = ("status:401", "refuse_setup", "drop", "close:1011", "error:session_expired")

Scenario = Callable[[], Awaitable[None]]


def run(scenario: Scenario) -> None:
    """A scenario leaves no task and no socket behind: warnings about them are errors here."""

    async def watched() -> None:
        async with asyncio.timeout(20):
            await scenario()
        await settled()

    asyncio.run(watched(), debug=False)


async def settled() -> None:
    """Until only this task is left; a leaked one runs into the test's time limit and is named."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        done, pending = await asyncio.wait(others, timeout=2)
        assert not pending, f"tasks left behind: {pending}"


def agent_for(url: str, options: AgentOptions = G711, *, timeout: float = 3.0) -> Agent:
    credential = {"provider": "openai", "url": url, "api_key": KEY}
    return new_agent_from_credential(credential, options, connect_timeout=timeout)


async def rest(agent: Agent) -> list[AgentEvent]:
    return [event async for event in agent]


# --- a conversation ---------------------------------------------------------------------------------------------------


def test_a_conversation_from_greeting_to_goodbye() -> None:
    async def scenario() -> None:
        script = Script(speed=0.0, transcripts=("two nights",), tools={1: ToolUse("price", '{"nights":2}')})
        async with ModelServer(script) as server:
            agent = agent_for(server.url)
            await agent.start()
            agent.say("Hotel Aster, how can I help?")
            seen: list[AgentEvent] = []
            await until(agent, AssistantTurnEnd, seen)
            assert isinstance(seen[0], SessionOpen)
            greeting = b"".join(event.pcm for event in seen if isinstance(event, AssistantAudio))
            assert greeting == speech(Utterance(), PCMU), "every octet, in order"

            agent.push_audio(SPOKEN + SILENCE * 60)
            for kind in (UserSpeechStarted, UserSpeechEnded):
                await until(agent, kind)
            assert (await until(agent, UserTranscript)).text == "two nights"
            call = await until(agent, ToolCall)
            await until(agent, AssistantTurnEnd)
            agent.send_tool_result(call.call_id, '{"eur":240}')
            await until(agent, AssistantTurnEnd)
            await agent.close()
            assert await rest(agent) == [SessionClosed("closed", expected=True)]

            record = server.sessions[0]
            assert record.violations == []
            assert record.headers["Authorization"] == f"Bearer {KEY}"
            await record.closed.wait()
            assert record.close_code == 1000
            assert bytes(record.audio) == SPOKEN + SILENCE * 60

    run(scenario)


def test_barge_in_tells_the_model_what_was_heard() -> None:
    async def scenario() -> None:
        script = Script(speed=4.0, utterances=(Utterance(seconds=8.0),))
        async with ModelServer(script) as server:
            agent = agent_for(server.url)
            await agent.start()
            agent.say("A long story.")
            first = await until(agent, AssistantAudio)
            agent.push_audio(SPOKEN)
            await until(agent, UserSpeechStarted)
            agent.cancel([Played(first.reply_id, first.item_id, 70)])
            end = await until(agent, AssistantTurnEnd)
            assert end.status == "cancelled"
            told = await server.sessions[0].wait_for("conversation.item.truncate")
            assert (told["item_id"], told["audio_end_ms"]) == (first.item_id, 70)
            assert server.sessions[0].violations == []
            await agent.close()

    run(scenario)


def test_our_own_cancel_where_the_server_leaves_it_to_us() -> None:
    async def scenario() -> None:
        options = AgentOptions(
            input_format=PCM_24K, output_format=PCM_24K, turn_detection=TurnDetection(interrupt_response=False)
        )
        async with ModelServer(Script(speed=4.0, utterances=(Utterance(seconds=8.0),))) as server:
            agent = agent_for(server.url, options)
            await agent.start()
            agent.create_response()
            first = await until(agent, AssistantAudio)
            agent.cancel([Played(first.reply_id, first.item_id, 30)])
            after: list[AgentEvent] = []
            await until(agent, AssistantTurnEnd, after)
            assert not [event for event in after if isinstance(event, AssistantAudio)]
            await server.sessions[0].wait_for("conversation.item.truncate")
            await server.sessions[0].wait_until(
                lambda: any(sent["type"] == "conversation.item.truncated" for sent in server.sessions[0].sent)
            )
            assert server.sessions[0].violations == []
            await agent.close()

    run(scenario)


# --- starts that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_a_refused_handshake_says_which_status(status: int) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault("status", str(status)))) as server:
            agent = agent_for(server.url)
            with pytest.raises(AgentStartError, match=f"HTTP {status}") as raised:
                await agent.start()
            assert raised.value.code == str(status)
            assert KEY not in str(raised.value)
            assert await rest(agent) == [SessionClosed(str(status))]

    run(scenario)


@pytest.mark.parametrize("fault", ["silence", "no_update", "slow:5000"])
def test_a_server_that_says_nothing_is_given_up_in_time(fault: str) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault.parse(fault))) as server:
            agent = agent_for(server.url, timeout=0.2)
            began = asyncio.get_running_loop().time()
            with pytest.raises(AgentStartError, match=r"not ready within 0\.2 s") as raised:
                await agent.start()
            assert raised.value.code == "timeout"
            assert asyncio.get_running_loop().time() - began < 0.7

    run(scenario)


def test_a_setup_the_server_refuses() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault("refuse_setup"))) as server:
            with pytest.raises(AgentStartError, match="told to refuse") as raised:
                await agent_for(server.url).start()
            assert raised.value.code == "invalid_value"
            await server.sessions[0].closed.wait()

    run(scenario)


def test_a_port_where_nobody_listens() -> None:
    async def scenario() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            with pytest.raises(AgentStartError, match="connection refused") as raised:
                await agent_for(f"ws://127.0.0.1:{port}/").start()
        assert raised.value.code == "refused"

    run(scenario)


def test_a_host_without_an_address() -> None:
    async def scenario() -> None:
        with pytest.raises(AgentStartError) as raised:
            await agent_for("ws://no-such-host.invalid/").start()
        assert raised.value.code == "dns"

    run(scenario)


def test_a_server_that_hangs_up_in_the_handshake() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(AgentStartError) as raised:
                await agent_for(f"ws://127.0.0.1:{port}/").start()
            assert raised.value.code == "closed"

    run(scenario)


def test_a_key_that_the_server_quotes_is_not_repeated() -> None:
    async def quote(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = f"Incorrect API key provided: {KEY}".encode()
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(quote, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(AgentStartError, match=r"provided: \*\*\*") as raised:
                await agent_for(f"ws://127.0.0.1:{port}/").start()
            assert KEY not in str(raised.value)

    run(scenario)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    async def scenario() -> None:
        async with ModelServer() as elsewhere:

            async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode())
                writer.close()

            async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                with pytest.raises(AgentStartError) as raised:
                    await agent_for(f"ws://127.0.0.1:{port}/").start()
            assert raised.value.code == "302"
            assert elsewhere.sessions == []

    run(scenario)


def test_a_cancelled_start_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault("no_update"))) as server:
            agent = agent_for(server.url)
            starting = asyncio.create_task(agent.start())
            await (await server.session()).wait_for("session.update")
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            await server.sessions[0].closed.wait()
            await agent.close()

    run(scenario)


@pytest.mark.parametrize("by", ["cancel", "close"])
def test_a_start_that_is_given_up_as_it_succeeds_leaves_nothing_behind(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            agent = agent_for(server.url)
            really_open = Link.open
            closing: list[asyncio.Task[None]] = []

            async def open_and_be_given_up(link: Link, seconds: float) -> None:
                await really_open(link, seconds)
                if by == "cancel":
                    starting.cancel()
                else:
                    closing.append(asyncio.create_task(agent.close()))
                    await asyncio.sleep(0)

            monkeypatch.setattr(Link, "open", open_and_be_given_up)
            starting = asyncio.create_task(agent.start())
            with pytest.raises((asyncio.CancelledError, AgentStartError)):
                await starting
            await server.sessions[0].closed.wait()
            await asyncio.gather(*closing)
            assert isinstance((await rest(agent))[-1], SessionClosed)

    run(scenario)


def test_closing_ends_a_start_under_way() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(fault=Fault("no_update"))) as server:
            agent = agent_for(server.url)
            starting = asyncio.create_task(agent.start())
            await (await server.session()).wait_for("session.update")
            await agent.close()
            with pytest.raises(AgentStartError, match="closed while it started"):
                await starting
            await server.sessions[0].closed.wait()

    run(scenario)


# --- ends in mid-call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "reason"), [("close:1011", "1011"), ("close:4000", "4000"), ("drop", "1006")])
def test_a_socket_that_dies_in_a_reply_and_a_server_that_lets_nobody_in_again(fault: str, reason: str) -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0, fault=Fault.parse(fault))) as server:
            agent = agent_for(server.url)
            await agent.start()
            server.script = Script(fault=Fault("status", "401"))
            agent.create_response()
            events = await rest(agent)
            assert isinstance(events[-1], SessionClosed)
            assert events[-1].reason.startswith(reason)
            assert not events[-1].expected
            started = next(event for event in events if isinstance(event, AssistantTurnStarted))
            assert AssistantTurnEnd(started.reply_id, "failed") in events
            errors = [event for event in events if isinstance(event, AgentError)]
            assert [(error.code, error.fatal) for error in errors] == [("closed", False), ("401", True)]
            assert server.refused == 1, "what is refused is not asked for again"
            agent.push_audio(SILENCE)
            agent.say("Nobody hears this.")
            await agent.close()

    run(scenario)


def test_a_fatal_error_closes_the_socket_even_if_the_server_keeps_it() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0, fault=Fault("error", "session_expired"))) as server:
            agent = agent_for(server.url)
            await agent.start()
            server.script = Script(fault=Fault("status", "403"))
            agent.create_response()
            assert (await rest(agent))[-1] == SessionClosed("session_expired")
            await server.sessions[0].closed.wait()
            await agent.close()

    run(scenario)


def test_rubbish_between_the_deltas_does_no_harm() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0, fault=Fault("garbage"))) as server:
            agent = agent_for(server.url)
            await agent.start()
            agent.create_response()
            seen: list[AgentEvent] = []
            await until(agent, AssistantTurnEnd, seen)
            heard = b"".join(event.pcm for event in seen if isinstance(event, AssistantAudio))
            assert heard == speech(Utterance(), PCMU)
            await agent.close()

    run(scenario)


# --- close and overflow -----------------------------------------------------------------------------------------------


def test_after_close_every_command_is_refused_and_close_is_idempotent() -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            agent = agent_for(server.url)
            with pytest.raises(ProviderError, match="not started"):
                agent.say("too early")
            await agent.start()
            await asyncio.gather(agent.close(), agent.close())
            await agent.close()
            commands: list[Callable[[], None]] = [
                lambda: agent.push_audio(SILENCE),
                lambda: agent.commit_input_audio(),
                lambda: agent.cancel([]),
                lambda: agent.update_instructions("x"),
                lambda: agent.send_text("x"),
                lambda: agent.send_image(b"x", "image/png"),
                lambda: agent.say("x"),
                lambda: agent.create_response(),
                lambda: agent.send_tool_result("c", "x"),
            ]
            for command in commands:
                with pytest.raises(AgentClosedError):
                    command()
            with pytest.raises(AgentClosedError):
                await agent.start()

    run(scenario)


def test_a_stalled_socket_costs_the_oldest_audio_and_no_more_than_a_second_at_the_end() -> None:
    async def scenario() -> None:
        options = AgentOptions(input_format=PCM_24K, output_format=PCM_24K)
        async with ModelServer(Script(fault=Fault("stall"))) as server:
            agent = agent_for(server.url, options)
            await agent.start()
            pushed_ms = 0
            while agent.uplink_dropped_ms == 0 and pushed_ms < 600_000:
                agent.push_audio(bytes(960))
                pushed_ms += 20
            assert agent.uplink_dropped_ms == 20, "the oldest block, as soon as 500 ms wait"
            agent.push_audio(bytes(960 * 10))
            assert agent.uplink_dropped_ms == pytest.approx(220)
            agent.update_instructions("Control messages are never dropped.")
            for _ in range(50):
                agent.push_audio(bytes(960))
            assert agent.uplink_dropped_ms == pytest.approx(1220)
            began = asyncio.get_running_loop().time()
            await agent.close()
            assert asyncio.get_running_loop().time() - began < 1.0

    run(scenario)


def test_a_socket_that_was_slow_for_a_while_loses_no_control_message() -> None:
    async def scenario() -> None:
        options = AgentOptions(input_format=PCM_24K, output_format=PCM_24K)
        async with ModelServer(Script(fault=Fault("stall"))) as server:
            agent = agent_for(server.url, options)
            await agent.start()
            while agent.uplink_dropped_ms == 0:
                agent.push_audio(bytes(960))
            agent.update_instructions("first")
            for _ in range(50):
                agent.push_audio(bytes(960))
            agent.update_instructions("second")
            server.resume()
            record = server.sessions[0]
            await record.wait_for("session.update", 3)
            instructions = [update["session"]["instructions"] for update in record.messages("session.update")]
            assert instructions[1:] == ["first", "second"]
            await agent.close()

    run(scenario)


def test_audio_from_before_the_session_is_open_is_bounded() -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            agent = agent_for(server.url)
            for number in range(50):
                agent.push_audio(bytes([number]) * 160)
            assert agent.uplink_dropped_ms == 500
            await agent.start()
            append = await server.sessions[0].wait_for("input_audio_buffer.append")
            assert append
            expected = b"".join(bytes([number]) * 160 for number in range(25, 50))
            assert bytes(server.sessions[0].audio) == expected
            await agent.close()

    run(scenario)


def test_a_reply_that_hangs_ends_when_we_close() -> None:
    async def scenario() -> None:
        async with ModelServer(Script(speed=0.0, fault=Fault("hang"))) as server:
            agent = agent_for(server.url)
            await agent.start()
            agent.create_response()
            started = await until(agent, AssistantTurnStarted)
            await until(agent, AssistantAudio)
            await agent.close()
            events = await rest(agent)
            end, closed = [event for event in events if isinstance(event, AssistantTurnEnd | SessionClosed)]
            assert end == AssistantTurnEnd(started.reply_id, "cancelled")
            assert closed == SessionClosed("closed", expected=True)

    run(scenario)


def test_a_hundred_sessions_leave_no_descriptor_behind() -> None:
    async def one(server: ModelServer, number: int) -> None:
        agent = agent_for(f"{server.url}?fault={FAULTS[number % len(FAULTS)]}" if number % 2 else server.url, timeout=2)
        with contextlib.suppress(AgentStartError):
            await agent.start()
            agent.create_response()
            if number % 3:
                await until(agent, AssistantTurnStarted)
        await agent.close()

    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            await one(server, 0)
        before = len(os.listdir("/proc/self/fd"))
        async with ModelServer(QUICK) as server:
            for batch in range(10):
                await asyncio.gather(*(one(server, batch * 10 + number) for number in range(10)))
        assert len(os.listdir("/proc/self/fd")) == before

    run(scenario)


# --- secrets, iteration -----------------------------------------------------------------------------------------------


def test_the_key_is_in_no_log_whatever_the_level(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            agent = agent_for(server.url)
            await agent.start()
            agent.create_response()
            await until(agent, AssistantTurnEnd)
            await agent.close()

    with caplog.at_level(logging.DEBUG), capture_logs() as logged:
        logging.getLogger("websockets.server").setLevel(logging.INFO)  # the simulated vendor may know it
        run(scenario)
    assert KEY not in caplog.text + repr(logged)


def test_a_key_that_the_server_quotes_in_an_event_is_not_repeated() -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            agent = agent_for(server.url)
            await agent.start()
            await until(agent, SessionOpen)
            assert server._server is not None
            (connection,) = server._server.connections
            error = {"type": "invalid_request_error", "code": "x", "message": f"Incorrect API key provided: {KEY}."}
            await connection.send(json.dumps({"type": "error", "error": error}))
            assert (await until(agent, AgentError)).message == "Incorrect API key provided: ***."
            await agent.close()

    run(scenario)


def test_an_event_is_not_lost_when_iteration_is_cancelled_as_it_comes() -> None:
    async def scenario() -> None:
        async with ModelServer(QUICK) as server:
            agent = agent_for(server.url)
            await agent.start()
            await until(agent, SessionOpen)
            waiting = asyncio.ensure_future(anext(agent_iterator(agent)))
            await asyncio.sleep(0)
            agent.create_response()
            record = server.sessions[0]
            await record.wait_until(lambda: any(sent["type"] == "response.created" for sent in record.sent))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            if waiting.cancelled():
                assert isinstance(await until(agent, AssistantTurnStarted), AssistantTurnStarted)
            await agent.close()

    run(scenario)


def agent_iterator(agent: Agent) -> AsyncIterator[AgentEvent]:
    return aiter(agent)
