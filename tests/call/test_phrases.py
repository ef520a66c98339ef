"""What an agent says counts as what it does, where its model calls no tools. Virtual time, no sockets."""

from __future__ import annotations

import pytest

from sipbridge.agent import (
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.media.events import Drained
from sipbridge.outcome import Ended
from tests import virtual
from tests.call.fakes import Call, settle

TENANT = """
agent: {provider: scripted}
tools: {transfer_call: {targets: {desk: 'sip:100@pbx.example.com'}, confirm: CONFIRM}}
phrases:
  hang_up: ["Have a nice day", "auf Wiederhören", "再见"]
  transfer: {desk: ["I'll put you through"]}
"""
PLAIN, ASKS = TENANT.replace("CONFIRM", "false"), TENANT.replace("CONFIRM", "true")
REFERRED = ("refer", "sip:100@pbx.example.com")


async def speaks(call: Call, number: int, text: str, *, final: bool = True) -> None:
    reply, item = f"r{number}", f"i{number}"
    call.agent.emit(AssistantTurnStarted(reply), AssistantAudio(reply, item, bytes(4800)))
    call.agent.emit(AssistantText(reply, text, final=final), AssistantTurnEnd(reply))
    await settle()


async def hears(call: Call, number: int) -> None:
    call.session.media_event(Drained(1, f"i{number}"))
    await settle()


@pytest.mark.parametrize(
    "text", ["Thanks for calling. HAVE A NICE DAY!", "Have a… nice — day", "Gut. Auf Wiederhören!", "好的，再见。"]
)
def test_a_goodbye_ends_the_call_when_it_was_heard(text: str) -> None:
    async def scenario() -> None:
        call = await Call(PLAIN).up()
        await speaks(call, 1, text)
        await virtual.pass_time(3)
        call.agent.emit(UserSpeechStarted())
        await settle()
        assert call.leg.steps[-1][0] == "200", "nothing of it is cut off"
        assert call.stream.discards == 0
        await hears(call, 1)
        report = await call.over()
        assert report.ended is Ended.AGENT_HUNG_UP
        assert report.detail.startswith("said ")

    virtual.run(scenario())


@pytest.mark.parametrize(
    "text",
    ["Have a nice daydream", "You have nice days", "Haveanice day", "nice day, have a", "", "I'll put it through"],
)
def test_what_is_not_the_phrase_does_nothing(text: str) -> None:
    async def scenario() -> None:
        call = await Call(PLAIN).up()
        await speaks(call, 1, text)
        await hears(call, 1)
        await virtual.pass_time(5)
        assert call.leg.steps[-1][0] == "200"
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())


@virtual.timed
async def test_only_the_agents_own_finished_words_count() -> None:
    call = await Call(PLAIN).up()
    call.agent.emit(UserTranscript("Have a nice day", True))
    await speaks(call, 1, "Have a nice day", final=False)
    await hears(call, 1)
    await virtual.pass_time(5)
    assert call.leg.steps[-1][0] == "200"
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_what_the_caller_did_not_let_it_say_does_not_count() -> None:
    call = await Call(PLAIN).up()
    call.agent.emit(AssistantTurnStarted("r1"), AssistantAudio("r1", "i1", bytes(4800)), UserSpeechStarted())
    call.agent.emit(AssistantText("r1", "Have a nice day", True), AssistantTurnEnd("r1", "cancelled"))
    await settle()
    await speaks(call, 2, "I'll put you through.")
    call.agent.emit(UserSpeechStarted(), UserSpeechEnded())
    await virtual.pass_time(5)
    assert call.leg.steps[-1][0] == "200"
    assert call.leg.transfer is None
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@virtual.timed
async def test_a_transfer_in_words_goes_where_the_tenant_says_when_it_was_heard() -> None:
    call = await Call(PLAIN).up()
    await speaks(call, 1, "I\u2019ll put you through.")
    await virtual.pass_time(3)
    assert call.leg.transfer is None
    await hears(call, 1)
    assert call.leg.steps[-1] == REFERRED
    assert call.leg.transfer is not None
    call.leg.transfer.set_result("486 Busy Here")
    await settle()
    assert [command[0] for command in call.agent.commands] == ["text", "respond"]
    assert "486 Busy Here" in call.agent.commands[0][1]
    await speaks(call, 2, "They are busy.")
    await hears(call, 2)
    await speaks(call, 3, "Once more: I'll put you through.")
    await hears(call, 3)
    call.leg.transfer.set_result("")
    assert (await call.over()).ended is Ended.TRANSFERRED


@virtual.timed
async def test_a_transfer_in_words_that_the_caller_has_to_agree_to() -> None:
    call = await Call(ASKS).up()
    await speaks(call, 1, "I'll put you through.")
    await hears(call, 1)
    assert call.leg.transfer is None
    assert "has to agree" in call.agent.commands[-2][1]
    await speaks(call, 2, "Shall I?")
    await hears(call, 2)
    call.agent.emit(UserSpeechStarted(), UserSpeechEnded(), UserTranscript("Yes.", True))
    await settle()
    await speaks(call, 3, "I'll put you through.")
    await hears(call, 3)
    assert call.leg.steps[-1] == REFERRED
    call.session.end(Ended.SHUTDOWN)
    await call.over()


@pytest.mark.parametrize(("tools", "ended"), [("[]", False), ("[hang_up]", True), ("null", True)])
def test_what_an_agent_may_not_do_by_tools_it_may_not_do_by_words(tools: str, ended: bool) -> None:
    async def scenario() -> None:
        call = await Call(PLAIN.replace("{provider: scripted}", f"{{provider: scripted, tools: {tools}}}")).up()
        await speaks(call, 1, "Have a nice day. Or: I'll put you through!")
        await hears(call, 1)
        await virtual.pass_time(1)
        assert (call.leg.steps[-1][0] == "close") is ended
        assert call.leg.transfer is None
        call.session.end(Ended.SHUTDOWN)
        await call.over()

    virtual.run(scenario())
