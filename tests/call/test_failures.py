"""What a caller hears when an agent fails, and how the call ends: each failure at each state. Virtual time.

Whatever fails and whenever: there is something to hear within two seconds of the failure or of the missed deadline,
exactly one outcome and one report, every agent is closed within a second, and no task is left.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from sipbridge.agent import (
    AgentError,
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Reconnecting,
    Resumed,
    Said,
    ToolCall,
    ToolUsed,
    UserSpeechEnded,
    UserSpeechStarted,
)
from sipbridge.errors import AgentStartError
from sipbridge.media.events import Audio
from sipbridge.outcome import CallReport, Ended
from sipbridge.sip.events import CallEnded, EndCause
from tests import virtual
from tests.call.fakes import settle
from tests.call.lifelike import LivelyAgent, LivelyCall

BYE = CallEnded(None, EndCause.REMOTE_BYE, None, "")  # type: ignore[arg-type]  # the session does not look at the call

AGENT = "agent: {provider: scripted, greeting: Hello, instructions: Be brief.}\n"
TOOLS = """tools:
  hang_up: {}
  transfer_call: {targets: {desk: 'sip:100@pbx.example.com'}}
  python: ["tests.call.test_failures:lookup"]
"""
DEADLINES = "deadlines: {connect_seconds: 3, first_audio_seconds: 5, reply_seconds: 10, tool_seconds: 10}\n"
CHAINS = {
    "none": "",
    "agent": "fallback: [{agent: {provider: scripted, voice: other}}]\n",
    "prompt, agent": "fallback: [{prompt: one-moment.wav}, {agent: {provider: scripted, voice: other}}]\n",
    "person": "fallback: [{transfer: desk}]\n",
}


async def lookup() -> str:
    """Look something up, which takes three seconds."""
    await virtual.pass_time(3)
    return "found"


def now() -> float:
    return asyncio.get_running_loop().time()


def heard_by(call: LivelyCall) -> list[str]:
    """Of sounds that nobody speaks, nothing."""
    return [sound.item_id for sound in call.leg.line.sounds if not sound.item_id.startswith("sound-")]


def tenant(chain: str) -> str:
    return AGENT + TOOLS + DEADLINES + CHAINS[chain]


# --- states: how far a call has come when something fails -------------------------------------------------------------


async def greeting(call: LivelyCall) -> None:
    """Answered, and not a word has come."""


async def before_ack(call: LivelyCall) -> None:
    """The greeting is asked for as soon as there is sound, which is just now."""
    call.leg.acknowledge()
    await settle()


async def in_a_word(call: LivelyCall) -> None:
    call.agent.emit(AssistantTurnStarted("x"), AssistantAudio("x", "x-i", bytes(4800)))


async def awaited(call: LivelyCall) -> None:
    """The caller has asked something."""
    call.agent.emit(AssistantTurnStarted("x"), AssistantAudio("x", "x-i", bytes(48000)), AssistantTurnEnd("x"))
    await virtual.pass_time(2)
    call.agent.emit(UserSpeechStarted())
    await virtual.pass_time(1)
    call.agent.emit(UserSpeechEnded())


async def in_a_tool(call: LivelyCall) -> None:
    await in_a_word(call)
    call.agent.emit(ToolCall("t", "lookup", "{}", "x"), AssistantTurnEnd("x"))
    await virtual.pass_time(1)


async def in_a_transfer(call: LivelyCall) -> None:
    await in_a_word(call)
    call.agent.emit(ToolCall("t", "transfer_call", '{"target": "desk"}', "x"), AssistantTurnEnd("x"))
    await virtual.pass_time(1)
    assert call.leg.steps[-1] == ("refer", "sip:100@pbx.example.com")


STATES: dict[str, Callable[[LivelyCall], Awaitable[None]]] = {
    state.__name__: state for state in (greeting, before_ack, in_a_word, awaited, in_a_tool)
}

# --- failures of an agent that is open --------------------------------------------------------------------------------


async def dropped(agent: LivelyAgent) -> float:
    agent.die("1006")
    return now()


async def out_of_quota(agent: LivelyAgent) -> float:
    agent.emit(AgentError("You exceeded your current quota", "insufficient_quota", fatal=True))
    agent.die("insufficient_quota")
    return now()


async def does_not_come_back(agent: LivelyAgent) -> float:
    """Its session is lost, and it gives up after five seconds."""
    agent.emit(AssistantTurnEnd("x", "failed"), Reconnecting(1))
    moment = now()
    asyncio.get_running_loop().call_later(5, agent.die, "1006")
    return moment


async def replies_fail(agent: LivelyAgent) -> float:
    """The session is there and every reply is refused (429): the one under way, or the one that is waited for."""
    agent.emit(AssistantTurnStarted("x"), AssistantTurnEnd("x", "failed"))
    moment = now()
    for seconds in (2, 5):
        reply = f"y{seconds}"
        failed = AssistantTurnStarted(reply), AssistantTurnEnd(reply, "failed")
        asyncio.get_running_loop().call_later(seconds, agent.emit, *failed)
    return moment


async def dead(agent: LivelyAgent) -> float:
    """Open, and not a word any more: from its deadline on the caller waits."""
    return now()


FAILURES = {each.__name__: each for each in (dropped, out_of_quota, does_not_come_back, replies_fail, dead)}
MISSED_AFTER_S = {"greeting": 5.0, "before_ack": 5.0, "in_a_word": 5.1, "awaited": 10.0, "in_a_tool": 2.0 + 10.0}
MATRIX = list(itertools.product(STATES, FAILURES))


async def fails(call: LivelyCall, state: str, failure: str) -> float:
    """Bring it there and let it fail. Returns the moment from which the caller waits."""
    call.begin()
    if state != "before_ack":
        await call.leg.media_open.wait()
    await settle()
    await STATES[state](call)
    await settle()
    agent = call.agent
    assert isinstance(agent, LivelyAgent)
    moment = await FAILURES[failure](agent)
    return moment + MISSED_AFTER_S[state] if failure == "dead" else moment


async def over(call: LivelyCall) -> CallReport:
    """Wait for the end, and look after what is left."""
    async with asyncio.timeout(120):
        report = await call.over()
    ended_at = now()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for agent in call.agents:
        assert isinstance(agent, LivelyAgent)
        assert agent.closed
        assert agent.closed_at is not None
        assert agent.closed_at <= ended_at + 1.0
    assert await call.session.report() is report, "one report"
    assert len([step for step in call.leg.steps if step[0] == "close"]) == 1, "one end"
    return report


@pytest.mark.parametrize(("state", "failure"), MATRIX)
def test_nobody_stands_in(state: str, failure: str) -> None:
    """A word, and then goodbye."""

    async def scenario() -> None:
        call = LivelyCall(tenant("none"), well=[False], late=state == "before_ack")
        moment = await fails(call, state, failure)
        report = await over(call)
        assert report.ended is Ended.PROVIDER_FAILED
        assert heard_by(call)[-1] == "prompt-unavailable"
        assert call.leg.steps[-1] == ("close", 'Q.850;cause=41;text="provider_failed"')
        assert_heard(call, moment)

    virtual.run(scenario())


@pytest.mark.parametrize("chain", ["agent", "prompt, agent"])
@pytest.mark.parametrize(("state", "failure"), MATRIX)
def test_another_one_goes_on(state: str, failure: str, chain: str) -> None:
    """It is told what was said, and says what was owed."""

    async def scenario() -> None:
        call = LivelyCall(tenant(chain), well=[False], starts=[None, 0.5], late=state == "before_ack")
        moment = await fails(call, state, failure)
        said, used = Said("user", "Where is my order?"), ToolUsed("t", "lookup", "{}")
        call.agent.history = (said, used) if state == "in_a_tool" else (said,)
        await virtual.pass_time(moment - now() + 4)
        assert len(call.agents) == 2
        successor = call.agents[1]
        assert isinstance(successor, LivelyAgent)
        assert call.agent.closed, "one at a time is paid for"
        assert successor.options.voice == "other"
        assert successor.options.instructions == "Be brief.", "the tenant's words"
        assert successor.options.history == (said,)
        words = [command for command in successor.commands if command[0] in ("say", "respond")]
        told = [command[1] for command in successor.commands if command[0] == "text"]
        assert ("found" in "".join(told)) is (state == "in_a_tool" and failure != "dead")
        if (state, failure) == ("in_a_tool", "replies_fail"):
            assert words == [("respond",), ("respond",)], "for the reply that failed, and with the tool's result"
        else:
            assert words == ([("say", "Hello")] if state in ("greeting", "before_ack") else [("respond",)])
        assert heard_by(call)[-1].startswith("a2-"), "it was heard"
        assert_heard(call, moment)
        call.session.sip_event(BYE)
        report = await over(call)
        assert report.ended is Ended.CALLER_HUNG_UP
        assert report.fallback[-1] == "scripted stands in"

    virtual.run(scenario())


@pytest.mark.parametrize(("state", "failure"), MATRIX)
def test_a_person_takes_over(state: str, failure: str) -> None:
    """Announced, referred, and the agent is not paid for meanwhile."""

    async def scenario() -> None:
        call = LivelyCall(tenant("person"), well=[False], late=state == "before_ack")
        moment = await fails(call, state, failure)
        await virtual.pass_time(moment - now() + 10)
        assert call.leg.steps[-1] == ("refer", "sip:100@pbx.example.com")
        assert heard_by(call)[-1] == "prompt-transferring"
        assert_heard(call, moment)
        assert call.agent.closed is (failure in ("dead", "replies_fail")), "the others are gone by themselves"
        assert call.leg.transfer is not None
        call.leg.transfer.set_result("")
        report = await over(call)
        assert (report.ended, report.detail) == (Ended.TRANSFERRED, "desk")

    virtual.run(scenario())


# --- before the call is up --------------------------------------------------------------------------------------------

REFUSED = AgentStartError("wss://internal.example.com said 401", code="401")
NOT_OPENED: dict[str, BaseException | float] = {
    "refused": AgentStartError("connection refused", code="refused", again=True),
    "401": REFUSED,
    "429": AgentStartError("too many", code="429", again=True),
    "slow": 60.0,
}


@pytest.mark.parametrize("failure", NOT_OPENED)
@virtual.timed
async def test_other_agents_are_tried_while_it_rings(failure: str) -> None:
    call = LivelyCall(tenant("agent"), starts=[NOT_OPENED[failure], 0.5])
    began = now()
    await call.up()
    assert now() - began <= (3.8 if failure == "slow" else 0.6)
    assert [step[0] for step in call.leg.steps] == ["180", "200"]
    await virtual.pass_time(2)
    successor = call.agents[1]
    assert successor.options.history == ()
    assert [command for command in successor.commands if command[0] == "say"] == [("say", "Hello")]
    assert heard_by(call) == ["a2-r1-i"], "and nothing of a failure"
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


@pytest.mark.parametrize("failure", NOT_OPENED)
@virtual.timed
async def test_who_could_not_hear_anybody_is_not_answered(failure: str) -> None:
    call = LivelyCall(tenant("agent"), starts=[NOT_OPENED[failure], REFUSED])
    call.begin()
    report = await over(call)
    assert report.ended is Ended.AGENT_NOT_READY
    code = "timeout" if failure == "slow" else failure
    assert call.leg.steps[1] == (480, f'Q.850;cause=41;text="agent_not_ready: {code}"'), "the first one's"


@virtual.timed
async def test_what_is_to_be_heard_first_answers_the_call() -> None:
    call = LivelyCall(tenant("prompt, agent"), starts=[REFUSED, 2.5])
    await call.up()
    assert heard_by(call) == ["fallback-1"]
    assert len(call.agents) == 2, "who is to go on is opened while it is heard"
    await virtual.pass_time(4)
    assert heard_by(call) == ["fallback-1", "a2-r1-i"]
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


@pytest.mark.parametrize("chain", ["none", "agent", "prompt, agent", "person"])
@virtual.timed
async def test_who_is_answered_at_once_is_never_left_without_a_word(chain: str) -> None:
    call = LivelyCall(tenant(chain) + "answer: immediately\n", starts=[AgentStartError("no", code="refused"), 1.0])
    await call.up()
    await virtual.pass_time(4)
    if chain == "none":
        report = await over(call)
        assert (report.ended, heard_by(call)) == (Ended.AGENT_NOT_READY, ["prompt-unavailable"])
        return
    if chain == "person":
        assert call.leg.steps[-1] == ("refer", "sip:100@pbx.example.com")
        assert heard_by(call) == ["prompt-transferring"]
    else:
        assert heard_by(call)[-1] == "a2-r1-i"
        assert call.agents[1].commands[0] == ("say", "Hello")
    call.session.sip_event(BYE)
    await over(call)


@virtual.timed
async def test_a_person_takes_the_call_that_no_agent_could() -> None:
    call = LivelyCall(tenant("person"), starts=[REFUSED])
    await call.up()
    await virtual.pass_time(5)
    assert [step[0] for step in call.leg.steps] == ["180", "200", "refer"]
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("486 Busy Here")
    report = await over(call)
    assert (report.ended, report.detail) == (Ended.AGENT_NOT_READY, str(REFUSED))
    assert heard_by(call) == [
        "prompt-transferring",
        "prompt-transfer-failed",
        "prompt-unavailable",
    ]


@pytest.mark.parametrize("chain", CHAINS)
@virtual.timed
async def test_a_caller_who_gives_up_meanwhile_leaves_nothing_behind(chain: str) -> None:
    for seconds in (0.0, 0.7, 1.5, 4.0):
        call = LivelyCall(tenant(chain), starts=[1.0, 1.0], well=[False])
        call.begin()
        await virtual.pass_time(seconds)
        if len(call.leg.steps) > 1:
            call.agent.die()
            await virtual.pass_time(0.6)
        call.session.sip_event(BYE)
        await over(call)


# --- the chain --------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_one_after_another_each_once_until_nobody_is_left() -> None:
    chain = """fallback:
  - {agent: {provider: scripted, voice: second}}
  - {prompt: one-moment.wav}
  - {agent: {provider: scripted, voice: third}}
  - {transfer: desk}
  - {goodbye: goodbye}
"""
    call = LivelyCall(AGENT + TOOLS + chain, starts=[None, None, REFUSED])
    await call.up()
    await virtual.pass_time(3)
    call.agents[0].die()
    await virtual.pass_time(3)
    call.agents[1].die()
    await virtual.pass_time(6)
    assert [agent.options.voice for agent in call.agents] == [None, "second", "third"]
    assert call.leg.steps[-1] == ("refer", "sip:100@pbx.example.com")
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("603 Decline")
    report = await over(call)
    assert report.ended is Ended.PROVIDER_FAILED
    names = heard_by(call)
    assert names == ["r1-i", "fallback-1", "prompt-transferring", "prompt-transfer-failed", "fallback-2"]
    assert report.fallback == (
        "scripted failed: 1006",
        "scripted stands in",
        "scripted failed: 1006",
        f"scripted failed: {REFUSED}",
        "transfer to desk failed: 603 Decline; there is no way to place a call",
    )


@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "replies_fail"])
@virtual.timed
async def test_an_agent_that_fails_in_a_transfer_is_not_needed_for_it(failure: str) -> None:
    call = await LivelyCall(tenant("agent"), well=[False]).up()
    await in_a_transfer(call)
    assert isinstance(call.agent, LivelyAgent)
    await FAILURES[failure](call.agent)
    await virtual.pass_time(8)
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("")
    assert (await over(call)).ended is Ended.TRANSFERRED
    assert len(call.agents) == 1


@virtual.timed
async def test_a_transfer_that_fails_without_its_agent_gives_the_call_to_who_stands_in() -> None:
    call = await LivelyCall(tenant("agent"), well=[False]).up()
    await in_a_transfer(call)
    call.agent.history = (ToolUsed("t", "transfer_call", "{}"),)
    call.agent.die()
    await virtual.pass_time(8)
    assert len(call.agents) == 1
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("486 Busy Here")
    moment = now()
    await virtual.pass_time(3)
    assert [command[0] for command in call.agents[1].commands][:2] == ["text", "respond"], "it is told why"
    assert "486 Busy Here" in call.agents[1].commands[0][1]
    assert_heard(call, moment)
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


TWO = """agents:
  triage: {provider: scripted, greeting: Hello, voice: one}
  billing: {provider: scripted, description: Bills., voice: two}
fallback: [{agent: {provider: scripted, voice: other}}]
"""


async def in_a_switch(call: LivelyCall) -> None:
    """The last words are being heard, and the other one is being opened."""
    await call.up()
    arguments = '{"agent": "billing", "summary": "A bill."}'
    call.agent.emit(AssistantTurnStarted("x"), AssistantAudio("x", "x-i", bytes(24000)))
    call.agent.emit(ToolCall("t", "switch_agent", arguments, "x"), AssistantTurnEnd("x"))
    await virtual.pass_time(0.2)
    assert [agent.options.voice for agent in call.agents] == ["one", "two"]
    call.agent.history = (ToolUsed("t", "switch_agent", arguments),)


@pytest.mark.parametrize("failure", ["dropped", "out_of_quota", "dead", "does_not_come_back"])
@virtual.timed
async def test_who_fails_while_another_one_is_about_to_have_the_line_is_followed_by_that_one(failure: str) -> None:
    call = LivelyCall(TWO + DEADLINES, starts=[None, 1.0], well=[False])
    await in_a_switch(call)
    assert isinstance(call.agent, LivelyAgent)
    moment = await FAILURES[failure](call.agent)
    await virtual.pass_time(8)
    voices = [agent.options.voice for agent in call.agents if not agent.closed]
    assert voices == ["two"]
    assert heard_by(call)[-1].startswith("a2-")
    assert_heard(call, moment)
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


@pytest.mark.parametrize("failure", ["dropped", "out_of_quota"])
@virtual.timed
async def test_who_fails_while_the_other_one_cannot_be_opened_is_stood_in_for(failure: str) -> None:
    call = LivelyCall(TWO + DEADLINES, starts=[None, 60.0], well=[False])
    await in_a_switch(call)
    assert isinstance(call.agent, LivelyAgent)
    moment = await FAILURES[failure](call.agent)
    await virtual.pass_time(8)
    assert [agent.options.voice for agent in call.agents if not agent.closed] == ["other"]
    assert heard_by(call)[-1].startswith("a3-")
    assert_heard(call, moment)
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


@virtual.timed
async def test_nobody_is_told_anything_where_nobody_has_missed_anything() -> None:
    call = LivelyCall(tenant("agent"))
    await call.up()
    await virtual.pass_time(3)
    call.agent.die()
    await virtual.pass_time(30)
    assert heard_by(call) == ["r1-i"]
    assert [command for command in call.agents[1].commands if command[0] != "audio"] == []
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


@virtual.timed
async def test_who_was_cut_off_in_asking_is_answered() -> None:
    """The first half of his question was heard by an agent that is gone, the other half by nobody."""
    call = LivelyCall(tenant("agent"))
    await call.up()
    await virtual.pass_time(3)
    call.agent.emit(UserSpeechStarted())
    await virtual.pass_time(1)
    call.agent.die()
    await virtual.pass_time(4)
    assert [command for command in call.agents[1].commands if command[0] != "audio"] == [("respond",)]
    call.session.sip_event(BYE)
    await over(call)


@virtual.timed
async def test_what_he_says_meanwhile_is_heard_by_who_stands_in() -> None:
    call = LivelyCall(tenant("agent"), starts=[None, 2.0])
    await call.up()
    await virtual.pass_time(3)
    call.session.media_event(Audio(1, bytes(640)))
    call.agent.emit(AssistantTurnStarted("x"), AssistantTurnEnd("x", "failed"), Reconnecting(1))
    for _ in range(200):
        await virtual.pass_time(0.02)
        call.session.media_event(Audio(1, bytes(640)))
    heard = [command[1] for command in call.agents[1].commands if command[0] == "audio"]
    assert sum(heard) / 32 == pytest.approx(4000, abs=20), "from the moment of the loss"
    assert heard[0] == 640 * 150, "three seconds of it at once"
    call.session.sip_event(BYE)
    await over(call)


@virtual.timed
async def test_whoever_stands_in_may_lose_its_session_as_well() -> None:
    """And come back: then there is a word for the caller, too."""
    call = LivelyCall(tenant("agent"), starts=[None, 0.1], well=[False])
    await call.up()
    await in_a_word(call)
    await settle()
    call.agent.emit(AssistantTurnEnd("x", "failed"), Reconnecting(1))
    await virtual.pass_time(5)
    second, words = call.agents[1], len(heard_by(call))
    second.emit(AssistantTurnStarted("y"), AssistantAudio("y", "y-i", bytes(4800)), AssistantTurnEnd("y", "failed"))
    second.emit(Reconnecting(1), Resumed(context_kept=True))
    await virtual.pass_time(1)
    assert [name.startswith("fallback-") for name in heard_by(call)[words:]] == [False, True]
    call.session.sip_event(BYE)
    assert (await over(call)).reconnects == 1


@virtual.timed
async def test_an_agent_that_comes_back_in_time_keeps_the_line() -> None:
    call = LivelyCall(tenant("prompt, agent"), starts=[None, 2.0], well=[False])
    await call.up()
    await in_a_word(call)
    await settle()
    call.agent.emit(AssistantTurnEnd("x", "failed"), Reconnecting(1))
    await virtual.pass_time(2)
    assert len(call.agents) == 2, "somebody else is being opened"
    call.agent.emit(Resumed(context_kept=True), AssistantTurnStarted("y"), AssistantAudio("y", "y-i", bytes(4800)))
    call.agent.emit(AssistantTurnEnd("y"))
    await virtual.pass_time(5)
    assert not call.agent.closed
    assert heard_by(call) == ["x-i", "fallback-1", "y-i"]
    call.session.sip_event(BYE)
    report = await over(call)
    assert report.fallback == ("scripted failed: its session was lost", "it has come back")


@virtual.timed
async def test_a_slow_agent_that_speaks_after_all_keeps_the_line() -> None:
    call = LivelyCall(tenant("agent"), starts=[None, 2.0], well=[False])
    await call.up()
    await virtual.pass_time(6.5)
    assert len(call.agents) == 2
    call.agent.emit(AssistantTurnStarted("y"), AssistantAudio("y", "y-i", bytes(4800)), AssistantTurnEnd("y"))
    await virtual.pass_time(5)
    assert heard_by(call) == ["fallback-1", "y-i"]
    assert not call.agent.closed
    call.session.sip_event(BYE)
    await over(call)


@virtual.timed
async def test_an_agent_that_is_only_slow_is_asked_again_where_nobody_could_stand_in() -> None:
    call = LivelyCall(tenant("none"), well=[False])
    await call.up()
    await virtual.pass_time(5.1)
    assert heard_by(call) == ["fallback-1"]
    assert call.agent.commands == [("say", "Hello"), ("respond",)]
    call.agent.emit(AssistantTurnStarted("y"), AssistantAudio("y", "y-i", bytes(4800)), AssistantTurnEnd("y"))
    await virtual.pass_time(60)
    assert call.session.answered
    call.session.sip_event(BYE)
    assert (await over(call)).ended is Ended.CALLER_HUNG_UP


def assert_heard(call: LivelyCall, moment: float) -> None:
    """Something was, within two seconds."""
    heard = call.leg.line.heard_after(moment)
    assert heard is not None
    assert heard.begins <= moment + 2.0
