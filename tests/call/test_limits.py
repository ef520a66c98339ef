"""What ends a call by itself, and what is said before. Virtual time, no sockets."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sipbridge.agent import (
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    Usage,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import Played
from sipbridge.media.events import Drained, KeyPressed
from sipbridge.outcome import Ended
from sipbridge.prices import Prices
from sipbridge.providers import register
from tests import virtual
from tests.call.fakes import Call, ScriptedAgent, settle

FAREWELL = "agent: {provider: scripted, farewell: That is all.}"


async def speaks(call: Call, number: int, *, heard: bool = True, text: str = "") -> None:
    """One reply of the agent's, of 100 ms."""
    reply, item = f"r{number}", f"i{number}"
    call.agent.emit(AssistantTurnStarted(reply), AssistantAudio(reply, item, bytes(4800)))
    if text:
        call.agent.emit(AssistantText(reply, text, final=True))
    call.agent.emit(AssistantTurnEnd(reply))
    await settle()
    if heard:
        await hears(call, item)


async def hears(call: Call, item: str) -> None:
    call.session.media_event(Drained(1, item))
    await settle()


def said(call: Call) -> list[str]:
    return [command[1] for command in call.agent.commands if command[0] == "say"]


def prompts(call: Call) -> list[str]:
    return [item for _, item, _ in call.stream.given if item.startswith("prompt-")]


# --- length -----------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_a_warning_then_the_end() -> None:
    limits = "limits: {call_seconds: 100, warning_seconds: 20, warning: One more thing.}"
    call = await Call(f"{FAREWELL}\n{limits}").up()
    await virtual.pass_time(79.9)
    assert said(call) == []
    await virtual.pass_time(0.2)
    assert said(call) == ["One more thing."]
    await speaks(call, 1)
    await virtual.pass_time(20)
    assert said(call)[1:] == ["That is all."]
    await speaks(call, 2)
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.TOO_LONG, "100 s")
    assert report.seconds == pytest.approx(100.3, abs=0.2)


@virtual.timed
async def test_the_nodes_limit_is_warned_of_by_itself_and_stays_above_the_tenants() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{call_seconds: 5000}}").up()
    await virtual.pass_time(570.1)
    assert said(call) == ["This call will end soon."]
    await speaks(call, 1)
    await virtual.pass_time(30)
    await speaks(call, 2)
    assert (await call.over()).ended is Ended.TOO_LONG


@virtual.timed
async def test_a_short_call_has_no_room_for_a_warning() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{call_seconds: 50}}").up()
    await virtual.pass_time(50.1)
    assert said(call) == ["That is all."]
    await speaks(call, 1)
    assert (await call.over()).ended is Ended.TOO_LONG


@virtual.timed
async def test_an_agent_that_does_not_say_it_is_stood_in_for_and_the_end_does_not_wait() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{call_seconds: 100, warning_seconds: 15}}").up()
    await speaks(call, 1)
    await virtual.pass_time(95.1)
    await hears(call, "fallback-1")  # one moment, please: it has missed its deadline
    assert prompts(call) == ["prompt-ending-soon"]
    await hears(call, "prompt-ending-soon")
    await virtual.pass_time(5)
    assert said(call)[1:] == ["That is all."]
    await virtual.pass_time(10)
    assert prompts(call)[1:] == ["prompt-goodbye"]
    await hears(call, "prompt-goodbye")
    assert (await call.over()).ended is Ended.TOO_LONG


@virtual.timed
async def test_an_agent_is_let_finish_its_sentence_but_not_for_ever() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{call_seconds: 50}}").up()
    await virtual.pass_time(45)
    await speaks(call, 1, heard=False)
    await virtual.pass_time(6)
    assert said(call) == []
    await virtual.pass_time(10)
    assert said(call) == ["That is all."]
    await hears(call, "i1")
    await speaks(call, 2)
    assert (await call.over()).ended is Ended.TOO_LONG


@virtual.timed
async def test_somebody_who_never_finishes_his_goodbye_is_ended_all_the_same() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{call_seconds: 50}}").up()
    await virtual.pass_time(49)
    call.session._turn.close_floor()
    await virtual.pass_time(60)
    assert call.leg.steps[-1][0] == "200"
    await virtual.pass_time(1.1)
    assert (await call.over()).ended is Ended.TOO_LONG


@virtual.timed
async def test_nothing_interrupts_the_goodbye() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{call_seconds: 50}}").up()
    await virtual.pass_time(50.1)
    await speaks(call, 1, heard=False)
    call.agent.emit(UserSpeechStarted())
    await settle()
    assert call.stream.discards == 0
    await hears(call, "i1")
    assert (await call.over()).ended is Ended.TOO_LONG


# --- silence ----------------------------------------------------------------------------------------------------------

SILENCE = "silence: {seconds: 8, prompts: ['Hello?', 'Anybody?']}"


@virtual.timed
async def test_silence_is_asked_about_and_then_ends_the_call() -> None:
    call = await Call(f"{FAREWELL}\n{SILENCE}").up()
    await speaks(call, 1)
    await virtual.pass_time(7.9)
    assert said(call) == []
    for number, asked in ((2, ["Hello?"]), (3, ["Hello?", "Anybody?"])):
        await virtual.pass_time(0.2)
        assert said(call) == asked
        await speaks(call, number)
        await virtual.pass_time(7.9)
        assert said(call) == asked
    await virtual.pass_time(0.2)
    assert said(call)[2:] == ["That is all."]
    await speaks(call, 4)
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.CALLER_SILENT, "8 s, 2 times asked")


@virtual.timed
async def test_without_words_of_ones_own_it_is_asked_twice() -> None:
    call = await Call("agent: {provider: scripted}\nsilence: {seconds: 8}").up()
    for number in (1, 2):
        await virtual.pass_time(8.1)
        await speaks(call, number)
    assert said(call) == ["Are you still there?"] * 2
    await virtual.pass_time(8.1)
    assert prompts(call) == ["prompt-goodbye"]
    await hears(call, "prompt-goodbye")
    assert (await call.over()).ended is Ended.CALLER_SILENT


@pytest.mark.parametrize("by", ["speech", "words", "key"])
def test_a_sign_of_life_begins_it_anew(by: str) -> None:
    async def scenario() -> None:
        call = await Call(f"{FAREWELL}\n{SILENCE}").up()
        for number in range(0, 8, 2):
            await virtual.pass_time(8.1)
            await speaks(call, number)
            if by == "speech":
                call.agent.emit(UserSpeechStarted(), UserSpeechEnded())
            elif by == "words":
                call.agent.emit(UserTranscript("Yes.", True))
            else:
                call.session.media_event(KeyPressed(1, "5"))
            await virtual.pass_time(1.1)
            await speaks(call, number + 1)
        assert said(call) == ["Hello?"] * 4
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())


@virtual.timed
async def test_nobody_is_asked_while_something_goes_on() -> None:
    call = await Call(f"{FAREWELL}\n{SILENCE}\ntools: {{transfer_call: {{targets: {{desk: 'tel:+15550100'}}}}}}").up()
    call.agent.emit(UserSpeechStarted())
    await virtual.pass_time(29)
    assert said(call) == [], "the caller speaks"
    call.agent.emit(UserSpeechEnded())
    await settle()
    await speaks(call, 1, heard=False)
    await virtual.pass_time(20)
    assert said(call) == [], "the agent is still heard"
    await hears(call, "i1")
    await virtual.pass_time(7)
    call.agent.emit(AssistantTurnStarted("r2"), AssistantAudio("r2", "i2", bytes(4800)))
    call.agent.emit(ToolCall("t1", "transfer_call", '{"target": "desk"}', "r2"), AssistantTurnEnd("r2"))
    await settle()
    await hears(call, "i2")
    await virtual.pass_time(25)
    assert said(call) == [], "a tool works"
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("refused")
    await virtual.pass_time(8.5)
    assert said(call) == [], "the agent has still to say what came of it"
    await speaks(call, 3)
    await virtual.pass_time(8.1)
    assert said(call) == ["Hello?"]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_a_model_that_forgets_that_the_caller_has_finished() -> None:
    call = await Call(f"{FAREWELL}\n{SILENCE}").up()
    call.agent.emit(UserSpeechStarted())
    await virtual.pass_time(119)
    assert said(call) == []
    await virtual.pass_time(1.1)
    assert said(call) == ["Hello?"]
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_a_line_may_be_left_open_in_silence() -> None:
    call = await Call(f"{FAREWELL}\nsilence: {{seconds: 8, prompts: ['Hello?'], hang_up: false}}").up()
    await virtual.pass_time(8.1)
    await speaks(call, 1)
    await virtual.pass_time(300)
    assert said(call) == ["Hello?"]
    call.agent.emit(UserSpeechStarted(), UserSpeechEnded())
    await speaks(call, 2)
    await virtual.pass_time(17)
    assert said(call) == ["Hello?"] * 2
    call.session.end(Ended.SHUTDOWN)
    await call.over()


# --- money ------------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_what_a_call_may_cost() -> None:
    register(cast(Any, ScriptedAgent), "scripted")
    prices = Prices({"scripted": {"*": {"session_seconds": 60}}})  # a dollar a second
    call = await Call(f"{FAREWELL}\nlimits: {{spend_per_call: 10}}", prices=prices).up()
    call.agent.emit(Usage("r0", {"session_seconds": 7.9}))
    await settle()
    assert said(call) == []
    call.agent.emit(Usage("r0", {"session_seconds": 0.2}))
    await settle()
    assert said(call) == ["This call will end soon."]
    await speaks(call, 1)
    call.agent.emit(Usage("r1", {"session_seconds": 1}))
    await settle()
    assert len(said(call)) == 1, "once"
    call.agent.emit(Usage("r1", {"session_seconds": 1}), Usage("r1", {"session_seconds": 1}))
    await settle()
    assert said(call)[1:] == ["That is all."]
    await speaks(call, 2)
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.SPEND_LIMIT, "10.1 of 10 USD")


# --- loops ------------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_two_machines_are_parted() -> None:
    call = await Call(f"{FAREWELL}\nlimits: {{loop_turns: 4}}").up()
    for number in range(5):
        assert said(call) == []
        call.agent.emit(UserTranscript("To repeat this menu, press nine.", True))
        await speaks(call, number, text="Sorry, I did not get that.")
    assert said(call) == ["That is all."]
    await speaks(call, 9)
    report = await call.over()
    assert (report.ended, report.detail) == (Ended.LOOP_DETECTED, "nothing new was said in 4 turns")


@virtual.timed
async def test_who_speaks_on_and_on_is_cut_short_by_the_goodbye() -> None:
    call = await Call("agent: {provider: scripted}\nlimits: {call_seconds: 5}").up()
    await speaks(call, 1, heard=False)
    call.stream.heard = (Played("r1", "i1", 60),)
    await virtual.pass_time(14.9)
    assert (call.stream.moves, prompts(call)) == ([], [])
    await virtual.pass_time(0.2)
    assert call.stream.moves == ["discard"]
    assert call.agent.commands[-1] == ("cancel", (Played("r1", "i1", 60),))
    assert prompts(call) == ["prompt-goodbye"]
    await hears(call, "prompt-goodbye")
    report = await call.over()
    assert report.ended is Ended.TOO_LONG
    assert report.seconds == pytest.approx(15.2, abs=0.2)
