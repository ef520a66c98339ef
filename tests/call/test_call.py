"""The conversation: what the caller hears, what the model is told, how it ends. Virtual time, no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sipbridge.agent import (
    AgentError,
    AssistantAudio,
    AssistantInterrupted,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Reconnecting,
    Resumed,
    ToolCall,
    ToolCallCancelled,
    Usage,
    UserSpeechStarted,
)
from sipbridge.audio import PCM_16K, PCM_24K, Played
from sipbridge.codecs import PCMA
from sipbridge.errors import AgentStartError, NoPortAvailableError, SdpError
from sipbridge.media.events import Audio, Drained, KeyPressed, MediaTimeout
from sipbridge.outcome import Ended
from sipbridge.sip.events import CallEnded, EndCause
from tests import virtual
from tests.call.fakes import Call, FakeLeg, ScriptedAgent, settle

Scenario = Callable[[], Awaitable[None]]


def virtual_time(scenario: Callable[[], Any]) -> Callable[[], None]:
    def test() -> None:
        virtual.run(scenario())

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test


def speech(reply: str, item: str, ms: int = 100) -> AssistantAudio:
    return AssistantAudio(reply, item, bytes(ms * 48))


def ended(cause: EndCause, reason: str = "") -> CallEnded:
    return CallEnded(None, cause, None, reason)  # type: ignore[arg-type]  # the session does not look at the call


GREETS = "agent: {provider: scripted, greeting: Hello}"
TOOLS = "agent: {provider: scripted}\ntools: {hang_up: {}, transfer_call: {targets: {desk: 'sip:100@pbx.example.com'}}}"


# --- answering --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_rings_while_the_model_connects_and_answers_when_it_can_hear() -> None:
    call = Call(GREETS, start=1.5)
    call.begin()
    await settle()
    assert call.leg.steps == [("180",)]
    await call.leg.media_open.wait()
    await settle()
    assert call.leg.steps[1:] == [("200", PCM_16K, PCM_24K)]
    assert call.agent.commands == [("say", "Hello")]
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    report = await call.over()
    assert (report.ended, report.setup_ms, report.codec) == (Ended.CALLER_HUNG_UP, 1500, "PCMU")
    assert call.agent.closed


@pytest.mark.parametrize(
    ("start", "code"), [(AgentStartError("wss://internal.example.com said 401", code="401"), "401"), (60.0, "timeout")]
)
def test_a_model_that_cannot_hear_is_480_with_a_reason_and_never_200(start: BaseException | float, code: str) -> None:
    async def scenario() -> None:
        call = Call(start=start)
        call.begin()
        report = await call.over()
        assert report.ended is Ended.AGENT_NOT_READY
        assert call.leg.steps[0] == ("180",)
        status, reason = call.leg.steps[1]
        assert status == 480
        assert reason == f'Q.850;cause=41;text="agent_not_ready: {code}"', "and nothing of our inside"
        assert call.agent.closed
        assert not call.leg.media_open.is_set()

    virtual.run(scenario())


@pytest.mark.parametrize(("refusal", "status"), [(SdpError("no codec"), 488), (NoPortAvailableError("none"), 503)])
def test_what_cannot_be_agreed_on_is_refused_before_a_model_is_asked(refusal: Exception, status: int) -> None:
    async def scenario() -> None:
        call = Call(leg=FakeLeg(refusal=refusal))
        call.begin()
        report = await call.over()
        assert report.ended is Ended.REFUSED
        assert call.leg.steps[0][0] == status
        assert call.agents == []

    virtual.run(scenario())


@virtual_time
async def test_a_secret_that_is_missing_is_480() -> None:
    call = Call("agent: {provider: scripted, api_key: '${SIPBRIDGE_UNSET}'}")
    call.begin()
    report = await call.over()
    assert report.ended is Ended.AGENT_NOT_READY
    assert "SIPBRIDGE_UNSET is not set" in report.detail
    assert call.leg.steps[-2] == (480, 'Q.850;cause=41;text="agent_not_ready: config"')


@virtual_time
async def test_a_caller_who_gives_up_while_it_rings_costs_no_model_session() -> None:
    call = Call(start=2.0)
    call.begin()
    await settle()
    call.session.sip_event(ended(EndCause.CANCELLED))
    assert (await call.over()).ended is Ended.CALLER_CANCELLED
    assert call.agent.closed


@virtual_time
async def test_the_phones_own_codec_passes_through_where_the_model_takes_it() -> None:
    class Native(ScriptedAgent):
        pass

    from dataclasses import replace

    from sipbridge.providers import register

    assert PCMA.audio_format is not None
    Native.capabilities = replace(Native.capabilities, native_formats=frozenset({PCMA.audio_format}))
    for provider, extra, formats in (
        ("native", "", (PCMA.audio_format, PCMA.audio_format)),
        ("native", ", native_audio: false", (PCM_16K, PCM_24K)),
        ("scripted", "", (PCM_16K, PCM_24K)),
    ):
        register(Native, "native")  # type: ignore[arg-type]
        call = Call(f"agent: {{provider: {provider}{extra}}}", leg=FakeLeg(codec=PCMA))
        await call.up()
        assert call.leg.steps[-1] == ("200", *formats)
        assert (call.agent.options.input_format, call.agent.options.output_format) == formats
        call.session.end(Ended.SHUTDOWN)
        await call.over()


# --- uplink, downlink, barge-in ---------------------------------------------------------------------------------------


@virtual_time
async def test_audio_goes_up_and_speech_comes_down() -> None:
    call = await Call().up()
    call.session.media_event(Audio(1, b"\x00" * 640))
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), speech("r1", "i1"), AssistantTurnEnd("r1"))
    await settle()
    assert call.agent.commands == [("audio", 640)]
    assert call.stream.given == [("r1", "i1", 4800), ("r1", "i1", 4800)]
    assert call.stream.finished == ["i1"]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_barge_in_flushes_tells_what_was_heard_and_drops_what_comes_late() -> None:
    call = await Call().up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"))
    await settle()
    call.stream.heard = (Played("r1", "i1", 40),)
    call.agent.emit(UserSpeechStarted(), speech("r1", "i1"), AssistantTurnEnd("r1", "cancelled"))
    call.agent.emit(AssistantTurnStarted("r2"), speech("r2", "i2"))
    await settle()
    assert call.agent.commands == [("cancel", (Played("r1", "i1", 40),))]
    assert call.stream.given == [("r1", "i1", 4800), ("r2", "i2", 4800)]
    call.session.end(Ended.SHUTDOWN)
    report = await call.over()
    assert (report.barge_ins, report.late_bytes_dropped, report.replies) == (1, 4800, 2)


@virtual_time
async def test_speech_while_nothing_is_said_interrupts_nothing() -> None:
    call = await Call().up()
    call.agent.emit(UserSpeechStarted())
    await settle()
    assert call.agent.commands == []
    assert call.stream.discards == 0
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_a_reply_that_the_model_cut_by_itself_is_flushed_too() -> None:
    call = await Call().up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), AssistantInterrupted("r1"), UserSpeechStarted())
    await settle()
    assert call.stream.discards == 1
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_keys_interrupt_and_reach_the_model_together_as_text() -> None:
    call = await Call().up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"))
    await settle()
    for key in "12#":
        call.session.media_event(KeyPressed(1, key))
        await virtual.pass_time(0.4)
    await virtual.pass_time(1)
    assert call.agent.commands == [("cancel", ()), ("text", "The caller pressed 1 2 #."), ("respond",)]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_of_a_caller_who_never_stops_pressing_keys_the_last_ones_are_told() -> None:
    call = await Call().up()
    for key in "1" * 1000 + "#":
        call.session.media_event(KeyPressed(1, key))
    await asyncio.sleep(2)
    assert call.agent.commands == [("text", f"The caller pressed {'1 ' * 63}#."), ("respond",)]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


# --- ending -----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_hang_up_waits_until_the_goodbye_was_heard_to_its_last_packet() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(
        AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "hang_up", '{"reason":"done"}', "r1")
    )
    call.agent.emit(AssistantTurnEnd("r1"))
    await settle()
    call.agent.emit(UserSpeechStarted())
    await virtual.pass_time(5)
    assert call.leg.steps[-1][0] == "200"
    assert call.stream.discards == 0, "nothing interrupts a goodbye"
    call.session.media_event(Drained(1, "i1"))
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.AGENT_HUNG_UP, "done")
    assert call.leg.steps[-1] == ("close", 'Q.850;cause=16;text="agent_hung_up"')
    assert call.agent.commands == []


@virtual_time
async def test_hang_up_without_a_word_asks_for_a_goodbye_first() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("t1", "hang_up", "{}", "r1"), AssistantTurnEnd("r1"))
    await settle()
    assert [command[:2] for command in call.agent.commands] == [("result", "t1")]
    call.agent.emit(AssistantTurnStarted("r2"), speech("r2", "i2"), AssistantTurnEnd("r2"))
    await settle()
    assert call.stream.finished == ["i2"]
    call.session.media_event(Drained(1, "i2"))
    assert (await call.over()).ended is Ended.AGENT_HUNG_UP


@virtual_time
async def test_hang_up_does_not_wait_for_ever_for_a_model_that_says_nothing() -> None:
    call = await Call(TOOLS).up()
    began = asyncio.get_running_loop().time()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("t1", "hang_up", "{}", "r1"), AssistantTurnEnd("r1"))
    assert (await call.over()).ended is Ended.AGENT_HUNG_UP
    assert 10 <= asyncio.get_running_loop().time() - began <= 11


@virtual_time
async def test_a_model_that_dies_ends_in_a_spoken_sentence_and_bye() -> None:
    call = await Call().up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), AgentError("gone", "1006", fatal=True))
    call.agent.die("connection lost")
    await settle()
    assert [item for _, item, _ in call.stream.given] == ["i1", "prompt-unavailable"]
    assert call.stream.finished == ["i1", "prompt-unavailable"]
    call.session.media_event(Audio(1, b"\x00" * 640))
    call.session.media_event(Drained(1, "i1"))
    await settle()
    assert call.leg.steps[-1][0] == "200"
    call.session.media_event(Drained(1, "prompt-unavailable"))
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.PROVIDER_FAILED, "connection lost: gone")
    assert call.agent.commands == []


@virtual_time
async def test_the_caller_hears_a_word_while_another_session_is_opened_once_what_waits_was_heard() -> None:
    call = await Call().up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), AssistantTurnEnd("r1", "failed"), Reconnecting(1))
    await settle()
    assert [reply for reply, _, _ in call.stream.given] == ["r1"]
    call.session.media_event(Drained(handle=0, item_id="i1"))
    call.agent.emit(Reconnecting(2))
    await settle()
    assert [reply for reply, _, _ in call.stream.given] == ["r1", "fallback-1"], "once"
    call.session.media_event(Drained(handle=0, item_id="fallback-1"))
    call.agent.emit(Resumed(context_kept=True), AssistantTurnStarted("s2-r1"), speech("s2-r1", "s2-i1"))
    await settle()
    assert call.stream.given[-1][0] == "s2-r1"
    call.agent.emit(AssistantTurnEnd("s2-r1", "failed"), Reconnecting(1), Resumed(context_kept=True))
    call.agent.emit(AssistantTurnStarted("s3-r1"), speech("s3-r1", "s3-i1"))
    await settle()
    call.session.media_event(Drained(handle=0, item_id="s2-i1"))
    call.agent.emit(AssistantTurnEnd("s3-r1"))
    call.session.media_event(Drained(handle=0, item_id="s3-i1"))
    await settle()
    assert len(call.stream.given) == 4, "the model had gone on before there was silence"
    call.agent.emit(Reconnecting(1))
    await settle()
    assert call.stream.given[-1][0] == "fallback-2"
    call.session.end(Ended.CALLER_HUNG_UP)
    assert (await call.over()).reconnects == 2


@virtual_time
async def test_no_word_where_nobody_has_missed_anything() -> None:
    """The reply was whole; while it was heard another session was opened, and now the caller speaks."""
    call = await Call().up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), AssistantTurnEnd("r1"), Reconnecting(1))
    await settle()
    call.agent.emit(Resumed(context_kept=True))
    await settle()
    call.session.media_event(Drained(handle=0, item_id="i1"))
    await settle()
    assert [reply for reply, _, _ in call.stream.given] == ["r1"]
    call.agent.emit(AssistantTurnStarted("s2-r1"), speech("s2-r1", "s2-i1"), AssistantTurnEnd("s2-r1", "failed"))
    call.agent.emit(Reconnecting(1), Resumed(context_kept=True))
    await settle()
    call.session.media_event(Drained(handle=0, item_id="s2-i1"))
    await settle()
    assert call.stream.given[-1][0] == "fallback-1", "in the middle of a sentence is another matter"
    call.session.end(Ended.CALLER_HUNG_UP)
    assert (await call.over()).reconnects == 2


@virtual_time
async def test_no_word_in_a_goodbye() -> None:
    call = await Call("agent: {provider: scripted}\ntools: {hang_up: {}}").up()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("c1", "hang_up", "{}", "r1"), AssistantTurnEnd("r1"))
    await settle()
    call.agent.emit(Reconnecting(1))
    await settle()
    assert call.stream.given == []
    call.agent.emit(Resumed(context_kept=True), AssistantTurnStarted("r2"), AssistantTurnEnd("r2"))
    assert (await call.over()).ended is Ended.AGENT_HUNG_UP


@virtual_time
async def test_a_goodbye_that_was_lost_before_a_word_of_it_is_waited_for_once_more() -> None:
    call = await Call("agent: {provider: scripted}\ntools: {hang_up: {}}").up()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("c1", "hang_up", "{}", "r1"), AssistantTurnEnd("r1"))
    await settle()
    call.agent.emit(AssistantTurnStarted("r2"), AssistantTurnEnd("r2", "failed"), Reconnecting(1))
    await settle()
    await virtual.pass_time(2.0)
    assert call.stream.given == []
    call.agent.emit(Resumed(context_kept=True), AssistantTurnStarted("s2-r1"), speech("s2-r1", "s2-i1"))
    call.agent.emit(AssistantTurnEnd("s2-r1"))
    await settle()
    assert [reply for reply, _, _ in call.stream.given] == ["s2-r1"]
    call.session.media_event(Drained(handle=0, item_id="s2-i1"))
    assert (await call.over()).ended is Ended.AGENT_HUNG_UP


@virtual_time
async def test_what_a_call_used_is_in_its_report() -> None:
    call = await Call().up()
    call.agent.emit(
        Usage("r1", {"input_audio_tokens": 1000, "output_audio_tokens": 2000}),
        Usage("r2", {"input_audio_tokens": 500}),
        Usage("", {"characters": 100, "odd": 1.5}, model="voice-1"),
    )
    await settle()
    call.session.end(Ended.CALLER_HUNG_UP)
    report = await call.over()
    expected = {"input_audio_tokens": 1500, "output_audio_tokens": 2000, "characters": 100, "odd": 1.5}
    assert report.usage == expected
    assert report.cost_usd is None, "nobody has said what it costs"
    assert report.to_json()["usage"] == expected
    assert report.to_log()["usage_characters"] == 100


@virtual_time
async def test_the_report_says_what_there_was_no_way_back_from() -> None:
    call = await Call().up()
    call.agent.emit(AgentError("wss://x: connection refused", "refused", fatal=True))
    call.agent.die("1001")
    await settle()
    call.session.media_event(Drained(handle=0, item_id="prompt-unavailable"))
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.PROVIDER_FAILED, "1001: wss://x: connection refused")


@virtual_time
async def test_what_is_only_counted_when_the_session_is_over_is_in_the_report_too() -> None:
    call = await Call().up()
    call.agent.emit(Usage("", {"session_seconds": 5}))
    call.agent.last = (Usage("", {"session_seconds": 2.5}),)
    await settle()
    call.session.end(Ended.CALLER_HUNG_UP)
    assert (await call.over()).usage == {"session_seconds": 7.5}


@virtual_time
async def test_a_model_that_dies_in_its_goodbye_has_said_it() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "hang_up", "{}", "r1"))
    await settle()
    call.agent.die("connection lost")
    await settle()
    assert [item for _, item, _ in call.stream.given] == ["i1"], "no word about a failure"
    assert call.leg.steps[-1][0] == "200"
    call.session.media_event(Drained(1, "i1"))
    assert (await call.over()).ended is Ended.AGENT_HUNG_UP


@virtual_time
async def test_a_model_that_dies_before_its_goodbye_is_stood_in_for() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("t1", "hang_up", "{}", "r1"), AssistantTurnEnd("r1"))
    await settle()
    call.agent.die("connection lost")
    await settle()
    assert [item for _, item, _ in call.stream.given] == ["prompt-goodbye"]
    call.session.media_event(Drained(1, "prompt-goodbye"))
    assert (await call.over()).ended is Ended.AGENT_HUNG_UP


@virtual_time
async def test_the_caller_hangs_up_while_a_goodbye_is_waited_for() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "hang_up", "{}", "r1"))
    await settle()
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    assert (await call.over()).ended is Ended.CALLER_HUNG_UP
    assert call.agent.closed


@virtual_time
async def test_no_audio_from_the_caller_ends_the_call() -> None:
    call = await Call().up()
    call.session.media_event(MediaTimeout(1, 30))
    report = await call.over()
    assert (report.ended, call.leg.steps[-1][0]) == (Ended.MEDIA_TIMEOUT, "close")


@virtual_time
async def test_the_longest_call_ends_with_a_word() -> None:
    call = await Call("agent: {provider: scripted, farewell: 'That is all.'}\nlimits: {warning_seconds: 0}").up()
    await virtual.pass_time(600)
    await settle()
    assert call.agent.commands == [("say", "That is all.")]
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), AssistantTurnEnd("r1"))
    await settle()
    call.session.media_event(Drained(1, "i1"))
    assert (await call.over()).ended is Ended.TOO_LONG


@virtual_time
async def test_a_call_that_was_not_answered_in_all_its_time_ends_without_a_word() -> None:
    patient = "{agent: {provider: scripted, farewell: 'That is all.'}, deadlines: {connect_seconds: 600}}"
    call = Call(patient, start=900.0)
    call.begin()
    assert (await call.over()).ended is Ended.TOO_LONG
    assert call.agent.commands == []


@virtual_time
async def test_a_defect_of_ours_still_closes_everything() -> None:
    call = await Call().up()
    call.stream.play = None  # type: ignore[assignment, method-assign]
    call.agent.emit(AssistantTurnStarted("r1"), speech("r1", "i1"))
    report = await call.over()
    assert report.ended is Ended.INTERNAL_ERROR
    assert call.leg.steps[-1][0] == "close"
    assert call.agent.closed


# --- tools ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_an_unknown_tool_is_answered() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("t1", "rm", "{}", "r1"), AssistantTurnEnd("r1"))
    await settle()
    assert call.agent.commands == [
        ("result", "t1", '{"error": "there is no tool \'rm\'; there are: hang_up, transfer_call"}')
    ]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_a_transfer_is_announced_then_referred_and_ends_the_call() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(
        AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "transfer_call", '{"target":"desk"}', "r1")
    )
    call.agent.emit(AssistantTurnEnd("r1"))
    await virtual.pass_time(2)
    assert call.leg.transfer is None, "not before the announcement was heard"
    call.session.media_event(Drained(1, "i1"))
    await settle()
    assert call.leg.steps[-1] == ("refer", "sip:100@pbx.example.com")
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("")
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.TRANSFERRED, "desk")


@virtual_time
async def test_a_transfer_that_fails_gives_the_call_back_to_the_agent() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(
        AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "transfer_call", '{"target":"desk"}', "r1")
    )
    call.agent.emit(AssistantTurnEnd("r1"))
    await settle()
    call.session.media_event(Drained(1, "i1"))
    await settle()
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("486 Busy Here")
    await settle()
    name, call_id, output = call.agent.commands[-1]
    assert (name, call_id) == ("result", "t1")
    assert "486 Busy Here" in output
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_a_transfer_without_a_word_is_announced_and_its_failure_told_as_text() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(AssistantTurnStarted("r1"), ToolCall("t1", "transfer_call", '{"target":"desk"}', "r1"))
    call.agent.emit(AssistantTurnEnd("r1"))
    await settle()
    assert call.agent.commands[0][:2] == ("result", "t1")
    call.agent.emit(AssistantTurnStarted("r2"), speech("r2", "i2"), AssistantTurnEnd("r2"))
    await settle()
    call.session.media_event(Drained(1, "i2"))
    await settle()
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("refused with 403")
    await settle()
    assert [command[0] for command in call.agent.commands[1:]] == ["text", "respond"]
    assert "refused with 403" in call.agent.commands[1][1]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual_time
async def test_a_pbx_that_hangs_up_after_taking_the_transfer_has_transferred() -> None:
    call = await Call(TOOLS).up()
    call.leg.transfer_accepted = True
    call.session.sip_event(ended(EndCause.REMOTE_BYE))
    assert (await call.over()).ended is Ended.TRANSFERRED


@virtual_time
async def test_a_tool_call_that_the_model_takes_back_is_not_answered() -> None:
    call = await Call(TOOLS).up()
    call.agent.emit(
        AssistantTurnStarted("r1"), speech("r1", "i1"), ToolCall("t1", "transfer_call", '{"target":"desk"}', "r1")
    )
    call.agent.emit(AssistantTurnEnd("r1"))
    await settle()
    call.agent.emit(ToolCallCancelled("t1"))
    await settle()
    call.session.media_event(Drained(1, "i1"))
    await settle()
    assert call.leg.steps[-1][0] == "200"
    assert call.agent.commands == []
    call.session.end(Ended.SHUTDOWN)
    await call.over()
