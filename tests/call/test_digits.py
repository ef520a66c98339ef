"""Keys in a conversation: told in words, collected as a number, kept from everybody but a tool, pressed by the agent.
Virtual time, no sockets."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from sipbridge.agent import AssistantAudio, AssistantTurnEnd, AssistantTurnStarted, ToolCall, ToolCallCancelled
from sipbridge.media.events import Audio, Drained, KeyPressed
from sipbridge.outcome import CallReport, Ended
from sipbridge.recordings import Recording
from sipbridge.sip.events import CallEnded, EndCause, InfoReceived
from sipbridge.sip.info import DTMF_RELAY, KeyPress
from tests import virtual
from tests.call.fakes import Call, settle

FIELDS = """
agent: {provider: scripted}
tools:
  send_dtmf: {}
  collect_digits:
    fields:
      pin: {min: 4, max: 6, description: the PIN, timeout_seconds: 5}
      card: {digits: 16, secure: true, tool: pay}
      code: {digits: 3, secure: true, tool: pay}
  python: ["tests.tools.shop:pay"]
"""
CARD = "4929000000000006"


def press(call: Call, keys: str) -> None:
    for key in keys:
        call.session.media_event(KeyPressed(1, key))


def hear(call: Call, ms: int = 20) -> bytes:
    """The caller speaks; what the agent is given of it: its length."""
    sound = b"\x10\x20" * (ms * 16)
    call.session.media_event(Audio(1, sound))
    return sound


def spoken(call: Call, name: str, arguments: object, *, reply: str = "r1", call_id: str = "t1") -> None:
    """The agent asks something and uses a tool, in one reply."""
    call.agent.emit(
        AssistantTurnStarted(reply),
        AssistantAudio(reply, f"{reply}-i", bytes(4800)),
        ToolCall(call_id, name, json.dumps(arguments), reply),
        AssistantTurnEnd(reply),
    )


def heard(call: Call, reply: str = "r1") -> None:
    call.session.media_event(Drained(1, f"{reply}-i"))


def results(call: Call) -> dict[str, Any]:
    return {command[1]: json.loads(command[2]) for command in call.agent.commands if command[0] == "result"}


def answered(call: Call, call_id: str) -> str:
    return next(str(command[2]) for command in call.agent.commands if command[:2] == ("result", call_id))


def texts(call: Call) -> list[str]:
    return [command[1] for command in call.agent.commands if command[0] == "text"]


async def hang_up(call: Call) -> CallReport:
    call.session.sip_event(CallEnded(None, EndCause.REMOTE_BYE, None, ""))  # type: ignore[arg-type]
    return await call.over()


async def collecting(field: str = "pin") -> Call:
    call = await Call(FIELDS).up()
    spoken(call, "collect_digits", {"field": field})
    await settle()
    return call


# --- a number ---------------------------------------------------------------------------------------------------------


@virtual.timed
async def test_a_number_is_the_tool_s_result_and_no_message() -> None:
    call = await collecting()
    heard(call)
    press(call, "12*4711#")
    await settle()
    assert results(call) == {"t1": {"field": "pin", "digits": "4711"}}
    await virtual.pass_time(5)
    assert texts(call) == []
    assert call.stream.discards == 0
    await hang_up(call)


@virtual.timed
async def test_keys_count_while_the_question_is_still_heard_and_do_not_interrupt_it() -> None:
    call = await collecting()
    press(call, "4711#")
    await settle()
    assert results(call)["t1"]["digits"] == "4711"
    assert call.stream.discards == 0
    await hang_up(call)


@virtual.timed
async def test_keys_that_were_too_quick_for_the_request_belong_to_it() -> None:
    call = await Call(FIELDS).up()
    press(call, "47")
    spoken(call, "collect_digits", {"field": "pin"})
    await settle()
    press(call, "11#")
    await settle()
    assert results(call)["t1"]["digits"] == "4711"
    await virtual.pass_time(3)
    assert texts(call) == []
    await hang_up(call)


@virtual.timed
async def test_keys_by_info_are_collected_and_one_press_told_twice_is_one() -> None:
    call = await collecting()
    for key in "4711#":
        press(call, key)
        told = InfoReceived(None, DTMF_RELAY, b"", KeyPress(key))  # type: ignore[arg-type]
        call.session.sip_event(told)
        await virtual.pass_time(0.6)
    assert results(call)["t1"]["digits"] == "4711"
    await hang_up(call)


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        ("", "the caller entered 0 digits and then pressed no more keys"),
        ("471", "the caller entered 3 digits and then pressed no more keys"),
        ("471#", "the caller entered 3 digits, which is too few"),
        ("4*", None),
        ("4**", "the caller pressed a key to hear the question again: ask once more, and call this again"),
        ("4711", {"field": "pin", "digits": "4711"}),
    ],
)
def test_how_it_may_end(keys: str, answer: object) -> None:
    async def scenario() -> None:
        call = await collecting()
        await virtual.pass_time(8)
        assert results(call) == {}, "the time begins when the question was heard"
        heard(call)
        await settle()
        press(call, keys)
        await virtual.pass_time(4.9)
        early = keys.endswith(("#", "**"))
        assert bool(results(call)) is early
        await virtual.pass_time(0.2)
        if answer is not None:
            assert results(call) == {"t1": {"error": answer} if isinstance(answer, str) else answer}
        await hang_up(call)

    virtual.run(scenario())


@virtual.timed
async def test_an_agent_that_has_not_asked_is_told_to() -> None:
    call = await Call(FIELDS).up()
    call.agent.emit(
        AssistantTurnStarted("r1"),
        ToolCall("t1", "collect_digits", '{"field": "pin"}', "r1"),
        AssistantTurnEnd("r1"),
    )
    await virtual.pass_time(3.9)
    assert results(call) == {}, "it may have asked before: the caller is left a moment"
    await virtual.pass_time(0.2)
    (asked,) = [command for command in call.agent.commands if command[0] == "result"]
    assert "enter this" in asked[2]
    assert "the PIN (4 to 6 digits)" in asked[2]
    call.agent.emit(AssistantTurnStarted("r2"), AssistantAudio("r2", "r2-i", bytes(4800)), AssistantTurnEnd("r2"))
    await settle()
    heard(call, "r2")
    press(call, "4711#")
    await settle()
    assert [json.loads(text) for text in texts(call)] == [{"field": "pin", "digits": "4711"}]
    await hang_up(call)


@virtual.timed
async def test_who_was_asked_in_an_earlier_reply_is_not_asked_again() -> None:
    call = await Call(FIELDS).up()
    call.agent.emit(
        AssistantTurnStarted("r1"),
        ToolCall("t1", "collect_digits", '{"field": "pin"}', "r1"),
        AssistantTurnEnd("r1"),
    )
    await virtual.pass_time(3)
    press(call, "47")
    await virtual.pass_time(4.9)
    assert results(call) == {}
    press(call, "11#")
    await settle()
    assert results(call) == {"t1": {"field": "pin", "digits": "4711"}}
    await hang_up(call)


@virtual.timed
async def test_a_superfluous_key_after_it_is_nobody_s_and_a_later_one_is_told() -> None:
    call = await collecting()
    heard(call)
    press(call, "471147")
    await settle()
    assert results(call)["t1"]["digits"] == "471147"
    press(call, "#")
    await virtual.pass_time(1.4)
    press(call, "9")
    await virtual.pass_time(1.4)
    assert texts(call) == []
    await virtual.pass_time(1)
    press(call, "5")
    await virtual.pass_time(1.1)
    assert texts(call) == ["The caller pressed 5."]
    await hang_up(call)


@virtual.timed
async def test_one_at_a_time_and_none_after_it_was_taken_back() -> None:
    call = await collecting()
    heard(call)
    spoken(call, "collect_digits", {"field": "card"}, reply="r2", call_id="t2")
    await settle()
    assert results(call) == {"t2": {"error": "the caller is entering something else already"}}
    call.agent.emit(ToolCallCancelled("t1"))
    await settle()
    press(call, "4711#")
    await virtual.pass_time(3)
    assert "t1" not in results(call)
    assert texts(call) == []
    press(call, "1")
    await virtual.pass_time(1.1)
    assert texts(call) == ["The caller pressed 1."]
    await hang_up(call)


@pytest.mark.parametrize(
    "arguments", ['{"field": "iban"}', "{}", '{"field": "pin", "digits": 4}', '{"field": ["pin"]}']
)
def test_fields_are_names_from_the_file(arguments: str) -> None:
    async def scenario() -> None:
        call = await Call(FIELDS).up()
        call.agent.emit(ToolCall("t1", "collect_digits", arguments, "r1"))
        await settle()
        assert "error" in results(call)["t1"]
        await hang_up(call)

    virtual.run(scenario())


# --- a number that is nobody's business -------------------------------------------------------------------------------


class Tape:
    """Of a recording, whether it runs."""

    paused = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


@virtual.timed
async def test_meanwhile_nobody_hears_the_caller() -> None:
    call = await Call(FIELDS).up()
    tape = Tape()
    call.session._parts.privacy.recording = cast(Recording, tape)
    given: list[bytes] = []
    setattr(call.agent, "push_audio", given.append)  # noqa: B010
    assert hear(call) == given.pop()
    spoken(call, "collect_digits", {"field": "card"})
    await settle()
    assert tape.paused
    heard(call)
    for digit in CARD:
        sound = hear(call)
        assert given.pop() == bytes(len(sound)), "silence of the same length"
        press(call, digit)
    await settle()
    (result,) = results(call).values()
    assert result["entered"] == 16
    assert CARD not in json.dumps(result)
    assert tape.paused, "the last key's tone goes on"
    hear(call)
    assert not given.pop().strip(b"\0")
    await virtual.pass_time(1.6)
    assert not tape.paused
    assert hear(call) == given.pop()
    await hang_up(call)


@virtual.timed
async def test_the_next_number_follows_at_once() -> None:
    """Of a card: its number, then its code, both of them secret, and the caller is quick."""
    call = await collecting("card")
    heard(call)
    press(call, CARD)
    await settle()
    spoken(call, "collect_digits", {"field": "code"}, reply="r2", call_id="t2")
    await settle()
    press(call, "#123")
    await virtual.pass_time(0.1)
    assert results(call)["t2"]["entered"] == 3
    await virtual.pass_time(3)
    assert texts(call) == []
    await hang_up(call)


def paid() -> list[dict[str, Any]]:
    from tests.tools import shop

    paid, shop.PAID[:] = list(shop.PAID), []
    return paid


@virtual.timed
async def test_the_digits_reach_the_tool_once_and_nobody_else() -> None:
    paid()
    call = await collecting("card")
    declared = {tool.name: tool.parameters for tool in call.agent.options.tools}
    assert set(declared["pay"]["properties"]) == {"amount"}
    assert declared["pay"]["required"] == ["amount"]
    for keys, field, ident in ((CARD, "card", "t1"), ("123", "code", "t2")):
        if ident != "t1":
            spoken(call, "collect_digits", {"field": field}, reply="r2", call_id=ident)
            await settle()
        press(call, keys)
        await settle()
    call.agent.emit(ToolCall("t3", "pay", '{"amount": 12.5}', "r3"))
    await virtual.pass_time(0.1)
    await settle()
    assert paid() == [{"amount": 12.5, "card": CARD, "code": "123"}]
    assert answered(call, "t3") == "paid 12.5 with *** (***)", "it said the number, and so it was blotted out"
    call.agent.emit(ToolCall("t4", "pay", '{"amount": 12.5}', "r4"))
    await settle()
    assert "has to enter card and code first" in answered(call, "t4")
    assert paid() == []
    report = await hang_up(call)
    for leak in (repr(call.agent.commands), json.dumps(report.to_json()), repr(report.to_log())):
        assert CARD not in leak
        assert "123" not in leak.replace("+15550123", "")


@virtual.timed
async def test_what_was_entered_is_forgotten_with_the_call() -> None:
    call = await collecting("card")
    press(call, CARD)
    await settle()
    assert CARD in repr(vars(call.session._parts.digits)), "until it is taken it is kept"
    await hang_up(call)
    assert CARD not in repr(vars(call.session._parts.digits))


# --- keys that nobody waits for, and keys of the agent's --------------------------------------------------------------


@virtual.timed
async def test_keys_may_be_ignored() -> None:
    call = await Call(f"{FIELDS}keys: ignore").up()
    call.agent.emit(AssistantTurnStarted("r1"), AssistantAudio("r1", "r1-i", bytes(4800)))
    await settle()
    press(call, "12")
    await virtual.pass_time(2)
    assert texts(call) == []
    assert call.stream.discards == 0
    spoken(call, "collect_digits", {"field": "pin"}, reply="r2")
    await settle()
    press(call, "4711#")
    await settle()
    assert results(call)["t1"]["digits"] == "4711", "but somebody waits for these"
    await hang_up(call)


@virtual.timed
async def test_the_agent_presses_keys_with_pauses_when_its_words_were_heard() -> None:
    call = await Call(FIELDS).up()
    spoken(call, "send_dtmf", {"digits": "12,3w#d"})
    await virtual.pass_time(1)
    pressed = [step for step in call.leg.steps if step[0] == "press"]
    assert pressed == []
    heard(call)
    await virtual.pass_time(4)
    pressed = [step for step in call.leg.steps if step[0] == "press"]
    began = pressed[0][2]
    assert [(keys, round(at - began, 3)) for _, keys, at in pressed] == [("12", 0), ("3", 2.4), ("#D", 3.1)]
    assert results(call) == {"t1": {"pressed": "12,3w#d"}}
    await hang_up(call)


@virtual.timed
async def test_where_no_key_can_be_pressed_the_agent_is_told() -> None:
    call = await Call(FIELDS).up()
    call.leg.press_failure = "the far end takes no keys"
    call.agent.emit(ToolCall("t1", "send_dtmf", '{"digits": "1,2"}', "r1"))
    await virtual.pass_time(3)
    assert results(call) == {"t1": {"error": "the far end takes no keys"}}
    assert len([step for step in call.leg.steps if step[0] == "press"]) == 1
    await hang_up(call)


@pytest.mark.parametrize("digits", ["", "1" * 33, "12 34", "+1", "٣", "１", "1\n", "1;2", "p"])
def test_what_is_no_key_is_never_pressed(digits: str) -> None:
    async def scenario() -> None:
        call = await Call(FIELDS).up()
        call.agent.emit(ToolCall("t1", "send_dtmf", json.dumps({"digits": digits}), "r1"))
        await virtual.pass_time(1)
        assert "error" in results(call)["t1"]
        assert [step for step in call.leg.steps if step[0] == "press"] == []
        await hang_up(call)

    virtual.run(scenario())


# --- and how a call may end meanwhile ---------------------------------------------------------------------------------


@virtual.timed
async def test_who_hangs_up_while_he_enters_a_number() -> None:
    call = await collecting("card")
    heard(call)
    press(call, CARD[:5])
    report = await hang_up(call)
    assert report.ended is Ended.CALLER_HUNG_UP
    assert [(run.name, run.outcome) for run in report.tool_runs] == [("collect_digits", "cancelled")]
    press(call, CARD[5:])
    await virtual.pass_time(30)
    assert call.agent.closed
    assert texts(call) == []


@virtual.timed
async def test_a_model_that_is_lost_while_a_number_is_entered() -> None:
    call = await collecting("card")
    heard(call)
    press(call, CARD[:5])
    call.agent.die()
    await settle()
    press(call, CARD[5:])
    await virtual.pass_time(1)
    call.session.media_event(Drained(1, call.stream.finished[-1]))
    report = await call.over()
    assert report.ended is Ended.PROVIDER_FAILED
    assert CARD not in repr(call.agent.commands)


@virtual.timed
async def test_what_is_entered_too_late_in_secret_is_told_to_nobody() -> None:
    """Whoever looks for his card in his pocket, and begins when he is not waited for any more."""
    call = await collecting("card")
    heard(call)
    press(call, "4929")
    await virtual.pass_time(15)
    assert "pressed no more keys" in answered(call, "t1")
    call.agent.emit(AssistantTurnStarted("again"), AssistantTurnEnd("again"))
    for key in CARD[4:10]:
        press(call, key)
        await virtual.pass_time(2.5)
    await virtual.pass_time(5)
    assert texts(call) == []
    assert call.stream.discards == 0
    spoken(call, "collect_digits", {"field": "card"}, reply="r2", call_id="t2")
    heard(call, "r2")
    await settle()
    press(call, CARD)
    await settle()
    assert results(call)["t2"]["entered"] == 16
    await virtual.pass_time(2)
    press(call, "9")
    await virtual.pass_time(2)
    assert texts(call) == ["The caller pressed 9."]
    await hang_up(call)


@virtual.timed
async def test_nor_is_the_rest_of_a_number_whose_entry_was_taken_back() -> None:
    call = await collecting("card")
    heard(call)
    press(call, "4929")
    given: list[bytes] = []
    setattr(call.agent, "push_audio", given.append)  # noqa: B010
    call.agent.emit(ToolCallCancelled("t1"))
    await settle()
    for key in CARD[4:]:
        press(call, key)
        await virtual.pass_time(3)
        sound = hear(call)
        assert given[-1] == sound, "what he says is heard"
    press(call, "1")
    hear(call)
    assert set(given[-1]) == {0}, "but not together with a key"
    assert texts(call) == []
    await virtual.pass_time(40)
    press(call, "1")
    await virtual.pass_time(2)
    assert texts(call) == ["The caller pressed 1."]
    await hang_up(call)
