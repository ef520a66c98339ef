"""The conversation so far: whose words, how much of them was heard, what tools returned, and how much is kept."""

from __future__ import annotations

import pytest

from sipbridge.agent import (
    AgentOptions,
    AssistantAudio,
    AssistantText,
    AssistantTurnEnd,
    AssistantTurnStarted,
    Said,
    ToolCall,
    ToolCallCancelled,
    ToolUsed,
    UserSpeechEnded,
    UserSpeechStarted,
    UserTranscript,
)
from sipbridge.audio import PCMU, Played
from sipbridge.providers import memory as module
from sipbridge.providers.memory import Memory
from sipbridge.providers.phrases import CANCELLED_OUTPUT

OPTIONS = AgentOptions(instructions="Be brief.", output_format=PCMU)
SECOND = bytes(8000)


def memory(*events: object, options: AgentOptions = OPTIONS) -> Memory:
    it = Memory(options)
    for event in events:
        it.observe(event)  # type: ignore[arg-type]
    return it


def reply(reply_id: str, text: str, seconds: float = 1.0) -> tuple[object, ...]:
    return (
        AssistantTurnStarted(reply_id),
        AssistantText(reply_id, text[:4], final=False),
        AssistantAudio(reply_id, f"{reply_id}-item", SECOND[: int(8000 * seconds)]),
        AssistantText(reply_id, text, final=True),
        AssistantTurnEnd(reply_id),
    )


def test_who_said_what_in_order_though_words_come_late() -> None:
    it = memory(
        *reply("r1", "Hotel Aster, good morning."),
        UserSpeechStarted(),
        UserSpeechEnded(),
        AssistantTurnStarted("r2"),
        UserTranscript("two ni", final=False),
        UserTranscript(" Two nights, please. ", final=True),
        ToolCall("c1", "price", '{"nights":2}', "r2"),
        AssistantTurnEnd("r2"),
    )
    assert it.answered("c1", "240") == ToolUsed("c1", "price", '{"nights":2}', "240")
    it.told("The caller pressed 1.")
    assert it.history() == (
        Said("assistant", "Hotel Aster, good morning."),
        Said("user", "Two nights, please."),
        ToolUsed("c1", "price", '{"nights":2}', "240"),
        Said("user", "The caller pressed 1."),
    )


def test_a_turn_without_words_is_not_told_and_takes_nobody_elses() -> None:
    it = memory(
        UserSpeechEnded(), UserTranscript("", final=True), UserSpeechEnded(), UserTranscript("Yes.", final=True)
    )
    assert it.history() == (Said("user", "Yes."),)
    it = memory(UserTranscript("No speech events here.", final=True))
    assert it.history() == (Said("user", "No speech events here."),)


@pytest.mark.parametrize(
    ("heard_ms", "left"),
    [
        (0, None),
        (400, "one two"),
        (500, "one two three"),
        (520, "one two three"),
        (1000, "one two three four five six"),
        (1200, "one two three four five six"),
    ],
)
def test_an_answer_ends_where_the_caller_cut_it(heard_ms: int, left: str | None) -> None:
    it = memory(*reply("r1", "one two three four five six"))
    it.cut([Played("r1", "r1-item", heard_ms)], [])
    assert it.history() == ((Said("assistant", left),) if left else ())


def test_what_was_cut_stays_cut_and_no_later_words_come_back() -> None:
    it = memory(
        AssistantTurnStarted("r1"),
        AssistantText("r1", "one two three", final=False),
        AssistantAudio("r1", "i", SECOND),
    )
    it.cut([Played("r1", "i", 700)], ["r1"])
    it.observe(AssistantText("r1", "one two three four five six", final=True))
    it.cut([Played("r1", "i", 900)], [])
    assert it.history() == (Said("assistant", "one two"),)


def test_words_that_only_come_at_the_end_are_cut_as_well() -> None:
    it = memory(AssistantTurnStarted("r1"), AssistantAudio("r1", "i", SECOND))
    it.cut([Played("r1", "i", 500)], ["r1"])
    it.observe(AssistantText("r1", "one two three four five six", final=True))
    assert it.history() == (Said("assistant", "one two three"),)


def test_what_was_being_generated_and_never_reached_the_caller_was_not_heard() -> None:
    it = memory(*reply("r1", "Heard."), AssistantTurnStarted("r2"), AssistantText("r2", "Not heard", final=False))
    it.cut([], ["r2"])
    assert it.history() == (Said("assistant", "Heard."),)


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    it = memory(*reply("r1", "\u4f60\u597d\u4f60\u597d"))
    it.cut([Played("r1", "i", 500)], [])
    assert it.history() == (Said("assistant", "\u4f60\u597d"),)


def test_a_reply_of_several_items_and_a_broken_off_one() -> None:
    it = memory(
        AssistantTurnStarted("r1"),
        AssistantText("r1", "One.", final=True),
        AssistantText("r1", "Two.", final=True),
        AssistantText("r1", "Thr", final=False),
    )
    assert it.history() == (Said("assistant", "One. Two. Thr"),)


def test_tools_that_run_and_that_were_cancelled() -> None:
    it = memory(ToolCall("c1", "a", "{}", "r"), ToolCall("c2", "b", "{}", "r"), ToolCallCancelled("c2"))
    taken = it.history()
    assert taken == (ToolUsed("c1", "a", "{}"), ToolUsed("c2", "b", "{}", CANCELLED_OUTPUT))
    assert it.results_lacking_in(taken) == []
    it.answered("c1", "done")
    assert it.results_lacking_in(taken) == [ToolUsed("c1", "a", "{}", "done")]
    assert it.results_lacking_in(it.history()) == []
    assert it.answered("c1", "again") is None
    assert it.answered("c9", "?") is None
    assert it.used("c1") == ToolUsed("c1", "a", "{}", "done")
    assert it.used("c9") is None


@pytest.mark.parametrize(("name", "kept"), [("", "unknown"), ("rm -rf /", "rm_-rf__"), ("x" * 99, "x" * 64)])
def test_a_tool_s_name_is_kept_in_a_form_that_vendors_take(name: str, kept: str) -> None:
    assert memory(ToolCall("c1", name, "{}", "r")).history() == (ToolUsed("c1", kept, "{}"),)


def test_a_history_that_was_given_goes_on() -> None:
    given = (Said("user", "Hello."), ToolUsed("c0", "a", "{}", None))
    it = memory(options=AgentOptions(history=given, output_format=PCMU))
    it.answered("c0", "x")
    it.told("More.")
    assert it.history() == (given[0], ToolUsed("c0", "a", "{}", "x"), Said("user", "More."))


def test_the_version_tells_whether_something_was_said() -> None:
    it = memory(*reply("r1", "Hello."))
    version = it.version
    it.observe(AssistantAudio("r1", "i", SECOND))
    it.observe(UserSpeechStarted())
    assert it.version == version
    it.observe(UserSpeechEnded())
    assert it.version > version


def test_a_talk_without_end_keeps_its_latest_part() -> None:
    it = Memory(OPTIONS)
    for number in range(1000):
        it.told(f"{number} " + "x" * 90)
    history = it.history()
    assert len(history) == module.MOST_ITEMS
    assert isinstance(history[-1], Said)
    assert history[-1].text.startswith("999 ")
    for number in range(20):
        it.told(f"{number} " + "y" * 15_000)
    assert sum(len(item.text) for item in it.history() if isinstance(item, Said)) <= module.MOST_CHARACTERS
    it.told("z" * 10_000_000)
    assert len(it.history()) >= 2, "one monster does not push out all the rest"
    it = memory(AssistantTurnStarted("r"), *[AssistantText("r", "w" * 1000, final=False)] * 1000)
    assert len(it.history()[0].text) < 30_000  # type: ignore[union-attr]
