"""The conversation as a language model is told it: whatever happens, servers take it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipbridge.providers.speech.history import MOST_CHARACTERS, MOST_ITEMS, ChatHistory
from sipbridge.simulator.asked import wrong_order
from tests.providers.speech_sdk import check_chat

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("user"), st.text(min_size=1, max_size=20)),
        st.tuples(st.just("agent"), st.text(max_size=20)),
        st.tuples(st.just("call"), st.just("{}")),
        st.tuples(st.just("answer"), st.text(max_size=20)),
        st.tuples(st.just("heard"), st.text(max_size=5)),
    ),
    max_size=40,
)


@given(STEPS)
def test_every_conversation_is_one_that_a_server_takes(steps: list[tuple[str, str]]) -> None:
    history, calls = ChatHistory(), 0
    for number, (kind, text) in enumerate(steps):
        reply = f"r{number // 3}"
        if kind == "user":
            history.said_by_caller(text)
        elif kind == "agent":
            history.said_by_agent(reply, text)
        elif kind == "call":
            calls += 1
            history.called(reply, f"c{calls}", "price", text)
        elif kind == "answer":
            history.answered(f"c{calls}", text)
        else:
            history.heard(reply, text)
    messages = history.messages("Be kind.")
    check_chat({"model": "m", "stream": True, "messages": messages})
    assert wrong_order(messages) == ""
    roles = [message["role"] for message in messages if message["role"] != "tool"]
    assert ("user", "user") not in zip(roles, roles[1:], strict=False)


def test_it_is_bounded() -> None:
    history = ChatHistory()
    for number in range(2 * MOST_ITEMS):
        history.called("r", f"c{number}", "price", "{}")
        history.answered(f"c{number}", "x" * 1000)
    messages = history.messages("")
    assert sum(len(str(message.get("content") or "")) for message in messages) <= MOST_CHARACTERS
    assert wrong_order(messages) == ""


def test_an_answer_that_was_cut_ends_where_it_was_heard() -> None:
    history = ChatHistory()
    history.said_by_agent("r1", "Once upon a time. The end.")
    history.heard("r1", "Once upon")
    history.said_by_agent("r2", "Yes?")
    history.heard("r2", "")
    assert history.messages("") == [{"role": "assistant", "content": "Once upon"}]
