"""The caller agrees before he is put through. Virtual time, no sockets."""

from __future__ import annotations

import json

import pytest

from sipbridge.agent import (
    AssistantAudio,
    AssistantTurnEnd,
    AssistantTurnStarted,
    ToolCall,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.media.events import Drained, KeyPressed
from sipbridge.outcome import Ended
from tests import virtual
from tests.call.fakes import Call, settle

TENANT = """
agent: {provider: scripted, instructions: Be kind.}
tools: {transfer_call: {targets: {desk: 'sip:100@pbx.example.com', sales: 'tel:+15550100'}, confirm: true}}
"""
REFERRED = ("refer", "sip:100@pbx.example.com")


async def asks_for(call: Call, number: int, target: str = "desk", **more: bool) -> None:
    reply, arguments = f"q{number}", json.dumps({"target": target} | more)
    call.agent.emit(AssistantTurnStarted(reply), ToolCall(f"t{number}", "transfer_call", arguments, reply))
    call.agent.emit(AssistantTurnEnd(reply))
    await settle()


async def speaks(call: Call, number: int) -> None:
    reply, item = f"r{number}", f"i{number}"
    call.agent.emit(AssistantTurnStarted(reply), AssistantAudio(reply, item, bytes(4800)), AssistantTurnEnd(reply))
    await settle()
    call.session.media_event(Drained(1, item))
    await settle()


async def says(call: Call, words: str) -> None:
    call.agent.emit(UserSpeechStarted(), UserSpeechEnded(), UserTranscript(words, True))
    await settle()


def answers(call: Call) -> list[str]:
    return [json.loads(command[2]).get("not_yet", "") for command in call.agent.commands if command[0] == "result"]


def instructions(call: Call) -> str:
    return str([command for command in call.agent.commands if command[0] == "instructions"][-1][1])


@virtual.timed
async def test_he_is_asked_answers_and_is_put_through() -> None:
    call = await Call(TENANT).up()
    await says(call, "I want to talk to somebody.")
    await asks_for(call, 1)
    assert "has to agree" in answers(call)[0]
    assert instructions(call).startswith("Be kind.\n\nThe caller has to agree")
    assert call.leg.transfer is None
    await speaks(call, 2)
    await says(call, "Yes, please.")
    await asks_for(call, 3)
    assert instructions(call) == "Be kind."
    await speaks(call, 4)  # the announcement
    assert call.leg.steps[-1] == REFERRED
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("")
    assert (await call.over()).ended is Ended.TRANSFERRED


@virtual.timed
async def test_a_model_in_a_hurry_puts_nobody_through() -> None:
    call = await Call(TENANT).up()
    await says(call, "I want to talk to somebody.")
    for number in range(5):
        await asks_for(call, number, agreed=True)
    await speaks(call, 10)
    await asks_for(call, 11, agreed=True)
    assert all("has to agree" in answer for answer in answers(call))
    assert len(answers(call)) == 6
    assert call.leg.transfer is None
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_a_second_no_ends_the_offer_of_this_target_only() -> None:
    call = await Call(TENANT).up()
    await asks_for(call, 1)
    await speaks(call, 2)
    await says(call, "No, thank you.")
    assert "offer it once more at most" in instructions(call)
    await asks_for(call, 3)
    await speaks(call, 4)
    await says(call, "I said no.")
    assert "not possible in this call any more" in instructions(call), "before the model asks for anything"
    for number in (5, 6):
        await speaks(call, number * 10)
        await says(call, "Well then, yes.")
        await asks_for(call, number, agreed=True)
        assert "second time" in answers(call)[-1]
    await asks_for(call, 7, "sales")
    assert "put through to sales" in answers(call)[-1]
    assert "to desk for the second time" in instructions(call), "that stays"
    assert call.leg.transfer is None
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@pytest.mark.parametrize(("words", "through"), [("No!", False), ("Yes.", True), (None, True)])
def test_the_words_of_an_answer_may_come_after_the_models_request(words: str | None, through: bool) -> None:
    async def scenario() -> None:
        call = await Call(TENANT).up()
        await asks_for(call, 1)
        await speaks(call, 2)
        call.agent.emit(UserSpeechStarted(), UserSpeechEnded())
        await settle()
        await asks_for(call, 3)
        await virtual.pass_time(0.5)
        if words is not None:
            call.agent.emit(UserTranscript(words, True))
        await virtual.pass_time(0.6)
        await speaks(call, 4)
        assert (call.leg.steps[-1] == REFERRED) is through
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())


@virtual.timed
async def test_a_key_is_an_answer() -> None:
    call = await Call(TENANT).up()
    await asks_for(call, 1)
    await speaks(call, 2)
    call.session.media_event(KeyPressed(1, "1"))
    await virtual.pass_time(1.1)
    await asks_for(call, 3)
    await virtual.pass_time(1.1)
    await speaks(call, 4)
    assert call.leg.steps[-1] == REFERRED
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_what_was_declined_holds_for_the_next_agent_too() -> None:
    agents = """
agents:
  triage: {provider: scripted, instructions: You ask.}
  billing: {provider: scripted, instructions: You bill.}
"""
    call = await Call(agents + TENANT.partition("\n")[2].partition("\n")[2]).up()
    for number in (1, 3):
        await asks_for(call, number)
        await speaks(call, number + 1)
        await says(call, "No!")
    arguments = json.dumps({"agent": "billing", "summary": "No transfer."})
    call.agent.emit(AssistantTurnStarted("r9"), AssistantAudio("r9", "i9", bytes(480)))
    call.agent.emit(ToolCall("t9", "switch_agent", arguments, "r9"), AssistantTurnEnd("r9"))
    await settle()
    call.session.media_event(Drained(1, "i9"))
    await settle()
    triage, billing = call.agents
    assert triage.closed
    billing.emit(AssistantTurnStarted("r1"))
    await settle()
    told = [command[1] for command in billing.commands if command[0] == "instructions"][-1]
    assert told.startswith("You bill.")
    assert told.endswith("it is not possible in this call any more.")
    call.session.end(Ended.SHUTDOWN)
    await call.over()
