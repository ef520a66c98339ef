"""Tools in a call, in virtual time: when they run, what of them is kept, and what is heard while one takes long."""

from __future__ import annotations

import asyncio
import json

from sipbridge.agent import (
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    ToolCallCancelled,
    UserSpeechStarted,
)
from sipbridge.media.events import Drained
from sipbridge.outcome import CallReport, Ended
from sipbridge.tools.quota import MinuteQuota, Quota
from tests.call.fakes import Call, settle
from tests.virtual import pass_time, timed

TOOLS = "python: ['tests.tools.functions:take', 'tests.tools.functions:greet'], hang_up: {}"


def tenant(more: str = "") -> str:
    return f"agent: {{provider: scripted}}\ndeadlines: {{tool_seconds: 8, reply_seconds: 5}}\ntools: {{{TOOLS}{more}}}"


def asks(seconds: float, call_id: str = "c1") -> ToolCall:
    return ToolCall(call_id, "take", json.dumps({"seconds": seconds}), "r1")


async def over(call: Call) -> CallReport:
    call.session.end(Ended.CALLER_HUNG_UP)
    return await call.over()


def results(call: Call) -> list[tuple[str, str]]:
    return [command[1:] for command in call.agent.commands if command[0] == "result"]


def sounds(call: Call) -> list[str]:
    return [item for _, item, _ in call.stream.given if item.startswith("sound")]


@timed
async def test_what_ran_is_in_the_report() -> None:
    call = await Call(tenant()).up()
    await pass_time(1)
    call.agent.emit(asks(0.25), asks(20, "c2"), ToolCall("c3", "rm", "{}", "r1"), ToolCall("c4", "take", "{", "r1"))
    await pass_time(10)
    runs = (await over(call)).tool_runs
    assert [(run.name, run.outcome, run.at, run.ms) for run in runs] == [
        ("rm", "unknown", 1.0, 0),
        ("take", "invalid", 1.0, 0),
        ("take", "ok", 1.0, 250),
        ("take", "timeout", 1.0, 8000),
    ]
    assert runs[2].arguments == '{"seconds": 0.25}'
    assert runs[3].error == "take did not finish within 8 seconds"
    assert results(call)[2] == ("c1", "took 0.25 s")


@timed
async def test_what_is_taken_back_is_stopped_and_answers_nothing() -> None:
    call = await Call(tenant()).up()
    call.agent.emit(asks(1))
    await pass_time(0.5)
    call.agent.emit(ToolCallCancelled("c1"))
    await pass_time(2)
    assert results(call) == []
    assert [run.outcome for run in (await over(call)).tool_runs] == ["cancelled"]


@timed
async def test_a_call_that_ends_stops_its_tools() -> None:
    call = await Call(tenant()).up()
    call.agent.emit(asks(5))
    await pass_time(1)
    (run,) = (await over(call)).tool_runs
    assert (run.outcome, run.ms) == ("cancelled", 1000)


@timed
async def test_a_goodbye_is_no_run_that_was_cut() -> None:
    call = await Call(tenant()).up()
    call.agent.emit(AssistantTurnStarted("r1"), AssistantAudio("r1", "i1", bytes(480)), AssistantTurnEnd("r1"))
    call.agent.emit(ToolCall("c1", "hang_up", "{}", "r1"))
    await pass_time(60)
    report = await call.over()
    assert report.ended is Ended.AGENT_HUNG_UP
    assert [run.outcome for run in report.tool_runs] == ["ok"]


@timed
async def test_the_call_s_quota_is_kept_but_its_end_is_free() -> None:
    call = await Call(tenant(", quotas: {per_call: 2}")).up()
    call.agent.emit(*(asks(0, f"c{number}") for number in range(4)))
    await pass_time(1)
    call.agent.emit(ToolCall("c9", "hang_up", "{}", "r1"))
    await pass_time(60)
    runs = (await call.over()).tool_runs
    assert sorted(run.outcome for run in runs if run.name == "take") == ["ok", "ok", "refused", "refused"]
    assert [run.outcome for run in runs if run.name == "hang_up"] == ["ok"]


def test_a_minute_s_quota_is_that_of_all_calls() -> None:
    minute = MinuteQuota(3)
    one, other = Quota(10, minute), Quota(1, minute)
    assert [one.refusal(0.0), one.refusal(10.0), other.refusal(20.0)] == [None, None, None]
    assert "3 in a minute" in (one.refusal(59.9) or "")
    assert one.refusal(60.0) is None
    assert "in this call: 1" in (other.refusal(100.0) or "")


WAITING = ", waiting: {after_seconds: 2, sound: tone}"


@timed
async def test_a_quick_tool_makes_no_sound() -> None:
    call = await Call(tenant(WAITING)).up()
    call.agent.emit(asks(1.9))
    await pass_time(4)
    assert sounds(call) == []
    await over(call)


@timed
async def test_a_slow_one_does_until_the_agent_speaks() -> None:
    call = await Call(tenant(WAITING)).up()
    call.agent.emit(asks(4))
    await pass_time(1.9)
    assert sounds(call) == []
    await pass_time(0.2)
    assert sounds(call)
    await pass_time(2)
    assert call.stream.discards == 0  # the result is there, and the agent is about to speak
    call.agent.emit(AssistantTurnStarted("r2"), AssistantAudio("r2", "i2", bytes(480)))
    await settle()
    assert call.stream.discards == 1
    assert call.stream.given[-1][1] == "i2"
    await over(call)


@timed
async def test_the_sound_does_not_outlast_an_agent_that_says_nothing() -> None:
    call = await Call(tenant(WAITING)).up()
    call.agent.emit(asks(3))
    await pass_time(3.1)
    assert call.stream.discards == 0
    await pass_time(5)
    assert call.stream.discards == 1
    await over(call)


@timed
async def test_a_call_that_ends_meanwhile_ends_at_once() -> None:
    call = await Call(tenant(WAITING)).up()
    call.agent.emit(asks(6))
    await pass_time(3)
    assert sounds(call)
    began = asyncio.get_running_loop().time()
    await over(call)
    assert asyncio.get_running_loop().time() == began
    assert call.agent.closed


@timed
async def test_it_waits_until_what_the_agent_said_has_been_heard() -> None:
    call = await Call(tenant(WAITING)).up()
    call.agent.emit(AssistantTurnStarted("r1"), AssistantAudio("r1", "i1", bytes(480)), asks(6), AssistantTurnEnd("r1"))
    await pass_time(3)
    assert sounds(call) == []
    call.session.media_event(Drained(0, "i1"))
    await settle()
    assert sounds(call)
    await over(call)


@timed
async def test_a_caller_who_speaks_is_not_talked_over() -> None:
    call = await Call(tenant(WAITING)).up()
    call.agent.emit(asks(6))
    await pass_time(3)
    call.agent.emit(UserSpeechStarted())
    await settle()
    assert call.stream.discards == 1
    await over(call)


@timed
async def test_the_agent_is_given_words_and_the_result_later() -> None:
    call = await Call(tenant(", waiting: {after_seconds: 2, say: One moment}")).up()
    call.agent.emit(asks(4))
    await pass_time(2.1)
    ((_, told),) = results(call)
    assert told.endswith("Meanwhile say only this: One moment")
    await pass_time(3)
    assert ("text", "The result of take: took 4 s") in call.agent.commands
    assert call.agent.commands[-1] == ("respond",)
    assert len(results(call)) == 1
    await over(call)
