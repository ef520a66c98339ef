"""The timeline: everything on one axis, whatever a store answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipbridge.history.facts import KINDS, Answered, Entry, Turn
from sipbridge.history.reading.timeline import draw, timeline
from tests.history.calls import BEGAN, RECORD, a_call, ended, entries, started, step


def test_everything_stands_on_one_axis() -> None:
    drawn = [line.split(maxsplit=2) for line in draw(timeline(a_call()))]
    assert drawn == [
        ["0.000", "call", "inbound +15550123 -> +15550100 over pbx, tenant acme"],
        ["0.000", "sip", "<-- INVITE +sdp  127.0.0.1:5080"],
        ["0.400", "sip", "--> 200 OK  127.0.0.1:5080"],
        ["0.400", "call", "answered, PCMU"],
        ["0.900", "media", "first sound to the caller"],
        ["0.900", "agent", 'main: "Hello, ACME." (1.1 s)'],
        ["2.500", "caller", '"Where is my order?" (1.5 s)'],
        ["4.700", "tool", 'order_status {"number": "12"} -> ok in 120 ms'],
        [
            "5.200",
            "agent",
            'main: "It is on its way." (1.8 s; interrupted, 0.8 s heard; answers after 1120 ms: endpointing 500, '
            "model 600, playout 20)",
        ],
        ["7.100", "note", "interrupted: by the caller"],
        ["9.000", "transfer", "to desk refer failed: 486 Busy Here"],
        ["20.000", "media", "leg 1: PCMU, 1500 packets received, 1490 sent, 0.1 % lost"],
        ["20.000", "call", "ended: caller_hung_up"],
    ]


def test_interim_results_are_shown_where_they_are_asked_for_or_all_that_there_is() -> None:
    asked = [moment.text for moment in timeline(a_call(), interim=True) if moment.lane == "caller"]
    assert asked == ['"Where is" (0.9 s; not finished)', '"Where is my order?" (1.5 s)']
    cut = entries((0, started()), (3.0, Turn(1, "caller", "I wan", 2.0, 3.0, final=False)))
    assert [moment.text for moment in timeline(cut) if moment.lane == "caller"] == ['"I wan" (1.0 s; not finished)']


def test_a_call_of_ours_begins_before_its_invite() -> None:
    ladder = (step(0.0, True, "INVITE +sdp"), step(1.0, False, "200 OK (INVITE) +sdp"))
    made = entries(
        (0.0, started(direction="outbound")), (2.5, Answered(2500, None)), (9.0, ended("callee_hung_up", ladder=ladder))
    )
    assert [(moment.at, moment.text[:10]) for moment in timeline(made) if moment.lane == "sip"] == [
        (1.5, "--> INVITE"),
        (2.5, "<-- 200 OK"),
    ]


def test_the_axis_begins_with_the_invite() -> None:
    ladder = (step(0.0, False, "INVITE +sdp"), step(0.5, True, "200 OK (INVITE) +sdp"), step(9.1, False, "BYE"))
    taken = entries((0.0, started()), (0.4, Answered(500, None)), (9.0, ended("caller_hung_up", ladder=ladder)))
    assert [(round(moment.at, 3), moment.text[:10]) for moment in timeline(taken)][:4] == [
        (0.0, "<-- INVITE"),
        (0.1, "inbound +1"),
        (0.5, "--> 200 OK"),
        (0.5, "answered"),
    ]


def test_lines_are_as_wide_as_the_terminal_and_nobody_moves_its_cursor() -> None:
    said = Turn(1, "caller", "so \x1b[2J many\n\nwords " * 20, 1.0, 2.0)
    lines = list(draw(timeline(entries((0.0, started()), (2.0, said))), 60))
    assert max(map(len, lines)) <= 60
    assert all(line.isprintable() for line in lines)


_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["report", "ladder", "audio", "legs", "latency", "at", "ended", "text", "title"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*KINDS, "of.tomorrow", "\x00"]),
            st.dictionaries(
                st.sampled_from(["report", "ladder", "number", "final", "text", "latency", "at", "began", "ended"]),
                _data,
            ),
        )
    )
)
def test_whatever_a_store_answers_can_be_drawn(told: list[tuple[str, dict[str, object]]]) -> None:
    given_entries = [Entry(RECORD, seq, BEGAN + seq, kind, data) for seq, (kind, data) in enumerate(told)]
    for line in draw(timeline(given_entries), 80):
        assert line.isprintable()
