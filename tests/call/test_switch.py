"""One agent hands the caller over to another: who hears him, who is told what, and what becomes of it when it fails."""

from __future__ import annotations

import json

import pytest

from sipbridge.agent import (
    AssistantTurnEnd,
    AssistantTurnStarted,
    HistoryItem,
    Said,
    ToolCall,
    ToolCallCancelled,
    ToolUsed,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played
from sipbridge.errors import AgentStartError
from sipbridge.media.events import Audio, Drained
from sipbridge.outcome import Ended
from tests import virtual
from tests.call.fakes import Call, settle
from tests.call.test_call import speech, virtual_time

SEVERAL = """
agents:
  triage: {provider: scripted, instructions: You ask., greeting: Hello}
  billing:
    provider: scripted
    instructions: You know bills of {{ call.from }}.
    description: Invoices and payments.
    greeting: This is billing.
    tools: [hang_up]
tools: {hang_up: {}, transfer_call: {targets: {desk: 'sip:100@pbx.example.com'}}}
"""
HISTORY: tuple[HistoryItem, ...] = (
    Said("assistant", "Hello"),
    Said("user", "My bill is wrong."),
    ToolUsed("c1", "look_up", "{}", '{"bill": 7}'),
    ToolUsed("c2", "switch_agent", '{"agent": "billing"}'),
)


def asks(agent: str = "billing", call_id: str = "c2", reply: str = "r2", summary: str = "A bill.") -> ToolCall:
    return ToolCall(call_id, "switch_agent", json.dumps({"agent": agent, "summary": summary}), reply)


async def handing_over(text: str = SEVERAL, *, starts: float | BaseException | None = None) -> Call:
    """The first agent has announced the hand-over and asked for it; its last words are still being heard."""
    call = await Call(text).up()
    call.agent.history = HISTORY
    call._start = starts
    call.agent.emit(AssistantTurnStarted("r2"), speech("r2", "i2"), asks(), AssistantTurnEnd("r2"))
    await settle()
    return call


async def over(call: Call) -> None:
    call.session.end(Ended.SHUTDOWN)
    await call.over()
    assert all(agent.closed for agent in call.agents)


def test_each_agent_is_told_of_the_others_and_may_use_its_own_tools() -> None:
    @virtual_time
    async def scenario() -> None:
        call = await handing_over()
        triage, billing = ({tool.name: tool for tool in agent.options.tools} for agent in call.agents)
        assert list(triage) == ["hang_up", "transfer_call", "switch_agent"]
        assert list(billing) == ["hang_up", "switch_agent"]
        assert triage["switch_agent"].parameters["required"] == ["agent", "summary"]
        agent = triage["switch_agent"].parameters["properties"]["agent"]
        assert agent["enum"] == ["billing"]
        assert "billing: Invoices and payments." in agent["description"]
        assert billing["switch_agent"].parameters["properties"]["agent"]["enum"] == ["triage"]
        await over(call)

    scenario()


@virtual_time
async def test_the_other_is_opened_while_the_one_speaks_and_takes_the_line_when_it_was_heard() -> None:
    call = await handing_over()
    triage, billing = call.agents
    assert not triage.closed, "its last words are still being heard"
    assert billing.commands == []
    call.session.media_event(Audio(1, b"\x00" * 640))
    assert triage.commands[-1] == ("audio", 640)
    call.session.media_event(Drained(1, "i2"))
    await settle()
    assert triage.closed
    assert billing.commands == [("respond",)], "no second greeting"
    call.session.media_event(Audio(1, b"\x00" * 640))
    assert billing.commands[-1] == ("audio", 640)
    billing.emit(AssistantTurnStarted("r1"), speech("r1", "i1"), AssistantTurnEnd("r1"))
    await settle()
    assert call.stream.given[-1][:2] == ("a2-r1", "a2-i1")
    call.session.end(Ended.SHUTDOWN)
    report = await call.over()
    assert report.agents == ("triage", "billing")
    assert report.to_json()["agents"] == ["triage", "billing"]
    assert report.to_log()["agents"] == "triage billing"


@virtual_time
async def test_what_the_other_is_told() -> None:
    call = await handing_over()
    options = call.agents[1].options
    assert options.history == (
        Said("assistant", "Hello"),
        Said("user", "My bill is wrong."),
        ToolUsed("a1-c1", "look_up", "{}", '{"bill": 7}'),
    ), "the hand-over itself is none of its calls"
    assert options.instructions.startswith("You know bills of +15550123.\n")
    assert "by the agent 'triage'" in options.instructions
    assert "<summary>\nA bill.\n</summary>" in options.instructions
    assert options.goes_on
    assert not call.agent.options.goes_on
    await over(call)


@virtual_time
async def test_its_replies_items_and_tools_are_told_apart_from_the_first_ones() -> None:
    """Both vendors count from one."""
    call = await handing_over()
    call.session.media_event(Drained(1, "i2"))
    await settle()
    billing = call.agents[1]
    billing.emit(AssistantTurnStarted("r2"), speech("r2", "i2"))
    await settle()
    assert call.stream.given[-1][:2] == ("a2-r2", "a2-i2")
    call.stream.heard = (Played("a2-r2", "a2-i2", 40),)
    billing.emit(UserSpeechStarted(), AssistantTurnEnd("r2", "cancelled"))
    await settle()
    assert ("cancel", (Played("r2", "i2", 40),)) in billing.commands
    billing.commands.clear()
    billing.emit(AssistantTurnStarted("r3"), ToolCall("c2", "nothing", "{}", "r3"), AssistantTurnEnd("r3"))
    await settle()
    assert [command[:2] for command in billing.commands] == [("result", "c2")]
    await over(call)


@virtual_time
async def test_a_second_greeting_where_it_is_wanted() -> None:
    call = await handing_over(SEVERAL.replace("tools: [hang_up]", "greet: true"))
    call.session.media_event(Drained(1, "i2"))
    await settle()
    assert call.agents[1].commands == [("say", "This is billing.")]
    await over(call)


@virtual_time
async def test_what_is_said_while_the_other_connects_is_told_to_it() -> None:
    call = await handing_over(starts=0.5)
    call.agent.history = (*HISTORY[:2], Said("user", "Number seven."), *HISTORY[2:], Said("assistant", "One moment."))
    await virtual.pass_time(0.6)
    call.session.media_event(Drained(1, "i2"))
    await settle()
    told = "Meanwhile, on the same call:\nCaller: Number seven.\nYou: One moment."
    assert call.agents[1].commands == [("text", told), ("respond",)]
    await over(call)


@virtual_time
async def test_words_that_are_written_down_late_are_told_with_the_rest() -> None:
    call = await Call(SEVERAL).up()
    call.agent.emit(UserSpeechStarted(), UserSpeechEnded(), AssistantTurnStarted("r2"), asks(), AssistantTurnEnd("r2"))
    await virtual.pass_time(0.3)
    assert not call.agent.closed
    call.agent.history = (Said("user", "My bill is wrong."),)
    call.agent.emit(UserTranscript("My bill is wrong.", True))
    await settle()
    assert call.agent.closed
    told = "Meanwhile, on the same call:\nCaller: My bill is wrong."
    assert call.agents[1].commands == [("text", told), ("respond",)]
    await over(call)


@virtual_time
async def test_words_that_never_come_are_not_waited_for() -> None:
    call = await Call(SEVERAL).up()
    call.agent.emit(UserSpeechStarted(), UserSpeechEnded(), AssistantTurnStarted("r2"), asks(), AssistantTurnEnd("r2"))
    await virtual.pass_time(0.8)
    assert call.agents[1].commands == [("respond",)]
    await over(call)


@virtual_time
async def test_an_agent_that_cannot_be_reached_leaves_the_one_on_the_line() -> None:
    call = await handing_over(starts=AgentStartError("wss://internal.example.com said 401", code="401"))
    triage, billing = call.agents
    assert billing.closed
    (result,) = [command for command in triage.commands if command[0] == "result"]
    assert result[1] == "c2"
    assert json.loads(result[2]) == {"error": "billing cannot be reached now (401): go on yourself"}
    triage.emit(AssistantTurnStarted("r3"), speech("r3", "i3"))
    await settle()
    assert call.stream.given[-1][:2] == ("r3", "i3")
    call.session.end(Ended.SHUTDOWN)
    assert (await call.over()).agents == ("triage",)


@virtual_time
async def test_a_secret_that_the_other_lacks_is_the_same() -> None:
    call = await handing_over(SEVERAL.replace("tools: [hang_up]", "api_key: '${SIPBRIDGE_UNSET}'"))
    assert len(call.agents) == 1
    assert "billing cannot be reached now (config)" in call.agent.commands[-1][2]
    await over(call)


@virtual_time
async def test_who_waits_in_silence_is_told_so() -> None:
    call = await handing_over(starts=2.5)
    call.session.media_event(Drained(1, "i2"))
    await virtual.pass_time(0.9)
    assert [item for _, item, _ in call.stream.given] == ["i2"]
    await virtual.pass_time(0.2)
    assert [item for _, item, _ in call.stream.given] == ["i2", "prompt-one-moment"]
    call.session.media_event(Drained(1, "prompt-one-moment"))
    await virtual.pass_time(2)
    assert call.agents[1].commands == [("respond",)]
    await over(call)


@virtual_time
async def test_an_interruption_calls_it_off() -> None:
    call = await handing_over()
    triage, billing = call.agents
    call.stream.heard = (Played("r2", "i2", 40),)
    triage.emit(UserSpeechStarted(), ToolCallCancelled("c2"))
    await settle()
    assert billing.closed
    assert not triage.closed
    assert triage.commands[-1] == ("cancel", (Played("r2", "i2", 40),))
    triage.emit(AssistantTurnStarted("r3"), asks(call_id="c3", reply="r3"), AssistantTurnEnd("r3"))
    await settle()
    assert triage.closed, "it may be asked for again"
    assert call.agents[2].commands == [("respond",)]
    await over(call)


@virtual_time
async def test_a_caller_who_speaks_meanwhile_is_heard_out_and_answered_by_whom_he_spoke_to() -> None:
    call = await handing_over(starts=0.5)
    triage = call.agent
    call.session.media_event(Drained(1, "i2"))
    triage.emit(UserSpeechStarted())
    await virtual.pass_time(3)
    assert not triage.closed, "he is still speaking"
    triage.emit(UserSpeechEnded())
    await virtual.pass_time(0.5)
    triage.emit(AssistantTurnStarted("r3"), speech("r3", "i3"), AssistantTurnEnd("r3"))
    await virtual.pass_time(5)
    assert not triage.closed, "its answer is being heard"
    call.session.media_event(Drained(1, "i3"))
    await settle()
    assert triage.closed, "and his words, which nobody has written down by now, are not waited for any more"
    assert call.agents[1].commands == [("respond",)]
    await over(call)


@virtual_time
async def test_where_it_does_not_answer_him_the_other_does() -> None:
    call = await handing_over()
    call.agent.emit(UserSpeechStarted())
    await settle()
    call.session.media_event(Drained(1, "i2"))
    call.agent.emit(UserSpeechEnded())
    await virtual.pass_time(1.1)
    assert call.agents[0].closed
    await over(call)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (asks("sales"), "agent: Value error, there is no such agent; there are: triage, billing"),
        (asks("triage"), "triage is who the caller talks to already"),
        (ToolCall("c2", "switch_agent", '{"agent": ["billing"]}', "r2"), "agent: Input should be a valid string"),
        (ToolCall("c2", "switch_agent", "{}", "r2"), "agent: Field required"),
    ],
)
def test_what_cannot_be_is_answered(request_: ToolCall, error: str) -> None:
    @virtual_time
    async def scenario() -> None:
        call = await Call(SEVERAL).up()
        call.agent.emit(AssistantTurnStarted("r2"), request_, AssistantTurnEnd("r2"))
        await settle()
        assert json.loads(call.agent.commands[-1][2])["error"] == error
        assert len(call.agents) == 1
        await over(call)

    scenario()


@virtual_time
async def test_two_in_one_reply_are_one() -> None:
    call = await handing_over()
    call.agent.emit(asks(call_id="c9"))
    await settle()
    assert call.agent.commands[-1] == ("result", "c9", '{"error": "another hand-over is under way"}')
    assert len(call.agents) == 2
    await over(call)


@virtual_time
async def test_a_tool_that_an_agent_was_not_given_is_not_there_for_it() -> None:
    call = await handing_over()
    call.session.media_event(Drained(1, "i2"))
    await settle()
    billing = call.agents[1]
    billing.emit(AssistantTurnStarted("r1"), ToolCall("t1", "transfer_call", '{"target": "desk"}', "r1"))
    await settle()
    error = "there is no tool 'transfer_call'; there are: hang_up, switch_agent"
    assert billing.commands[-1] == ("result", "t1", json.dumps({"error": error}))
    assert ("refer", "sip:100@pbx.example.com") not in call.leg.steps
    await over(call)


@virtual_time
async def test_a_tool_of_the_former_agent_answers_the_one_that_has_the_line() -> None:
    call = await handing_over(SEVERAL.replace("hang_up: {},", "hang_up: {}, hold: {},"))
    call.agent.history = (*HISTORY, ToolUsed("t9", "hold", '{"seconds": 2}'))
    call.agent.emit(ToolCall("t9", "hold", '{"seconds": 2}', "r2"))
    await settle()
    call.session.media_event(Drained(1, "i2"))
    await virtual.pass_time(2.5)
    (_, told), asked = call.agents[1].commands[-2:]
    assert told.startswith('The tool hold that you called with {"seconds": 2} has answered:')
    assert "2 seconds are over" in told
    assert asked == ("respond",)
    await over(call)


@virtual_time
async def test_who_is_being_put_through_is_not_talked_to_by_the_other() -> None:
    call = await handing_over()
    call.agent.emit(ToolCall("t9", "transfer_call", '{"target": "desk"}', "r2"))
    await settle()
    call.session.media_event(Drained(1, "i2"))
    await virtual.pass_time(3)
    assert call.agents[1].commands == []
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("486 Busy Here")
    await settle()
    assert call.agents[1].commands != []
    await over(call)


@virtual_time
async def test_an_agent_that_is_lost_on_the_way_is_followed_all_the_same() -> None:
    call = await handing_over(starts=1.0)
    call.agent.die()
    await settle()
    call.session.media_event(Drained(1, "i2"))
    await virtual.pass_time(1.5)
    assert call.agents[1].commands == [("respond",)]
    assert [item for _, item, _ in call.stream.given] == ["i2"]
    await over(call)


@virtual_time
async def test_where_both_are_gone_the_call_has_failed() -> None:
    call = await handing_over(starts=AgentStartError("refused", code="refused"))
    call.agent.die()
    await settle()
    call.session.media_event(Drained(1, "i2"))
    await settle()
    assert call.stream.given[-1][1] == "prompt-unavailable"
    call.session.media_event(Drained(1, "prompt-unavailable"))
    assert (await call.over()).ended is Ended.PROVIDER_FAILED


@virtual_time
async def test_there_and_back_again_but_not_for_ever() -> None:
    call = await Call(SEVERAL).up()
    for number in range(3):
        name = ("billing", "triage")[number % 2]
        call.agents[-1].emit(AssistantTurnStarted(f"r{number}"), asks(name, f"c{number}", f"r{number}"))
        call.agents[-1].emit(AssistantTurnEnd(f"r{number}"))
        await settle()
        assert len(call.agents) == number + 2
    last = call.agents[-1]
    last.emit(AssistantTurnStarted("r8"), asks("triage", "c8", "r8"), AssistantTurnEnd("r8"))
    await settle()
    assert "handed over too often" in last.commands[-1][2]
    last.emit(UserSpeechStarted(), UserSpeechEnded())
    last.emit(AssistantTurnStarted("r9"), asks("triage", "c9", "r9"), AssistantTurnEnd("r9"))
    await virtual.pass_time(1)
    assert last.closed, "the caller has spoken"
    call.session.end(Ended.SHUTDOWN)
    assert (await call.over()).agents == ("triage", "billing", "triage", "billing", "triage")


@virtual_time
async def test_what_each_has_cost_is_counted_under_its_own_provider() -> None:
    call = await handing_over()
    call.agent.last = (Usage("", {"session_seconds": 7.0}),)
    call.agents[1].last = (Usage("", {"session_seconds": 3.0}, "m2"),)
    call.session.media_event(Drained(1, "i2"))
    await settle()
    call.session.end(Ended.SHUTDOWN)
    report = await call.over()
    assert report.usage == {"session_seconds": 10.0}
    assert [(spent.provider, spent.model, spent.usage) for spent in report.spent] == [
        ("scripted", "", {"session_seconds": 7.0}),
        ("scripted", "m2", {"session_seconds": 3.0}),
    ]


@virtual_time
async def test_a_call_that_ends_on_the_way_closes_both() -> None:
    call = await handing_over(starts=5.0)
    await over(call)


@virtual_time
async def test_one_agent_alone_hands_over_to_nobody() -> None:
    call = await Call("agent: {provider: scripted}\ntools: {hang_up: {}}").up()
    assert [tool.name for tool in call.agent.options.tools] == ["hang_up"]
    await over(call)


FALLBACK = SEVERAL + "fallback: [{agent: {provider: scripted, model: second}}]\n"


@virtual_time
async def test_who_stands_in_for_a_successor_knows_what_that_one_was_told_and_may_do_no_more() -> None:
    call = await handing_over(FALLBACK)
    call.session.media_event(Drained(1, "i2"))
    await settle()
    billing = call.agents[1]
    billing.history = (*billing.options.history, Said("user", "Number seven."))
    billing.die()
    await virtual.pass_time(1)
    stand_in = call.agents[2]
    assert stand_in.options.instructions == billing.options.instructions
    assert stand_in.options.history == billing.history
    assert [tool.name for tool in stand_in.options.tools] == ["hang_up", "switch_agent"]
    assert stand_in.options.tools[1].parameters["properties"]["agent"]["enum"] == ["triage"]
    call.session.end(Ended.SHUTDOWN)
    assert (await call.over()).agents == ("triage", "billing", "billing")


@virtual_time
async def test_where_somebody_stands_in_for_the_one_who_asked_the_other_is_let_go() -> None:
    call = await handing_over(FALLBACK, starts=0.5)
    call._start = None
    call.agent.die()
    await virtual.pass_time(1)
    call.session.media_event(Drained(1, "i2"))
    await virtual.pass_time(1)
    assert call.agents[1].commands == [("respond",)], "who was asked for comes before who stands in"
    assert len(call.agents) == 2
    await over(call)


@virtual_time
async def test_nobody_is_switched_to_while_a_goodbye_is_said() -> None:
    call = await Call(SEVERAL).up()
    call.agent.emit(AssistantTurnStarted("r2"), speech("r2", "i2"), ToolCall("c1", "hang_up", "{}", "r2"), asks())
    await settle()
    assert call.agent.commands[-1] == ("result", "c2", '{"error": "the call is ending"}')
    assert len(call.agents) == 1
    await over(call)
